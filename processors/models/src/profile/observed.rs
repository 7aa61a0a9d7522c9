//! What a model was asked of late, counted beside what it has learned.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use millstream_core::Result;
use serde::Serialize;

use super::{FeatureProfile, stability_index};
use crate::encode::{Encoder, Rows};
use crate::model::Model;

/// How many rows of a batch are looked at, at most: as far apart as possible, and each counts for those between.
const ROWS_OF_BATCH: usize = 16;

/// Figures are of the last rows: of so many at least, and of twice as many at most.
const WINDOW: u64 = 5_000;

/// From fewer rows no drift is told: it would be chance.
const FEWEST_ROWS: u64 = 200;

/// What a model was asked of late.
#[derive(Debug)]
pub struct Observed {
    profile: Vec<FeatureProfile>,
    now: Counts,
    before: Counts,
}

/// The rows of a window.
#[derive(Clone, Debug, Default)]
struct Counts {
    rows: u64,
    /// In the order of the features.
    features: Vec<Counted>,
}

/// The values of a feature.
#[derive(Clone, Debug, Default)]
struct Counted {
    missing: u64,
    /// Those that have no slot of their own.
    unseen: u64,
    /// Of each part of the profile.
    parts: Vec<u64>,
}

/// How what a model is asked about a feature differs from what it has learned, over the last 5,000 to 10,000 rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InputFigures {
    /// The feature's name.
    pub feature: String,
    /// Over how many rows.
    pub rows: u64,
    /// How far its values lie from those that were learned: the population stability index, of which 0.1 is worth a look and 0.25 is a lot. None
    /// before there are 200 rows with a value.
    pub drift: Option<f64>,
    /// The share of the rows that lack it.
    pub missing: f64,
    /// The share of the learned rows that lacked it.
    pub missing_learned: f64,
    /// The share of the rows with a value for which the model has no slot of its own, where it gives values slots (`one_hot`).
    pub unseen: Option<f64>,
}

impl Observed {
    /// Nothing was asked yet of a model that has learned this. `None` if that is not told of all of its features.
    pub fn new(model: &Model, profile: Vec<FeatureProfile>) -> Option<Self> {
        let told = profile.iter().map(|profile| &profile.feature);
        let is_whole = !profile.is_empty() && told.eq(model.signature().features.iter().map(|feature| &feature.name));
        let empty = Counts::new(&profile);
        is_whole.then(|| Self { now: empty.clone(), before: empty, profile })
    }

    /// Takes in rows that the model was asked about. Of many at once some are looked at.
    ///
    /// # Errors
    /// If they lack a feature.
    pub fn add(&mut self, model: &Model, rows: &RecordBatch) -> Result<()> {
        let count = rows.num_rows();
        let step = count.div_ceil(ROWS_OF_BATCH).max(1);
        let places: UInt32Array = (0..count as u32).step_by(step).collect::<Vec<_>>().into();
        let looked_at = take_record_batch(rows, &places)?;
        let read = model.read_unlabelled(&looked_at)?;
        self.now.rows += count as u64;
        // The last one stands for those that are left.
        self.count(model, read.rows(), |row| step.min(count - row * step) as u64);
        if self.now.rows >= WINDOW {
            self.before = std::mem::replace(&mut self.now, Counts::new(&self.profile));
        }
        Ok(())
    }

    /// Counts each of the rows as so many.
    fn count(&mut self, model: &Model, rows: &Rows, times: impl Fn(usize) -> u64) {
        let (mut numbers, mut texts) = (rows.numbers().iter(), rows.texts().iter());
        let mut categories = model.categories().iter().peekable();
        let features = self.profile.iter().zip(&model.signature().features).zip(&mut self.now.features);
        for ((profile, feature), counted) in features {
            if feature.encoder.is_number() {
                for (row, value) in numbers.next().into_iter().flatten().enumerate() {
                    counted.add(value.map(|number| profile.values.part_of_number(number)), times(row));
                }
                continue;
            }
            let category = categories.next_if(|_| feature.encoder.slots() > 0);
            for (row, text) in texts.next().into_iter().flatten().enumerate() {
                counted.add(text.map(|text| profile.values.part_of_text(text)), times(row));
                if text.is_some_and(|text| category.is_some_and(|category| category.knows(text) == Some(false))) {
                    counted.unseen += times(row);
                }
            }
        }
    }

    /// The figures of each feature.
    pub fn figures(&self, model: &Model) -> Vec<InputFigures> {
        let rows = self.now.rows + self.before.rows;
        let counted = self.now.features.iter().zip(&self.before.features);
        let features = self.profile.iter().zip(&model.signature().features).zip(counted);
        let figures = features.map(|((profile, feature), (now, before))| {
            let parts: Vec<u64> = now.parts.iter().zip(&before.parts).map(|(now, before)| now + before).collect();
            let with_value: u64 = parts.iter().sum();
            let enough = with_value >= FEWEST_ROWS && profile.rows >= FEWEST_ROWS;
            InputFigures {
                feature: feature.name.clone(),
                rows,
                drift: enough.then(|| stability_index(&profile.values.shares(), &parts)),
                missing: share(now.missing + before.missing, rows),
                missing_learned: profile.missing,
                unseen: matches!(feature.encoder, Encoder::OneHot(_))
                    .then(|| share(now.unseen + before.unseen, with_value)),
            }
        });
        figures.collect()
    }
}

impl Counts {
    fn new(profile: &[FeatureProfile]) -> Self {
        let parts = |of: &FeatureProfile| vec![0; of.values.shares().len()];
        let features = profile.iter().map(|of| Counted { parts: parts(of), ..Counted::default() });
        Self { rows: 0, features: features.collect() }
    }
}

impl Counted {
    /// Counts a value of some part, or that there is none.
    fn add(&mut self, part: Option<usize>, times: u64) {
        match part.and_then(|part| self.parts.get_mut(part)) {
            Some(count) => *count += times,
            None => self.missing += times,
        }
    }
}

fn share(rows: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { rows as f64 / of as f64 }
}
