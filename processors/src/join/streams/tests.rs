use std::ops::Range;

use millstream_core::{Order, ProcessorSettings, Stream};
use millstream_testkit::{context, in_one_piece, parse, restore_damaged, rows_as_text, stream, table};

use super::*;
use crate::join::JoinSettings;

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

fn settings(kind: &str, more: &str) -> JoinSettings {
    let take = if ["semi", "anti"].contains(&kind) { "" } else { "take = ['truth']" };
    parse(&format!("on = ['id']\nkind = '{kind}'\n{take}\nwithin = '30s'\n{more}"))
}

fn build(settings: &JoinSettings) -> Box<dyn Processor> {
    let sides = [side("from", PREDICTIONS).0, side("with", LABELS).0];
    (settings.plan(&context(), &sides).unwrap().build)().unwrap()
}

fn state(join: &mut dyn Processor) -> State {
    join.snapshot().unwrap().state.into_state().unwrap()
}

/// So many rows of one side from one on, and the second to which event time has come behind them.
type Step = (usize, Range<usize>, i64);

/// How a join goes on after each step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    /// As another one that is restored.
    Restored,
    /// From a state of format 3.
    FromOnePiece,
}

/// What leaves by each port when both sides come along together; the same if the join is replaced after each step.
fn come_along(settings: &JoinSettings, sides: &[RecordBatch; 2], steps: &[Step]) -> [String; 3] {
    let [whole, restored, from_one_piece] = [Goes::On, Goes::Restored, Goes::FromOnePiece].map(|goes| {
        let (mut join, mut before) = (build(settings), State::default());
        let mut out = Collector::new(3);
        for (port, rows, at) in steps {
            let origin = Origin::new("input", "", rows.start as u64, rows.end as u64);
            let batch = Batch::new(sides[*port].slice(rows.start, rows.len()), origin);
            join.process(*port, batch, &mut out).unwrap();
            while join.more(&mut out).unwrap() {}
            assert_eq!(join.watermark(at * 1_000_000, &mut out).unwrap(), (at - 30) * 1_000_000);
            while join.more(&mut out).unwrap() {}
            if goes != Goes::On {
                before = join.snapshot().unwrap().state.into_state_after(&before).unwrap();
                if goes == Goes::FromOnePiece {
                    before = SIDES.into_iter().fold(before, |state, side| in_one_piece(&state, side, 1, 1).0);
                }
                join = build(settings);
                join.restore(&before).unwrap();
            }
        }
        join.finish(&mut out).unwrap();
        while join.more(&mut out).unwrap() {}
        [0, 1, 2].map(|port| rows_as_text(out.take(port).map(|batch| batch.rows).collect::<Vec<_>>().iter()))
    });
    assert_eq!(restored, whole);
    assert_eq!(from_one_piece, whole);
    whole
}

/// What leaves by the main port when rows come one at a time, each with a watermark behind it.
fn join(kind: &str, more: &str) -> String {
    let settings = settings(kind, more);
    assert_eq!(settings.order(), Order::EventTime);
    let steps = [(0, 0, 0), (0, 1, 10), (0, 2, 11), (1, 0, 15), (0, 3, 20), (1, 1, 45), (1, 2, 90), (0, 4, 100)];
    let steps = steps.map(|(port, row, at)| (port, row..row + 1, at));
    let [main, ..] = come_along(&settings, &[table(PREDICTIONS), table(LABELS)], &steps);
    main.lines().skip(1).map(|line| format!("{line}\n")).collect()
}

#[test]
fn rows_meet_if_they_are_near() {
    let expected = "1 1970-01-01T00:00:00Z 0.1 true\n1 1970-01-01T00:00:20Z 0.4 true\n";
    assert_eq!(join("inner", ""), expected);
}

#[test]
fn rows_without_a_match_leave_when_none_can_come() {
    let expected = "1 1970-01-01T00:00:00Z 0.1 true\n\
                    1 1970-01-01T00:00:20Z 0.4 true\n\
                    2 1970-01-01T00:00:10Z 0.2 null\n\
                    null 1970-01-01T00:00:11Z 0.3 null\n\
                    3 1970-01-01T00:01:40Z 0.5 null\n";
    assert_eq!(join("left", ""), expected);
}

