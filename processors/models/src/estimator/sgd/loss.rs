//! The losses of the SGD family.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::onnx::{Graph, Value};
use crate::vector::exp;

/// What is minimised. Of classes the target is 1 or -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Loss {
    /// A linear support vector machine; gives scores, not probabilities.
    Hinge,
    /// Logistic regression, with probabilities.
    #[serde(rename = "log_loss")]
    Log,
    /// Smooth, and tolerant of outliers, with probabilities.
    ModifiedHuber,
    /// Hinge, squared; gives scores.
    SquaredHinge,
    /// That of the perceptron; gives scores.
    Perceptron,
    /// Half the square of the distance.
    SquaredError,
    /// Squared near the label, linear further away.
    Huber,
    /// Linear, but 0 near the label: that of support vector regression.
    EpsilonInsensitive,
    /// The same, squared.
    SquaredEpsilonInsensitive,
}

impl Loss {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hinge => "hinge",
            Self::Log => "log_loss",
            Self::ModifiedHuber => "modified_huber",
            Self::SquaredHinge => "squared_hinge",
            Self::Perceptron => "perceptron",
            Self::SquaredError => "squared_error",
            Self::Huber => "huber",
            Self::EpsilonInsensitive => "epsilon_insensitive",
            Self::SquaredEpsilonInsensitive => "squared_epsilon_insensitive",
        }
    }

    /// Whether it is defined for numbers, too.
    pub fn is_of_numbers(self) -> bool {
        matches!(self, Self::SquaredError | Self::Huber | Self::EpsilonInsensitive | Self::SquaredEpsilonInsensitive)
    }

    /// Whether a classifier that minimises it has probabilities.
    pub fn has_probabilities(self) -> bool {
        matches!(self, Self::Log | Self::ModifiedHuber)
    }

    /// The probability that belongs to a weighted sum.
    #[inline(always)]
    pub(super) fn probability(self, sum: f64) -> f64 {
        match self {
            Self::Log => 1.0 / (1.0 + exp(-sum)),
            _ => (sum.clamp(-1.0, 1.0) + 1.0) / 2.0,
        }
    }

    /// Adds the probabilities that belong to weighted sums to a graph.
    pub(super) fn to_onnx(self, sums: &Value, graph: &mut Graph) -> Value {
        if self == Self::Log {
            return graph.add("Sigmoid", &[sums]);
        }
        let (least, most, two) = (graph.doubles(&[], &[-1.0]), graph.doubles(&[], &[1.0]), graph.doubles(&[], &[2.0]));
        let clipped = graph.add("Clip", &[sums, &least, &most]);
        let raised = graph.add("Add", &[&clipped, &most]);
        graph.add("Div", &[&raised, &two])
    }

    /// How the loss changes with the weighted sum.
    #[inline(always)]
    pub(super) fn gradient(self, sum: f64, target: f64, epsilon: f64) -> f64 {
        let margin = sum * target;
        let distance = sum - target;
        match self {
            Self::Hinge => {
                if margin <= 1.0 {
                    -target
                } else {
                    0.0
                }
            }
            Self::Perceptron => {
                if margin <= 0.0 {
                    -target
                } else {
                    0.0
                }
            }
            Self::SquaredHinge => -2.0 * target * (1.0 - margin).max(0.0),
            Self::Log => -target / (1.0 + exp(margin)),
            Self::ModifiedHuber if margin < -1.0 => -4.0 * target,
            Self::ModifiedHuber => -2.0 * target * (1.0 - margin).max(0.0),
            Self::SquaredError => distance,
            Self::Huber => distance.clamp(-epsilon, epsilon),
            Self::EpsilonInsensitive => beyond(distance, epsilon).signum() * f64::from(distance.abs() > epsilon),
            Self::SquaredEpsilonInsensitive => 2.0 * beyond(distance, epsilon),
        }
    }

    /// How large the loss is, where passive-aggressive steps need it: of `hinge` and `epsilon_insensitive`.
    #[inline(always)]
    pub(super) fn value(self, sum: f64, target: f64, epsilon: f64) -> f64 {
        match self {
            Self::Hinge => (1.0 - sum * target).max(0.0),
            _ => ((sum - target).abs() - epsilon).max(0.0),
        }
    }
}

/// By how much a distance is outside of `-epsilon..epsilon`.
#[inline(always)]
fn beyond(distance: f64, epsilon: f64) -> f64 {
    distance - distance.clamp(-epsilon, epsilon)
}
