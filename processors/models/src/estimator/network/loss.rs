//! The losses of networks: what outputs mean, and how the loss changes with them.

use super::settings::NetworkLoss;
use crate::vector::exp;

/// What a network minimises, and of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objective {
    pub loss: NetworkLoss,
    /// How many outputs there are: 1 for a number and for two classes, else one a class.
    pub outputs: usize,
}

impl Objective {
    /// Turns the outputs of a row into its prediction.
    pub fn predict(self, outputs: &[f32], into: &mut [f64]) {
        into.iter_mut().zip(outputs).for_each(|(into, output)| *into = f64::from(*output));
        match (self.loss, self.outputs) {
            (NetworkLoss::LogLoss, 1) => into[0] = sigmoid(into[0]),
            (NetworkLoss::LogLoss, _) => softmax(into),
            _ => {}
        }
    }

    /// The gradient of the outputs of a row, times `weight`. `target` is a number, or the index of a class.
    pub fn gradient(self, outputs: &[f32], target: f32, weight: f32, into: &mut [f32]) {
        if self.loss == NetworkLoss::LogLoss && self.outputs > 1 {
            return of_classes(outputs, target as usize, weight, into);
        }
        let distance = outputs[0] - target;
        into[0] = weight
            * match self.loss {
                // The derivative of the log loss by the output itself: nothing can overflow, and nothing is divided by 0.
                NetworkLoss::LogLoss => sigmoid(f64::from(outputs[0])) as f32 - target,
                NetworkLoss::SquaredError => distance,
                NetworkLoss::Huber => distance.clamp(-1.0, 1.0),
                NetworkLoss::AbsoluteError if distance == 0.0 => 0.0,
                NetworkLoss::AbsoluteError => distance.signum(),
            };
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
