//! The settings of networks.

use std::collections::BTreeMap;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::checks::{ClassWeight, check_class_weight};
use super::super::{Estimator, Gives, Kind, Labels, Settings, Shape};
use super::Network;
use super::optimizer_settings::{OptimizerSettings, Schedule};
use crate::encode::{Feature, LARGEST_OF_32_BITS};
use crate::label::Class;

/// Classes or a number, by the label: a network of layers, which learns a batch of rows at a time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::estimator) struct NetworkSettings {
    /// The layers between the features and the output, whose layer follows from the label: `[{ dense = 64, activation =
    /// "relu" }, { dropout = 0.1 }, { dense = 32 }]`.
    pub(super) layers: Vec<LayerSettings>,
    /// What is minimised. For classes `log_loss`, which is all there is for them; for numbers `squared_error` (the
    /// default), `absolute_error`, or `huber`, which is linear from a distance of 1 on. Numbers are learned as they
    /// are: a label of hundreds or thousands is learned sooner if an `sql` node divides it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<NetworkLoss>,
    /// How the weights follow the gradient.
    #[serde(default)]
    pub(super) optimizer: OptimizerSettings,
    /// How the learning rate changes with the number of batches.
    #[serde(default)]
    pub(super) schedule: Schedule,
    /// Over how many batches the learning rate rises to what it is.
    #[serde(default)]
    pub(super) warmup: u32,
    /// Gradients that are longer, all weights together, are shortened to this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub(super) clip_norm: Option<f64>,
    /// How many rows are learned at once. Every row is predicted as it comes, before it is learned; rows of an incomplete
    /// batch are kept in the model until others complete it.
    #[serde(default = "default_batch_rows")]
    #[schemars(range(min = 1, max = 1048576))]
    pub(super) batch_rows: u32,
    /// How many numbers stand for a text or boolean, learned with the rest. As `features` says, every value has a slot of
    /// its own (`one_hot`) or shares one (`hash`); a network has so many numbers for each slot.
    #[serde(default = "default_embedding")]
    #[schemars(range(min = 1, max = 4096))]
    pub(super) embedding: u32,
    /// The seed of the random numbers that the initial weights and dropout are drawn from.
    #[serde(default)]
    pub(super) seed: u64,
    /// How much the rows of a class count, by the class: `{ fraud = 20 }`. Classes that are not named count 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) class_weight: ClassWeight,
}

/// A layer of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum LayerSettings {
    /// Units, each with a weight for every number that comes in.
    Dense(DenseSettings),
    /// Sets numbers to 0 at random while learning.
    Dropout(DropoutSettings),
    /// Brings numbers to one size.
    Normalise(NormaliseSettings),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct DenseSettings {
    /// A layer of so many units, each a weighted sum of all that comes in, and an intercept.
    #[schemars(range(min = 1, max = 65536))]
    pub dense: u32,
    /// What becomes of the sums.
    #[serde(default)]
    pub activation: Activation,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct DropoutSettings {
    /// The fraction of the numbers that are set to 0, at random, while learning; the others are raised by as much.
    #[schemars(range(min = 0, max = 1))]
    pub dropout: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct NormaliseSettings {
    /// `layer`: the numbers of a row get the mean 0 and the variance 1, and a scale and a shift that are learned.
    pub normalise: Normalisation,
}

/// What is brought to one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Normalisation {
    /// The numbers of each row among themselves, so that it is the same however many rows there are.
    Layer,
}

/// What becomes of the sums of a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Activation {
    /// What is more than 0.
    #[default]
    Relu,
    /// What is less than 0, only a hundredth of it.
    LeakyRelu,
    /// What is less than 0, `exp(x) - 1`.
    Elu,
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function.
    Sigmoid,
    /// Nothing.
    Linear,
}

/// What a network minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NetworkLoss {
    /// Of the probabilities of classes.
    LogLoss,
    /// Half the square of the distance.
    SquaredError,
    /// The distance.
    AbsoluteError,
    /// Half the square of the distance up to 1, linear from there on.
    Huber,
}

fn default_batch_rows() -> u32 {
    64
}

fn default_embedding() -> u32 {
    8
}

/// The most layers, units of a layer, and rows of a batch.
const MOST_LAYERS: usize = 1000;
const MOST_UNITS: u32 = 1 << 16;
const MOST_BATCH_ROWS: u32 = 1 << 20;
const MOST_EMBEDDING: u32 = 1 << 12;

impl Kind for NetworkSettings {
    const NAME: &'static str = "network";
    const EXAMPLE: &'static str = r#"layers = [{ dense = 16, activation = "tanh" }, { dropout = 0.1 }, { dense = 8 }]
optimizer = { type = "adam", learning_rate = 0.01 }
batch_rows = 30"#;
    const EXPORTS: bool = true;
}

impl Settings for NetworkSettings {
    fn labels(&self) -> Labels {
        Labels::Any
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, classes: &[Class]) -> Gives {
        match classes {
            [] => Gives::Number,
            _ => Gives::Probabilities,
        }
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        self.check_sizes()?;
        self.check_learning()?;
        self.check_label(classes)
    }

