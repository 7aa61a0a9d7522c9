//! Which estimator learns, and its settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What learns, by its `type`. All take one step of gradient descent for every row, as River's estimators of the same
/// names do with `SGD`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum EstimatorSettings {
    /// Two classes: the probability of the second is the logistic function of a weighted sum and an intercept.
    LogisticRegression {
        /// How far one row moves the weights and the intercept.
        #[serde(default = "default_learning_rate")]
        #[schemars(range(min = 0))]
        learning_rate: f64,
        /// How strongly the weights that a row uses are drawn to 0. The intercept is not.
        #[serde(default)]
        #[schemars(range(min = 0))]
        l2: f64,
    },
    /// Two or more classes: the probabilities are the softmax of one weighted sum per class, without intercept.
    /// Classes that no row has had yet have the probability 0.
    SoftmaxRegression {
        /// How far one row moves the weights.
        #[serde(default = "default_learning_rate")]
        #[schemars(range(min = 0))]
        learning_rate: f64,
        /// How strongly the weights that a row uses are drawn to 0.
        #[serde(default)]
        #[schemars(range(min = 0))]
        l2: f64,
    },
    /// A number: a weighted sum and an intercept, by the squared error.
    LinearRegression {
        /// How far one row moves the weights and the intercept.
        #[serde(default = "default_learning_rate")]
        #[schemars(range(min = 0))]
        learning_rate: f64,
        /// How strongly the weights that a row uses are drawn to 0. The intercept is not.
        #[serde(default)]
        #[schemars(range(min = 0))]
        l2: f64,
    },
}

fn default_learning_rate() -> f64 {
    0.01
}

impl EstimatorSettings {
    /// What `type = "…"` says.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LogisticRegression { .. } => "logistic_regression",
            Self::SoftmaxRegression { .. } => "softmax_regression",
            Self::LinearRegression { .. } => "linear_regression",
        }
    }

    /// Says what is wrong with the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (Self::LogisticRegression { learning_rate, l2 }
        | Self::SoftmaxRegression { learning_rate, l2 }
        | Self::LinearRegression { learning_rate, l2 }) = self;
        for (name, value) in [("learning_rate", learning_rate), ("l2", l2)] {
            if !value.is_finite() || *value < 0.0 {
                return Err(format!("`{name}` is {value}, and should be a number from 0 up, such as 0.01"));
            }
        }
        Ok(())
    }
}
