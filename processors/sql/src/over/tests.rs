use arrow::array::{ArrayRef, Float64Array, Int64Array, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type};
use millstream_testkit::{
    Driven, Timing, batch, context, drive, drive_in_time, in_one_piece, parse, restore_damaged, rows_as_text,
    state_in_time, stream, table,
};
use proptest::prelude::*;

use super::*;

const TIMING: Timing = Timing { lateness: 5_000_000, watermark_rows: 1, epoch_rows: 1 << 20, batch_rows: 8192 };

fn payments() -> RecordBatch {
    table(
        "at:timestamp card:utf8 amount:float64? n:int64
         1970-01-01T00:00:10Z a 10 1
         1970-01-01T00:00:20Z b 5 2
         1970-01-01T00:00:40Z a null 3
         1970-01-01T00:01:05Z a 30 4
         1970-01-01T00:01:02Z b 7 5
         1970-01-01T00:03:00Z a 1 6",
    )
}

fn run(settings: &str, rows: &RecordBatch) -> Driven {
    let settings: OverSettings = parse(settings);
    let driven = drive_in_time(&settings, rows, TIMING);
    for batch_rows in [1, 2, 3] {
        let other = drive_in_time(&settings, rows, Timing { batch_rows, ..TIMING });
        for port in ["main", "late"] {
            assert_eq!(other.text(port), driven.text(port), "{port} in batches of {batch_rows}");
        }
        assert_eq!(other.failed.len(), driven.failed.len());
    }
    driven
}

/// What was added, without the columns of the rows.
fn added(driven: &Driven) -> Vec<String> {
    driven.text("main").lines().skip(1).map(|line| line.split(' ').skip(4).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn rows_of_the_last_minute_count() {
    let driven = run(
        "keys = ['card']\nlast = '1m'\nselect = { c = 'count(*)', sum = 'sum(amount)', before = 'lag(n)', since = 'time_since()' }",
        &payments(),
    );
    let expected =
        ["1 10.0 null null", "1 5.0 null null", "2 10.0 1 30.0", "3 40.0 3 25.0", "2 12.0 2 42.0", "1 1.0 null null"];
    assert_eq!(added(&driven), expected);
}

#[test]
fn a_row_need_not_count_for_itself() {
    let driven = run(
        "keys = ['card']\nlast = '1m'\ncurrent = false\nselect = { c = 'count(*)', high = 'max(amount)', big = 'count(*) FILTER (WHERE amount > 6)' }",
        &payments(),
    );
    assert_eq!(added(&driven), ["0 null 0", "0 null 0", "1 10.0 1", "2 10.0 1", "1 5.0 0", "0 null 0"]);
}

#[test]
fn the_last_rows_count() {
    let settings =
        "keys = ['card']\nrows = 2\nselect = { sum = 'sum(n)', first = 'first_value(n)', lag = 'lag(amount)' }";
    let settings: OverSettings = parse(settings);
    for batch_rows in [1, 2, 8192] {
        let driven = drive(&settings, &[("from", payments())], batch_rows);
        let lines: Vec<_> = added(&driven);
        assert_eq!(lines, ["1 1 null", "2 2 null", "4 1 10.0", "7 3 null", "7 2 5.0", "10 4 30.0"]);
    }
}

#[test]
fn without_keys_all_rows_are_one() {
    let settings: OverSettings = parse("rows = 3\ncurrent = false\nselect = { mean = 'avg(n)' }");
    let driven = drive(&settings, &[("from", payments())], 2);
    assert_eq!(added(&driven), ["null", "1.0", "1.5", "2.0", "3.0", "4.0"]);
}

#[test]
fn too_many_rows_and_late_ones_leave_by_their_ports() {
    let driven = run("keys = ['card']\nlast = '1m'\nmax_rows = 2\nselect = { c = 'count(*)' }", &payments());
    assert!(driven.failed.iter().all(|row| row.error.contains("max_rows")));
    assert!(!driven.failed.is_empty());
    let rows = table(
        "at:timestamp card:utf8 amount:float64? n:int64\n 1970-01-01T00:01:00Z a 1 1\n 1970-01-01T00:00:10Z a 1 2",
    );
    let driven = run("keys = ['card']\nlast = '1m'\nselect = { m = 'count(*)' }", &rows);
    assert_eq!(driven.text("late").lines().count(), 2);
    assert_eq!(added(&driven), ["1"]);
}

#[test]
fn a_key_that_has_its_rows_needs_no_more_room() {
    let settings: OverSettings = parse("keys = ['card']\nrows = 2\nmax_rows = 3\nselect = { sum = 'sum(n)' }");
    for batch_rows in [1, 2, 8192] {
        let driven = drive(&settings, &[("from", payments())], batch_rows);
        assert_eq!(added(&driven), ["1", "2", "4", "7", "10"]);
        // The second row of `b` would be a fourth one.
        assert_eq!(driven.failed.len(), 1);
        assert!(driven.failed[0].error.contains("max_rows"));
    }
}

#[test]
fn many_rows_are_forgotten_and_put_together() {
    let ids = (0..40_000_i64).map(|row| if row % 39_999 == 0 { -1 } else { row % 7 });
    let numbers: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..40_000));
    let ids: arrow::array::ArrayRef = Arc::new(ids.collect::<arrow::array::Int64Array>());
    let rows = RecordBatch::try_from_iter([("id", ids), ("n", numbers)]).unwrap();
    let settings: OverSettings = parse("keys = ['id']\nrows = 2\nselect = { sum = 'sum(n)', before = 'lag(n)' }");
    let text = drive(&settings, &[("from", rows)], 5000).text("main");
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines[39_998], "0 39998 79989 39991");
    assert_eq!(lines[39_999], "-1 39999 39999 0");
}

