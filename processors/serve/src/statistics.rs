//! What a version has done so far, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration as Time, SystemTime, UNIX_EPOCH};

/// How often something was done, and how long it took altogether.
#[derive(Debug, Default)]
pub struct Duration {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Duration {
    /// Counts once more.
    pub fn add(&self, took: Time) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many nanoseconds.
    pub fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }
}

/// The figures of a version.
#[derive(Debug, Default)]
pub struct Figures {
    /// Requests that were answered.
    pub success: Duration,
    /// Requests that were refused.
    pub fail: Duration,
    /// How long requests have waited for others.
    pub queue: Duration,
    /// Reading what was sent.
    pub input: Duration,
    /// Predicting.
    pub infer: Duration,
    /// Writing what is answered.
    pub output: Duration,
    rows: AtomicU64,
    batches: AtomicU64,
    same: AtomicU64,
    other: AtomicU64,
    not_compared: AtomicU64,
    logged: AtomicU64,
    not_logged: AtomicU64,
    labelled: AtomicU64,
    last: AtomicU64,
}

impl Figures {
    /// Counts a batch of rows.
    pub fn predicted(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts rows that another version has answered, and for which this one says the same, or something else.
    pub fn compared(&self, same: usize, other: usize) {
        self.same.fetch_add(same as u64, Ordering::Relaxed);
        self.other.fetch_add(other as u64, Ordering::Relaxed);
    }

    /// Counts rows that another version has answered, and this one could not predict.
    pub fn not_compared(&self, rows: usize) {
        self.not_compared.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// How many rows another version has answered for which this one says the same, something else, and nothing.
    pub fn comparison(&self) -> [u64; 3] {
        [&self.same, &self.other, &self.not_compared].map(|rows| rows.load(Ordering::Relaxed))
    }

    /// Counts rows that were predicted while there is a log of requests, and are in it or are not.
    pub fn logged(&self, rows: usize, are_there: bool) {
        let count = if are_there { &self.logged } else { &self.not_logged };
        count.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Counts labels that were taken while this version was the one that is served.
    pub fn labelled(&self, rows: usize) {
        self.labelled.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// How many rows have come into the log of requests, should have, and have got a label.
    pub fn log(&self) -> [u64; 3] {
        [&self.logged, &self.not_logged, &self.labelled].map(|rows| rows.load(Ordering::Relaxed))
    }

    /// Notes that a request was answered now.
    #[expect(clippy::disallowed_methods, reason = "it is for people, and decides nothing")]
    pub fn answered_now(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many rows were predicted.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// In how many batches.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// When the last request was answered, in milliseconds since 1970; 0 if none was.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}
