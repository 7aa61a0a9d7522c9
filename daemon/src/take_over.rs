//! Taking flows over whose owners are still at work.

use millstream_engine::file::Diagnostics;
use millstream_engine::plan::Plan;
use millstream_engine::run::{FlowError, PreparedFlow, ReadyFlow, RunMode, TakeOver};

/// How often a flow is prepared whose owner writes a checkpoint in the meantime.
const ATTEMPTS: usize = 10;

/// Takes a flow over. As long as its owner writes checkpoints meanwhile, it is planned and prepared once more.
pub fn take_over(
    mut flow: PreparedFlow,
    again: impl Fn() -> Result<Plan, Diagnostics>,
) -> Result<Result<ReadyFlow, FlowError>, Diagnostics> {
    for _ in 1..ATTEMPTS {
        let checkpoints = match flow.take_over() {
            Ok(TakeOver::Outrun(checkpoints)) => checkpoints,
            taken => return Ok(taken.and_then(TakeOver::ready)),
        };
        flow = match PreparedFlow::new(again()?, RunMode::Keep(checkpoints)) {
            Ok(flow) => flow,
            Err(error) => return Ok(Err(error)),
        };
    }
    Ok(flow.take_over().and_then(TakeOver::ready))
}
