//! Somebody asks the daemon to look again at what it goes by, and is told what has come of that.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// The way to whoever looks again.
pub type Reloads = mpsc::Sender<oneshot::Sender<Reloaded>>;

/// Those who wait to be told what has come of it.
pub type ReloadAnswers = mpsc::Receiver<oneshot::Sender<Reloaded>>;

/// What has come of looking again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    /// The files of flows that were new, had changed or are gone.
    pub flows: Vec<FileChange>,
    /// Why the folder of flows could not be read, so that all flows go on as they are.
    pub problem: Option<String>,
    /// Whether the files of the certificate hold what they should.
    pub certificate: bool,
    /// Why the settings that are written down are not those that the daemon runs with.
    pub settings: Option<String>,
}

/// What has come of the file of a flow.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FileChange {
    /// The file.
    pub file: PathBuf,
    /// What has come of it.
    pub outcome: FileOutcome,
    /// The flow.
    pub flow: Option<String>,
    /// All that is wrong with it.
    pub reason: Option<String>,
}

/// What has come of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileOutcome {
    /// Its flow is to run as it says.
    Applied,
    /// It is wrong, and its flow goes on as it is.
    Refused,
    /// It is gone, and its flow stops.
    Removed,
}
