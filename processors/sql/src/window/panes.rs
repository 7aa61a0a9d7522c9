//! Windows of a fixed length, put together from *panes*: the longest stretches that never lie in one window only in part.
//!
//! A row goes into one pane, however many windows overlap there. When a window closes, the panes in it are added up;
//! a tumbling window is one pane.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use millstream_core::{Error, EventTime, Parts, Result, State};

use super::Closed;
use crate::accumulate::groups::{Full, Groups, Table};

/// The open windows.
pub struct Panes {
    size: i64,
    every: i64,
    /// The length of a pane.
    length: i64,
    /// By their starts.
    panes: BTreeMap<i64, Pane>,
    /// Windows that start earlier are closed, whether they had rows or not.
    next: i64,
    /// By the slot of each group, which pane it is in, and its number there.
    homes: Vec<Home>,
    starts: Starts,
}

/// The number of a pane among its [`Starts`], and the number of a group in it.
type Home = (u32, u32);

/// The starts of panes by numbers, which need half the room.
#[derive(Default)]
struct Starts {
    starts: Vec<i64>,
    free: Vec<u32>,
}

impl Starts {
    /// A number for a pane.
    fn number(&mut self, start: i64) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.starts[number as usize] = start;
                number
            }
            None => {
                self.starts.push(start);
                self.starts.len() as u32 - 1
            }
        }
    }
}

/// The start of a pane, whether it has changed, and how many groups it has.
type Kept = (i64, bool, u64);

struct Pane {
    /// Among the [`Starts`].
    number: u32,
    table: Table,
    /// Whether rows came since windows were shown early.
    changed: bool,
}

impl Panes {
    /// Windows of `size` microseconds that start every `every`.
    pub fn new(size: i64, every: i64) -> Self {
        let length = greatest_common_divisor(size, every);
        Self {
            size,
            every,
            length,
            panes: BTreeMap::new(),
            next: i64::MIN,
            homes: Vec::new(),
            starts: Starts::default(),
        }
    }

    /// Whether all windows of a time are closed.
    #[inline]
    pub fn is_late(&self, time: EventTime, watermark: EventTime) -> bool {
        floor(time, self.every).saturating_add(self.size) <= watermark
    }

    /// The slot of a row.
    #[inline]
    pub fn slot(&mut self, groups: &mut Groups, time: EventTime, key: &[u8]) -> Result<u32, Full> {
        let start = floor(time, self.length);
        let Self { panes, starts, .. } = self;
        let pane = panes.entry(start).or_insert_with(|| Pane::new(starts.number(start)));
        pane.changed = true;
        if let Some(slot) = groups.find(&pane.table, key) {
            return Ok(slot);
        }
        let slot = groups.add(&mut pane.table, key)?;
        settle(&mut self.homes, slot, (pane.number, pane.table.slots.len() as u32 - 1));
        Ok(slot)
    }

    /// The windows that end at `watermark` or before, in order; forgets the panes that no other window needs. The
    /// slots are the caller's to release.
    pub fn close(&mut self, groups: &mut Groups, watermark: EventTime) -> Vec<Closed> {
        let mut closed = Vec::new();
        while let Some((&first, _)) = self.panes.first_key_value() {
            let start = self.first_window(first).max(self.next);
            let end = start.saturating_add(self.size);
            if end > watermark {
                break;
            }
            self.next = start + self.every;
            if self.size == self.length {
                let Some(pane) = self.panes.remove(&start) else { continue };
                self.starts.free.push(pane.number);
                closed.extend(pane.table.slots.iter().map(|slot| Closed { start, end, slot: *slot }));
                continue;
            }
            closed.extend(self.put_together(groups, start));
            let behind = self.panes.split_off(&(start + self.every));
            let done = std::mem::replace(&mut self.panes, behind);
            self.starts.free.extend(done.values().map(|pane| pane.number));
            groups.release(done.into_values().flat_map(|pane| pane.table.slots));
        }
        self.next = self.next.max(self.start_of_open(watermark));
        closed
    }

    /// The windows that are open and have changed since this was asked last, as they are now.
    pub fn peek(&mut self, groups: &mut Groups) -> Vec<Closed> {
        let changed: Vec<i64> = self.panes.iter().filter(|(_, pane)| pane.changed).map(|(start, _)| *start).collect();
        let mut starts: Vec<i64> = changed.iter().flat_map(|pane| self.windows_of(*pane)).collect();
        starts.sort_unstable();
        starts.dedup();
        self.panes.values_mut().for_each(|pane| pane.changed = false);
        starts.into_iter().flat_map(|start| self.put_together(groups, start)).collect()
    }

    /// The columns of groups in the state: the start of the pane, and the number in it. Both are their order.
    pub fn own_fields() -> (Vec<Field>, usize) {
        (["pane", "number"].map(|name| Field::new(name, DataType::Int64, false)).into(), 2)
    }

