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
    /// When a tree's errors are a drift.
    pub drift: adwin::Settings,
    pub renewal: Renewal,
}

/// Which tree is replaced when the errors of one rise.
#[derive(Clone, Debug)]
pub(in crate::estimator) enum Renewal {
    /// That one, by a tree that has learned since a warning, if there was one.
    Own { warning: adwin::Settings },
    /// The one with the most errors, by one that has learned nothing.
    Worst,
}
