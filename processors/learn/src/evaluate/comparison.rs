//! What is compared, and the figures of it.

use millstream_core::{ConfusionMatrix, Error, Metrics, Parts, Result, State};
use millstream_models::{ClassScores, NumberScores};

use super::classes::{COUNTED, Classes};
use super::numbers::Numbers;

/// Predictions beside labels, of one kind.
pub(super) enum Comparison {
    Numbers(Numbers),
    Classes(Box<Classes>),
}

/// The part of the state with the figures of numbers.
const NUMBERS: &str = "numbers";

impl Comparison {
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let (label, prediction, probabilities) = match self {
            Self::Numbers(numbers) => (&numbers.label, &numbers.prediction, None),
            Self::Classes(classes) => (&classes.label, &classes.prediction, classes.probabilities.column()),
        };
        [label.as_str(), prediction].into_iter().chain(probabilities)
    }

    pub fn metrics(&self) -> Metrics {
        match self {
            Self::Numbers(numbers) => numbers.scores.metrics(),
            Self::Classes(classes) => classes.scores.metrics(),
        }
    }

    pub fn rows(&self) -> u64 {
        match self {
            Self::Numbers(numbers) => numbers.scores.rows(),
            Self::Classes(classes) => classes.scores.rows(),
        }
    }

    pub fn confusion(&self) -> Option<ConfusionMatrix> {
        let Self::Classes(classes) = self else { return None };
        classes.scores.confusion(classes.known.names().iter().cloned())
    }

    /// Adds what was counted so far.
    pub fn keep(&self, parts: &mut Parts) {
        match self {
            Self::Numbers(numbers) => parts.put_later(NUMBERS, (numbers.scores.clone(), numbers.recent.clone())),
            Self::Classes(classes) => {
                let Classes { known, scores, recent, .. } = &**classes;
                let reliability = scores.reliability().clone();
                parts.put_later(COUNTED, (known.names().to_vec(), scores.clone(), recent.clone(), reliability));
            }
        }
    }

    /// Goes on from what was counted.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let whole = match self {
            Self::Numbers(numbers) => {
                (numbers.scores, numbers.recent) = state.get(NUMBERS)?;
                numbers.scores.is_sound()
            }
            Self::Classes(classes) => classes.restore(state)?,
        };
        let damaged = || Error::new("what was counted is damaged in the state, or not of these classes");
        whole.then_some(()).ok_or_else(damaged)
    }

    pub fn recent(&self) -> Metrics {
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
