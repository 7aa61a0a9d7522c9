//! What checkpoints have decided becomes visible.

use std::sync::Arc;

use millstream_core::{CommitContext, Epoch, PendingCommit, Result, ResultExt, Role, State, Then};

use super::{Coordinator, Node};
use crate::checkpoint::commits::{Done, Job};
use crate::checkpoint::failure::Failure;
use crate::checkpoint::flow_checkpoints::FlowCheckpoints;
use crate::phase::{Phase, reached};
use crate::plan::NodeIndex;
use crate::retry::LAST_PATIENCE;

/// What becomes of what is staged.
#[derive(Clone)]
pub enum Visibility {
    /// Nothing: it is undone.
    None,
    /// It becomes visible.
    Committed,
    /// Somebody looks at it, node by node; then it is undone.
    Watched(Watcher),
}

/// Looks at what a node has staged.
pub type Watcher = Arc<dyn Fn(&str, &State) + Send + Sync>;

impl std::fmt::Debug for Visibility {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Committed => "Committed",
            Self::Watched(_) => "Watched",
        })
    }
}

impl Coordinator {
    /// Makes visible what the checkpoints of runs before have decided, whether or not that has been done, and undoes what they
    /// have not decided.
    pub async fn recover(&mut self) -> Result<(), Failure> {
        let Some(checkpoints) = self.checkpoints.clone() else { return Ok(()) };
        for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].run.is_none()).collect::<Vec<_>>() {
            let pending = self.pending(node, &checkpoints).map_err(Failure::of(node))?;
            if !self.commits.has_committer(node) && pending.is_empty() {
                continue;
            }
            // What somebody has taken away of the rows of a flow that has ended does not come again. Versions of models tell
            // their nodes their numbers.
            if !(checkpoints.is_visible() && self.nodes[node].entry.role == Role::Output) {
                let run = self.context(node, checkpoints.number(), self.last);
                self.push(node, Job::Recover(pending.clone(), run))?;
            }
            self.unmarked.extend(pending.into_iter().map(|stage| (node, stage)));
        }
        for (name, pieces) in checkpoints.forgotten() {
            let Some(node) = self.nodes.iter().position(|node| node.name == name) else { continue };
            if self.commits.has_committer(node) {
                let state = checkpoints.store().state(&pieces).map_err(Failure::of(node))?;
                self.forgotten.push((node, state));
            }
        }
        // A flow that goes on in place of another may have to give way to it again, until it has a checkpoint of its own.
        if !self.has_inherited {
            self.forget()?;
        }
        self.drain_new().await?;
        self.nodes.iter_mut().filter(|node| node.run.is_none()).for_each(|node| node.entry.pending.clear());
        // Of a flow that goes on in place of another, which stands still meanwhile, it is marked later on.
        if self.has_inherited {
            return Ok(());
        }
        self.mark().await?;
        self.drain().await
    }

    /// What nodes had staged that begin from scratch is not needed any more.
    pub(super) fn forget(&mut self) -> Result<(), Failure> {
        for (node, state) in std::mem::take(&mut self.forgotten) {
            self.push(node, Job::Abort(state))?;
        }
        Ok(())
    }

    /// Waits until there is nothing left to commit of nodes that do not go on as they were.
    async fn drain_new(&mut self) -> Result<(), Failure> {
        self.drain_nodes(|node| node.run.is_none()).await
    }

    /// What has been decided of a node, and may not be visible.
    fn pending(&self, node: NodeIndex, checkpoints: &FlowCheckpoints) -> Result<Vec<PendingCommit>> {
        let Node { entry, .. } = &self.nodes[node];
        let pending = entry.pending.iter().map(|stage| {
            let staged = checkpoints.store().state(&stage.pieces)?;
            Ok(PendingCommit { staged, context: self.context(node, stage.checkpoint, stage.epoch) })
        });
        pending.collect()
    }

    pub(super) fn context(&self, node: NodeIndex, checkpoint: u64, epoch: Epoch) -> CommitContext {
        // Targets tell a run without state from the one before by its name.
        let of_flow = || self.checkpoints.as_ref().map_or_else(|| self.run.clone(), FlowCheckpoints::run);
        let run = self.nodes[node].run.clone().unwrap_or_else(of_flow);
        let name = self.nodes[node].name.clone();
        CommitContext {
            flow: self.flow.clone(),
            home: self.checkpoints.as_ref().map(|checkpoints| checkpoints.home(&name)).unwrap_or_default(),
            node: name,
            incarnation: run.incarnation,
            generation: run.generation,
            checkpoint,
            epoch,
        }
    }

    pub(super) fn push(&mut self, node: NodeIndex, job: Job) -> Result<(), Failure> {
        self.commits.push(node, job).map_err(Failure::of(node))
    }

    /// Behind the last checkpoint: waits until everything is visible. A flow that is to stop leaves what can't be committed now to
    /// the next run.
    pub(super) async fn conclude(&mut self, last: Then) -> Result<(), Failure> {
        if last == Then::Stop {
            self.phase.send_modify(|phase| *phase = (*phase).max(Phase::Stopped));
        }
        let mut stopping = self.phase.subscribe();
        let patience = async move {
            reached(&mut stopping, Phase::Draining).await;
            tokio::time::sleep(LAST_PATIENCE).await;
        };
        tokio::select! {
            drained = self.drain() => {
                drained?;
                // A run before may have decided the last checkpoint, and have come no further.
                return self.remove_old(self.last).await;
            }
            () = patience => self.commits.stop_retries(),
        }
        match (self.drain().await, last) {
            // It is said with the counters of the node.
            (Err(_), Then::Stop) if self.checkpoints.is_some() => Ok(()),
            (drained, _) => drained,
        }
    }

    /// Waits until there is nothing left to commit.
    async fn drain(&mut self) -> Result<(), Failure> {
        self.drain_nodes(|_| true).await
    }

    pub(super) async fn drain_nodes(&mut self, is_waited_for: impl Fn(&Node) -> bool) -> Result<(), Failure> {
        while self.nodes.iter().enumerate().any(|(index, node)| is_waited_for(node) && !self.commits.is_idle(index)) {
            let done = self.commits.next().await;
            self.take_done(done).await?;
        }
        Ok(())
    }

    /// A committer has done what it was asked for.
    pub(super) async fn take_done(&mut self, done: Done) -> Result<(), Failure> {
        let Done { node, committed, result } = done;
        result.map_err(Failure::of(node))?;
        let Some(stage) = committed else { return Ok(()) };
        self.nodes[node].entry.pending.retain(|pending| pending.checkpoint != stage.context.checkpoint);
        self.unmarked.push((node, stage));
        self.mark().await
    }

    /// Writes down up to which checkpoint everything is visible, and lets committers drop what proved it.
    pub(super) async fn mark(&mut self) -> Result<(), Failure> {
        let Some(checkpoints) = self.checkpoints.clone() else { return Ok(()) };
        let pending = self.nodes.iter().flat_map(|node| &node.entry.pending).map(|stage| stage.checkpoint).min();
        let visible = pending.map_or(checkpoints.number(), |first| first - 1);
        if visible <= self.marked {
            return Ok(());
        }
        let marked = tokio::task::spawn_blocking(move || checkpoints.mark_committed(visible)).await;
        marked.doing(|| "noting what is visible")??;
        self.marked = visible;
        let is_marked = |(_, stage): &mut (NodeIndex, PendingCommit)| stage.context.checkpoint <= visible;
        for (node, stage) in self.unmarked.extract_if(.., is_marked).collect::<Vec<_>>() {
            self.push(node, Job::Committed(stage))?;
        }
        Ok(())
    }
}
