//! How parameters follow their gradient.

use millstream_core::Result;

use super::optimizer_settings::OptimizerSettings;
use super::settings::NetworkSettings;
use crate::simd::{self, Work};

/// One step of an optimizer: its figures for the batch that is learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub kind: StepKind,
    /// What the gradient is multiplied by first.
    pub scale: f32,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum StepKind {
    Sgd {
        rate: f32,
        momentum: f32,
    },
    /// `correction1` and `correction2` make up for means that began at 0.
    Adam {
        rate: f32,
        beta1: f32,
        beta2: f32,
        epsilon: f32,
        correction1: f32,
        correction2: f32,
        decay: f32,
    },
}

impl Step {
    /// For the given batch, counted from 1.
    pub fn new(settings: &NetworkSettings, batch: u64) -> Self {
        let warm = (batch as f64 / f64::from(settings.warmup.max(1))).min(1.0);
        let factor = settings.schedule.factor(batch) * warm;
        let correction = |beta: f64| (1.0 / (1.0 - libm::pow(beta, batch as f64))) as f32;
        let adam = |rate: f64, beta1: f64, beta2: f64, epsilon: f64, decay: f64| StepKind::Adam {
            rate: (rate * factor) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            epsilon: epsilon as f32,
            correction1: correction(beta1),
            correction2: correction(beta2),
            decay: (1.0 - rate * factor * decay) as f32,
        };
        let kind = match settings.optimizer {
            OptimizerSettings::Sgd { learning_rate, momentum } => {
                StepKind::Sgd { rate: (learning_rate * factor) as f32, momentum: momentum as f32 }
            }
            OptimizerSettings::Adam { learning_rate, beta1, beta2, epsilon } => {
                adam(learning_rate, beta1, beta2, epsilon, 0.0)
            }
            OptimizerSettings::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } => {
                adam(learning_rate, beta1, beta2, epsilon, weight_decay)
            }
        };
        Self { kind, scale: 1.0 }
    }

    /// The same, with a gradient that is at most so long; `squares` sums up the squares of its numbers.
    pub fn shortened(self, longest: Option<f64>, squares: impl FnOnce() -> Result<f64>) -> Result<Self> {
        let Some(longest) = longest else { return Ok(self) };
        let length = squares()?.sqrt();
        Ok(Self { scale: if length > longest { (longest / length) as f32 } else { 1.0 }, ..self })
    }

    /// Moves parameters.
    pub fn run(self, gradient: &[f32], parameters: &mut [f32], moments: Moments<'_>) {
        simd::run(Update { step: self, gradient, parameters, moments });
    }
}

/// What an optimizer remembers of each parameter: the mean of its gradients, or its last step; and the mean of their
/// squares.
pub(super) struct Moments<'a> {
    pub first: &'a mut [f32],
    pub second: &'a mut [f32],
}

struct Update<'a> {
    step: Step,
    gradient: &'a [f32],
    parameters: &'a mut [f32],
    moments: Moments<'a>,
}

impl Work for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let scale = self.step.scale;
        let each = self.gradient.iter().zip(self.parameters).zip(self.moments.first).zip(self.moments.second);
        match self.step.kind {
            StepKind::Sgd { rate, momentum } => each.for_each(|(((gradient, parameter), first), _)| {
                *first = momentum * *first - rate * (gradient * scale);
                *parameter += *first;
            }),
            StepKind::Adam { rate, beta1, beta2, epsilon, correction1, correction2, decay } => {
                each.for_each(|(((gradient, parameter), first), second)| {
                    let gradient = gradient * scale;
                    *first = beta1 * *first + (1.0 - beta1) * gradient;
                    *second = beta2 * *second + (1.0 - beta2) * (gradient * gradient);
                    let size = (*second * correction2).sqrt() + epsilon;
                    *parameter = *parameter * decay - rate * (*first * correction1) / size;
                });
            }
        }
    }
}

/// The sum of the squares of a gradient.
pub(super) fn squares(gradient: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let (chunks, rest) = gradient.as_chunks::<8>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += f64::from(*value) * f64::from(*value));
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>()
}
