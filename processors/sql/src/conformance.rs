//! The processors of this crate, and its input, keep to what all do.

use std::fmt::Write;

use arrow::array::RecordBatch;
use millstream_core::NodeTypes;
use millstream_testkit::{Given, InputSamples, Sample, Source, check_inputs, check_processors, table};

const SAMPLES: &[Sample] = &[
    Sample { node: "sql", settings: "query = 'SELECT at, k, v * 2 AS w, 100 / n AS h FROM input WHERE n <> 3'" },
    Sample {
        node: "sql",
        settings: "query = \"SELECT n, unnest([n, n + 1]) AS m, CASE WHEN n > 4 THEN k ELSE 'x' END AS c FROM input\"",
    },
    Sample { node: "route", settings: "when = { many = 'n > 5', even = '6 / n > 1', named = 'k IS NOT NULL' }" },
    Sample {
        node: "window",
        settings: "size = '10s'\nkeys = ['k']\nselect = { rows = 'count(*)', sum = 'sum(n)', most = 'max(v)' }",
    },
    Sample { node: "window", settings: "gap = '2s'\nkeys = ['k']\nselect = { rows = 'count(*)', mean = 'avg(v)' }" },
    Sample {
        node: "over",
        settings: "keys = ['k']\nrows = 5\nselect = { before = 'count(*)', mean = 'avg(v)', previous = 'lag(n)' }",
    },
    Sample { node: "over", settings: "keys = ['k']\nlast = '5s'\nselect = { sum = 'sum(n)', since = 'time_since()' }" },
    Sample {
        node: "aggregate",
        settings: "keys = ['k']\nemit = 'update'\nselect = { rows = 'count(*)', different = 'count(DISTINCT n)' }",
    },
    Sample { node: "aggregate", settings: "select = { rows = 'count(*)', half = 'quantile(v, 0.5)' }\nemit = 'end'" },
];

/// Rows that are up to 7 seconds out of order, some of which no expression can be computed for.
fn rows() -> RecordBatch {
    let mut text = "at:timestamp k:utf8? v:float64? n:int64".to_owned();
    for row in 0..250 {
        let second = row / 5 + row * 37 % 8;
        let key = if row % 11 == 0 { "null".to_owned() } else { format!("key{}", row * 31 % 17) };
        let value = ["NaN", "-0.0", "null", "0.1", "1e300"][row % 5];
        write!(text, "\n 1970-01-01T00:{:02}:{:02}Z {key} {value} {}", second / 60, second % 60, row * 7 % 13).unwrap();
    }
    table(&text)
}

#[test]
fn every_processor_keeps_to_what_all_do() {
    let mut types = NodeTypes::default();
    crate::register(&mut types);
    check_processors(&types, SAMPLES, &Given::new(rows(), rows()));
}

/// Columns of which one can be null, and one can't be computed in each seventh row.
const COLUMNS: &str =
    "columns = { n = 'row', even = 'CASE WHEN row % 2 = 0 THEN row END', x = '1 / (row % 7) + random()' }";

fn generate() -> InputSamples {
    InputSamples {
        node: "generate",
        sources: vec![
            Source::new(format!("rows = 24\n{COLUMNS}"), 20, 4, |_| {}),
            Source::new(format!("rows = 24\nrate = '100000/s'\n{COLUMNS}"), 20, 4, |_| {}),
            Source::new(format!("rows = 0\n{COLUMNS}"), 0, 0, |_| {}),
        ],
        wrong: &[
            ("columns = {}", "columns"),
            ("columns = { a = 'rwo' }", "columns.a"),
            ("rate = 'x'\ncolumns = {}", "rate"),
        ],
        excuses: &[],
    }
}

#[test]
fn every_input_keeps_to_what_all_do() {
    let mut types = NodeTypes::default();
    crate::register(&mut types);
    check_inputs(&types, &[generate()]);
}
