//! Rows of numbers, turned from columns: so few at a time that they stay in the processor's nearest cache.

use arrow::array::{Array, Float64Array};

/// How many rows are turned at once.
pub(crate) const TILE_ROWS: usize = 64;

/// Some rows of a batch, row after row, each padded with zeros. NaN stands for a missing number.
#[derive(Clone, Debug)]
pub(crate) struct Tile {
    width: usize,
    values: Vec<f64>,
}

impl Tile {
    /// For batches of so many rows, each of so many numbers, padding included.
    pub fn new(rows: usize, width: usize) -> Self {
        Self { width, values: vec![0.0; width * rows.min(TILE_ROWS)] }
    }

    /// Takes in the rows from `start` on, and returns how many there were.
    pub fn fill(&mut self, columns: &[Float64Array], start: usize, rows: usize) -> usize {
        let count = TILE_ROWS.min(rows - start);
        for (index, column) in columns.iter().enumerate() {
            let values = &column.values()[start..start + count];
            let places = self.values[index..].iter_mut().step_by(self.width);
            places.zip(values).for_each(|(place, value)| *place = *value);
            let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) else { continue };
            for row in (0..count).filter(|row| nulls.is_null(start + row)) {
                self.values[row * self.width + index] = f64::NAN;
            }
        }
        count
    }

    /// One of the rows that were taken in last.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.width..(row + 1) * self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_and_null_is_nan() {
        let columns = [Float64Array::from(vec![Some(1.0), None, Some(3.0)]), Float64Array::from(vec![4.0, 5.0, 6.0])];
        let mut tile = Tile::new(3, 8);
        assert_eq!(tile.fill(&columns, 1, 3), 2);
        assert!(tile.row(0)[0].is_nan());
        assert_eq!(tile.row(0)[1..], [5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(tile.row(1)[..3], [3.0, 6.0, 0.0]);
    }
}
