//! A batch of an input, with the refused rows between its own, and where to split it.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use millstream_core::{Batch, Encoding, FailedRow, Origin, Result, json_row};

/// A batch, and the refused rows that lie before its end.
pub struct InputBatch {
    /// By which output port the rows leave.
    pub port: usize,
    pub batch: Batch,
    /// In the order of their positions.
    pub refused: Vec<FailedRow>,
}

/// Where a batch is split: behind so many of its rows, and so many of the refused ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SplitPoint {
    rows: usize,
    refused: usize,
}

impl SplitPoint {
    /// Behind how many rows that were not refused.
    pub fn rows(self) -> usize {
        self.rows
    }
}

impl InputBatch {
    /// A batch, and those of the refused rows that lie before its end, which are taken out of `failed`.
    pub fn new(port: usize, batch: Batch, failed: &mut Vec<FailedRow>) -> Self {
        let (partition, end) = (&batch.origin.partition, batch.origin.end);
        let is_before = |row: &mut FailedRow| row.partition == *partition && row.position < Some(end);
        let mut refused: Vec<_> = failed.extract_if(.., is_before).collect();
        refused.sort_by_key(|row| row.position);
        Self { port, batch, refused }
    }

    /// Behind so many rows, rejected ones among them. None if there are fewer.
    pub fn behind_all(&self, count: usize) -> Option<SplitPoint> {
        if self.batch.len() + self.refused.len() < count {
            return None;
        }
        let refused = self.refused_until(|rows, refused| rows + refused < count);
        Some(SplitPoint { rows: count - refused, refused })
    }

    /// Behind so many rows that were not refused. None if there are fewer.
    pub fn behind_rows(&self, rows: usize) -> Option<SplitPoint> {
        let refused = || self.refused_until(|before, _| before < rows);
        (rows <= self.batch.len()).then(|| SplitPoint { rows, refused: refused() })
    }

    /// Before the first row that was not refused.
    pub fn before_rows(&self) -> SplitPoint {
        SplitPoint { rows: 0, refused: self.refused_until(|rows, _| rows == 0) }
    }

    /// How many of the refused rows come before the first of which this does not hold: it has so many rows before it, and so
    /// many refused ones.
    fn refused_until(&self, holds: impl Fn(usize, usize) -> bool) -> usize {
        let first = self.refused_before();
        let mut places = self.refused.iter().enumerate();
        let is_over = |(place, row): (usize, &FailedRow)| {
            let position = row.position.unwrap_or_default();
            !holds(rows_before(&self.batch, position, place.saturating_sub(first)), place)
        };
        places.position(is_over).unwrap_or(self.refused.len())
    }

    /// How many of the refused rows come before the batch.
    fn refused_before(&self) -> usize {
        self.refused.partition_point(|row| row.position < Some(self.batch.origin.start))
    }

    /// Cuts it.
    pub fn cut(mut self, cut: SplitPoint) -> (Self, Self) {
        if let Some(head) = self.before_batch(cut) {
            let behind = self.refused.split_off(cut.refused);
            let tail = Self { refused: behind, ..self };
            return (Self { port: tail.port, batch: head, refused: self.refused }, tail);
        }
        let barrier = self.barrier(cut);
        let behind = self.refused.split_off(cut.refused);
        let (head, tail) = self.batch.cut(cut.rows, barrier);
        (Self { batch: head, ..self }, Self { port: self.port, batch: tail, refused: behind })
    }

    /// Nothing of the batch, where a cut lies between refused rows that come before it: right behind the last of them.
    fn before_batch(&self, cut: SplitPoint) -> Option<Batch> {
        let position = self.refused[..cut.refused].last()?.position? + 1;
        (cut.refused < self.refused_before()).then(|| {
            let origin = Origin { start: position, end: position, ..self.batch.origin.clone() };
            Batch::new(self.batch.rows.slice(0, 0), origin)
        })
    }

    /// The position at which a cut lies: right behind the last row before it, rejected ones among them.
    fn barrier(&self, cut: SplitPoint) -> u64 {
        let Origin { start, end, .. } = self.batch.origin;
        // Other positions behind the last row belong to none.
        if cut.rows == self.batch.len() && cut.refused == self.refused.len() {
            return end;
        }
        match self.batch.positions() {
            None => start + (cut.rows + cut.refused.saturating_sub(self.refused_before())) as u64,
            Some(positions) => {
                let row = cut.rows.checked_sub(1).map(|last| positions[last]);
                let refused = cut.refused.checked_sub(1).and_then(|last| self.refused[last].position);
                row.max(refused).map_or(start, |last| start.max(last + 1))
            }
        }
    }

