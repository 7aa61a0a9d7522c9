//! What a forest is like, as its settings say.

use crate::drift::adwin;
use crate::encode::Feature;
use crate::estimator::Shape;
use crate::estimator::random::Poisson;
use crate::estimator::tree::Growth;

/// What a forest is like.
#[derive(Clone, Debug)]
pub(in crate::estimator) struct Plan {
    /// How many trees there are.
    pub trees: u32,
    /// How each of them grows.
    pub growth: Growth,
    pub features: Vec<Feature>,
    pub shape: Shape,
    /// How many features a leaf looks at, if not at all.
    pub subspace: Option<usize>,
    /// How much rows count.
    pub poisson: Poisson,
    pub seed: u64,
    /// When a tree's errors are a warning, and when they are a drift.
    pub warning: adwin::Settings,
    pub drift: adwin::Settings,
}