/// What comes of rewards, of which one comes twice and one too late.
fn rewarded(kind: &str, more: &str) -> String {
    let rewards = "id:int64 at:timestamp truth:boolean
     1 1970-01-01T00:00:15Z true
     1 1970-01-01T00:00:18Z false
     2 1970-01-01T00:00:45Z true";
    let steps = [(0, 0, 0), (0, 1, 10), (0, 2, 11), (1, 0, 15), (1, 1, 18), (0, 3, 20), (1, 2, 45), (0, 4, 100)];
    let steps = steps.map(|(port, row, at)| (port, row..row + 1, at));
    let [main, ..] = come_along(&settings(kind, more), &[table(PREDICTIONS), table(rewards)], &steps);
    main.replace("1970-01-01T00:", "")
}

#[test]
fn rows_that_meet_only_the_first_leave_once_and_get_what_is_said_without_a_match() {
    let more = "matches = 'first'\notherwise = { truth = false }";
    let header = "id:int64? at:timestamp score:float64 truth:boolean\n";
    let expected =
        "1 00:00Z 0.1 true\n1 00:20Z 0.4 true\n2 00:10Z 0.2 false\nnull 00:11Z 0.3 false\n3 01:40Z 0.5 false\n";
    assert_eq!(rewarded("left", more), format!("{header}{expected}"));
    let expected = "1 00:00Z 0.1 true\n1 00:20Z 0.4 true\n";
    assert_eq!(rewarded("inner", "matches = 'first'"), format!("{header}{expected}"));
}

#[test]
fn rows_that_leave_at_their_expiry_leave_in_the_order_of_their_times() {
    let more = "leave = 'expiry'\nmatches = 'first'\notherwise = { truth = false }";
    let header = "id:int64? at:timestamp score:float64 truth:boolean";
    let expected =
        "1 00:00Z 0.1 true\n2 00:10Z 0.2 false\nnull 00:11Z 0.3 false\n1 00:20Z 0.4 true\n3 01:40Z 0.5 false\n";
    assert_eq!(rewarded("left", more), format!("{header}\n{expected}"));
    let expected = "1 00:00Z 0.1 true\n1 00:00Z 0.1 false\n2 00:10Z 0.2 null\nnull 00:11Z 0.3 null\n\
                    1 00:20Z 0.4 true\n1 00:20Z 0.4 false\n3 01:40Z 0.5 null\n";
    assert_eq!(rewarded("left", "leave = 'expiry'"), format!("{header}?\n{expected}"));
    let inner: String =
        expected.lines().filter(|line| !line.contains("null")).map(|line| format!("{line}\n")).collect();
    assert_eq!(rewarded("inner", "leave = 'expiry'"), format!("{header}\n{inner}"));
}

#[test]
fn settings_of_pairs_are_refused_where_there_are_none() {
    let refused = |text: &str| {
        let settings: JoinSettings = parse(&format!("on = ['id']\n{text}"));
        let sides = [side("from", PREDICTIONS).0, side("with", LABELS).0];
        let problem = settings.plan(&context(), &sides).unwrap_err().remove(0);
        format!("{problem} {:?}", problem.at)
    };
    assert!(refused("take = ['truth']\nleave = 'expiry'").contains("`leave` is for two streams"));
    assert!(refused("kind = 'semi'\nwithin = '1s'\nmatches = 'first'").contains("makes no pairs"));
    assert!(
        refused("kind = 'inner'\ntake = ['truth']\nwithin = '1s'\notherwise = { truth = true }")
            .contains("only a `left` join")
    );
    let odd = refused("take = ['truth']\nwithin = '1s'\notherwise = { trut = true }");
    assert!(odd.contains("no column `trut` is added") && odd.contains("otherwise"), "{odd}");
    assert!(refused("take = ['truth']\nwithin = '1s'\notherwise = { truth = 'often' }").contains("`often`"));
}

