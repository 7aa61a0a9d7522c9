//! Commits: how what a node has staged becomes visible, once a checkpoint has decided that it counts.

use async_trait::async_trait;
use serde_json::Value;

use crate::{Epoch, Home, Result, ResultExt, State};

/// Which stage of which flow is committed, and by which run.
///
/// Committers write it into the target, in the same transaction as the rows, and compare it with what they find there: the target
/// then knows which commits it has, and which runs are former ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitContext {
    /// The flow's name.
    pub flow: String,
    /// The node's name.
    pub node: String,
    /// A random name that was drawn when the flow's state began. Checkpoints and epochs of another state begin at 1 again, so that
    /// only those of the same incarnation can be compared.
    pub incarnation: String,
    /// The number of the checkpoint by which this run took the flow over, above those of all runs before it. A target that knows
    /// a higher one has been taken over by another run. 0 without state.
    pub generation: u64,
    /// The number of the checkpoint that has decided the stage: above those of all stages before it. 0 without state.
    pub checkpoint: u64,
    /// The last epoch whose rows are in the stage.
    pub epoch: Epoch,
    /// Where the node keeps what it has staged, if that is not in the stage itself. Names of files in it are best kept relative to
    /// it: a state may be moved.
    pub home: Home,
}

/// What a node has staged, and a checkpoint has decided, which may not be visible yet.
#[derive(Clone, Debug)]
pub struct PendingCommit {
    /// What the node has handed over in [`Snapshot::staged`](crate::Snapshot).
    pub staged: State,
    /// Which stage it is.
    pub context: CommitContext,
}

impl PendingCommit {
    /// The part of what is staged in which the engine tells which rows versions have learned of.
    pub const LINEAGES: &'static str = "lineages";

    /// Which rows the versions of a model have learned of that the node has named in
    /// [`Snapshot::versions`](crate::Snapshot::versions), in their order: how far its inputs had come.
    ///
    /// # Errors
    /// If that can't be read.
    pub fn lineages(staged: &State) -> Result<Vec<Value>> {
        if staged.has(Self::LINEAGES) {
            serde_json::from_slice(staged.bytes(Self::LINEAGES)?).doing(|| "reading which rows were learned")
        } else {
            Ok(Vec::new())
        }
    }
}

/// Makes visible what a node has staged, once a checkpoint has decided that it counts.
///
/// It is a thing of its own, so that rows, checkpoints and the node go on meanwhile: stages of a node are committed one after the
/// other, in their order, however far the flow has come. An error whose class is [transient](crate::ErrorClass::Transient) is
/// tried again with growing pauses, any other one ends the flow.
///
/// Any commit may come again: after a crash, from a process that was thought dead, while another one is under way, and after
/// newer ones. It must be without effect then, for which the target has to be asked what it has.
/// A target that keeps, in one transaction, the rows and which commit they are of. It then knows what it has:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// use millstream_core::{CommitContext, Committer, PendingCommit, Result, State};
///
/// #[derive(Clone, Default)]
/// struct Table(Arc<Mutex<HashMap<(String, String), (u64, u64)>>>);
///
/// #[async_trait::async_trait]
/// impl Committer for Table {
///     async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
///         let CommitContext { incarnation, node, checkpoint, .. } = &pending.context;
///         let mut table = self.0.lock().unwrap();
///         let (last, rows) = table.entry((incarnation.clone(), node.clone())).or_default();
///         // One that comes again, or late, is without effect.
///         if checkpoint > last {
///             *rows += pending.staged.get::<u64>("rows")?;
///             *last = *checkpoint;
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let mut table = Table::default();
/// let staged = State::new([("rows".to_owned(), vec![5])]);
/// let pending = PendingCommit { staged, context: CommitContext { checkpoint: 1, ..CommitContext::default() } };
/// table.commit(&pending).await?;
/// table.commit(&pending).await?;
/// assert_eq!(table.0.lock().unwrap().values().next(), Some(&(1, 5)));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Committer: Send {
    /// Makes visible what was staged.
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()>;

    /// Brings the target to where the last checkpoint of a run before has left the node, before the node is opened: makes visible
    /// all that is pending, and undoes what no checkpoint has decided. Called in every run with state, in which `run` says which it is,
    /// and by which checkpoint it took the flow over: the target can be told that from now on it is this run's.
    async fn recover(&mut self, pending: &[PendingCommit], _run: &CommitContext) -> Result<()> {
        for one in pending {
            self.commit(one).await?;
        }
        Ok(())
    }

    /// It has been written down that the stage is visible, so that no run will commit it again: what proved that it is can go.
    /// Not called where a crash comes first, unless the flow had come to its end.
    async fn committed(&mut self, _pending: &PendingCommit) -> Result<()> {
        Ok(())
    }

    /// The node begins from scratch, and nobody will resume it from this state: what it refers to can go, but for what is visible.
    async fn abort(&mut self, _state: &State) -> Result<()> {
        Ok(())
    }
}
