//! Networks on a device of candle's: an NVIDIA card, or in tests the CPU.
//!
//! The parameters stay on the device. A batch's inputs, targets and what dropout draws are copied to it once; calls only
//! queue work, and return before it is done, so that the next rows are encoded meanwhile. What comes back are predictions,
//! and gradients where there are embeddings, which live on the host. Where the device's memory does not suffice, rows are
//! computed in parts.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, DType, Device, Error, Result, Tensor};
use millstream_core::ResultExt;

use super::activations::LEAK;
use super::engine::{Engine, ForwardPass, Lists, TrainingBatch};
use super::layer_settings::Activation;
use super::layers::{DropoutDraw, Inputs, SMALLEST_VARIANCE};
use super::loss::Objective;
use super::optimizer::{Step, StepKind};
use super::plan::{Layer, LayerKind, Plan};
use super::settings::NetworkLoss;
use crate::vector::padded;

/// A network on a device.
#[derive(Clone, Debug)]
pub(super) struct Candle {
    plan: Arc<Plan>,
    device: Device,
    /// All parameters one behind the other, as in [`Lists`] but without padding.
    parameters: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    input_gradient: Vec<f32>,
}

impl Candle {
    pub fn new(plan: Arc<Plan>, lists: &Lists, device: Device) -> millstream_core::Result<Self> {
        let put = |list: &[f32]| {
            let rows = plan.parameters.iter().flat_map(|parameter| parameter.rows_of(list));
            let list = rows.collect::<Vec<_>>().concat();
            Tensor::from_vec(list, plan.size(), &device)
        };
        let put_all = || Ok::<_, Error>([put(&lists.parameters)?, put(&lists.first)?, put(&lists.second)?]);
        let [parameters, first, second] = put_all().doing(|| "moving the network to its device")?;
        Ok(Self { plan, gradient: parameters.clone(), device, parameters, first, second, input_gradient: Vec::new() })
    }

    /// Some rows of a matrix whose rows are as long as [`padded`] says, on the device without padding.
    fn rows(&self, values: &[f32], rows: &Range<usize>, columns: usize) -> Result<Tensor> {
        let stride = padded(columns);
        let values = &values[rows.start * stride..rows.end * stride];
        Tensor::from_slice(values, (rows.len(), stride), &self.device)?.narrow(1, 0, columns)?.contiguous()
    }

    /// One of the parameters: a matrix, or a vector of one row.
    fn parameter(&self, index: usize) -> Result<Tensor> {
        let parameter = &self.plan.parameters[index];
        let values = self.parameters.narrow(0, parameter.offset, parameter.size())?;
        values.reshape((parameter.rows, parameter.columns))
    }

    /// The outputs of all layers, each with what it needs on the way back.
    fn forwards(&self, inputs: Tensor, dropout: Option<DropoutDraw>) -> Result<Vec<LayerOutput>> {
        let mut passed: Vec<LayerOutput> = Vec::with_capacity(self.plan.layers.len());
        for layer in &self.plan.layers {
            let inputs = passed.last().map_or(&inputs, |passed| &passed.outputs).clone();
            passed.push(self.forwards_through(layer, inputs, dropout)?);
        }
        Ok(passed)
    }

    fn forwards_through(&self, layer: &Layer, inputs: Tensor, dropout: Option<DropoutDraw>) -> Result<LayerOutput> {
        let (outputs, note) = match layer.kind {
            LayerKind::Dense { weights, bias, activation } => {
                let sums = inputs.matmul(&self.parameter(weights)?)?.broadcast_add(&self.parameter(bias)?)?;
                (activate(activation, &sums)?, None)
            }
            LayerKind::Dropout { share, stream } => match dropout {
                Some(dropout) => {
                    let (rows, columns) = inputs.dims2()?;
                    let mut factors = Vec::with_capacity(rows * columns);
                    dropout.factors(share, stream, rows, columns, columns, &mut factors);
                    let factors = Tensor::from_vec(factors, (rows, columns), &self.device)?;
                    ((&inputs * &factors)?, Some(factors))
                }
                None => (inputs.clone(), None),
            },
            LayerKind::Normalise { scale, shift } => {
                let distance = inputs.broadcast_sub(&inputs.mean_keepdim(D::Minus1)?)?;
                let variance = distance.sqr()?.mean_keepdim(D::Minus1)?;
                let inverse = (variance + f64::from(SMALLEST_VARIANCE))?.sqrt()?.recip()?;
                let normalised = distance.broadcast_mul(&inverse)?;
                let outputs =
                    normalised.broadcast_mul(&self.parameter(scale)?)?.broadcast_add(&self.parameter(shift)?)?;
                (outputs, Some(Tensor::cat(&[normalised, inverse], 1)?))
            }
            LayerKind::Recurrent { .. } | LayerKind::Convolution { .. } | LayerKind::Last => return Err(over_rows()),
        };
        Ok(LayerOutput { inputs, outputs, note })
    }

