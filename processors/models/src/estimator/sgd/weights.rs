//! The weights of one weighted sum, with what penalties and averages need to be cheap.

use millstream_core::Result;

use super::super::{Row, Shape};
use super::pending::{Factor, Pending};
use crate::tensors::Tensors;
use crate::vector::{LANES, dot};

/// One value a number, and one a slot.
#[derive(Clone, Debug, Default)]
struct Vector {
    /// Padded with zeros.
    numbers: Vec<f64>,
    slots: Vec<f64>,
}

impl Vector {
    fn new(shape: Shape) -> Self {
        Self { numbers: vec![0.0; shape.width], slots: vec![0.0; shape.slots] }
    }

    #[inline(always)]
    fn dot(&self, row: Row<'_>) -> f64 {
        dot(&self.numbers, row.numbers) + row.slots.iter().fold(0.0, |sum, slot| sum + self.slots[*slot as usize])
    }

    fn save(&self, name: &str, numbers: usize, tensors: &mut Tensors) {
        tensors.put_f64(&format!("{name}.numbers"), &[numbers], &self.numbers[..numbers]);
        tensors.put_f64(&format!("{name}.slots"), &[self.slots.len()], &self.slots);
    }

    fn load(&mut self, name: &str, numbers: usize, tensors: &Tensors) -> Result<()> {
        self.numbers[..numbers].copy_from_slice(&tensors.f64s(&format!("{name}.numbers"), &[numbers])?);
        self.slots = tensors.f64s(&format!("{name}.slots"), &[self.slots.len()])?;
        Ok(())
    }
}

/// Below this the common factor is multiplied into the weights, before values that it is divided out of lose digits in the
/// mean. scikit-learn waits until 1e-9.
const SMALLEST_SCALE: f64 = 1e-3;

/// What one row does to the weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// What all weights are multiplied by first: the L2 penalty.
    pub decay: f64,
    /// How often the row is added then.
    pub update: f64,
    /// By how much every weight should have been shrunk towards 0 since the beginning: the L1 penalty.
    pub l1: f64,
}

/// The weights of one weighted sum. The weight of a number is `scale` times its value.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    numbers: usize,
    scale: f64,
    values: Vector,
    intercept: f64,
    /// By how much each weight was shrunk towards 0 so far, where there is an L1 penalty.
    drawn: Option<Vector>,
    average: Option<Average>,
    /// What slots that no row has used since have still to be multiplied by.
    pending: Pending,
}

/// The mean of the weights after every row, which is `(share * values + rest) / count`. So a row changes only the
/// places in it that it uses, as it does in the values.
#[derive(Clone, Debug)]
struct Average {
    share: f64,
    count: f64,
    rest: Vector,
    intercept: f64,
}

impl Weights {
    pub fn new(shape: Shape, l1: bool, average: bool) -> Self {
        let empty = || Average { share: 0.0, count: 1.0, rest: Vector::new(shape), intercept: 0.0 };
        Self {
            numbers: shape.numbers,
            scale: 1.0,
            values: Vector::new(shape),
            intercept: 0.0,
            drawn: l1.then(|| Vector::new(shape)),
            average: average.then(empty),
            pending: Pending::default(),
        }
    }

    /// The weighted sum with the intercept, as the weights are now.
    #[inline(always)]
    pub fn sum(&self, row: Row<'_>) -> f64 {
        self.dot(&self.values, row, |(value, _)| value) * self.scale + self.intercept
    }

    /// The weighted sum with the intercept, by the mean of the weights.
    #[inline(always)]
    pub fn average_sum(&self, row: Row<'_>) -> f64 {
        let Some(average) = &self.average else { return self.sum(row) };
        let values = self.dot(&self.values, row, |(value, _)| value);
        let rest = self.dot(&average.rest, row, |(_, rest)| rest);
        (average.share * values + rest) / average.count + average.intercept
    }

    /// The product of a row with the values or with the rest of the mean, of which a slot has this part.
    #[inline(always)]
    fn dot(&self, vector: &Vector, row: Row<'_>, part: impl Fn((f64, f64)) -> f64) -> f64 {
        if self.pending.is_empty() {
            return vector.dot(row);
        }
        let slots = row.slots.iter().fold(0.0, |sum, slot| sum + part(self.slot(*slot as usize)));
        dot(&vector.numbers, row.numbers) + slots
    }

