//! How far event time comes with rows that have been read and not sent yet.

use millstream_core::EventTime;

/// How far the event time of an input comes with each row of a batch.
pub struct Advance<'r> {
    /// The times of the rows.
    pub times: &'r [EventTime],
    /// The latest time of the partition before.
    pub latest: EventTime,
    /// The latest time of the partition furthest behind of those that come mixed with it.
    pub others: EventTime,
    /// By how much a row may be earlier than one before it.
    pub lateness: EventTime,
    /// How far it had come before.
    pub come: EventTime,
}

impl Advance<'_> {
    /// With so many rows.
    pub fn at(&self, rows: usize) -> EventTime {
        let latest = self.times[..rows].iter().fold(self.latest, |latest, time| latest.max(*time));
        self.come.max(latest.min(self.others).saturating_sub(self.lateness))
    }

    /// How many rows do not come further than that.
    pub fn rows_until(&self, at: EventTime) -> usize {
        let mut latest = self.latest;
        let is_behind = |time: &EventTime| {
            latest = latest.max(*time);
            latest.min(self.others).saturating_sub(self.lateness) > at
        };
        self.times.iter().position(is_behind).unwrap_or(self.times.len())
    }
}
