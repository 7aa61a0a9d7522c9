//! Checkpoints: what is needed to go on from a barrier, and the one decision that makes everything before it count.
//!
//! 1. The [`Schedule`] picks a barrier that no input has come to yet. At that barrier every node hands over its snapshot,
//!    and goes on.
//! 2. The [`Coordinator`] gathers the snapshots, writes what is large as blobs, then the [`Manifest`]: created if absent,
//!    never changed. *That is the decision.* It also ends the ownership of whoever else ran the flow.
//! 3. Nodes' committers make visible what was staged. Each can be repeated, so a crash in between is no matter: the
//!    next run begins by doing it again.
//! 4. Inputs hear what is covered, and older checkpoints are removed.
//!
//! A run without state is the same with a single checkpoint, at its end, of which nothing is written.

mod checkpoint_store;
mod commits;
mod coordinator;
mod failure;
mod fit;
mod flow_checkpoints;
mod kept;
mod latest;
mod lineage;
mod lineage_resets;
mod manifest;
mod options;
mod owner;
mod pieces;
mod renamed;
mod replay_log;
mod reporter;
mod resume;
mod revisions;
mod schedule;

pub use checkpoint_store::CheckpointStore;
pub use coordinator::{Conclusion, Coordinator, Legacy, NodeLegacy, Visibility, Watcher};
pub use failure::Failure;
pub use fit::{ANEW, rename_nodes};
pub use flow_checkpoints::{FlowCheckpoints, homes};
pub use kept::{kept_behind, kept_states};
pub use lineage_resets::{LineageResets, RowRange};
pub use manifest::{
    FanIn, FanInEdge, KeyGroups, Manifest, NodeEntry, NodePhase, PendingStage, Piece, PieceKey, WatermarkState,
};
pub use options::ResumeOptions;
pub use owner::draw_incarnation;
pub use pieces::Pieces;
pub use renamed::flows;
pub use replay_log::{FanInEvent, InputEvent, Recorder, ReplayEvents, ReplayLog};
pub use reporter::{CompletedCheckpoints, Point, Reporter};
pub use resume::{NodeResume, Recorded, Replay, StartPoint};
pub use revisions::RevisionStart;
pub use schedule::Schedule;
