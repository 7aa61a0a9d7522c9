use std::collections::BTreeMap;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type};
use millstream_testkit::{
    Driven, Timing, context, drive, drive_in_time, in_one_piece, parse, restore_damaged, rows_as_text, state_after,
    stream, table,
};
use proptest::prelude::*;

use super::*;

const TIMING: Timing = Timing { lateness: 0, watermark_rows: 3, epoch_rows: 2, batch_rows: 8192 };

fn payments() -> RecordBatch {
    table(
        "at:timestamp country:utf8? amount:float64? n:int64
         2026-01-01T00:00:10Z DE 10 1
         2026-01-01T00:00:20Z FR null 2
         2026-01-01T00:00:50Z DE 30 3
         2026-01-01T00:01:00Z null 5 4
         2026-01-01T00:00:59Z DE 7 5
         2026-01-01T00:00:01Z FR -1 6",
    )
}

/// What comes of rows, the same for every cut.
fn run(settings: &str, rows: &RecordBatch) -> Driven {
    let settings: AggregateSettings = parse(settings);
    let driven = drive_in_time(&settings, rows, TIMING);
    for batch_rows in [1, 3] {
        let other = drive_in_time(&settings, rows, Timing { batch_rows, ..TIMING });
        assert_eq!(other.text("main"), driven.text("main"), "in batches of {batch_rows}");
        assert_eq!(other.failed.len(), driven.failed.len());
    }
    driven
}

#[test]
fn every_group_has_a_row_at_the_end() {
    let settings = "keys = ['country']\n[select]\nrows = 'count(*)'\nsum = 'sum(amount)'\nfirst = 'first_value(n)'\n\
                    last = 'last_value(n)'\nbig = 'count(*) FILTER (WHERE amount > 8)'";
    let expected = "country:utf8? rows:int64 sum:float64? first:int64? last:int64? big:int64\n\
                    DE 3 47.0 1 5 2\nFR 2 -1.0 2 6 0\nnull 1 5.0 4 4 0\n";
    assert_eq!(run(settings, &payments()).text("main"), expected);
}

#[test]
fn changes_come_at_borders() {
    let settings = "keys = ['country']\nemit = 'update'\nselect = { n = 'sum(n)' }";
    let expected = "country:utf8? n:int64?\nDE 1\nFR 2\nDE 4\nnull 4\nDE 9\nFR 8\n";
    assert_eq!(run(settings, &payments()).text("main"), expected);
    let settings = settings.replace("update", "complete");
    let expected = "country:utf8? n:int64?\nDE 1\nFR 2\nDE 4\nFR 2\nnull 4\nDE 9\nFR 8\nnull 4\n";
    assert_eq!(run(&settings, &payments()).text("main"), expected);
}

#[test]
fn what_has_changed_behind_the_last_border_comes_at_the_end() {
    let settings: AggregateSettings = parse("keys = ['country']\nemit = 'update'\nselect = { n = 'sum(n)' }");
    let driven = drive_in_time(&settings, &payments(), Timing { epoch_rows: 5, ..TIMING });
    assert_eq!(driven.text("main"), "country:utf8? n:int64?\nDE 9\nFR 2\nnull 4\nFR 8\n");
}

#[test]
fn a_live_stream_gives_updates_unless_it_is_told_otherwise() {
    let is_final = |settings: &str, is_live: bool| {
        let settings: AggregateSettings = parse(settings);
        let stream = Stream { is_live, ..stream("from", payments().schema()) };
        settings.plan(&context(), &[stream]).unwrap().ports[0].only_at_the_end
    };
    let settings = "select = { n = 'count(*)' }";
    assert!(is_final(settings, false) && !is_final(settings, true));
    assert!(is_final(&format!("emit = 'end'\n{settings}"), true));
    assert!(!is_final(&format!("emit = 'complete'\n{settings}"), false));
}

