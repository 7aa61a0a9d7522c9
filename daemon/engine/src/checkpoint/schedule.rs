//! At which barriers a checkpoint is taken.
//!
//! Inputs come to barriers by themselves, some earlier than others. So a checkpoint is asked for at the next barrier that
//! none of them has come to yet: then each of them learns of it before it gets there.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use millstream_core::{Barrier, Epoch, Then};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::file::Interval;
use crate::plan::NodeIndex;

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
    /// The barrier at which the nodes are handed over, if that is the one that is wanted.
    border: Option<Border>,
    /// The barrier at which tasks end, if there is one.
    last: Option<Epoch>,
    /// The barrier at which the flow stops, where that is known from its beginning on.
    stops_at: Option<Epoch>,
    /// The last barrier that any input has come to.
    highest: Epoch,
}

/// A barrier at which a flow hands its nodes over to one that goes on in its place.
#[derive(Debug)]
struct Border {
    epoch: Epoch,
    /// The nodes that go on there as they are. To the others it is the barrier at which their flow stops.
    keeps: BTreeSet<NodeIndex>,
    /// When the first input has come to it.
    reached: Option<Instant>,
}

impl State {
    /// Whether an input has come to the barrier of the checkpoint that is wanted.
    fn is_under_way(&self) -> bool {
        self.wanted.is_some_and(|barrier| barrier.epoch <= self.highest)
    }
}

impl Schedule {
    /// A schedule for a flow that begins, or goes on behind a barrier.
    pub fn new(interval: Interval, passed: Epoch) -> Self {
        let state = Mutex::new(State { wanted: None, border: None, last: None, stops_at: None, highest: passed });
        Self { interval, state, due: watch::Sender::new(passed), asked: watch::Sender::new(passed) }
    }

    /// Has the flow, which has not begun, stop at a barrier. Its checkpoints are counted by epochs.
    pub fn stop_at(&self, epoch: Epoch) {
        self.lock().stops_at = Some(epoch);
    }

    /// Asks for the next checkpoint, the last one having been at the barrier `last`. Returns its barrier.
    pub fn ask(&self, last: Epoch) -> Barrier {
        let mut state = self.lock();
        let epoch = match self.interval {
            Interval::Epochs(epochs) => Epoch((last.0 + epochs).max(state.highest.0 + 1)),
            Interval::Time(_) | Interval::Never => state.highest.next(),
        };
        let barrier = match state.stops_at.filter(|stop| *stop <= epoch) {
            Some(stop) => Barrier { epoch: stop, then: Then::Stop },
            None => Barrier { epoch, then: Then::Continue },
        };
        self.set(&mut state, barrier)
    }

    /// Asks for a last checkpoint, after which inputs stop. None if one is under way, which has to be settled first.
    pub fn ask_to_stop(&self) -> Option<Barrier> {
        let mut state = self.lock();
        let barrier = Barrier { epoch: state.highest.next(), then: Then::Stop };
        (!state.is_under_way()).then(|| {
            state.border = None;
            self.set(&mut state, barrier)
        })
    }

    /// Asks for a checkpoint behind which a flow goes on that takes the place of this one, and keeps these nodes. None if one is under
    /// way, which has to be settled first.
    pub fn ask_to_hand_over(&self, keeps: &BTreeSet<NodeIndex>) -> Option<Barrier> {
        let mut state = self.lock();
        let epoch = state.highest.next();
        (!state.is_under_way()).then(|| {
            state.border = Some(Border { epoch, keeps: keeps.clone(), reached: None });
            self.set(&mut state, Barrier { epoch, then: Then::Continue })
        })
    }

    /// When the first input has come to the barrier at which the nodes are handed over.
    pub fn border_reached(&self) -> Option<Instant> {
        self.lock().border.as_ref()?.reached
    }