    /// The value of a slot, and its part in the rest of the mean, multiplied by all that is pending.
    #[inline]
    fn slot(&self, slot: usize) -> (f64, f64) {
        let rest = self.average.as_ref().map_or(0.0, |average| average.rest.slots[slot]);
        self.pending.apply(slot, self.values.slots[slot], rest)
    }

    /// The weights of numbers and slots, and the intercept, of the sum or of the one by the mean of the weights.
    pub fn plain(&self, average: bool) -> (Vec<f64>, Vec<f64>, f64) {
        let slots = (0..self.values.slots.len()).map(|slot| self.slot(slot));
        let numbers = &self.values.numbers[..self.numbers];
        match self.average.as_ref().filter(|_| average) {
            None => {
                let scaled = |value: &f64| value * self.scale;
                (numbers.iter().map(scaled).collect(), slots.map(|(value, _)| scaled(&value)).collect(), self.intercept)
            }
            Some(average) => {
                let mean = |value: f64, rest: f64| (average.share * value + rest) / average.count;
                let numbers = numbers.iter().zip(&average.rest.numbers).map(|(value, rest)| mean(*value, *rest));
                (numbers.collect(), slots.map(|(value, rest)| mean(value, rest)).collect(), average.intercept)
            }
        }
    }

    /// The same that it would be if it had learned these weights by now.
    pub fn take(&mut self, numbers: &[f64], slots: Vec<f64>, intercept: f64) {
        self.values.numbers[..self.numbers].copy_from_slice(numbers);
        (self.values.slots, self.scale, self.intercept) = (slots, 1.0, intercept);
        self.pending = Pending::default();
    }

    /// Multiplies slots by what is pending.
    fn catch_up(&mut self, slots: impl Iterator<Item = usize>) {
        for slot in slots {
            let (value, rest) = self.slot(slot);
            self.values.slots[slot] = value;
            if let Some(average) = &mut self.average {
                average.rest.slots[slot] = rest;
            }
            self.pending.done(slot);
        }
    }

    /// Multiplies all slots by what is pending.
    fn catch_up_all(&mut self) {
        self.catch_up(0..self.values.slots.len());
        self.pending = Pending::default();
    }

    /// Does a step.
    #[inline(always)]
    pub fn step(&mut self, row: Row<'_>, step: Step) {
        if step.decay < 1.0 {
            self.scale *= step.decay;
            if self.scale < SMALLEST_SCALE {
                self.multiply_out();
            }
        }
        if !self.pending.is_empty() {
            if self.pending.has_waited_enough() {
                self.catch_up_all()
            } else {
                self.catch_up(row.slots.iter().map(|slot| *slot as usize))
            }
        }
        let each = Each {
            update: step.update / self.scale,
            scale: self.scale,
            l1: step.l1,
            share: self.average.as_ref().map_or(0.0, |average| average.share),
        };
        match (&mut self.drawn, &mut self.average) {
            // By far the most frequent, and worth wide vectors.
            (None, None) => each.add(&mut self.values, row),
            (Some(drawn), None) => for_each([&mut self.values, drawn], row, |[value, drawn], x| {
                each.move_weight(value, x, Some(drawn), None);
            }),
            (None, Some(average)) => for_each([&mut self.values, &mut average.rest], row, |[value, rest], x| {
                each.move_weight(value, x, None, Some(rest));
            }),
            (Some(drawn), Some(average)) => {
                let vectors = [&mut self.values, drawn, &mut average.rest];
                for_each(vectors, row, |[value, drawn, rest], x| each.move_weight(value, x, Some(drawn), Some(rest)));
            }
        }
    }

    /// Moves the intercept.
    #[inline(always)]
    pub fn move_intercept(&mut self, by: f64) {
        self.intercept += by;
    }

    /// Takes the weights as they are now into the mean, as the `count`th.
    #[inline(always)]
    pub fn count_in(&mut self, count: f64) {
        let Some(average) = &mut self.average else { return };
        let share = 1.0 / count;
        if count > 1.0 {
            average.count /= 1.0 - share;
        }
        average.share += share * average.count * self.scale;
        average.intercept += (self.intercept - average.intercept) / count;
    }

    /// Multiplies the common factor into the weights, and divides the mean by its count. Of slots there may be very many,
    /// so that they are multiplied when they are used.
    #[cold]
    fn multiply_out(&mut self) {
        let factor = match &mut self.average {
            None => Factor { scale: self.scale, share: 0.0, count: 1.0 },
            Some(average) => {
                let factor = Factor { scale: self.scale, share: average.share, count: average.count };
                (average.share, average.count) = (0.0, 1.0);
                let numbers = average.rest.numbers.iter_mut().zip(&self.values.numbers);
                numbers.for_each(|(rest, value)| *rest = factor.apply(*value, *rest).1);
                factor
            }
        };
        self.values.numbers.iter_mut().for_each(|value| *value *= factor.scale);
        self.scale = 1.0;
        self.pending.add(factor, self.values.slots.len());
    }

