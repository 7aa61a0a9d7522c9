//! What a reader yields: batches with their positions, and the rows that could not be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_core::{Batch, Collector, Encoding, FailedRow, Origin, Result};

/// Rows that were read. Positions count the rows of the source from 0, bad ones included.
#[derive(Debug, Default)]
pub struct Rows {
    /// The position of a batch's first row, and the batch. The positions of its rows have no gap.
    pub batches: Vec<(u64, RecordBatch)>,
    /// What is left of batches of which rows were not wanted. A source gives either these or batches that are whole.
    pub sifted: Vec<SiftedRows>,
    /// The rows that could not be read, by position.
    pub failed: Vec<BadRow>,
}

/// The rows that were wanted of a stretch of a source. There may be none.
#[derive(Clone, Debug)]
pub struct SiftedRows {
    /// The position at which the stretch begins.
    pub start: u64,
    /// The position behind its last row, whether that was wanted or not.
    pub end: u64,
    /// The rows.
    pub rows: RecordBatch,
    /// The position of each.
    pub positions: Vec<u64>,
}

impl SiftedRows {
    /// A stretch without any that is wanted.
    pub(crate) fn none(start: u64, end: u64, schema: SchemaRef) -> Self {
        Self { start, end, rows: RecordBatch::new_empty(schema), positions: Vec::new() }
    }

    /// Drops the rows before a position.
    fn drop_before(&mut self, position: u64) {
        let dropped = self.positions.partition_point(|of_row| *of_row < position);
        self.positions.drain(..dropped);
        self.rows = self.rows.slice(dropped, self.rows.num_rows() - dropped);
        self.start = self.start.max(position);
    }
}

/// A row that could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The position of the row.
    pub position: u64,
    /// Text formats: the number of the line in which the row begins, counted from 1.
    pub line: Option<u64>,
    /// What was wrong: lowercase, names the column and the value where it is about one.
    pub error: String,
    /// The row as it was read.
    pub row: String,
    /// How `row` stands for its bytes: text, or base64 if they are no valid UTF-8.
    pub encoding: Encoding,
}

/// What is wrong with a row in another encoding.
pub(crate) const NO_TEXT: &str = "the row is no valid UTF-8; `encoding` in `format` names other encodings";

impl BadRow {
    /// Makes the report of a row that was read as these bytes.
    pub fn new(position: u64, error: impl Into<String>, bytes: &[u8]) -> Self {
        let (row, encoding) = match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), Encoding::Text),
            Err(_) => (STANDARD.encode(bytes), Encoding::Base64),
        };
        Self { position, line: None, error: error.into(), row, encoding }
    }
}

impl Rows {
    /// Adds the rows of a source that begins at `position`. Its lines are of another text than the others'.
    pub fn append(&mut self, other: Self, position: u64) {
        self.batches.extend(other.batches.into_iter().map(|(start, rows)| (position + start, rows)));
        self.sifted.extend(other.sifted.into_iter().map(|sifted| SiftedRows {
            start: position + sifted.start,
            end: position + sifted.end,
            positions: sifted.positions.iter().map(|of_row| position + of_row).collect(),
            ..sifted
        }));
        let moved = |row: BadRow| BadRow { position: position + row.position, line: None, ..row };
        self.failed.extend(other.failed.into_iter().map(moved));
    }

