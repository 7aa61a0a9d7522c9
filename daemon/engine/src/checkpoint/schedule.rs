//! At which borders a checkpoint is taken.
//!
//! Inputs come to borders by themselves, some earlier than others. So a checkpoint is asked for at the next border that
//! none of them has come to yet: then each of them learns of it before it gets there.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millstream_core::{Border, Epoch, Then};
use tokio::sync::watch;

/// How often checkpoints are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Whenever so much time has gone by.
    Time(Duration),
    /// At every so many borders, or more rarely where writing takes longer.
    Epochs(u64),
    /// Only when the flow ends or is stopped.
    Never,
}

/// Shared by the inputs, which come to borders, the coordinator, which asks for checkpoints, and the nodes in between.
#[derive(Debug)]
pub struct Schedule {
    state: Mutex<State>,
    /// The border that all live inputs should come to without delay.
    due: watch::Sender<Epoch>,
}

#[derive(Debug)]
struct State {
    wanted: Option<Border>,
    /// The last border that any input has come to.
    highest: Epoch,
}

impl Schedule {
    /// A schedule for a flow that begins, or goes on behind a border.
    pub fn new(passed: Epoch) -> Self {
        Self { state: Mutex::new(State { wanted: None, highest: passed }), due: watch::Sender::new(passed) }
    }

    /// Asks for a checkpoint at the next border, or at one that is `epochs` behind the border `last`. Returns the border.
    pub fn ask(&self, last: Epoch, epochs: u64, then: Then) -> Border {
        let mut state = self.lock();
        let epoch = Epoch((last.0 + epochs).max(state.highest.0 + 1));
        let border = Border { epoch, then };
        state.wanted = Some(border);
        self.hasten(epoch);
        border
    }

    /// An input comes to a border. Whether a checkpoint is taken there.
    pub fn pass(&self, epoch: Epoch) -> Option<Border> {
        let mut state = self.lock();
        state.highest = state.highest.max(epoch);
        self.hasten(epoch);
        state.wanted.filter(|border| border.epoch == epoch)
    }

    /// Whether a checkpoint is taken at a border, which all inputs behind a node have come to.
    pub fn wanted(&self, epoch: Epoch) -> Option<Border> {
        self.lock().wanted.filter(|border| border.epoch == epoch)
    }

    /// The last border that any input has come to.
    pub fn highest(&self) -> Epoch {
        self.lock().highest
    }

    /// The border that live inputs should come to without delay: because another input has, since nodes that read both wait
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
    use super::*;

    #[test]
    fn a_checkpoint_is_at_a_border_that_no_input_has_come_to() {
        let schedule = Schedule::new(Epoch(3));
        assert_eq!(schedule.ask(Epoch(3), 1, Then::Continue).epoch, Epoch(4));
        assert!(schedule.pass(Epoch(4)).is_some());
        assert!(schedule.pass(Epoch(6)).is_none());
        assert!(schedule.wanted(Epoch(4)).is_some());
        let border = schedule.ask(Epoch(4), 1, Then::Stop);
        assert_eq!(border, Border { epoch: Epoch(7), then: Then::Stop });
        assert_eq!(*schedule.due().borrow(), Epoch(7));
        assert!(schedule.wanted(Epoch(4)).is_none());
        assert_eq!(schedule.ask(Epoch(7), 10, Then::Continue).epoch, Epoch(17));
    }
}
