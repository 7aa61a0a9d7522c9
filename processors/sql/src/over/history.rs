//! The rows that are remembered, by their keys, and what they add to those that come.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema};
use arrow::row::{RowConverter, SortField};
use foldhash::fast::RandomState;
use millstream_core::{Result, canonical_floats};

use super::blocks::{BLOCK_ROWS, Block, Blocks, Share, Slots};
use super::counting::Counting;
use super::feature::Feature;
use super::kept::Kept;
use super::segments::Segments;
use crate::accumulate::aggregate::Arguments;

/// Which rows count.
#[derive(Clone, Copy, Debug)]
pub enum Frame {
    /// Those of so many microseconds.
    Time(i64),
    /// The last ones.
    Rows(usize),
}

pub type Key = Arc<[u8]>;

/// The remembered rows.
pub struct History {
    /// Of the key columns; none if there are no keys.
    pub(super) converter: Option<Arc<RowConverter>>,
    pub(super) columns: Vec<usize>,
    frame: Frame,
    /// Whether a row counts for itself.
    current: bool,
    most: usize,
    /// Whether there are aggregates that are put together from blocks, and others that are not.
    has_small: bool,
    has_others: bool,
    /// The rows of each key. Seeded at random; no result depends on hashes.
    pub(super) keys: HashMap<Key, KeyRows, RandomState>,
    pub(super) segments: Segments,
    pub(super) slots: Slots,
    /// When rows can be forgotten, by their slots in the state.
    forget: BinaryHeap<Reverse<(i64, u32)>>,
    pub(super) kept: Kept,
}

/// The rows of one key, in the order in which they came.
pub struct KeyRows {
    key: Key,
    places: VecDeque<Place>,
    blocks: Blocks,
}

/// A row that is remembered.
#[derive(Clone, Copy)]
pub struct Place {
    pub(super) row: u64,
    pub(super) time: i64,
    /// Among the rows of its key.
    pub(super) number: u64,
}

/// How many rows are looked at together.
const LOOK_AT: usize = 1 << 16;

impl Frame {
    /// Whether a row of that time counts for one of another time, which came later.
    fn counts(self, time: i64, now: i64) -> bool {
        match self {
            Self::Time(span) => time <= now && now.saturating_sub(time) < span,
            Self::Rows(_) => true,
        }
    }

    /// How much of a block counts for a row of a time, which came later.
    fn share(self, block: Block, now: i64) -> Share {
        match self {
            Self::Rows(_) => Share::Whole,
            Self::Time(span) if block.earliest > now || now.saturating_sub(block.latest) >= span => Share::None,
            Self::Time(_) if self.counts(block.earliest, now) && self.counts(block.latest, now) => Share::Whole,
            Self::Time(_) => Share::Part,
        }
    }
}

impl KeyRows {
    fn new(key: &[u8]) -> Self {
        Self { key: key.into(), places: VecDeque::new(), blocks: Blocks::default() }
    }

    /// The place of a row that is remembered.
    pub(super) fn place(&self, row: u64) -> Option<Place> {
        self.at(row).map(|at| self.places[at])
    }

    fn at(&self, row: u64) -> Option<usize> {
        self.places.binary_search_by_key(&row, |place| place.row).ok()
    }

    /// Gives what counts of the rows from place `from` on to a row of a time.
    fn cover(&self, from: usize, frame: Frame, now: i64, counting: &mut Counting) {
        let mut at = from;
        while let Some(place) = self.places.get(at) {
            match self.blocks.largest(place.number, self.places.len() - at, |block| frame.share(block, now)) {
                Some((rows, block)) => {
                    block.iter().for_each(|block| counting.block(block.slot));
                    at += rows;
                }
                None => {
                    if frame.counts(place.time, now) {
                        counting.row(*place);
                    }
                    at += 1;
                }
            }
        }
    }

    /// Remembers a row, and puts a block together if it completes one whose rows lie within `span`.
    fn remember(&mut self, place: Place, span: Option<i64>, slots: &mut Slots, counting: &mut Counting) {
        self.places.push_back(place);
        let Some(span) = span else { return };
        let Some((block, start)) = self.completed(span) else { return };
        let block = Block { slot: slots.take(), ..block };
        counting.new_block(block.slot, self.places.range(start..).copied());
        self.blocks.add(place.number / BLOCK_ROWS as u64, block, span, slots, counting.merges());
    }

