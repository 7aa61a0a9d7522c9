//! Time groups: inputs that advance together in event time, since rows of one are predicted by what is learned from another.
//!
//! Before an input sends rows, it waits until those that it waits for have come as far. How far an input has come is known
//! from the rows that it has read and not sent yet, so batches need not be as small as the steps that inputs take in turn.
//!
//! In flows whose inputs end, each waits for all others: rows are sent in the order of their event times, and of equal
//! ones in that of the plan. The input that first has enough rows for an epoch ends it, and the others end theirs before
//! their next row, so that barriers lie at the same event time in all of them, however rows are cut into batches. In
//! live flows an input waits for those only whose rows are predicted by what is learned from it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_core::{Epoch, EventTime};
use tokio::sync::Notify;

use crate::plan::{NodeIndex, PlannedTimeGroup};

/// The inputs of a group, and how far each of them has come.
#[derive(Debug)]
struct TimeGroup {
    inputs: Mutex<Vec<State>>,
    changed: Notify,
}

/// An input, as the others see it.
#[derive(Debug)]
struct State {
    /// Those of the group that have to end before it begins.
    after: Vec<usize>,
    phase: Phase,
    /// The epoch that it is in.
    epoch: Epoch,
    /// Rows that it is still to send are no earlier.
    come: EventTime,
    /// The same at its barriers, as long as others have not come to them.
    barriers: VecDeque<(Epoch, EventTime)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    /// It has had no rows for a while.
    Idle,
    /// It sends nothing more.
    Over,
}

/// The part of an input in its group. When it is dropped, the input is over.
#[derive(Debug)]
pub struct Member {
    group: Arc<TimeGroup>,
    index: usize,
    waits_for: Vec<usize>,
    is_predicted: bool,
}

/// What a member may do with the rows that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send those up to this event time, of which there is at least one.
    Until(EventTime),
    /// End its epoch: they lie behind the barrier of another.
    Barrier,
}

/// The members of a planned group, each with the node that it is.
pub fn members(planned: &PlannedTimeGroup) -> Vec<(NodeIndex, Member)> {
    let state = |after: &[usize]| State {
        after: after.to_vec(),
        phase: Phase::Waiting,
        epoch: Epoch::default(),
        come: EventTime::MIN,
        barriers: VecDeque::new(),
    };
    let inputs = planned.members.iter().map(|member| state(&member.after)).collect();
    let group = Arc::new(TimeGroup { inputs: Mutex::new(inputs), changed: Notify::new() });
    let member = |(index, planned): (usize, &crate::plan::PlannedMember)| {
        let (waits_for, is_predicted) = (planned.waits_for.clone(), planned.is_predicted);
        (planned.input, Member { group: group.clone(), index, waits_for, is_predicted })
    };
    planned.members.iter().enumerate().map(member).collect()
}

impl Member {
    /// Whether its own rows are predicted. Then it has come as far as its watermark; else as far as its latest row.
    pub fn is_predicted(&self) -> bool {
        self.is_predicted
    }

    /// It begins, in this epoch.
    pub fn begin(&self, epoch: Epoch) {
        self.change(|input| (input.phase, input.epoch) = (Phase::Running, epoch));
    }

    /// It has come so far: of the rows that it is still to send in its epoch, none is earlier.
    pub fn come_to(&self, at: EventTime) {
        self.change(|input| (input.phase, input.come) = (Phase::Running, input.come.max(at)));
    }

    /// It has had no rows for a while, so that nobody waits for it.
    pub fn fall_idle(&self) {
        self.change(|input| input.phase = Phase::Idle);
    }

    /// It ends its epoch. Rows behind the barrier are no earlier than `at`.
    pub fn pass(&self, epoch: Epoch, at: EventTime) {
        let mut inputs = self.group.lock();
        inputs[self.index].barriers.push_back((epoch, at));
        inputs[self.index].epoch = epoch.next();
        let running = inputs.iter().filter(|input| input.phase != Phase::Over);
        if let Some(oldest) = running.map(|input| input.epoch).min() {
            inputs.iter_mut().for_each(|input| input.barriers.retain(|(epoch, _)| *epoch >= oldest));
        }
        drop(inputs);
        self.group.changed.notify_waiters();
    }

    /// Waits until the first of its rows, at event time `first`, may be sent in this epoch, or the epoch has to end before.
    pub async fn turn(&self, epoch: Epoch, first: EventTime) -> Turn {
        loop {
            let changed = self.group.changed.notified();
            if let Some(turn) = self.turn_now(epoch, first) {
                return turn;
            }
            changed.await;
        }
    }

    fn turn_now(&self, epoch: Epoch, first: EventTime) -> Option<Turn> {
        let inputs = self.group.lock();
        let mut until = EventTime::MAX;
        for &other in &self.waits_for {
            let Some((at, is_barrier)) = bound(&inputs, other, epoch) else { continue };
            let at = before(other, self.index, at).max(inherited(&inputs, other, self.index));
            if is_barrier && first > at {
                return Some(Turn::Barrier);
            }
            until = until.min(at);
        }
        (first <= until).then_some(Turn::Until(until))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.group.lock()[self.index]);
        self.group.changed.notify_waiters();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.change(|input| input.phase = Phase::Over);
    }
}

