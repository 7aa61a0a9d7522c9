//! At which barriers a checkpoint is taken.
//!
//! Inputs come to barriers by themselves, some earlier than others. So a checkpoint is asked for at the next barrier that
//! none of them has come to yet: then each of them learns of it before it gets there.

use std::sync::{Mutex, PoisonError};

use millstream_core::{Barrier, Epoch, Then};
use tokio::sync::watch;

use crate::file::Interval;

/// Shared by the inputs, which come to barriers, the coordinator, which asks for checkpoints, and the nodes in between.
#[derive(Debug)]
pub struct Schedule {
    interval: Interval,
    state: Mutex<State>,
    /// The barrier that all live inputs should come to without delay.
    due: watch::Sender<Epoch>,
    /// The last barrier that a checkpoint was asked for at.
    asked: watch::Sender<Epoch>,
}

#[derive(Debug)]
struct State {
    wanted: Option<Barrier>,
    /// The last barrier that any input has come to.
    highest: Epoch,
}

impl Schedule {
    /// A schedule for a flow that begins, or goes on behind a barrier.
    pub fn new(interval: Interval, passed: Epoch) -> Self {
        let state = Mutex::new(State { wanted: None, highest: passed });
        Self { interval, state, due: watch::Sender::new(passed), asked: watch::Sender::new(passed) }
    }

    /// Asks for the next checkpoint, the last one having been at the barrier `last`. Returns its barrier.
    pub fn ask(&self, last: Epoch) -> Barrier {
        let mut state = self.lock();
        let epoch = match self.interval {
            Interval::Epochs(epochs) => Epoch((last.0 + epochs).max(state.highest.0 + 1)),
            Interval::Time(_) | Interval::Never => state.highest.next(),
        };
        self.set(&mut state, Barrier { epoch, then: Then::Continue })
    }

    /// Asks for a last checkpoint, after which inputs stop. None if one is under way, which has to be settled first.
    pub fn ask_to_stop(&self) -> Option<Barrier> {
        let mut state = self.lock();
        let is_under_way = state.wanted.is_some_and(|barrier| barrier.epoch <= state.highest);
        let barrier = Barrier { epoch: state.highest.next(), then: Then::Stop };
        (!is_under_way).then(|| self.set(&mut state, barrier))
    }

    fn set(&self, state: &mut State, barrier: Barrier) -> Barrier {
        state.wanted = Some(barrier);
        // Where checkpoints are counted by epochs, nobody is in a hurry to come to the next.
        if self.interval == Interval::Never || matches!(self.interval, Interval::Time(_)) || barrier.then == Then::Stop
        {
            self.hasten(barrier.epoch);
        }
        self.asked.send_replace(barrier.epoch);
        barrier
    }

    /// The checkpoint that was asked for is about to be decided.
    pub fn completed(&self) {
        self.lock().wanted = None;
    }

    /// Nobody asks for checkpoints any more, so that nobody has to wait for one.
    pub fn close(&self) {
        self.asked.send_replace(Epoch(u64::MAX));
    }

    /// Waits until an input may come to a barrier: where checkpoints are counted by epochs, not before it is known whether
    /// one is taken there.
    pub async fn may_pass(&self, epoch: Epoch) {
        let Interval::Epochs(epochs) = self.interval else { return };
        // The sender lives as long as `self`.
        let _ = self.asked.subscribe().wait_for(|asked| epoch.0 < asked.0.saturating_add(epochs)).await;
    }

    /// An input comes to a barrier. Whether a checkpoint is taken there.
    pub fn pass(&self, epoch: Epoch) -> Option<Barrier> {
        let mut state = self.lock();
        state.highest = state.highest.max(epoch);
        self.hasten(epoch);
        state.wanted.filter(|barrier| barrier.epoch == epoch)
    }

    /// Whether a checkpoint is taken at a barrier, which all inputs behind a node have come to.
    pub fn wanted(&self, epoch: Epoch) -> Option<Barrier> {
        self.lock().wanted.filter(|barrier| barrier.epoch == epoch)
    }

    /// Whether a checkpoint waits for an input to end this epoch, or one behind it.
    pub fn awaits(&self, epoch: Epoch) -> bool {
        self.lock().wanted.is_some_and(|barrier| epoch <= barrier.epoch)
    }

    /// The last barrier that a checkpoint was asked for at.
    pub fn asked(&self) -> watch::Receiver<Epoch> {
        self.asked.subscribe()
    }

    /// The last barrier that any input has come to.
    pub fn highest(&self) -> Epoch {
        self.lock().highest
    }

    /// The barrier that live inputs should come to without delay: because another input has, since nodes that read both wait
    /// until both have; or because a checkpoint waits for it.
    pub fn due(&self) -> watch::Receiver<Epoch> {
        self.due.subscribe()
    }

    fn hasten(&self, epoch: Epoch) {
        self.due.send_if_modified(|due| {
            let later = epoch > *due;
            *due = epoch.max(*due);
            later
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_checkpoint_is_at_a_border_that_no_input_has_come_to() {
        let schedule = Schedule::new(Interval::Time(Duration::ZERO), Epoch(3));
        assert_eq!(schedule.ask(Epoch(3)).epoch, Epoch(4));
        assert!(schedule.pass(Epoch(4)).is_some());
        assert!(schedule.pass(Epoch(6)).is_none());
        assert!(schedule.wanted(Epoch(4)).is_some());
        assert_eq!(schedule.ask_to_stop(), None, "the one at 4 is under way");
        schedule.completed();
        assert_eq!(schedule.ask_to_stop(), Some(Barrier { epoch: Epoch(7), then: Then::Stop }));
        assert_eq!(*schedule.due().borrow(), Epoch(7));
        assert!(schedule.wanted(Epoch(4)).is_none());
    }

    #[tokio::test]
    async fn counted_by_epochs_no_border_is_left_out() {
        let schedule = Schedule::new(Interval::Epochs(2), Epoch(0));
        assert_eq!(schedule.ask(Epoch(0)).epoch, Epoch(2));
        schedule.may_pass(Epoch(3)).await;
        assert!(schedule.pass(Epoch(3)).is_none());
        let pass = async { schedule.may_pass(Epoch(4)).await };
        let ask = async {
            schedule.completed();
            schedule.ask(Epoch(2))
        };
        let ((), barrier) = tokio::join!(pass, ask);
        assert_eq!(barrier.epoch, Epoch(4));
        assert!(schedule.pass(Epoch(4)).is_some());
        schedule.close();
        schedule.may_pass(Epoch(1000)).await;
    }
}
