//! Where a node keeps what has to outlive the run, and which run it is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Which run of which flow: what an output writes in hidden names, so that no other run takes its files for its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// A random name, which a flow gets when its state begins. A run without state gets one of its own.
    pub incarnation: String,
    /// The number of the checkpoint by which this run took the flow over, above those of all runs before it. 0 for a run
    /// without state, of which nothing is needed any more once its process has ended.
    pub generation: u64,
}

/// Where a node keeps what has to outlive the run, besides its snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// Nowhere: the flow keeps no state, and nothing has to outlive the run.
    #[default]
    Nowhere,
    /// The flow's state is in a store elsewhere, in which nodes have no folders. What is staged has to outlive the run all the
    /// same.
    Elsewhere,
    /// In this local folder, which is the node's own.
    Folder(PathBuf),
    /// What a run before has done is gone through again. This is the node's folder of that run, if it is a local one: it may be
    /// read, and another run may be writing to it.
    Replay(Option<PathBuf>),
}

impl Home {
    /// Whether another run may go on with what this one has begun.
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Elsewhere | Self::Folder(_))
    }

    /// The node's own folder, to write to.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Nowhere | Self::Elsewhere | Self::Replay(_) => None,
        }
    }
}
