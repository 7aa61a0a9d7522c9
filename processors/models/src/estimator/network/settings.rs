//! The settings of networks.

use std::collections::BTreeMap;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::settings::{ClassWeight, check_class_weight, check_not_negative};
use crate::label::Class;

/// A network of layers, and how it learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct NetworkSettings {
    /// The layers between the features and the output, whose layer follows from the label: `[{ dense = 64, activation =
    /// "relu" }, { dropout = 0.1 }, { dense = 32 }]`.
    pub(crate) layers: Vec<LayerSettings>,
    /// What is minimised. For classes `log_loss`, which is all there is for them; for numbers `squared_error` if
    /// nothing is said, `absolute_error`, or `huber`, which is linear from a distance of 1 on. Numbers are learned as they
    /// are: a label of hundreds or thousands is learned sooner if an `sql` node divides it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss: Option<NetworkLoss>,
    /// How the weights follow the gradient.
    #[serde(default)]
    pub(crate) optimizer: OptimizerSettings,
    /// How the learning rate changes with the number of batches.
    #[serde(default)]
    pub(crate) schedule: Schedule,
    /// Over how many batches the learning rate rises to what it is.
    #[serde(default)]
    pub(crate) warmup: u32,
    /// Gradients that are longer, all weights together, are shortened to this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub(crate) clip_norm: Option<f64>,
    /// How many rows are learned at once. Every row is predicted as it comes, before it is learned; rows of an incomplete
    /// batch are kept in the model until others complete it.
    #[serde(default = "default_batch_rows")]
    #[schemars(range(min = 1, max = 1048576))]
    pub(crate) batch_rows: u32,
    /// How many numbers stand for a text or boolean, learned with the rest. As `features` says, every value has a slot of
    /// its own (`one_hot`) or shares one (`hash`); a network has so many numbers for each slot.
    #[serde(default = "default_embedding")]
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) embedding: u32,
    /// What the first weights and dropout are drawn from.
    #[serde(default)]
    pub(crate) seed: u64,
    /// How much the rows of a class count, by the class: `{ fraud = 20 }`. Classes that are not named count 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) class_weight: ClassWeight,
}

/// A layer of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum LayerSettings {
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
pub(crate) struct DenseSettings {
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
pub(crate) struct DropoutSettings {
    /// The fraction of the numbers that are set to 0, at random, while learning; the others are raised by as much.
    #[schemars(range(min = 0, max = 1))]
    pub dropout: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct NormaliseSettings {
    /// `layer`: the numbers of a row get the mean 0 and the variance 1, and a scale and a shift that are learned.
    pub normalise: Normalisation,
}

/// What is brought to one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Normalisation {
    /// The numbers of each row among themselves, so that it is the same however many rows there are.
    Layer,
}

/// What becomes of the sums of a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activation {
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
pub(crate) enum NetworkLoss {
    /// Of the probabilities of classes.
    LogLoss,
    /// Half the square of the distance.
    SquaredError,
    /// The distance.
    AbsoluteError,
    /// Half the square of the distance up to 1, linear from there on.
    Huber,
}

/// How the weights follow the gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum OptimizerSettings {
    /// Stochastic gradient descent, with momentum if wished.
    Sgd {
        /// How far a batch moves the weights.
        #[serde(default = "default_sgd_rate")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        learning_rate: f64,
        /// How much of the step before is repeated.
        #[serde(default)]
        #[schemars(range(min = 0, max = 1))]
        momentum: f64,
    },
    /// Kingma and Ba (2014).
    Adam {
        /// How far a batch moves the weights.
        #[serde(default = "default_adam_rate")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        learning_rate: f64,
        /// How slowly the mean of the gradient moves.
        #[serde(default = "default_beta1")]
        #[schemars(range(min = 0, max = 1))]
        beta1: f64,
        /// How slowly the mean of its square moves.
        #[serde(default = "default_beta2")]
        #[schemars(range(min = 0, max = 1))]
        beta2: f64,
        /// What is added to the root of that.
        #[serde(default = "default_epsilon")]
        #[schemars(range(min = 0))]
        epsilon: f64,
    },
    /// The same, and all weights are drawn to 0 apart from the gradient: Loshchilov and Hutter (2017).
    #[serde(rename = "adamw")]
    AdamW {
        /// How far a batch moves the weights.
        #[serde(default = "default_adam_rate")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        learning_rate: f64,
        /// How slowly the mean of the gradient moves.
        #[serde(default = "default_beta1")]
        #[schemars(range(min = 0, max = 1))]
        beta1: f64,
        /// How slowly the mean of its square moves.
        #[serde(default = "default_beta2")]
        #[schemars(range(min = 0, max = 1))]
        beta2: f64,
        /// What is added to the root of that.
        #[serde(default = "default_epsilon")]
        #[schemars(range(min = 0))]
        epsilon: f64,
        /// By what fraction of themselves, times the learning rate, a batch draws all weights to 0.
        #[serde(default = "default_weight_decay")]
        #[schemars(range(min = 0))]
        weight_decay: f64,
    },
}

