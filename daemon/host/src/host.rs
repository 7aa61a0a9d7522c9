//! The flows of a process, by name: what is wanted of each, and who sees to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::{Error, FilesRead, Result, ResultExt as _};
use millstream_engine::file::Diagnostics;
use millstream_engine::outline::Outline;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::budgets::DiskSpace;
use crate::error::HostError;
use crate::flow_store::{Desired, FlowStore, Owner, Wanted};
use crate::hold::{Holds, Reason};
use crate::launch::{FlowSource, Launcher};
use crate::operations::Operations;
use crate::restart::RestartPolicy;
use crate::status::{Flow, FlowStatus, Refused, State};
use crate::supervisor::{Goal, Supervisor, Target};

/// Keeps flows running. Its supervisors run on the runtime in which flows are added, so that they never wait behind data.
///
/// What flows are to be is changed by operations; `actions.rs` has them.
pub struct Host {
    launcher: Arc<dyn Launcher>,
    data: Handle,
    policy: RestartPolicy,
    pub(crate) store: Arc<FlowStore>,
    pub(crate) operations: Arc<Operations>,
    flows: Mutex<BTreeMap<String, Supervised>>,
    /// Why the inputs of all flows are held, if they are.
    held: watch::Sender<Option<Reason>>,
    /// The disk with the data, as it was seen last.
    disk: Mutex<Option<DiskSpace>>,
    /// Lets so many texts be checked at a time.
    checks: Arc<Semaphore>,
}

/// How many texts are checked at a time: each takes a thread, for as long as its expressions take that are constant.
const CHECKS: usize = 4;

/// A flow, and its supervisor.
struct Supervised {
    goal: watch::Sender<Goal>,
    /// Why its inputs are held, if they are.
    held: watch::Sender<Option<Reason>>,
    status: watch::Receiver<FlowStatus>,
    wanted: Wanted,
    target: Arc<Target>,
    refused: Option<Refused>,
    supervisor: JoinHandle<()>,
}

impl Host {
    /// A host whose nodes run on `data`, and which keeps in `folder` what is wanted of flows. None runs yet: see [`Host::resume`]. It
    /// waits for a disk.
    ///
    /// # Errors
    /// If what is kept can't be read.
    pub fn open(launcher: Arc<dyn Launcher>, data: Handle, policy: RestartPolicy, folder: &Path) -> Result<Arc<Self>> {
        let store = Arc::new(FlowStore::of_host(folder));
        let operations = Arc::new(Operations::open(folder.join("operations"))?);
        Ok(Arc::new(Self {
            launcher,
            data,
            policy,
            store,
            operations,
            flows: Mutex::default(),
            held: watch::Sender::new(None),
            disk: Mutex::default(),
            checks: Arc::new(Semaphore::new(CHECKS)),
        }))
    }

    /// Checks a text, as it would be run. Nothing is changed.
    ///
    /// # Errors
    /// With all that is wrong with it.
    pub async fn check(&self, source: FlowSource) -> Result<Outline, HostError> {
        self.check_noting(source, Vec::new(), FilesRead::default()).await
    }

    /// The same, as if these nodes started from scratch.
    ///
    /// # Errors
    /// With all that is wrong with it.
    pub async fn check_with_resets(&self, source: FlowSource, resets: Vec<String>) -> Result<Outline, HostError> {
        self.check_noting(source, resets, FilesRead::default()).await
    }

    /// The same, and notes the files that it takes besides the text.
    pub(crate) async fn check_noting(
        &self,
        source: FlowSource,
        resets: Vec<String>,
        files: FilesRead,
    ) -> Result<Outline, HostError> {
        let launcher = self.launcher.clone();
        let turn = self.checks.clone().acquire_owned().await.doing(|| "checking a flow")?;
        let check = move || -> Result<Outline, Diagnostics> {
            // Kept until it is done, also if nobody waits for that any more.
            let _turn = turn;
            launcher.check(&source, &resets, &files)
        };
        Ok(spawn_blocking(check).await.doing(|| "checking a flow")??)
    }

    /// What takes a while and was asked for.
    pub fn operations(&self) -> &Arc<Operations> {
        &self.operations
    }

    /// Texts of flows, and what is wanted of them.
    pub fn store(&self) -> &Arc<FlowStore> {
        &self.store
    }

    /// A flow.
    pub fn flow(&self, name: &str) -> Option<Flow> {
        self.flows().get(name).map(|flow| self.seen(flow))
    }

