//! Convolutions over the rows of windows, by products of matrices: the rows that a row is computed from are laid side by side.
//!
//! They are causal: a row is computed from itself and rows before it, never from later ones, and absent rows count as zeros (van den Oord and
//! others 2016, "WaveNet"; Bai, Kolter and Koltun 2018). With a dilation of `d` only every `d`-th row before it takes part.

use std::ops::Range;

/// Which rows of a window a row is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taps {
    pub kernel: usize,
    pub dilation: usize,
}

/// Windows of so many rows, each of so many numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a> {
    pub steps: usize,
    pub numbers: usize,
    pub stride: usize,
    /// By window, its first row that is not absent.
    pub starts: &'a [u32],
}

impl Windows<'_> {
    /// The rows that are not absent: their places among those of all windows, and of their windows' first ones.
    fn rows(self) -> impl Iterator<Item = (usize, usize)> {
        let of_window = move |(window, start): (usize, &u32)| {
            let rows = window * self.steps..(window + 1) * self.steps;
            let first = rows.start + *start as usize;
            (first..rows.end).map(move |row| (row, first))
        };
        self.starts.iter().enumerate().flat_map(of_window)
    }
}

impl Taps {
    /// Where the rows that a row is computed from stand side by side, and which they are, the oldest first; those before `first` are absent.
    fn of(self, row: usize, first: usize, numbers: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        (0..self.kernel).filter_map(move |tap| {
            let before = row.checked_sub((self.kernel - 1 - tap) * self.dilation).filter(|before| *before >= first)?;
            Some((tap * numbers..(tap + 1) * numbers, before))
        })
    }

    /// Lays the rows that each row is computed from side by side.
    pub fn unfold(self, windows: Windows<'_>, inputs: &[f32], into: &mut Vec<f32>) {
        let width = self.kernel * windows.numbers;
        into.clear();
        into.resize(windows.starts.len() * windows.steps * width, 0.0);
        for (row, first) in windows.rows() {
            let side_by_side = &mut into[row * width..][..width];
            for (place, before) in self.of(row, first, windows.numbers) {
                side_by_side[place].copy_from_slice(&inputs[before * windows.stride..][..windows.numbers]);
            }
        }
    }

    /// Adds the gradients of rows side by side, `width` apart, to those of the rows.
    pub fn fold(self, windows: Windows<'_>, gradients: &[f32], width: usize, into: &mut [f32]) {
        for (row, first) in windows.rows() {
            let side_by_side = &gradients[row * width..][..width];
            for (place, before) in self.of(row, first, windows.numbers) {
                let into = &mut into[before * windows.stride..][..windows.numbers];
                into.iter_mut().zip(&side_by_side[place]).for_each(|(sum, value)| *sum += value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_before_stand_beside_a_row_unless_they_are_absent() {
        let windows = Windows { steps: 4, numbers: 2, stride: 8, starts: &[0, 2] };
        let mut inputs = vec![0.0; 8 * 8];
        inputs.chunks_exact_mut(8).enumerate().for_each(|(row, numbers)| {
            numbers[..2].copy_from_slice(&[row as f32 + 1.0, -(row as f32) - 1.0]);
        });
        let mut unfolded = Vec::new();
        Taps { kernel: 2, dilation: 2 }.unfold(windows, &inputs, &mut unfolded);
        let firsts: Vec<_> = unfolded.chunks_exact(4).map(|row| (row[0], row[2], row[3])).collect();
        let window = [(0.0, 1.0, -1.0), (0.0, 2.0, -2.0), (1.0, 3.0, -3.0), (2.0, 4.0, -4.0)];
        assert_eq!(firsts[..4], window);
        assert_eq!(firsts[4..], [(0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 7.0, -7.0), (0.0, 8.0, -8.0)]);
        let mut folded = vec![0.0; inputs.len()];
        Taps { kernel: 2, dilation: 2 }.fold(windows, &unfolded, 4, &mut folded);
        let counts: Vec<_> =
            folded.chunks_exact(8).zip(inputs.chunks_exact(8)).map(|(sum, one)| sum[0] / one[0]).collect();
        assert_eq!(counts, [2.0, 2.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0], "as often as a row takes part");
    }
}