#[test]
fn rows_can_also_just_pass() {
    assert_eq!(join("semi", ""), "1 1970-01-01T00:00:00Z 0.1\n1 1970-01-01T00:00:20Z 0.4\n");
    let expected = "2 1970-01-01T00:00:10Z 0.2\nnull 1970-01-01T00:00:11Z 0.3\n3 1970-01-01T00:01:40Z 0.5\n";
    assert_eq!(join("anti", ""), expected);
}

/// The state of a join of both sides.
fn state_of_both(settings: &JoinSettings, batch_rows: usize) -> State {
    let mut join = build(settings);
    let mut out = Collector::new(3);
    for (port, rows) in [side("from", PREDICTIONS).1, side("with", LABELS).1].into_iter().enumerate() {
        for start in (0..rows.num_rows()).step_by(batch_rows) {
            let rows = rows.slice(start, batch_rows.min(rows.num_rows() - start));
            let origin = Origin::new("input", "", start as u64, (start + rows.num_rows()) as u64);
            join.process(port, Batch::new(rows, origin), &mut out).unwrap();
            while join.more(&mut out).unwrap() {}
        }
    }
    state(join.as_mut())
}

#[test]
fn a_state_does_not_show_how_rows_were_cut_and_may_be_damaged() {
    for kind in ["left", "semi"] {
        let settings = settings(kind, "");
        let whole = state_of_both(&settings, 100);
        for batch_rows in [1, 2] {
            let other = state_of_both(&settings, batch_rows);
            // The origin is that of the last batch.
            let mut parts = whole.parts().filter(|(name, _)| *name != "origin");
            assert!(parts.all(|(name, bytes)| other.bytes(name).unwrap() == bytes));
        }
        restore_damaged(&whole, || build(&settings));
    }
}

/// Rows of a side with few keys, each up to 20 seconds before one that came earlier.
fn many(port: usize, header: &str) -> RecordBatch {
    let row = |row: usize| {
        let second = row / 3 + row * (13 + port) % 20;
        let id = [["1", "2", "null"], ["1", "2", "3"]][port][row * 7 % 5 % 3];
        format!(
            "\n {id} 1970-01-01T00:{:02}:{:02}Z {}",
            second / 60,
            second % 60,
            [row.to_string(), "true".into()][port]
        )
    };
    table(&format!("{header}{}", (0..300).map(row).collect::<String>()))
}

#[test]
fn rows_that_met_before_a_snapshot_are_not_forgotten_and_meet_in_the_same_order() {
    let sides = [many(0, "id:int64? at:timestamp score:float64"), many(1, "id:int64 at:timestamp truth:boolean")];
    for kind in ["left", "inner", "semi", "anti"] {
        for batch_rows in [5, 20] {
            let step = |row: usize| [0, 1].map(|port| (port, row..row + batch_rows, row as i64 / 3 + 10));
            let steps: Vec<_> = (0..300).step_by(batch_rows).flat_map(step).collect();
            let texts = come_along(&settings(kind, "max_rows = 90"), &sides, &steps);
            assert!(texts.iter().all(|text| text.lines().count() > 1), "{kind}, {batch_rows}");
        }
    }
}

/// Rows of a side that all have the same key, a millisecond apart.
fn hot(port: usize, count: usize) -> RecordBatch {
    let row = |row: usize| {
        let value = [row.to_string(), "true".into()];
        format!("\n 1 1970-01-01T00:{:02}:{:02}.{:03}Z {}", row / 60_000, row / 1000 % 60, row % 1000, value[port])
    };
    let header = ["id:int64? at:timestamp score:float64", "id:int64 at:timestamp truth:boolean"][port];
    table(&format!("{header}{}", (0..count).map(row).collect::<String>()))
}

