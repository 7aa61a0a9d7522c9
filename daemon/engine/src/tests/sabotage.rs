//! Ways to break the protocol on purpose, so that tests can show that a simulation notices.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A node hands over the state of the checkpoint before.
    OldState,
    /// An output commits what it stages before the manifest is written.
    CommitBeforeManifest,
    /// A node forgets the rows of its incomplete mini-batch.
    DroppedRemainder,
    /// A node takes its seed from the time.
    SeededFromTime,
    /// An output notes that it has committed, and then commits.
    MarkBeforeCommit,
    /// A node forgets the rows that wait in it.
    ForgottenRows,
    /// The store has the mark that all is visible before it has the manifest.
    MarkBeforeManifest,
}

/// What is broken in each simulation.
static ON: LazyLock<Mutex<HashMap<String, Sabotage>>> = LazyLock::new(Mutex::default);

impl Sabotage {
    /// Breaks a simulation.
    pub fn turn_on(self, simulation: &str) {
        ON.lock().unwrap().insert(simulation.to_owned(), self);
    }

    /// Whether this is broken in a simulation.
    pub fn is_on(self, simulation: &str) -> bool {
        ON.lock().unwrap().get(simulation) == Some(&self)
    }
}
