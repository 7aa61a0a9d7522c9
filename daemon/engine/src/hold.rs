//! Inputs that are held: they read nothing, while what they have read goes on, and checkpoints are taken. An input that comes to barriers by
//! its rows alone reads on to the next one, so that there is a checkpoint of what it has read.

use std::future::pending;

use millstream_core::Held;
use tokio::sync::watch;

use crate::phase::Phase;

/// Whether an input is held, and why.
#[derive(Clone, Debug)]
pub struct Hold {
    held: watch::Receiver<Option<Held>>,
    phase: watch::Receiver<Phase>,
    /// Whether the input comes to a barrier by its rows alone.
    needs_rows: bool,
}

impl Hold {
    /// What `held` says, while the flow runs. `needs_rows` says that the input comes to a barrier by its rows alone.
    pub fn new(held: watch::Receiver<Option<Held>>, phase: watch::Receiver<Phase>, needs_rows: bool) -> Self {
        Self { held, phase, needs_rows }
    }

    /// What the flow as a whole is doing.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Why the input may not read, if it may not. Where the flow is to stop, one that needs rows for that reads on to the barrier at which it does.
    pub fn reason(&self) -> Option<Held> {
        self.held.borrow().clone().filter(|_| !self.needs_rows || *self.phase.borrow() < Phase::Draining)
    }

    /// Waits until that is otherwise than `reason`. Cancel safe.
    pub async fn changed(&mut self, reason: Option<&Held>) {
        while self.reason().as_ref() == reason {
            tokio::select! {
                Ok(()) = self.held.changed() => {}
                Ok(()) = self.phase.changed() => {}
                // The flow itself is gone.
                else => pending().await,
            }
        }
    }
}
