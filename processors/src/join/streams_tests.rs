use millstream_core::{Batch, Collector, Order, Origin, ProcessorSettings, Stream};
use millstream_testkit::{context, parse, rows_as_text, stream, table};

use super::super::JoinSettings;

fn side(port: &str, rows: &str) -> (Stream, arrow::array::RecordBatch) {
    let rows = table(rows);
    (Stream { event_time: Some("at".into()), ..stream(port, rows.schema()) }, rows)
}

const PREDICTIONS: &str = "id:int64? at:timestamp score:float64
     1 1970-01-01T00:00:00Z 0.1
     2 1970-01-01T00:00:10Z 0.2
     null 1970-01-01T00:00:11Z 0.3
     1 1970-01-01T00:00:20Z 0.4
     3 1970-01-01T00:01:40Z 0.5";

const LABELS: &str = "id:int64 at:timestamp truth:boolean
     1 1970-01-01T00:00:15Z true
     2 1970-01-01T00:00:45Z false
     1 1970-01-01T00:01:30Z false";

/// What leaves by `port` when both sides come along together, a row at a time, each with a watermark behind it.
fn join(kind: &str, more: &str, port: usize) -> String {
    let settings: JoinSettings =
        parse(&format!("on = ['id']\nkind = '{kind}'\ntake = ['truth']\nwithin = '30s'\n{more}"));
    assert_eq!(settings.order(), Order::EventTime);
    let (sides, rows): (Vec<_>, Vec<_>) = [side("from", PREDICTIONS), side("with", LABELS)].into_iter().unzip();
    let plan = settings.plan(&context(), &sides).unwrap();
    let mut join = (plan.build)().unwrap();
    let mut out = Collector::new(plan.ports.len());
    for (input, row, at) in
        [(0, 0, 0), (0, 1, 10), (0, 2, 11), (1, 0, 15), (0, 3, 20), (1, 1, 45), (1, 2, 90), (0, 4, 100)]
    {
        let batch = Batch::new(rows[input].slice(row, 1), Origin::new("input", "", row as u64, row as u64 + 1));
        join.process(input, batch, &mut out).unwrap();
        assert_eq!(join.watermark(at * 1_000_000, &mut out).unwrap(), (at - 30) * 1_000_000);
    }
    join.finish(&mut out).unwrap();
    let rows: Vec<_> = out.take(port).map(|batch| batch.rows).collect();
    rows_as_text(&rows).lines().skip(1).map(|line| format!("{line}\n")).collect()
}

#[test]
fn rows_meet_if_they_are_near() {
    let expected = "1 1970-01-01T00:00:00Z 0.1 true\n1 1970-01-01T00:00:20Z 0.4 true\n";
    assert_eq!(join("inner", "", 0), expected);
}

#[test]
fn rows_without_a_match_leave_when_none_can_come() {
    let expected = "1 1970-01-01T00:00:00Z 0.1 true\n\
                    1 1970-01-01T00:00:20Z 0.4 true\n\
                    2 1970-01-01T00:00:10Z 0.2 null\n\
                    null 1970-01-01T00:00:11Z 0.3 null\n\
                    3 1970-01-01T00:01:40Z 0.5 null\n";
    assert_eq!(join("left", "", 0), expected);
}

#[test]
fn a_side_that_is_full_fails_its_rows() {
    assert_eq!(join("inner", "max_rows = 1", 0), "1 1970-01-01T00:00:00Z 0.1 true\n");
}

#[test]
fn both_sides_need_an_event_time() {
    let settings: JoinSettings = parse("on = ['id']\nkind = 'semi'\nwithin = '30s'");
    let sides = [side("from", PREDICTIONS).0, stream("with", table(LABELS).schema())];
    let problems = settings.plan(&context(), &sides).unwrap_err();
    assert_eq!(problems[0].at, ["with".into()]);
}
