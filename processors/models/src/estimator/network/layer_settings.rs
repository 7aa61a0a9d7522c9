//! The settings of the layers of networks.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::convolution::Taps;

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
    /// A state that is carried from row to row of a sequence.
    Gru(GruSettings),
    /// A state and a memory that are carried from row to row of a sequence.
    Lstm(LstmSettings),
    /// Weighted sums over several rows of a sequence.
    Conv1d(Conv1dSettings),
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct GruSettings {
    /// So many gated recurrent units over the rows of a `sequence`, as PyTorch's `GRU` has them: a state that each row changes, as far as it says so
    /// itself.
    #[schemars(range(min = 1, max = 65536))]
    pub gru: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct LstmSettings {
    /// So many units of long short-term memory over the rows of a `sequence`, as PyTorch's `LSTM` has them: a third more weights than `gru`.
    #[schemars(range(min = 1, max = 65536))]
    pub lstm: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Conv1dSettings {
    /// So many units over the rows of a `sequence`, each a weighted sum of what comes in of a row and of those before it, and an intercept.
    /// Where there are none before, zeros count.
    #[schemars(range(min = 1, max = 65536))]
    pub conv1d: u32,
    /// How many rows a sum is over, the row itself among them.
    #[schemars(range(min = 1, max = 1024))]
    pub kernel: u32,
    /// How far these are apart: with 2 every other row. Layers with 1, 2, 4, … see far back by few weights.
    #[serde(default = "adjacent")]
    #[schemars(range(min = 1, max = 1024))]
    pub dilation: u32,
    /// What becomes of the sums.
    #[serde(default)]
    pub activation: Activation,
}

fn adjacent() -> u32 {
    1
}

impl Conv1dSettings {
    /// Which rows a sum is over.
    pub fn taps(&self) -> Taps {
        Taps { kernel: self.kernel as usize, dilation: self.dilation as usize }
    }
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

/// The most units of a layer, and rows of a window.
const MOST_UNITS: u32 = 1 << 16;
const MOST_STEPS: u32 = 1 << 10;

impl LayerSettings {
    /// Says what is wrong with its values.
    pub fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Dense(layer) => check_count("dense", layer.dense, MOST_UNITS),
            Self::Dropout(layer) => check_share("dropout", layer.dropout),
            Self::Normalise(_) => Ok(()),
            Self::Gru(layer) => check_count("gru", layer.gru, MOST_UNITS),
            Self::Lstm(layer) => check_count("lstm", layer.lstm, MOST_UNITS),
            Self::Conv1d(layer) => {
                check_count("conv1d", layer.conv1d, MOST_UNITS)?;
                check_count("kernel", layer.kernel, MOST_STEPS)?;
                check_count("dilation", layer.dilation, MOST_STEPS)
            }
        }
    }

    /// Whether it needs the rows of a sequence.
    pub fn goes_over_rows(&self) -> bool {
        matches!(self, Self::Gru(_) | Self::Lstm(_) | Self::Conv1d(_))
    }
}

pub(super) fn check_count(name: &str, count: u32, most: u32) -> Result<(), Problem> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(Problem::new(format!("`{name}` is {count}, and should be a number from 1 to {most}")).under(name))
}

/// Says if so many are no rows of a sequence.
pub(super) fn check_steps(rows: u32) -> Result<(), Problem> {
    if (2..=MOST_STEPS).contains(&rows) {
        return Ok(());
    }
    Err(Problem::new(format!("`rows` is {rows}, and should be a number from 2 to {MOST_STEPS}")).under("rows"))
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
