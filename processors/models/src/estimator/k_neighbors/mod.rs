//! Nearest neighbours: what the rows of a window that are most like a row say of it. They are found exactly, by comparing with all of them.

mod classifier;
mod nearest;
mod regressor;
mod search;

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use classifier::KNeighborsClassifier;
use nearest::{Nearest, Neighbour};
pub(super) use regressor::KNeighborsRegressor;

use super::checks::check_from_to;
use super::window::Window;
use super::{ByRow, Estimator, Gives, Kind, Labels, Row, Settings};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;

/// How much a neighbour counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Weights {
    /// All the same.
    Uniform,
    /// One by its distance. Where there are neighbours that are the same as the row, only they count.
    #[default]
    Distance,
}

fn n_neighbors() -> u32 {
    5
}

fn window() -> u32 {
    1000
}

/// Every row is compared with all of a window.
const MOST_ROWS: u32 = 1_000_000;

fn check(n_neighbors: u32, window: u32) -> Result<(), Problem> {
    check_from_to(&[("window", window.into(), 1.0, MOST_ROWS.into()), ("n_neighbors", n_neighbors.into(), 1.0, 1000.0)])
}

/// The largest part of the state: what a row has of numbers, or of categories.
fn most_numbers(window: u32, features: &[Feature]) -> u64 {
    u64::from(window).saturating_mul(features.len().max(1) as u64)
}

/// What is made of the neighbours of a row.
trait Verdict: Clone + std::fmt::Debug + Send + Sync + 'static {
    fn outputs(&self) -> usize;

    /// The prediction by neighbours, the nearest first, that count so much each. There may be none.
    fn conclude(&self, neighbours: impl Iterator<Item = (f64, f64)> + Clone, into: &mut [f64]);
}

/// Rows that were learned, and what is made of those which are most like another.
#[derive(Clone, Debug)]
struct Neighbours<V> {
    count: usize,
    weights: Weights,
    window: Window,
    verdict: V,
}

impl<V> Neighbours<V> {
    fn new(count: u32, weights: Weights, rows: u32, features: &[Feature], verdict: V) -> Self {
        Self { count: count as usize, weights, window: Window::new(features, rows as usize), verdict }
    }

    /// How much a neighbour counts, of which the nearest lies so far away.
    #[inline(always)]
    fn counts(&self, neighbour: &Neighbour, nearest: f64) -> f64 {
        match self.weights {
            Weights::Uniform => 1.0,
            Weights::Distance if nearest == 0.0 => f64::from(u8::from(neighbour.square == 0.0)),
            Weights::Distance => 1.0 / neighbour.square.sqrt(),
        }
    }
}

impl<V: Verdict> ByRow for Neighbours<V> {
    #[inline(always)]
    fn outputs(&self) -> usize {
        self.verdict.outputs()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        let mut nearest = Nearest::new(self.count);
        search::search(&self.window, row, &mut nearest);
        let least = nearest.found().first().map_or(f64::NAN, |neighbour| neighbour.square);
        let target = |neighbour: &Neighbour| self.window.target(self.window.place(neighbour.older));
        let counted = |neighbour: &Neighbour| (target(neighbour), self.counts(neighbour, least));
        self.verdict.conclude(nearest.found().iter().map(counted), into);
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, target: f64) {
        self.window.push(row, target);
    }

    fn save(&self, tensors: &mut Tensors) {
        self.window.save(tensors);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.window.load(tensors)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
