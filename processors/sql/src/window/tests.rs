use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use millstream_testkit::{Driven, Timing, context, drive_in_time, parse, stream, table};
use proptest::prelude::*;

use super::*;

const TIMING: Timing = Timing { lateness: 0, watermark_rows: 1, epoch_rows: 1 << 20, batch_rows: 8192 };

fn run(settings: &str, rows: &RecordBatch, timing: Timing) -> Driven {
    let settings: WindowSettings = parse(settings);
    let driven = drive_in_time(&settings, rows, timing);
    for batch_rows in [1, 3] {
        let other = drive_in_time(&settings, rows, Timing { batch_rows, ..timing });
        for port in ["main", "late", "early"] {
            assert_eq!(other.text(port), driven.text(port), "{port} in batches of {batch_rows}");
        }
    }
    driven
}

fn payments() -> RecordBatch {
    table(
        "at:timestamp country:utf8? amount:float64? n:int64
         2026-01-01T00:00:10Z DE 10 1
         2026-01-01T00:00:20Z FR null 2
         2026-01-01T00:00:50Z DE 30 3
         2026-01-01T00:01:00Z null 5 4
         2026-01-01T00:00:59Z DE 7 5
         2026-01-01T00:02:30Z DE -1 6",
    )
}

const LATE_BY_10_S: Timing = Timing { lateness: 10_000_000, ..TIMING };

#[test]
fn a_tumbling_window_sums_up_each_group() {
    let settings =
        "size = '1m'\nkeys = ['country']\nselect = { rows = 'count(*)', n = 'count(amount)', sum = 'sum(amount)' }";
    let driven = run(settings, &payments(), LATE_BY_10_S);
    let expected = "window_start:timestamp window_end:timestamp country:utf8? rows:int64 n:int64 sum:float64?\n\
                    2026-01-01T00:00:00Z 2026-01-01T00:01:00Z DE 3 3 47.0\n\
                    2026-01-01T00:00:00Z 2026-01-01T00:01:00Z FR 1 0 null\n\
                    2026-01-01T00:01:00Z 2026-01-01T00:02:00Z null 1 1 5.0\n\
                    2026-01-01T00:02:00Z 2026-01-01T00:03:00Z DE 1 1 -1.0\n";
    assert_eq!(driven.text("main"), expected);
    assert_eq!(driven.text("late"), "");
}

#[test]
fn a_row_whose_window_is_closed_is_late() {
    let driven = run("size = '1m'\nselect = { n = 'sum(n)' }", &payments(), TIMING);
    let main = driven.text("main");
    assert!(main.contains("2026-01-01T00:00:00Z 2026-01-01T00:01:00Z 6\n"), "{main}");
    let expected = "at:timestamp country:utf8? amount:float64? n:int64\n2026-01-01T00:00:59Z DE 7.0 5\n";
    assert_eq!(driven.text("late"), expected);
}

#[test]
fn windows_that_overlap_share_their_rows() {
    let rows = table("at:timestamp v:int64\n 1970-01-01T00:00:05Z 1\n 1970-01-01T00:00:15Z 2\n 1970-01-01T00:00:38Z 4");
    let driven = run("size = '30s'\nevery = '10s'\nselect = { v = 'sum(v)', n = 'count(*)' }", &rows, TIMING);
    let windows: Vec<String> =
        driven.text("main").lines().skip(1).map(|line| line.replace("1970-01-01T00:00:", "")).collect();
    let expected = [
        "1969-12-31T23:59:40Z 10Z 1 1",
        "1969-12-31T23:59:50Z 20Z 3 2",
        "00Z 30Z 3 2",
        "10Z 40Z 6 2",
        "20Z 50Z 4 1",
        "30Z 1970-01-01T00:01:00Z 4 1",
    ];
    assert_eq!(windows, expected);
}

#[test]
fn a_filter_protects_what_stands_before_it() {
    let rows = table(
        "at:timestamp a:int64 b:int64 t:utf8\n 1970-01-01T00:00:05Z 6 0 x\n 1970-01-01T00:00:15Z 6 2 7\n 1970-01-01T00:00:38Z 6 0 y",
    );
    let settings = "size = '1m'\n[select]\nn = 'count(*)'\nratio = 'sum(a / b) FILTER (WHERE b <> 0)'\n\
                    least = \"min(CAST(t AS int)) FILTER (WHERE b = 2)\"\nnone = 'max(a / b) FILTER (WHERE b = 0 AND NULL)'";
    let driven = run(settings, &rows, TIMING);
    assert!(driven.failed.is_empty(), "{:?}", driven.failed);
    let main = driven.text("main");
    assert!(main.ends_with("1970-01-01T00:00:00Z 1970-01-01T00:01:00Z 3 3 7 null\n"), "{main}");
}

