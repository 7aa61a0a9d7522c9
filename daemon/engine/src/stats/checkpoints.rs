//! The checkpoints that a flow has completed lately: when, why, how long each took, and how much it is of.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

/// How many are remembered.
const REMEMBERED: usize = 100;

/// What is known of a checkpoint that a run has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointStats {
    /// Its number.
    pub number: u64,
    /// How many rows all inputs together had read at its barrier, since the flow began.
    pub rows_read: u64,
    /// How long it took from the snapshot of the last node until it was durable.
    pub took: Duration,
    /// How many bytes the states of all nodes have, and what they have staged.
    pub bytes: u64,
    /// When it was durable.
    pub at: Instant,
    /// The same by the clock of the machine, for people.
    pub written: SystemTime,
}

/// What is known of the checkpoint that a run goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumedCheckpoint {
    /// Its number.
    pub number: u64,
    /// How many bytes the states of all nodes have, and what they have staged.
    pub bytes: u64,
    /// When it was written.
    pub written: SystemTime,
}

/// Why a checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its time had come.
    Interval,
    /// Somebody, or a node with much to keep, has asked for it.
    Asked,
    /// The flow stopped there.
    Stop,
    /// All inputs had ended.
    End,
}

/// What a checkpoint has of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckpointedNode {
    /// Rows that had arrived since the flow began; of an input, rows that were read.
    pub rows_in: u64,
    /// How many bytes its state has, and what it has staged.
    pub bytes: u64,
}

/// A checkpoint that was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedCheckpoint {
    /// What is known of it.
    pub stats: CheckpointStats,
    /// Why it was taken.
    pub trigger: Trigger,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, CheckpointedNode>,
}

/// The checkpoints that were completed lately, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<CompletedCheckpoint>);

impl History {
    pub fn add(&mut self, checkpoint: CompletedCheckpoint) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(checkpoint);
    }

    pub fn all(&self) -> impl Iterator<Item = &CompletedCheckpoint> {
        self.0.iter()
    }
}
