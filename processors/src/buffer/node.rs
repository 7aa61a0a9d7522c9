//! The node: what it takes, what leaves it, and how far event time comes along.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{Schema, TimestampMicrosecondType};
use chrono::Utc;
use millstream_core::{
    Batch, Buffer, Collector, EventTime, Figures, Home, Origin, Parts, Processor, Report, Result, Snapshot, State,
    refuse_timeless,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::WhenFull;
use super::chunk::Until;
use super::queue::{Queue, priorities, rows_reaching, rows_within};

/// The time of the day, which does not go back while the process runs.
struct Clock {
    start: i64,
    since: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { start: Utc::now().timestamp_micros(), since: Instant::now() }
    }

    fn now(&self) -> i64 {
        self.start.saturating_add(self.since.elapsed().as_micros() as i64)
    }
}

/// So many watermarks are kept at most. Where there would be more, half of them are left out: event time then comes along in longer steps.
const MOST_WATERMARKS: usize = 4096;

/// How many rows wait, and for how long.
pub struct Limits {
    /// How many.
    pub rows: usize,
    /// How many bytes.
    pub bytes: usize,
    /// What becomes of those that are too many.
    pub when_full: WhenFull,
    /// After how many microseconds rows are given up.
    pub expires: Option<i64>,
}

/// The node.
pub struct Waiting {
    queue: Queue,
    limits: Limits,
    /// The column with the event time, if rows expire by that.
    event_time: Option<usize>,
    priority: Option<usize>,
    watermark: EventTime,
    /// Watermarks that are behind rows that wait, and the number of the row behind each.
    watermarks: VecDeque<(i64, EventTime)>,
    /// The last one that no row waits before.
    come: Option<EventTime>,
    /// Of the last rows.
    origin: Option<Origin>,
    clock: Clock,
}

/// What is kept besides the rows.
#[derive(Serialize, Deserialize)]
struct Kept {
    watermark: EventTime,
    watermarks: VecDeque<(i64, EventTime)>,
    come: Option<EventTime>,
    origin: Option<Origin>,
}

/// The part of a state with what is [`Kept`].
const KEPT: &str = "time";

/// The port of rows that are dropped.
const DROPPED: usize = 1;

impl Waiting {
    /// One for rows of these columns, of which nothing has come. `memory` says how many bytes may be in memory.
    pub fn new(
        schema: &Schema,
        memory: usize,
        limits: Limits,
        event_time: Option<usize>,
        priority: Option<usize>,
    ) -> Self {
        Self {
            queue: Queue::new(schema, memory),
            limits,
            event_time,
            priority,
            watermark: EventTime::MIN,
            watermarks: VecDeque::new(),
            come: None,
            origin: None,
            clock: Clock::new(),
        }
    }

    /// The port of rows that are given up.
    fn expired(&self) -> usize {
        if self.limits.when_full == WhenFull::Wait { DROPPED } else { DROPPED + 1 }
    }

    /// Rows that can be kept.
    fn usable(&mut self, batch: Batch, out: &mut Collector) -> Result<RecordBatch> {
        self.origin = Some(batch.origin.clone());
        match self.event_time {
            Some(column) => refuse_timeless(batch, column, out).map(|batch| batch.rows),
            None => Ok(batch.rows),
        }
    }

    fn push(&self, port: usize, rows: RecordBatch, out: &mut Collector) {
        if let Some(origin) = &self.origin {
            out.push(port, Batch::new(rows, origin.clone()));
        }
    }

    /// Lets rows leave; of those that go by event time, some are given up.
    fn leave(&self, rows: RecordBatch, out: &mut Collector) -> Result<()> {
        let Some((column, span)) = self.event_time.zip(self.limits.expires) else {
            self.push(0, rows, out);
            return Ok(());
        };
        let times = rows.column(column).as_primitive::<TimestampMicrosecondType>().values();
        let is_over: BooleanArray =
            times.iter().map(|time| Some(time.saturating_add(span) <= self.watermark)).collect();
        if is_over.true_count() == 0 {
            self.push(0, rows, out);
            return Ok(());
        }
        self.push(self.expired(), filter_record_batch(&rows, &is_over)?, out);
        self.push(0, filter_record_batch(&rows, &not(&is_over)?)?, out);
        Ok(())
    }

    fn keep(&mut self, rows: &RecordBatch) -> Result<()> {
        let priorities = self.priority.map(|column| priorities(rows.column(column))).transpose()?;
        let since: ArrayRef = Arc::new(Int64Array::from_value(self.clock.now(), rows.num_rows()));
        self.queue.push(rows, priorities.as_deref(), since)
    }

    /// Drops the rows that have waited longest, as long as the node is full without the first of them.
    fn drop_oldest(&mut self, out: &mut Collector) -> Result<()> {
        loop {
            let too_many = self.queue.rows().saturating_sub(self.limits.rows);
            let too_large = self.queue.bytes().saturating_sub(self.limits.bytes);
            if too_many == 0 && too_large == 0 {
                return Ok(());
            }
            let count = |rows: &RecordBatch| too_many.max(rows_within(rows, too_large));
            let Some(rows) = self.queue.take_oldest(ANY, count)? else { return Ok(()) };
            self.push(DROPPED, rows, out);
        }
    }