    /// Refuses the rows that are marked.
    pub fn refuse(&mut self, marked: &BooleanArray, why: impl Fn(&RecordBatch, usize) -> String) -> Result<()> {
        let Batch { rows, origin, .. } = &self.batch;
        let positions = self.positions();
        for row in marked.values().set_indices() {
            self.refused.push(FailedRow {
                error: why(rows, row),
                source: origin.source.clone(),
                partition: origin.partition.clone(),
                position: Some(positions[row]),
                line: None,
                row: json_row(rows, row)?,
                encoding: Encoding::Json,
            });
        }
        self.refused.sort_by_key(|row| row.position);
        let kept = filter_record_batch(rows, &not(marked)?)?;
        let left = |positions: &[u64]| not_marked(positions, marked);
        self.batch = match self.batch.positions().map(left) {
            None => Batch::new(kept, origin.clone()),
            Some(left) => Batch::with_gaps(kept, origin.clone(), left),
        };
        Ok(())
    }

    /// The position of each row of the batch.
    pub fn positions(&self) -> Vec<u64> {
        if let Some(positions) = self.batch.positions() {
            return positions.to_vec();
        }
        let refused: std::collections::BTreeSet<u64> = self.refused.iter().filter_map(|row| row.position).collect();
        let start = self.batch.origin.start;
        (start..).filter(|position| !refused.contains(position)).take(self.batch.len()).collect()
    }
}

/// How many rows of a batch lie before a position, with `refused` refused ones between them.
pub fn rows_before(batch: &Batch, position: u64, refused: usize) -> usize {
    match batch.positions() {
        Some(positions) => positions.partition_point(|of_row| *of_row < position),
        // Every position is that of a row, or of a refused one.
        None => (position.saturating_sub(batch.origin.start) as usize).saturating_sub(refused).min(batch.len()),
    }
}

