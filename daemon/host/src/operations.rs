//! What somebody has asked for and takes a while: each such operation has a number, a state that can be watched, and an end that is kept.
//!
//! It is written down before anybody is told of it, and once more when it has ended. One that a restart of the process has cut off counts
//! as failed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::{Error, Result, ResultExt as _};
use millstream_store::{LocalStore, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::error::HostError;
use crate::status::Took;
use crate::time::Timestamp;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// A flow is to be as a text says.
    Apply,
    /// A flow is to run.
    Start,
    /// A flow is to stop at a checkpoint.
    Stop,
    /// A flow is to stop when all that it has read is out and visible.
    Drain,
    /// A flow is to take a checkpoint.
    Checkpoint,
    /// A flow is to be taken away.
    Remove,
}

/// How far an operation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It is under way.
    Running,
    /// It has come to its end.
    Done,
    /// It has failed, or has not come to its end in time.
    Failed,
    /// Somebody has called it off.
    Cancelled,
}

/// Something that takes a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// Its number, in the order in which they were asked for.
    pub id: u64,
    /// What is asked for.
    pub kind: OperationKind,
    /// Of which flow.
    pub flow: String,
    /// How far it has come.
    pub state: OperationState,
    /// Who has asked for it.
    pub by: String,
    /// When.
    pub submitted: Timestamp,
    /// When something of it has changed last.
    pub updated: Timestamp,
    /// When it counts as failed if it has not come to its end.
    pub deadline: Timestamp,
    /// What it is doing, or has done last, in words.
    pub detail: String,
    /// What has come of it, if it is done: the revision that runs, or the number of the checkpoint.
    pub result: Option<u64>,
    /// Why it has failed.
    pub problem: Option<String>,
    /// How long a flow took to go on from another text, if it ran meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<Took>,
}

/// How many operations are kept that have ended.
const KEPT: usize = 1000;

/// All operations of a process, and the last ones of those before.
pub struct Operations {
    store: Arc<LocalStore>,
    known: Mutex<BTreeMap<u64, watch::Sender<Operation>>>,
    /// Tells whenever an operation has changed.
    changes: tokio::sync::broadcast::Sender<Operation>,
}

/// An operation that is under way. One that is dropped without an end has failed.
pub struct RunningOperation {
    operations: Arc<Operations>,
    operation: watch::Sender<Operation>,
}

impl Operations {
    /// Those that are kept in a folder, which is made when there is something to keep. It waits for a disk.
    pub fn open(folder: PathBuf) -> Result<Self> {
        let store = LocalStore::private(folder);
        let mut known: BTreeMap<u64, watch::Sender<Operation>> = BTreeMap::new();
        for key in store.list("")? {
            let bytes = store.get(&key)?.unwrap_or_default();
            let operation = serde_json::from_slice(&bytes);
            let mut operation: Operation = operation.doing(|| format!("the operation `{key}` is damaged"))?;
            if operation.state == OperationState::Running {
                operation.state = OperationState::Failed;
                operation.problem = Some("the daemon has ended meanwhile; see what the flow is doing now".to_owned());
            }
            // The key of an end is behind that of its beginning.
            known.insert(operation.id, watch::Sender::new(operation));
        }
        let (changes, _) = tokio::sync::broadcast::channel(1024);
        let operations = Self { store: Arc::new(store), known: Mutex::new(known), changes };
        operations.surplus().iter().try_for_each(|id| remove(&operations.store, *id))?;
        Ok(operations)
    }

    /// Writes down that something is asked for.
    ///
    /// # Errors
    /// If another operation on the same flow is under way, or it can't be written down.
    pub async fn begin(
        self: &Arc<Self>,
        kind: OperationKind,
        flow: &str,
        by: &str,
        patience: Duration,
    ) -> Result<RunningOperation, HostError> {
        let operation = self.reserve(kind, flow, by, patience)?;
        let running = RunningOperation { operations: self.clone(), operation: operation.clone() };
        let (store, kept) = (self.store.clone(), operation.borrow().clone());
        let written = spawn_blocking(move || keep(&store, "begun", &kept)).await;
        written.doing(|| "writing down an operation")??;
        let _ = self.changes.send(operation.borrow().clone());
        Ok(running)
    }

