//! Flows that run: order, epochs, failures, stopping.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::kinds::{lineages, memory, memory_text, registry};
use crate::file::FlowFile;
use crate::file::{Diagnostics, LoadOptions};
use crate::flow_test::{self, TestOutcome};
use crate::plan::{Plan, PlanOptions};
use crate::run::{Outcome, RunMode, RunningFlow, Status};

pub fn plan(text: &str) -> Plan {
    try_plan(text).unwrap_or_else(|wrong| panic!("{wrong}"))
}

pub fn try_plan(text: &str) -> Result<Plan, Diagnostics> {
    let registry = registry();
    let load = LoadOptions { environment: &|_| None, ..LoadOptions::new(registry) };
    let file = FlowFile::read(Path::new("test.toml"), text, load)?;
    Plan::new(&file, &PlanOptions::new(registry, "."))
}

pub async fn run(text: &str) -> Outcome {
    RunningFlow::start(plan(text), RunMode::Commit { remove_published: false }, &Handle::current())
        .unwrap()
        .join()
        .await
}

pub fn failure(outcome: Outcome) -> String {
    match outcome.status {
        Status::Failed(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rows_run_from_input_to_output() {
    let outcome = run(r#"
        input.a = { type = "count", rows = 5 }
        processor.b = { type = "add", from = "a", by = 10 }
        output.c = { type = "file", from = "b", path = "line" }
    "#)
    .await;
    assert!(matches!(outcome.status, Status::Done));
    assert_eq!(memory("line"), (vec![10, 11, 12, 13, 14], "committed"));
}

#[tokio::test]
async fn what_a_node_pushes_piece_by_piece_comes_before_anything_else() {
    run(r#"
        flow.epoch.rows = 2
        input.a = { type = "count", rows = 3, batch_rows = 1 }
        processor.b = { type = "repeat", from = "a", times = 2 }
        output.c = { type = "file", from = "b", path = "pieces" }
    "#)
    .await;
    assert_eq!(memory("pieces").0, [0, 0, 1, 1, -1, -1, 2, 2, -2, -2]);
}

#[tokio::test(start_paused = true)]
async fn a_node_may_let_its_rows_leave_at_a_pace_and_does_not_hold_up_a_flow_that_fails() {
    let begin = Instant::now();
    run(r#"
        input.a = { type = "count", rows = 3, batch_rows = 1 }
        processor.b = { type = "repeat", from = "a", times = 2, pause = 10 }
        output.c = { type = "file", from = "b", path = "paced" }
    "#)
    .await;
    assert_eq!(memory("paced").0, [0, 0, 1, 1, 2, 2, -2, -2]);
    assert_eq!(begin.elapsed().as_secs(), 80);
    let begin = Instant::now();
    let outcome = run(r#"
        input.a = { type = "count", rows = 3, batch_rows = 1 }
        processor.b = { type = "repeat", from = "a", times = 2, pause = 1000 }
        processor.fails = { type = "trouble", from = "a", fail = 1 }
        output.c = { type = "file", from = ["b", "fails"], path = "paced_failure" }
    "#)
    .await;
    assert_eq!(failure(outcome), "node `fails`: this node fails");
    assert!(begin.elapsed().as_secs() < 1000, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn borders_and_merged_rows_do_not_depend_on_batches() {
    let mut seen = Vec::new();
    for (number, batch_rows) in [1, 3, 7, 1000].into_iter().enumerate() {
        let path = format!("barriers{number}");
        run(&format!(
            r#"
            flow.epoch.rows = 10
            input.a = {{ type = "count", rows = 35, batch_rows = {batch_rows} }}
            processor.kinds = {{ type = "parity", from = "a" }}
            processor.tens = {{ type = "add", from = "kinds.odd", by = 100 }}
            processor.both = {{ type = "barriers", from = ["tens", "kinds.even"] }}
            output.c = {{ type = "file", from = "both", path = "{path}" }}
        "#
        ))
        .await;
        seen.push(memory(&path).0);
    }
    assert_eq!(seen[0][..11], [101, 103, 105, 107, 109, 0, 2, 4, 6, 8, -1]);
    assert_eq!(seen[0].len(), 35 + 3, "three barriers within 35 rows");
    assert!(seen.iter().all(|rows| *rows == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn finite_inputs_are_read_one_after_the_other() {
    run(r#"
        flow.epoch.rows = 4
        input.b = { type = "count", start = 100, rows = 6 }
        input.a = { type = "count", rows = 6 }
        processor.both = { type = "barriers", from = ["a", "b"] }
        output.c = { type = "file", from = "both", path = "sequence" }
    "#)
    .await;
    assert_eq!(memory("sequence").0, [0, 1, 2, 3, -1, 4, 5, 100, 101, 102, 103, -2, 104, 105]);
}

#[tokio::test]
async fn rows_of_inputs_in_turn() {
    run(r#"
        input.a = { type = "count", rows = 5 }
        input.b = { type = "count", start = 100, rows = 3 }
        processor.both = { type = "merge", from = ["a", "b"], rows = 2 }
        output.c = { type = "file", from = "both", path = "turns" }
    "#)
    .await;
    assert_eq!(memory("turns").0, [0, 1, 100, 101, 2, 3, 102, 4]);
}

#[tokio::test]
async fn a_side_input_is_read_to_its_end_first() {
    run(r#"
        flow.epoch.rows = 2
        input.stream = { type = "count", rows = 3 }
        input.others = { type = "count", rows = 5 }
        input.more = { type = "count", rows = 2 }
        processor.first = { type = "after", from = "stream", with = "others" }
        processor.second = { type = "after", from = "first", with = "more" }
        output.c = { type = "file", from = "second", path = "side" }
    "#)
    .await;
    assert_eq!(memory("side").0, [11, 12, 13]);
}

#[tokio::test]
async fn a_model_counts_from_the_border_on() {
    run(r#"
        flow.epoch.rows = 4
        input.a = { type = "count", rows = 10 }
        processor.kinds = { type = "parity", from = "a" }
        processor.taught = { type = "teach", from = "kinds.even", model = "count" }
        processor.obeyed = { type = "obey", from = "kinds.odd", model = "count" }
        output.c = { type = "file", from = "obeyed", path = "model" }
    "#)
    .await;
    assert_eq!(memory("model").0, [0, 0, 2, 2, 4], "no version, then that of 2 rows, then that of 4");
}

#[tokio::test]
async fn versions_that_are_made_while_an_input_waits_have_learned_nothing_of_it() {
    run(r#"
        flow.name = "lineage"
        flow.epoch.rows = 4
        input.a = { type = "count", rows = 10 }
        input.b = { type = "count", start = 100, rows = 6 }
        processor.taught = { type = "teach", from = ["a", "b"], model = "count" }
        output.c = { type = "file", from = "taught", path = "lineage/c" }
    "#)
    .await;
    let read = |a: u64, b: Option<u64>| match b {
        Some(b) => serde_json::json!({ "a": { "": a }, "b": { "": b } }),
        None => serde_json::json!({ "a": { "": a } }),
    };
    let expected = [(1, read(4, None)), (2, read(8, None)), (3, read(10, Some(4))), (u64::MAX, read(10, Some(6)))];
    assert_eq!(lineages("lineage", "taught"), expected.into());
}

#[tokio::test]
async fn a_failing_node_is_named_and_nothing_is_committed() {
    let outcome = run(r#"
        input.a = { type = "count", rows = 1000, batch_rows = 10 }
        processor.b = { type = "trouble", from = "a", fail = 500 }
        output.c = { type = "file", from = "b", path = "fails" }
    "#)
    .await;
    assert_eq!(failure(outcome), "node `b`: this node fails");
    assert_eq!(memory("fails").1, "aborted");
}

#[tokio::test]
async fn a_panicking_node_is_named() {
    let outcome = run(r#"
        input.a = { type = "count", rows = 1000, endless = true }
        processor.b = { type = "trouble", from = "a", panic = 500 }
        output.c = { type = "file", from = "b", path = "panics" }
    "#)
    .await;
    assert_eq!(failure(outcome), "node `b`: panicked: this node panics");
    assert_eq!(memory("panics").1, "aborted");
}

#[tokio::test]
async fn a_refused_row_fails_the_flow_unless_it_says_otherwise() {
    let outcome = run(r#"
        input.a = { type = "count", start = 1, rows = 9, refuse = 5 }
        output.c = { type = "file", from = "a", path = "refusing" }
    "#)
    .await;
    let message = failure(outcome);
    assert!(message.starts_with("node `a`: refused (input `a`, row 4: 5)"), "{message}");
}

#[tokio::test]
async fn refused_rows_can_be_dropped_up_to_a_share() {
    let flow = |share: &str| {
        format!(
            r#"
        input.a = {{ type = "count", rows = 100, refuse = 10, on_error = "drop", max_failed = "{share}" }}
        output.c = {{ type = "file", from = "a", path = "share {share}" }}
    "#
        )
    };
    assert!(matches!(run(&flow("10%")).await.status, Status::Done));
    let message = failure(run(&flow("9%")).await);
    assert_eq!(message, "node `a`: 10 of 100 rows were rejected, more than `max_failed = \"9%\"` allows");
}

#[tokio::test]
async fn refused_rows_go_to_the_dead_letter() {
    run(r#"
        flow.on_error.dead_letter = "dead"
        input.a = { type = "count", rows = 5, refuse = 2 }
        output.c = { type = "file", from = "a", path = "alive" }
    "#)
    .await;
    assert_eq!(memory("alive").0, [1, 3]);
    let dead = memory_text("dead");
    assert_eq!(dead.lines().count(), 1 + 3, "{dead}");
    assert!(dead.contains("a refused a \"\" 2 null 2 text"), "{dead}");
}

#[tokio::test]
async fn an_output_refuses_rows_as_any_node_does() {
    let flow = |name: &str, more: &str| {
        format!(
            r#"
        input.a = {{ type = "count", rows = 10, batch_rows = 3 }}
        output.c = {{ type = "file", from = "a", path = "{name}", refuses = 4{more} }}
    "#
        )
    };
    let message = failure(run(&flow("refusing", "")).await);
    assert!(message.starts_with("node `c`: a multiple of 4 (input `a`: {\"n\":0}); `on_error` says"), "{message}");
    run(&flow("dropping", ", on_error = \"drop\"")).await;
    assert_eq!(memory("dropping").0, [1, 2, 3, 5, 6, 7, 9]);
    let message = failure(run(&flow("share", ", on_error = \"drop\", max_failed = \"20%\"")).await);
    assert_eq!(message, "node `c`: 3 of 10 rows were rejected, more than `max_failed = \"20%\"` allows");
    run(&flow("keeping", ", on_error = { dead_letter = \"kept\" }")).await;
    let dead = memory_text("kept");
    assert!(dead.lines().count() == 1 + 3 && dead.contains("c \"a multiple of 4\" a"), "{dead}");
    let reading = flow("read", "") + r#"output.d = { type = "file", from = "c.failed", path = "reading" }"#;
    run(&reading).await;
    assert_eq!(memory_text("reading"), dead);
}

#[test]
fn only_outputs_that_may_refuse_rows_can_be_read_from() {
    let flow = |more: &str, from: &str| {
        format!(
            r#"
input.a = {{ type = "count", rows = 10 }}
output.c = {{ type = "file", from = "a", path = "x"{more} }}
output.d = {{ type = "file", from = "{from}", path = "y" }}"#
        )
    };
    assert!(try_plan(&flow(", refuses = 4", "c.failed")).is_ok());
    let error = try_plan(&flow(", refuses = 4", "c")).unwrap_err().to_string();
    assert!(error.contains("`c` is an output, from which nothing can be read"), "{error}");
    let error = try_plan(&flow("", "c.failed")).unwrap_err().to_string();
    assert!(error.contains("`c` has no port `failed`"), "{error}");
}

#[tokio::test]
async fn a_stopped_flow_works_off_what_it_has_read() {
    let plan = plan(
        r#"
        input.a = { type = "count", rows = 0, endless = true, batch_rows = 10 }
        processor.b = { type = "add", from = "a", by = 0 }
        output.c = { type = "file", from = "b", path = "stopped" }
    "#,
    );
    let running = RunningFlow::start(plan, RunMode::Commit { remove_published: false }, &Handle::current()).unwrap();
    let (stats, control) = (running.stats(), running.control());
    let stop = async {
        while stats.nodes[0].rows_in.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
        control.stop();
    };
    let (outcome, ()) = tokio::join!(running.join(), stop);
    assert!(matches!(outcome.status, Status::Stopped));
    let (rows, end) = memory("stopped");
    assert_eq!(rows.len() as u64, stats.nodes[0].rows_in.load(Ordering::Relaxed));
    assert_eq!(end, "committed");
}

#[tokio::test]
async fn a_stopped_flow_that_can_be_run_again_commits_nothing() {
    let text = r#"
        input.a = { type = "count", rows = 1000000000, batch_rows = 10 }
        output.c = { type = "file", from = "a", path = "abandoned" }
    "#;
    let running =
        RunningFlow::start(plan(text), RunMode::Commit { remove_published: false }, &Handle::current()).unwrap();
    let (stats, control) = (running.stats(), running.control());
    assert!(!control.commits());
    let stop = async {
        while stats.nodes[1].rows_in.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
        control.stop();
    };
    let (outcome, ()) = tokio::join!(running.join(), stop);
    assert!(matches!(outcome.status, Status::Stopped) && outcome.unfinished, "{outcome:?}");
    assert_eq!((memory("abandoned").1, outcome.committed.len()), ("aborted", 0));
}

#[tokio::test]
async fn a_live_input_without_rows_ends_its_epochs_with_the_others() {
    let plan = plan(
        r#"
        flow.epoch = { rows = 10, interval = "1h" }
        input.a = { type = "count", rows = 0, endless = true, batch_rows = 7 }
        input.b = { type = "count", rows = 1, start = -5, waits = true }
        processor.both = { type = "barriers", from = ["a", "b"] }
        output.c = { type = "file", from = "both", path = "live" }
    "#,
    );
    let running = RunningFlow::start(plan, RunMode::Commit { remove_published: false }, &Handle::current()).unwrap();
    let (stats, control) = (running.stats(), running.control());
    let output = stats.nodes.iter().position(|node| node.name == "c").unwrap();
    let stop = async {
        while stats.nodes[output].rows_in.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
        control.stop();
    };
    let both = async { tokio::join!(running.join(), stop) };
    let (outcome, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("rows go on past barriers");
    assert!(matches!(outcome.status, Status::Stopped));
    assert!(memory("live").0.contains(&-5), "the row of the quiet input is there");
}

#[tokio::test(start_paused = true)]
async fn epochs_without_rows_take_longer_and_longer() {
    let plan = plan(
        r#"
        flow.epoch = { rows = 10, interval = "1s" }
        input.a = { type = "count", rows = 1, waits = true }
        output.c = { type = "file", from = "a", path = "idle" }
    "#,
    );
    let running = RunningFlow::start(plan, RunMode::None, &Handle::current()).unwrap();
    let (stats, control) = (running.stats(), running.control());
    let watch = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(stats.epoch(), 10, "after 1, 2, 4, 8, 16, 24, 32, 40, 48 and 56 seconds");
        control.give_up();
    };
    tokio::join!(running.join(), watch);
}

#[tokio::test]
async fn a_slow_output_slows_its_input() {
    let plan = plan(
        r#"
        flow.edge.rows = 100
        input.a = { type = "count", rows = 0, endless = true, batch_rows = 10 }
        output.c = { type = "file", from = "a", path = "slow", slow = 5 }
    "#,
    );
    let running = RunningFlow::start(plan, RunMode::None, &Handle::current()).unwrap();
    let (stats, control) = (running.stats(), running.control());
    let watch = async {
        while stats.nodes[1].rows_in.load(Ordering::Relaxed) < 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let (read, written) = (&stats.nodes[0].rows_in, &stats.nodes[1].rows_in);
            let waiting = read.load(Ordering::Relaxed) - written.load(Ordering::Relaxed);
            assert!(waiting <= 100 + 2 * 10, "{waiting} rows wait: 100 on the edge and a batch in each node");
        }
        control.stop();
    };
    tokio::join!(running.join(), watch);
    assert_eq!(memory("slow").1, "aborted", "without effects nothing is committed");
}

#[tokio::test]
async fn unused_columns_are_not_read() {
    let plan = plan(
        r#"
        input.a = { type = "count", rows = 5, wide = true }
        processor.b = { type = "add", from = "a", by = 10 }
        output.c = { type = "file", from = "b", path = "narrow" }
    "#,
    );
    let columns = plan.nodes[0].ports[0].canonical.schema().fields().len();
    assert_eq!(columns, 1, "nobody uses `m`");
}

#[tokio::test]
async fn event_times_that_are_computed_are_those_of_a_column() {
    let flow = |name: &str, time: &str, bad: &str, batch_rows: usize| {
        format!(
            "flow.epoch.rows = 10\n\
             input.a = {{ type = \"events\", rows = 90, batch_rows = {batch_rows}{bad}, event_time = {{ {time}, lateness = \"10s\", watermark_rows = 6 }} }}\n\
             processor.held = {{ type = \"hold\", from = \"a\" }}\n\
             output.timely = {{ type = \"file\", from = \"held\", path = \"{name}\" }}\n\
             output.late = {{ type = \"file\", from = \"held.late\", path = \"{name}_late\" }}\n\
             output.bad = {{ type = \"file\", from = \"a.failed\", path = \"{name}_bad\" }}\n"
        )
    };
    run(&flow("of_column", "column = \"at\"", ", refuse = 7, timeless = 11", 8)).await;
    let (expected, late) = (memory("of_column").0, memory("of_column_late").0);
    assert!(expected.len() > 30 && late.len() > 3, "{expected:?} {late:?}");
    for batch_rows in [1, 7, 100] {
        let name = format!("computed_{batch_rows}");
        run(&flow(&name, "expression = \"second\"", "", batch_rows)).await;
        assert_eq!((memory(&name).0, memory(&format!("{name}_late")).0), (expected.clone(), late.clone()));
        let rows = memory_text(&name);
        assert!(rows.starts_with("n:int64 event_time:timestamp\n"), "{rows}");
        let bad = memory_text(&format!("{name}_bad"));
        assert!(bad.contains("a \"7 divides it\" a p0 7 null {\"n\":7}"), "{bad}");
        assert!(bad.contains("a \"the event time `event_time` is null\" a p0 11 "), "{bad}");
        assert_eq!(bad.lines().count(), memory_text("of_column_bad").lines().count(), "{bad}");
    }
}

#[test]
fn only_what_the_event_time_is_computed_from_is_read_for_it() {
    let plan = plan(
        r#"
        input.a = { type = "events", rows = 5, event_time = { expression = "second", column = "when" } }
        processor.b = { type = "hold", from = "a" }
        output.c = { type = "file", from = "b", path = "computed_narrow" }
    "#,
    );
    let names = |schema: &arrow::datatypes::Schema| {
        schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(plan.nodes[0].ports[0].canonical.schema()), ["n", "when"]);
    assert_eq!(plan.nodes[0].ports[0].event_time.as_deref(), Some("when"));
}

/// Runs the tests of a flow file.
async fn outcomes_of_tests(text: &str) -> Result<Vec<TestOutcome>, Diagnostics> {
    let registry = registry();
    let load = LoadOptions { environment: &|_| None, ..LoadOptions::new(registry) };
    let file = FlowFile::read(Path::new("test.toml"), text, load).unwrap_or_else(|wrong| panic!("{wrong}"));
    flow_test::run_tests(&file, &PlanOptions::new(registry, "."), &Handle::current()).await
}

#[tokio::test]
async fn a_test_gives_the_rows_from_which_event_times_are_computed() {
    let text = r#"
        input.a = { type = "events", rows = 5, event_time = { expression = "second" } }
        output.c = { type = "file", from = "a", path = "computed_in_a_test" }

        [[test]]
        name = "a time a row"
        input.a = [{ n = 1 }, { n = 3 }]
        expect.a = [{ n = 1, event_time = "1970-01-01T00:00:29Z" }, { n = 3, event_time = "1970-01-01T00:00:37Z" }]
    "#;
    let outcomes = outcomes_of_tests(text).await.unwrap();
    assert_eq!(outcomes[0].failures, [] as [&str; 0]);
}

#[tokio::test]
async fn tests_give_rows_to_each_port_of_an_input() {
    let text = r#"
        input.a = { type = "known", rows = 5, every = 1, tables = 2 }
        output.c = { type = "file", from = ["a.t0", "a.t1"], path = "two_tables_in_a_test" }

        [[test]]
        name = "rows of two tables"
        input.a.t1 = [{ n = 4, at = "1970-01-01T00:00:04Z" }]
        input.a.t0 = [{ n = 6, at = "1970-01-01T00:00:06Z" }]
        expect.c = [{ n = 6 }, { n = 4 }]
    "#;
    let outcomes = outcomes_of_tests(text).await.unwrap();
    assert_eq!(outcomes[0].failures, [] as [&str; 0]);
    let wrong = outcomes_of_tests(&text.replace("input.a.t1", "input.a.t3")).await.unwrap_err().to_string();
    assert!(wrong.contains("`a` has no port `t3`") && wrong.contains("test.toml:7:"), "{wrong}");
}

#[tokio::test]
async fn tests_of_a_flow_file_run_without_effects() {
    let text = r#"
        input.a = { type = "count", rows = 1000 }
        processor.b = { type = "add", from = "a", by = 1 }
        output.c = { type = "file", from = "b", path = "untouched" }

        [[test]]
        name = "adds one"
        input.a = [{ n = 4 }, { n = 6 }]
        expect.b = [{ n = 5 }, { n = 7 }]
        expect.c = [{ n = 5 }, { n = 7 }]

        [[test]]
        name = "is wrong"
        input.a = [{ n = 4 }]
        expect.b = [{ n = 4 }]
    "#;
    let outcomes = outcomes_of_tests(text).await.unwrap();
    assert_eq!(outcomes[0].failures, [] as [&str; 0]);
    assert_eq!(outcomes[1].failures, ["`b`: row 0: `n` is 5, expected 4"]);
    assert_eq!(memory("untouched").0, [] as [i64; 0]);
}
