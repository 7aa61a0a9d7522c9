//! Estimators: what learns from encoded rows. They know nothing of flows, columns or files.

mod by_row;
mod linear;
mod network;
mod settings;
mod sgd;
mod softmax;

use millstream_core::Result;

pub(crate) use by_row::{ByRow, Estimate};
pub use network::NetworkSettings;
pub(crate) use network::{Network, Questions};
pub(crate) use settings::Labels;
pub use settings::{Certainty, EstimatorSettings};
pub use sgd::SgdSettings;

use crate::encode::{Feature, Row};
use crate::label::Class;
use crate::tensors::Tensors;
use linear::{Linear, Loss};
use settings::weight_of;
use sgd::Sgd;
use softmax::Softmax;

/// An estimator of any type.
///
/// Everything is deterministic: the same rows in the same order give the same bits.
#[derive(Clone, Debug)]
pub(crate) enum Estimator {
    /// It learns one row at a time.
    ByRow(ByRow),
    /// It learns so many rows at a time.
    InBatches(Box<Network>),
}

impl Estimator {
    /// One that has learned nothing, for rows of this shape, of these features, and labels of these classes.
    pub fn new(settings: &EstimatorSettings, features: &[Feature], classes: &[Class], shape: Shape) -> Self {
        let weights = |weights| classes.iter().map(|class| weight_of(class, weights)).collect::<Vec<_>>();
        Self::ByRow(match settings {
            EstimatorSettings::LogisticRegression { learning_rate, l2, class_weight } => {
                let linear = Linear::new(Loss::Log, *learning_rate, *l2, shape);
                ByRow::Linear(linear.weighing(&weights(class_weight)))
            }
            EstimatorSettings::LinearRegression { learning_rate, l2 } => {
                ByRow::Linear(Linear::new(Loss::Squared, *learning_rate, *l2, shape))
            }
            EstimatorSettings::SoftmaxRegression { learning_rate, l2, class_weight } => {
                ByRow::Softmax(Softmax::new(*learning_rate, *l2, shape).weighing(weights(class_weight)))
            }
            EstimatorSettings::SgdClassifier(settings) | EstimatorSettings::SgdRegressor(settings) => {
                ByRow::Sgd(Sgd::new(settings, classes, shape))
            }
            EstimatorSettings::Network(settings) => {
                let categories = features.iter().map(|feature| feature.encoder.slots()).filter(|slots| *slots > 0);
                let network = Network::new(settings, categories, shape).weighing(classes);
                return Self::InBatches(Box::new(network));
            }
        })
    }

    /// How many numbers a prediction has.
    pub fn outputs(&self) -> usize {
        match self {
            Self::ByRow(by_row) => by_row.outputs(),
            Self::InBatches(network) => network.outputs(),
        }
    }

    /// Writes what was learned.
    pub fn save(&self, tensors: &mut Tensors) -> Result<()> {
        match self {
            Self::ByRow(by_row) => by_row.save(tensors),
            Self::InBatches(network) => network.save(tensors)?,
        }
        Ok(())
    }

    /// Reads what was learned into a new estimator.
    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        match self {
            Self::ByRow(by_row) => by_row.load(tensors),
            Self::InBatches(network) => network.load(tensors),
        }
    }
}

/// The sizes of what an estimator learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many numbers a row has.
    pub numbers: usize,
    /// How many there are with padding.
    pub width: usize,
    /// How many slots there are.
    pub slots: usize,
    /// How many classes there are, 0 for none.
    pub classes: usize,
}
