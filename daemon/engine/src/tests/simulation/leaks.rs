//! That no row is predicted by what became known later, in flows whose inputs come at very different speeds: undisturbed, and
//! through crashes.

use std::ops::Range;

use tokio::runtime::{Builder, Handle};

use super::super::crash::MemoryStore;
use super::super::kinds::{MODELS, committed_text, forget};
use super::graphs::{Graph, Pace};
use super::numbers::Numbers;
use super::tally::Tally;
use super::{Simulation, simulate};
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{RunMode, RunningFlow, Status};

/// Rows that are predicted, and what becomes known meanwhile: learned alone; beside the rows, in the order of event time;
/// with rows from two inputs, one after the other; and with rows that wait for a table.
const FLOWS: &[&str] = &[
    "processor.learned = { type = \"teach\", learns = \"largest\", from = \"labels\", model = \"m\" }\n\
     processor.scored = { type = \"obey\", beside = true, from = \"a\", model = \"m\" }",
    "processor.sorted = { type = \"hold\", from = \"a\" }\n\
     processor.learned = { type = \"teach\", learns = \"largest\", from = \"labels\", model = \"m\" }\n\
     processor.scored = { type = \"obey\", beside = true, from = \"sorted\", model = \"m\" }",
    "processor.joined = { type = \"merge\", timed = true, from = [\"labels\", \"early\"] }\n\
     processor.learned = { type = \"teach\", learns = \"largest\", from = \"joined\", model = \"m\" }\n\
     processor.scored = { type = \"obey\", beside = true, from = \"a\", model = \"m\" }",
    "input.b = { type = \"known\", start = 20000, rows = 90, every = 41, SETTINGS }\n\
     processor.learned = { type = \"teach\", learns = \"largest\", from = \"labels\", model = \"m\" }\n\
     processor.both = { type = \"merge\", from = [\"a\", \"b\"] }\n\
     processor.scored = { type = \"obey\", beside = true, from = \"both\", model = \"m\" }",
    "input.table = { type = \"count\", start = -60, rows = 121, batch_rows = BATCH }\n\
     processor.ready = { type = \"after\", from = \"a\", with = \"table\" }\n\
     processor.learned = { type = \"teach\", learns = \"largest\", from = \"labels\", model = \"m\" }\n\
     processor.scored = { type = \"obey\", beside = true, from = \"ready\", model = \"m\" }",
];

/// Any of them. Rows that are predicted come out of order by no more than their input says.
fn draw(numbers: &mut Numbers, live: &str) -> Graph {
    let disorder = if numbers.one_in(2) { 0 } else { 1 + numbers.below(200) };
    let marks = 1 + numbers.below(20);
    let time = format!("event_time = {{ column = \"at\", lateness = \"{disorder}s\", watermark_rows = {marks} }}");
    let settings = format!("disorder = {disorder}, batch_rows = BATCH, pause = PAUSE, {time}{live}");
    let mut input = |name: &str, more: &str| {
        let (rows, every) = (numbers.below(200), 1 + numbers.below(80));
        let start = numbers.below(300);
        let on_error = if more.is_empty() { "" } else { ", on_error = \"drop\", max_failed = \"100%\"" };
        format!(
            "input.{name} = {{ type = \"known\", start = {start}, rows = {rows}, every = {every}, {settings}{on_error}{more} }}\n"
        )
    };
    let flow = [input("a", ", refuse = 7"), input("labels", ""), input("early", ", refuse = 3")].concat();
    let text = numbers.choose(FLOWS).replace("SETTINGS", &settings);
    let unread = if text.contains("early") {
        ""
    } else {
        "output.unread = { type = \"file\", from = \"early\", path = \"NAME/e\" }"
    };
    let output = "output.c = { type = \"file\", from = \"scored\", path = \"NAME/c\" }";
    Graph::new(1 + numbers.below(40), &format!("{flow}{text}\n{unread}\n{output}"), !live.is_empty())
}

fn finite(numbers: &mut Numbers) -> Graph {
    draw(numbers, "")
}

/// Rows and the models that predicted them, of those that were committed.
fn scored(path: &str) -> Vec<(i64, i64)> {
    let text = committed_text(path);
    let numbers = text.lines().skip(1).map(|line| line.split(' ').next().unwrap().parse::<i64>().unwrap());
    numbers.map(|number| (number / MODELS, number % MODELS)).collect()
}

/// What is scored if a flow runs undisturbed, with checkpoints.
fn run(name: &str, graph: &Graph, numbers: &mut Numbers) -> Vec<(i64, i64)> {
    forget(name);
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let plan = graph.plan(name, &Pace::any(numbers));
    let checkpoint_store = CheckpointStore::new(std::sync::Arc::new(MemoryStore::default()), &plan.flow, "memory");
    runtime.block_on(async {
        let checkpoints = FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).unwrap();
        let running = RunningFlow::start(plan, RunMode::Keep(checkpoints), &Handle::current()).unwrap();
        let outcome = tokio::time::timeout(std::time::Duration::from_secs(3600), running.join()).await;
        let status = outcome.unwrap_or_else(|_| panic!("it hangs: {graph:?}")).status;
        assert!(matches!(status, Status::Done), "{status:?}");
    });
    scored(&format!("{name}/c"))
}

/// That no row was predicted by what became known later. How many were predicted at all.
fn check(scored: &[(i64, i64)], graph: &Graph) -> usize {
    for (row, model) in scored {
        assert!(model <= row, "the row of second {row} is predicted by a model that knows second {model}: {graph:?}");
    }
    scored.iter().filter(|(_, model)| *model > 0).count()
}

/// Runs finite flows in different cuts. How many rows were predicted by a model that knew something.
fn run_finite(seeds: Range<u64>) -> usize {
    let run_one = |seed| {
        let mut numbers = Numbers::new(seed);
        let graph = finite(&mut numbers);
        let first = run("leaks", &graph, &mut numbers);
        assert_eq!(run("leaks", &graph, &mut numbers), first, "{graph:?}");
        check(&first, &graph)
    };
    seeds.map(run_one).sum()
}

fn run_live(seeds: Range<u64>) -> usize {
    let run_one = |seed| {
        let mut numbers = Numbers::new(seed);
        let graph = draw(&mut numbers, ", live = true");
        check(&run("live_leaks", &graph, &mut numbers), &graph)
    };
    seeds.map(run_one).sum()
}

fn run_crashed(seeds: Range<u64>) {
    let mut tally = Tally::default();
    let wrong = |seed| simulate(Simulation::new("known", seed, finite, &mut tally)).err();
    let wrong: Vec<String> = seeds.filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n").replace("\\n", "\n"));
}

#[test]
fn finite_inputs_advance_together_however_rows_are_cut() {
    let predicted = run_finite(0..15);
    assert!(predicted > 600, "{predicted}");
}

#[test]
fn live_inputs_wait_for_the_rows_that_are_predicted() {
    let predicted = run_live(0..25);
    assert!(predicted > 150, "{predicted}");
}

#[test]
fn what_is_known_survives_crashes() {
    run_crashed(0..10);
}

#[test]
#[ignore = "takes minutes; part of the nightly run"]
fn many_more_flows_do_not_know_the_future() {
    assert!(run_finite(15..2000) > 26_000);
    assert!(run_live(25..2000) > 6500);
    run_crashed(10..1000);
}