    /// All flows, by name.
    pub fn all(&self) -> Vec<Flow> {
        self.flows().values().map(|flow| self.seen(flow)).collect()
    }

    /// Holds the inputs of a flow, also if it is started again: they read nothing, while what they have read goes on and checkpoints are
    /// taken. Whether there is one of that name.
    pub fn pause(&self, name: &str) -> bool {
        self.set_held(name, Some("somebody has paused it".into()))
    }

    /// Has the inputs of a flow go on that somebody has paused. Whether there is one of that name.
    pub fn unpause(&self, name: &str) -> bool {
        self.set_held(name, None)
    }

    /// Why the inputs of a flow are held, if somebody wants that.
    pub(crate) fn held(&self, name: &str) -> Option<Reason> {
        self.flows().get(name).and_then(|flow| flow.held.borrow().clone())
    }

    pub(crate) fn set_held(&self, name: &str, reason: Option<Reason>) -> bool {
        self.flows().get(name).map(|flow| flow.held.send_replace(reason)).is_some()
    }

    /// Holds the inputs of all flows for that reason, or no longer.
    pub fn hold(&self, reason: Option<Reason>) {
        self.held.send_replace(reason);
    }

    /// The disk with the data, as it was seen last, if it is watched.
    pub fn disk(&self) -> Option<DiskSpace> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_disk(&self, space: DiskSpace) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = Some(space);
    }

    /// Tells what a flow is doing whenever that changes.
    pub fn watch(&self, name: &str) -> Option<watch::Receiver<FlowStatus>> {
        self.flows().get(name).map(|flow| flow.status.clone())
    }

    /// The flows that are known from the process before, and their owners. Those of files run when these are found unchanged.
    pub(crate) async fn kept(&self) -> Result<Vec<(String, Wanted)>> {
        let store = self.store.clone();
        spawn_blocking(move || store.flows()).await.doing(|| "reading what is wanted of flows")?
    }

    /// Lets flows be as they were wanted in the process before, that were made over the API.
    ///
    /// # Errors
    /// If what is kept can't be read.
    pub async fn resume(&self) -> Result<()> {
        for (flow, wanted) in self.kept().await? {
            if wanted.owner == Owner::Api {
                self.want(&flow, wanted).await?;
            }
        }
        Ok(())
    }

    /// Lets a flow be as it is wanted.
    pub(crate) async fn want(&self, flow: &str, wanted: Wanted) -> Result<()> {
        let target = self.target(flow, &wanted).await?;
        let mut flows = self.flows();
        match flows.get_mut(flow) {
            Some(supervised) => supervised.want(wanted, target),
            None => _ = flows.insert(flow.to_owned(), self.supervise(flow, wanted, target)),
        }
        Ok(())
    }

    /// Keeps what is wanted of a flow, and lets it be so.
    pub(crate) async fn want_from_now_on(&self, flow: &str, wanted: Wanted) -> Result<()> {
        let (store, name, kept) = (self.store.clone(), flow.to_owned(), wanted.clone());
        spawn_blocking(move || store.want(&name, &kept)).await.doing(|| "keeping what is wanted of a flow")??;
        self.want(flow, wanted).await
    }

    /// The texts that a flow is to run from.
    async fn target(&self, flow: &str, wanted: &Wanted) -> Result<Target> {
        let (store, name) = (self.store.clone(), flow.to_owned());
        let (number, fallback, resets) = (wanted.revision, wanted.fallback, wanted.resets.clone());
        let read = move || {
            let missing = || Error::new(format!("revision {number} of the flow `{name}` is gone"));
            let revision = store.revision(&name, number)?.ok_or_else(missing)?;
            let fallback = fallback.map_or(Ok(None), |number| store.revision(&name, number))?;
            Ok(Target { revision, fallback, resets })
        };
        spawn_blocking(read).await.doing(|| "reading the text of a flow")?
    }

    /// What is wanted of a flow.
    pub(crate) fn wanted(&self, flow: &str) -> Result<Wanted, HostError> {
        let flows = self.flows();
        let found = flows.get(flow).map(|supervised| supervised.wanted.clone());
        found.ok_or_else(|| HostError::NoFlow(flow.to_owned()))
    }

    /// Notes that a change of a flow was refused. It goes on as it is.
    pub(crate) fn refuse(&self, flow: &str, revision: Option<u64>, reason: String) {
        if let Some(flow) = self.flows().get_mut(flow) {
            flow.refused = Some(Refused::now(revision, reason));
        }
    }

    /// Lets a flow end now, without a last checkpoint.
    pub(crate) fn abort(&self, flow: &str) {
        if let Some(flow) = self.flows().get(flow) {
            flow.goal.send_replace(Goal::Abort);
        }
    }

    /// Wants a flow to stop without keeping that.
    pub(crate) fn stop_now(&self, flow: &str) {
        if let Some(flow) = self.flows().get(flow) {
            flow.goal.send_replace(Goal::Stop);
        }
    }

    /// Takes a flow away that is at rest.
    pub(crate) async fn take_away(&self, flow: &str) {
        let removed = self.flows().remove(flow);
        if let Some(flow) = removed {
            drop(flow.goal);
            // A supervisor that has panicked has no flow any more.
            let _ = flow.supervisor.await;
        }
    }

    /// Stops all flows at a checkpoint, and aborts those that have not come to one in time. They are as many as it returns; each is
    /// resumed from its last checkpoint. What is wanted of them stays.
    pub async fn shut_down(&self, patience: Duration) -> usize {
        let watched: Vec<_> = {
            let flows = self.flows();
            flows.values().for_each(|flow| _ = flow.goal.send_replace(Goal::Stop));
            flows.values().map(|flow| flow.status.clone()).collect()
        };
        if tokio::time::timeout(patience, all_at_rest(watched.clone())).await.is_ok() {
            return 0;
        }
        let late = watched.iter().filter(|status| !status.borrow().state.is_at_rest()).count();
        self.flows().values().for_each(|flow| _ = flow.goal.send_replace(Goal::Abort));
        let _ = tokio::time::timeout(LAST_MOMENT, all_at_rest(watched)).await;
        late
    }

    /// A new flow, with its supervisor.
    fn supervise(&self, name: &str, wanted: Wanted, target: Target) -> Supervised {
        let target = Arc::new(target);
        let (goal, goals) = watch::channel(goal(&wanted, &target));
        let held = watch::Sender::new(None);
        let holds = Holds::new(self.held.subscribe(), held.subscribe());
        let (sender, status) = watch::channel(FlowStatus::new(name.to_owned()));
        let supervisor = Supervisor::new(self.launcher.clone(), self.data.clone(), self.policy, goals, holds, sender);
        Supervised { goal, held, status, wanted, target, refused: None, supervisor: tokio::spawn(supervisor.run()) }
    }

    fn seen(&self, flow: &Supervised) -> Flow {
        let status = flow.status.borrow().clone();
        Flow {
            owner: flow.wanted.owner.clone(),
            desired: flow.wanted.desired,
            revision: flow.wanted.revision,
            operation: self.operations.of_flow(&status.flow),
            refused: flow.refused.clone().or_else(|| status.went_back.clone()),
            status,
        }
    }

    fn flows(&self) -> MutexGuard<'_, BTreeMap<String, Supervised>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long flows that are aborted have to remove what they have staged.
