//! Session windows: a group's rows that follow each other closely, with a gap behind them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use foldhash::fast::RandomState;
use millstream_core::EventTime;

use super::groups::{Closed, Full, Groups};

/// The open sessions.
pub struct Sessions {
    gap: i64,
    /// Of each group, mostly one.
    open: HashMap<Box<[u8]>, Vec<Session>, RandomState>,
    /// When to look at a group: at the end that one of its sessions had when it was begun or looked at last.
    ends: BinaryHeap<Reverse<(i64, Box<[u8]>)>>,
    begun: u64,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    first: EventTime,
    last: EventTime,
    slot: u32,
    /// Orders sessions that end and start at the same time.
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
        self.begun += 1;
        let session = Session { first: time, last: time, slot, number: self.begun, changed: true };
        self.ends.push(Reverse((time.saturating_add(gap), key.into())));
        match self.open.get_mut(key) {
            Some(open) => open.push(session),
            None => _ = self.open.insert(key.into(), vec![session]),
        }
        Ok(slot)
    }

    /// The sessions that end at `watermark` or before, in order. The slots are the caller's to release.
    pub fn close(&mut self, watermark: EventTime) -> Vec<Closed> {
        let mut closed = Vec::new();
        while self.ends.peek().is_some_and(|Reverse((end, _))| *end <= watermark) {
            let Some(Reverse((_, key))) = self.ends.pop() else { break };
            let Some(open) = self.open.get_mut(&key) else { continue };
            closed.extend(open.extract_if(.., |session| session.last.saturating_add(self.gap) <= watermark));
            match open.iter().map(|session| session.last).min() {
                Some(last) => self.ends.push(Reverse((last.saturating_add(self.gap), key))),
                None => _ = self.open.remove(&key),
            }
        }
        self.in_order(closed)
    }

    /// The sessions that are open and have changed since this was asked last, as they are now.
    pub fn peek(&mut self) -> Vec<Closed> {
        let mut changed = Vec::new();
        for session in self.open.values_mut().flatten().filter(|session| session.changed) {
            session.changed = false;
            changed.push(*session);
        }
        self.in_order(changed)
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