#[test]
fn without_keys_there_is_one_row_also_of_nothing() {
    let settings = "select = { n = 'count(*)', sum = 'sum(n)', last = 'last_value(country)' }";
    assert_eq!(run(settings, &payments()).text("main"), "n:int64 sum:int64? last:utf8?\n6 21 FR\n");
    let nothing = payments().slice(0, 0);
    for emit in ["end", "update", "complete"] {
        let driven = run(&format!("emit = '{emit}'\n{settings}"), &nothing);
        assert_eq!(driven.text("main"), "n:int64 sum:int64? last:utf8?\n0 null null\n", "{emit}");
    }
    assert_eq!(run("keys = ['n']\nselect = { rows = 'count(*)' }", &nothing).text("main"), "");
}

#[test]
fn a_group_too_many_fails_its_rows() {
    let driven = run("keys = ['country']\nmax_groups = 2\nselect = { n = 'sum(n)' }", &payments());
    assert_eq!(driven.text("main"), "country:utf8? n:int64?\nDE 9\nFR 8\n");
    assert_eq!(driven.failed.len(), 1);
    assert_eq!(driven.failed[0].error, "there are 2 groups already (`max_groups`)");
}

#[test]
fn a_filter_protects_what_stands_before_it() {
    let rows = table(
        "at:timestamp a:int64 b:int64\n 1970-01-01T00:00:05Z 6 0\n 1970-01-01T00:00:15Z 6 2\n 1970-01-01T00:00:38Z 8 1",
    );
    let driven = run("select = { n = 'count(*)', ratio = 'sum(a / b) FILTER (WHERE b <> 0)' }", &rows);
    assert_eq!((driven.text("main").as_str(), driven.failed.len()), ("n:int64 ratio:int64?\n3 11\n", 0));
    let driven = run("select = { n = 'count(*)', ratio = 'sum(a / b)' }", &rows);
    assert_eq!((driven.text("main").as_str(), driven.failed.len()), ("n:int64 ratio:int64?\n2 11\n", 1));
}

#[test]
fn there_is_one_nan_and_one_zero() {
    let values = Float64Array::from(vec![-0.0, f64::NAN, 0.0, -f64::NAN, 1.0]);
    let rows = RecordBatch::try_from_iter([("v", Arc::new(values) as ArrayRef)]).unwrap();
    let settings: AggregateSettings = parse("keys = ['v']\nselect = { n = 'count(*)' }");
    assert_eq!(drive(&settings, &[("from", rows)], 2).text("main"), "v:float64 n:int64\n0.0 2\nNaN 2\n1.0 1\n");
}

#[test]
fn large_groups_leave_in_pieces_of_so_many_bytes() {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..80));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..80).map(|_| "x".repeat(1 << 20))));
    let rows = RecordBatch::try_from_iter([("n", numbers), ("s", texts)]).unwrap();
    let settings: AggregateSettings = parse("keys = ['n']\nselect = { s = 'max(s)' }");
    let driven = drive(&settings, &[("from", rows)], 10);
    let batches = &driven.ports["main"];
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 80);
    let largest = batches.iter().map(batch_bytes).max().unwrap();
    assert!(largest <= PIECE_BYTES + (1 << 20), "{largest}");
}

#[test]
fn many_groups_leave_in_pieces() {
    let count = 3 * BATCH_ROWS as i64 + 5;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..count).rev()));
    let rows = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    for emit in ["end", "update", "complete"] {
        let settings: AggregateSettings =
            parse(&format!("keys = ['n']\nemit = '{emit}'\nselect = {{ c = 'count(*)' }}"));
        let driven = drive(&settings, &[("from", rows.clone())], 5000);
        assert_eq!(driven.largest, BATCH_ROWS);
        let batches = &driven.ports["main"];
        let found = concat_batches(&batches[0].schema(), batches).unwrap();
        assert!(found.column(0).as_primitive::<Int64Type>().values().iter().copied().eq((0..count).rev()));
    }
}

