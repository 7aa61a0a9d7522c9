//! `--state`: what a run keeps of its flows, and on what it goes on.

use std::collections::BTreeMap;

use clap::Args;
use millstream_core::{Error, Result, Role};
use millstream_engine::checkpoint::{Keeper, KeeperOptions};
use millstream_engine::plan::Plan;
use millstream_engine::run::Effects;
use millstream_learn::device::{self, DeviceSettings};

/// How a run keeps its state.
#[derive(Clone, Debug, Args)]
pub struct StateArguments {
    /// Keep the state of each flow in DIR/FLOW, and go on from there: every row counts once, also through a crash. Instead of a
    /// folder, `s3://BUCKET/PREFIX`.
    #[arg(long, value_name = "DIR")]
    pub state: Option<String>,
    /// Let a node begin anew, whose state does not fit any more.
    #[arg(long, value_name = "NODE", requires = "state")]
    pub reset: Vec<String>,
    /// Go on although the build or the kind of machine is another one, so that models may come out with other bits.
    #[arg(long, requires = "state")]
    pub allow_drift: bool,
    /// Keep state although an input can't be read again, so that a crash loses its rows since the last checkpoint; and let a
    /// node begin anew although the last checkpoint has decided rows of it that are not visible yet.
    #[arg(long, requires = "state")]
    pub allow_loss: bool,
}

impl StateArguments {
    /// What becomes of what a flow does.
    pub fn effects(&self, plan: &Plan) -> Result<Effects> {
        let Some(location) = &self.state else { return Ok(Effects::Commit) };
        let options = KeeperOptions {
            fingerprint: fingerprint(),
            allow_drift: self.allow_drift,
            allow_loss: self.allow_loss,
            resets: self.reset.clone(),
        };
        let keeper = Keeper::open_at(plan, location, &options)?;
        let is_input = |name: &&String| plan.node(name).is_some_and(|node| node.role() == Role::Input);
        for input in self.reset.iter().filter(is_input) {
            eprintln!(
                "warning: input `{input}` is read from its first row again; what has learned of its rows, or has written them, \
                 has them twice, unless it begins anew, too"
            );
        }
        let (flow, number) = (&plan.flow, keeper.number());
        if keeper.is_done() {
            eprintln!("flow `{flow}`: has come to its end before; to run it again, take another state folder");
        } else if number > 1 {
            eprintln!("flow `{flow}`: goes on from checkpoint {}", number - 1);
        }
        Ok(Effects::Keep(keeper))
    }
}

/// What the bits of models depend on. The kind of processor is not among it: what is computed on one does not depend on what
/// it can do, which tests of the estimators show.
fn fingerprint() -> BTreeMap<String, String> {
    let device =
        device::find(DeviceSettings::Auto).map_or_else(|error: Error| error.to_string(), |found| found.to_string());
    let architecture = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    [("build", env!("CARGO_PKG_VERSION").to_owned()), ("architecture", architecture), ("device", device)]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}
