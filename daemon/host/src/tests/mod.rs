//! Hosts with small flows, in virtual time.

mod folder;
mod kinds;
mod supervision;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_engine::checkpoint::{FlowCheckpoints, ResumeOptions};
use millstream_engine::file::{Diagnostics, LoadOptions};
use millstream_engine::plan::{KeptStates, Plan, PlanOptions};
use millstream_engine::run::{FlowError, PreparedFlow, ReadyFlow, RunMode};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::{FlowSource, FlowStatus, Host, LaunchError, Launcher, RestartPolicy, State};

/// Launches flows of the small nodes, with their states in a folder.
struct SmallFlows {
    folder: PathBuf,
}

impl SmallFlows {
    fn plan(&self, source: &FlowSource) -> Result<Plan, Diagnostics> {
        let registry = kinds::registry();
        let load = LoadOptions { environment: &|_| None, ..LoadOptions::new(registry) };
        let options = PlanOptions::new(registry, self.folder.clone());
        Plan::read(&source.path, &source.text, load, options, |_| KeptStates::default())
    }
}

impl Launcher for SmallFlows {
    fn check(&self, source: &FlowSource) -> Result<String, Diagnostics> {
        Ok(self.plan(source)?.flow)
    }

    fn launch(&self, source: &FlowSource) -> Result<ReadyFlow, LaunchError> {
        let plan = self.plan(source)?;
        let whole = |error| FlowError { node: None, error };
        let state = self.folder.join("state");
        let checkpoints = FlowCheckpoints::open_folder(&plan, &state, &ResumeOptions::default()).map_err(whole)?;
        Ok(PreparedFlow::new(plan, RunMode::Keep(checkpoints))?.take_over()?.ready()?)
    }
}

/// A host, and the folder of its states.
struct Site {
    host: Host,
    folder: TempDir,
}

impl Site {
    fn new(most: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let launcher = Arc::new(SmallFlows { folder: folder.path().to_owned() });
        let policy = RestartPolicy { most, ..RestartPolicy::default() };
        Self { host: Host::new(launcher, Handle::current(), policy), folder }
    }

    /// Has a flow run.
    fn put(&self, name: &str, text: &str) -> u64 {
        let path = self.folder.path().join(format!("{name}.toml"));
        self.host.put(name, FlowSource { path, text: text.into() })
    }

    /// Waits until a flow is in a state.
    async fn wait(&self, name: &str, wanted: impl Fn(&FlowStatus) -> bool) -> FlowStatus {
        let mut status = self.host.watch(name).unwrap();
        let found = tokio::time::timeout(Duration::from_secs(3600), status.wait_for(|status| wanted(status))).await;
        found.unwrap_or_else(|_| panic!("{:?}", self.host.status(name))).unwrap().clone()
    }

    async fn wait_for(&self, name: &str, state: State) -> FlowStatus {
        self.wait(name, |status| status.state == state).await
    }
}