    /// How many of the rows there is room for.
    fn room(&self, rows: &RecordBatch) -> usize {
        let bytes = rows_reaching(rows, self.limits.bytes.saturating_sub(self.queue.bytes()));
        bytes.min(self.limits.rows.saturating_sub(self.queue.rows()))
    }

    /// Event time comes along to the rows that wait.
    fn move_time(&mut self) {
        let oldest = self.queue.oldest().map_or(i64::MAX, |(number, _)| number);
        while let Some((_, at)) = self.watermarks.pop_front_if(|(number, _)| *number <= oldest) {
            self.come = Some(at);
        }
    }

    /// The number of the row behind the next watermark.
    fn border(&self) -> i64 {
        self.watermarks.front().map_or(i64::MAX, |(number, _)| *number)
    }

    fn note_watermark(&mut self, at: EventTime) {
        let number = self.queue.next();
        match self.watermarks.back_mut() {
            Some((known, last)) if *known == number => *last = at,
            _ => self.watermarks.push_back((number, at)),
        }
        if self.watermarks.len() > MOST_WATERMARKS {
            let mut place = 0;
            self.watermarks.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.move_time();
    }
}

/// All rows.
const ANY: Until = Until { number: i64::MAX, since: i64::MAX };

impl Processor for Waiting {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let rows = self.usable(batch, out)?;
        self.leave(rows, out)
    }

    fn buffer(&mut self) -> Option<&mut dyn Buffer> {
        Some(self)
    }

    fn watermark(&mut self, at: EventTime, _: &mut Collector) -> Result<EventTime> {
        self.watermark = at;
        self.note_watermark(at);
        Ok(self.come.unwrap_or(EventTime::MIN))
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        self.queue.keep(&mut parts)?;
        let Self { watermark, watermarks, come, origin, .. } = self;
        let (watermarks, origin) = (watermarks.clone(), origin.clone());
        parts.put_later(KEPT, Kept { watermark: *watermark, watermarks, come: *come, origin });
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let kept: Kept = state.get(KEPT)?;
        (self.watermark, self.watermarks, self.come, self.origin) =
            (kept.watermark, kept.watermarks, kept.come, kept.origin);
        self.queue.restore(state)
    }

    fn report(&self) -> Option<Report> {
        let queue = &self.queue;
        let values = vec![
            ("rows", queue.rows().into()),
            ("bytes", queue.bytes().into()),
            ("bytes_on_disk", queue.bytes_on_disk().into()),
        ];
        Some(Report::Figures(Figures { title: "rows that wait".to_owned(), values }))
    }
}

impl Buffer for Waiting {
    fn open(&mut self, home: &Home) -> Result<()> {
        self.queue.open(home);
        Ok(())
    }

    fn take(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let rows = self.usable(batch, out)?;
        match self.limits.when_full {
            WhenFull::Wait => self.keep(&rows)?,
            WhenFull::DropOldest => {
                self.keep(&rows)?;
                self.drop_oldest(out)?;
            }
            WhenFull::DropNewest => {
                let room = self.room(&rows);
                self.keep(&rows.slice(0, room))?;
                self.push(DROPPED, rows.slice(room, rows.num_rows() - room), out);
            }
        }
        self.move_time();
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.queue.rows()
    }

    fn is_full(&self) -> bool {
        let is_full = || self.queue.rows() >= self.limits.rows || self.queue.bytes() >= self.limits.bytes;
        self.limits.when_full == WhenFull::Wait && is_full()
    }

    fn give(&mut self, rows: usize, out: &mut Collector) -> Result<usize> {
        let (mut given, come) = (0, self.come);
        while given < rows
            && self.come == come
            && let Some(next) = self.queue.take_next(rows - given, self.border())?
        {
            given += next.num_rows();
            self.leave(next, out)?;
            self.move_time();
        }
        Ok(given)
    }

    fn come(&self) -> Option<EventTime> {
        self.come
    }

    fn patience(&self) -> Option<Duration> {
        let (_, since) = self.queue.oldest()?;
        let span = self.limits.expires.filter(|_| self.event_time.is_none())?;
        let left = since.saturating_add(span).saturating_sub(self.clock.now());
        Some(Duration::from_micros(left.max(0) as u64))
    }

    fn expire(&mut self, rows: Option<usize>, out: &mut Collector) -> Result<usize> {
        let span = self.limits.expires.unwrap_or(i64::MAX);
        let since = rows.map_or_else(|| self.clock.now().saturating_sub(span), |_| i64::MAX);
        let (rows, mut expired, come) = (rows.unwrap_or(usize::MAX), 0, self.come);
        while expired < rows && self.come == come {
            let until = Until { number: self.border(), since };
            let Some(next) = self.queue.take_oldest(until, |_| rows - expired)? else { break };
            expired += next.num_rows();
            self.push(self.expired(), next, out);
            self.move_time();
        }
        Ok(expired)
    }
}
