//! What is compared, and the figures of it.

use arrow::array::{BooleanArray, RecordBatch};
use millstream_core::{Error, Evaluation, Metrics, Parts, Result, State};
use millstream_models::{BaselineScores, ClassScores, NumberScores};

use super::classes::Classes;
use super::numbers::Numbers;

/// Predictions beside labels, of one kind.
#[derive(Clone)]
pub(super) enum Comparison {
    Numbers(Box<Numbers>),
    Classes(Box<Classes>),
}

/// The part of the state with what was counted.
pub(super) const COUNTED: &str = "counted";

/// The same in format 4, which knew no baselines: of numbers, and of classes.
pub(super) const NUMBERS_OF_FORMAT_4: &str = "numbers";
pub(super) const CLASSES_OF_FORMAT_4: &str = "classes";

impl Comparison {
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let (label, prediction, probabilities) = match self {
            Self::Numbers(numbers) => (&numbers.label, &numbers.prediction, None),
            Self::Classes(classes) => (&classes.label, &classes.prediction, classes.probabilities.column()),
        };
        [label.as_str(), prediction].into_iter().chain(probabilities)
    }

    /// Counts the rows, and marks those that can't be compared.
    pub fn compare(&mut self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        match self {
            Self::Numbers(numbers) => numbers.compare(rows),
            Self::Classes(classes) => classes.compare(rows),
        }
    }

    pub fn why_refused(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        match self {
            Self::Numbers(numbers) => numbers.why_refused(rows, row),
            Self::Classes(classes) => classes.why_refused(rows, row),
        }
    }

    fn baselines(&self) -> &BaselineScores {
        match self {
            Self::Numbers(numbers) => &numbers.baselines,
            Self::Classes(classes) => &classes.baselines,
        }
    }

    /// The figures so far, without those of segments.
    pub fn evaluation(&self) -> Evaluation {
        let (recent, baselines, segments) = (self.recent(), self.baselines().metrics(), Default::default());
        match self {
            Self::Numbers(numbers) => {
                let (rows, metrics) = (numbers.scores.rows(), numbers.scores.metrics());
                Evaluation { rows, metrics, recent, baselines, by_class: Vec::new(), confusion: None, segments }
            }
            Self::Classes(classes) => {
                let (scores, names) = (&classes.scores, classes.known.names());
                let by_class = scores.by_class(names);
                let confusion = scores.confusion(names.iter().cloned());
                let (rows, metrics) = (scores.rows(), scores.metrics());
                Evaluation { rows, metrics, recent, baselines, by_class, confusion, segments }
            }
        }
    }

    /// Adds what was counted so far, to parts whose names begin with `prefix`.
    pub fn keep(&self, parts: &mut Parts, prefix: &str) {
        let name = format!("{prefix}{COUNTED}");
        match self {
            Self::Numbers(numbers) => parts.put_later(name, numbers.counted()),
            Self::Classes(classes) => parts.put_later(name, classes.counted()),
        }
    }

    /// Goes on from what was counted.
    pub fn restore(&mut self, state: &State, prefix: &str) -> Result<()> {
        let whole = match self {
            Self::Numbers(numbers) => numbers.restore(state, prefix)?,
            Self::Classes(classes) => classes.restore(state, prefix)?,
        };
        let damaged = || Error::new("what was counted is damaged in the state, or not of these classes");
        whole.then_some(()).ok_or_else(damaged)
    }

    /// The figures of the last rows.
    fn recent(&self) -> Metrics {
        match self {
            Self::Numbers(numbers) => {
                let mut scores = NumberScores::default();
                numbers.recent.rows().for_each(|(label, prediction)| scores.add(*label, *prediction));
                scores.metrics()
            }
            Self::Classes(classes) => {
                let mut scores = ClassScores::new(classes.known.names().len());
                classes.recent.rows().for_each(|row| row.add_to(&mut scores));
                scores.metrics()
            }
        }
    }
}
