//! Why inputs are held: they read nothing for now.

use std::sync::Arc;

/// Why an input is held. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Something that all flows share is nearly used up, such as the disk.
    Scarcity(Arc<str>),
    /// Somebody has paused the flow.
    Paused(Arc<str>),
}

impl Held {
    /// The reason.
    pub fn reason(&self) -> &Arc<str> {
        match self {
            Self::Scarcity(reason) | Self::Paused(reason) => reason,
        }
    }
}
