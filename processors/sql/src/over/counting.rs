//! Which rows count for some rows that follow each other, and what they come to.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, UInt32Array};
use arrow::compute::take;
use millstream_core::{Result, canonical_floats};

use super::blocks::{Merge, Slots};
use super::feature::Feature;
use super::history::Place;
use super::segments::Segments;
use crate::accumulate::accumulator::Rows;
use crate::accumulate::aggregate::Aggregate;

/// The rows that count for some rows.
#[derive(Default)]
pub struct Counting {
    /// Blocks that are new, and their rows.
    new: Gathered,
    merges: Vec<Merge>,
    /// Rows and blocks, by turns, so that all are taken in the order in which they came.
    rounds: Vec<Round>,
    /// All rows, for aggregates that are not put together from blocks.
    all: Gathered,
    /// The row before each row.
    before: Vec<Option<Place>>,
    times: Vec<i64>,
    /// Of the row that is looked at: the round, and whether blocks have come in it.
    turn: (usize, bool),
}

/// Rows, and for which of the rows, or to which block, each counts.
#[derive(Default)]
struct Gathered {
    places: Vec<Place>,
    slots: Vec<u32>,
}

impl Gathered {
    fn push(&mut self, place: Place, slot: u32) {
        self.places.push(place);
        self.slots.push(slot);
    }
}

/// Rows, then blocks.
#[derive(Default)]
struct Round {
    rows: Gathered,
    /// The slots of blocks, and for which of the rows each counts.
    blocks: Vec<[u32; 2]>,
}

impl Counting {
    /// How much there is to be looked at.
    pub fn size(&self) -> usize {
        let round = |round: &Round| round.rows.places.len() + round.blocks.len();
        self.all.places.len() + self.new.places.len() + self.rounds.iter().map(round).sum::<usize>()
    }

    /// How many rows there are for which others count.
    pub fn rows(&self) -> usize {
        self.before.len()
    }

    /// Begins with the next row.
    pub fn begin(&mut self, before: Option<Place>, time: i64) {
        self.before.push(before);
        self.times.push(time);
        self.turn = (0, false);
    }

    fn slot(&self) -> u32 {
        self.before.len() as u32 - 1
    }

    fn round(&mut self) -> &mut Round {
        if self.rounds.len() <= self.turn.0 {
            self.rounds.push(Round::default());
        }
        &mut self.rounds[self.turn.0]
    }

    /// A row counts.
    pub fn row(&mut self, place: Place) {
        if self.turn.1 {
            self.turn = (self.turn.0 + 1, false);
        }
        let slot = self.slot();
        self.round().rows.push(place, slot);
    }

    /// A block counts.
    pub fn block(&mut self, block: u32) {
        self.turn.1 = true;
        let slot = self.slot();
        self.round().blocks.push([block, slot]);
    }

    /// A row counts for aggregates that are not put together from blocks.
    pub fn row_alone(&mut self, place: Place) {
        let slot = self.slot();
        self.all.push(place, slot);
    }

    /// The row counts for itself.
    pub fn current(&mut self, place: Place, has_small: bool, has_others: bool) {
        if has_small {
            self.row(place);
        }
        if has_others {
            self.row_alone(place);
        }
    }

    /// There is a new block of these rows.
    pub fn new_block(&mut self, slot: u32, places: impl Iterator<Item = Place>) {
        places.for_each(|place| self.new.push(place, slot));
    }

    /// There are new blocks of others.
    pub fn merges(&mut self) -> &mut Vec<Merge> {
        &mut self.merges
    }

    /// Computes the features of the rows for which others count.
    pub fn compute(&self, features: &mut [Feature], segments: &Segments, slots: &mut Slots) -> Result<Vec<ArrayRef>> {
        let own: Vec<u32> = self.before.iter().map(|_| slots.take()).collect();
        let steps = self.steps(segments, &own);
        let all = Located::new(&self.all, segments);
        let mut columns = Vec::with_capacity(features.len());
        for (number, feature) in features.iter_mut().enumerate() {
            columns.push(match feature {
                Feature::Aggregate(aggregate) if aggregate.accumulator.is_small() => {
                    aggregate.accumulator.grow(slots.count());
                    steps.iter().try_for_each(|step| step.take(number, aggregate, segments))?;
                    let values = canonical_floats(&aggregate.accumulator.finish(&own)?);
                    own.iter().chain(&slots.released).for_each(|slot| aggregate.accumulator.clear(*slot));
                    values
                }
                Feature::Aggregate(aggregate) => self.aggregate_all(number, aggregate, &all, segments)?,
                Feature::Lag(..) => self.lag(number, segments)?,
                Feature::TimeSince(_) => self.time_since(),
            });
        }
        let released = std::mem::take(&mut slots.released);
        slots.give_back(own);
        slots.give_back(released);
        Ok(columns)
    }

