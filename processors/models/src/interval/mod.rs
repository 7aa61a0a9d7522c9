//! Prediction intervals: what lies about the predictions of any estimator of numbers so that the truth is inside as often as is said.
//!
//! Conformal: an interval is as wide as the errors of the last rows were, each of which was predicted before it was learned (Vovk, Gammerman and Shafer, *Algorithmic Learning in a
//! Random World*, 2005). Where the world changes, the share that is aimed at moves with what came true: adaptive conformal inference (Gibbs and Candès,
//! "Adaptive conformal inference under distribution shift", 2021). Nothing is supposed of errors but that, and estimators know nothing of it.

mod settings;

use std::collections::VecDeque;

use millstream_core::{Error, Result};

use crate::device::OpenDevice;
use crate::encode::Feature;
use crate::estimator::{Estimator, Predict, Step};
use crate::layers::Layer;
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;
pub use settings::IntervalSettings;

/// How many numbers a prediction has: the number, the lower and the upper end of its interval.
const OUTPUTS: usize = 3;

/// An estimator of numbers whose predictions have intervals.
#[derive(Clone, Debug)]
pub(crate) struct WithInterval {
    estimator: Box<dyn Estimator>,
    errors: Errors,
}

/// By how much the last rows were predicted wrongly.
#[derive(Clone, Debug)]
struct Errors {
    settings: IntervalSettings,
    /// The share of rows that may lie outside, as it is aimed at now.
    outside: f64,
    /// The last ones, the oldest first.
    last: VecDeque<f64>,
    /// The same, the smallest first.
    sorted: Vec<f64>,
}

impl WithInterval {
    /// One that has learned nothing.
    pub fn new(estimator: Box<dyn Estimator>, settings: IntervalSettings) -> Self {
        let (outside, last, sorted) = (1.0 - settings.coverage, VecDeque::new(), Vec::new());
        Self { estimator, errors: Errors { settings, outside, last, sorted } }
    }
}

impl Errors {
    /// How far the ends lie from the prediction: the error that enough others and the next one don't exceed, as far as is known. NaN before there is an error.
    fn half_width(&self) -> f64 {
        let count = self.sorted.len();
        let rank = ((count + 1) as f64 * (1.0 - self.outside)).ceil() as usize;
        rank.clamp(1, count.max(1)).checked_sub(1).and_then(|place| self.sorted.get(place)).copied().unwrap_or(f64::NAN)
    }

    /// Learns a row that was predicted with an interval of that half width.
    fn learn(&mut self, error: f64, half_width: f64) {
        if !error.is_finite() {
            return;
        }
        if !half_width.is_nan() {
            let missed = if error > half_width { 1.0 } else { 0.0 };
            let moved = self.outside + self.settings.rate * (1.0 - self.settings.coverage - missed);
            // Beyond these, an interval is as wide as the largest error, or as the smallest.
            self.outside = moved.clamp(0.0, 1.0);
        }
        if self.last.len() == self.settings.window as usize
            && let Some(oldest) = self.last.pop_front()
        {
            self.sorted.remove(self.sorted.partition_point(|known| *known < oldest));
        }
        self.last.push_back(error);
        self.sorted.insert(self.sorted.partition_point(|known| *known < error), error);
    }

    fn save(&self, tensors: &mut Tensors) {
        tensors.put_f64("interval.outside", &[1], &[self.outside]);
        tensors.put_u64("interval.count", &[self.last.len() as u64]);
        tensors.put_f64("interval.errors", &[self.last.len()], &Vec::from(self.last.clone()));
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let damaged = || Error::new("what the model knows of its errors is damaged");
        let outside = tensors.f64s("interval.outside", &[1])?[0];
        let count = tensors.u64s("interval.count")?.first().copied();
        let count = count.filter(|count| *count <= self.settings.window.into()).ok_or_else(damaged)?;
        let last = tensors.f64s("interval.errors", &[count as usize])?;
        if !(0.0..=1.0).contains(&outside) || !last.iter().all(|error| error.is_finite() && *error >= 0.0) {
            return Err(damaged());
        }
        self.sorted.clone_from(&last);
        self.sorted.sort_unstable_by(f64::total_cmp);
        (self.outside, self.last) = (outside, last.into());
        Ok(())
    }
}

/// Writes a prediction and its interval.
fn write(into: &mut [f64], prediction: f64, half_width: f64) {
    into.copy_from_slice(&[prediction, prediction - half_width, prediction + half_width]);
}

impl Estimator for WithInterval {
    fn outputs(&self) -> usize {
        OUTPUTS
    }

    fn step(&mut self, step: Step<'_>) -> Result<u64> {
        let Step { encoders, rows, targets, rewards, weights, learn, predictions } = step;
        let mut own = vec![0.0; rows.count()];
        let step = Step { encoders, rows, targets, rewards, weights, learn, predictions: &mut own };
        let learned: Vec<_> = (0..rows.count()).map(|row| step.target(row)).collect();
        let count = self.estimator.step(step)?;
        for ((into, prediction), target) in predictions.chunks_exact_mut(OUTPUTS).zip(own).zip(learned) {
            let half_width = self.errors.half_width();
            write(into, prediction, half_width);
            if let Some(target) = target {
                self.errors.learn((target - prediction).abs(), half_width);
            }
        }
        Ok(count)
    }

    fn predict(&self, Predict { encoders, rows, predictions }: Predict<'_>) -> Result<()> {
        let mut own = vec![0.0; rows.count()];
        self.estimator.predict(Predict { encoders, rows, predictions: &mut own })?;
        let half_width = self.errors.half_width();
        predictions.chunks_exact_mut(OUTPUTS).zip(own).for_each(|(into, own)| write(into, own, half_width));
        Ok(())
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        self.errors.save(tensors);
        self.estimator.save(tensors)
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.errors.load(tensors)?;
        self.estimator.load(tensors)
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        self.estimator.to_onnx(graph, row)
    }

    fn layers(&self, features: &[Feature]) -> Result<Vec<Layer>> {
        self.estimator.layers(features)
    }

    fn take_layers(&mut self, layers: &[Layer]) -> Result<()> {
        self.estimator.take_layers(layers)
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }

    fn prepare(&self) -> Result<()> {
        self.estimator.prepare()
    }

    fn compute_on(&mut self, device: &OpenDevice) -> Result<()> {
        self.estimator.compute_on(device)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
