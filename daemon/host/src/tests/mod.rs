//! Hosts with small flows, in virtual time.

mod changes;
mod folder;
mod supervision;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{ByteSize, FilesRead};
use millstream_engine::checkpoint::{FlowCheckpoints, ResumeOptions};
use millstream_engine::file::{Diagnostics, LoadOptions};
use millstream_engine::outline::Outline;
use millstream_engine::plan::{KeptStates, Plan, PlanOptions};
use millstream_engine::run::{FlowError, PreparedFlow, RunMode};
use millstream_testkit::small_nodes;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::{
    Applied, Change, Expected, FlowLimits, FlowSource, FlowStatus, Host, HostError, Launch, LaunchError, Launched,
    Launcher, Operation, Owner, Planned, Request, RestartPolicy, State,
};

/// Launches flows of the small nodes, with their states in a folder.
struct SmallFlows {
    folder: PathBuf,
}

impl SmallFlows {
    fn read(&self, source: &FlowSource, files: &FilesRead) -> Result<Plan, Diagnostics> {
        let registry = small_nodes();
        let files = files.clone();
        let load = LoadOptions { environment: &|_| None, files, ..LoadOptions::new(registry) };
        let options = PlanOptions::new(registry, self.folder.clone());
        Plan::read(&source.path, &source.text, load, options, |_| KeptStates::default())
    }
}

impl SmallFlows {
    /// What a flow may take, and its folders.
    fn limits(&self, plan: &Plan) -> (FlowLimits, Vec<PathBuf>) {
        let bytes = |size: Option<ByteSize>| size.map(|size| size.0 as u64);
        let (memory, disk) = (bytes(plan.budget.memory), bytes(plan.budget.disk));
        let limits = FlowLimits { memory, disk, patience: Duration::from_secs(10) };
        (limits, vec![self.folder.join("state").join(&plan.flow)])
    }
}

impl Launcher for SmallFlows {
    fn check(&self, source: &FlowSource, _: &[String], files: &FilesRead) -> Result<Outline, Diagnostics> {
        Ok(self.read(source, files)?.outline())
    }

    fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError> {
        let plan = self.read(&launch.source, &FilesRead::default())?;
        let outline = plan.outline();
        let whole = |error| FlowError { node: None, error };
        let state = self.folder.join("state");
        let checkpoints = FlowCheckpoints::open_folder(&plan, &state, &options(launch)).map_err(whole)?;
        let (limits, folders) = self.limits(&plan);
        let flow = PreparedFlow::new(plan, RunMode::Keep(checkpoints))?.take_over()?.ready()?;
        Ok(Launched { flow, outline, limits, folders })
    }

    fn plan(&self, launch: &Launch) -> Result<Planned, LaunchError> {
        let plan = self.read(&launch.source, &FilesRead::default())?;
        let (outline, options, (limits, folders)) = (plan.outline(), options(launch), self.limits(&plan));
        Ok(Planned { plan, outline, options, limits, folders })
    }
}

fn options(launch: &Launch) -> ResumeOptions {
    ResumeOptions {
        revision: Some(launch.revision),
        resets: launch.resets.clone(),
        quarantine: launch.quarantine.clone(),
        ..ResumeOptions::default()
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
        self.apply_resetting(name, text, expected, &[]).await
    }

    /// The same, where some nodes start from scratch.
    async fn apply_resetting(
        &self,
        name: &str,
        text: &str,
        expected: Expected,
        resets: &[&str],
    ) -> Result<Applied, HostError> {
        let resets = resets.iter().map(|node| (*node).to_owned()).collect();
        let path = self.folder.path().join(format!("{name}.toml"));
        let source = FlowSource { path, text: text.into() };
        let change = Change { source, owner: Owner::Api, expected, message: None, start: true, again: false, resets };
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