    /// Only makes the new blocks.
    pub fn build(&self, features: &mut [Feature], segments: &Segments, slots: &Slots) -> Result<()> {
        let steps = self.steps(segments, &[]);
        for (number, feature) in features.iter_mut().enumerate() {
            if let Feature::Aggregate(aggregate) = feature
                && aggregate.accumulator.is_small()
            {
                aggregate.accumulator.grow(slots.count());
                steps.iter().try_for_each(|step| step.take(number, aggregate, segments))?;
            }
        }
        Ok(())
    }

    /// What is to be taken and put together, in order; the rows for which others count have these slots of their own.
    fn steps(&self, segments: &Segments, own: &[u32]) -> Vec<Located> {
        let pairs = |merge: &Merge| [[merge[0], merge[2]], [merge[1], merge[2]]];
        let new = Located { merges: self.merges.iter().flat_map(pairs).collect(), ..Located::new(&self.new, segments) };
        let slot = |slot: &u32| own[*slot as usize];
        let rounds = self.rounds.iter().map(|round| {
            let located = Located::new(&round.rows, segments);
            let slots = located.slots.iter().map(slot).collect();
            let merges = round.blocks.iter().map(|[block, into]| [*block, slot(into)]).collect();
            Located { slots, merges, ..located }
        });
        std::iter::once(new).chain(rounds).collect()
    }

    fn aggregate_all(
        &self,
        feature: usize,
        aggregate: &mut Aggregate,
        all: &Located,
        segments: &Segments,
    ) -> Result<ArrayRef> {
        let slots: Vec<u32> = (0..self.rows() as u32).collect();
        aggregate.accumulator.grow(slots.len());
        all.take(feature, aggregate, segments)?;
        let values = canonical_floats(&aggregate.accumulator.finish(&slots)?);
        slots.iter().for_each(|slot| aggregate.accumulator.clear(*slot));
        Ok(values)
    }

    /// The values of the rows before, and null where there is none.
    fn lag(&self, feature: usize, segments: &Segments) -> Result<ArrayRef> {
        let there = segments.find(self.before.iter().flatten().map(|place| place.row));
        let values = segments.gather(feature, &there)?;
        let mut numbers = 0..;
        let places: UInt32Array = self.before.iter().map(|before| before.and_then(|_| numbers.next())).collect();
        Ok(take(values.values(), &places, None)?)
    }

    fn time_since(&self) -> ArrayRef {
        let since = |(before, time): (&Option<Place>, &i64)| before.map(|before| (time - before.time) as f64 / 1e6);
        Arc::new(self.before.iter().zip(&self.times).map(since).collect::<Float64Array>())
    }
}

/// Rows that are found, and blocks behind them, on their way into slots.
struct Located {
    places: Vec<(usize, usize)>,
    times: Vec<i64>,
    slots: Vec<u32>,
    /// Slots, and those that they are added to.
    merges: Vec<[u32; 2]>,
}

impl Located {
    fn new(gathered: &Gathered, segments: &Segments) -> Self {
        Self {
            places: segments.find(gathered.places.iter().map(|place| place.row)),
            times: gathered.places.iter().map(|place| place.time).collect(),
            slots: gathered.slots.clone(),
            merges: Vec::new(),
        }
    }

    fn take(&self, feature: usize, aggregate: &mut Aggregate, segments: &Segments) -> Result<()> {
        if !self.places.is_empty() {
            let arguments = segments.gather(feature, &self.places)?;
            aggregate.update(&arguments, Rows { slots: &self.slots, times: &self.times })?;
        }
        self.merges.iter().for_each(|[from, into]| aggregate.accumulator.merge(*from, *into));
        Ok(())
    }
}
