//! Session windows: a group's rows that follow each other closely, with a gap behind them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use foldhash::fast::RandomState;
use millstream_core::{Error, EventTime, Parts, Result, State};

use super::Closed;
use crate::accumulate::groups::{Full, Groups};

/// The end that a session had when it was begun or looked at last, its number, and its group.
type End = (i64, u64, Box<[u8]>);

/// The first and the last row of a session, and whether it has changed: what format 3 kept of each.
type Kept = (EventTime, EventTime, bool);

/// The open sessions.
pub struct Sessions {
    gap: i64,
    /// Of each group, mostly one.
    open: HashMap<Box<[u8]>, Vec<Session>, RandomState>,
    /// When to look at each. The end that it has now does as well as the one that it had.
    ends: BinaryHeap<Reverse<End>>,
    begun: u64,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    first: EventTime,
    last: EventTime,
    slot: u32,
    /// How many were begun before it; orders sessions that end and start at the same time.
    number: u64,
    changed: bool,
}

impl Sessions {
    /// Sessions end when nothing has come for `gap` microseconds.
    pub fn new(gap: i64) -> Self {
        Self { gap, open: HashMap::default(), ends: BinaryHeap::new(), begun: 0 }
    }

    /// Whether a row would be in a session that is closed.
    pub fn is_late(&self, time: EventTime, key: &[u8], watermark: EventTime) -> bool {
        let gap = self.gap;
        let joins = |session: &Session| is_near(session, time, gap);
        time.saturating_add(gap) <= watermark && !self.open.get(key).is_some_and(|open| open.iter().any(joins))
    }

    /// Whether two sessions become one by a row.
    pub fn brings_together(&self, time: EventTime, key: &[u8]) -> bool {
        let near = |open: &Vec<Session>| open.iter().filter(|session| is_near(session, time, self.gap)).count() > 1;
        self.open.get(key).is_some_and(near)
    }

    /// The slot of a row. Sessions that the row joins become one.
    pub fn slot(&mut self, groups: &mut Groups, time: EventTime, key: &[u8]) -> Result<u32, Full> {
        let gap = self.gap;
        if let Some(open) = self.open.get_mut(key)
            && let Some(place) = open.iter().position(|session| is_near(session, time, gap))
        {
            extend(&mut open[place], time);
            let session = open[place];
            let other = (0..open.len()).find(|other| *other != place && is_near(&open[*other], time, gap));
            let Some(other) = other else { return Ok(session.slot) };
            return Ok(join(open, place.min(other), place.max(other), groups));
        }
        let slot = groups.open(key)?;
        self.begin(key, (time, time, true), slot);
        Ok(slot)
    }

    fn begin(&mut self, key: &[u8], (first, last, changed): Kept, slot: u32) {
        self.begun += 1;
        self.add(key, Session { first, last, slot, number: self.begun, changed });
    }

    fn add(&mut self, key: &[u8], session: Session) {
        self.ends.push(Reverse((session.last.saturating_add(self.gap), session.number, key.into())));
        match self.open.get_mut(key) {
            Some(open) => open.push(session),
            None => _ = self.open.insert(key.into(), vec![session]),
        }
    }

    /// The sessions that end at `watermark` or before, in order. The slots are the caller's to release.
    pub fn close(&mut self, watermark: EventTime) -> Vec<Closed> {
        let mut closed = Vec::new();
        while self.ends.peek().is_some_and(|Reverse((end, ..))| *end <= watermark) {
            let Some(Reverse((_, number, key))) = self.ends.pop() else { break };
            let Some(open) = self.open.get_mut(&key) else { continue };
            // It may have become a part of another session, which has an end of its own.
            let Some(place) = open.iter().position(|session| session.number == number) else { continue };
            let end = open[place].last.saturating_add(self.gap);
            if end > watermark {
                self.ends.push(Reverse((end, number, key)));
                continue;
            }
            closed.push(open.remove(place));
            if open.is_empty() {
                self.open.remove(&key);
            }
        }
        self.in_order(closed)
    }

    /// The sessions that are open and have changed since this was asked last, as they are now.
    pub fn peek(&mut self, groups: &mut Groups) -> Vec<Closed> {
        let mut changed = Vec::new();
        for session in self.open.values_mut().flatten().filter(|session| session.changed) {
            session.changed = false;
            groups.changed(session.slot);
            changed.push(*session);
        }
        self.in_order(changed)
    }

