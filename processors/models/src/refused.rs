//! Which rows of a batch can't be used.

use arrow::array::BooleanArray;

/// Marks rows. Costs nothing as long as none is marked.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    rows: Vec<bool>,
}

impl Refused {
    /// Marks one row of a batch of `rows` rows.
    pub fn mark(&mut self, row: usize, rows: usize) {
        self.rows.resize(rows, false);
        self.rows[row] = true;
    }

    /// The mask of the marked rows, or `None` if there are none.
    pub fn mask(self) -> Option<BooleanArray> {
        (!self.rows.is_empty()).then(|| BooleanArray::from(self.rows))
    }
}