    /// Gives an operation its number, unless the flow is busy.
    fn reserve(
        &self,
        kind: OperationKind,
        flow: &str,
        by: &str,
        patience: Duration,
    ) -> Result<watch::Sender<Operation>, HostError> {
        let mut known = self.known();
        let running = known.values().map(|operation| operation.borrow());
        if let Some(other) = running.into_iter().find(|other| other.is_running() && other.flow == flow) {
            return Err(HostError::Busy { flow: flow.to_owned(), operation: other.id });
        }
        let id = known.last_key_value().map_or(1, |(last, _)| last + 1);
        let now = Timestamp::now();
        let operation = watch::Sender::new(Operation {
            id,
            kind,
            flow: flow.to_owned(),
            state: OperationState::Running,
            by: by.to_owned(),
            submitted: now,
            updated: now,
            deadline: Timestamp::after(patience),
            detail: String::new(),
            result: None,
            problem: None,
            took: None,
        });
        known.insert(id, operation.clone());
        Ok(operation)
    }

    /// The operation of that number.
    pub fn find(&self, id: u64) -> Option<watch::Receiver<Operation>> {
        self.known().get(&id).map(watch::Sender::subscribe)
    }

    /// All operations, the newest first.
    pub fn list(&self) -> Vec<Operation> {
        self.known().values().rev().map(|operation| operation.borrow().clone()).collect()
    }

    /// The operation on a flow that is under way.
    pub fn of_flow(&self, flow: &str) -> Option<u64> {
        let known = self.known();
        let mut newest = known.values().rev().map(|operation| operation.borrow());
        newest.find(|operation| operation.is_running() && operation.flow == flow).map(|operation| operation.id)
    }

    /// Tells whenever an operation has changed. Who reads too slowly misses some.
    pub fn changes(&self) -> tokio::sync::broadcast::Receiver<Operation> {
        self.changes.subscribe()
    }

    /// Calls an operation off. Whether it was under way.
    pub fn cancel(&self, id: u64) -> bool {
        let operation = self.known().get(&id).cloned();
        operation.is_some_and(|operation| {
            operation.send_if_modified(|operation| {
                let is_running = operation.is_running();
                if is_running {
                    operation.state = OperationState::Cancelled;
                    operation.updated = Timestamp::now();
                }
                is_running
            })
        })
    }