    /// Forgets a row, and gives its slot in the state.
    fn forget(&mut self, at: usize, segments: &mut Segments, slots: &mut Slots) -> Option<u32> {
        let place = self.places.remove(at)?;
        self.blocks.forget(place.number, slots);
        Some(segments.forget(place.row))
    }

    /// The block that the last row has completed, if its rows can count together.
    fn completed(&self, span: i64) -> Option<(Block, usize)> {
        let last = self.places.back()?;
        let start = self.places.len().checked_sub(BLOCK_ROWS).filter(|_| (last.number + 1) % BLOCK_ROWS as u64 == 0)?;
        let times = || self.places.range(start..).map(|place| place.time);
        let (earliest, latest) = (times().min()?, times().max()?);
        let is_whole = self.places[start].number + BLOCK_ROWS as u64 == last.number + 1;
        let fits = is_whole && latest.saturating_sub(earliest) < span;
        fits.then_some((Block { slot: 0, earliest, latest }, start))
    }
}

impl History {
    /// Nothing yet of rows of `input`.
    pub fn new(
        input: &Schema,
        columns: Vec<usize>,
        features: &[Feature],
        frame: Frame,
        current: bool,
        most: usize,
    ) -> Result<Self> {
        let fields: Vec<Field> =
            columns.iter().map(|column| input.field(*column).clone().with_nullable(true)).collect();
        let sort = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect::<Vec<_>>();
        let converter = if sort.is_empty() { None } else { Some(Arc::new(RowConverter::new(sort)?)) };
        let is_small = |feature: &Feature| match feature {
            Feature::Aggregate(aggregate) => Some(aggregate.accumulator.is_small()),
            Feature::Lag(..) | Feature::TimeSince(_) => None,
        };
        Ok(Self {
            converter,
            columns,
            frame,
            current,
            most,
            has_small: features.iter().any(|feature| is_small(feature) == Some(true)),
            has_others: features.iter().any(|feature| is_small(feature) == Some(false)),
            keys: HashMap::default(),
            segments: Segments::default(),
            slots: Slots::default(),
            forget: BinaryHeap::new(),
            kept: Kept::new(fields, features),
        })
    }

