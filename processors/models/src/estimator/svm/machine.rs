//! What a fit has found: the rows that the border depends on, and how.

use millstream_core::{Error, Result};

use super::super::Row;
use super::super::columns::{AT_ONCE, Columns};
use super::kernel::Kernel;
use crate::encode::Scratch;
use crate::tensors::Tensors;
use crate::vector::dot;

/// Weighted sums over the support vectors, one for each pair of classes, or one for a number.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    kernel: Kernel,
    /// The support vectors, class by class, each class from a multiple of [`AT_ONCE`] on.
    vectors: Columns,
    /// The same as they are compared, if that is not as they are.
    embedded: Option<Columns>,
    /// By class, the first place and how many there are.
    groups: Vec<(usize, usize)>,
    /// By each of the other classes, in their order, what each place counts. There is one line if there are no other classes.
    coefficients: Vec<Vec<f64>>,
    /// By pair of classes, what is subtracted.
    rhos: Vec<f64>,
}

/// What a fit says of one of its rows.
pub(super) struct Vector {
    /// Its place among the rows of the fit.
    pub place: usize,
    /// What it counts against each of the other classes.
    pub coefficients: Vec<f64>,
}

/// The number of a pair among all.
fn pair(classes: usize, one: usize, other: usize) -> usize {
    one * classes - one * (one + 1) / 2 + (other - one - 1)
}

/// How many pairs there are; one where there is one class, or none.
pub(super) fn pairs(classes: usize) -> usize {
    (classes * classes.saturating_sub(1) / 2).max(1)
}

fn lay_out(sizes: &[usize]) -> (Vec<(usize, usize)>, usize) {
    let mut next = 0;
    let group = |size: &usize| {
        let first = next;
        next += size.next_multiple_of(AT_ONCE);
        (first, *size)
    };
    let groups = sizes.iter().map(group).collect();
    (groups, next)
}

impl Machine {
    /// One that says 0 of every row. `classes` is 1 for numbers.
    pub fn new(kernel: Kernel, like: &Columns, classes: usize) -> Self {
        Self::of(kernel, like, &vec![0; classes], vec![0.0; pairs(classes)])
    }

    fn of(kernel: Kernel, like: &Columns, sizes: &[usize], rhos: Vec<f64>) -> Self {
        let (groups, places) = lay_out(sizes);
        let vectors = like.like(places);
        let others = sizes.len().saturating_sub(1).max(1);
        let coefficients = vec![vec![0.0; vectors.places()]; others];
        Self { kernel, vectors, embedded: None, groups, coefficients, rhos }
    }

    /// Of these rows, class by class.
    pub fn of_vectors(kernel: Kernel, rows: &Columns, by_class: &[Vec<Vector>], rhos: Vec<f64>) -> Self {
        let sizes: Vec<_> = by_class.iter().map(Vec::len).collect();
        let mut machine = Self::of(kernel, rows, &sizes, rhos);
        let mut row = Scratch::default();
        for (place, vector) in machine.places().into_iter().zip(by_class.iter().flatten()) {
            rows.read(vector.place, &mut row);
            machine.vectors.put(place, row.row());
            for (line, coefficient) in machine.coefficients.iter_mut().zip(&vector.coefficients) {
                line[place] = *coefficient;
            }
        }
        machine.embedded = machine.kernel.embed_all(&machine.vectors);
        machine
    }

    /// The places of the support vectors, in their order.
    fn places(&self) -> Vec<usize> {
        self.groups.iter().flat_map(|(first, count)| *first..first + count).collect()
    }

    /// The kernel of a row with every place.
    #[inline(always)]
    fn values(&self, row: Row<'_>, room: &mut Scratch) -> Vec<f64> {
        let vectors = self.embedded.as_ref().unwrap_or(&self.vectors);
        // Without padding, which would be further qubits.
        let row = Row { numbers: &row.numbers[..self.vectors.numbers()], ..row };
        let row = self.kernel.embed(row, room);
        let mut values = vec![0.0; vectors.places()];
        for (block, values) in values.as_chunks_mut::<AT_ONCE>().0.iter_mut().enumerate() {
            *values = self.kernel.values(vectors, row, block * AT_ONCE);
        }
        values
    }

    /// What the classes of a line have together.
    #[inline(always)]
    fn sum(&self, line: usize, class: usize, values: &[f64]) -> f64 {
        let (first, count) = self.groups[class];
        let range = first..first + count.next_multiple_of(AT_ONCE);
        dot(&self.coefficients[line][range.clone()], &values[range])
    }

    /// What is decided for a row: of a number, it; of two or more classes, by pair, more than 0 for the first.
    #[inline(always)]
    pub fn decide(&self, row: Row<'_>, mut decision: impl FnMut(usize, usize, f64)) {
        let mut room = Scratch { numbers: Vec::new(), slots: Vec::new() };
        let values = self.values(row, &mut room);
        let classes = self.groups.len();
        if classes == 1 {
            return decision(0, 0, self.sum(0, 0, &values) - self.rhos[0]);
        }
        for one in 0..classes {
            for other in one + 1..classes {
                let sum = self.sum(other - 1, one, &values) + self.sum(one, other, &values);
                decision(one, other, sum - self.rhos[pair(classes, one, other)]);
            }
        }
    }

    pub fn save(&self, tensors: &mut Tensors) {
        let places = self.places();
        self.vectors.save("estimator.vectors.", &places, tensors);
        let coefficients: Vec<_> =
            self.coefficients.iter().flat_map(|line| places.iter().map(|place| line[*place])).collect();
        tensors.put_f64("estimator.coefficients", &[self.coefficients.len(), places.len()], &coefficients);
        let sizes: Vec<_> = self.groups.iter().map(|(_, count)| *count as u64).collect();
        tensors.put_u64("estimator.vectors.by_class", &sizes);
        tensors.put_f64("estimator.rho", &[self.rhos.len()], &self.rhos);
        tensors.put_f64("estimator.gamma", &[1], &[self.kernel.gamma]);
    }

    /// Reads what was saved. There are at most so many support vectors.
    pub fn load(&mut self, most: usize, tensors: &Tensors) -> Result<()> {
        let sizes: Vec<_> = tensors.u64s("estimator.vectors.by_class")?.iter().map(|size| *size as usize).collect();
        let all = sizes.iter().fold(0, |sum: usize, size| sum.saturating_add(*size));
        if sizes.len() != self.groups.len() || all > most {
            let problem = format!("the model has {all} support vectors of {} classes", sizes.len());
            return Err(Error::new(format!("{problem}, and {most} of {} are the most", self.groups.len())));
        }
        let rhos = tensors.f64s("estimator.rho", &[self.rhos.len()])?;
        self.kernel.gamma = tensors.f64s("estimator.gamma", &[1])?[0];
        let mut machine = Self::of(self.kernel.clone(), &self.vectors, &sizes, rhos);
        let places = machine.places();
        machine.vectors.load("estimator.vectors.", &places, tensors)?;
        let coefficients = tensors.f64s("estimator.coefficients", &[machine.coefficients.len(), places.len()])?;
        for (line, coefficients) in machine.coefficients.iter_mut().zip(coefficients.chunks(places.len().max(1))) {
            places.iter().zip(coefficients).for_each(|(place, coefficient)| line[*place] = *coefficient);
        }
        machine.embedded = machine.kernel.embed_all(&machine.vectors);
        *self = machine;
        Ok(())
    }
}