#[test]
fn small_batches_and_more_rows_than_are_looked_at_together() {
    let numbers: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..600));
    let rows = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let settings: OverSettings = parse("rows = 500\nselect = { sum = 'sum(n)', before = 'lag(n)' }");
    let line = |row: i64| match row {
        0 => "0 0 null".to_owned(),
        _ => format!("{row} {} {}", ((row - 499).max(0)..=row).sum::<i64>(), row - 1),
    };
    let expected: Vec<String> = (0..600).map(line).collect();
    for batch_rows in [1, 7, 8192] {
        let text = drive(&settings, &[("from", rows.clone())], batch_rows).text("main");
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected, "in batches of {batch_rows}");
    }
}

#[test]
fn settings_that_are_wrong() {
    let problems = |settings: &str| {
        let settings: OverSettings = parse(settings);
        let mut stream = stream("from", payments().schema());
        stream.event_time = Some("at".to_owned());
        let problems = settings.plan(&context(), &[stream]).err().unwrap_or_default();
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(problems("select = { m = 'count(*)' }"), ["it does not say which rows count"]);
    assert_eq!(problems("rows = 2\nlast = '1m'\nselect = { m = 'count(*)' }"), ["rows count by time or by number"]);
    assert_eq!(problems("rows = 2\nselect = { n = 'count(*)' }"), ["there is a column `n` already"]);
    assert_eq!(problems("rows = 2\nselect = { m = 'lag()' }"), ["`lag` is not called like that"]);
    assert_eq!(problems("rows = 2\nkeys = ['x']\nselect = { m = 'lag(n)' }").len(), 1);
}

#[test]
fn the_example_is_settings() {
    let _: OverSettings = parse(OverSettings::EXAMPLE);
}

#[test]
fn a_hot_key_has_the_same_bits_however_its_rows_are_cut() {
    let rows = hot(600);
    let select = "select = { c = 'count(*)', sum = 'sum(v)', dev = 'stddev(v)', odd = 'sum(v) FILTER (WHERE n % 2 = 1)', k = 'count(DISTINCT n % 5)', q = 'quantile(n, 0.5)' }";
    for frame in ["last = '300s'", "rows = 200", "rows = 200\ncurrent = false"] {
        let settings: OverSettings = parse(&format!("{frame}\n{select}"));
        let [whole, cut] = [1500, 7]
            .map(|batch_rows| drive_in_time(&settings, &rows, Timing { batch_rows, watermark_rows: 100, ..TIMING }));
        assert!(whole.text("main") == cut.text("main"), "{frame}");
        let lines: Vec<String> = whole.text("main").lines().map(str::to_owned).collect();
        let last: Vec<&str> = lines[600].split(' ').collect();
        let counted = if frame.starts_with("last") { 300 } else { 200 };
        assert_eq!(last[3], counted.to_string());
        assert_eq!(last[6..].len(), 3);
    }
}

#[test]
fn a_state_that_is_damaged_is_no_reason_to_panic() {
    let settings: OverSettings = parse("last = '100s'\nselect = { c = 'count(*)', sum = 'sum(v)', before = 'lag(n)' }");
    let state = state_in_time(&settings, &hot(200), Timing { watermark_rows: 10, ..TIMING });
    restore_damaged(&state, || build(&settings));
}

/// A row that was remembered.
#[derive(Clone, Copy)]
struct Seen {
    key: bool,
    time: i64,
    value: i64,
}

/// What a row comes to: how many rows count, their sum, least, most, first and last value, and the value of the row before.
fn simply(seen: &[Seen], row: Seen, span: i64, current: bool) -> Vec<Option<i64>> {
    let counts = |other: &&Seen| other.key == row.key && other.time <= row.time && row.time - other.time < span;
    let before: Vec<Seen> = seen.iter().filter(counts).copied().collect();
    let all: Vec<Seen> = before.iter().copied().chain(current.then_some(row)).collect();
    let values = || all.iter().map(|row| row.value);
    // Of equal ones, the first and the last one.
    let (first, last) = (all.iter().min_by_key(|row| row.time), all.iter().max_by_key(|row| row.time));
    vec![
        Some(all.len() as i64),
        (!all.is_empty()).then(|| values().sum()),
        values().min(),
        values().max(),
        first.map(|row| row.value),
        last.map(|row| row.value),
        before.last().map(|row| row.value),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn rows_are_what_the_simple_way_gives(
        steps in prop::collection::vec((-40..45_i64, prop::bool::weighted(0.8), -50..50_i64), 1..400),
        span in prop_oneof![Just(20_i64), Just(300), Just(2000)],
        lateness in 0..100_i64,
        watermark_rows in 1..60_usize,
        current in any::<bool>(),
        batch_rows in 5..90_usize,
    ) {
        let mut time = 0;
        let rows: Vec<Seen> = steps.iter().map(|(step, key, value)| {
            time = (time + step).max(0);
            Seen { key: *key, time, value: *value }
        }).collect();
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.time * 1_000_000));
        let columns: [(&str, ArrayRef); 4] = [
            ("at", Arc::new(times.with_timezone("UTC"))),
            ("k", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::from(row.key))))),
            ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.value)))),
            ("v", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value as f64 / 7.0)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let settings: OverSettings = parse(&format!(
            "keys = ['k']\nlast = '{span}s'\ncurrent = {current}\nselect = {{ c = 'count(*)', sum = 'sum(n)', low = 'min(n)', \
             high = 'max(n)', first = 'first_value(n)', last = 'last_value(n)', before = 'lag(n)', mean = 'avg(v)' }}"
        ));
        let timing = Timing { lateness: lateness * 1_000_000, watermark_rows, epoch_rows: 1 << 20, batch_rows };
        let driven = drive_in_time(&settings, &batch, timing);
        let other = drive_in_time(&settings, &batch, Timing { batch_rows: 1000, ..timing });
        prop_assert!(driven.text("main") == other.text("main"), "the same bits however rows are cut");
        let (mut seen, mut expected) = (Vec::new(), Vec::new());
        let (mut latest, mut watermark) = (i64::MIN, i64::MIN);
        for (number, row) in rows.iter().enumerate() {
            if row.time >= watermark {
                expected.push(simply(&seen, *row, span, current));
                seen.push(*row);
            }
            latest = latest.max(row.time);
            if (number + 1) % watermark_rows == 0 {
                watermark = latest - lateness;
            }
        }
        let found = concat_batches(&driven.ports["main"][0].schema(), &driven.ports["main"]).unwrap();
        prop_assert_eq!(found.num_rows(), expected.len());
        for (number, expected) in expected.iter().enumerate() {
            for (column, expected) in expected.iter().enumerate() {
                let values = found.column(4 + column).as_primitive::<Int64Type>();
                let value = arrow::array::Array::is_valid(values, number).then(|| values.value(number));
                prop_assert_eq!(value, *expected, "column {} of row {}", column, number);
            }
            let mean = found.column(11).as_primitive::<Float64Type>().value(number);
            if let (Some(sum), Some(count)) = (expected[1], expected[0]) {
                prop_assert!((mean - sum as f64 / 7.0 / count as f64).abs() < 1e-9);
            }
        }
    }
}

