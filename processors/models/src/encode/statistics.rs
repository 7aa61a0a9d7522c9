//! Running mean and variance of every number, and the standardisation by them.
//!
//! Welford's method as in River's `StandardScaler` (population variance, and a column without variance is 0), but that
//! a missing number, which is NaN here, changes nothing and is encoded by the mean.

use std::array::from_fn;
use std::hint::black_box;

use millstream_core::{Error, Result};

use super::Missing;
use crate::layers::{Layer, LayerKind, Weights};
use crate::onnx::{Graph, Value};
use crate::tensors::Tensors;
use crate::vector::{LANES, padded};

/// The statistics of the numbers of a row.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    numbers: usize,
    /// Whether rows with a missing number are refused.
    complete: bool,
    lanes: Vec<Lanes>,
}

/// The statistics of some neighbouring numbers, which are computed at once; those behind the last are padding.
#[derive(Clone, Debug)]
struct Lanes {
    /// 1 where a number is passed on as it is, 0 where it is standardised.
    raw: [f64; LANES],
    /// How often the number was there.
    count: [f64; LANES],
    mean: [f64; LANES],
    variance: [f64; LANES],
    /// What is subtracted before scaling: the mean, or 0 where raw.
    centre: [f64; LANES],
    /// What is multiplied by: one by the standard deviation, or 1 where raw.
    scale: [f64; LANES],
}

impl Lanes {
    fn new(raw: &[bool]) -> Self {
        let raw = from_fn(|lane| if raw.get(lane) == Some(&true) { 1.0 } else { 0.0 });
        let zeros = [0.0; LANES];
        Self { raw, count: zeros, mean: zeros, variance: zeros, centre: zeros, scale: raw }
    }

    /// The numbers, and the mean for those that are missing.
    #[inline(always)]
    fn fill_in(&self, numbers: &[f64; LANES]) -> [f64; LANES] {
        from_fn(|lane| if numbers[lane].is_nan() { self.mean[lane] } else { numbers[lane] })
    }

    #[inline(always)]
    fn encode(&self, x: &[f64; LANES]) -> [f64; LANES] {
        from_fn(|lane| (x[lane] - self.centre[lane]) * self.scale[lane])
    }

    /// Takes numbers in that are all there, and always were; `share` is one by their count.
    #[inline(always)]
    fn learn_complete(&mut self, x: &[f64; LANES], share: f64) {
        self.count = self.count.map(|count| count + 1.0);
        self.learn(x, &[share; LANES]);
    }

    /// Takes numbers in, some of which may be missing and were filled in.
    #[inline(always)]
    fn learn_present(&mut self, numbers: &[f64; LANES], x: &[f64; LANES]) {
        let once = numbers.map(|number| if number.is_nan() { 0.0 } else { 1.0 });
        self.count = from_fn(|lane| self.count[lane] + once[lane]);
        self.learn(x, &from_fn(|lane| once[lane] / self.count[lane].max(1.0)));
    }

    /// Moves the statistics towards `x`. Every line is a step for all lanes at once, and none has a branch, so that
    /// it becomes a few instructions.
    #[inline(always)]
    fn learn(&mut self, x: &[f64; LANES], share: &[f64; LANES]) {
        let before: [f64; LANES] = from_fn(|lane| x[lane] - self.mean[lane]);
        let mean: [f64; LANES] = from_fn(|lane| self.mean[lane] + before[lane] * share[lane]);
        let product: [f64; LANES] = from_fn(|lane| before[lane] * (x[lane] - mean[lane]));
        let change: [f64; LANES] = from_fn(|lane| (product[lane] - self.variance[lane]) * share[lane]);
        let variance: [f64; LANES] = from_fn(|lane| self.variance[lane] + change[lane]);
        let scale = inverse_deviation(&variance);
        self.mean = mean;
        self.variance = variance;
        self.centre = from_fn(|lane| mean[lane] * (1.0 - self.raw[lane]));
        self.scale = from_fn(|lane| scale[lane] * (1.0 - self.raw[lane]) + self.raw[lane]);
    }
}