#[test]
fn settings_that_are_wrong() {
    let schema = payments().schema();
    let problems = |settings: &str| {
        let problems = parse::<AggregateSettings>(settings).plan(&context(), &[stream("from", schema.clone())]);
        problems.unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (settings, expected) in [
        ("select = {}", "nothing is selected"),
        ("select = { n = 'summ(amount)' }", "there is no aggregate `summ`; did you mean `sum`?"),
        ("keys = ['land']\nselect = { n = 'count(*)' }", "there is no column `land`"),
        ("keys = ['n', 'n']\nselect = { m = 'count(*)' }", "`n` is a key already"),
        ("keys = ['n']\nselect = { n = 'count(*)' }", "there is a column `n` already"),
    ] {
        let found = problems(settings);
        assert!(found.contains(expected), "{settings}: {found}");
    }
    assert!(parse::<AggregateSettings>(AggregateSettings::EXAMPLE).plan(&context(), &[stream("from", schema)]).is_ok());
}

#[test]
fn a_state_of_format_3_is_gone_on_with() {
    let settings: AggregateSettings = parse("keys = ['country']\nemit = 'update'\nselect = { n = 'sum(n)' }");
    let state = state_after(&settings, &[("from", payments())], 2);
    let (before, own) = in_one_piece(&state, "groups", 2, 1);
    let changed: Vec<u32> = own[0].column(1).as_boolean().values().set_indices_u32().collect();
    let mut parts = Parts::default();
    parts.put("changed", &changed).unwrap();
    let parts = parts.into_state().unwrap();
    let before = before.parts().chain(parts.parts());
    let before = State::new(before.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())));
    for state in [state, before] {
        let stream = stream("from", payments().schema());
        let mut node = (settings.plan(&context(), &[stream]).unwrap().build)().unwrap();
        node.restore(&state).unwrap();
        let mut out = Collector::new(1);
        node.barrier(Epoch(7), &mut out).unwrap();
        let rows: Vec<_> = out.take(0).map(|batch| batch.rows).collect();
        assert_eq!(rows_as_text(&rows), "country:utf8? n:int64?\nDE 9\nFR 8\nnull 4\n");
    }
}

#[test]
fn a_state_that_is_damaged_is_no_reason_to_panic() {
    let settings: AggregateSettings =
        parse("keys = ['country']\nemit = 'update'\nselect = { n = 'sum(n)', d = 'stddev(n)' }");
    let state = state_after(&settings, &[("from", payments())], 2);
    let build = || (settings.plan(&context(), &[stream("from", payments().schema())]).unwrap().build)().unwrap();
    restore_damaged(&state, build);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn groups_are_what_the_simple_way_gives(
        events in prop::collection::vec((0..9_i64, -50..50_i32), 1..200),
        cuts in (1..50_usize, 1..50_usize),
    ) {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(events.iter().map(|(key, _)| *key)));
        let values = events.iter().map(|(_, value)| f64::from(*value) / 7.0);
        let values: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
        let rows = RecordBatch::try_from_iter([("k", keys), ("v", values)]).unwrap();
        let settings: AggregateSettings = parse(
            "keys = ['k']\nselect = { n = 'count(*)', sum = 'sum(v)', low = 'min(v)', last = 'last_value(v)', dev = 'stddev(v)' }",
        );
        let [one, other] = [cuts.0, cuts.1].map(|batch_rows| drive(&settings, &[("from", rows.clone())], batch_rows));
        prop_assert_eq!(one.text("main"), other.text("main"));
        let (mut order, mut expected) = (Vec::new(), BTreeMap::<i64, Vec<f64>>::new());
        for (key, value) in &events {
            let values = expected.entry(*key).or_default();
            if values.is_empty() {
                order.push(*key);
            }
            values.push(f64::from(*value) / 7.0);
        }
        let found = concat_batches(&one.ports["main"][0].schema(), &one.ports["main"]).unwrap();
        let whole = |column: usize| found.column(column).as_primitive::<Int64Type>().values().to_vec();
        let number = |column: usize| found.column(column).as_primitive::<Float64Type>().values().to_vec();
        prop_assert_eq!(&whole(0), &order);
        for (row, key) in order.iter().enumerate() {
            let values = &expected[key];
            prop_assert_eq!(whole(1)[row] as usize, values.len());
            // In the order in which they came, so the bits are the same.
            prop_assert_eq!(number(2)[row], values.iter().sum::<f64>());
            prop_assert_eq!(number(3)[row], values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(number(4)[row], values[values.len() - 1]);
        }
    }
}
