//! Keeps many flows running in one process. It knows the engine, and neither HTTP nor a terminal.
//!
//! * [`Host`]: the flows by name, and what somebody wants of each: from which text it runs, or that it is stopped. That is kept in a
//!   [`FlowStore`], with all texts that flows have had.
//! * [`Operations`]: what somebody has asked for and takes a while. Flows change by operations only, one at a time for each flow.
//! * [`Launcher`]: how a flow is brought to run; whoever uses the host decides where its state is and which nodes there are.
//! * [`FlowStatus`]: what a flow is doing. A supervisor for each flow compares that with what is wanted, and does what is lacking:
//!   it starts the flow, stops it at a checkpoint, restarts it after a failure, as [`RestartPolicy`] says, or goes back to the text before.
//! * [`keep_budgets`]: holds the inputs of all flows while the disk is nearly full, and gives up its ballast when it is full. What one flow
//!   takes of memory and disk its supervisor sees to ([`FlowLimits`]), and to rows that its nodes can't bear.
//! * [`Process`]: what this process takes of the machine.
//! * [`FlowFolder`]: flows that are there because their files are in a folder.

mod actions;
mod apply;
mod ballast;
mod budgets;
mod change;
mod diff;
mod drain;
mod error;
mod flow_budget;
mod flow_store;
mod folder;
mod hold;
mod host;
mod launch;
mod operations;
mod poison;
mod process;
mod restart;
mod status;
mod supervisor;
mod time;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use actions::Request;
pub use apply::{Applied, Change, Expected};
pub use ballast::Ballast;
pub use budgets::{DiskLevel, DiskSpace, MemoryLimit, keep_budgets};
pub use diff::{Effect, FlowDiff, NodeChange};
pub use error::HostError;
pub use flow_budget::{FlowLimits, FlowUsage};
pub use flow_store::{Desired, FlowStore, Owner, Revision};
pub use folder::{FlowFolder, FolderChange};
pub use hold::Reason;
pub use host::Host;
pub use launch::{FlowSource, Launch, LaunchError, Launched, Launcher, Planned};
pub use operations::{Operation, OperationKind, OperationState, Operations};
pub use process::Process;
pub use restart::RestartPolicy;
pub use status::{Budget, Flow, FlowStatus, Handover, Refused, State, Took};
pub use time::Timestamp;
