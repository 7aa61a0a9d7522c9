//! A checkpoint is decided: what every node has handed over is written, and counts.

use std::collections::BTreeMap;

use chrono::Utc;
use millstream_core::{Barrier, Epoch, PendingCommit, Result, ResultExt, Role, Snapshot, State, Then};
use millstream_store::crash;
use serde_json::json;
use tokio::time::Instant;

use super::{Coordinator, Node, Visibility};
use crate::checkpoint::commits::Job;
use crate::checkpoint::failure::Failure;
use crate::checkpoint::flow_checkpoints::FlowCheckpoints;
use crate::checkpoint::pieces::Pieces;
use crate::checkpoint::replay_log::ReplayLog;
use crate::checkpoint::reporter::CompletedCheckpoints;
use crate::plan::NodeIndex;
use crate::stats::{CheckpointStats, CheckpointedNode, CompletedCheckpoint, Trigger};

impl Coordinator {
    /// Decides a checkpoint, and has committed what is staged.
    pub(super) async fn decide(&mut self, barrier: Barrier) -> Result<(), Failure> {
        crash::point("snapshots-gathered");
        let number = self.checkpoints.as_ref().map(FlowCheckpoints::next_number);
        let mut replay_log = ReplayLog { epoch: barrier.epoch, ..ReplayLog::default() };
        let mut snapshots = Vec::new();
        for node in &mut self.nodes {
            let (snapshot, events) = node.take_report(barrier).unzip();
            replay_log.add(&node.name, events.unwrap_or_default());
            snapshots.push(snapshot);
        }
        for (node, snapshot) in snapshots.iter_mut().enumerate() {
            snapshot.iter_mut().for_each(|snapshot| self.add_lineages(node, barrier, number, snapshot));
        }
        let begin = Instant::now();
        let staged = self.write(barrier, snapshots, replay_log).await?;
        if let Some(number) = number {
            let completed = self.completed_checkpoint(number, begin, barrier.then);
            self.stats.checkpoint_completed(completed);
        }
        self.tracker.checkpoint_completed(barrier.epoch);
        self.forget()?;
        for (node, staged) in staged.into_iter().enumerate() {
            match &self.effects {
                Visibility::None => {}
                Visibility::Watched(watch) => watch(&self.nodes[node].name, &staged),
                Visibility::Committed if staged.is_empty() => {}
                Visibility::Committed => {
                    let context = self.context(node, number.unwrap_or_default(), barrier.epoch);
                    self.push(node, Job::Commit(PendingCommit { staged, context }))?;
                }
            }
        }
        if self.border == Some(barrier.epoch) {
            // The flow stands still, and the one that goes on can do the rest.
            return Ok(());
        }
        self.mark().await?;
        self.remove_old(barrier.epoch).await
    }

    /// What is said of a checkpoint that has just become durable.
    fn completed_checkpoint(&mut self, number: u64, begin: Instant, then: Then) -> CompletedCheckpoint {
        let inputs = self.nodes.iter().filter(|node| node.entry.role == Role::Input);
        let rows_read = inputs.map(|node| node.entry.counters.rows_in).sum();
        let at = Instant::now();
        let part = |node: &Node| CheckpointedNode { rows_in: node.entry.counters.rows_in, bytes: node.entry.bytes() };
        let nodes: BTreeMap<_, _> = self.nodes.iter().map(|node| (node.name.clone(), part(node))).collect();
        let bytes = nodes.values().map(|node| node.bytes).sum();
        let stats = CheckpointStats { number, rows_read, took: at - begin, bytes, at, written: Utc::now().into() };
        let trigger = match then {
            Then::Continue if std::mem::take(&mut self.is_asked) => Trigger::Asked,
            Then::Continue => Trigger::Interval,
            Then::Stop => Trigger::Stop,
            Then::End => Trigger::End,
        };
        CompletedCheckpoint { stats, trigger, nodes }
    }

