//! How a flow is brought to run.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_core::FilesRead;
use millstream_engine::checkpoint::ResumeOptions;
use millstream_engine::file::Diagnostics;
use millstream_engine::outline::Outline;
use millstream_engine::plan::Plan;
use millstream_engine::quarantine::Quarantine;
use millstream_engine::run::{FlowError, ReadyFlow};

use crate::flow_budget::FlowLimits;

/// A flow as somebody has written it. The text is what counts, whatever becomes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSource {
    /// The file. Paths of inputs are relative to its folder, and it names the flow if the text does not.
    pub path: PathBuf,
    /// What is in it.
    pub text: Arc<str>,
}

/// A text that a flow is to run from.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The text.
    pub source: FlowSource,
    /// Its number.
    pub revision: u64,
    /// The nodes that start from scratch, unless a checkpoint of this revision says that they have.
    pub resets: Vec<String>,
    /// The rows that nodes do without from now on.
    pub quarantine: Quarantine,
}

/// A flow that is to go on in place of one that runs.
#[derive(Debug)]
pub struct Planned {
    /// The flow.
    pub plan: Plan,
    /// Its nodes and edges.
    pub outline: Outline,
    /// What is wanted of its state.
    pub options: ResumeOptions,
    /// What it may take of the machine.
    pub limits: FlowLimits,
    /// The folders whose files are its own.
    pub folders: Vec<PathBuf>,
}

/// A flow that has only to begin.
#[derive(Debug)]
pub struct Launched {
    /// The flow.
    pub flow: ReadyFlow,
    /// Its nodes and edges.
    pub outline: Outline,
    /// What it may take of the machine.
    pub limits: FlowLimits,
    /// The folders whose files are its own.
    pub folders: Vec<PathBuf>,
}

/// Why a flow does not run.
#[derive(Debug)]
pub enum LaunchError {
    /// It does not check.
    Check(Diagnostics),
    /// It could not be prepared.
    Flow(FlowError),
}

/// Brings flows to run. All methods may take a while, and are called where that holds up nobody.
pub trait Launcher: Send + Sync + 'static {
    /// Reads, checks and plans a flow, and looks whether its state can be resumed if the nodes in `resets` start from scratch. Nothing is
    /// changed. Which files that takes besides its text is noted in `files`, whatever comes of it.
    ///
    /// # Errors
    /// With all that is wrong with it.
    fn check(&self, source: &FlowSource, resets: &[String], files: &FilesRead) -> Result<Outline, Diagnostics>;

    /// Plans and prepares a flow, and takes over its state.
    ///
    /// # Errors
    /// If the flow does not check, or a node can't be built or restored.
    fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError>;

    /// Plans a flow that is to go on in place of one that runs. Nothing is changed.
    ///
    /// # Errors
    /// If the flow does not check.
    fn plan(&self, launch: &Launch) -> Result<Planned, LaunchError>;
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(diagnostics) => diagnostics.fmt(f),
            Self::Flow(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LaunchError {}

impl From<Diagnostics> for LaunchError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Check(diagnostics)
    }
}

impl From<FlowError> for LaunchError {
    fn from(error: FlowError) -> Self {
        Self::Flow(error)
    }
}