    pub fn save(&self, name: &str, tensors: &mut Tensors) {
        if !self.pending.is_empty() {
            let mut whole = self.clone();
            whole.catch_up_all();
            return whole.save(name, tensors);
        }
        self.values.save(&format!("{name}.weights"), self.numbers, tensors);
        tensors.put_f64(&format!("{name}.scale_and_intercept"), &[2], &[self.scale, self.intercept]);
        if let Some(drawn) = &self.drawn {
            drawn.save(&format!("{name}.drawn"), self.numbers, tensors);
        }
        if let Some(average) = &self.average {
            average.rest.save(&format!("{name}.average"), self.numbers, tensors);
            let figures = [average.share, average.count, average.intercept];
            tensors.put_f64(&format!("{name}.average.share_count_and_intercept"), &[3], &figures);
        }
    }

    pub fn load(&mut self, name: &str, tensors: &Tensors) -> Result<()> {
        self.values.load(&format!("{name}.weights"), self.numbers, tensors)?;
        let figures = tensors.f64s(&format!("{name}.scale_and_intercept"), &[2])?;
        (self.scale, self.intercept) = (figures[0], figures[1]);
        if let Some(drawn) = &mut self.drawn {
            drawn.load(&format!("{name}.drawn"), self.numbers, tensors)?;
        }
        if let Some(average) = &mut self.average {
            average.rest.load(&format!("{name}.average"), self.numbers, tensors)?;
            let figures = tensors.f64s(&format!("{name}.average.share_count_and_intercept"), &[3])?;
            (average.share, average.count, average.intercept) = (figures[0], figures[1], figures[2]);
        }
        Ok(())
    }
}

/// Calls `change` with what the vectors have for each number and slot of a row, and with what the row has there.
#[inline(always)]
fn for_each<const N: usize>(mut vectors: [&mut Vector; N], row: Row<'_>, change: impl Fn([&mut f64; N], f64)) {
    for (place, x) in row.numbers.iter().enumerate() {
        change(vectors.each_mut().map(|vector| &mut vector.numbers[place]), *x);
    }
    for slot in row.slots.iter().map(|slot| *slot as usize) {
        change(vectors.each_mut().map(|vector| &mut vector.slots[slot]), 1.0);
    }
}

/// What a step does to each weight that a row uses.
#[derive(Clone, Copy)]
struct Each {
    update: f64,
    scale: f64,
    l1: f64,
    /// That of the average before this step.
    share: f64,
}

impl Each {
    #[inline(always)]
    fn add(self, values: &mut Vector, row: Row<'_>) {
        let (numbers, x) = (values.numbers.as_chunks_mut::<LANES>().0, row.numbers.as_chunks::<LANES>().0);
        for (numbers, x) in numbers.iter_mut().zip(x) {
            let step: [f64; LANES] = std::array::from_fn(|lane| self.update * x[lane]);
            numbers.iter_mut().zip(step).for_each(|(number, step)| *number += step);
        }
        row.slots.iter().for_each(|slot| values.slots[*slot as usize] += self.update);
    }

    #[inline(always)]
    fn move_weight(self, value: &mut f64, x: f64, drawn: Option<&mut f64>, rest: Option<&mut f64>) {
        let before = *value;
        *value += self.update * x;
        if let Some(drawn) = drawn {
            self.draw(value, drawn);
        }
        if let Some(rest) = rest {
            // The weights of all rows before this one stay what they were.
            *rest -= self.share * (*value - before);
        }
    }

    /// The cumulative L1 penalty of Tsuruoka, Tsujii and Ananiadou (2009): a weight catches up with what it should have
    /// been drawn by, and never crosses 0.
    #[inline(always)]
    fn draw(self, value: &mut f64, drawn: &mut f64) {
        let before = *value;
        if before > 0.0 {
            *value = (before - (self.l1 + *drawn) / self.scale).max(0.0);
        } else if before < 0.0 {
            *value = (before + (self.l1 - *drawn) / self.scale).min(0.0);
        }
        *drawn += self.scale * (*value - before);
    }
}
