//! Linear regression, as River has it.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::check_not_negative;
use super::linear::{Linear, Loss, default_learning_rate};
use super::{Estimator, Gives, Kind, Labels, Settings, Shape};
use crate::encode::Feature;
use crate::label::Class;

/// A number: a weighted sum and an intercept, by the squared error.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinearRegression {
    /// How far one row moves the weights and the intercept.
    #[serde(default = "default_learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    learning_rate: f64,
    /// The L2 penalty: how strongly the weights that a row uses are shrunk towards 0. The intercept is not.
    #[serde(default)]
    #[schemars(range(min = 0))]
    l2: f64,
}

impl Kind for LinearRegression {
    const NAME: &'static str = "linear_regression";
    const EXAMPLE: &'static str = "learning_rate = 0.05\nl2 = 0.001";
    const EXPORTS: bool = true;
}

impl Settings for LinearRegression {
    fn labels(&self) -> Labels {
        Labels::Numbers
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Number
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_not_negative(&[("learning_rate", self.learning_rate), ("l2", self.l2)])
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Linear::new(Loss::Squared, self.learning_rate, self.l2, Shape::new(features, classes)))
    }
}
