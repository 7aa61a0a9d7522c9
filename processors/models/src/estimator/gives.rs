//! What predictions are.

use serde::{Deserialize, Serialize};

use super::Quantiles;

/// What the numbers of a prediction are, and so which columns rows get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gives {
    /// The number that the label will be.
    Number,
    /// The same, and behind it quantiles of what it may be, of which it is the central one.
    Quantiles(Quantiles),
    /// How probable each class is; of two classes perhaps only the second.
    Probabilities,
    /// How much speaks for each class; of two classes, for the second if it is more than 0.
    Scores,
    /// What each action is expected to be worth.
    Actions,
    /// Columns of its own, one for each number. So does what learns without a label.
    Columns(&'static [PredictedColumn]),
}

/// A column that an estimator of its [own columns](Gives::Columns) predicts. It is null where the number is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictedColumn {
    /// Its name.
    pub name: &'static str,
    /// Whether its numbers are whole.
    pub whole: bool,
    /// What the mean of its numbers is called among the metrics, where that says how well the model does.
    pub mean: Option<&'static str>,
}

impl Gives {
    /// What the numbers are that classes are chosen by.
    pub fn certainty(self) -> Certainty {
        match self {
            Self::Scores | Self::Actions => Certainty::Score,
            Self::Number | Self::Quantiles(_) | Self::Probabilities | Self::Columns(_) => Certainty::Probability,
        }
    }
}

/// What the numbers are that an estimator predicts for classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Certainty {
    /// How probable each class is.
    Probability,
    /// How much speaks for each class; of two classes, for the second if it is more than 0.
    Score,
}

/// The probability or score of the positive of two classes.
#[inline(always)]
pub(crate) fn positive(prediction: &[f64]) -> f64 {
    prediction.last().copied().unwrap_or(f64::NAN)
}

/// The index of the class that is predicted: the likeliest, and the first of equals. NaN is no class's, so the first.
#[inline(always)]
pub(crate) fn likeliest(prediction: &[f64], certainty: Certainty) -> usize {
    if let [positive] = prediction {
        let even = if certainty == Certainty::Probability { 0.5 } else { 0.0 };
        return usize::from(*positive > even);
    }
    let better = |best: usize, class: usize| if prediction[class] > prediction[best] { class } else { best };
    (0..prediction.len()).fold(0, better)
}
