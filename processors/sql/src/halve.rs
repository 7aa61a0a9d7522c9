//! Finds the bad rows of a batch that failed, by halving it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

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
    if rows.num_rows() > 0 {
        descend(rows, 0, &run, &mut halved);
    }
    halved
}

fn descend<T>(
    rows: &RecordBatch,
    offset: usize,
    run: &impl Fn(&RecordBatch) -> Result<T, String>,
    halved: &mut Halved<T>,
) {
    let count = rows.num_rows();
    match survive(|| run(rows)) {
        Ok(result) => halved.good.push((offset, result)),
        Err(why) => match without_hidden(rows) {
            Some(seen) => descend(&seen, offset, run, halved),
            None if count <= 1 => halved.bad.push((offset, why)),
            None => {
                let half = count / 2;
                descend_into(rows, 0..half, offset, run, halved);
                descend_into(rows, half..count, offset, run, halved);
            }
        },
    }
}

fn descend_into<T>(
    rows: &RecordBatch,
    part: Range<usize>,
    offset: usize,
    run: &impl Fn(&RecordBatch) -> Result<T, String>,
    halved: &mut Halved<T>,
) {
    let half = rows.slice(part.start, part.len());
    descend(&without_hidden(&half).unwrap_or(half), offset + part.start, run, halved);
}

/// A panic in a function of DataFusion must cost its row only.
fn survive<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err("the value is out of what the function can do".to_owned()))
}

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
        match numbers.values().contains(&3) {
            true => Err("three".to_owned()),
            false => Ok(rows.clone()),
        }
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
