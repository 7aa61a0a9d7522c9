//! Gates: an input that is read only after others have ended waits at one.
//!
//! The rows of a sequence's second input, or of a join's stream side, can't be used before the first has ended.
//! Holding such an input back where it starts, rather than at the edge, keeps its position at 0 at every barrier
//! until then, and keeps its rows out of memory. A node that has kept rows from a run before waits likewise with these.
//!
//! Meanwhile the input shows the barriers that nodes have passed which keep it waiting, since others that read it may wait
//! for nothing but its barriers, and no checkpoint can be taken until they have come to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use millstream_core::Epoch;
use tokio::sync::Notify;

/// Opens when every node that waits for something else first has opened it.
#[derive(Debug, Default)]
pub struct Gate {
    closed_by: AtomicUsize,
    /// The last barrier that any of these nodes has passed, until it opened the gate.
    passed: AtomicU64,
    changed: Notify,
}

impl Gate {
    /// A gate that so many nodes keep closed.
    pub fn new(closed_by: usize) -> Arc<Self> {
        Arc::new(Self { closed_by: AtomicUsize::new(closed_by), ..Self::default() })
    }

    /// A node that keeps the gate closed has passed the barrier of `epoch`.
    pub fn pass(&self, epoch: Epoch) {
        self.passed.fetch_max(epoch.0, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// One node is ready; it has passed the barrier of `epoch`.
    pub fn open(&self, epoch: Epoch) {
        debug_assert!(self.closed_by.load(Ordering::Acquire) > 0);
        self.passed.fetch_max(epoch.0, Ordering::AcqRel);
        self.closed_by.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Waits until the gate is open, or a barrier behind `shown` has been passed. Returns the last barrier that lies before
    /// the input's first row, as far as is known, and whether the gate is open.
    ///
    /// The input shows the barriers up to that one before its first row, so that its rows lie behind the same barrier for
    /// all nodes.
    pub async fn changed(&self, shown: Epoch) -> (Epoch, bool) {
        loop {
            let is_open = self.closed_by.load(Ordering::Acquire) == 0;
            let passed = Epoch(self.passed.load(Ordering::Acquire));
            if is_open || passed > shown {
                return (passed, is_open);
            }
            self.changed.notified().await;
        }
    }

    /// Waits until the gate is open. Cancel safe.
    pub async fn opened(&self) {
        while self.closed_by.load(Ordering::Acquire) > 0 {
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn borders_are_shown_until_the_last_node_opens_the_gate() {
        let gate = Gate::new(2);
        gate.pass(Epoch(3));
        assert_eq!(gate.changed(Epoch(0)).await, (Epoch(3), false));
        gate.open(Epoch(2));
        let late = async {
            tokio::task::yield_now().await;
            gate.open(Epoch(5));
        };
        let (changed, ()) = tokio::join!(gate.changed(Epoch(3)), late);
        assert_eq!(changed, (Epoch(5), true), "one node had passed 2, the other 5");
    }

    #[tokio::test]
    async fn a_gate_that_nobody_keeps_closed_is_open() {
        assert_eq!(Gate::new(0).changed(Epoch(7)).await, (Epoch(0), true));
    }
}
