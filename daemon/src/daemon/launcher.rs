//! How the daemon brings flows to run: with all types of nodes, and with their states at one place.

use std::path::PathBuf;

use millstream_core::{Result, ResultExt as _};
use millstream_engine::file::Diagnostics;
use millstream_engine::plan::Plan;
use millstream_engine::run::{FlowError, PreparedFlow, ReadyFlow};
use millstream_host::{FlowSource, LaunchError, Launcher};

use super::settings::DaemonSettings;
use crate::state::StateArguments;
use crate::take_over::take_over;
use crate::workplace::Workplace;

/// Launches flows as the settings say.
pub struct FlowLauncher {
    workplace: Workplace,
    state: StateArguments,
}

impl FlowLauncher {
    /// Makes the folder of the data, if it is not there.
    pub fn new(settings: &DaemonSettings) -> Result<Self> {
        let folder: PathBuf = settings.data.clone();
        std::fs::create_dir_all(&folder).doing(|| format!("making the folder `{}` of `data`", folder.display()))?;
        let workplace = Workplace { registry: crate::nodes::registry(), folder };
        Ok(Self { workplace, state: StateArguments::at(settings.state_location()) })
    }

    fn plan(&self, source: &FlowSource) -> Result<Plan, Diagnostics> {
        let kept = |flow: &str| self.state.kept(flow);
        let (load, options) = (self.workplace.load_options(&[]), self.workplace.plan_options());
        self.state.met(&source.path, Plan::read(&source.path, &source.text, load, options, kept)?)
    }
}

impl Launcher for FlowLauncher {
    fn check(&self, source: &FlowSource) -> Result<String, Diagnostics> {
        Ok(self.plan(source)?.flow)
    }

    fn launch(&self, source: &FlowSource) -> Result<ReadyFlow, LaunchError> {
        let plan = self.plan(source)?;
        let flow = plan.flow.clone();
        plan.warnings.iter().for_each(|warning| tracing::warn!(flow, "{warning}"));
        let (mode, notes) = self.state.effects(&plan).map_err(|error| FlowError { node: None, error })?;
        notes.iter().for_each(|note| tracing::info!("{note}"));
        Ok(take_over(PreparedFlow::new(plan, mode)?, || self.plan(source))??)
    }
}
