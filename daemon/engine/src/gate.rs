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
    /// The first and the last border that the nodes had passed which opened it.
    first: AtomicU64,
    last: AtomicU64,
    opened: Notify,
}

impl Gate {
    /// A gate that so many nodes keep closed.
    pub fn new(closed_by: usize) -> Arc<Self> {
        let first = AtomicU64::new(if closed_by == 0 { 0 } else { u64::MAX });
        Arc::new(Self { closed_by: AtomicUsize::new(closed_by), first, ..Self::default() })
    }

    /// One node is ready; it has passed the border of `epoch`.
    pub fn open(&self, epoch: Epoch) {
        debug_assert!(self.closed_by.load(Ordering::Acquire) > 0);
        self.first.fetch_min(epoch.0, Ordering::AcqRel);
        self.last.fetch_max(epoch.0, Ordering::AcqRel);
        if self.closed_by.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.opened.notify_one();
        }
    }

    /// Waits until the gate is open. Returns the borders that lie before the input's first row, and that one of the nodes
    /// that opened it had passed and another had not: the first of them less one, and the last.
    ///
    /// The input shows these borders before its first row, so that its rows lie behind the same border for all nodes.
    pub async fn opened(&self) -> (Epoch, Epoch) {
        while self.closed_by.load(Ordering::Acquire) > 0 {
            self.opened.notified().await;
        }
        (Epoch(self.first.load(Ordering::Acquire)), Epoch(self.last.load(Ordering::Acquire)))
    }
}