pub(crate) const LAST_MOMENT: Duration = Duration::from_secs(5);

impl Supervised {
    /// Lets the flow be as it is wanted, unless it is already and does not rest.
    fn want(&mut self, wanted: Wanted, target: Target) {
        let (rests, runs_already) = {
            let status = self.status.borrow();
            let has_gone_back = status.went_back.is_some() && status.revision == wanted.revision;
            (matches!(status.state, State::Failed | State::BackingOff), has_gone_back)
        };
        if self.wanted.revision != wanted.revision && !runs_already {
            (self.target, self.refused) = (Arc::new(target), None);
        }
        self.wanted = wanted;
        let goal = goal(&self.wanted, &self.target);
        self.goal.send_if_modified(|former| {
            let is_other = match (&*former, &goal) {
                (Goal::Run(former), Goal::Run(target)) => rests || !Arc::ptr_eq(former, target),
                (Goal::Stop, Goal::Stop) => false,
                _ => true,
            };
            *former = goal;
            is_other
        });
    }
}

fn goal(wanted: &Wanted, target: &Arc<Target>) -> Goal {
    match wanted.desired {
        Desired::Running => Goal::Run(target.clone()),
        Desired::Stopped => Goal::Stop,
    }
}

async fn all_at_rest(flows: Vec<watch::Receiver<FlowStatus>>) {
    for mut status in flows {
        // Whose supervisor is gone is at rest.
        let _ = status.wait_for(|status| status.state.is_at_rest()).await;
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("flows", &self.all()).finish_non_exhaustive()
    }
}
