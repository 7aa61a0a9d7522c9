//! How commands end: the exit status, or why they could not do what they were told.

use std::fmt;
use std::process::ExitCode;

use millstream_core::Error;
use millstream_engine::file::Diagnostics;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done,
    /// A flow or a test failed.
    Failed,
    /// Wrong usage, or a flow that does not check.
    Usage,
    /// A flow was stopped before its inputs had ended.
    Unfinished,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unfinished => 3,
        })
    }
}

/// Why a command could not do what it was told.
#[derive(Debug)]
pub enum CommandError {
    /// Something failed on the way.
    Failed(Error),
    /// Flows that don't check.
    Flow(Diagnostics),
    /// The command line is wrong.
    Usage(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "error: {error}"),
            Self::Flow(diagnostics) => f.write_str(diagnostics.to_string().trim_end()),
            Self::Usage(message) => write!(f, "error: {message}"),
        }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Diagnostics> for CommandError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Flow(diagnostics)
    }
}

impl From<&CommandError> for Exit {
    fn from(error: &CommandError) -> Self {
        match error {
            CommandError::Failed(_) => Self::Failed,
            CommandError::Flow(_) | CommandError::Usage(_) => Self::Usage,
        }
    }
}

/// What a command ends with.
pub type Outcome = Result<Exit, CommandError>;
