//! Anomalies: rows where hardly any were.

mod spaces;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod window;

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::check_from_to;
use super::{ByRow, Estimator, Gives, Kind, Labels, PredictedColumn, Row, Settings, Shape, Takes, ends_of_categories};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;
use crate::vector::exp;
use spaces::Spaces;
use window::{Scales, Window};

/// Anomalies, without a label: trees halve the space of all features at random, again and again, and count the last window of rows; a row is the more
/// of an anomaly the fewer rows are where it is (Tan, Ting & Liu, "Fast anomaly detection for streaming data", 2011). Adds the column `anomaly`,
/// from 0 to 1: 0.5 where rows are as dense as if they were spread evenly, about 1 where there are none, null before the first window is full. The
/// metric is `mean_anomaly`.
///
/// Numbers are taken as they are (`raw`): the window's own quantiles say what is little and what is much, so that a few wild numbers don't
/// squeeze all others together. A category counts as how frequent its value is. Every full window replaces the one before, so that what
/// has become usual is no anomaly any more.
///
/// Take it for many measurements with several usual states, and where nobody can say what an anomaly looks like. It says nothing about why. For
/// a single measurement that leaves its range take `z_score`. Of Shuttle it tells the odd rows from the others with an AUC of 0.998 (River's trees,
/// with the same settings, 0.958).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HalfSpaceTrees {
    /// How many trees there are.
    #[serde(default = "n_trees")]
    #[schemars(range(min = 1, max = 1000))]
    n_trees: u32,
    /// So many times each halves the space. It takes as many counts as that power of two, twice.
    #[serde(default = "height")]
    #[schemars(range(min = 1, max = 15))]
    height: u32,
    /// How many rows a window has.
    #[serde(default = "window_size")]
    #[schemars(range(min = 10, max = 100_000))]
    window_size: u32,
    /// Where so few of a window's rows are, as its share, no half is looked at.
    #[serde(default = "size_limit")]
    size_limit: f64,
    /// What is less than this quantile of a window, or more than the opposite one, is out of range.
    #[serde(default = "limit_quantile")]
    limit_quantile: f64,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
}

fn n_trees() -> u32 {
    25
}

fn height() -> u32 {
    8
}

fn window_size() -> u32 {
    250
}

fn size_limit() -> f64 {
    0.1
}

fn limit_quantile() -> f64 {
    0.01
}

/// The distances of such numbers are finite.
const LARGEST: f64 = 1e100;

const COLUMNS: &[PredictedColumn] = &[PredictedColumn { name: "anomaly", whole: false, mean: Some("mean_anomaly") }];

impl Kind for HalfSpaceTrees {
    const NAME: &'static str = "half_space_trees";
    const EXAMPLE: &'static str = "window_size = 100\nheight = 6\nseed = 7";
}

impl Settings for HalfSpaceTrees {
    fn takes(&self) -> Takes {
        Takes::Raw
    }

    fn labels(&self) -> Labels {
        Labels::Nothing
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Columns(COLUMNS)
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[
            ("n_trees", self.n_trees.into(), 1.0, 1000.0),
            ("height", self.height.into(), 1.0, 15.0),
            ("window_size", self.window_size.into(), 10.0, 100_000.0),
            ("size_limit", self.size_limit, 0.0, 1.0),
            ("limit_quantile", self.limit_quantile, 0.0, 0.49),
        ])
    }

    fn largest(&self) -> f64 {
        LARGEST
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let Shape { slots, .. } = Shape::new(features, classes);
        let counts = u64::from(self.n_trees) << (self.height + 1);
        let window = features.len() as u64 * u64::from(self.window_size);
        counts.max(window).max(slots as u64).max(1)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let window = Window::new(features, Shape::new(features, classes), self.window_size as usize);
        let spaces = Spaces::new(self.n_trees, self.height, self.seed, window.dimensions());
        Box::new(Masses {
            size_limit: self.size_limit * f64::from(self.window_size),
            limit_quantile: self.limit_quantile,
            scales: Scales::new(&window),
            counts: spaces.counts(),
            spaces,
            window,
            is_counted: false,
        })
    }
}

/// How many rows of the last full window are where.
#[derive(Clone, Debug)]
struct Masses {
    size_limit: f64,
    limit_quantile: f64,
    spaces: Spaces,
    /// The rows that are to be the next full window.
    window: Window,
    /// By what rows become points in the space.
    scales: Scales,
    /// By part of the space, how many rows of the last full window are there.
    counts: Vec<u32>,
    /// Whether there was a full window.
    is_counted: bool,
}

impl Masses {
    /// Has a full window replace the last one.
    #[inline(never)]
    fn count(&mut self) {
        self.scales = Scales::of(&self.window, self.limit_quantile);
        self.counts.fill(0);
        let mut point = vec![0.0; self.window.dimensions()];
        for row in 0..self.window.size() {
            self.scales.place(self.window.row(row), &mut point);
            self.spaces.count(&point, &mut self.counts);
        }
        self.window.empty();
        self.is_counted = true;
    }
}

impl ByRow for Masses {
    #[inline(always)]
    fn outputs(&self) -> usize {
        COLUMNS.len()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        into[0] = f64::NAN;
        if !self.is_counted {
            return;
        }
        let mut point = vec![0.0; self.window.dimensions()];
        self.scales.place(self.window.parts_of(row), &mut point);
        let even = 1.0 / self.window.size() as f64;
        let anomaly = |density: f64| exp(-std::f64::consts::LN_2 * density * even);
        let sum: f64 = self.spaces.densities(&point, &self.counts, self.size_limit).map(anomaly).sum();
        into[0] = sum / self.spaces.trees() as f64;
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, _target: f64) {
        self.window.push(row);
        if self.window.is_full() {
            self.count();
        }
    }

    fn save(&self, tensors: &mut Tensors) {
        tensors.put_u32("estimator.counts", &[self.counts.len()], &self.counts);
        tensors.put_u8("estimator.is_counted", &[u8::from(self.is_counted)]);
        self.window.save(tensors);
        self.scales.save(tensors);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.counts = tensors.u32s("estimator.counts", &[self.counts.len()])?;
        let is_counted = tensors.u8s("estimator.is_counted")?.first();
        self.is_counted = *is_counted.ok_or_else(|| Error::new("the half-space trees of the model are damaged"))? == 1;
        self.window.load(tensors)?;
        self.scales.load(tensors)
    }
}
