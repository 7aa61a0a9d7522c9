//! What travels on an edge.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Result;

/// A time of the data, in microseconds since 1970-01-01 UTC.
pub type EventTime = i64;

/// What travels on an edge. Order is total: nothing overtakes a barrier.
#[derive(Clone, Debug)]
pub enum Message {
    /// Rows.
    Batch(Batch),
    /// How far event time has come.
    Watermark(Watermark),
    /// The barrier at which this epoch ends.
    Barrier(Epoch),
    /// Nothing follows.
    End,
}

/// How far event time has come on an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watermark {
    /// Rows with an earlier event time are late.
    At(EventTime),
    /// Nothing has come for a while, so the edge holds nobody back until something does.
    Idle,
}

/// The number of a stretch of rows between two barriers. The first epoch is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch behind this one's barrier.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Rows of one schema, and where they came from. Cloning copies no row.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The rows.
    pub rows: RecordBatch,
    /// The stretch of an input from which these rows derive.
    pub origin: Origin,
    /// The position of each row, where these don't follow each other.
    positions: Option<Arc<[u64]>>,
}

impl Batch {
    /// `rows` that derive from `origin`.
    pub fn new(rows: RecordBatch, origin: Origin) -> Self {
        Self { rows, origin, positions: None }
    }

    /// Inputs: rows whose positions have gaps, as those of a topic that is compacted. Positions ascend, and lie in the stretch
    /// of `origin`; rows that were refused may lie between them.
    pub fn with_gaps(rows: RecordBatch, origin: Origin, positions: impl Into<Arc<[u64]>>) -> Self {
        let positions = positions.into();
        debug_assert_eq!(rows.num_rows(), positions.len());
        debug_assert!(positions.is_sorted_by(|a, b| a < b));
        Self { rows, origin, positions: Some(positions) }
    }

    /// Inputs: rows of a partition at these positions, which ascend, with gaps or without.
    pub fn at(
        rows: RecordBatch,
        source: &Arc<str>,
        partition: &Arc<str>,
        positions: impl ExactSizeIterator<Item = u64> + DoubleEndedIterator + Clone,
    ) -> Self {
        let start = positions.clone().next().unwrap_or_default();
        let end = positions.clone().next_back().map_or(start, |last| last + 1);
        let origin = Origin::new(source.clone(), partition.clone(), start, end);
        if end - start == positions.len() as u64 {
            Self::new(rows, origin)
        } else {
            Self::with_gaps(rows, origin, positions.collect::<Vec<_>>())
        }
    }

    /// The position of each row of an input, if these have gaps.
    pub fn positions(&self) -> Option<&[u64]> {
        self.positions.as_deref()
    }

    /// Cuts an input's batch behind its first `rows` rows, where the position `barrier` is.
    pub fn cut(self, rows: usize, barrier: u64) -> (Self, Self) {
        let (head, tail) = (self.rows.slice(0, rows), self.rows.slice(rows, self.len() - rows));
        let behind = Origin { start: barrier, ..self.origin.clone() };
        let before = Origin { end: barrier, ..self.origin };
        match self.positions {
            None => (Self::new(head, before), Self::new(tail, behind)),
            Some(positions) => {
                let (first, rest) = positions.split_at(rows);
                (Self::with_gaps(head, before, first), Self::with_gaps(tail, behind, rest))
            }
        }
    }

    /// Other rows that derive from the same stretch.
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        Self::new(rows, self.origin.clone())
    }

    /// The rows one by one in another form: their number, order and positions stay.
    ///
    /// # Errors
    /// If they can't be brought into it.
    pub fn try_map(self, change: impl FnOnce(RecordBatch) -> Result<RecordBatch>) -> Result<Self> {
        let rows = change(self.rows)?;
        debug_assert!(self.positions.as_ref().is_none_or(|positions| positions.len() == rows.num_rows()));
        Ok(Self { rows, ..self })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A stretch of an input: the rows `start..end` of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name of the input node.
    pub source: Arc<str>,
    /// The part of the source: a file's path, a topic's partition, or empty where there is only one.
    pub partition: Arc<str>,
    /// The position of the first row; files count rows from 0.
    pub start: u64,
    /// One past the position of the last row.
    pub end: u64,
}

impl Origin {
    /// The rows `start..end` of `partition` of `source`.
    pub fn new(source: impl Into<Arc<str>>, partition: impl Into<Arc<str>>, start: u64, end: u64) -> Self {
        Self { source: source.into(), partition: partition.into(), start, end }
    }

    /// The stretch of `rows` rows, `offset` rows into this one. Only meaningful where rows and positions still
    /// correspond, which is at inputs.
    pub fn slice(&self, offset: u64, rows: u64) -> Self {
        let start = self.start + offset;
        Self { start, end: start + rows, ..self.clone() }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.source, &*self.partition, self.start, self.end).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (source, partition, start, end): (String, String, u64, u64) = Deserialize::deserialize(deserializer)?;
        Ok(Self::new(source, partition, start, end))
    }
}