    /// Writes the manifest, if the flow keeps state. What was staged, by node.
    async fn write(
        &mut self,
        barrier: Barrier,
        mut snapshots: Vec<Option<Snapshot>>,
        replay_log: ReplayLog,
    ) -> Result<Vec<State>, Failure> {
        self.last = barrier.epoch;
        let mut entries: Vec<_> = self.nodes.iter().map(|node| (node.name.clone(), node.entry.clone())).collect();
        let checkpoints = self.checkpoints.clone();
        let pieces = self.nodes.iter().map(|node| node.pieces.clone()).filter(|_| self.until.is_some());
        let mut pieces: Vec<_> = pieces.collect();
        // Turning states into bytes, hashing and writing them takes a while, in which data must not wait.
        let written = tokio::task::spawn_blocking(move || {
            let staged = match &checkpoints {
                None => {
                    follow(&mut pieces, &mut snapshots)?;
                    let staged = snapshots.into_iter().map(|one| one.unwrap_or_default().staged.into_state());
                    let staged = staged.enumerate().map(|(node, staged)| staged.map_err(Failure::of(node)));
                    staged.collect::<Result<_, Failure>>()?
                }
                Some(checkpoints) => checkpoints.write(barrier, &mut entries, snapshots, replay_log)?,
            };
            Ok::<_, Failure>((entries, pieces, staged))
        });
        let (entries, pieces, staged) = written.await.doing(|| "writing a checkpoint")??;
        for (node, (_, entry)) in self.nodes.iter_mut().zip(entries) {
            node.entry = entry;
        }
        for (node, pieces) in self.nodes.iter_mut().zip(pieces) {
            node.pieces = pieces;
        }
        Ok(staged)
    }

    /// Removes the checkpoints that are too old, and tells inputs which are left.
    pub(super) async fn remove_old(&mut self, newest: Epoch) -> Result<(), Failure> {
        let Some(checkpoints) = self.checkpoints.clone() else { return Ok(()) };
        let removed = tokio::task::spawn_blocking(move || checkpoints.remove_old()).await;
        let oldest = removed.doing(|| "removing old checkpoints")??;
        self.completed.send_replace(CompletedCheckpoints { newest, oldest });
        Ok(())
    }

    /// Tells a node's versions which rows they have learned of.
    fn add_lineages(&self, node: NodeIndex, barrier: Barrier, number: Option<u64>, snapshot: &mut Snapshot) {
        if snapshot.versions.is_empty() {
            return;
        }
        let resets = self.checkpoints.as_ref().map(|checkpoints| checkpoints.resets(&self.nodes[node].name));
        let resets = resets.unwrap_or_default();
        let lineages = snapshot.versions.iter().map(|epoch| {
            let sources = self.nodes[node].sources.iter();
            let inputs =
                sources.filter_map(|input| Some((self.nodes[*input].name.clone(), self.tracker.at(*input, *epoch)?)));
            let inputs: serde_json::Map<_, _> = inputs.collect();
            let mut lineage = json!({ "checkpoint": number, "epoch": epoch.0.min(barrier.epoch.0), "inputs": inputs });
            resets.add_to(&mut lineage);
            lineage
        });
        let lineages = serde_json::Value::Array(lineages.collect());
        snapshot.staged.put_bytes(PendingCommit::LINEAGES, lineages.to_string().into_bytes());
    }
}

/// Keeps the states of those nodes that hand some over, where there are any to be kept.
fn follow(kept: &mut [Pieces], snapshots: &mut [Option<Snapshot>]) -> Result<(), Failure> {
    for (node, (pieces, snapshot)) in kept.iter_mut().zip(snapshots).enumerate() {
        if let Some(snapshot) = snapshot {
            *pieces = pieces.followed_by(std::mem::take(&mut snapshot.state)).map_err(Failure::of(node))?;
        }
    }
    Ok(())
}
