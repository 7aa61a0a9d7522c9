//! The losses of networks: what outputs mean, and how the loss changes with them.

use super::super::Quantiles;
use super::settings::NetworkLoss;
use crate::vector::exp;

/// What a network minimises, and of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objective {
    pub loss: NetworkLoss,
    /// How many outputs there are: 1 for a number and for two classes, else one a class or a quantile.
    pub outputs: usize,
    /// Which quantiles, if it is of such.
    pub quantiles: Quantiles,
}

impl Objective {
    /// How many numbers a prediction has: one more than outputs if these are quantiles.
    pub fn predicted(&self) -> usize {
        self.outputs + usize::from(self.loss == NetworkLoss::Quantiles)
    }

    /// Turns the outputs of a row into its prediction.
    pub fn predict(&self, outputs: &[f32], into: &mut [f64]) {
        if self.loss == NetworkLoss::Quantiles {
            return self.predict_quantiles(outputs, into);
        }
        into.iter_mut().zip(outputs).for_each(|(into, output)| *into = f64::from(*output));
        match (self.loss, self.outputs) {
            (NetworkLoss::LogLoss, 1) => into[0] = sigmoid(into[0]),
            (NetworkLoss::LogLoss, _) => softmax(into),
            _ => {}
        }
    }

    /// Quantiles that cross are put in order, which brings them nearer to the true ones (Chernozhukov, Fernández-Val and Galichon 2010,
    /// "Quantile and Probability Curves Without Crossing"). The number itself is the central one.
    fn predict_quantiles(&self, outputs: &[f32], into: &mut [f64]) {
        let (number, quantiles) = into.split_at_mut(1);
        quantiles.iter_mut().zip(outputs).for_each(|(into, output)| *into = f64::from(*output));
        quantiles.sort_by(f64::total_cmp);
        number[0] = quantiles[self.quantiles.central()];
    }

    /// The gradient of the outputs of a row, times `weight`. `target` is a number, or the index of a class.
    pub fn gradient(&self, outputs: &[f32], target: f32, weight: f32, into: &mut [f32]) {
        let distance = outputs[0] - target;
        let of_number = match self.loss {
            NetworkLoss::LogLoss if self.outputs > 1 => return of_classes(outputs, target as usize, weight, into),
            NetworkLoss::Quantiles => return self.of_quantiles(outputs, target, weight, into),
            // The derivative of the log loss by the output itself: nothing can overflow, and nothing is divided by 0.
            NetworkLoss::LogLoss => sigmoid(f64::from(outputs[0])) as f32 - target,
            NetworkLoss::SquaredError => distance,
            NetworkLoss::Huber => distance.clamp(-1.0, 1.0),
            NetworkLoss::AbsoluteError if distance == 0.0 => 0.0,
            NetworkLoss::AbsoluteError => distance.signum(),
        };
        into[0] = weight * of_number;
    }

    /// The share less than 0 where an output is too low, and the rest of 1 where it is too high.
    fn of_quantiles(&self, outputs: &[f32], target: f32, weight: f32, into: &mut [f32]) {
        for ((into, output), share) in into.iter_mut().zip(outputs).zip(self.quantiles.shares()) {
            let share = *share as f32;
            *into = if *output < target {
                -share * weight
            } else if *output > target {
                (1.0 - share) * weight
            } else {
                0.0
            };
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// Of the differences from the largest, so that nothing overflows.
fn softmax(values: &mut [f64]) {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|value| *value = exp(*value - largest));
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

/// Probability less target, computed twice over so that no memory is needed for the probabilities.
fn of_classes(outputs: &[f32], target: usize, weight: f32, into: &mut [f32]) {
    let largest = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |output: f32| exp(f64::from(output - largest));
    let sum: f64 = outputs.iter().map(|output| power(*output)).sum();
    for (class, (into, output)) in into.iter_mut().zip(outputs).enumerate() {
        let wanted = if class == target { 1.0 } else { 0.0 };
        *into = weight * ((power(*output) / sum) as f32 - wanted);
    }
}
