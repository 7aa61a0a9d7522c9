//! Which estimator learns, and its settings.

use std::collections::BTreeMap;

use millstream_core::{Problem, known_names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::NetworkSettings;
use super::sgd::SgdSettings;
use crate::label::Class;

/// What learns, by its `type`. `logistic_regression`, `softmax_regression` and `linear_regression` take one step of
/// gradient descent for every row, as River's estimators of the same names do with `SGD`. `sgd_classifier` and
/// `sgd_regressor` are scikit-learn's. A `network` learns in batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum EstimatorSettings {
    /// Two classes: the probability of the second is the logistic function of a weighted sum and an intercept.
    LogisticRegression {
        /// How far one row moves the weights and the intercept.
        #[serde(default = "default_learning_rate")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        learning_rate: f64,
        /// How strongly the weights that a row uses are drawn to 0. The intercept is not.
        #[serde(default)]
        #[schemars(range(min = 0))]
        l2: f64,
        /// How much the rows of a class count, by the class: `{ true = 20 }`. Classes that are not named count 1.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        class_weight: ClassWeight,
    },
    /// Two or more classes: the probabilities are the softmax of one weighted sum per class, without intercept.
    /// Classes that no row has had yet have the probability 0.
    SoftmaxRegression {
        /// How far one row moves the weights.
        #[serde(default = "default_learning_rate")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        learning_rate: f64,
        /// How strongly the weights that a row uses are drawn to 0.
        #[serde(default)]
        #[schemars(range(min = 0))]
        l2: f64,
        /// How much the rows of a class count, by the class: `{ fraud = 20 }`. Classes that are not named count 1.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        class_weight: ClassWeight,
    },
    /// A number: a weighted sum and an intercept, by the squared error.
    LinearRegression {
        /// How far one row moves the weights and the intercept.
        #[serde(default = "default_learning_rate")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        learning_rate: f64,
        /// How strongly the weights that a row uses are drawn to 0. The intercept is not.
        #[serde(default)]
        #[schemars(range(min = 0))]
        l2: f64,
    },
    /// Classes: scikit-learn's `SGDClassifier`, one weighted sum and an intercept for two classes; for more, one for
    /// each class against all others. Losses without probabilities (`hinge`, the default, among them) give `score`, the
    /// weighted sum, in the place of `probability`.
    SgdClassifier(SgdSettings),
    /// A number: scikit-learn's `SGDRegressor`, a weighted sum and an intercept.
    SgdRegressor(SgdSettings),
    /// Classes or a number, by the label: a network of layers, which learns a batch of rows at a time.
    Network(NetworkSettings),
}

/// The labels that an estimator learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    Numbers,
    TwoClasses,
    Classes,
    /// Classes if the label has any, else numbers.
    Any,
}

/// What the numbers are that an estimator predicts for classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Certainty {
    /// How probable each class is.
    Probability,
    /// How much speaks for each class; of two classes, for the second if it is more than 0.
    Score,
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
            Self::SgdClassifier(_) => "sgd_classifier",
            Self::SgdRegressor(_) => "sgd_regressor",
            Self::Network(_) => "network",
        }
    }

    pub(crate) fn labels(&self) -> Labels {
        match self {
            Self::LinearRegression { .. } | Self::SgdRegressor(_) => Labels::Numbers,
            Self::LogisticRegression { .. } => Labels::TwoClasses,
            Self::SoftmaxRegression { .. } | Self::SgdClassifier(_) => Labels::Classes,
            Self::Network(_) => Labels::Any,
        }
    }

    /// What the numbers are that it predicts for classes.
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::SgdClassifier(settings) if !settings.loss(true).has_probabilities() => Certainty::Score,
            _ => Certainty::Probability,
        }
    }

    /// Says what is wrong with the values, for a label of these classes; none if they are not known.
    pub(crate) fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        match self {
            Self::LogisticRegression { learning_rate, l2, class_weight }
            | Self::SoftmaxRegression { learning_rate, l2, class_weight } => {
                check_not_negative(&[("learning_rate", *learning_rate), ("l2", *l2)])?;
                check_class_weight(class_weight, classes)
            }
            Self::LinearRegression { learning_rate, l2 } => {
                check_not_negative(&[("learning_rate", *learning_rate), ("l2", *l2)])
            }
            Self::SgdClassifier(settings) => settings.check_classifier(classes),
            Self::SgdRegressor(settings) => settings.check_regressor(),
            Self::Network(settings) => settings.check(classes),
        }
    }
}

/// How much the rows of classes count, by their names.
pub(crate) type ClassWeight = BTreeMap<String, f64>;

/// How much the rows of a class count.
pub(super) fn weight_of(class: &Class, weights: &ClassWeight) -> f64 {
    weights.get(&class.to_string()).copied().unwrap_or(1.0)
}

/// Says which of the weights is none, or of none of these classes. Nothing is said of classes if they are not known.
pub(super) fn check_class_weight(weights: &ClassWeight, classes: &[Class]) -> Result<(), Problem> {
    for (name, weight) in weights {
        if !weight.is_finite() || *weight < 0.0 {
            let problem = format!("the weight of class `{name}` is {weight}, and should be a number from 0 up");
            return Err(Problem::new(problem).under(name.as_str()).under("class_weight"));
        }
        if !classes.is_empty() && !classes.iter().any(|class| class.to_string() == *name) {
            let known: Vec<_> = classes.iter().map(Class::to_string).collect();
            let problem = Problem::new(format!("`{name}` is no class of the label"));
            let help = known_names(name, known.iter().map(String::as_str));
            return Err(problem.help(help).under(name.as_str()).under("class_weight"));
        }
    }
    Ok(())
}

/// Says which of the values is no number from 0 up.
pub(super) fn check_not_negative(values: &[(&str, f64)]) -> Result<(), Problem> {
    match values.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
        Some((name, value)) => {
            let problem = format!("`{name}` is {value}, and should be a number from 0 up, such as 0.01");
            Err(Problem::new(problem).under(*name))
        }
        None => Ok(()),
    }
}
