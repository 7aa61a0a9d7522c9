//! Rows on their way, for those who look at them while the flow runs. As long as nobody does, it costs a load of a counter for each batch.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use millstream_core::{Batch, Origin, write_json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// How many rows of a batch are shown.
const SHOWN: usize = 20;

/// How often rows are shown at most: more than anybody can read.
const PACE: Duration = Duration::from_millis(100);

/// How many samples somebody may be behind who looks.
const BEHIND: usize = 16;

/// Where rows that leave a node by a port can be looked at.
#[derive(Debug)]
pub struct Tap {
    watchers: AtomicUsize,
    /// Rows that were not shown since the last ones that were.
    passed: AtomicU64,
    next: Mutex<Instant>,
    samples: broadcast::Sender<Arc<Sample>>,
}

/// Rows that have passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The first rows of a batch, each a JSON object.
    pub rows: Vec<String>,
    /// Where the batch is from.
    pub origin: Origin,
    /// How many rows have passed since the sample before, or since somebody looks, and are not shown.
    pub passed: u64,
}

/// Somebody who looks. Nothing is shown any more when it is dropped.
#[derive(Debug)]
pub struct TapWatcher {
    tap: Arc<Tap>,
    samples: broadcast::Receiver<Arc<Sample>>,
}

impl Default for Tap {
    fn default() -> Self {
        Self {
            watchers: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
            next: Mutex::new(Instant::now()),
            samples: broadcast::Sender::new(BEHIND),
        }
    }
}

impl Tap {
    /// Looks from now on.
    pub fn watch(self: &Arc<Self>) -> TapWatcher {
        let samples = self.samples.subscribe();
        if self.watchers.fetch_add(1, Ordering::Relaxed) == 0 {
            self.passed.store(0, Ordering::Relaxed);
        }
        TapWatcher { tap: self.clone(), samples }
    }

    /// Shows some rows of a batch that passes, if somebody looks and the last ones were not shown just now.
    pub(crate) fn offer(&self, batch: &Batch) {
        if self.watchers.load(Ordering::Relaxed) == 0 {
            return;
        }
        if !self.is_due() {
            self.passed.fetch_add(batch.len() as u64, Ordering::Relaxed);
            return;
        }
        let rows = lines(&batch.rows.slice(0, batch.len().min(SHOWN)));
        let passed = self.passed.swap((batch.len() - rows.len()) as u64, Ordering::Relaxed);
        // Nobody may look any more.
        let _ = self.samples.send(Arc::new(Sample { rows, origin: batch.origin.clone(), passed }));
    }

    fn is_due(&self) -> bool {
        let (mut next, now) = (self.next.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let is_due = *next <= now;
        if is_due {
            *next = now + PACE;
        }
        is_due
    }
}

impl TapWatcher {
    /// The next rows. None come any more when the run has ended. Cancel safe.
    pub async fn next(&mut self) -> Arc<Sample> {
        loop {
            match self.samples.recv().await {
                Ok(sample) => return sample,
                // What was missed is of no interest any more.
                Err(RecvError::Lagged(_)) => {}
                // The tap is held here, and so is the sender.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

impl Drop for TapWatcher {
    fn drop(&mut self) {
        self.tap.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Rows as JSON. Those that can't be written so are left out.
fn lines(rows: &RecordBatch) -> Vec<String> {
    let mut bytes = Vec::new();
    let written = write_json(rows, &mut bytes).is_ok();
    let text = String::from_utf8(bytes).unwrap_or_default();
    text.lines().filter(|_| written).map(str::to_owned).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batch(rows: std::ops::Range<i64>) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let origin = Origin::new("numbers", "", rows.start as u64, rows.end as u64);
        let column = Arc::new(Int64Array::from_iter_values(rows));
        Batch::new(RecordBatch::try_new(schema, vec![column]).unwrap(), origin)
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_shown_to_those_who_look_and_not_faster_than_they_can_read() {
        let tap = Arc::new(Tap::default());
        tap.offer(&batch(0..5));
        let mut watcher = tap.watch();
        tap.offer(&batch(5..30));
        tap.offer(&batch(30..35));
        let first = watcher.next().await;
        assert_eq!((first.rows.len(), first.passed), (20, 0));
        assert_eq!((first.rows[0].as_str(), first.origin.clone()), ("{\"n\":5}", batch(5..30).origin));
        tokio::time::sleep(PACE).await;
        tap.offer(&batch(35..36));
        let second = watcher.next().await;
        assert_eq!((second.rows.as_slice(), second.passed), (&["{\"n\":35}".to_owned()][..], 10));
        drop(watcher);
        assert_eq!(tap.watchers.load(Ordering::Relaxed), 0);
        tap.offer(&batch(36..37));
        drop(tap.watch());
    }
}
