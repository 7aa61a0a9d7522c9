//! Kernels: how alike two rows are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Row;
use super::super::columns::{AT_ONCE, Columns};
use super::super::quantum::FeatureMap;
use crate::encode::Scratch;
use crate::vector::exp;

/// How alike two rows `x` and `y` are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum KernelKind {
    /// `x·y`.
    Linear,
    /// `exp(-gamma |x - y|²)`.
    #[default]
    Rbf,
    /// `(gamma x·y + coef0) ^ degree`.
    Poly,
    /// `tanh(gamma x·y + coef0)`.
    Sigmoid,
    /// `|⟨φ(x)|φ(y)⟩|²`, how alike the states of qubits are that a circuit makes of both.
    Quantum(FeatureMap),
}

/// A kernel, and the numbers in its formula.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub kind: KernelKind,
    pub gamma: f64,
    pub degree: u32,
    pub coef0: f64,
}

/// The largest value that is computed with: what follows from it is finite in 32 bits.
const LARGEST: f64 = 1e30;

impl Kernel {
    /// The row that is compared in the place of a row: the state of its qubits, or itself.
    #[inline(always)]
    pub fn embed<'a>(&self, row: Row<'a>, room: &'a mut Scratch) -> Row<'a> {
        let KernelKind::Quantum(map) = &self.kind else { return row };
        map.state(row.numbers, &mut room.numbers);
        Row { numbers: &room.numbers, slots: &[] }
    }

    /// All rows as they are compared, in the same places; nothing if that is as they are.
    pub fn embed_all(&self, rows: &Columns) -> Option<Columns> {
        let KernelKind::Quantum(map) = &self.kind else { return None };
        let mut states = Columns::of_numbers(map.numbers(rows.numbers()), rows.places());
        let (mut row, mut room) = (Scratch::default(), Scratch::default());
        for place in 0..rows.places() {
            rows.read(place, &mut row);
            states.put(place, self.embed(row.row(), &mut room));
        }
        Some(states)
    }

    /// Of a row and those from a place on, all as they are compared.
    #[inline(always)]
    pub fn values(&self, rows: &Columns, row: Row<'_>, start: usize) -> [f64; AT_ONCE] {
        match &self.kind {
            KernelKind::Rbf => rows.squares(row, start).map(|square| exp(-self.gamma * square)),
            KernelKind::Quantum(_) => fidelities(rows, row, start),
            _ => rows.products(row, start).map(|product| self.of_product(product)),
        }
    }

    /// Of a row and itself.
    pub fn own(&self, row: Row<'_>) -> f64 {
        match self.kind {
            KernelKind::Rbf | KernelKind::Quantum(_) => 1.0,
            _ => {
                let product = row.numbers.iter().fold(0.0, |sum, number| sum + number * number);
                self.of_product(product + row.slots.len() as f64)
            }
        }
    }

    #[inline(always)]
    fn of_product(&self, product: f64) -> f64 {
        let value = match self.kind {
            KernelKind::Poly => power(self.gamma * product + self.coef0, self.degree),
            KernelKind::Sigmoid => 1.0 - 2.0 / (exp(2.0 * (self.gamma * product + self.coef0)) + 1.0),
            _ => product,
        };
        value.clamp(-LARGEST, LARGEST)
    }
}

/// By squares, as libsvm has it.
#[inline(always)]
fn power(base: f64, exponent: u32) -> f64 {
    let (mut square, mut result, mut left) = (base, 1.0, exponent);
    while left > 0 {
        if left % 2 == 1 {
            result *= square;
        }
        square *= square;
        left /= 2;
    }
    result
}

/// The squares of the absolute values of the products of a state and others: real parts in the even columns, imaginary ones in the odd.
#[inline(always)]
fn fidelities(states: &Columns, state: Row<'_>, start: usize) -> [f64; AT_ONCE] {
    let (mut real, mut imaginary) = ([0.0; AT_ONCE], [0.0; AT_ONCE]);
    let amplitudes = states.columns(start).as_chunks().0.iter();
    for ([reals, imaginaries], [own_real, own_imaginary]) in amplitudes.zip(state.numbers.as_chunks().0) {
        for lane in 0..AT_ONCE {
            real[lane] += own_real * reals[lane] + own_imaginary * imaginaries[lane];
            imaginary[lane] += own_real * imaginaries[lane] - own_imaginary * reals[lane];
        }
    }
    std::array::from_fn(|lane| real[lane] * real[lane] + imaginary[lane] * imaginary[lane])
}
