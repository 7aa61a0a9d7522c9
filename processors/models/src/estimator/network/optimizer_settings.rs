//! The settings of how weights follow the gradient.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::checks::check_not_negative;
use super::layer_settings::{check_count, check_share};

/// How the weights follow the gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum OptimizerSettings {
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
        /// What is added to the root of that mean, so that nothing is divided by 0.
        #[serde(default = "default_epsilon")]
        #[schemars(range(min = 0))]
        epsilon: f64,
    },
    /// Adam with weight decay apart from the gradient: Loshchilov and Hutter (2017).
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
        /// What is added to the root of that mean, so that nothing is divided by 0.
        #[serde(default = "default_epsilon")]
        #[schemars(range(min = 0))]
        epsilon: f64,
        /// By what fraction of themselves, times the learning rate, a batch shrinks all weights.
        #[serde(default = "default_weight_decay")]
        #[schemars(range(min = 0))]
        weight_decay: f64,
    },
}

/// How the learning rate changes with the number of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Schedule {
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

impl OptimizerSettings {
    pub fn check(&self) -> Result<(), Problem> {
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
    pub fn check(self) -> Result<(), Problem> {
        match self {
            Self::Constant => Ok(()),
            Self::InverseSquareRoot { batches } => check_count("batches", batches, u32::MAX),
            Self::Exponential { half_life } => check_count("half_life", half_life, u32::MAX),
            Self::Cosine { batches, floor } => {
                check_count("batches", batches, u32::MAX)?;
                if (0.0..=1.0).contains(&floor) {
                    Ok(())
                } else {
                    Err(Problem::new(format!("`floor` is {floor}, and should be a fraction from 0 to 1"))
                        .under("floor"))
                }
            }
        }
    }

    /// What the learning rate is multiplied by at the given batch, counted from 1.
    pub fn factor(self, batch: u64) -> f64 {
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