    fn set(&self, state: &mut State, barrier: Barrier) -> Barrier {
        state.wanted = Some(barrier);
        // Where checkpoints are counted by epochs, nobody is in a hurry to come to the next.
        let is_last = barrier.then == Then::Stop || state.border.is_some();
        state.last = is_last.then_some(barrier.epoch);
        if is_last || !matches!(self.interval, Interval::Epochs(_)) {
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
        let stop = self.lock().stops_at.filter(|stop| *stop <= epoch);
        let is_known =
            |asked: &Epoch| epoch.0 < asked.0.saturating_add(epochs) && stop.is_none_or(|stop| stop <= *asked);
        // The sender lives as long as `self`.
        let _ = self.asked.subscribe().wait_for(is_known).await;
    }

    /// An input comes to a barrier. Whether a checkpoint is taken there.
    pub fn pass(&self, epoch: Epoch) -> Option<Barrier> {
        let mut state = self.lock();
        state.highest = state.highest.max(epoch);
        if let Some(border) = state.border.as_mut().filter(|border| border.epoch == epoch) {
            border.reached.get_or_insert_with(Instant::now);
        }
        self.hasten(epoch);
        state.wanted.filter(|barrier| barrier.epoch == epoch)
    }

    /// Whether a checkpoint is taken at a barrier, which all inputs behind a node have come to, and what follows it for the node.
    pub fn wanted(&self, node: NodeIndex, epoch: Epoch) -> Option<Barrier> {
        let state = self.lock();
        let wanted = state.wanted.filter(|barrier| barrier.epoch == epoch)?;
        let is_dropped = state.border.as_ref().is_some_and(|border| !border.keeps.contains(&node));
        Some(if is_dropped { Barrier { then: Then::Stop, ..wanted } } else { wanted })
    }

    /// Whether the tasks of the flow end at a barrier: because it stops there, or hands its nodes over.
    pub fn ends_at(&self, epoch: Epoch) -> bool {
        self.lock().last == Some(epoch)
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
        assert!(schedule.wanted(0, Epoch(4)).is_some());
        assert_eq!(schedule.ask_to_stop(), None, "the one at 4 is under way");
        schedule.completed();
        assert_eq!(schedule.ask_to_stop(), Some(Barrier { epoch: Epoch(7), then: Then::Stop }));
        assert_eq!(*schedule.due().borrow(), Epoch(7));
        assert!(schedule.wanted(0, Epoch(4)).is_none());
    }

    #[test]
    fn a_border_stops_the_nodes_that_do_not_go_on() {
        let schedule = Schedule::new(Interval::Never, Epoch(3));
        let asked = schedule.ask_to_hand_over(&BTreeSet::from([1]));
        assert_eq!(asked, Some(Barrier { epoch: Epoch(4), then: Then::Continue }));
        assert!(schedule.border_reached().is_none() && !schedule.ends_at(Epoch(3)));
        assert!(schedule.pass(Epoch(4)).is_some());
        assert!(schedule.border_reached().is_some());
        let then = |node| schedule.wanted(node, Epoch(4)).map(|barrier| barrier.then);
        assert_eq!((then(0), then(1)), (Some(Then::Stop), Some(Then::Continue)));
        assert_eq!(schedule.ask_to_stop(), None, "the border is under way");
        schedule.completed();
        assert!(schedule.ends_at(Epoch(4)), "tasks may still be on their way to their ends");
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

    #[tokio::test]
    async fn nobody_comes_to_the_barrier_at_which_a_flow_stops_before_that_is_asked_for() {
        let schedule = Schedule::new(Interval::Epochs(8), Epoch(0));
        schedule.stop_at(Epoch(10));
        assert_eq!(schedule.ask(Epoch(0)), Barrier { epoch: Epoch(8), then: Then::Continue });
        schedule.may_pass(Epoch(9)).await;
        assert!(schedule.pass(Epoch(9)).is_none());
        let pass = async { schedule.may_pass(Epoch(10)).await };
        let ask = async { schedule.ask(Epoch(8)) };
        let ((), barrier) = tokio::join!(pass, ask);
        assert_eq!(barrier, Barrier { epoch: Epoch(10), then: Then::Stop });
        assert!(schedule.pass(Epoch(10)).is_some() && schedule.ends_at(Epoch(10)));
    }
}
