//! Runs flows inside this process.

use std::sync::atomic::Ordering;

use millstream_core::{Error, NodeTypes, Result, ResultExt};
use millstream_engine::file::LoadOptions;
use millstream_engine::plan::{KeptStates, Plan, PlanOptions};
use millstream_engine::run::{Outcome, RunMode, RunningFlow, Status};
use tokio::runtime::{Builder, Runtime};

use crate::nodes::{MemorySettings, SlowSettings};
use crate::place;

/// All nodes, and those of the benchmarks.
pub fn registry() -> NodeTypes {
    let mut registry = NodeTypes::default();
    millstream_connectors::register(&mut registry);
    millstream_kafka::register(&mut registry);
    millstream_mysql::register(&mut registry);
    millstream_postgres::register(&mut registry);
    millstream_objects::register(&mut registry);
    millstream_processors::register(&mut registry);
    millstream_sql::register(&mut registry);
    millstream_learn::register(&mut registry);
    registry.input::<MemorySettings>().output::<SlowSettings>();
    registry
}

/// A flow of the benchmarks, planned.
pub fn plan(flow: &str, sets: &[String]) -> Result<Plan> {
    let registry = registry();
    let load = LoadOptions { sets, ..LoadOptions::new(&registry) };
    let options = PlanOptions::new(&registry, ".");
    Plan::load(&place::flow(flow), load, options, |_| KeptStates::default())
        .map_err(|diagnostics| Error::new(diagnostics.to_string()))
}

/// Threads for the nodes of a flow.
pub fn runtime(threads: usize) -> Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().doing(|| "starting threads")
}

/// Starts a flow that leaves nothing behind.
pub fn start(plan: Plan, runtime: &Runtime) -> Result<RunningFlow> {
    RunningFlow::start(plan, RunMode::None, runtime.handle()).map_err(|error| Error::new(error.to_string()))
}

/// How a flow has ended, if it has not failed.
pub fn done(outcome: Outcome) -> Result<Outcome> {
    match outcome.status {
        Status::Failed(error) => Err(Error::new(error.to_string())),
        Status::Done | Status::Stopped => Ok(outcome),
    }
}

/// Runs a flow of the benchmarks to its end, and says how many rows arrived at one of its nodes. Nothing of it becomes visible.
pub fn rows_into(flow: &str, sets: &[String], threads: usize, node: &str) -> Result<u64> {
    run(flow, sets, threads, node, RunMode::None)
}

/// The same, and what its outputs have written becomes visible.
pub fn rows_committed(flow: &str, sets: &[String], threads: usize, node: &str) -> Result<u64> {
    run(flow, sets, threads, node, RunMode::Commit { remove_published: false })
}

fn run(flow: &str, sets: &[String], threads: usize, node: &str, mode: RunMode) -> Result<u64> {
    let runtime = runtime(threads)?;
    let running = RunningFlow::start(plan(flow, sets)?, mode, runtime.handle());
    let running = running.map_err(|error| Error::new(error.to_string()))?;
    let stats = running.stats();
    done(runtime.block_on(running.join()))?;
    let node = stats.nodes.iter().find(|found| found.name == node);
    node.map(|node| node.rows_in.load(Ordering::Relaxed)).ok_or_else(|| Error::new("there is no such node"))
}
