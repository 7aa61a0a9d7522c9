//! How far event time comes with rows that have been read and not sent yet.

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use millstream_core::EventTime;

/// The latest event time up to each row of a batch. It is computed once, however often a batch is cut.
#[derive(Debug, Default)]
pub struct Latest(Vec<EventTime>);

impl Latest {
    /// That of rows with these event times, none of which is null.
    pub fn of(rows: &RecordBatch, column: usize) -> Self {
        let times = rows.column(column).as_primitive::<TimestampMicrosecondType>().values();
        let running = times.iter().scan(EventTime::MIN, |latest, time| {
            *latest = (*latest).max(*time);
            Some(*latest)
        });
        Self(running.collect())
    }

    /// Those of the rows behind the first `rows`.
    pub fn behind(&self, rows: usize) -> &[EventTime] {
        self.0.get(rows..).unwrap_or_default()
    }
}

/// How far the event time of an input comes with rows of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    /// The latest time of the partition before.
    pub latest: EventTime,
    /// The latest time of the partition furthest behind of those that come mixed with it.
    pub others: EventTime,
    /// By how much a row may be earlier than one before it.
    pub lateness: EventTime,
    /// How far it had come before.
    pub come: EventTime,
}

impl Advance {
    /// With rows of which the latest has this time.
    pub fn with(&self, latest: EventTime) -> EventTime {
        self.come.max(self.by_rows(latest))
    }

    /// How many rows do not come further than `at`, by the latest time up to each of them.
    pub fn rows_until(&self, latest: &[EventTime], at: EventTime) -> usize {
        latest.partition_point(|latest| self.by_rows(*latest) <= at)
    }

    fn by_rows(&self, latest: EventTime) -> EventTime {
        self.latest.max(latest).min(self.others).saturating_sub(self.lateness)
    }
}
