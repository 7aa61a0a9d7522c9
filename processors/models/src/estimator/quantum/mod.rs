//! States of qubits, computed amplitude by amplitude: what a circuit makes of the numbers of a row.
//!
//! The circuits `z` and `zz` are Qiskit's `ZFeatureMap` and `ZZFeatureMap` (Havlíček et al., "Supervised learning with quantum-enhanced feature spaces",
//! 2019): every qubit gets a Hadamard gate, and then each amplitude a phase that follows from the numbers; both as often as `reps` says.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::check_from_to;
use crate::encode::Feature;
use crate::vector::{cos, sin};

/// How a row of numbers becomes a state of qubits, one qubit for each number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FeatureMap {
    /// The circuit. `zz` entangles all qubits with each other, `z` none, and both turn phases by the numbers; `angle` turns each qubit itself.
    #[serde(default)]
    map: Circuit,
    /// How often the circuit is repeated; `angle` has nothing to repeat.
    #[serde(default = "reps")]
    #[schemars(range(min = 1, max = 16))]
    reps: u32,
    /// What numbers are multiplied by first: they are angles.
    #[serde(default = "scale")]
    scale: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Circuit {
    Z,
    #[default]
    Zz,
    Angle,
}

fn reps() -> u32 {
    2
}

fn scale() -> f64 {
    1.0
}

/// A state has two numbers for each combination of the values of all qubits.
const MOST_QUBITS: usize = 12;

impl FeatureMap {
    /// As it is where nothing else is said.
    pub fn of(map: Circuit) -> Self {
        Self { map, reps: reps(), scale: scale() }
    }

    pub fn check(&self) -> Result<(), Problem> {
        check_from_to(&[("reps", self.reps.into(), 1.0, 16.0), ("scale", self.scale, -1e6, 1e6)])
    }

    /// Says if features are no numbers, or more than there are qubits.
    pub fn check_features(features: &[Feature]) -> Result<(), Problem> {
        if let Some(category) = features.iter().find(|feature| !feature.encoder.is_number()) {
            let problem = format!("feature `{}` is a category, and qubits are turned by numbers", category.name);
            return Err(Problem::new(problem).help("leave it out, or make a number of it in an `sql` node"));
        }
        if features.len() > MOST_QUBITS {
            let problem = format!("there are {} features, and {MOST_QUBITS} are the most: one a qubit", features.len());
            return Err(Problem::new(problem).help("choose the features that say most"));
        }
        Ok(())
    }

    /// How many numbers a state has, of so many qubits: the real and the imaginary part of each amplitude.
    pub fn numbers(&self, qubits: usize) -> usize {
        2 << qubits.min(MOST_QUBITS)
    }

    /// The state of a row: the real and imaginary part of one amplitude behind the other, the first number being the last bit.
    pub fn state(&self, numbers: &[f64], into: &mut Vec<f64>) {
        let qubits = numbers.len().min(MOST_QUBITS);
        let angles: Vec<_> = numbers[..qubits].iter().map(|number| number * self.scale).collect();
        into.clear();
        into.resize(self.numbers(qubits), 0.0);
        into[0] = 1.0;
        if self.map == Circuit::Angle {
            return turn(&angles, into);
        }
        let phases = self.phases(&angles);
        for _ in 0..self.reps {
            hadamard(qubits, into);
            for (amplitude, phase) in into.as_chunks_mut().0.iter_mut().zip(&phases) {
                let [real, imaginary] = *amplitude;
                let [cos, sin] = *phase;
                *amplitude = [real * cos - imaginary * sin, real * sin + imaginary * cos];
            }
        }
    }

    /// By amplitude, cosine and sine of its phase.
    fn phases(&self, angles: &[f64]) -> Vec<[f64; 2]> {
        use std::f64::consts::PI;
        let phase = |bits: usize| {
            let is_set = |qubit: usize| bits >> qubit & 1 == 1;
            let mut phase = 0.0;
            for (qubit, angle) in angles.iter().enumerate() {
                phase += if is_set(qubit) { 2.0 * angle } else { 0.0 };
            }
            let pairs = if self.map == Circuit::Zz { angles.len() } else { 0 };
            for one in 0..pairs {
                for other in one + 1..pairs {
                    let together = 2.0 * (PI - angles[one]) * (PI - angles[other]);
                    phase += if is_set(one) == is_set(other) { 0.0 } else { together };
                }
            }
            [cos(phase), sin(phase)]
        };
        (0..1 << angles.len()).map(phase).collect()
    }
}

/// Turns each qubit by its angle, about the second axis.
fn turn(angles: &[f64], state: &mut [f64]) {
    let halves: Vec<_> = angles.iter().map(|angle| [cos(0.5 * angle), sin(0.5 * angle)]).collect();
    for (bits, amplitude) in state.as_chunks_mut().0.iter_mut().enumerate() {
        let of_qubits = halves.iter().enumerate().map(|(qubit, half)| half[bits >> qubit & 1]);
        *amplitude = [of_qubits.fold(1.0, |product, part| product * part), 0.0];
    }
}

/// A Hadamard gate for each qubit.
fn hadamard(qubits: usize, state: &mut [f64]) {
    for qubit in 0..qubits {
        for pair in state.chunks_exact_mut(4 << qubit) {
            let (zeros, ones) = pair.split_at_mut(2 << qubit);
            for (zero, one) in zeros.iter_mut().zip(ones) {
                let (sum, difference) = (*zero + *one, *zero - *one);
                *zero = sum * std::f64::consts::FRAC_1_SQRT_2;
                *one = difference * std::f64::consts::FRAC_1_SQRT_2;
            }
        }
    }
}

/// How alike two states are: what a swap test finds with many shots.
pub(super) fn fidelity(one: &[f64], other: &[f64]) -> f64 {
    let (mut real, mut imaginary) = (0.0, 0.0);
    for ([a, b], [c, d]) in one.as_chunks().0.iter().zip(other.as_chunks().0) {
        real += a * c + b * d;
        imaginary += a * d - b * c;
    }
    real * real + imaginary * imaginary
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
