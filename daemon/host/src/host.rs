//! The flows of a process, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::launch::{FlowSource, Launcher};
use crate::restart::RestartPolicy;
use crate::status::{FlowStatus, State};
use crate::supervisor::{Goal, Revision, Supervisor};

/// Keeps flows running. Its supervisors run on the runtime in which flows are added, so that they never wait behind data.
pub struct Host {
    launcher: Arc<dyn Launcher>,
    data: Handle,
    policy: RestartPolicy,
    flows: Mutex<BTreeMap<String, Supervised>>,
}

/// A flow, and its supervisor.
struct Supervised {
    goal: watch::Sender<Goal>,
    status: watch::Receiver<FlowStatus>,
    revision: Arc<Revision>,
    supervisor: JoinHandle<()>,
}

impl Host {
    /// A host without flows, whose nodes run on `data`.
    pub fn new(launcher: Arc<dyn Launcher>, data: Handle, policy: RestartPolicy) -> Self {
        Self { launcher, data, policy, flows: Mutex::default() }
    }

    /// How flows are brought to run.
    pub fn launcher(&self) -> Arc<dyn Launcher> {
        self.launcher.clone()
    }

    /// Wants a flow to run from a text. One that runs from another text stops at a checkpoint, and is started again from there.
    /// Returns the number of the revision, which is the one before if the text is.
    pub fn put(&self, name: &str, source: FlowSource) -> u64 {
        let mut flows = self.flows();
        match flows.get_mut(name) {
            Some(flow) => {
                if flow.revision.source != source {
                    flow.revision = Arc::new(Revision { number: flow.revision.number + 1, source });
                }
                flow.run();
                flow.revision.number
            }
            None => {
                flows.insert(name.to_owned(), self.supervise(name, source));
                1
            }
        }
    }

    /// Wants a flow to run that was stopped or has failed. Whether there is one of that name.
    pub fn start(&self, name: &str) -> bool {
        self.flows().get(name).map(Supervised::run).is_some()
    }

    /// Wants a flow to stop at a checkpoint. Whether there is one of that name.
    pub fn stop(&self, name: &str) -> bool {
        self.flows().get(name).map(|flow| flow.goal.send_replace(Goal::Stop)).is_some()
    }

    /// Takes a flow away, and waits until it has stopped at a checkpoint. Its state stays. Whether there was one of that name.
    pub async fn remove(&self, name: &str) -> bool {
        let removed = self.flows().remove(name);
        let Some(flow) = removed else { return false };
        flow.goal.send_replace(Goal::Stop);
        drop(flow.goal);
        // A supervisor that has panicked has no flow any more.
        let _ = flow.supervisor.await;
        true
    }

    /// What a flow is doing.
    pub fn status(&self, name: &str) -> Option<FlowStatus> {
        self.flows().get(name).map(|flow| flow.status.borrow().clone())
    }

    /// What all flows are doing, by name.
    pub fn statuses(&self) -> Vec<FlowStatus> {
        self.flows().values().map(|flow| flow.status.borrow().clone()).collect()
    }

    /// Tells what a flow is doing whenever that changes.
    pub fn watch(&self, name: &str) -> Option<watch::Receiver<FlowStatus>> {
        self.flows().get(name).map(|flow| flow.status.clone())
    }

    /// Stops all flows at a checkpoint, and aborts those that have not come to one in time. They are as many as it returns; each is
    /// resumed from its last checkpoint.
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
    fn supervise(&self, name: &str, source: FlowSource) -> Supervised {
        let revision = Arc::new(Revision { number: 1, source });
        let (goal, wanted) = watch::channel(Goal::Run(revision.clone()));
        let (sender, status) = watch::channel(FlowStatus::new(name.to_owned()));
        let supervisor = Supervisor::new(self.launcher.clone(), self.data.clone(), self.policy, wanted, sender);
        Supervised { goal, status, revision, supervisor: tokio::spawn(supervisor.run()) }
    }

    fn flows(&self) -> MutexGuard<'_, BTreeMap<String, Supervised>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long flows that are aborted have to remove what they have staged.
const LAST_MOMENT: Duration = Duration::from_secs(5);

impl Supervised {
    /// Wants the flow to run from its revision, unless that is so already and it does not rest.
    fn run(&self) {
        let is_wanted = |goal: &Goal| matches!(goal, Goal::Run(revision) if Arc::ptr_eq(revision, &self.revision));
        let rests = matches!(self.status.borrow().state, State::Failed | State::BackingOff);
        self.goal.send_if_modified(|goal| {
            let is_other = rests || !is_wanted(goal);
            *goal = Goal::Run(self.revision.clone());
            is_other
        });
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
        f.debug_struct("Host").field("flows", &self.statuses()).finish_non_exhaustive()
    }
}
