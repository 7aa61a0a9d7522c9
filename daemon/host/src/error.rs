//! Why the host does not do what somebody asks for.

use std::path::PathBuf;

use millstream_core::Error;
use millstream_engine::file::Diagnostics;

/// Why the host does not do what somebody asks for.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no such flow.
    #[error("there is no flow `{0}`")]
    NoFlow(String),
    /// There is no such text of a flow.
    #[error("the flow `{flow}` has no revision {revision}")]
    NoRevision {
        /// The flow.
        flow: String,
        /// The number that it has not.
        revision: u64,
    },
    /// Another operation on the flow is under way.
    #[error("operation {operation} on the flow `{flow}` is under way; wait for its end, or cancel it")]
    Busy {
        /// The flow.
        flow: String,
        /// The other operation.
        operation: u64,
    },
    /// A file says what the flow is like.
    #[error("the flow `{flow}` is that of the file `{}`: change the file", path.display())]
    OfFile {
        /// The flow.
        flow: String,
        /// The file.
        path: PathBuf,
    },
    /// Two files are of one flow.
    #[error("the flow `{flow}` is in `{}` already; give one of them another `name` in `[flow]`", path.display())]
    Twice {
        /// The flow.
        flow: String,
        /// The other file.
        path: PathBuf,
    },
    /// The flow was made over the API.
    #[error(
        "there is a flow `{0}` already, which was made over the API; give this one another `name` in `[flow]`, or remove that one"
    )]
    OfApi(String),
    /// Somebody has changed the flow meanwhile.
    #[error("the flow `{flow}` is at revision {revision} now: look at it again, and decide anew")]
    Outdated {
        /// The flow.
        flow: String,
        /// Its revision, 0 if there is no such flow.
        revision: u64,
    },
    /// The flow does not run, so that it can't do what was asked for.
    #[error("the flow `{flow}` does not run, it is {state}")]
    NotRunning {
        /// The flow.
        flow: String,
        /// What it is doing.
        state: &'static str,
    },
    /// The text does not check.
    #[error("{0}")]
    Check(Diagnostics),
    /// Something is wrong with the machine, or with us.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<Diagnostics> for HostError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Check(diagnostics)
    }
}
