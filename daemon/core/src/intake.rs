//! The door of an input through which a flow that runs is given rows by hand.

use std::fmt;

use async_trait::async_trait;

/// A row that is given by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenRow {
    /// What it is known by: what has come with the same key is not taken again.
    pub key: String,
    /// The row, as a JSON object on one line.
    pub row: String,
}

/// Why a row that was given is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is none of the input, or was given before with the same key and other values. In words.
    Wrong(String),
    /// It can't be taken now, or it is not known whether it was: it may be given again with the same key. In words.
    NotNow(String),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(why) | Self::NotNow(why) => f.write_str(why),
        }
    }
}

/// Takes rows by hand, into an input of a flow that runs.
#[async_trait]
pub trait Intake: fmt::Debug + Send + Sync {
    /// Takes rows in their order, each once for its key, and says what has come of each of them. Those that are taken are durable when this
    /// returns, and part of the flow like all others.
    async fn take(&self, rows: Vec<GivenRow>) -> Vec<Result<(), NotTaken>>;
}
