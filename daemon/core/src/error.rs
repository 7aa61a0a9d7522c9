//! What goes wrong while a flow runs.

use std::error::Error as StdError;
use std::fmt;

/// The result of anything that a node does while its flow runs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was being done, and the cause. Printed as one line, outermost first.
#[derive(Debug)]
pub struct Error {
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error in words: what is wrong, and what would be right.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// An error whose cause is another one. `doing` is what was being done: "reading `a.csv`".
    pub fn caused_by(doing: impl Into<String>, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { message: doing.into(), source: Some(cause.into()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

// `source` stays hidden: `Display` already prints the causes, and a reporter that walks the chain would repeat them.
impl StdError for Error {}

impl From<arrow::error::ArrowError> for Error {
    fn from(cause: arrow::error::ArrowError) -> Self {
        Self::new(cause.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(cause: std::io::Error) -> Self {
        Self::new(cause.to_string())
    }
}

/// Says what was being done when something failed.
pub trait ResultExt<T> {
    /// Wraps the error: `file.sync().doing(|| format!("writing `{path}`"))`.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> ResultExt<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::caused_by(what(), cause))
    }
}