    /// From the gradient of a layer's outputs to that of its inputs, if that is wanted. Puts that of its parameters at
    /// their places.
    fn backwards_through(
        &self,
        layer: &Layer,
        LayerOutput { inputs, outputs, note }: &LayerOutput,
        gradient: &Tensor,
        by_inputs: bool,
        of_parameters: &mut [Option<Tensor>],
    ) -> Result<Option<Tensor>> {
        match layer.kind {
            LayerKind::Dense { weights, bias, activation } => {
                let gradient = deactivate(activation, outputs, gradient)?;
                of_parameters[weights] = Some(inputs.t()?.matmul(&gradient)?.flatten_all()?);
                of_parameters[bias] = Some(gradient.sum(0)?);
                by_inputs.then(|| gradient.matmul(&self.parameter(weights)?.t()?)).transpose()
            }
            LayerKind::Dropout { .. } => {
                note.as_ref().map_or(Ok(gradient.clone()), |factors| gradient * factors).map(Some)
            }
            LayerKind::Normalise { scale, shift } => {
                let note = note.as_ref().ok_or_else(|| Error::Msg("rows were not normalised".to_owned()))?;
                let normalised = note.narrow(1, 0, layer.inputs)?;
                let inverse = note.narrow(1, layer.inputs, 1)?;
                of_parameters[scale] = Some((gradient * &normalised)?.sum(0)?);
                of_parameters[shift] = Some(gradient.sum(0)?);
                let gradient = gradient.broadcast_mul(&self.parameter(scale)?)?;
                let alike = gradient.mean_keepdim(D::Minus1)?;
                let spread = (&gradient * &normalised)?.mean_keepdim(D::Minus1)?;
                let along = gradient.broadcast_sub(&alike)?.sub(&normalised.broadcast_mul(&spread)?)?;
                along.broadcast_mul(&inverse).map(Some)
            }
            LayerKind::Recurrent { .. } | LayerKind::Convolution { .. } | LayerKind::Last => Err(over_rows()),
        }
    }

    /// The gradient of the loss of some rows of a batch: by all parameters, and by the inputs if that is wanted.
    fn gradient_of(&self, batch: &TrainingBatch<'_>, rows: Range<usize>) -> Result<(Tensor, Option<Tensor>)> {
        let inputs = self.rows(batch.inputs.values, &rows, self.plan.inputs)?;
        let first_row = batch.dropout.first_row.wrapping_add(rows.start as u64);
        let passed = self.forwards(inputs, Some(DropoutDraw { first_row, ..batch.dropout }))?;
        let counts = batch.counts.get(rows.clone());
        let targets = &batch.targets[rows];
        let targets = Tensor::from_slice(targets, (targets.len(), 1), &self.device)?;
        let outputs = passed.last().map(|passed| &passed.outputs).ok_or_else(|| Error::Msg("no layers".to_owned()))?;
        let share = 1.0 / batch.targets.len() as f64;
        let mut of_outputs = (of_outputs(batch.objective, outputs, &targets)? * share)?;
        if let Some(counts) = counts.filter(|counts| !counts.is_empty()) {
            let counts = Tensor::from_slice(counts, (counts.len(), 1), &self.device)?;
            of_outputs = of_outputs.broadcast_mul(&counts)?;
        }
        let mut gradient = Some(of_outputs);
        let mut of_parameters = vec![None; self.plan.parameters.len()];
        for (index, (layer, passed)) in self.plan.layers.iter().zip(&passed).enumerate().rev() {
            if let Some(of_outputs) = gradient {
                let by_inputs = batch.by_inputs || index > 0;
                gradient = self.backwards_through(layer, passed, &of_outputs, by_inputs, &mut of_parameters)?;
            }
        }
        let of_parameters: Vec<Tensor> = of_parameters.into_iter().flatten().collect();
        Ok((Tensor::cat(&of_parameters, 0)?, gradient.filter(|_| batch.by_inputs)))
    }

