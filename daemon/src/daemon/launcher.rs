//! How the daemon brings flows to run: with all types of nodes, and with their states at one place.

use std::collections::BTreeSet;
use std::path::PathBuf;

use millstream_core::{FilesRead, Result, ResultExt as _};
use millstream_engine::file::{Diagnostic, Diagnostics, LoadOptions};
use millstream_engine::outline::Outline;
use millstream_engine::plan::Plan;
use millstream_engine::run::{FlowError, PreparedFlow};
use millstream_host::{FlowSource, Launch, LaunchError, Launched, Launcher, Planned};
use millstream_store::local_folder;

use super::settings::{DaemonSettings, LimitSettings};
use crate::state::StateArguments;
use crate::take_over::take_over;
use crate::workplace::Workplace;

/// Launches flows as the settings say.
pub struct FlowLauncher {
    workplace: Workplace,
    state: StateArguments,
    /// What flows may take that don't say it.
    limits: LimitSettings,
}

impl FlowLauncher {
    /// Makes the folder of the data, if it is not there.
    pub fn new(settings: &DaemonSettings) -> Result<Self> {
        let folder: PathBuf = settings.data.clone();
        std::fs::create_dir_all(&folder).doing(|| format!("making the folder `{}` of `data`", folder.display()))?;
        let workplace = Workplace { registry: crate::nodes::registry(), folder };
        let state =
            StateArguments { allow_drift: settings.allow_drift, ..StateArguments::at(settings.state_location()) };
        Ok(Self { workplace, state, limits: settings.limits.clone() })
    }

    /// The folders whose files are a flow's own: that of its state, and those of its refused rows.
    fn folders(&self, flow: &str, outline: &Outline) -> Vec<PathBuf> {
        let state = self.state.state.as_deref().and_then(local_folder).map(|folder| folder.join(flow));
        let refused: BTreeSet<_> = outline.nodes.iter().filter_map(|node| node.dead_letters.as_ref()).collect();
        state.into_iter().chain(refused.into_iter().map(|folder| self.workplace.folder.join(folder))).collect()
    }

    /// How the state is kept if these nodes start from scratch.
    fn state(&self, revision: Option<u64>, resets: &[String]) -> StateArguments {
        StateArguments { revision, reset: resets.to_vec(), ..self.state.clone() }
    }

    fn read(&self, source: &FlowSource, state: &StateArguments, files: &FilesRead) -> Result<Plan, Diagnostics> {
        let kept = |flow: &str| state.kept(flow);
        let load = LoadOptions { files: files.clone(), ..self.workplace.load_options(&[]) };
        let options = self.workplace.plan_options();
        state.met(&source.path, Plan::read(&source.path, &source.text, load, options, kept)?)
    }
}

impl Launcher for FlowLauncher {
    fn check(&self, source: &FlowSource, resets: &[String], files: &FilesRead) -> Result<Outline, Diagnostics> {
        let state = self.state(None, resets);
        let mut plan = self.read(source, &state, files)?;
        let path = source.path.display().to_string();
        let wrong = |message| Diagnostic { path: path.clone(), place: None, message, help: None, follows: false };
        let problems = state.problems(&mut plan).unwrap_or_else(|error| vec![error.to_string()]);
        let diagnostics: Diagnostics = problems.into_iter().map(wrong).collect();
        if diagnostics.is_empty() { Ok(plan.outline()) } else { Err(diagnostics) }
    }

    fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError> {
        let state = self.state(Some(launch.revision), &launch.resets);
        let read = || self.read(&launch.source, &state, &FilesRead::default());
        let plan = read()?;
        let (flow, outline) = (plan.flow.clone(), plan.outline());
        plan.warnings.iter().for_each(|warning| tracing::warn!(flow, "{warning}"));
        let (limits, folders) = (self.limits.of_flow(plan.budget), self.folders(&plan.flow, &outline));
        let effects = state.effects_without(&plan, &launch.quarantine);
        let (mode, notes) = effects.map_err(|error| FlowError { node: None, error })?;
        notes.iter().for_each(|note| tracing::info!(flow, "{note}"));
        let secrets = plan.secrets.clone();
        let flow = PreparedFlow::new(plan, mode).map_err(|error| error.without_secrets(&secrets))?;
        let flow = take_over(flow, read)?.map_err(|error| error.without_secrets(&secrets))?;
        Ok(Launched { flow, outline, limits, folders })
    }

    fn plan(&self, launch: &Launch) -> Result<Planned, LaunchError> {
        let state = self.state(Some(launch.revision), &launch.resets);
        let plan = self.read(&launch.source, &state, &FilesRead::default())?;
        let outline = plan.outline();
        let (limits, folders) = (self.limits.of_flow(plan.budget), self.folders(&plan.flow, &outline));
        Ok(Planned { plan, outline, options: state.options(), limits, folders })
    }
}
