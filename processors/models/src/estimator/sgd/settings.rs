//! The settings of the SGD family, with the names and defaults of scikit-learn.

use std::collections::BTreeMap;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::checks::{ClassWeight, check_class_weight, check_not_negative};
use super::loss::Loss;
use crate::label::Class;

/// How linear models are learned by stochastic gradient descent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct SgdSettings {
    /// What is minimised; by default `hinge` for a classifier, `squared_error` for a regressor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What shrinks the weights towards 0, but for the intercept. L1 shrinks the weight of a slot when a row uses it, by all that
    /// it has missed.
    #[serde(default)]
    pub penalty: Penalty,
    /// How strongly the weights are shrunk towards 0; the rate `optimal` depends on it, too.
    #[serde(default = "default_alpha")]
    #[schemars(range(min = 0))]
    pub alpha: f64,
    /// The fraction of the penalty `elasticnet` that is `l1`.
    #[serde(default = "default_l1_ratio")]
    #[schemars(range(min = 0, max = 1))]
    pub l1_ratio: f64,
    /// Whether there is an intercept.
    #[serde(default = "default_fit_intercept")]
    pub fit_intercept: bool,
    /// How far a row moves the weights: `constant` (`eta0`), `optimal` (`1 / (alpha * (t0 + row))`), `invscaling` (`eta0 /
    /// row ^ power_t`), or passive-aggressive: as far as the row needs, at most `eta0` (`pa1`) or damped by it
    /// (`pa2`). By default `optimal` for a classifier, `invscaling` for a regressor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<LearningRate>,
    /// The first rate, or the aggressiveness of `pa1` and `pa2`.
    #[serde(default = "default_eta0")]
    #[schemars(range(min = 0))]
    pub eta0: f64,
    /// The exponent of `invscaling`; by default 0.5 for a classifier, 0.25 for a regressor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub power_t: Option<f64>,
    /// The distance from the label within which `epsilon_insensitive` and `squared_epsilon_insensitive` see no error,
    /// and from which on `huber` is linear.
    #[serde(default = "default_epsilon")]
    #[schemars(range(min = 0))]
    pub epsilon: f64,
    /// Predicts by the mean of the weights after every row: from the first row on, or from the given one.
    #[serde(default)]
    pub average: Average,
    /// How much the rows of a class count, by the class: `{ fraud = 20 }`. Classes that are not named count 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub class_weight: ClassWeight,
}

/// What shrinks the weights towards 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Penalty {
    /// Half the sum of the squares.
    #[default]
    L2,
    /// The sum of the absolute values, which makes many of them exactly 0.
    L1,
    /// Both, by `l1_ratio`.
    ElasticNet,
    /// Nothing.
    None,
}

/// How far a row moves the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LearningRate {
    /// Always as far.
    Constant,
    /// Less by one by the row's number, from a start that depends on `alpha` and the loss.
    Optimal,
    /// Less by a power of the row's number.
    InvScaling,
    /// As far as the row needs to be predicted well, and no further than a bound.
    Pa1,
    /// As far as the row needs to be predicted well, damped.
    Pa2,
}

/// From which row on the mean of the weights predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Average {
    /// From the first row on, or not at all.
    Always(bool),
    /// From this row on, counted from 1.
    From(#[schemars(range(min = 1))] u64),
}

impl Default for Average {
    fn default() -> Self {
        Self::Always(false)
    }
}

impl Average {
    /// The number of the first row that counts, from 1.
    pub fn first_row(self) -> Option<u64> {
        match self {
            Self::Always(always) => always.then_some(1),
            Self::From(row) => Some(row),
        }
    }
}

fn default_alpha() -> f64 {
    0.0001
}

fn default_l1_ratio() -> f64 {
    0.15
}

fn default_fit_intercept() -> bool {
    true
}

fn default_eta0() -> f64 {
    0.01
}

fn default_epsilon() -> f64 {
    0.1
}

