//! Finds the bad rows of a batch that failed, by halving it.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use millstream_core::survive;

use crate::hidden::without_hidden;

/// What came of a batch.
#[derive(Debug)]
pub struct Halved<T> {
    /// The first rows of its good stretches and their results, in order.
    pub good: Vec<(usize, T)>,
    /// The rows that failed even alone, and why.
    pub bad: Vec<(usize, String)>,
}

/// Runs over a batch; where that fails over its halves, down to single rows.
///
/// A row fails only for what is in it: functions that look at the items of neighbours or of nulls, which lists carry
/// unseen, are given another try without these.
pub fn halve<T>(rows: &RecordBatch, run: impl Fn(&RecordBatch) -> Result<T, String>) -> Halved<T> {
    let mut halved = Halved { good: Vec::new(), bad: Vec::new() };
    let mut halves = Halves::of(rows);
    while let Some(half) = halves.next(&run) {
        match half {
            Half::Good(start, result) => halved.good.push((start, result)),
            Half::Bad(row, why) => halved.bad.push((row, why)),
        }
    }
    halved
}

/// A stretch of a batch, and what came of it.
#[derive(Debug)]
pub enum Half<T> {
    /// The first of its rows, and the result.
    Good(usize, T),
    /// A row that failed even alone, and why.
    Bad(usize, String),
}

/// What is left of a batch that is run over as in [`halve`], one stretch after the other.
#[derive(Debug)]
pub struct Halves {
    /// The first row of each stretch, and its rows; the next one is the last.
    left: Vec<(usize, RecordBatch)>,
}

impl Halves {
    /// All rows.
    pub fn of(rows: &RecordBatch) -> Self {
        Self { left: if rows.num_rows() > 0 { vec![(0, rows.clone())] } else { Vec::new() } }
    }

    /// Runs over the next rows.
    pub fn next<T>(&mut self, run: impl Fn(&RecordBatch) -> Result<T, String>) -> Option<Half<T>> {
        while let Some((start, rows)) = self.left.pop() {
            match survive(|| run(&rows)).unwrap_or_else(|| Err(OUT_OF_REACH.to_owned())) {
                Ok(result) => return Some(Half::Good(start, result)),
                Err(why) => match without_hidden(&rows) {
                    Some(seen) => self.left.push((start, seen)),
                    None if rows.num_rows() <= 1 => return Some(Half::Bad(start, why)),
                    None => self.split(start, &rows),
                },
            }
        }
        None
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// Runs over the next rows that do not fail. Those that do are given to `fail` one by one.
    pub fn next_good<T>(
        &mut self,
        run: impl Fn(&RecordBatch) -> Result<T, String>,
        mut fail: impl FnMut(usize, String) -> millstream_core::Result<()>,
    ) -> millstream_core::Result<Option<(usize, T)>> {
        loop {
            match self.next(&run) {
                None => return Ok(None),
                Some(Half::Good(start, result)) => return Ok(Some((start, result))),
                Some(Half::Bad(row, why)) => fail(row, why)?,
            }
        }
    }

    fn split(&mut self, start: usize, rows: &RecordBatch) {
        let middle = rows.num_rows() / 2;
        for part in [middle..rows.num_rows(), 0..middle] {
            let half = rows.slice(part.start, part.len());
            self.left.push((start + part.start, without_hidden(&half).unwrap_or(half)));
        }
    }
}

/// What is said of a row at which a function of DataFusion panics.
pub const OUT_OF_REACH: &str = "the value is out of what the function can do";

/// One batch of several, so that a few bad rows do not leave many small batches; several where one would be too big.
pub fn together(parts: Vec<RecordBatch>) -> Vec<RecordBatch> {
    match parts.as_slice() {
        [] | [_] => parts,
        [first, ..] => match concat_batches(&first.schema(), &parts) {
            Ok(one) => vec![one],
            Err(_) => parts,
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use millstream_testkit::{rows_as_text, table};

    use super::*;

    fn no_three(rows: &RecordBatch) -> Result<RecordBatch, String> {
        let numbers = rows.column(0).as_primitive::<Int64Type>();
        if numbers.values().contains(&3) { Err("three".to_owned()) } else { Ok(rows.clone()) }
    }

    #[test]
    fn bad_rows_are_found_and_good_ones_keep_their_order() {
        let rows = table("n:int64\n 3\n 1\n 2\n 3\n 4\n 5\n 3");
        let halved = halve(&rows, no_three);
        let numbers: Vec<_> = halved.bad.iter().map(|(row, _)| *row).collect();
        assert_eq!(numbers, [0, 3, 6]);
        let (starts, good): (Vec<_>, Vec<_>) = halved.good.into_iter().unzip();
        assert_eq!(starts[0], 1);
        let good = together(good);
        assert_eq!(good.len(), 1);
        assert_eq!(rows_as_text(&good), "n:int64\n1\n2\n4\n5\n");
    }

    #[test]
    fn a_panic_is_a_bad_row() {
        let rows = table("n:int64\n 3\n 1");
        let halved = halve(&rows, |rows| {
            assert!(no_three(rows).is_ok(), "a bug in a function");
            Ok(())
        });
        assert_eq!((halved.good.len(), halved.bad.len()), (1, 1));
    }
}
