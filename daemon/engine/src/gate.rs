//! Gates: an input that is read only after others have ended waits at one.
//!
//! The rows of a sequence's second input, or of a join's stream side, can't be used before the first has ended.
//! Holding such an input back where it starts, rather than at the edge, keeps its position at 0 at every border
//! until then, and keeps its rows out of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use millstream_core::Epoch;
use tokio::sync::Notify;

/// Opens when every node that waits for something else first has opened it.
#[derive(Debug, Default)]
pub struct Gate {
    closed_by: AtomicUsize,
    epoch: AtomicU64,
    opened: Notify,
}

impl Gate {
    /// A gate that so many nodes keep closed.
    pub fn new(closed_by: usize) -> Arc<Self> {
        Arc::new(Self { closed_by: AtomicUsize::new(closed_by), ..Self::default() })
    }

    /// One node is ready; it has passed the border of `epoch`.
    pub fn open(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::AcqRel);
        if self.closed_by.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.opened.notify_one();
        }
    }

    /// Waits until the gate is open. Returns the last border that lies before the input's first row.
    pub async fn opened(&self) -> Epoch {
        while self.closed_by.load(Ordering::Acquire) > 0 {
            self.opened.notified().await;
        }
        Epoch(self.epoch.load(Ordering::Acquire))
    }
}
