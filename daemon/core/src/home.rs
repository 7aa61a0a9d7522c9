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
}

impl Home {
    /// Whether another run may go on with what this one has begun.
    pub fn is_durable(&self) -> bool {
        *self != Self::Nowhere
    }

    /// The node's own folder.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Nowhere | Self::Elsewhere => None,
        }
    }
}
