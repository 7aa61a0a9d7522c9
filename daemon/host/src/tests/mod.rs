//! Hosts with small flows, in virtual time.

mod changes;
mod folder;
mod kinds;
mod supervision;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{ByteSize, FilesRead};
use millstream_engine::checkpoint::{FlowCheckpoints, ResumeOptions};
use millstream_engine::file::{Diagnostics, LoadOptions};
use millstream_engine::outline::Outline;
use millstream_engine::plan::{KeptStates, Plan, PlanOptions};
use millstream_engine::quarantine::Quarantine;
use millstream_engine::run::{FlowError, PreparedFlow, RunMode};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::{
    Applied, Change, Expected, FlowLimits, FlowSource, FlowStatus, Host, HostError, LaunchError, Launched, Launcher,
    Operation, Owner, Request, RestartPolicy, State,
};

/// Launches flows of the small nodes, with their states in a folder.
struct SmallFlows {
    folder: PathBuf,
}

impl SmallFlows {
    fn plan(&self, source: &FlowSource, files: &FilesRead) -> Result<Plan, Diagnostics> {
        let registry = kinds::registry();
        let files = files.clone();
        let load = LoadOptions { environment: &|_| None, files, ..LoadOptions::new(registry) };
        let options = PlanOptions::new(registry, self.folder.clone());
        Plan::read(&source.path, &source.text, load, options, |_| KeptStates::default())
    }
}

impl Launcher for SmallFlows {
    fn check(&self, source: &FlowSource, files: &FilesRead) -> Result<Outline, Diagnostics> {
        Ok(self.plan(source, files)?.outline())
    }

    fn launch(&self, source: &FlowSource, quarantine: &Quarantine) -> Result<Launched, LaunchError> {
        let plan = self.plan(source, &FilesRead::default())?;
        let outline = plan.outline();
        let whole = |error| FlowError { node: None, error };
        let state = self.folder.join("state");
        let budget = plan.budget;
        let bytes = |size: Option<ByteSize>| size.map(|size| size.0 as u64);
        let limits =
            FlowLimits { memory: bytes(budget.memory), disk: bytes(budget.disk), patience: Duration::from_secs(10) };
        let folders = vec![state.join(&plan.flow)];
        let options = ResumeOptions { quarantine: quarantine.clone(), ..ResumeOptions::default() };
        let checkpoints = FlowCheckpoints::open_folder(&plan, &state, &options).map_err(whole)?;
        let flow = PreparedFlow::new(plan, RunMode::Keep(checkpoints))?.take_over()?.ready()?;
        Ok(Launched { flow, outline, limits, folders })
    }
}

/// A host, and the folder of its states.
struct Site {
    host: Arc<Host>,
    folder: TempDir,
}

impl Site {
    fn new(most: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { host: open(&folder, most), folder }
    }

    /// Has a flow run, and waits until it does or can't. The number of its text.
    async fn put(&self, name: &str, text: &str) -> u64 {
        let applied = self.apply(name, text, Expected::Any).await.unwrap();
        end(applied.operation).await;
        applied.revision
    }

    /// Has a flow run, and does not wait for that.
    async fn apply(&self, name: &str, text: &str, expected: Expected) -> Result<Applied, HostError> {
        let path = self.folder.path().join(format!("{name}.toml"));
        let source = FlowSource { path, text: text.into() };
        let change = Change { source, owner: Owner::Api, expected, message: None, start: true, again: false };
        self.host.apply(name, change, ada()).await
    }

    /// Waits until a flow is in a state.
    async fn wait(&self, name: &str, wanted: impl Fn(&FlowStatus) -> bool) -> FlowStatus {
        let mut status = self.host.watch(name).unwrap();
        let found = tokio::time::timeout(Duration::from_secs(3600), status.wait_for(|status| wanted(status))).await;
        found.unwrap_or_else(|_| panic!("{:?}", self.host.flow(name))).unwrap().clone()
    }

    async fn wait_for(&self, name: &str, state: State) -> FlowStatus {
        self.wait(name, |status| status.state == state).await
    }
}

/// A process with the host of a folder.
fn open(folder: &TempDir, most: Option<u32>) -> Arc<Host> {
    let launcher = Arc::new(SmallFlows { folder: folder.path().to_owned() });
    let policy = RestartPolicy { most, ..RestartPolicy::default() };
    Host::open(launcher, Handle::current(), policy, folder.path()).unwrap()
}

fn ada() -> Request {
    Request { by: "ada".to_owned(), patience: Duration::from_secs(60) }
}

/// Waits for the end of an operation.
async fn end(mut operation: watch::Receiver<Operation>) -> Operation {
    operation.wait_for(|operation| !operation.is_running()).await.unwrap().clone()
}