#[test]
fn there_is_one_nan_and_one_zero() {
    let times = TimestampMicrosecondArray::from(vec![1, 2, 3, 4, 5]).with_timezone("UTC");
    let values = Float64Array::from(vec![-0.0, f64::NAN, 0.0, -f64::NAN, 1.0]);
    let rows = RecordBatch::try_from_iter([("at", Arc::new(times) as ArrayRef), ("v", Arc::new(values))]).unwrap();
    let select = "select = { n = 'count(DISTINCT v)', low = 'min(v)', high = 'max(v)' }";
    let all = run(&format!("size = '1m'\n{select}"), &rows, TIMING).text("main");
    assert!(all.ends_with(" 3 0.0 NaN\n"), "{all}");
    let keys = run(&format!("size = '1m'\nkeys = ['v']\n{select}"), &rows, TIMING).text("main");
    assert_eq!(keys.lines().count(), 4, "{keys}");
}

#[test]
fn sessions_end_with_a_gap_and_grow_together() {
    let rows = table(
        "at:timestamp k:utf8 v:float64
         1970-01-01T00:00:00Z a 1
         1970-01-01T00:00:18Z a 2
         1970-01-01T00:00:09Z a 4
         1970-01-01T00:00:20Z b 8
         1970-01-01T00:00:59Z a 16",
    );
    let settings = "gap = '10s'\nkeys = ['k']\nselect = { v = 'sum(v)', last = 'last_value(v)' }";
    let driven = run(settings, &rows, Timing { lateness: 30_000_000, ..TIMING });
    let expected = "window_start:timestamp window_end:timestamp k:utf8 v:float64? last:float64?\n\
                    1970-01-01T00:00:00Z 1970-01-01T00:00:28Z a 7.0 2.0\n\
                    1970-01-01T00:00:20Z 1970-01-01T00:00:30Z b 8.0 8.0\n\
                    1970-01-01T00:00:59Z 1970-01-01T00:01:09Z a 16.0 16.0\n";
    assert_eq!(driven.text("main"), expected);
}

#[test]
fn all_aggregates() {
    let settings = "size = '1h'\n[select]\n\
        least = 'min(amount)'\nmost = 'MAX(country)'\nmean = 'avg(amount)'\nmean_n = 'mean(n)'\n\
        dev = 'stddev(n)'\npop = 'var_pop(n)'\nkinds = 'count(DISTINCT country)'\n\
        first = 'first_value(n)'\nlast = 'last(country)'\nmid = 'quantile(n, 0.5)'\n\
        paid = 'sum(n * 2) FILTER (WHERE amount > 0)'\nnone = 'max(n) FILTER (WHERE NULL)'";
    let driven = run(settings, &payments(), LATE_BY_10_S);
    let text = driven.text("main");
    let (head, row) = text.split_once('\n').unwrap();
    assert_eq!(
        head,
        "window_start:timestamp window_end:timestamp least:float64? most:utf8? mean:float64? mean_n:float64? \
         dev:float64? pop:float64? kinds:int64 first:int64? last:utf8? mid:float64? paid:int64? none:int64?"
    );
    let values: Vec<&str> = row.split_whitespace().skip(2).collect();
    assert_eq!(&values[..4], ["-1.0", "FR", "10.2", "3.5"]);
    let number = |place: usize| values[place].parse::<f64>().unwrap();
    assert!((number(4) - 3.5_f64.sqrt()).abs() < 1e-12 && (number(5) - 17.5 / 6.0).abs() < 1e-12);
    assert_eq!(&values[6..9], ["2", "1", "DE"]);
    assert!((number(9) - 3.0).abs() <= 0.03);
    assert_eq!(&values[10..], ["26", "null"]);
}

#[test]
fn windows_are_shown_early_at_borders() {
    let settings = "size = '1m'\nkeys = ['country']\nselect = { n = 'sum(n)' }\nearly = true";
    let driven = run(settings, &payments(), Timing { epoch_rows: 2, ..LATE_BY_10_S });
    let early: Vec<String> = driven.text("early").lines().skip(1).map(|line| line[21..].to_owned()).collect();
    let expected = [
        "2026-01-01T00:01:00Z DE 1",
        "2026-01-01T00:01:00Z FR 2",
        "2026-01-01T00:01:00Z DE 4",
        "2026-01-01T00:01:00Z FR 2",
        "2026-01-01T00:02:00Z null 4",
        "2026-01-01T00:03:00Z DE 6",
    ];
    assert_eq!(early, expected);
}

#[test]
fn a_row_that_can_not_be_computed_fails_alone() {
    let rows = table("at:timestamp a:int64\n 1970-01-01T00:00:01Z 1\n 1970-01-01T00:00:02Z 0\n 1970-01-01T00:00:03Z 4");
    let driven = run("size = '1m'\nselect = { s = 'sum(8 / a)' }", &rows, TIMING);
    assert!(driven.text("main").ends_with(" 10\n"), "{}", driven.text("main"));
    assert_eq!(driven.failed.len(), 1);
    assert!(driven.failed[0].error.contains("division by zero"), "{}", driven.failed[0].error);
}