    /// Keeps which windows are open, and their groups.
    pub fn save(&self, groups: &mut Groups, parts: &mut Parts) -> Result<()> {
        parts.put("next", &self.next)?;
        let panes = self.panes.iter().map(|(start, pane)| (*start, pane.changed, pane.table.slots.len() as u64));
        parts.put("panes", &panes.collect::<Vec<Kept>>())?;
        let starts: Arc<[i64]> = self.starts.starts.as_slice().into();
        groups.save(parts, |_, slots| {
            let homes: Vec<Home> = slots.iter().map(|slot| self.homes[*slot as usize]).collect();
            let starts = starts.clone();
            move || -> Vec<ArrayRef> {
                let panes = homes.iter().map(|home| starts[home.0 as usize]);
                let numbers = homes.iter().map(|home| i64::from(home.1));
                vec![Arc::new(Int64Array::from_iter_values(panes)), Arc::new(Int64Array::from_iter_values(numbers))]
            }
        })
    }

    /// Takes in what was kept. The groups have been taken in already; `own` are their own columns, if they have any.
    pub fn load(&mut self, state: &State, groups: &Groups, own: &[RecordBatch]) -> Result<()> {
        self.next = state.get("next")?;
        let mut slots = 0..groups.loaded();
        for (start, changed, count) in state.get::<Vec<Kept>>("panes")? {
            let mut pane = Pane { changed, ..Pane::new(self.starts.number(start)) };
            for (number, slot) in (0..count).zip(slots.by_ref()) {
                settle(&mut self.homes, slot, (pane.number, number as u32));
                groups.enter(&mut pane.table, slot);
            }
            let is_complete = pane.table.slots.len() as u64 == count;
            if !is_complete || start % self.length != 0 || self.panes.insert(start, pane).is_some() {
                return Err(no_good_pane(start));
            }
        }
        match slots.len() {
            0 => self.check(own),
            left => Err(Error::new(format!("the state has {left} groups that belong to no window"))),
        }
    }

    /// Whether groups are where their own columns say.
    fn check(&self, own: &[RecordBatch]) -> Result<()> {
        let rows = own.iter().flat_map(|rows| {
            let [panes, numbers] = [0, 1].map(|column| rows.column(column).as_primitive::<Int64Type>().values());
            panes.iter().zip(numbers)
        });
        let mut homes = self.homes.iter().map(|home| (self.starts.starts[home.0 as usize], i64::from(home.1)));
        let wrong = rows.zip(&mut homes).find(|((pane, number), home)| (**pane, **number) != *home);
        wrong.map_or(Ok(()), |(_, home)| Err(no_good_pane(home.0)))
    }

    /// How far the starts of the windows that are still to close have come.
    pub fn start_of_open(&self, watermark: EventTime) -> EventTime {
        floor(watermark.saturating_sub(self.size), self.every).saturating_add(self.every)
    }

    /// The start of the earliest window with a pane in it.
    fn first_window(&self, pane: i64) -> i64 {
        floor(pane + self.length - self.size - 1, self.every) + self.every
    }

    fn windows_of(&self, pane: i64) -> impl Iterator<Item = i64> + use<> {
        let (every, last) = (self.every, floor(pane, self.every));
        let first = self.first_window(pane).max(self.next);
        (0..).map(move |step| first + step * every).take_while(move |start| *start <= last)
    }

    /// The groups of one window, in slots of their own.
    fn put_together(&self, groups: &mut Groups, start: i64) -> Vec<Closed> {
        let end = start.saturating_add(self.size);
        let (mut order, mut by_key) = (Vec::new(), hashbrown::HashTable::new());
        for from in self.panes.range(start..end).flat_map(|(_, pane)| &pane.table.slots) {
            let key: Box<[u8]> = groups.key(*from).into();
            let hash = groups.hash(&key);
            let known = by_key.find(hash, |slot: &u32| *groups.key(*slot) == *key).copied();
            let into = known.unwrap_or_else(|| {
                let slot = groups.open_beyond(&key);
                by_key.insert_unique(hash, slot, |slot| groups.hash(groups.key(*slot)));
                order.push(slot);
                slot
            });
            groups.merge(*from, into);
        }
        order.into_iter().map(|slot| Closed { start, end, slot }).collect()
    }
}

impl Pane {
    fn new(number: u32) -> Self {
        Self { number, table: Table::default(), changed: false }
    }
}

/// Notes where a group is.
#[cold]
fn settle(homes: &mut Vec<Home>, slot: u32, home: Home) {
    let at = slot as usize;
    if at >= homes.len() {
        homes.resize(at + 1, (0, 0));
    }
    homes[at] = home;
}

fn no_good_pane(start: i64) -> Error {
    Error::new(format!("the state has no good pane of a window at {start}"))
}

/// The largest multiple of `step` that is not above `time`.
fn floor(time: i64, step: i64) -> i64 {
    time.div_euclid(step).saturating_mul(step)
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
