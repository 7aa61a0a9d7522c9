//! Keeps many flows running in one process. It knows the engine, and neither HTTP nor a terminal.
//!
//! * [`Host`]: the flows by name, and what somebody wants of each: that it runs, or that it is stopped.
//! * [`Launcher`]: how a flow is brought to run; whoever uses the host decides where its state is and which nodes there are.
//! * [`FlowStatus`]: what a flow is doing. A supervisor for each flow compares that with what is wanted, and does what is lacking:
//!   it starts the flow, stops it at a checkpoint, or restarts it after a failure, as [`RestartPolicy`] says.
//! * [`FlowFolder`]: flows that are there because their files are in a folder.

mod folder;
mod host;
mod launch;
mod restart;
mod status;
mod supervisor;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use folder::{FlowFolder, FolderChange};
pub use host::Host;
pub use launch::{FlowSource, LaunchError, Launcher};
pub use restart::RestartPolicy;
pub use status::{FlowStatus, State};