#[test]
fn a_row_without_a_time_fails() {
    let rows = table("at:timestamp? a:int64\n 1970-01-01T00:00:01Z 1\n null 2\n 1970-01-01T00:00:03Z 4");
    for batch_rows in [1, 100] {
        let settings: WindowSettings = parse("size = '1m'\nselect = { s = 'sum(a)' }");
        let driven = drive_in_time(&settings, &rows, Timing { batch_rows, ..TIMING });
        assert!(driven.text("main").ends_with(" 5\n"), "{}", driven.text("main"));
        assert_eq!(driven.failed.len(), 1);
        assert_eq!(driven.failed[0].error, "the event time `at` is null");
    }
}

#[test]
fn too_many_groups_fail_their_rows_and_close_as_ever() {
    let rows = table(
        "at:timestamp k:int64\n 1970-01-01T00:00:01Z 1\n 1970-01-01T00:00:02Z 2\n 1970-01-01T00:00:03Z 1\n 1970-01-01T00:01:03Z 3",
    );
    let driven = run("size = '1m'\nkeys = ['k']\nmax_groups = 1\nselect = { n = 'count(*)' }", &rows, TIMING);
    let counts: Vec<String> = driven.text("main").lines().skip(1).map(|line| line[42..].to_owned()).collect();
    assert_eq!(counts, ["1 2"], "the third group comes before the first one is closed");
    assert_eq!(driven.failed.len(), 2);
    assert!(driven.failed[0].error.contains("max_groups"), "{}", driven.failed[0].error);
}