/// How the learning rate changes with the number of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Schedule {
    /// Not at all.
    #[default]
    Constant,
    /// It falls with the root of the number of batches, from the given one on.
    InverseSquareRoot {
        /// From which batch on.
        #[schemars(range(min = 1))]
        batches: u32,
    },
    /// It halves again and again.
    Exponential {
        /// After how many batches each time.
        #[schemars(range(min = 1))]
        half_life: u32,
    },
    /// It falls along half a cosine, and stays at its floor.
    Cosine {
        /// Over how many batches.
        #[schemars(range(min = 1))]
        batches: u32,
        /// To which fraction of itself.
        #[serde(default)]
        #[schemars(range(min = 0, max = 1))]
        floor: f64,
    },
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self::Adam {
            learning_rate: default_adam_rate(),
            beta1: default_beta1(),
            beta2: default_beta2(),
            epsilon: default_epsilon(),
        }
    }
}

fn default_batch_rows() -> u32 {
    64
}

fn default_embedding() -> u32 {
    8
}

fn default_sgd_rate() -> f64 {
    0.01
}

fn default_adam_rate() -> f64 {
    0.001
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.999
}

fn default_epsilon() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    0.01
}

/// The most layers, units of a layer, and rows of a batch.
const MOST_LAYERS: usize = 1000;
const MOST_UNITS: u32 = 1 << 16;
const MOST_BATCH_ROWS: u32 = 1 << 20;
const MOST_EMBEDDING: u32 = 1 << 12;

impl NetworkSettings {
    /// Says what is wrong with the values, for a label of these classes, or of none.
    pub(crate) fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        if self.layers.len() > MOST_LAYERS {
            let problem = format!("there are {} layers; {MOST_LAYERS} are the most", self.layers.len());
            return Err(Problem::new(problem).under("layers"));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check().map_err(|problem| problem.under(index).under("layers"))?;
        }
        check_count("batch_rows", self.batch_rows, MOST_BATCH_ROWS)?;
        check_count("embedding", self.embedding, MOST_EMBEDDING)?;
        self.optimizer.check().map_err(|problem| problem.under("optimizer"))?;
        self.schedule.check().map_err(|problem| problem.under("schedule"))?;
        if let Some(norm) = self.clip_norm.filter(|norm| !norm.is_finite() || *norm <= 0.0) {
            let problem = format!("`clip_norm` is {norm}, and should be a number above 0, such as 1.0");
            return Err(Problem::new(problem).under("clip_norm"));
        }
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
    pub(crate) fn most_numbers(&self, numbers: u64, categories: u64, slots: u64, classes: u64) -> u64 {
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

fn check_count(name: &str, count: u32, most: u32) -> Result<(), Problem> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(Problem::new(format!("`{name}` is {count}, and should be a number from 1 to {most}")).under(name))
}

fn check_share(name: &str, value: f64) -> Result<(), Problem> {
    if (0.0..1.0).contains(&value) {
        // In the precision of the weights.
        return match (value as f32) < 1.0 {
            true => Ok(()),
            false => {
                let problem = format!("`{name}` is {value}, which is 1 in the 32 bits of the weights");
                Err(Problem::new(problem).help("0.9999999 is the most").under(name))
            }
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

impl OptimizerSettings {
    fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Sgd { learning_rate, momentum } => {
                check_not_negative(&[("learning_rate", *learning_rate)])?;
                check_share("momentum", *momentum)
            }
            Self::Adam { learning_rate, beta1, beta2, epsilon }
            | Self::AdamW { learning_rate, beta1, beta2, epsilon, .. } => {
                check_not_negative(&[("learning_rate", *learning_rate), ("epsilon", *epsilon)])?;
                // In the precision of the weights.
                if *epsilon as f32 == 0.0 {
                    let problem = format!("`epsilon` is {epsilon}, so that weights without gradient would be 0 / 0");
                    return Err(Problem::new(problem).help("such as 1e-8").under("epsilon"));
                }
                check_share("beta1", *beta1)?;
                check_share("beta2", *beta2)?;
                match self {
                    Self::AdamW { weight_decay, .. } => check_not_negative(&[("weight_decay", *weight_decay)]),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Schedule {
    fn check(self) -> Result<(), Problem> {
        match self {
            Self::Constant => Ok(()),
            Self::InverseSquareRoot { batches } => check_count("batches", batches, u32::MAX),
            Self::Exponential { half_life } => check_count("half_life", half_life, u32::MAX),
            Self::Cosine { batches, floor } => {
                check_count("batches", batches, u32::MAX)?;
                match (0.0..=1.0).contains(&floor) {
                    true => Ok(()),
                    false => Err(Problem::new(format!("`floor` is {floor}, and should be a fraction from 0 to 1"))
                        .under("floor")),
                }
            }
        }
    }

    /// What the learning rate is multiplied by at the given batch, counted from 1.
    pub(super) fn factor(self, batch: u64) -> f64 {
        let done = |batches: u32| batch as f64 / f64::from(batches);
        match self {
            Self::Constant => 1.0,
            Self::InverseSquareRoot { batches } => 1.0 / done(batches).max(1.0).sqrt(),
            Self::Exponential { half_life } => libm::exp2(-done(half_life)),
            Self::Cosine { batches, floor } => {
                let height = (1.0 + libm::cos(std::f64::consts::PI * done(batches).min(1.0))) / 2.0;
                floor + (1.0 - floor) * height
            }
        }
    }
}