    /// The columns of groups in the state: what there is of a session. They have the order in which they were begun.
    pub fn own_fields() -> (Vec<Field>, usize) {
        let times = ["number", "first", "last"].map(|name| Field::new(name, DataType::Int64, false));
        (times.into_iter().chain([Field::new("changed", DataType::Boolean, false)]).collect(), 1)
    }

    /// Keeps which sessions are open, and their groups.
    pub fn save(&self, groups: &mut Groups, parts: &mut Parts) -> Result<()> {
        groups.save(parts, |groups, slots| {
            let sessions: Vec<&Session> = slots.iter().filter_map(|slot| self.of(groups.key(*slot), *slot)).collect();
            let column = |of: fn(&Session) -> i64| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(sessions.iter().map(|session| of(session))))
            };
            let changed: BooleanArray = sessions.iter().map(|session| Some(session.changed)).collect();
            let columns: Vec<ArrayRef> = vec![
                column(|session| session.number as i64),
                column(|session| session.first),
                column(|session| session.last),
                Arc::new(changed),
            ];
            move || columns
        })
    }

    /// The session of a group.
    fn of(&self, key: &[u8], slot: u32) -> Option<&Session> {
        self.open.get(key)?.iter().find(|session| session.slot == slot)
    }

    /// Takes in what was kept. The groups have been taken in already; `own` are their own columns.
    pub fn load(&mut self, state: &State, groups: &Groups, own: &[RecordBatch]) -> Result<()> {
        if state.has("sessions") {
            return self.load_one_piece(state, groups);
        }
        let mut slots = 0..groups.loaded();
        for rows in own {
            let [numbers, firsts, lasts] = [0, 1, 2].map(|column| rows.column(column).as_primitive::<Int64Type>());
            let changed = rows.column(3).as_boolean();
            for (row, slot) in (0..rows.num_rows()).zip(slots.by_ref()) {
                let number = u64::try_from(numbers.value(row));
                let number = number.map_err(|_| Error::new("the state has a session without a number"))?;
                let (first, last, changed) = (firsts.value(row), lasts.value(row), changed.value(row));
                self.begun = self.begun.max(number);
                self.add(groups.key(slot), Session { first, last, slot, number, changed });
            }
        }
        Ok(())
    }

    /// Takes in what format 3 has kept, in the order in which sessions were begun.
    fn load_one_piece(&mut self, state: &State, groups: &Groups) -> Result<()> {
        let sessions: Vec<Kept> = state.get("sessions")?;
        if sessions.len() as u64 != u64::from(groups.loaded()) {
            return Err(Error::new(format!(
                "the state has {} sessions and {} groups",
                sessions.len(),
                groups.loaded()
            )));
        }
        (0..).zip(sessions).for_each(|(slot, session)| self.begin(groups.key(slot), session, slot));
        Ok(())
    }

    fn in_order(&self, mut sessions: Vec<Session>) -> Vec<Closed> {
        sessions.sort_by_key(|session| (session.last, session.first, session.number));
        let closed = |session: Session| Closed {
            start: session.first,
            end: session.last.saturating_add(self.gap),
            slot: session.slot,
        };
        sessions.into_iter().map(closed).collect()
    }
}

fn is_near(session: &Session, time: EventTime, gap: i64) -> bool {
    time > session.first.saturating_sub(gap) && time < session.last.saturating_add(gap)
}

fn extend(session: &mut Session, time: EventTime) {
    session.first = session.first.min(time);
    session.last = session.last.max(time);
    session.changed = true;
}

/// Makes one of two sessions that a row has brought together; the slot of the older one is kept.
fn join(open: &mut Vec<Session>, kept: usize, gone: usize, groups: &mut Groups) -> u32 {
    let Session { first, last, slot, .. } = open.remove(gone);
    let session = &mut open[kept];
    extend(session, first);
    extend(session, last);
    groups.merge(slot, session.slot);
    groups.release([slot]);
    session.slot
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn what_is_kept_of_a_group_does_not_grow_while_it_always_has_a_session() {
        let mut groups = Groups::new(&Schema::empty(), Vec::new(), Vec::new(), 10, Sessions::own_fields()).unwrap();
        let mut sessions = Sessions::new(5);
        let mut closed = 0;
        for number in 0..1000 {
            // Each begins before the one before is closed.
            sessions.slot(&mut groups, number * 10, b"").unwrap();
            let ended = sessions.close(number * 10 - 2);
            groups.release(ended.iter().map(|session| session.slot));
            closed += ended.len();
            assert!(sessions.ends.len() <= 2 && sessions.open[&b""[..]].len() <= 2, "{} ends", sessions.ends.len());
        }
        assert_eq!(closed, 999);
    }
}
