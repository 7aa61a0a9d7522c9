//! Products of matrices.
//!
//! Every element is summed up in the order of the rows of the right matrix, and every product is fused with its addition,
//! in hardware or not. So an element is the same bits whichever others are computed with it, and on every machine.

use std::array::from_fn;
use std::ops::Range;

use crate::simd::Work;
use crate::vector::LANES;

/// How many rows and columns of the product are kept in registers.
const ROWS: usize = 4;
const COLUMNS: usize = 2 * LANES;

/// How many rows of the right matrix are taken at once, so that they and what they are multiplied with stay in the cache. The
/// sums go on from part to part, which changes no bit.
const DEPTH: usize = 128;

/// Adds the product of `left` and `right` to `into`.
pub(super) struct Multiply<'a> {
    pub left: Left<'a>,
    /// Row by row, of `stride` columns.
    pub right: &'a [f32],
    /// As many rows as are wanted of the product, each of `stride` columns.
    pub into: &'a mut [f32],
    /// A multiple of [`LANES`].
    pub stride: usize,
}

/// The left matrix of a product.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// As it is: row by row, of `stride` columns, of which the first are used.
    Rows { values: &'a [f32], stride: usize },
    /// Transposed: column by column, each of `stride` rows.
    Columns { values: &'a [f32], stride: usize },
}

impl Work for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        if self.right.is_empty() || self.into.is_empty() {
            return;
        }
        let (depth, wide) = (self.right.len() / self.stride, self.stride / COLUMNS * COLUMNS);
        for start in (0..depth).step_by(DEPTH) {
            let part = start..depth.min(start + DEPTH);
            for column in (0..wide).step_by(COLUMNS) {
                self.columns::<COLUMNS>(&part, column);
            }
            if wide < self.stride {
                self.columns::<LANES>(&part, wide);
            }
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn columns<const C: usize>(&mut self, part: &Range<usize>, column: usize) {
        let rows = self.into.len() / self.stride;
        let together = rows / ROWS * ROWS;
        for row in (0..together).step_by(ROWS) {
            self.block::<ROWS, C>(part, row, column);
        }
        for row in together..rows {
            self.block::<1, C>(part, row, column);
        }
    }

    #[inline(always)]
    fn block<const R: usize, const C: usize>(&mut self, part: &Range<usize>, row: usize, column: usize) {
        match self.left {
            Left::Rows { values, stride } => {
                let rows: [&[f32]; R] = from_fn(|r| &values[(row + r) * stride..][part.start..part.end]);
                self.sum::<R, C>(part, row, column, |k| from_fn(|r| rows[r][k]));
            }
            Left::Columns { values, stride } => {
                let values = &values[part.start * stride..];
                self.sum::<R, C>(part, row, column, |k| from_fn(|r| values[k * stride + row..][..R][r]));
            }
        }
    }

    #[inline(always)]
    fn sum<const R: usize, const C: usize>(
        &mut self,
        part: &Range<usize>,
        row: usize,
        column: usize,
        left: impl Fn(usize) -> [f32; R],
    ) {
        let stride = self.stride;
        let right = &self.right[part.start * stride..part.end * stride];
        let mut sums: [[f32; C]; R] = from_fn(|r| chunk(&self.into[(row + r) * stride..], column));
        for (k, right) in right.chunks_exact(stride).enumerate() {
            let (left, right): ([f32; R], [f32; C]) = (left(k), chunk(right, column));
            for r in 0..R {
                for c in 0..C {
                    sums[r][c] = left[r].mul_add(right[c], sums[r][c]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            self.into[(row + r) * stride + column..][..C].copy_from_slice(sums);
        }
    }
}

#[inline(always)]
fn chunk<const C: usize>(row: &[f32], column: usize) -> [f32; C] {
    from_fn(|c| row[column..][..C][c])
}

/// The transpose of a matrix of `rows` rows, each `stride` apart, of which the first `columns` columns are used; its own
/// rows are `into_stride` apart, and filled up with zeros.
pub(super) fn transpose(values: &[f32], stride: usize, columns: usize, into: &mut Vec<f32>, into_stride: usize) {
    into.clear();
    into.resize(columns * into_stride, 0.0);
    for (row, values) in values.chunks_exact(stride).enumerate() {
        let places = into[row..].iter_mut().step_by(into_stride);
        places.zip(&values[..columns]).for_each(|(place, value)| *place = *value);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::simd;

    fn matrix(rows: usize, stride: usize, salt: f32) -> Vec<f32> {
        (0..rows * stride).map(|index| ((index as f32 + salt) * 0.7).sin()).collect()
    }

    /// Element by element, in the order that is promised.
    fn plain(left: &[f32], stride: usize, right: &[f32], columns: usize, into: &mut [f32]) {
        let rows = into.len() / columns;
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let depth = right.len() / columns;
            let each = (0..depth).map(|k| (left[row * stride + k], right[k * columns + column]));
            let start = into[row * columns + column];
            into[row * columns + column] = each.fold(start, |sum, (left, right)| left.mul_add(right, sum));
        }
    }

    #[test]
    fn elements_are_the_same_bits_in_any_block_and_on_any_machine() {
        for (rows, depth, columns) in [(1, 1, 8), (3, 5, 24), (4, 28, 64), (13, 33, 40), (9, 7, 16), (5, 300, 24)] {
            let (left, right) = (matrix(rows, depth, 1.0), matrix(depth, columns, 2.0));
            let start = matrix(rows, columns, 3.0);
            let mut expected = start.clone();
            plain(&left, depth, &right, columns, &mut expected);
            let product = |left: Left<'_>, run: fn(Multiply<'_>)| {
                let mut into = start.clone();
                run(Multiply { left, right: &right, into: &mut into, stride: columns });
                into
            };
            let rows_of = Left::Rows { values: &left, stride: depth };
            assert_eq!(product(rows_of, |work| simd::run(work)), expected);
            assert_eq!(product(rows_of, |work| simd::run_anywhere(work)), expected);
            let mut transposed = Vec::new();
            transpose(&left, depth, depth, &mut transposed, rows);
            let columns_of = Left::Columns { values: &transposed, stride: rows };
            assert_eq!(product(columns_of, |work| simd::run(work)), expected);
        }
    }
}
