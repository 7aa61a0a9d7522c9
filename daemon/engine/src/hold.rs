//! Inputs that are held: they read nothing, while what they have read goes on, and checkpoints are taken.

use std::future::pending;

use millstream_core::Held;
use tokio::sync::watch;

use crate::phase::Phase;

/// Whether an input is held, and why.
#[derive(Clone, Debug)]
pub struct Hold {
    held: watch::Receiver<Option<Held>>,
    phase: watch::Receiver<Phase>,
}

impl Hold {
    /// What `held` says, while the flow runs.
    pub fn new(held: watch::Receiver<Option<Held>>, phase: watch::Receiver<Phase>) -> Self {
        Self { held, phase }
    }

    /// What the flow as a whole is doing.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Why the input may not read, if it may not. Where the flow is to stop, it reads on to the barrier at which it does.
    pub fn reason(&self) -> Option<Held> {
        self.held.borrow().clone().filter(|_| *self.phase.borrow() < Phase::Draining)
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
