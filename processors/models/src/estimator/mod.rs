//! Estimators: what learns from encoded rows. They know nothing of flows, batches of columns or files.
//!
//! An estimator is a file beside this one and a line in [`list`]. The file has what users write ([`Kind`]), what follows from
//! it ([`Settings`]), and what learns: a [`ByRow`] if it goes row by row, else an [`Estimator`] of its own.

mod adaptive_random_forest;
mod adaptive_random_forest_regressor;
mod adaptive_tree;
mod arms;
mod batch;
mod by_row;
mod checks;
mod columns;
mod dbstream;
mod ensemble;
mod foreign;
mod forest;
mod ftrl;
mod gives;
mod half_space_trees;
mod hoeffding_adaptive_tree;
mod hoeffding_adaptive_tree_regressor;
mod hoeffding_tree;
mod hoeffding_tree_regressor;
mod holt_winters;
mod k_means;
mod k_neighbors;
mod labels;
mod leveraging_bagging;
mod lin_thompson;
mod lin_ucb;
mod linear;
mod linear_regression;
mod list;
mod logistic_regression;
mod mahalanobis;
mod mapped;
mod network;
mod nystroem;
mod polynomial_features;
mod quantiles;
mod quantum;
mod quantum_k_means;
mod random;
mod rbf_sampler;
mod settings;
mod sgd;
mod shape;
mod softmax_regression;
mod svm;
mod tree;
mod window;
mod z_score;

use std::fmt::Debug;

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use batch::{Predict, Step};
use by_row::{ByRow, Lesson};
pub(crate) use foreign::{Onnx, OnnxGives, OnnxInput};
pub use gives::{Certainty, Gives, PredictedColumn};
pub(crate) use gives::{likeliest, positive};
pub use labels::Labels;
pub use list::{EstimatorKind, estimators};
pub use quantiles::Quantiles;
pub(crate) use random::mixed;
pub use settings::EstimatorSettings;
pub(crate) use shape::Shape;
use shape::ends_of_categories;

use crate::device::OpenDevice;
use crate::encode::{Feature, LARGEST, Row};
use crate::label::Class;
use crate::layers::Layer;
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;

/// The settings of an estimator. The struct is the one source of parser, checks and reference page, as a node's is: its doc
/// comment says what the estimator is, a field's doc comment is that setting's entry, and it denies unknown fields.
pub(crate) trait Kind: Settings + Serialize + DeserializeOwned + JsonSchema + 'static {
    /// What `type = "…"` says.
    const NAME: &'static str;

    /// The body of an estimator's table without `type`, as TOML. Tests learn with it.
    const EXAMPLE: &'static str;

    /// Whether what it learns [can be written as ONNX](Estimator::to_onnx).
    const EXPORTS: bool = false;
}

/// What follows from the settings of an estimator.
pub(crate) trait Settings: Debug + Send + Sync {
    /// What it computes with.
    fn takes(&self) -> Takes {
        Takes::Dense
    }

    /// The labels that it learns.
    fn labels(&self) -> Labels;

    /// Whether it learns at all. What others have made does not.
    fn learns(&self) -> bool {
        true
    }

    /// Whether rows may count more or less than others.
    fn takes_weights(&self) -> bool {
        false
    }

    /// What its predictions are, for a label of these classes, or of none.
    fn gives(&self, classes: &[Class]) -> Gives;

    /// Says what is wrong with the values, for a label of these classes, or of none.
    fn check(&self, classes: &[Class]) -> Result<(), Problem>;

    /// Says what of the settings does not fit the features.
    fn check_features(&self, _features: &[Feature]) -> Result<(), Problem> {
        Ok(())
    }

    /// The largest number that may be learned, or learned from as it is.
    fn largest(&self) -> f64 {
        LARGEST
    }

    /// How many numbers the largest part of its state has at most, however many rows it learns.
    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let Shape { numbers, slots, .. } = Shape::new(features, classes);
        (numbers as u64 + slots as u64).saturating_mul(classes.len().max(1) as u64)
    }

    /// Whether what it has learned can grow without end, so that it predicts nothing of use any more.
    fn can_diverge(&self) -> bool {
        true
    }

    /// Whether it can be computed on other devices than the CPU.
    fn supports_devices(&self) -> bool {
        false
    }

    /// Whether a prediction follows from its row and from what was learned, and not from rows that came before as well.
    fn follows_from_one_row(&self) -> bool {
        true
    }

    /// An estimator that has learned nothing, for rows of these features, and a label of these classes, or of none.
    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator>;
}

/// What is said of an estimator that has [no layers](Estimator::layers).
const NO_LAYERS: &str = "it is neither a network nor a linear model, so that it has no layers";

/// What an estimator computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Numbers of about one size, and a one for each category: numbers are standardised where nothing else is said.
    Dense,
    /// Values as they are: numbers are `raw` where nothing else is said.
    Raw,
    /// No features, only labels; or what says of which series, and when, a row is.
    Series,
    /// No features, only labels.
    Nothing,
}

/// What learns. It is called once a batch, and loops over the rows itself.
///
/// Everything is deterministic: the same rows in the same order give the same bits, however they are cut into batches.
pub(crate) trait Estimator: Debug + Send + Sync {
    /// How many numbers a prediction has.
    fn outputs(&self) -> usize;

    /// Predicts every row, and then learns it if it is to be learned, before it predicts the next. Returns how many rows it
    /// has learned.
    fn step(&mut self, step: Step<'_>) -> Result<u64>;

    /// Predicts every row.
    fn predict(&self, predict: Predict<'_>) -> Result<()>;

    /// Writes what was learned.
    fn save(&self, tensors: &mut Tensors) -> Result<()>;

    /// Reads what was learned into a new estimator.
    fn load(&mut self, tensors: &Tensors) -> Result<()>;

    /// Adds to a graph what predicts encoded rows as it does: a tensor with a column for each number of a prediction.
    ///
    /// # Errors
    /// If ONNX has no operators for it; [`Kind::EXPORTS`] says for which estimators that is so whatever they have learned.
    fn to_onnx(&self, _graph: &mut Graph, _row: &Encoded) -> Result<Value> {
        Err(Error::new("ONNX has no operators for it"))
    }

    /// The layers that compute its predictions of encoded rows, or the sums that these follow from.
    ///
    /// # Errors
    /// If it is neither a network nor linear.
    fn layers(&self, _features: &[Feature]) -> Result<Vec<Layer>> {
        Err(Error::new(NO_LAYERS))
    }

    /// Takes weights over: those of [its layers](Self::layers), which others have learned.
    ///
    /// # Errors
    /// If it has no layers, or doesn't know what to make of such weights.
    fn take_layers(&mut self, _layers: &[Layer]) -> Result<()> {
        Err(Error::new("it takes no weights of others"))
    }

    /// The same once more, which goes on for itself.
    fn another(&self) -> Box<dyn Estimator>;

    /// Whether that costs next to nothing.
    fn is_shared(&self) -> bool {
        false
    }

    /// Loads what predicting needs beside the model, so that it doesn't fail only when there are rows.
    ///
    /// # Errors
    /// If that is not there.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Goes on computing on a device, if it [can](Settings::supports_devices).
    fn compute_on(&mut self, _device: &OpenDevice) -> Result<()> {
        Ok(())
    }
}

impl Clone for Box<dyn Estimator> {
    fn clone(&self) -> Self {
        self.another()
    }
}