    fn find_gradient(&mut self, batch: &TrainingBatch<'_>) -> Result<()> {
        let parts = in_parts(0..batch.targets.len(), &mut |rows| self.gradient_of(batch, rows))?;
        let mut sum: Option<Tensor> = None;
        self.input_gradient.clear();
        for (of_parameters, of_inputs) in parts {
            sum = Some(match sum {
                Some(sum) => (sum + of_parameters)?,
                None => of_parameters,
            });
            if let Some(of_inputs) = of_inputs {
                let stride = padded(self.plan.inputs);
                let of_inputs = of_inputs.pad_with_zeros(1, 0, stride - self.plan.inputs)?;
                self.input_gradient.extend(of_inputs.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        self.gradient = sum.ok_or_else(|| Error::Msg("there are no rows to learn".to_owned()))?;
        Ok(())
    }

    fn follow(&mut self, step: Step) -> Result<()> {
        let gradient = self.gradient.affine(f64::from(step.scale), 0.0)?;
        match step.kind {
            StepKind::Sgd { rate, momentum } => {
                self.first = (self.first.affine(f64::from(momentum), 0.0)? - gradient.affine(f64::from(rate), 0.0)?)?;
                self.parameters = (&self.parameters + &self.first)?;
            }
            StepKind::Adam { rate, beta1, beta2, epsilon, correction1, correction2, decay } => {
                let mix = |old: &Tensor, new: &Tensor, beta: f32| {
                    old.affine(f64::from(beta), 0.0)? + new.affine(f64::from(1.0 - beta), 0.0)?
                };
                self.first = mix(&self.first, &gradient, beta1)?;
                self.second = mix(&self.second, &gradient.sqr()?, beta2)?;
                let size = (self.second.affine(f64::from(correction2), 0.0)?.sqrt()? + f64::from(epsilon))?;
                let move_by = self.first.affine(f64::from(rate) * f64::from(correction1), 0.0)?.div(&size)?;
                self.parameters = (self.parameters.affine(f64::from(decay), 0.0)? - move_by)?;
            }
        }
        Ok(())
    }
}

/// What a layer was given and gave, and what it needs on the way back.
struct LayerOutput {
    inputs: Tensor,
    outputs: Tensor,
    note: Option<Tensor>,
}

/// Networks over sequences are always computed on the CPU.
fn over_rows() -> Error {
    Error::Msg("layers over the rows of a sequence are only computed on the CPU".to_owned())
}

fn activate(activation: Activation, sums: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Relu => sums.relu(),
        Activation::LeakyRelu => sums.maximum(&sums.affine(f64::from(LEAK), 0.0)?),
        Activation::Elu => sums.elu(1.0),
        Activation::Tanh => sums.tanh(),
        Activation::Sigmoid => sigmoid(sums),
        Activation::Linear => Ok(sums.clone()),
    }
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// Multiplies a gradient by the derivative of an activation, which is known from its outputs.
fn deactivate(activation: Activation, outputs: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let above = || outputs.gt(0.0)?.to_dtype(DType::F32);
    match activation {
        Activation::Linear => Ok(gradient.clone()),
        Activation::Relu => gradient * above()?,
        Activation::LeakyRelu => gradient * above()?.affine(f64::from(1.0 - LEAK), f64::from(LEAK))?,
        Activation::Elu => gradient * (outputs.minimum(0.0)? + 1.0)?,
        Activation::Tanh => gradient * outputs.sqr()?.affine(-1.0, 1.0)?,
        Activation::Sigmoid => gradient * (outputs - outputs.sqr()?)?,
    }
}

/// The gradient of the loss of each row by its outputs. The targets are a column.
fn of_outputs(objective: Objective, outputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
    match objective.loss {
        NetworkLoss::LogLoss if objective.outputs > 1 => {
            let powers = outputs.broadcast_sub(&outputs.max_keepdim(D::Minus1)?)?.exp()?;
            let probabilities = powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?;
            let classes = Tensor::arange(0_f32, objective.outputs as f32, outputs.device())?.unsqueeze(0)?;
            probabilities - targets.broadcast_eq(&classes)?.to_dtype(DType::F32)?
        }
        NetworkLoss::LogLoss => sigmoid(outputs)? - targets,
        NetworkLoss::SquaredError => outputs - targets,
        NetworkLoss::Huber => (outputs - targets)?.clamp(-1.0, 1.0),
        NetworkLoss::AbsoluteError => (outputs - targets)?.sign(),
        NetworkLoss::Quantiles => {
            // Half the sign, and half of 1 less the share where it is not 0: less the share below, and the rest of 1 above.
            let sign = outputs.broadcast_sub(targets)?.sign()?;
            let shares: Vec<f32> = objective.quantiles.shares().iter().map(|share| 0.5 - *share as f32).collect();
            let count = shares.len();
            let shares = Tensor::from_vec(shares, (1, count), outputs.device())?;
            (&sign * 0.5)? + sign.abs()?.broadcast_mul(&shares)?
        }
    }
}

/// Does some work for rows: at once, or where the memory of the device does not suffice, in halves, and halves of them.
fn in_parts<T>(rows: Range<usize>, work: &mut impl FnMut(Range<usize>) -> Result<T>) -> Result<Vec<T>> {
    match work(rows.clone()) {
        Ok(done) => Ok(vec![done]),
        Err(error) if rows.len() > 1 && error.to_string().to_lowercase().contains("out_of_memory") => {
            let middle = rows.start + rows.len() / 2;
            let mut done = in_parts(rows.start..middle, work)?;
            done.extend(in_parts(middle..rows.end, work)?);
            Ok(done)
        }
        Err(error) => Err(error),
    }
}

impl Engine for Candle {
    fn block_rows(&self) -> usize {
        // Many, since every call costs as much as some thousand rows.
        8192
    }

    fn outputs(&self, inputs: Inputs<'_>, forward: &mut ForwardPass) -> millstream_core::Result<()> {
        let inputs = inputs.values;
        let rows = 0..inputs.len() / padded(self.plan.inputs);
        let mut outputs = |rows: Range<usize>| {
            let passed = self.forwards(self.rows(inputs, &rows, self.plan.inputs)?, None)?;
            passed.last().map_or(Ok(Vec::new()), |last| last.outputs.flatten_all()?.to_vec1::<f32>())
        };
        forward.outputs = in_parts(rows, &mut outputs).doing(|| "predicting rows on the device")?.concat();
        Ok(())
    }

    fn find_gradient(&mut self, batch: TrainingBatch<'_>) -> millstream_core::Result<()> {
        Candle::find_gradient(self, &batch).doing(|| "learning rows on the device")
    }

    fn input_gradient(&self) -> &[f32] {
        &self.input_gradient
    }

    fn squares(&self) -> millstream_core::Result<f64> {
        let squares = || self.gradient.sqr()?.sum_all()?.to_scalar::<f32>();
        squares().map(f64::from).doing(|| "measuring the gradient on the device")
    }

    fn follow(&mut self, step: Step) -> millstream_core::Result<()> {
        Candle::follow(self, step).doing(|| "moving parameters on the device")
    }

    fn lists(&self) -> millstream_core::Result<Cow<'_, Lists>> {
        let get = |list: &Tensor| {
            let list = list.to_vec1::<f32>().doing(|| "reading parameters from the device")?;
            Ok::<_, millstream_core::Error>(self.plan.pad(&list))
        };
        let (parameters, first, second) = (get(&self.parameters)?, get(&self.first)?, get(&self.second)?);
        Ok(Cow::Owned(Lists { parameters, first, second }))
    }

    fn another(&self) -> Box<dyn Engine> {
        // Tensors are never changed in place, so that two networks can share them.
        Box::new(self.clone())
    }

    fn is_shared(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_do_not_fit_are_computed_in_halves() {
        let fits = |most: usize| {
            in_parts(0..10, &mut |rows| {
                if rows.len() > most {
                    Err(Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".to_owned()))
                } else {
                    Ok(rows)
                }
            })
        };
        assert_eq!(fits(9).unwrap(), [0..5, 5..10]);
        assert_eq!(fits(3).unwrap(), [0..2, 2..5, 5..7, 7..10]);
        assert!(fits(0).is_err(), "one row is not halved");
        let other: Result<Vec<()>> = in_parts(0..10, &mut |_| Err(Error::Msg("no such kernel".to_owned())));
        assert!(other.is_err());
    }
}
