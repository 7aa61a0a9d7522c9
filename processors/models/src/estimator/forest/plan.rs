//! What a forest is like, as its settings say.

use crate::drift::adwin;
use crate::encode::Feature;
use crate::estimator::Shape;
use crate::estimator::random::Poisson;
use crate::estimator::tree::{Growth, Known};

/// What a forest is like.
#[derive(Clone, Debug)]
pub(in crate::estimator) struct Plan<K: Known> {
    /// How many trees there are.
    pub trees: u32,
    /// How each of them grows.
    pub growth: Growth,
    /// What their leaves predict by.
    pub rules: K::Rules,
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

impl<K: Known> Plan<K> {
    /// How many features a leaf looks at that looks at such a share of them, if not at all.
    pub fn subspace(share: f64, features: &[Feature]) -> Option<usize> {
        // Less than the next whole number by what a float may be off.
        let drawn = (share * features.len() as f64 - 1e-9).ceil();
        (share < 1.0).then_some((drawn as usize).max(1))
    }
}

/// Which tree is replaced when the errors of one rise.
#[derive(Clone, Debug)]
pub(in crate::estimator) enum Renewal {
    /// That one, by a tree that has learned since a warning, if there was one.
    Own { warning: adwin::Settings },
    /// The one with the most errors, by one that has learned nothing.
    Worst,
}