    /// Takes rows in, one after the other, and gives the features of those that fit, with a mask of these.
    pub fn take(
        &mut self,
        rows: &RecordBatch,
        arguments: Vec<Arguments>,
        times: Option<&[i64]>,
        features: &mut [Feature],
    ) -> Result<(Vec<ArrayRef>, BooleanArray)> {
        let first = self.segments.push(arguments, rows.num_rows())?;
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| rows.column(*column).clone()).collect();
        let keys = self.read_keys(&columns)?;
        let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
        let (mut fit, mut counting) = (Vec::with_capacity(rows.num_rows()), Counting::default());
        for row in 0..rows.num_rows() {
            let time = times.map_or(0, |times| times[row]);
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            let held = self.keys.get(key).map_or(0, |of_key| of_key.places.len());
            let alone = if self.has_others { self.reached(held) } else { 0 };
            if counting.size() + alone > LOOK_AT && counting.rows() > 0 {
                parts.push(std::mem::take(&mut counting).compute(features, &self.segments, &mut self.slots)?);
            }
            let fits = self.has_room(held);
            if fits {
                self.remember(key, held, first + row as u64, time, &mut counting);
            }
            fit.push(fits);
        }
        parts.push(counting.compute(features, &self.segments, &mut self.slots)?);
        self.segments.tidy()?;
        let whole = (0..features.len()).map(|feature| {
            let parts: Vec<_> = parts.iter().map(|part| part[feature].as_ref()).collect();
            Ok(concat(&parts)?)
        });
        Ok((whole.collect::<Result<_>>()?, BooleanArray::from(fit)))
    }

    pub(super) fn read_keys(&self, columns: &[ArrayRef]) -> Result<Option<arrow::row::Rows>> {
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_floats).collect();
        Ok(self.converter.as_ref().map(|converter| converter.convert_columns(&columns)).transpose()?)
    }

    /// How many rows can count for one whose key holds so many.
    fn reached(&self, held: usize) -> usize {
        let all = held + usize::from(self.current);
        match self.frame {
            Frame::Time(_) => all,
            Frame::Rows(rows) => all.min(rows),
        }
    }

    /// Whether a row can be remembered whose key holds so many.
    fn has_room(&self, held: usize) -> bool {
        // The first one of the key makes room.
        let is_full = matches!(self.frame, Frame::Rows(rows) if held >= kept_of_each(rows));
        is_full || self.segments.live() < self.most
    }

    /// Notes which rows count for a row, whose key holds `held`, and remembers it.
    fn remember(&mut self, key: &[u8], held: usize, row: u64, time: i64, counting: &mut Counting) {
        if held == 0 {
            let of_key = KeyRows::new(key);
            self.keys.insert(of_key.key.clone(), of_key);
        }
        let from = held + usize::from(self.current) - self.reached(held);
        let (frame, blocks) = (self.frame, self.blocks());
        let Some(of_key) = self.keys.get_mut(key) else { return };
        let place = Place { row, time, number: of_key.places.back().map_or(0, |last| last.number + 1) };
        let counts = |other: &&Place| frame.counts(other.time, time);
        counting.begin(of_key.places.iter().rev().find(counts).copied(), time);
        if self.has_small {
            of_key.cover(from, frame, time, counting);
        }
        if self.has_others {
            of_key.places.iter().skip(from).filter(counts).for_each(|other| counting.row_alone(*other));
        }
        if self.current {
            counting.current(place, self.has_small, self.has_others);
        }
        of_key.remember(place, blocks, &mut self.slots, counting);
        let slot = self.kept.remember(&of_key.key, row);
        self.segments.remember(row, slot);
        match frame {
            Frame::Time(_) => self.forget.push(Reverse((time, slot))),
            Frame::Rows(rows) => {
                for _ in 0..of_key.places.len().saturating_sub(kept_of_each(rows)) {
                    if let Some(slot) = of_key.forget(0, &mut self.segments, &mut self.slots) {
                        self.kept.forget(slot);
                    }
                }
            }
        }
    }

    /// Remembers a row that was kept, if it comes behind the others of its key.
    pub(super) fn remember_again(&mut self, key: &[u8], place: Place, counting: &mut Counting) -> Option<()> {
        let blocks = self.blocks();
        if !self.keys.contains_key(key) {
            let of_key = KeyRows::new(key);
            self.keys.insert(of_key.key.clone(), of_key);
        }
        let of_key = self.keys.get_mut(key)?;
        if of_key.places.back().is_some_and(|last| last.number >= place.number) {
            return None;
        }
        of_key.remember(place, blocks, &mut self.slots, counting);
        let slot = self.kept.restored(&of_key.key, place.row);
        self.segments.remember(place.row, slot);
        if let Frame::Time(_) = self.frame {
            self.forget.push(Reverse((place.time, slot)));
        }
        Some(())
    }

    /// How far from each other rows can be that blocks are made of; `None` if there are no blocks.
    fn blocks(&self) -> Option<i64> {
        let span = match self.frame {
            Frame::Time(span) => Some(span),
            Frame::Rows(rows) => (rows >= 2 * BLOCK_ROWS).then_some(i64::MAX),
        };
        span.filter(|_| self.has_small)
    }

    /// Forgets rows that don't count for any that can still come, none of which is earlier than `watermark`.
    pub fn forget(&mut self, watermark: i64) {
        let Frame::Time(span) = self.frame else { return };
        while self.forget.peek().is_some_and(|Reverse((time, _))| time.saturating_add(span) <= watermark) {
            let Some(Reverse((_, slot))) = self.forget.pop() else { break };
            let (key, row) = self.kept.forget(slot);
            let Some(of_key) = self.keys.get_mut(&key) else { continue };
            if let Some(at) = of_key.at(row) {
                of_key.forget(at, &mut self.segments, &mut self.slots);
            }
            if of_key.places.is_empty() {
                self.keys.remove(&key);
            }
        }
    }

    /// Makes blocks that are noted, for no row.
    pub(super) fn build(&mut self, counting: &Counting, features: &mut [Feature]) -> Result<()> {
        counting.build(features, &self.segments, &self.slots)
    }
}

/// How many rows are kept of each key: one is needed as the row before, even where only a row itself counts.
fn kept_of_each(rows: usize) -> usize {
    rows.max(1)
}
