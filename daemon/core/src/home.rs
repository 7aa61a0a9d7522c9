//! Where a node keeps what has to outlive the run.

use std::path::{Path, PathBuf};

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
    Past(Option<PathBuf>),
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
            Self::Nowhere | Self::Elsewhere | Self::Past(_) => None,
        }
    }
}
