//! Flows that a command writes for itself, and runs to their end.

use std::path::Path;
use std::sync::Arc;

use millstream_core::{Error, ResultExt};
use millstream_engine::file::FlowFile;
use millstream_engine::plan::Plan;
use millstream_engine::run::{RunMode, RunningFlow, Status};
use millstream_engine::stats::FlowStats;

use crate::exit::CommandError;
use crate::workplace::{Workplace, control_runtime, data_runtime};

/// The plan of a flow; problems name it.
pub fn plan(workplace: &Workplace, name: &str, flow: &toml::Table) -> Result<Plan, CommandError> {
    let text = toml::to_string(flow).doing(|| "writing the flow")?;
    let file = FlowFile::read(Path::new(name), &text, workplace.load_options(&[]))?;
    Ok(Plan::new(&file, &workplace.plan_options())?)
}

/// Runs it without state, and returns its counters.
pub fn run(plan: Plan) -> Result<Arc<FlowStats>, CommandError> {
    let (control, data) = (control_runtime()?, data_runtime(None)?);
    let running = RunningFlow::start(plan, RunMode::Commit { remove_published: false }, data.handle())
        .map_err(|error| Error::new(error.to_string()))?;
    let stats = running.stats();
    let outcome = control.block_on(running.join());
    data.shutdown_background();
    match outcome.status {
        Status::Failed(error) => Err(error.error.into()),
        Status::Done | Status::Stopped => Ok(stats),
    }
}
