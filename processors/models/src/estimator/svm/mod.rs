//! Support vector machines over the last rows, which are fitted anew from time to time.
//!
//! A fit is a function of the window alone, and when it comes follows from how many rows there were, so that nothing depends on batches. It finds what
//! libsvm finds, by the same steps; a class is set against each of the others.

mod classifier;
mod fit;
mod kernel;
mod machine;
mod points;
mod regressor;
mod settings;
mod solver;

use std::sync::Arc;

use millstream_core::{Error, Result};

pub(super) use classifier::Svc;
use fit::Fit;
use machine::Machine;
pub(super) use regressor::Svr;
use settings::SvmSettings;

use super::checks::weights_of;
use super::window::Window;
use super::{ByRow, Lesson, Row};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;

/// The last rows, and what was found when it was last fitted to them.
#[derive(Clone, Debug)]
struct Svm {
    settings: Arc<SvmSettings>,
    /// How much the rows of each class count; none for numbers.
    counts: Vec<f64>,
    window: Window,
    /// By place in the window, how much the row counts.
    weights: Vec<f64>,
    /// How many rows were learned.
    rows: u64,
    machine: Machine,
}

impl Svm {
    fn new(settings: &SvmSettings, features: &[Feature], classes: &[Class]) -> Self {
        let size = settings.window as usize;
        let window = Window::new(features, size);
        Self {
            settings: Arc::new(settings.clone()),
            counts: weights_of(classes, &settings.class_weight),
            machine: Machine::new(settings.kernel(1.0), window.rows(), classes.len().max(1)),
            window,
            weights: vec![1.0; size],
            rows: 0,
        }
    }

    /// Whether numbers are learned, and no classes.
    #[inline(always)]
    fn is_regressor(&self) -> bool {
        self.counts.is_empty()
    }

    #[cold]
    fn fit(&mut self) {
        self.machine = Fit::new(&self.settings, &self.counts, &self.window, &self.weights).run();
    }
}

/// Scores of several classes: how many of the others each wins against, and by how much, pressed between a third less and a third more
/// (scikit-learn's `decision_function` of the shape `ovr`). `margins` has the sums of what was decided.
#[inline(always)]
fn press(margins: &[f64], wins: &mut [f64]) {
    for (wins, margin) in wins.iter_mut().zip(margins) {
        *wins += margin / (3.0 * (margin.abs() + 1.0));
    }
}

impl ByRow for Svm {
    #[inline(always)]
    fn outputs(&self) -> usize {
        if self.counts.len() > 2 { self.counts.len() } else { 1 }
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        if self.is_regressor() {
            return self.machine.decide(row, |_, _, number| into[0] = number);
        }
        if let [score] = into {
            // More than 0 is for the first class, and the score for the second.
            return self.machine.decide(row, |_, _, margin| *score = -margin);
        }
        into.fill(0.0);
        let mut margins = vec![0.0; into.len()];
        self.machine.decide(row, |one, other, margin| {
            into[if margin < 0.0 { other } else { one }] += 1.0;
            margins[one] += margin;
            margins[other] -= margin;
        });
        press(&margins, into);
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, target: f64) {
        self.learn(row, &Lesson { target, reward: f64::NAN, weight: 1.0, prediction: &[] });
    }

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        let place = self.window.push(row, lesson.target);
        self.weights[place] = lesson.weight;
        self.rows += 1;
        if self.settings.is_due(self.rows) {
            self.fit();
        }
    }

    fn save(&self, tensors: &mut Tensors) {
        tensors.put_u64("estimator.rows", &[self.rows]);
        self.window.save(tensors);
        let weights: Vec<_> = self.window.places().iter().map(|place| self.weights[*place]).collect();
        tensors.put_f64("estimator.weights", &[weights.len()], &weights);
        self.machine.save(tensors);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let rows = tensors.u64s("estimator.rows")?;
        let rows = rows.first().filter(|rows| **rows < 1 << 53);
        self.rows = *rows.ok_or_else(|| Error::new("the tensor `estimator.rows` of the model is damaged"))?;
        self.window.load(tensors)?;
        let filled = self.window.len();
        self.weights[..filled].copy_from_slice(&tensors.f64s("estimator.weights", &[filled])?);
        self.machine.load(self.settings.window as usize, tensors)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
