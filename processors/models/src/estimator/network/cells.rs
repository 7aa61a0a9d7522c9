//! The arithmetic of recurrent layers: what becomes of one row and the state before it, and the way back.

use std::array::from_fn;
use std::mem::take;

use super::activations::{logistic, tanh};

/// What becomes of the sums over a row and over the state before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Gated recurrent units (Cho and others 2014) as in PyTorch's `GRU`: with `r` and `z` the logistic function of sums over row and
    /// state, and `n = tanh(x W + b + r * (h U + c))`, the next state is `(1 - z) * n + z * h`.
    Gru,
    /// Long short-term memory (Hochreiter and Schmidhuber 1997; with gates that forget, Gers and others 2000) as in PyTorch's `LSTM`: a memory
    /// `m = f * m + i * g`, and the state `o * tanh(m)`.
    Lstm,
}

/// One row on the way forwards. Of units, one behind the other.
pub(super) struct RowForwards<'a> {
    /// The sums over the row; then the gates.
    pub gates: &'a mut [f32],
    /// The sums over the state before.
    pub of_state: &'a [f32],
    pub before: &'a [f32],
    pub memory_before: &'a [f32],
    /// Of a GRU `h U + c` of `n`, of an LSTM the memory.
    pub noted: &'a mut [f32],
    pub state: &'a mut [f32],
}

/// The same on the way back.
pub(super) struct RowBackwards<'a> {
    pub gates: &'a [f32],
    pub noted: &'a [f32],
    pub before: &'a [f32],
    pub memory_before: &'a [f32],
    /// The gradient of the state; then the part of that of the state before which does not go through sums.
    pub of_state: &'a mut [f32],
    /// The gradient of an LSTM's memory; then of that before.
    pub of_memory: &'a mut [f32],
    /// The gradients of the sums over the row, and over the state before.
    pub of_sums: &'a mut [f32],
    pub of_state_sums: &'a mut [f32],
}

impl Cell {
    /// How many sums a unit has: `r`, `z` and `n`, or `i`, `f`, `g` and `o`, in this order.
    pub fn sums(self) -> usize {
        match self {
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    #[inline(always)]
    pub fn forwards(self, row: RowForwards<'_>) {
        let RowForwards { gates, of_state, before, memory_before, noted, state } = row;
        let units = state.len();
        match self {
            Self::Gru => {
                let [r, z, n] = parts(gates, units);
                noted.copy_from_slice(&of_state[2 * units..][..units]);
                for unit in 0..units {
                    r[unit] = logistic(r[unit] + of_state[unit]);
                    z[unit] = logistic(z[unit] + of_state[units + unit]);
                    n[unit] = tanh(n[unit] + r[unit] * noted[unit]);
                    state[unit] = (1.0 - z[unit]) * n[unit] + z[unit] * before[unit];
                }
            }
            Self::Lstm => {
                gates.iter_mut().zip(of_state).for_each(|(gate, sum)| *gate += sum);
                let [input, forget, new, output] = parts(gates, units);
                for unit in 0..units {
                    input[unit] = logistic(input[unit]);
                    forget[unit] = logistic(forget[unit]);
                    new[unit] = tanh(new[unit]);
                    output[unit] = logistic(output[unit]);
                    noted[unit] = forget[unit] * memory_before[unit] + input[unit] * new[unit];
                    state[unit] = output[unit] * tanh(noted[unit]);
                }
            }
        }
    }

    #[inline(always)]
    pub fn backwards(self, row: RowBackwards<'_>) {
        let RowBackwards { gates, noted, before, memory_before, of_state, of_memory, of_sums, of_state_sums } = row;
        let units = of_state.len();
        match self {
            Self::Gru => {
                for unit in 0..units {
                    let (r, z, n) = (gates[unit], gates[units + unit], gates[2 * units + unit]);
                    let gradient = of_state[unit];
                    let of_n = gradient * (1.0 - z) * (1.0 - n * n);
                    of_sums[unit] = of_n * noted[unit] * r * (1.0 - r);
                    of_sums[units + unit] = gradient * (before[unit] - n) * z * (1.0 - z);
                    of_sums[2 * units + unit] = of_n;
                    of_state_sums[2 * units + unit] = of_n * r;
                    of_state[unit] = gradient * z;
                }
                of_state_sums[..2 * units].copy_from_slice(&of_sums[..2 * units]);
            }
            Self::Lstm => {
                for unit in 0..units {
                    let (input, forget) = (gates[unit], gates[units + unit]);
                    let (new, output) = (gates[2 * units + unit], gates[3 * units + unit]);
                    let (gradient, shown) = (of_state[unit], tanh(noted[unit]));
                    let of_own = of_memory[unit] + gradient * output * (1.0 - shown * shown);
                    of_sums[unit] = of_own * new * input * (1.0 - input);
                    of_sums[units + unit] = of_own * memory_before[unit] * forget * (1.0 - forget);
                    of_sums[2 * units + unit] = of_own * input * (1.0 - new * new);
                    of_sums[3 * units + unit] = gradient * shown * output * (1.0 - output);
                    of_memory[unit] = of_own * forget;
                    of_state[unit] = 0.0;
                }
                of_state_sums.copy_from_slice(of_sums);
            }
        }
    }
}

/// The gates, each of all units.
#[inline(always)]
fn parts<const N: usize>(mut gates: &mut [f32], units: usize) -> [&mut [f32]; N] {
    from_fn(|_| {
        let (part, rest) = take(&mut gates).split_at_mut(units);
        gates = rest;
        part
    })
}
