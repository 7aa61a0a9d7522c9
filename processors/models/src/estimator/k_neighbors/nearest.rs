//! The nearest of several rows.

/// A row of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Neighbour {
    /// The square of the distance from it.
    pub square: f64,
    /// How many rows of the window are older.
    pub older: usize,
}

/// The nearest so far, in their order; of equally near ones the older first.
#[derive(Clone, Debug)]
pub(super) struct Nearest {
    count: usize,
    found: Vec<Neighbour>,
    /// What lies farther away is none of them.
    farthest: f64,
}

impl Nearest {
    pub fn new(count: usize) -> Self {
        Self { count, found: Vec::with_capacity(count + 1), farthest: f64::INFINITY }
    }

    #[inline(always)]
    pub fn farthest(&self) -> f64 {
        self.farthest
    }

    pub fn found(&self) -> &[Neighbour] {
        &self.found
    }

    /// Takes a row, if it is one of the nearest.
    pub fn offer(&mut self, row: Neighbour) {
        let is_before =
            |one: &Neighbour| one.square < row.square || (one.square == row.square && one.older < row.older);
        let at = self.found.partition_point(is_before);
        if at == self.count {
            return;
        }
        self.found.insert(at, row);
        self.found.truncate(self.count);
        if self.found.len() == self.count {
            self.farthest = self.found[self.count - 1].square;
        }
    }
}