/// A join of rows of one key that has pushed so many rows, at most so many at once.
fn join_hot(kind: JoinKind, within: i64, count: usize) -> (Streams, usize, usize) {
    let schema = |adds: bool| {
        let right = if adds { " truth:boolean?" } else { "" };
        table(&format!("id:int64? at:timestamp score:float64{right}")).schema()
    };
    let right = if kind.adds_columns() { vec![2] } else { Vec::new() };
    let sides = [(vec![0], 1, vec![0, 1, 2]), (vec![0], 1, right)];
    let types = vec![DataType::Int64];
    let otherwise = vec![arrow::array::new_null_array(&DataType::Boolean, 1); usize::from(kind.adds_columns())];
    let rules = Rules { kind, within, max_rows: 1_000_000, only_first: false, at_expiry: false, otherwise };
    let mut join = Streams::new(rules, schema(kind.adds_columns()), types, sides).unwrap();
    let (mut all, mut largest) = (0, 0);
    let mut take = |join: &mut Streams, out: &mut Collector| loop {
        let rows: usize = out.take(0).map(|batch| batch.len()).sum();
        (all, largest) = (all + rows, largest.max(rows));
        if !join.more(out).unwrap() {
            break;
        }
    };
    let rows = [hot(0, count), hot(1, count)];
    let mut out = Collector::new(3);
    for start in (0..count).step_by(1000) {
        for (port, rows) in rows.iter().enumerate() {
            let rows = rows.slice(start, 1000.min(count - start));
            let origin = Origin::new("input", "", start as u64, (start + rows.num_rows()) as u64);
            join.process(port, Batch::new(rows, origin), &mut out).unwrap();
            take(&mut join, &mut out);
        }
        join.watermark((start as i64 - 1000) * 1000, &mut out).unwrap();
        take(&mut join, &mut out);
    }
    join.finish(&mut out).unwrap();
    take(&mut join, &mut out);
    (join, all, largest)
}

#[test]
fn pairs_of_a_key_with_many_rows_leave_in_pieces() {
    let (_, pairs, largest) = join_hot(JoinKind::Inner, 60_000_000, 400);
    assert_eq!(pairs, 400 * 400);
    assert!(largest <= BATCH_ROWS, "{largest} rows at once");
    // None of them meets another, and all leave at the end.
    let (mut join, ..) = join_hot(JoinKind::Left, 60_000_000, 0);
    let mut out = Collector::new(3);
    let rows = hot(0, 20_000);
    join.process(0, Batch::new(rows, Origin::new("input", "", 0, 20_000)), &mut out).unwrap();
    join.finish(&mut out).unwrap();
    let mut pieces = Vec::new();
    loop {
        pieces.push(out.take(0).map(|batch| batch.len()).sum::<usize>());
        if !join.more(&mut out).unwrap() {
            break;
        }
    }
    assert_eq!(pieces, [8192, 8192, 3616]);
}

#[test]
fn rows_of_one_key_cost_as_much_as_comes_of_them() {
    const COUNT: usize = 20_000;
    let (join, pairs, _) = join_hot(JoinKind::Left, 1000, COUNT);
    assert_eq!((pairs, join.looked_at), (3 * COUNT - 2, 3 * COUNT - 2));
    for (kind, expected) in [(JoinKind::Semi, COUNT), (JoinKind::Anti, 0)] {
        let (join, rows, _) = join_hot(kind, 60_000_000, COUNT);
        assert_eq!(rows, expected);
        assert!(join.looked_at <= COUNT, "{} rows were looked at", join.looked_at);
        assert!(join.sides[0].expiry.len() <= 2 * BATCH_ROWS);
    }
}

#[test]
fn a_side_that_is_full_fails_its_rows() {
    assert_eq!(join("inner", "max_rows = 1"), "1 1970-01-01T00:00:00Z 0.1 true\n");
}

#[test]
fn both_sides_need_an_event_time() {
    let settings: JoinSettings = parse("on = ['id']\nkind = 'semi'\nwithin = '30s'");
    let sides = [side("from", PREDICTIONS).0, stream("with", table(LABELS).schema())];
    let problems = settings.plan(&context(), &sides).unwrap_err();
    assert_eq!(problems[0].at, ["with".into()]);
}