#[inline(always)]
fn inverse_deviation(variance: &[f64; LANES]) -> [f64; LANES] {
    let inverse = variance.map(|variance| 1.0 / variance.sqrt());
    from_fn(|lane| if variance[lane] > 0.0 { inverse[lane] } else { 0.0 })
}

impl Statistics {
    /// Of so many numbers; `raw` says which of them are passed on as they are.
    pub fn new(raw: impl Iterator<Item = bool>, missing: Missing) -> Self {
        let raw: Vec<bool> = raw.collect();
        let lanes = raw.chunks(LANES).map(Lanes::new).collect();
        Self { numbers: raw.len(), complete: missing != Missing::Mean, lanes }
    }

    pub fn width(&self) -> usize {
        padded(self.numbers)
    }

    /// Encodes a row by the statistics so far.
    #[inline(always)]
    pub fn encode(&self, numbers: &[f64], into: &mut [f64]) {
        let (numbers, into) = (numbers.as_chunks().0, into.as_chunks_mut().0);
        for ((lanes, numbers), into) in self.lanes.iter().zip(numbers).zip(into) {
            *into = if self.complete { lanes.encode(numbers) } else { lanes.encode(&lanes.fill_in(numbers)) };
        }
    }

    /// Takes a row into the statistics, and encodes it by what they are then.
    #[inline(always)]
    pub fn learn(&mut self, numbers: &[f64], into: &mut [f64]) {
        // Without missing numbers all have the same count, so that one division does for all: the same bits, but
        // sooner.
        let share = 1.0 / self.lanes.first().map_or(1.0, |lanes| lanes.count[0] + 1.0);
        let (numbers, into) = (numbers.as_chunks().0, into.as_chunks_mut().0);
        for ((lanes, numbers), into) in self.lanes.iter_mut().zip(numbers).zip(into) {
            // Keeps the compiler from computing several `Lanes` at once, which takes a quarter longer than one by one, since
            // it has to gather their numbers. Whether it would try depends on the loop that this is compiled into.
            black_box(());
            if self.complete {
                lanes.learn_complete(numbers, share);
                *into = lanes.encode(numbers);
            } else {
                let x = lanes.fill_in(numbers);
                lanes.learn_present(numbers, &x);
                *into = lanes.encode(&x);
            }
        }
    }

    /// Adds the encoding of numbers, a column each, to a graph.
    pub fn to_onnx(&self, numbers: &Value, graph: &mut Graph) -> Value {
        let mut constant = |of: fn(&Lanes) -> &[f64; LANES]| graph.doubles(&[1, self.numbers], &self.each(of));
        let (mean, centre, scale) =
            (constant(|lanes| &lanes.mean), constant(|lanes| &lanes.centre), constant(|lanes| &lanes.scale));
        let mut encoded = numbers.clone();
        if !self.complete {
            let is_missing = graph.add("IsNaN", &[&encoded]);
            encoded = graph.add("Where", &[&is_missing, &mean, &encoded]);
        }
        encoded = graph.add("Sub", &[&encoded, &centre]);
        graph.add("Mul", &[&encoded, &scale])
    }

    /// The same as a layer, unless all numbers are passed on as they are. A number without variance is 0 behind it.
    pub fn layer(&self) -> Option<Layer> {
        let lane = |number: usize| (&self.lanes[number / LANES], number % LANES);
        let is_raw = |number: usize| lane(number).0.raw[lane(number).1] == 1.0;
        if (0..self.numbers).all(is_raw) {
            return None;
        }
        let variance = |number: usize| match lane(number) {
            _ if is_raw(number) => 1.0,
            (lanes, lane) if lanes.scale[lane] == 0.0 => f64::INFINITY,
            (lanes, lane) => lanes.variance[lane],
        };
        let mean = |number: usize| lane(number).0.centre[lane(number).1];
        let count = self.each(|lanes| &lanes.count).into_iter().fold(0.0, f64::max) as i32;
        let (means, variances) = ((0..self.numbers).map(mean), (0..self.numbers).map(variance));
        let shape = [self.numbers];
        let (means, variances) = (means.collect::<Vec<_>>(), variances.collect::<Vec<_>>());
        let weights = [Weights::new(&shape, means), Weights::new(&shape, variances), Weights::new(&[], vec![count])];
        Some(Layer::new(LayerKind::Normalization, weights))
    }