impl SgdSettings {
    /// Says what is wrong with the values for a classifier of these classes; none if they are not known.
    pub fn check_classifier(&self, classes: &[Class]) -> Result<(), Problem> {
        self.check(true)?;
        check_class_weight(&self.class_weight, classes)
    }

    /// Says what is wrong with the values for a regressor.
    pub fn check_regressor(&self) -> Result<(), Problem> {
        self.check(false)?;
        if self.class_weight.is_empty() {
            Ok(())
        } else {
            Err(Problem::new("a regressor predicts a number, which has no classes").under("class_weight"))
        }
    }

    fn check(&self, classifier: bool) -> Result<(), Problem> {
        check_not_negative(&[
            ("alpha", self.alpha),
            ("l1_ratio", self.l1_ratio),
            ("eta0", self.eta0),
            ("power_t", self.power_t.unwrap_or(0.0)),
            ("epsilon", self.epsilon),
        ])?;
        if self.l1_ratio > 1.0 {
            let problem = format!("`l1_ratio` is {}, and should be a fraction from 0 to 1", self.l1_ratio);
            return Err(Problem::new(problem).under("l1_ratio"));
        }
        if self.average == Average::From(0) {
            return Err(Problem::new("`average` is 0; rows count from 1, and `false` is without").under("average"));
        }
        self.check_loss(classifier)
    }

    fn check_loss(&self, classifier: bool) -> Result<(), Problem> {
        let (loss, rate) = (self.loss(classifier), self.learning_rate(classifier));
        if !classifier && !loss.is_of_numbers() {
            let names = "`squared_error`, `huber`, `epsilon_insensitive` or `squared_epsilon_insensitive`";
            let problem = format!("the loss `{}` is of classes, and the label is a number", loss.name());
            return Err(Problem::new(problem).help(format!("use {names}")).under("loss"));
        }
        if rate == LearningRate::Optimal && self.alpha == 0.0 {
            let problem = "the learning rate `optimal` divides by `alpha`, which is 0";
            return Err(Problem::new(problem).help("use another `learning_rate`, such as `constant`").under("alpha"));
        }
        let passive = if classifier { Loss::Hinge } else { Loss::EpsilonInsensitive };
        if rate.is_passive() && loss != passive {
            let (wanted, found) = (passive.name(), loss.name());
            let problem = format!("the learning rates `pa1` and `pa2` go with the loss `{wanted}`, not with `{found}`");
            return Err(Problem::new(problem).under("learning_rate"));
        }
        if rate.is_passive() && self.eta0 == 0.0 {
            return Err(Problem::new("`eta0` is 0, so that `pa1` and `pa2` would learn nothing").under("eta0"));
        }
        Ok(())
    }

    pub fn loss(&self, classifier: bool) -> Loss {
        self.loss.unwrap_or(if classifier { Loss::Hinge } else { Loss::SquaredError })
    }

    pub fn learning_rate(&self, classifier: bool) -> LearningRate {
        self.learning_rate.unwrap_or(if classifier { LearningRate::Optimal } else { LearningRate::InvScaling })
    }

    pub fn power_t(&self, classifier: bool) -> f64 {
        self.power_t.unwrap_or(if classifier { 0.5 } else { 0.25 })
    }

    /// The share of the penalty that is L1, and the rest, each times `alpha`.
    pub fn penalties(&self) -> (f64, f64) {
        let share = match self.penalty {
            Penalty::None => return (0.0, 0.0),
            Penalty::L2 => 0.0,
            Penalty::L1 => 1.0,
            Penalty::ElasticNet => self.l1_ratio,
        };
        (share * self.alpha, (1.0 - share) * self.alpha)
    }
}

impl LearningRate {
    /// Whether the row says itself how far it moves the weights.
    pub fn is_passive(self) -> bool {
        matches!(self, Self::Pa1 | Self::Pa2)
    }
}
