//! Inputs that are held: they read nothing, while what they have read goes on, and checkpoints are taken. An input that comes to barriers by
//! its rows alone reads on to the next one, so that there is a checkpoint of what it has read.

use std::future::pending;

use tokio::sync::watch;

use crate::phase::Phase;

/// Whether an input is held.
#[derive(Clone, Debug)]
pub struct Hold {
    held: watch::Receiver<bool>,
    phase: watch::Receiver<Phase>,
}

impl Hold {
    /// What `held` says, while the flow runs.
    pub fn new(held: watch::Receiver<bool>, phase: watch::Receiver<Phase>) -> Self {
        Self { held, phase }
    }

    /// What the flow as a whole is doing.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Whether the input may read. Where the flow is to stop, it reads on to the barrier at which it does.
    pub fn may_read(&self) -> bool {
        !*self.held.borrow() || *self.phase.borrow() >= Phase::Draining
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