    /// The weights are numbers of 32 bits.
    fn largest(&self) -> f64 {
        LARGEST_OF_32_BITS
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let Shape { numbers, slots, .. } = Shape::new(features, classes);
        let categories = features.len() - numbers;
        self.largest_part(numbers as u64, categories as u64, slots as u64, classes.len().max(1) as u64)
    }

    fn supports_devices(&self) -> bool {
        true
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let categories = features.iter().map(|feature| feature.encoder.slots()).filter(|slots| *slots > 0);
        Box::new(Network::new(self, categories, Shape::new(features, classes)).weighing(classes))
    }
}

impl NetworkSettings {
    fn check_sizes(&self) -> Result<(), Problem> {
        if self.layers.len() > MOST_LAYERS {
            let problem = format!("there are {} layers; {MOST_LAYERS} are the most", self.layers.len());
            return Err(Problem::new(problem).under("layers"));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check().map_err(|problem| problem.under(index).under("layers"))?;
        }
        check_count("batch_rows", self.batch_rows, MOST_BATCH_ROWS)?;
        check_count("embedding", self.embedding, MOST_EMBEDDING)
    }

    fn check_learning(&self) -> Result<(), Problem> {
        self.optimizer.check().map_err(|problem| problem.under("optimizer"))?;
        self.schedule.check().map_err(|problem| problem.under("schedule"))?;
        if let Some(norm) = self.clip_norm.filter(|norm| !norm.is_finite() || *norm <= 0.0) {
            let problem = format!("`clip_norm` is {norm}, and should be a number above 0, such as 1.0");
            return Err(Problem::new(problem).under("clip_norm"));
        }
        Ok(())
    }

    fn check_label(&self, classes: &[Class]) -> Result<(), Problem> {
        if classes.is_empty() && !self.class_weight.is_empty() {
            let problem = "the label is a number, which has no classes";
            return Err(Problem::new(problem).help("list its values in `classes`").under("class_weight"));
        }
        check_class_weight(&self.class_weight, classes)?;
        match (self.loss, !classes.is_empty()) {
            (Some(NetworkLoss::LogLoss), false) => {
                let problem = "the loss `log_loss` is of classes, and the label is a number";
                let help = "list the label's values in `classes`, or use `squared_error`, `absolute_error` or `huber`";
                Err(Problem::new(problem).help(help).under("loss"))
            }
            (Some(loss), true) if loss != NetworkLoss::LogLoss => {
                let problem = "the label has classes, whose loss is `log_loss`";
                Err(Problem::new(problem).help("leave `loss` out").under("loss"))
            }
            _ => Ok(()),
        }
    }

    /// How many numbers the largest part of the network has: its embeddings, its parameters, or what is computed of a batch.
    /// It is for so many numbers, categories, slots of them, and classes.
    fn largest_part(&self, numbers: u64, categories: u64, slots: u64, classes: u64) -> u64 {
        let embedding = u64::from(self.embedding);
        let mut width = numbers + categories * embedding;
        let (mut parameters, mut of_a_row) = (0_u64, width);
        let units = self.layers.iter().filter_map(|layer| match layer {
            LayerSettings::Dense(layer) => Some(u64::from(layer.dense)),
            LayerSettings::Dropout(_) | LayerSettings::Normalise(_) => None,
        });
        for units in units.chain([classes]) {
            parameters = parameters.saturating_add((width + 1).saturating_mul(units));
            of_a_row = of_a_row.saturating_add(units);
            width = units;
        }
        let of_a_batch = of_a_row.saturating_mul(u64::from(self.batch_rows));
        slots.saturating_mul(embedding).max(parameters).max(of_a_batch)
    }

    pub(super) fn loss(&self, of_classes: bool) -> NetworkLoss {
        self.loss.unwrap_or(if of_classes { NetworkLoss::LogLoss } else { NetworkLoss::SquaredError })
    }
}

pub(super) fn check_count(name: &str, count: u32, most: u32) -> Result<(), Problem> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(Problem::new(format!("`{name}` is {count}, and should be a number from 1 to {most}")).under(name))
}

pub(super) fn check_share(name: &str, value: f64) -> Result<(), Problem> {
    if (0.0..1.0).contains(&value) {
        // In the precision of the weights.
        return if (value as f32) < 1.0 {
            Ok(())
        } else {
            let problem = format!("`{name}` is {value}, which is 1 in the 32 bits of the weights");
            Err(Problem::new(problem).help("0.9999999 is the most").under(name))
        };
    }
    Err(Problem::new(format!("`{name}` is {value}, and should be a number from 0 to less than 1")).under(name))
}

impl LayerSettings {
    fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Dense(layer) => check_count("dense", layer.dense, MOST_UNITS),
            Self::Dropout(layer) => check_share("dropout", layer.dropout),
            Self::Normalise(_) => Ok(()),
        }
    }
}
