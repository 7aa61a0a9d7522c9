use std::collections::HashMap;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use millstream_core::TextPlace;
use millstream_testkit::{context, parse, rows_as_text};

use super::*;

fn settings(columns: &[(&str, &str)], more: &str) -> GenerateInput {
    let columns: Vec<_> = columns.iter().map(|(name, sql)| format!("{name} = '''{sql}'''")).collect();
    parse(&format!("{more}\ncolumns = {{ {} }}", columns.join(", ")))
}

fn build(settings: &GenerateInput, context: &PlanContext) -> Box<dyn Input> {
    (settings.plan(context).unwrap().build)().unwrap()
}

/// All batches that come, and the rows that were refused.
async fn read(settings: &GenerateInput, batch_rows: usize) -> (Vec<Batch>, Vec<FailedRow>) {
    let mut input = build(settings, &PlanContext { batch_rows, ..context() });
    let mut out = Collector::new(1);
    input.open(&Home::Nowhere).await.unwrap();
    while input.next(&mut out).await.unwrap() == Progress::More {}
    (out.take(0).collect(), out.take_failed())
}

fn text(batches: &[Batch]) -> String {
    rows_as_text(batches.iter().map(|batch| &batch.rows))
}

/// One column of many rows.
async fn column(sql: &str, more: &str) -> ArrayRef {
    let (batches, failed) = read(&settings(&[("x", sql)], &format!("rows = 100000\n{more}")), 100_000).await;
    assert!(failed.is_empty(), "{failed:?}");
    batches[0].rows.column(0).clone()
}

/// What is wrong with the columns: the column, the marked place, message and help.
fn problems(columns: &[(&str, &str)]) -> Vec<(String, String, String)> {
    let sql: HashMap<_, _> = columns.iter().copied().collect();
    let problems = settings(columns, "").plan(&context()).unwrap_err().into_iter().map(|problem| {
        let [_, Step::Key(name) | Step::Name(name)] = &problem.at[..] else { panic!("{:?}", problem.at) };
        let marked = |TextPlace { column, length, .. }: TextPlace| {
            sql[name.as_str()].chars().skip(column - 1).take(length).collect::<String>()
        };
        let place = problem.within.map(marked).unwrap_or_default();
        (format!("{name}: {place}"), problem.message, problem.help.unwrap_or_default())
    });
    problems.collect()
}

#[tokio::test]
async fn columns_are_expressions_over_the_row_and_the_columns_above() {
    let columns = [
        ("id", "row"),
        ("at", "timestamp '2026-01-01' + row * interval '90 minutes'"),
        ("day", "date_trunc('day', at)"),
        ("name", "'n' || id"),
        ("half", "CASE WHEN id % 2 = 0 THEN id / 2 END"),
    ];
    for batch_rows in [1, 2, 100] {
        let (batches, _) = read(&settings(&columns, "rows = 3"), batch_rows).await;
        let expected = "id:int64 at:timestamp day:timestamp name:utf8 half:int64?\n\
                        0 2026-01-01T00:00:00Z 2026-01-01T00:00:00Z n0 0\n\
                        1 2026-01-01T01:30:00Z 2026-01-01T00:00:00Z n1 null\n\
                        2 2026-01-01T03:00:00Z 2026-01-01T00:00:00Z n2 1\n";
        assert_eq!(text(&batches), expected);
        let last = batches.last().unwrap();
        assert_eq!((&*last.origin.source, last.origin.end), ("node", 3));
    }
}

#[tokio::test]
async fn random_numbers_depend_on_seed_column_call_and_row_only() {
    let columns = [
        ("a", "random() + random()"),
        ("b", "random_normal()"),
        ("c", "random_int(1, 6)"),
        ("d", "random_choice('x', 'y')"),
    ];
    let whole = text(&read(&settings(&columns, "rows = 500\nseed = 5"), 8192).await.0);
    for batch_rows in [1, 7, 100] {
        assert_eq!(text(&read(&settings(&columns, "rows = 500\nseed = 5"), batch_rows).await.0), whole);
    }
    let first_column =
        |text: &str| text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    let others = [("b", "random_int(1, 2)"), ("a", "random() + random()")];
    let reordered = text(&read(&settings(&[others[1], others[0]], "rows = 500\nseed = 5"), 8192).await.0);
    assert_eq!(first_column(&reordered), first_column(&whole), "other columns change nothing");
    let seeded = text(&read(&settings(&columns, "rows = 500\nseed = 6"), 8192).await.0);
    assert_ne!(first_column(&seeded), first_column(&whole));
    let twice = column("CASE WHEN random() = random() THEN 1 ELSE 0 END", "").await;
    assert_eq!(twice.as_primitive::<Int64Type>().values().iter().sum::<i64>(), 0, "each call has its own stream");
}