    /// The oldest operations, of which there are too many.
    fn surplus(&self) -> Vec<u64> {
        let mut known = self.known();
        let ended: Vec<u64> = known.iter().filter(|(_, one)| !one.borrow().is_running()).map(|(id, _)| *id).collect();
        let surplus = ended[..ended.len().saturating_sub(KEPT)].to_vec();
        surplus.iter().for_each(|id| _ = known.remove(id));
        surplus
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, watch::Sender<Operation>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation {
    /// Whether it is under way.
    pub fn is_running(&self) -> bool {
        self.state == OperationState::Running
    }

    /// Ends it, if it has not ended.
    fn settle(&mut self, ended: Result<u64, String>) {
        if !self.is_running() {
            return;
        }
        self.updated = Timestamp::now();
        match ended {
            Ok(result) => (self.state, self.result) = (OperationState::Done, Some(result)),
            Err(problem) => (self.state, self.problem) = (OperationState::Failed, Some(problem)),
        }
    }
}

impl RunningOperation {
    /// What it is now, and what becomes of it.
    pub fn watch(&self) -> watch::Receiver<Operation> {
        self.operation.subscribe()
    }

    /// Notes how long the flow took to go on from another text.
    pub fn took(&self, took: Took) {
        self.change(|operation| operation.took = Some(took));
    }

    /// Says what it is doing.
    pub fn say(&self, detail: impl Into<String>) {
        self.change(|operation| operation.detail = detail.into());
    }

    /// Waits until somebody calls it off.
    pub async fn cancelled(&self) {
        let mut operation = self.watch();
        // The sender is here, so that it does not go away.
        let _ = operation.wait_for(|operation| operation.state == OperationState::Cancelled).await;
    }

    /// Ends it: with what has come of it, or why it has failed. One that was called off stays so. Nobody is told before it is written
    /// down, so that no crash makes another end of it.
    pub async fn end(&self, ended: Result<u64, String>) {
        let mut last = self.operation.borrow().clone();
        last.settle(ended);
        let (store, surplus, kept) = (self.operations.store.clone(), self.operations.surplus(), last.clone());
        let written = spawn_blocking(move || {
            keep(&store, "ended", &kept)?;
            surplus.iter().try_for_each(|id| remove(&store, *id))
        });
        if let Err(error) = written.await.doing(|| "writing down the end of an operation").flatten() {
            tracing::error!("{error}; when the daemon is started again, the operation counts as failed");
        }
        self.change(|operation| *operation = last);
    }

    fn change(&self, change: impl FnOnce(&mut Operation)) {
        self.operation.send_modify(|operation| {
            change(operation);
            operation.updated = Timestamp::now();
        });
        let _ = self.operations.changes.send(self.operation.borrow().clone());
    }
}

impl Drop for RunningOperation {
    fn drop(&mut self) {
        if self.operation.borrow().is_running() {
            self.change(|operation| {
                operation.settle(Err("it was left unfinished by a defect of the daemon; its log says more".to_owned()))
            });
        }
    }
}

fn keep(store: &LocalStore, point: &str, operation: &Operation) -> Result<()> {
    let bytes = serde_json::to_vec(operation).map_err(|error| Error::caused_by("keeping an operation", error))?;
    store.put_new(&format!("{:08}-{point}.json", operation.id), &bytes).map(drop)
}

fn remove(store: &LocalStore, id: u64) -> Result<()> {
    // The end goes last, so that what is left is not taken for one that was cut off.
    ["begun", "ended"].iter().try_for_each(|point| store.delete(&format!("{id:08}-{point}.json")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn open(folder: &tempfile::TempDir) -> Arc<Operations> {
        Arc::new(Operations::open(folder.path().join("operations")).unwrap())
    }

    #[tokio::test]
    async fn an_operation_is_kept_and_a_flow_has_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let operations = open(&folder);
        let first = operations.begin(OperationKind::Stop, "fraud", "ada", PATIENCE).await.unwrap();
        let busy = operations.begin(OperationKind::Start, "fraud", "bob", PATIENCE).await;
        assert!(matches!(busy, Err(HostError::Busy { operation: 1, .. })));
        let other = operations.begin(OperationKind::Start, "spam", "bob", PATIENCE).await.unwrap();
        assert_eq!(operations.of_flow("spam"), Some(2));
        first.say("waiting for the last checkpoint");
        first.end(Ok(7)).await;
        other.end(Err("there is no broker".to_owned())).await;
        let kept = open(&folder).list();
        assert_eq!(kept.iter().map(|one| one.id).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((kept[0].state, kept[0].problem.as_deref()), (OperationState::Failed, Some("there is no broker")));
        assert_eq!((kept[1].state, kept[1].result), (OperationState::Done, Some(7)));
    }

    #[tokio::test]
    async fn one_that_is_cut_off_or_dropped_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let operations = open(&folder);
        let cut_off = operations.begin(OperationKind::Stop, "fraud", "ada", PATIENCE).await.unwrap();
        let before = &open(&folder).list()[0];
        assert_eq!(before.state, OperationState::Failed);
        assert!(before.problem.as_ref().unwrap().contains("has ended meanwhile"));
        let watched = cut_off.watch();
        drop(cut_off);
        assert_eq!(watched.borrow().state, OperationState::Failed);
    }

    #[tokio::test]
    async fn one_that_is_called_off_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let operations = open(&folder);
        let running = operations.begin(OperationKind::Stop, "fraud", "ada", PATIENCE).await.unwrap();
        assert!(operations.cancel(1) && !operations.cancel(1) && !operations.cancel(2));
        running.cancelled().await;
        running.end(Ok(7)).await;
        assert_eq!(open(&folder).list()[0].state, OperationState::Cancelled);
    }
}
