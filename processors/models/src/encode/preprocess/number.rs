//! Numbers: what stands for those that are missing, and scales that the encoders behind don't have.

use millstream_core::{Error, Result};

use super::column::{Cell, Prepare};
use super::quantiles::Quantiles;
use crate::encode::{Encoder, Feature, Missing};
use crate::onnx::{ElementType, Graph, Value};
use crate::tensors::Tensors;

/// Robustly scaled numbers are cut off at this, so that one row of another size can't throw a model off.
const MOST_ROBUST: f64 = 10.0;

/// What a column of numbers becomes: another one, without gaps.
#[derive(Clone, Debug)]
pub(super) struct Number {
    fill: Fill,
    scale: Scale,
}

/// What stands for a missing number.
#[derive(Clone, Debug)]
enum Fill {
    Constant(f64),
    /// The last one.
    Previous(f64),
    Mean(u64, f64),
    Median(Quantiles),
}

/// What becomes of a number.
#[derive(Clone, Debug)]
enum Scale {
    Same,
    /// How many there were, the smallest, and the largest.
    MinMax(u64, f64, f64),
    Robust(Quantiles),
    Quantile(Quantiles),
}

impl Number {
    pub fn new(encoder: Encoder, missing: Missing) -> Self {
        let fill = match missing {
            // Where rows that lack it fail, nothing is missing; what is written as ONNX then gives NaN.
            Missing::Fail => Fill::Constant(f64::NAN),
            Missing::Constant(number) => Fill::Constant(number),
            Missing::Previous => Fill::Previous(0.0),
            Missing::Mean => Fill::Mean(0, 0.0),
            Missing::Median => Fill::Median(Quantiles::default()),
        };
        let scale = match encoder {
            Encoder::MinMax => Scale::MinMax(0, 0.0, 0.0),
            Encoder::Robust => Scale::Robust(Quantiles::default()),
            Encoder::Quantile => Scale::Quantile(Quantiles::default()),
            _ => Scale::Same,
        };
        Self { fill, scale }
    }
}

impl Fill {
    fn number(&self) -> f64 {
        match self {
            Self::Constant(number) | Self::Previous(number) | Self::Mean(_, number) => *number,
            Self::Median(quantiles) => quantiles.at(0.5),
        }
    }

    fn learn(&mut self, number: f64) {
        match self {
            Self::Constant(_) => {}
            Self::Previous(last) => *last = number,
            Self::Mean(count, mean) => {
                *count += 1;
                *mean += (number - *mean) / *count as f64;
            }
            Self::Median(quantiles) => quantiles.add(number),
        }
    }
}

impl Scale {
    /// What is subtracted, what is multiplied by then, and the bounds; not of quantiles.
    fn affine(&self) -> Option<(f64, f64, f64, f64)> {
        match self {
            Self::Same | Self::Quantile(_) => None,
            Self::MinMax(_, low, high) => Some((*low, inverse(high - low), 0.0, 1.0)),
            Self::Robust(quantiles) => {
                let scale = inverse(quantiles.at(0.75) - quantiles.at(0.25));
                Some((quantiles.at(0.5), scale, -MOST_ROBUST, MOST_ROBUST))
            }
        }
    }

    fn number(&self, number: f64) -> f64 {
        match (self, self.affine()) {
            (_, Some((centre, scale, least, most))) => ((number - centre) * scale).clamp(least, most),
            (Self::Quantile(quantiles), None) => quantiles.share_below(number),
            (_, None) => number,
        }
    }

    fn learn(&mut self, number: f64) {
        match self {
            Self::Same => {}
            Self::MinMax(count, low, high) => {
                let is_first = *count == 0;
                *low = if is_first { number } else { low.min(number) };
                *high = if is_first { number } else { high.max(number) };
                *count += 1;
            }
            Self::Robust(quantiles) | Self::Quantile(quantiles) => quantiles.add(number),
        }
    }
}

/// One by a width; 0 where there is none, as for a number without variance.
fn inverse(width: f64) -> f64 {
    if width > 0.0 { 1.0 / width } else { 0.0 }
}

impl Prepare for Number {
    fn width(&self) -> usize {
        1
    }

    #[inline(always)]
    fn apply(&self, cell: Cell<'_>, into: &mut [f64]) {
        let Cell::Number(number) = cell else { return };
        into[0] = self.scale.number(if number.is_nan() { self.fill.number() } else { number });
    }

    #[inline(always)]
    fn learn(&mut self, cell: Cell<'_>, _target: f64) {
        let Cell::Number(number) = cell else { return };
        if !number.is_nan() {
            self.fill.learn(number);
            self.scale.learn(number);
        }
    }