/// Written down, so that they stay as the reference page describes them.
#[tokio::test]
async fn the_numbers_are_those_that_the_page_describes() {
    let bits = |stream: u64, row: u64| twox_hash::XxHash3_64::oneshot_with_seed(stream, &row.to_le_bytes());
    let stream = twox_hash::XxHash3_64::oneshot_with_seed(9, b"x");
    let uniform = column("random()", "seed = 9").await;
    let expected = (bits(stream, 77) >> 11) as f64 / 2_f64.powi(53);
    assert_eq!(uniform.as_primitive::<Float64Type>().value(77), expected);
    let second = column("random_int(0, 0) + random_int(10, 19)", "seed = 9").await;
    let expected = 10 + ((u128::from(bits(stream + 1, 77)) * 10) >> 64) as i64;
    assert_eq!(second.as_primitive::<Int64Type>().value(77), expected);
}

#[tokio::test]
async fn what_is_drawn_has_the_distribution_it_should_have() {
    let moments = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance)
    };
    let uniform = column("random()", "").await;
    let uniform = uniform.as_primitive::<Float64Type>().values();
    let (mean, variance) = moments(uniform);
    assert!((mean - 0.5).abs() < 0.005 && (variance - 1.0 / 12.0).abs() < 0.002, "{mean} {variance}");
    assert!(uniform.iter().all(|value| (0.0..1.0).contains(value)));
    let normal = column("20 + 5 * random_normal()", "").await;
    let (mean, variance) = moments(normal.as_primitive::<Float64Type>().values());
    assert!((mean - 20.0).abs() < 0.1 && (variance - 25.0).abs() < 0.5, "{mean} {variance}");
    let share = |values: &[i64], wanted: i64| {
        values.iter().filter(|value| **value == wanted).count() as f64 / values.len() as f64
    };
    let dice = column("random_int(1, 6)", "").await;
    for side in 1..=6 {
        assert!((share(dice.as_primitive::<Int64Type>().values(), side) - 1.0 / 6.0).abs() < 0.01, "{side}");
    }
    let choice = column("random_choice(1, row * 0 + 2, 2)", "").await;
    assert!((share(choice.as_primitive::<Int64Type>().values(), 2) - 2.0 / 3.0).abs() < 0.01);
    let widest = column("random_int(-9223372036854775808, 9223372036854775807)", "").await;
    let negative = widest.as_primitive::<Int64Type>().values().iter().filter(|value| **value < 0).count();
    assert!((40_000..60_000).contains(&negative), "{negative}");
}

