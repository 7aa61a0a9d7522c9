//! ADWIN (Bifet & Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007): a window that is as long as its mean stays
//! the same.
//!
//! The window is kept as buckets, of which each level has at most six: those of level `i` hold 2^i numbers. So a window of a million numbers
//! has about a hundred of them. Where the mean of the older ones and that of the newer ones differ by more than chance lets them, the numbers
//! have changed.

use std::collections::VecDeque;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, Check, Detect, Signal, check_between_0_and_1};

/// How many buckets of a level there are before the two oldest become one of the next level.
const MOST_OF_A_LEVEL: usize = 5;

/// How many numbers a part of the window has at least that is compared with the rest.
const LEAST_NUMBERS: f64 = 5.0;

/// The window has more numbers than that before it is looked at.
const GRACE: u64 = 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How probable it is that it cries wolf, at each look: the less, the later it notices a drift.
    #[serde(default = "delta")]
    delta: f64,
    /// Every so many numbers it looks.
    #[serde(default = "clock")]
    #[schemars(range(min = 1))]
    clock: u32,
}

fn delta() -> f64 {
    0.002
}

/// Every so many numbers it looks, if nothing else is said.
pub(crate) const CLOCK: u32 = 32;

fn clock() -> u32 {
    CLOCK
}

impl Settings {
    /// As usual, but that it cries wolf so often.
    pub(crate) fn of(delta: f64) -> Self {
        Self { delta, clock: CLOCK }
    }
}

impl Check for Settings {
    fn check(&self) -> Result<(), Problem> {
        check_between_0_and_1(&[("delta", self.delta)])?;
        if self.clock == 0 {
            return Err(Problem::new("`clock` is 0, and should be 1 at least").under("clock"));
        }
        Ok(())
    }
}

/// How many bytes one takes that remembers four billion numbers: by level, its buckets and the list of them, for which twice the room is kept.
pub(crate) const MOST_BYTES: usize =
    32 * ((MOST_OF_A_LEVEL + 1) * size_of::<Bucket>() + 2 * size_of::<VecDeque<Bucket>>());

/// Some numbers that follow each other: their sum, and the sum of the squares of their distances from their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bucket {
    sum: f64,
    squares: f64,
}

/// Numbers that follow each other, also of several buckets.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    count: f64,
    bucket: Bucket,
}

impl Span {
    fn mean(&self) -> f64 {
        self.bucket.sum / self.count
    }

    /// These numbers, and others.
    fn and(self, other: Self) -> Self {
        if self.count == 0.0 {
            return other;
        }
        let count = self.count + other.count;
        let apart = self.mean() - other.mean();
        let between = self.count * other.count / count * (apart * apart);
        let squares = self.bucket.squares + other.bucket.squares + between;
        Self { count, bucket: Bucket { sum: self.bucket.sum + other.bucket.sum, squares } }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// By level, the buckets of 2^level numbers, the oldest first.
    levels: Vec<VecDeque<Bucket>>,
    /// How many numbers there are.
    width: u64,
    /// How many there were, with those that were dropped.
    seen: u64,
}

impl Detector {
    /// The buckets, from the oldest to the newest.
    fn spans(&self) -> impl Iterator<Item = Span> {
        self.levels.iter().enumerate().rev().flat_map(|(level, buckets)| {
            let count = (1_u64 << level) as f64;
            buckets.iter().map(move |bucket| Span { count, bucket: *bucket })
        })
    }

    fn whole(&self) -> Span {
        self.spans().fold(Span::default(), Span::and)
    }