    /// How many rows there are, good and bad ones.
    pub fn len(&self) -> usize {
        let whole = self.batches.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>();
        whole + self.sifted.iter().map(|sifted| sifted.rows.num_rows()).sum::<usize>() + self.failed.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the rows before a position.
    pub fn drop_before(&mut self, position: u64) {
        self.failed.retain(|row| row.position >= position);
        self.sifted.retain(|sifted| sifted.end > position);
        self.sifted.iter_mut().for_each(|sifted| sifted.drop_before(position));
        self.batches.retain_mut(|(start, rows)| {
            let dropped = position.saturating_sub(*start).min(rows.num_rows() as u64);
            (*start, *rows) = (*start + dropped, rows.slice(dropped as usize, rows.num_rows() - dropped as usize));
            rows.num_rows() > 0
        });
    }

    /// Hands the rows to the engine, as read by input `source` from `partition`.
    pub fn send(self, source: &Arc<str>, partition: &Arc<str>, out: &mut Collector) {
        for (start, rows) in self.batches {
            let end = start + rows.num_rows() as u64;
            out.push(0, Batch::new(rows, Origin::new(source.clone(), partition.clone(), start, end)));
        }
        for SiftedRows { start, end, rows, positions } in self.sifted {
            let origin = Origin::new(source.clone(), partition.clone(), start, end);
            out.push(0, Batch::with_gaps(rows, origin, positions));
        }
        for BadRow { position, line, error, row, encoding } in self.failed {
            let (source, partition) = (source.clone(), partition.clone());
            out.fail(FailedRow { error, source, partition, position: Some(position), line, row, encoding });
        }
    }

    /// Adds rows at `positions` but those that are `bad`, in stretches without a gap.
    pub(crate) fn push_stretches(&mut self, rows: &RecordBatch, positions: &[u64], bad: &BTreeMap<usize, String>) {
        let mut start = 0;
        for end in 1..=positions.len() {
            let bad_start = bad.contains_key(&start);
            let goes_on = end < positions.len() && positions[end] == positions[end - 1] + 1 && !bad.contains_key(&end);
            if goes_on && !bad_start {
                continue;
            }
            if !bad_start {
                self.batches.push((positions[start], rows.slice(start, end - start)));
            }
            start = end;
        }
    }

    /// Cuts batches to such as have at most so many rows.
    pub fn cut(&mut self, most: usize) {
        if self.batches.iter().all(|(_, rows)| rows.num_rows() <= most) {
            return;
        }
        let pieces = |(start, rows): (u64, RecordBatch)| {
            let count = rows.num_rows();
            (0..count).step_by(most).map(move |at| (start + at as u64, rows.slice(at, most.min(count - at))))
        };
        self.batches = std::mem::take(&mut self.batches).into_iter().flat_map(pieces).collect();
    }

    /// Joins what is left of batches to such as have at most so many rows.
    pub(crate) fn join_sifted(&mut self, most: usize) -> Result<()> {
        let mut joined: Vec<SiftedRows> = Vec::new();
        let mut run: Vec<SiftedRows> = Vec::new();
        let mut count = 0;
        for next in std::mem::take(&mut self.sifted) {
            count += next.rows.num_rows();
            if count > most && !run.is_empty() {
                count = next.rows.num_rows();
                joined.push(together(std::mem::take(&mut run))?);
            }
            run.push(next);
        }
        if !run.is_empty() {
            joined.push(together(run)?);
        }
        self.sifted = joined;
        Ok(())
    }

    /// Joins batches that follow each other without a gap, to such as have at most so many rows.
    pub fn join_neighbours(&mut self, most: usize) -> Result<()> {
        let mut joined: Vec<(u64, RecordBatch)> = Vec::new();
        let mut run: Vec<RecordBatch> = Vec::new();
        let (mut next, mut count) = (0, 0);
        for (start, rows) in std::mem::take(&mut self.batches) {
            count += rows.num_rows();
            if !run.is_empty() && (start != next || count > most) {
                joined.push(join(next, &mut run)?);
                count = rows.num_rows();
            }
            next = start + rows.num_rows() as u64;
            run.push(rows);
        }
        if !run.is_empty() {
            joined.push(join(next, &mut run)?);
        }
        self.batches = joined;
        Ok(())
    }
}

/// One of several stretches that follow each other.
fn together(run: Vec<SiftedRows>) -> Result<SiftedRows> {
    let (first, last) = (&run[0], &run[run.len() - 1]);
    let (start, end, schema) = (first.start, last.end, first.rows.schema());
    let rows = concat_batches(&schema, run.iter().map(|sifted| &sifted.rows))?;
    Ok(SiftedRows { start, end, rows, positions: run.into_iter().flat_map(|sifted| sifted.positions).collect() })
}

/// One batch of a run that ends before position `end`.
fn join(end: u64, run: &mut Vec<RecordBatch>) -> Result<(u64, RecordBatch)> {
    let schema = run[0].schema();
    let rows = concat_batches(&schema, run.iter())?;
    run.clear();
    Ok((end - rows.num_rows() as u64, rows))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{ArrayRef, UInt64Array};

    use super::*;

    fn stretches(positions: &[u64], bad: &[usize]) -> Vec<(u64, usize)> {
        let column: ArrayRef = Arc::new(UInt64Array::from(positions.to_vec()));
        let rows = RecordBatch::try_from_iter([("p", column)]).unwrap();
        let bad = bad.iter().map(|row| (*row, String::new())).collect();
        let mut out = Rows::default();
        out.push_stretches(&rows, positions, &bad);
        out.batches.iter().map(|(start, rows)| (*start, rows.num_rows())).collect()
    }

    #[test]
    fn gaps_and_bad_rows_cut_batches() {
        assert_eq!(stretches(&[0, 1, 2], &[]), [(0, 3)]);
        assert_eq!(stretches(&[0, 1, 2], &[0]), [(1, 2)]);
        assert_eq!(stretches(&[0, 1, 2], &[1]), [(0, 1), (2, 1)]);
        assert_eq!(stretches(&[0, 1, 2], &[2]), [(0, 2)]);
        assert_eq!(stretches(&[0, 2, 3, 7], &[]), [(0, 1), (2, 2), (7, 1)]);
        assert_eq!(stretches(&[4, 5, 6, 7], &[1, 2]), [(4, 1), (7, 1)]);
        assert_eq!(stretches(&[], &[]), []);
        assert_eq!(stretches(&[1, 2], &[0, 1]), []);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_base64() {
        let row = BadRow::new(3, "bad", b"a\xff");
        assert_eq!((row.row.as_str(), row.encoding), ("Yf8=", Encoding::Base64));
    }
}
