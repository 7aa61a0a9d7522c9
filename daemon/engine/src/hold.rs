//! Inputs that are held: they read nothing, while what they have read goes on, and checkpoints are taken.

use std::future::pending;

use tokio::sync::watch;

use crate::phase::Phase;

/// Whether an input is held.
#[derive(Clone, Debug)]
pub struct Hold {
    held: watch::Receiver<bool>,
    phase: watch::Receiver<Phase>,
    /// Whether the input comes to a barrier by its rows alone.
    needs_rows: bool,
}

impl Hold {
    /// What `held` says, while the flow runs. `needs_rows` says that the input comes to a barrier by its rows alone.
    pub fn new(held: watch::Receiver<bool>, phase: watch::Receiver<Phase>, needs_rows: bool) -> Self {
        Self { held, phase, needs_rows }
    }

    /// What the flow as a whole is doing.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Whether the input may read. Where the flow is to stop, one that needs rows for that reads on to the barrier at which it does.
    pub fn may_read(&self) -> bool {
        !*self.held.borrow() || self.needs_rows && *self.phase.borrow() >= Phase::Draining
    }

    /// Waits until that is otherwise than `may_read`. Cancel safe.
    pub async fn changed(&mut self, may_read: bool) {
        while self.may_read() == may_read {
            tokio::select! {
                Ok(()) = self.held.changed() => {}
                Ok(()) = self.phase.changed() => {}
                // The flow itself is gone.
                else => pending().await,
            }
        }
    }
}