    fn insert(&mut self, value: f64) {
        (self.width, self.seen) = (self.width + 1, self.seen + 1);
        let mut carried = Some(Bucket { sum: value, squares: 0.0 });
        let mut level = 0;
        while let Some(bucket) = carried.take() {
            if self.levels.len() == level {
                self.levels.push(VecDeque::with_capacity(MOST_OF_A_LEVEL + 1));
            }
            let buckets = &mut self.levels[level];
            buckets.push_back(bucket);
            if buckets.len() > MOST_OF_A_LEVEL {
                let count = (1_u64 << level) as f64;
                let oldest = buckets.drain(..2).map(|bucket| Span { count, bucket });
                carried = Some(oldest.fold(Span::default(), Span::and).bucket);
            }
            level += 1;
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(buckets) = self.levels.last_mut() {
            buckets.pop_front();
            self.width -= 1 << (self.levels.len() - 1);
        }
        while self.levels.last().is_some_and(VecDeque::is_empty) {
            self.levels.pop();
        }
    }

    /// The first cut at which both parts differ by more than chance lets them.
    fn find_cut(&self, delta: f64) -> Option<Change> {
        let whole = self.whole();
        let variance = whole.bucket.squares / whole.count;
        let confidence = libm::log(2.0 * libm::log(whole.count) / delta);
        let (mut count, mut sum) = (0.0, 0.0);
        for span in self.spans() {
            (count, sum) = (count + span.count, sum + span.bucket.sum);
            let newer = whole.count - count;
            if newer < LEAST_NUMBERS {
                return None;
            }
            if count < LEAST_NUMBERS {
                continue;
            }
            let (before, after) = (sum / count, (whole.bucket.sum - sum) / newer);
            // The harmonic mean of the lengths, each without what is needed at least.
            let inverse = 1.0 / (count - LEAST_NUMBERS + 1.0) + 1.0 / (newer - LEAST_NUMBERS + 1.0);
            let bound = (2.0 * inverse * variance * confidence).sqrt() + 2.0 / 3.0 * confidence * inverse;
            if (before - after).abs() > bound {
                return Some(Change { before, after });
            }
        }
        None
    }

    /// Drops the oldest numbers as long as they differ from the newer ones. Returns the first difference.
    fn cut(&mut self, delta: f64) -> Option<Change> {
        let first = self.find_cut(delta)?;
        self.drop_oldest();
        while self.width > GRACE && self.find_cut(delta).is_some() {
            self.drop_oldest();
        }
        Some(first)
    }

    /// Takes one more number, and says whether the mean has risen. It goes on with what is left of the window behind a change.
    pub(crate) fn rises(&mut self, settings: &Settings, value: f64) -> bool {
        self.slide(settings, value).is_some_and(|change| change.after > change.before)
    }

    /// The mean of the numbers that it remembers; 0 if there are none.
    pub(crate) fn mean(&self) -> f64 {
        if self.width == 0 { 0.0 } else { self.whole().mean() }
    }

    /// How many numbers it remembers.
    pub(crate) fn width(&self) -> u64 {
        self.width
    }

    /// What it remembers, as numbers: how many there were and are, and by level how many buckets there are, and what is in each.
    pub(crate) fn to_numbers(&self) -> Vec<f64> {
        let mut numbers = vec![self.seen as f64, self.width as f64];
        for buckets in &self.levels {
            numbers.push(buckets.len() as f64);
            numbers.extend(buckets.iter().flat_map(|bucket| [bucket.sum, bucket.squares]));
        }
        numbers
    }

    /// One that remembers these numbers, unless they are those of none.
    pub(crate) fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let (head, mut rest) = numbers.split_first_chunk::<2>()?;
        let [seen, width] = head.map(|number| number as u64);
        let mut levels = Vec::new();
        while let Some((length, others)) = rest.split_first() {
            let (own, others) = others.split_at_checked(2 * (*length as usize).min(MOST_OF_A_LEVEL))?;
            let bucket = |[sum, squares]: &[f64; 2]| Bucket { sum: *sum, squares: *squares };
            levels.push(own.as_chunks().0.iter().map(bucket).collect::<VecDeque<_>>());
            rest = others;
        }
        let numbers_of = |(level, buckets): (usize, &VecDeque<_>)| (buckets.len() as u64).checked_shl(level as u32);
        let counted = levels.iter().enumerate().map(numbers_of).sum::<Option<u64>>()?;
        (counted == width && width <= seen && levels.last().is_none_or(|last| !last.is_empty())).then_some(Self {
            levels,
            width,
            seen,
        })
    }

    /// Takes one more number, and goes on with what is left of the window behind a drift.
    fn slide(&mut self, settings: &Settings, value: f64) -> Option<Change> {
        self.insert(value);
        let looks = self.seen.is_multiple_of(settings.clock.into()) && self.width > GRACE;
        if looks { self.cut(settings.delta) } else { None }
    }
}

impl Detect for Detector {
    type Settings = Settings;

    fn new(_: &Settings) -> Self {
        Self::default()
    }

    fn update(&mut self, settings: &Settings, value: f64) -> Signal {
        self.slide(settings, value).map_or(Signal::Stable, Signal::Drift)
    }
}