#[tokio::test]
async fn rows_that_can_not_be_computed_fail_at_their_numbers() {
    let columns = [("n", "row"), ("x", "6 / (row - 2)"), ("d", "random_int(1, CASE WHEN row = 4 THEN 0 ELSE 1 END)")];
    for batch_rows in [1, 4, 100] {
        let (batches, failed) = read(&settings(&columns, "rows = 6"), batch_rows).await;
        assert_eq!(text(&batches), "n:int64 x:int64 d:int64\n0 -3 1\n1 -6 1\n3 6 1\n5 2 1\n");
        let failed: Vec<_> = failed.iter().map(|row| (row.position.unwrap(), &*row.error, &*row.row)).collect();
        let empty = "computing `d`: `random_int` has nothing to choose from 1 to 0";
        assert_eq!(failed, [(2, "computing `x`: division by zero", r#"{"row":2}"#), (4, empty, r#"{"row":4}"#)]);
        assert!(batches.iter().all(|batch| batch.origin.end - batch.origin.start == batch.len() as u64));
    }
}

#[tokio::test]
async fn columns_that_nobody_uses_are_not_computed() {
    let columns = [("a", "random()"), ("b", "a * 2"), ("c", "1 / 0"), ("d", "b + 1")];
    let wanted = PlanContext { columns: Some(BTreeSet::from(["d".to_owned()])), ..context() };
    let settings = settings(&columns, "rows = 2");
    let plan = settings.plan(&wanted).unwrap();
    assert_eq!((plan.ports[0].schema.fields().len(), plan.rows), (1, Some(2)));
    let mut out = Collector::new(1);
    (plan.build)().unwrap().next(&mut out).await.unwrap();
    assert_eq!(out.take(0).map(|batch| batch.len()).sum::<usize>(), 2);
    assert!(out.take_failed().is_empty());
}

#[test]
fn with_a_number_of_rows_it_ends_and_with_a_rate_it_is_live() {
    let kind = |more: &str| {
        let plan = settings(&[("a", "row")], more).plan(&context()).unwrap();
        (plan.finite, plan.replayable, plan.rows)
    };
    assert_eq!(kind("rows = 3"), (true, true, Some(3)));
    assert_eq!(kind(""), (false, true, None));
    assert_eq!(kind("rows = 3\nrate = \"1/s\""), (false, true, Some(3)));
}

#[tokio::test(start_paused = true)]
async fn rows_come_at_their_rate_and_catch_up() {
    let mut input = build(&settings(&[("a", "row")], "rate = \"1000/s\""), &context());
    let mut out = Collector::new(1);
    input.open(&Home::Nowhere).await.unwrap();
    let started = Instant::now();
    let mut rows = 0;
    while rows < 5000 {
        input.next(&mut out).await.unwrap();
        rows += out.take(0).map(|batch| batch.len()).sum::<usize>();
    }
    let seconds = started.elapsed().as_secs_f64();
    assert!((4.9..5.1).contains(&seconds), "5,000 rows in {seconds} s");
    tokio::time::advance(Duration::from_secs(2)).await;
    input.next(&mut out).await.unwrap();
    assert!(out.take(0).map(|batch| batch.len()).sum::<usize>() >= 2000);
    let mut quick = build(&settings(&[("a", "row")], "rate = \"100000/s\""), &context());
    quick.open(&Home::Nowhere).await.unwrap();
    for _ in 0..3 {
        quick.next(&mut out).await.unwrap();
        assert_eq!(out.take(0).map(|batch| batch.len()).sum::<usize>(), 1000, "rows of ten milliseconds come together");
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let mut slow = build(&settings(&[("a", "row")], "rate = \"1/d\""), &context());
    slow.open(&Home::Nowhere).await.unwrap();
    slow.next(&mut out).await.unwrap();
    assert!(started.elapsed() > Duration::from_secs(86_400));
}

#[tokio::test]
async fn it_goes_on_at_the_row_at_which_it_was() {
    let settings = settings(&[("n", "row"), ("x", "random()"), ("y", "1 / (row - 7)")], "rows = 10");
    let whole = text(&read(&settings, 100).await.0);
    for position in 0..=11 {
        let mut input = build(&settings, &PlanContext { batch_rows: 4, ..context() });
        let positions = Positions::from([(PARTITION.into(), position)]);
        assert!(input.snapshot(&positions).unwrap().is_empty());
        input.restore(&positions, &State::default()).unwrap();
        let mut out = Collector::new(1);
        input.open(&Home::Nowhere).await.unwrap();
        while input.next(&mut out).await.unwrap() == Progress::More {}
        let failed = out.take_failed();
        assert_eq!(failed.iter().map(|row| row.position).collect::<Vec<_>>(), [Some(7)][..usize::from(position <= 7)]);
        let batches: Vec<_> = out.take(0).collect();
        assert!(batches.first().is_none_or(|first| first.origin.start >= position));
        let before = position as usize - usize::from(position > 7);
        let expected: Vec<_> = whole.lines().skip(1 + before).collect();
        assert_eq!(text(&batches).lines().skip(1).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn its_rate_counts_from_where_it_goes_on() {
    let mut input = build(&settings(&[("a", "row")], "rate = \"1000/s\""), &context());
    let positions = Positions::from([(PARTITION.into(), 1_000_000)]);
    input.restore(&positions, &State::default()).unwrap();
    input.open(&Home::Nowhere).await.unwrap();
    let (started, mut out, mut rows) = (Instant::now(), Collector::new(1), 0);
    while rows < 5000 {
        input.next(&mut out).await.unwrap();
        rows += out.take(0).map(|batch| batch.len()).sum::<usize>();
    }
    let seconds = started.elapsed().as_secs_f64();
    assert!((4.9..5.1).contains(&seconds), "5,000 rows in {seconds} s");
}

#[test]
fn what_is_wrong_has_its_place() {
    let one = |sql: &str| problems(&[("x", sql)]).remove(0);
    let expect = |place: &str, message: &str, help: &str| (place.to_owned(), message.to_owned(), help.to_owned());
    let clock = "compute it from `row` and `random()`";
    assert_eq!(one("now()"), expect("x: now", "now is not replayable: it differs from run to run", clock));
    assert_eq!(one("rand()"), expect("x: rand", "rand is not replayable: it differs from run to run", clock));
    assert_eq!(
        one("random_norml()"),
        expect("x: random_norml", "there is no function `random_norml`", "did you mean `random_normal`?")
    );
    assert_eq!(one("random(5)"), expect("x: random", "`random` is called without arguments: `random()`", ""));
    let range = "`random_int` takes the least and the greatest integer: `random_int(1, 6)`";
    assert_eq!(one("random_int(6)"), expect("x: random_int", range, ""));
    assert_eq!(one("random_int(1, 'six')"), expect("x: random_int", range, ""));
    let values = "`random_choice` takes values of one type: `random_choice('a', 'b')`";
    assert_eq!(one("random_choice()"), expect("x: random_choice", values, ""));
    assert_eq!(
        one("sum(row)"),
        expect(
            "x: sum",
            "sum(…) does not work row by row",
            "use an `aggregate` node, or a `window` for stretches of time"
        )
    );
    assert_eq!(one("rwo + 1"), expect("x: rwo", "there is no column `rwo`", "did you mean `row`?"));
    assert_eq!(one("row +").1, "expected an expression at the end");
    assert_eq!(one("row; row").1, "`;` can't follow an expression");
    assert_eq!(one("(SELECT 1)").1, "a query within an expression does not work row by row");
    let none = settings(&[], "").plan(&context()).unwrap_err().remove(0);
    assert_eq!((none.at, none.message.as_str()), (vec!["columns".into()], "there are no columns"));
    let row = expect("row: ", "`row` is the number of the row", "give the column another name");
    assert_eq!(problems(&[("row", "row + 1")]), [row]);
}

#[test]
fn what_is_wrong_with_a_column_is_said_once() {
    let found = problems(&[("a", "no"), ("b", "a + 1"), ("c", "b"), ("d", "later"), ("later", "1")]);
    let messages: Vec<_> = found.iter().map(|(place, message, _)| (place.as_str(), message.as_str())).collect();
    assert_eq!(messages, [("a: no", "there is no column `no`"), ("d: later", "there is no column `later`")]);
}

#[tokio::test]
async fn the_example_runs() {
    let text = GenerateInput::EXAMPLE.replace("[input.example.columns]", "[columns]");
    let (batches, failed) = read(&parse(&text.replace("100000", "1000")), 8192).await;
    assert_eq!((batches[0].len(), failed.len()), (1000, 0));
}

#[tokio::test]
async fn where_rows_fail_the_others_leave_piece_by_piece() {
    let settings = settings(&[("x", "1 / (row % 10 - 3)")], "rows = 100");
    let mut input = build(&settings, &PlanContext { batch_rows: 100, ..context() });
    let (mut out, mut next, mut pieces) = (Collector::new(1), 0, 0);
    input.open(&Home::Nowhere).await.unwrap();
    let mut refused = Vec::new();
    while input.next(&mut out).await.unwrap() == Progress::More {
        let batches: Vec<Batch> = out.take(0).collect();
        assert!(batches.len() <= 1, "{} at once", batches.len());
        refused.extend(out.take_failed().into_iter().filter_map(|row| row.position));
        for batch in &batches {
            // Rows leave in their order, behind the refused ones before them.
            assert!(batch.origin.start >= next && refused.iter().all(|row| *row < batch.origin.start));
            (next, pieces) = (batch.origin.end, pieces + 1);
        }
    }
    assert_eq!(refused, (0..10).map(|ten| 10 * ten + 3).collect::<Vec<_>>());
    assert_eq!((next, pieces > 10), (100, true));
}