    fn save(&self, feature: &str, tensors: &mut Tensors) {
        let (fill, scale) = (format!("preprocess.fill.{feature}"), format!("preprocess.scale.{feature}"));
        match &self.fill {
            Fill::Constant(_) => {}
            Fill::Previous(last) => tensors.put_f64(&fill, &[1], &[*last]),
            Fill::Mean(count, mean) => tensors.put_f64(&fill, &[2], &[*count as f64, *mean]),
            Fill::Median(quantiles) => quantiles.save(&fill, tensors),
        }
        match &self.scale {
            Scale::Same => {}
            Scale::MinMax(count, low, high) => tensors.put_f64(&scale, &[3], &[*count as f64, *low, *high]),
            Scale::Robust(quantiles) | Scale::Quantile(quantiles) => quantiles.save(&scale, tensors),
        }
    }

    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()> {
        let (fill, scale) = (format!("preprocess.fill.{feature}"), format!("preprocess.scale.{feature}"));
        match &mut self.fill {
            Fill::Constant(_) => {}
            Fill::Previous(last) => *last = tensors.f64s(&fill, &[1])?[0],
            Fill::Mean(count, mean) => {
                let saved = tensors.f64s(&fill, &[2])?;
                (*count, *mean) = (saved[0] as u64, saved[1]);
            }
            Fill::Median(quantiles) => *quantiles = Quantiles::load(&fill, tensors)?,
        }
        match &mut self.scale {
            Scale::Same => {}
            Scale::MinMax(count, low, high) => {
                let saved = tensors.f64s(&scale, &[3])?;
                (*count, *low, *high) = (saved[0] as u64, saved[1], saved[2]);
            }
            Scale::Robust(quantiles) | Scale::Quantile(quantiles) => *quantiles = Quantiles::load(&scale, tensors)?,
        }
        Ok(())
    }

    fn to_onnx(&self, feature: &Feature, input: &Value, graph: &mut Graph) -> Result<Vec<Value>> {
        if matches!(self.scale, Scale::Quantile(_)) {
            let problem = format!("feature `{}` is encoded by `quantile`, which is not written as ONNX", feature.name);
            return Err(Error::new(format!("{problem}; `robust` can be written")));
        }
        let input = graph.cast(input, ElementType::Double);
        let (is_missing, fill) = (graph.add("IsNaN", &[&input]), graph.doubles(&[1, 1], &[self.fill.number()]));
        let filled = graph.add("Where", &[&is_missing, &fill, &input]);
        let Some((centre, scale, least, most)) = self.scale.affine() else { return Ok(vec![filled]) };
        let [centre, scale] = [centre, scale].map(|number| graph.doubles(&[1, 1], &[number]));
        let [least, most] = [least, most].map(|number| graph.doubles(&[], &[number]));
        let centred = graph.add("Sub", &[&filled, &centre]);
        let scaled = graph.add("Mul", &[&centred, &scale]);
        Ok(vec![graph.add("Clip", &[&scaled, &least, &most])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What numbers become, each by those before it.
    fn become_of(encoder: Encoder, missing: Missing, numbers: &[f64]) -> Vec<f64> {
        let mut number = Number::new(encoder, missing);
        let each = |value: &f64| {
            let mut into = [0.0];
            number.apply(Cell::Number(*value), &mut into);
            number.learn(Cell::Number(*value), 0.0);
            into[0]
        };
        numbers.iter().map(each).collect()
    }

    #[test]
    fn scales_are_those_of_the_numbers_before() {
        let numbers = [2.0, 4.0, 3.0, 5.0, 2.5];
        assert_eq!(become_of(Encoder::MinMax, Missing::Fail, &numbers), [0.0, 0.0, 0.5, 1.0, 1.0 / 6.0]);
        // By the medians 2, 3, 3, 3.5 and the quartiles of NumPy.
        let robust = become_of(Encoder::Robust, Missing::Fail, &numbers);
        assert_eq!(robust, [0.0, 0.0, 0.0, (5.0 - 3.0) / 1.0, (2.5 - 3.5) / 1.5]);
        assert_eq!(become_of(Encoder::Robust, Missing::Fail, &[1.0, 2.0, 1e9])[2], 10.0);
        assert_eq!(become_of(Encoder::Robust, Missing::Fail, &[1.0, 2.0, -1e9])[2], -10.0);
        assert_eq!(become_of(Encoder::Quantile, Missing::Fail, &numbers), [0.5, 0.5, 0.5, 1.0, 1.0 / 6.0]);
    }

    #[test]
    fn what_is_missing_is_filled_in_by_what_was_before() {
        let numbers = [f64::NAN, 4.0, f64::NAN, 1.0, f64::NAN, 1.0, f64::NAN];
        let filled = |missing| become_of(Encoder::Raw, missing, &numbers);
        assert_eq!(filled(Missing::Mean), [0.0, 4.0, 4.0, 1.0, 2.5, 1.0, 2.0]);
        assert_eq!(filled(Missing::Median), [0.0, 4.0, 4.0, 1.0, 2.5, 1.0, 1.0]);
        assert_eq!(filled(Missing::Previous), [0.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(filled(Missing::Constant(-1.0)), [-1.0, 4.0, -1.0, 1.0, -1.0, 1.0, -1.0]);
        assert_eq!(become_of(Encoder::MinMax, Missing::Constant(9.0), &numbers)[2..5], [0.0, 0.0, 1.0]);
    }
}
