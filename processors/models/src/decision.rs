//! How a class is chosen by what is predicted for all classes.

use serde::{Deserialize, Serialize};

use crate::estimator::{Certainty, likeliest, positive};

/// How a class is chosen by what is predicted for all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What the numbers are.
    pub certainty: Certainty,
    /// Above which number the positive of two classes is chosen, if it is not simply the likelier one.
    pub threshold: Option<f64>,
}

impl Decision {
    /// The index of the class that is chosen.
    #[inline]
    pub fn class(self, prediction: &[f64]) -> usize {
        match self.threshold {
            None => likeliest(prediction, self.certainty),
            Some(threshold) => usize::from(positive(prediction) > threshold),
        }
    }
}

impl From<Certainty> for Decision {
    fn from(certainty: Certainty) -> Self {
        Self { certainty, threshold: None }
    }
}
