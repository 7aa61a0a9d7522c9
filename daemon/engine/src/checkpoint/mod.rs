//! Checkpoints: what is needed to go on from a border, and the one decision that makes everything before it count.
//!
//! 1. The [`Schedule`] picks a border that no input has come to yet. At that border every node hands over its snapshot,
//!    and goes on.
//! 2. The [`Coordinator`] gathers the snapshots, writes what is large as blobs, then the [`Manifest`]: created if absent,
//!    never changed. *That is the decision.* It also ends the ownership of whoever else ran the flow.
//! 3. Nodes' committers make visible what was staged. Each can be repeated, so a crash in between is no matter: the
//!    next run begins by doing it again.
//! 4. Inputs hear what is covered, and older checkpoints are removed.
//!
//! A run without state is the same with a single checkpoint, at its end, of which nothing is written.

mod coordinator;
mod decisions;
mod fit;
mod keeper;
mod kept;
mod lineage;
mod manifest;
mod owner;
mod renamed;
mod resume;
mod schedule;
mod vault;

pub use coordinator::{Coordinator, Covered, Point, Reporter, Settled, Visibility, Watcher};
pub use decisions::{Decisions, InputStep, Notes, OrderStep, Steps};
pub use fit::{ANEW, rename_nodes};
pub use keeper::{Keeper, KeeperOptions, homes};
pub use kept::KeptStates;
pub use lineage::{Past, Stretch};
pub use manifest::{ClockState, Counters, FanIn, FanInEdge, Manifest, NodeEntry, NodePhase, Piece, PieceKey};
pub use owner::draw_incarnation;
pub use renamed::flows;
pub use resume::{Beginning, NodeResume, Replay};
pub use schedule::{Interval, Schedule};
pub use vault::Vault;
