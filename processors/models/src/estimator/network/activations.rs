//! What becomes of sums, and the way back through it.

use super::layer_settings::Activation;
use crate::simd::Work;
use crate::vector::{LANES, exp};

/// Applies an activation.
pub(super) struct Activate<'a> {
    pub activation: Activation,
    pub values: &'a mut [f32],
}

impl Work for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let values = self.values.as_chunks_mut::<LANES>().0.iter_mut().flatten();
        match self.activation {
            Activation::Linear => {}
            Activation::Relu => values.for_each(|value| *value = value.max(0.0)),
            Activation::LeakyRelu => values.for_each(|value| *value = value.max(*value * LEAK)),
            Activation::Elu => values.for_each(|value| *value = value.max(exponential(value.min(0.0)) - 1.0)),
            Activation::Tanh => values.for_each(|value| *value = tanh(*value)),
            Activation::Sigmoid => values.for_each(|value| *value = logistic(*value)),
        }
    }
}

/// Multiplies a gradient by the derivative of an activation, which is known from its outputs.
pub(super) struct ActivationGradient<'a> {
    pub activation: Activation,
    pub outputs: &'a [f32],
    pub gradient: &'a mut [f32],
}

impl Work for ActivationGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let each = self.gradient.iter_mut().zip(self.outputs);
        match self.activation {
            Activation::Linear => {}
            Activation::Relu => each.for_each(|(gradient, y)| *gradient = if *y > 0.0 { *gradient } else { 0.0 }),
            Activation::LeakyRelu => each.for_each(|(gradient, y)| *gradient *= if *y > 0.0 { 1.0 } else { LEAK }),
            Activation::Elu => each.for_each(|(gradient, y)| *gradient *= if *y > 0.0 { 1.0 } else { *y + 1.0 }),
            Activation::Tanh => each.for_each(|(gradient, y)| *gradient *= 1.0 - y * y),
            Activation::Sigmoid => each.for_each(|(gradient, y)| *gradient *= y * (1.0 - y)),
        }
    }
}

/// What is left of numbers below 0.
pub(super) const LEAK: f32 = 0.01;

/// The hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exponential(2.0 * x) + 1.0)
}

/// The logistic function.
#[inline(always)]
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exponential(-x))
}

#[inline(always)]
fn exponential(x: f32) -> f32 {
    exp(f64::from(x)) as f32
}
