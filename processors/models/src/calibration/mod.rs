//! Calibration: what makes the probabilities of any estimator of classes as frequent as they say, and probabilities of scores.
//!
//! It learns from the last rows, each as it was predicted before it was learned, so that nothing of its label is in that. Estimators know
//! nothing of it.

mod curve;
mod settings;
mod window;

use millstream_core::{Error, Result};

use crate::device::OpenDevice;
use crate::encode::Feature;
use crate::estimator::{Certainty, Estimator, Predict, Step, positive};
use crate::layers::Layer;
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;
use curve::Curve;
pub use settings::{CalibrationMethod, CalibrationSettings};
use window::Window;

/// An estimator whose predictions are calibrated.
#[derive(Clone, Debug)]
pub(crate) struct Calibrated {
    estimator: Box<dyn Estimator>,
    calibrator: Calibrator,
}

/// What turns predictions into probabilities, class by class; of two classes, by that of the positive one.
#[derive(Clone, Debug)]
struct Calibrator {
    settings: CalibrationSettings,
    certainty: Certainty,
    /// By class. None of those of which there was nothing to learn.
    curves: Vec<Option<Curve>>,
    window: Window,
    /// How many rows it has learned.
    rows: u64,
}

impl Calibrated {
    /// One that has learned nothing, of so many classes, for an estimator of these numbers.
    pub fn new(
        estimator: Box<dyn Estimator>,
        settings: CalibrationSettings,
        certainty: Certainty,
        classes: usize,
    ) -> Self {
        let curves = if classes == 2 { 1 } else { classes };
        let window = Window::new(settings.window as usize, curves);
        let calibrator = Calibrator { settings, certainty, curves: vec![None; curves], window, rows: 0 };
        Self { estimator, calibrator }
    }
}

impl Calibrator {
    /// What a number of a prediction is compared by: sigmoids bend logarithms of odds, as scores are.
    fn compared(&self, number: f64) -> f64 {
        match (self.settings.method, self.certainty) {
            (CalibrationMethod::Platt, Certainty::Probability) => curve::logit(number),
            _ => number,
        }
    }

    /// The probability of the class of that curve.
    fn probability(&self, class: usize, number: f64) -> f64 {
        match (&self.curves[class], self.certainty) {
            (Some(curve), _) => curve.at(self.compared(number)),
            (None, Certainty::Probability) => number,
            (None, Certainty::Score) => curve::sigmoid(number),
        }
    }

    /// Puts probabilities in the place of a prediction.
    fn calibrate(&self, prediction: &mut [f64]) {
        if self.curves.len() == 1 {
            let probability = self.probability(0, positive(prediction));
            match prediction {
                [negative, positive] => (*negative, *positive) = (1.0 - probability, probability),
                _ => prediction[0] = probability,
            }
            return;
        }
        prediction.iter_mut().enumerate().for_each(|(class, number)| *number = self.probability(class, *number));
        let (sum, even) = (prediction.iter().sum::<f64>(), 1.0 / prediction.len() as f64);
        prediction.iter_mut().for_each(|share| *share = if sum > 0.0 { *share / sum } else { even });
    }

    /// Learns a row of that class, for which the estimator has predicted this.
    fn learn(&mut self, prediction: &[f64], class: usize) {
        let numbers = if self.curves.len() == 1 { &prediction[prediction.len() - 1..] } else { prediction };
        if numbers.iter().any(|number| !number.is_finite()) {
            return;
        }
        let numbers = numbers.iter().map(|number| self.compared(*number)).collect::<Vec<_>>();
        self.window.add(&numbers, class as u32);
        self.rows += 1;
        if self.rows.is_multiple_of(self.settings.every.into()) {
            self.fit();
        }
    }

    fn fit(&mut self) {
        for (class, curve) in self.curves.iter_mut().enumerate() {
            let own = if self.window.curves == 1 { 1 } else { class as u32 };
            if let Some(fitted) = Curve::fit(self.settings.method, &self.window.of_class(class, own)) {
                *curve = Some(fitted);
            }
        }
    }

    fn save(&self, tensors: &mut Tensors) {
        tensors.put_u64("calibration.rows", &[self.rows]);
        self.window.save(tensors);
        let pairs: Vec<_> =
            self.curves.iter().map(|curve| curve.as_ref().map_or_else(Vec::new, Curve::pairs)).collect();
        let lengths: Vec<_> = pairs.iter().map(|pairs| pairs.len() as u32).collect();
        tensors.put_u32("calibration.lengths", &[lengths.len()], &lengths);
        let pairs = pairs.concat();
        tensors.put_f64("calibration.curves", &[pairs.len(), 2], pairs.as_flattened());
    }

    fn load(&mut self, tensors: &Tensors, classes: usize) -> Result<()> {
        self.rows = *tensors.u64s("calibration.rows")?.first().ok_or_else(damaged)?;
        self.window.load(tensors, self.rows, classes)?;
        let lengths = tensors.u32s("calibration.lengths", &[self.curves.len()])?;
        let numbers = tensors.f64s("calibration.curves", &[tensors.rows("calibration.curves")?, 2])?;
        let mut rest = numbers.as_chunks::<2>().0;
        for (curve, length) in self.curves.iter_mut().zip(lengths) {
            let (own, others) = rest.split_at_checked(length as usize).ok_or_else(damaged)?;
            rest = others;
            let loaded = || Curve::of(self.settings.method, own).ok_or_else(damaged);
            *curve = if own.is_empty() { None } else { Some(loaded()?) };
        }
        if rest.is_empty() { Ok(()) } else { Err(damaged()) }
    }

    /// How many classes there are.
    fn classes(&self) -> usize {
        self.curves.len().max(2)
    }
}

fn damaged() -> Error {
    Error::new("what the model knows of its calibration is damaged")
}

impl Estimator for Calibrated {
    fn outputs(&self) -> usize {
        self.estimator.outputs()
    }

    fn step(&mut self, step: Step<'_>) -> Result<u64> {
        let Step { encoders, rows, targets, rewards, weights, learn, predictions } = step;
        let step = Step { encoders, rows, targets, rewards, weights, learn, predictions: &mut *predictions };
        let learned: Vec<_> = (0..rows.count()).map(|row| step.target(row)).collect();
        let count = self.estimator.step(step)?;
        for (prediction, target) in predictions.chunks_exact_mut(self.estimator.outputs()).zip(learned) {
            let predicted = target.map(|class| (prediction.to_vec(), class as usize));
            self.calibrator.calibrate(prediction);
            if let Some((predicted, class)) = predicted {
                self.calibrator.learn(&predicted, class);
            }
        }
        Ok(count)
    }

    fn predict(&self, Predict { encoders, rows, predictions }: Predict<'_>) -> Result<()> {
        self.estimator.predict(Predict { encoders, rows, predictions: &mut *predictions })?;
        let predictions = predictions.chunks_exact_mut(self.estimator.outputs());
        predictions.for_each(|prediction| self.calibrator.calibrate(prediction));
        Ok(())
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        self.calibrator.save(tensors);
        self.estimator.save(tensors)
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.calibrator.load(tensors, self.calibrator.classes())?;
        self.estimator.load(tensors)
    }

    fn to_onnx(&self, _graph: &mut Graph, _row: &Encoded) -> Result<Value> {
        Err(Error::new("what is calibrated is not written as ONNX"))
    }

    fn layers(&self, _features: &[Feature]) -> Result<Vec<Layer>> {
        Err(Error::new("its predictions are calibrated, and no layer does that"))
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