    /// Goes on from what such a layer knows.
    ///
    /// # Errors
    /// If that is no mean or variance.
    pub fn take_layer(&mut self, layer: &Layer) -> Result<()> {
        let (mean, variance) = (layer.weights[0].f64s(), layer.weights[1].f64s());
        if !mean.iter().all(|mean| mean.is_finite()) || !variance.iter().all(|variance| *variance >= 0.0) {
            return Err(Error::new("its means and variances are none"));
        }
        let known = |variance: &f64| if variance.is_finite() { *variance } else { 0.0 };
        let variance: Vec<f64> = variance.iter().map(known).collect();
        let count = layer.weights[2].f64s()[0].max(0.0);
        self.set(&vec![count; self.numbers], &mean, &variance);
        Ok(())
    }

    /// A value of each number.
    fn each(&self, of: fn(&Lanes) -> &[f64; LANES]) -> Vec<f64> {
        self.lanes.iter().flat_map(of).copied().take(self.numbers).collect()
    }

    pub fn save(&self, tensors: &mut Tensors) {
        let mut put = |name, of: fn(&Lanes) -> &[f64; LANES]| {
            tensors.put_f64(name, &[self.numbers], &self.each(of));
        };
        put("encoder.count", |lanes| &lanes.count);
        put("encoder.mean", |lanes| &lanes.mean);
        put("encoder.variance", |lanes| &lanes.variance);
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let shape = [self.numbers];
        let count = tensors.f64s("encoder.count", &shape)?;
        let mean = tensors.f64s("encoder.mean", &shape)?;
        let variance = tensors.f64s("encoder.variance", &shape)?;
        self.set(&count, &mean, &variance);
        Ok(())
    }

    fn set(&mut self, count: &[f64], mean: &[f64], variance: &[f64]) {
        for number in 0..self.numbers {
            let (lanes, lane) = (&mut self.lanes[number / LANES], number % LANES);
            lanes.count[lane] = count[number];
            lanes.mean[lane] = mean[number];
            lanes.variance[lane] = variance[number];
            if lanes.raw[lane] == 0.0 {
                lanes.centre[lane] = mean[number];
                lanes.scale[lane] = inverse_deviation(&lanes.variance)[lane];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(statistics: &mut Statistics, numbers: &[f64]) -> Vec<f64> {
        let mut row = numbers.to_vec();
        row.resize(statistics.width(), 0.0);
        let mut into = vec![0.0; statistics.width()];
        statistics.learn(&row, &mut into);
        into[..numbers.len()].to_vec()
    }

    #[test]
    fn numbers_are_standardised_by_mean_and_variance_so_far() {
        let mut statistics = Statistics::new([false, true].into_iter(), Missing::Fail);
        assert_eq!(learn(&mut statistics, &[10.0, 10.0]), [0.0, 10.0]);
        assert_eq!(learn(&mut statistics, &[20.0, 20.0]), [1.0, 20.0]);
        assert_eq!(learn(&mut statistics, &[15.0, 15.0]), [0.0, 15.0]);
        assert_eq!(statistics.lanes[0].mean[0], 15.0);
        assert!((statistics.lanes[0].variance[0] - 50.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_missing_number_is_the_mean_and_changes_nothing() {
        let mut statistics = Statistics::new([false, true].into_iter(), Missing::Mean);
        assert_eq!(learn(&mut statistics, &[f64::NAN, f64::NAN]), [0.0, 0.0]);
        learn(&mut statistics, &[10.0, 10.0]);
        learn(&mut statistics, &[20.0, 20.0]);
        assert_eq!(learn(&mut statistics, &[f64::NAN, f64::NAN]), [0.0, 15.0]);
        assert_eq!(statistics.lanes[0].count[..2], [2.0, 2.0]);
        assert_eq!(statistics.lanes[0].variance[..2], [25.0, 25.0]);
    }
}