/// Rows of one key, one a second.
fn hot(rows: i64) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values((0..rows).map(|row| row * 1_000_000)).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(times)),
        ("n", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("v", Arc::new(Float64Array::from_iter_values((0..rows).map(|row| (row * 7919 % 1000) as f64 / 7.0)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn build(settings: &OverSettings) -> Box<dyn Processor> {
    let stream = Stream { event_time: Some("at".to_owned()), ..stream("from", hot(1).schema()) };
    (settings.plan(&context(), &[stream]).unwrap().build)().unwrap()
}

/// What leaves when rows come.
fn passed(over: &mut dyn Processor, rows: RecordBatch) -> String {
    let mut out = Collector::new(3);
    over.process(0, batch(rows), &mut out).unwrap();
    rows_as_text(out.take(0).map(|batch| batch.rows).collect::<Vec<_>>().iter())
}

const FRAMES: [&str; 3] = ["last = '100s'", "rows = 70", "rows = 70\nkeys = ['v']"];

#[test]
fn a_state_in_one_piece_is_read_and_then_kept_in_chunks() {
    for frame in FRAMES {
        let settings: OverSettings = parse(&format!(
            "{frame}\nselect = {{ c = 'count(*)', sum = 'sum(v)', q = 'quantile(n, 0.5)', before = 'lag(n)' }}"
        ));
        let state = state_in_time(&settings, &hot(200), Timing { watermark_rows: 10, ..TIMING });
        let (mut before, _) = in_one_piece(&state, "rows", 1, 1);
        let next = || hot(260).slice(200, 60);
        let mut whole = build(&settings);
        whole.restore(&state).unwrap();
        let wanted = passed(&mut *whole, next());
        for _ in 0..2 {
            let mut over = build(&settings);
            over.restore(&before).unwrap();
            before = over.snapshot().unwrap().state.into_state_after(&before).unwrap();
            assert!(before.has("rows.index") && !before.has("rows"), "{frame}");
            assert_eq!(passed(&mut *over, next()), wanted, "{frame}");
        }
    }
}

#[test]
fn a_checkpoint_writes_the_rows_that_have_come_since_the_one_before() {
    for frame in ["last = '100000s'", "rows = 100000"] {
        let settings: OverSettings = parse(&format!("{frame}\nselect = {{ c = 'count(*)', sum = 'sum(v)' }}"));
        let mut over = build(&settings);
        let mut written = |rows: RecordBatch| {
            passed(&mut *over, rows);
            let sizes = over.snapshot().unwrap().state.write(|_| Some(0), |_, bytes| Ok(bytes.len()));
            sizes.unwrap().values().sum::<usize>()
        };
        let first = written(hot(60_000).slice(0, 59_900));
        let second = written(hot(60_000).slice(59_900, 100));
        assert!(first > 59_900 * 8 && second < first / 50, "{frame}: {first}, then {second}");
    }
}