#[test]
fn settings_that_are_wrong() {
    let schema = payments().schema();
    let problems = |settings: &str| {
        let stream = Stream { event_time: Some("at".into()), ..stream("from", schema.clone()) };
        let problems = parse::<WindowSettings>(settings).plan(&context(), &[stream]).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (settings, expected) in [
        ("select = { n = 'count(*)' }", "a window needs a length"),
        ("size = '1m'\ngap = '1m'\nselect = { n = 'count(*)' }", "sessions have no length"),
        ("size = '1m'\nevery = '2m'\nselect = { n = 'count(*)' }", "start less often"),
        ("size = '0s'\nselect = { n = 'count(*)' }", "a window can't be 0 long"),
        ("size = '400000d'\nselect = { n = 'count(*)' }", "1000 years at most"),
        (
            "size = '10s'\nevery = '1s'\nmax_groups = 9\nselect = { n = 'count(*)' }",
            "a row would be in 10 windows, more than `max_groups` allows",
        ),
        ("size = '1m'\nselect = { n = 'sum(country)' }", "`sum` does not take utf8"),
        ("size = '1m'\nselect = { n = 'summ(amount)' }", "there is no aggregate `summ`; did you mean `sum`?"),
        ("size = '1m'\nselect = { n = 'amount + 1' }", "this is no aggregate"),
        ("size = '1m'\nselect = { n = 'sum(amuont)' }", "there is no column `amuont`; did you mean `amount`?"),
        ("size = '1m'\nselect = { n = 'quantile(amount, 90)' }", "with a number from 0 to 1"),
        ("size = '1m'\nselect = { n = 'sum(random())' }", "random"),
        ("size = '1m'\nselect = { n = 'sum(amount) OVER ()' }", "OVER"),
        ("size = '1m'\nkeys = ['land']\nselect = { n = 'count(*)' }", "there is no column `land`"),
        ("size = '1m'\nkeys = ['n']\nselect = { n = 'count(*)' }", "there is a column `n` already"),
    ] {
        let found = problems(settings);
        assert!(found.contains(expected), "{settings}: {found}");
    }
    let problems = parse::<WindowSettings>(WindowSettings::EXAMPLE).plan(&context(), &[stream("from", schema)]);
    assert!(problems.unwrap_err()[0].message.contains("have no event time"));
}

/// Rows of two groups with times that go forth and back.
fn events(steps: &[(i64, bool, i32)]) -> RecordBatch {
    let mut time = 0;
    let times: Vec<i64> = steps
        .iter()
        .map(|(step, _, _)| {
            time += step;
            time.max(0) * 1_000_000
        })
        .collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
        ("k", Arc::new(Int64Array::from_iter_values(steps.iter().map(|(_, key, _)| i64::from(*key))))),
        ("v", Arc::new(Float64Array::from_iter_values(steps.iter().map(|(_, _, value)| f64::from(*value) / 7.0)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// What comes of rows in windows of `size` and `every`, computed the simple way: `(start, key)` to its values. The second
/// is the number of late rows.
fn simply(
    steps: &[(i64, bool, i32)],
    size: i64,
    every: i64,
    timing: Timing,
) -> (BTreeMap<(i64, bool), Vec<f64>>, usize) {
    let (mut windows, mut late) = (BTreeMap::<_, Vec<f64>>::new(), 0);
    let (mut time, mut latest, mut watermark) = (0, i64::MIN, i64::MIN);
    for (row, (step, key, value)) in steps.iter().enumerate() {
        time += step;
        let at = time.max(0);
        let starts =
            (0..).map(|back| at.div_euclid(every) * every - back * every).take_while(|start| start + size > at);
        let open: Vec<i64> = starts.filter(|start| start + size > watermark).collect();
        late += usize::from(open.is_empty());
        open.into_iter().for_each(|start| windows.entry((start, *key)).or_default().push(f64::from(*value) / 7.0));
        latest = latest.max(at);
        if (row + 1) % timing.watermark_rows == 0 || (row + 1) % timing.epoch_rows == 0 {
            watermark = latest - timing.lateness / 1_000_000;
        }
    }
    (windows, late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn windows_are_what_the_simple_way_gives(
        steps in prop::collection::vec((-8..12_i64, any::<bool>(), -50..50_i32), 1..120),
        (size, every) in prop_oneof![Just((10, 10)), Just((30, 10)), Just((30, 20)), Just((7, 3))],
        lateness in 0..20_i64,
        watermark_rows in 1..20_usize,
        epoch_rows in 1..40_usize,
        batch_rows in 1..50_usize,
    ) {
        let timing = Timing { lateness: lateness * 1_000_000, watermark_rows, epoch_rows, batch_rows };
        let settings: WindowSettings = parse(&format!(
            "size = '{size}s'\nevery = '{every}s'\nkeys = ['k']\n\
             select = {{ n = 'count(*)', sum = 'sum(v)', low = 'min(v)', high = 'max(v)', kinds = 'count(DISTINCT v)' }}"
        ));
        let rows = events(&steps);
        let driven = drive_in_time(&settings, &rows, timing);
        let (expected, late) = simply(&steps, size, every, timing);
        let late_rows: usize = driven.ports.get("late").into_iter().flatten().map(RecordBatch::num_rows).sum();
        prop_assert_eq!(late_rows, late);
        let Some(batches) = driven.ports.get("main") else {
            prop_assert!(expected.is_empty());
            return Ok(());
        };
        let found = concat_batches(&batches[0].schema(), batches).unwrap();
        prop_assert_eq!(found.num_rows(), expected.len());
        let time = |column: usize, row: usize| found.column(column).as_primitive::<TimestampMicrosecondType>().value(row);
        let number = |column: usize, row: usize| found.column(column).as_primitive::<arrow::datatypes::Float64Type>().value(row);
        let whole = |column: usize, row: usize| found.column(column).as_primitive::<arrow::datatypes::Int64Type>().value(row);
        for row in 0..found.num_rows() {
            prop_assert!(row == 0 || time(1, row - 1) <= time(1, row), "in the order of their ends");
            let values = &expected[&(time(0, row) / 1_000_000, whole(2, row) == 1)];
            prop_assert_eq!(whole(3, row) as usize, values.len());
            prop_assert!((number(4, row) - values.iter().sum::<f64>()).abs() < 1e-9);
            prop_assert_eq!(number(5, row), values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(number(6, row), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            let kinds: HashSet<u64> = values.iter().map(|value| value.to_bits()).collect();
            prop_assert_eq!(whole(7, row) as usize, kinds.len());
        }
    }

    #[test]
    fn no_window_depends_on_how_rows_are_cut(
        steps in prop::collection::vec((-8..12_i64, any::<bool>(), -50..50_i32), 1..100),
        kind in prop_oneof![Just("size = '10s'"), Just("size = '30s'\nevery = '10s'"), Just("gap = '6s'")],
        lateness in 0..20_i64,
        watermark_rows in 1..20_usize,
        epoch_rows in 1..40_usize,
        cuts in (1..50_usize, 1..50_usize),
    ) {
        let settings: WindowSettings = parse(&format!(
            "{kind}\nkeys = ['k']\nearly = true\n\
             select = {{ sum = 'sum(v)', dev = 'stddev(v)', first = 'first(v)', mid = 'quantile(v, 0.3)' }}"
        ));
        let rows = events(&steps);
        let timing = Timing { lateness: lateness * 1_000_000, watermark_rows, epoch_rows, batch_rows: cuts.0 };
        let [one, other] = [cuts.0, cuts.1].map(|batch_rows| drive_in_time(&settings, &rows, Timing { batch_rows, ..timing }));
        for port in ["main", "late", "early"] {
            prop_assert_eq!(one.text(port), other.text(port), "{}", port);
        }
    }
}
