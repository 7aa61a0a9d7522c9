//! Logistic regression, as River has it.

use std::collections::BTreeMap;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{ClassWeight, check_class_weight, check_not_negative, weights_of};
use super::linear::{Linear, Loss, default_learning_rate};
use super::{Estimator, Gives, Kind, Labels, Settings, Shape};
use crate::encode::Feature;
use crate::label::Class;

/// Two classes: the probability of the second is the logistic function of a weighted sum and an intercept.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogisticRegression {
    /// How far one row moves the weights and the intercept.
    #[serde(default = "default_learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    learning_rate: f64,
    /// The L2 penalty: how strongly the weights that a row uses are shrunk towards 0. The intercept is not.
    #[serde(default)]
    #[schemars(range(min = 0))]
    l2: f64,
    /// How much the rows of a class count, by the class: `{ true = 20 }`. Classes that are not named count 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    class_weight: ClassWeight,
}

impl Kind for LogisticRegression {
    const NAME: &'static str = "logistic_regression";
    const EXAMPLE: &'static str = "learning_rate = 0.05\nl2 = 0.001";
    const EXPORTS: bool = true;
}

impl Settings for LogisticRegression {
    fn labels(&self) -> Labels {
        Labels::TwoClasses
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Probabilities
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_not_negative(&[("learning_rate", self.learning_rate), ("l2", self.l2)])?;
        check_class_weight(&self.class_weight, classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let linear = Linear::new(Loss::Log, self.learning_rate, self.l2, Shape::new(features, classes));
        Box::new(linear.weighing(&weights_of(classes, &self.class_weight)))
    }
}