/// The positions of the rows that are not marked.
fn not_marked(positions: &[u64], marked: &BooleanArray) -> Vec<u64> {
    let rows = positions.iter().zip(marked.values());
    rows.filter(|(_, is_marked)| !is_marked).map(|(position, _)| *position).collect()
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{batch, table};

    use super::*;

    fn failed(position: u64) -> FailedRow {
        FailedRow {
            error: "bad".into(),
            source: "input".into(),
            partition: "".into(),
            position: Some(position),
            line: None,
            row: String::new(),
            encoding: Encoding::Text,
        }
    }

    /// Rows 5, 7, 8 and 10 of positions up to 13, with 3, 6, 9, 11 and 12 refused.
    fn without_gaps() -> InputBatch {
        let mut batch = batch(table("n:int64\n5\n7\n8\n10"));
        (batch.origin.start, batch.origin.end) = (5, 14);
        InputBatch::new(0, batch, &mut [3, 12, 11, 9, 6, 14].map(failed).into())
    }

    /// The positions of both parts, and how many rows they have and of refused ones.
    fn parts(cut: Option<SplitPoint>) -> [(u64, u64, usize, usize); 2] {
        let (head, tail) = without_gaps().cut(cut.expect("there are enough"));
        [head, tail].map(|part| {
            let Origin { start, end, .. } = part.batch.origin;
            (start, end, part.batch.len(), part.refused.len())
        })
    }

    #[test]
    fn refused_rows_count_where_all_do() {
        let expected = [
            [(5, 5, 0, 1), (5, 14, 4, 4)],
            [(5, 6, 1, 1), (6, 14, 3, 4)],
            [(5, 7, 1, 2), (7, 14, 3, 3)],
            [(5, 8, 2, 2), (8, 14, 2, 3)],
            [(5, 9, 3, 2), (9, 14, 1, 3)],
            [(5, 10, 3, 3), (10, 14, 1, 2)],
            [(5, 11, 4, 3), (11, 14, 0, 2)],
            [(5, 12, 4, 4), (12, 14, 0, 1)],
            // Other positions belong to no row.
            [(5, 14, 4, 5), (14, 14, 0, 0)],
        ];
        for (count, expected) in expected.into_iter().enumerate() {
            assert_eq!(parts(without_gaps().behind_all(count + 1)), expected, "{count}");
        }
        assert_eq!(without_gaps().behind_all(10), None);
    }

    /// Rows 5, 9 and 20 of positions up to 30, with 3, 7, 21 and 22 refused.
    fn with_gaps() -> InputBatch {
        let mut origin = batch(table("n:int64")).origin;
        (origin.start, origin.end) = (5, 30);
        let batch = Batch::with_gaps(table("n:int64\n5\n9\n20"), origin, [5, 9, 20]);
        InputBatch::new(0, batch, &mut [3, 22, 21, 7, 31].map(failed).into())
    }

    #[test]
    fn a_cut_between_gaps_lies_right_behind_the_row_before_it() {
        let expected = [
            [(5, 5, 0, 1), (5, 30, 3, 3)],
            [(5, 6, 1, 1), (6, 30, 2, 3)],
            [(5, 8, 1, 2), (8, 30, 2, 2)],
            [(5, 10, 2, 2), (10, 30, 1, 2)],
            [(5, 21, 3, 2), (21, 30, 0, 2)],
            [(5, 22, 3, 3), (22, 30, 0, 1)],
            [(5, 30, 3, 4), (30, 30, 0, 0)],
        ];
        for (count, expected) in expected.into_iter().enumerate() {
            let cut = with_gaps().behind_all(count + 1).expect("there are enough");
            let (head, tail) = with_gaps().cut(cut);
            let part = |part: &InputBatch| {
                let Origin { start, end, .. } = part.batch.origin;
                (start, end, part.batch.len(), part.refused.len())
            };
            assert_eq!([part(&head), part(&tail)], expected, "{count}");
            let left = [head, tail].map(|part| part.batch.positions().unwrap_or_default().to_vec()).concat();
            assert_eq!(left, [5, 9, 20]);
        }
    }

    #[test]
    fn a_row_between_gaps_that_is_refused_later_has_its_position() {
        let mut read = with_gaps();
        read.refuse(&BooleanArray::from(vec![false, true, false]), |_, _| "late".into()).expect("they are rows");
        let refused: Vec<_> = read.refused.iter().filter_map(|row| row.position).collect();
        assert_eq!(refused, [3, 7, 9, 21, 22]);
        assert_eq!(read.batch.positions(), Some(&[5, 20][..]));
    }

    #[test]
    fn refused_rows_between_others_lie_before_a_cut_behind_these() {
        assert_eq!(parts(without_gaps().behind_rows(1)), [(5, 6, 1, 1), (6, 14, 3, 4)]);
        assert_eq!(parts(without_gaps().behind_rows(2)), [(5, 8, 2, 2), (8, 14, 2, 3)]);
        assert_eq!(parts(without_gaps().behind_rows(4)), [(5, 11, 4, 3), (11, 14, 0, 2)]);
        assert_eq!(without_gaps().behind_rows(5), None);
    }

    #[test]
    fn a_cut_between_refused_rows_before_the_batch_does_not_pass_over_the_others() {
        let mut plain = batch(table("n:int64\n5\n6"));
        (plain.origin.start, plain.origin.end) = (5, 7);
        let gaps = Batch::with_gaps(table("n:int64\n5\n6"), plain.origin.clone(), [5, 6]);
        for batch in [plain, gaps] {
            let read = InputBatch::new(0, batch, &mut [2, 3, 4].map(failed).into());
            let cut = read.behind_all(1).expect("there are five");
            let (head, tail) = read.cut(cut);
            assert_eq!((head.batch.origin.end, head.batch.len(), head.refused.len()), (3, 0, 1));
            assert_eq!((tail.batch.origin.start, tail.batch.len(), tail.refused.len()), (5, 2, 2));
            let cut = tail.behind_all(3).expect("there are four");
            let (head, tail) = tail.cut(cut);
            assert_eq!((head.batch.origin.end, head.batch.len(), head.refused.len()), (6, 1, 2));
            assert_eq!((tail.batch.origin.start, tail.batch.len()), (6, 1));
        }
    }

    #[test]
    fn refused_rows_before_the_first_row_are_cut_off() {
        assert_eq!(parts(Some(without_gaps().before_rows())), [(5, 5, 0, 1), (5, 14, 4, 4)]);
        let mut batch = batch(table("n:int64\n7"));
        (batch.origin.start, batch.origin.end) = (5, 9);
        let read = InputBatch::new(0, batch, &mut [5, 6, 8].map(failed).into());
        let before = read.before_rows();
        let (head, tail) = read.cut(before);
        assert_eq!(
            (head.batch.origin.end, head.refused.len(), tail.batch.origin.start, tail.refused.len()),
            (7, 2, 7, 1)
        );
    }

    #[test]
    fn a_row_that_is_refused_later_has_its_position() {
        let mut read = without_gaps();
        read.refuse(&BooleanArray::from(vec![false, true, false, true]), |_, _| "late".into()).expect("they are rows");
        let refused: Vec<_> = read.refused.iter().filter_map(|row| row.position).collect();
        assert_eq!((read.batch.len(), refused), (2, vec![3, 6, 7, 9, 10, 11, 12]));
    }

    #[test]
    fn rows_that_were_all_refused_are_cut_as_well() {
        let mut batch = batch(table("n:int64"));
        (batch.origin.start, batch.origin.end) = (0, 3);
        let read = InputBatch::new(0, batch, &mut [0, 1, 2].map(failed).into());
        let cut = read.behind_all(2).expect("there are three");
        let (head, tail) = read.cut(cut);
        assert_eq!((head.batch.origin.end, head.refused.len(), tail.refused.len()), (2, 2, 1));
    }
}