impl TimeGroup {
    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to which event time others may send rows in an epoch because of this input, and whether its barrier is there. None if
/// it holds nobody back.
fn bound(inputs: &[State], index: usize, epoch: Epoch) -> Option<(EventTime, bool)> {
    let input = &inputs[index];
    if input.phase == Phase::Waiting {
        // Once it can begin, its rows may be of any time.
        let is_over = |other: &usize| inputs[*other].phase == Phase::Over && inputs[*other].epoch <= epoch;
        return input.after.iter().all(is_over).then_some((EventTime::MIN, false));
    }
    if let Some((_, at)) = input.barriers.iter().find(|(barrier, _)| *barrier == epoch) {
        return Some((*at, true));
    }
    (input.phase == Phase::Running && input.epoch <= epoch).then_some((input.come, false))
}

/// Up to which event time rows of the input at `index` come before those of another at `at`: of rows of the same time, those of
/// the first input come first.
fn before(other: usize, index: usize, at: EventTime) -> EventTime {
    if other < index { at.saturating_sub(1) } else { at }
}

/// Up to which event time an input may send rows, since those let it that had to end before another begins: whether it has sent
/// them when they end must not depend on who is faster.
fn inherited(inputs: &[State], other: usize, index: usize) -> EventTime {
    let of_one = |after: &usize| before(*after, index, inputs[*after].come).max(inherited(inputs, *after, index));
    inputs[other].after.iter().map(of_one).max().unwrap_or(EventTime::MIN)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::plan::PlannedMember;

    /// A group of two or three inputs, each of which waits for all others.
    fn group(after: &[&[usize]]) -> Vec<Member> {
        let member = |(index, after): (usize, &&[usize])| PlannedMember {
            input: index,
            is_predicted: index == 0,
            waits_for: (0..2).chain(2..3).filter(|other| *other != index).collect(),
            after: after.to_vec(),
        };
        let planned: Vec<_> = after.iter().enumerate().map(member).collect();
        let count = planned.len();
        let limited = planned.into_iter().map(|mut member| {
            member.waits_for.retain(|other| *other < count);
            member
        });
        let planned = PlannedTimeGroup { members: limited.collect(), is_strict: true };
        members(&planned).into_iter().map(|(_, member)| member).collect()
    }

    fn turn(member: &Member, epoch: u64, first: EventTime) -> Option<Turn> {
        member.turn(Epoch(epoch), first).now_or_never()
    }

    #[test]
    fn rows_are_sent_in_the_order_of_their_times_and_of_the_inputs() {
        let members = group(&[&[], &[]]);
        members[1].begin(Epoch(1));
        members[1].come_to(20);
        assert_eq!(turn(&members[1], 1, 10), None, "the other one has not begun");
        members[0].begin(Epoch(1));
        members[0].come_to(15);
        assert_eq!(turn(&members[1], 1, 10), Some(Turn::Until(14)));
        assert_eq!(turn(&members[1], 1, 15), None, "of equal times the first input goes first");
        assert_eq!(turn(&members[0], 1, 15), Some(Turn::Until(20)));
    }

    #[test]
    fn an_epoch_ends_at_the_same_time_in_all() {
        let members = group(&[&[], &[]]);
        members.iter().for_each(|member| member.begin(Epoch(1)));
        members[0].come_to(15);
        members[1].come_to(20);
        members[0].pass(Epoch(1), 15);
        members[0].come_to(40);
        assert_eq!(turn(&members[1], 1, 12), Some(Turn::Until(14)), "rows before the barrier are still sent");
        assert_eq!(turn(&members[1], 1, 15), Some(Turn::Barrier));
        members[1].pass(Epoch(1), 15);
        assert_eq!(turn(&members[1], 2, 15), Some(Turn::Until(39)));
    }

    #[test]
    fn one_that_is_over_or_idle_holds_nobody_back_before_its_borders() {
        let mut members = group(&[&[], &[]]);
        members.iter().for_each(|member| member.begin(Epoch(1)));
        members[0].come_to(15);
        members[0].fall_idle();
        assert_eq!(turn(&members[1], 1, 100), Some(Turn::Until(EventTime::MAX)));
        members[0].come_to(18);
        assert_eq!(turn(&members[1], 1, 100), None);
        members[0].pass(Epoch(1), 18);
        members.remove(0);
        assert_eq!(turn(&members[0], 1, 100), Some(Turn::Barrier));
        assert_eq!(turn(&members[0], 2, 100), Some(Turn::Until(EventTime::MAX)));
    }

    #[test]
    fn one_that_begins_later_is_waited_for_from_then_on() {
        let mut members = group(&[&[], &[], &[0]]);
        members[0].begin(Epoch(1));
        members[1].begin(Epoch(1));
        members[0].come_to(15);
        assert_eq!(
            turn(&members[1], 1, 10),
            Some(Turn::Until(14)),
            "the third does not begin before the first is over"
        );
        members.remove(0);
        assert_eq!(turn(&members[0], 1, 15), None);
        assert_eq!(turn(&members[0], 1, 10), Some(Turn::Until(14)), "the first has let it, also if it was slower");
        members[1].begin(Epoch(1));
        members[1].come_to(12);
        assert_eq!(turn(&members[0], 1, 14), Some(Turn::Until(14)));
        members[1].pass(Epoch(1), 13);
        assert_eq!(
            turn(&members[0], 1, 14),
            Some(Turn::Until(14)),
            "before the barrier lies all that the first has let go"
        );
        assert_eq!(turn(&members[0], 1, 15), Some(Turn::Barrier));
    }
}
