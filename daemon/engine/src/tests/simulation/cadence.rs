//! That barriers and checkpoints change no output, wherever they are.

use proptest::prelude::*;
use tokio::runtime::{Builder, Handle};

use super::super::crash::MemoryStore;
use super::super::kinds::{committed_text, forget};
use super::graphs::{Graph, Pace};
use super::numbers::Numbers;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::plan::Plan;
use crate::run::{RunMode, RunningFlow, Status};

/// What the outputs of a flow commit, if it runs at this pace with so many rows an epoch.
fn outputs(name: &str, graph: &Graph, epoch_rows: Option<u64>, pace: &Pace, keeps: bool) -> Vec<String> {
    forget(name);
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut plan = graph.plan(name, pace);
    plan.epoch_rows = epoch_rows.map_or(plan.epoch_rows, |rows| rows as usize);
    let paths: Vec<String> = output_names(&plan).map(|output| format!("{name}/{output}")).collect();
    runtime.block_on(async {
        let effects =
            if keeps { RunMode::Keep(checkpoints(&plan)) } else { RunMode::Commit { remove_published: false } };
        let outcome = RunningFlow::start(plan, effects, &Handle::current()).unwrap().join().await;
        assert!(matches!(outcome.status, Status::Done), "{:?}", outcome.status);
    });
    paths.iter().map(|path| committed_text(path)).collect()
}

fn checkpoints(plan: &Plan) -> FlowCheckpoints {
    let checkpoint_store = CheckpointStore::new(std::sync::Arc::new(MemoryStore::default()), &plan.flow, "memory");
    FlowCheckpoints::open(plan, checkpoint_store, &ResumeOptions::default()).unwrap()
}

fn output_names(plan: &Plan) -> impl Iterator<Item = &str> {
    let outputs = plan.nodes.iter().filter(|node| node.role() == millstream_core::Role::Output);
    outputs.map(|node| node.name.as_str())
}

/// Refused rows of several partitions come in another order than the others, if a batch has no others.
fn sorted(texts: Vec<String>) -> Vec<Vec<String>> {
    let lines = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if text.starts_with("node:utf8 error:utf8") {
            lines.sort_unstable();
        }
        lines
    };
    texts.into_iter().map(lines).collect()
}

fn checkpoints_change_nothing(name: &str, seed: u64) -> Result<(), TestCaseError> {
    let mut numbers = Numbers::new(seed);
    let graph = Graph::composed(&mut numbers);
    let never = outputs(name, &graph, None, &Pace::UNHURRIED, false);
    let now_and_then = outputs(name, &graph, None, &Pace::any(&mut numbers), true);
    prop_assert_eq!(sorted(now_and_then), sorted(never), "{:?}", graph);
    Ok(())
}

fn borders_change_nothing(name: &str, seed: u64, epoch_rows: u64) -> Result<(), TestCaseError> {
    let mut numbers = Numbers::new(seed);
    let graph = Graph::without_borders(&mut numbers);
    let never = outputs(name, &graph, Some(1_000_000), &Pace::UNHURRIED, false);
    let often = outputs(name, &graph, Some(epoch_rows), &Pace::any(&mut numbers), true);
    prop_assert_eq!(sorted(often), sorted(never), "{:?}", graph);
    Ok(())
}

/// So many cases, other ones each time.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(15))]

    #[test]
    fn checkpoints_change_no_output(seed in any::<u64>()) {
        checkpoints_change_nothing("cadence", seed)?;
    }

    #[test]
    fn borders_change_no_output_of_nodes_that_do_not_ask_for_them(seed in any::<u64>(), epoch_rows in 1..400_u64) {
        borders_change_nothing("barriers", seed, epoch_rows)?;
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    #[ignore = "takes minutes; part of the nightly run"]
    fn many_checkpoints_change_no_output(seed in any::<u64>()) {
        checkpoints_change_nothing("cadences", seed)?;
    }

    #[test]
    #[ignore = "takes minutes; part of the nightly run"]
    fn borders_change_no_output_of_many_flows(seed in any::<u64>(), epoch_rows in 1..400_u64) {
        borders_change_nothing("many_borders", seed, epoch_rows)?;
    }
}
