//! Adaptive batching: what comes while others are computed is computed together behind them, and everybody gets their own rows back.
//!
//! Nobody waits for company: a request that finds a free place is computed at once. The more come at the same time, the larger batches
//! get, until one would take longer than the limit; how long that is follows from the batches before.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use millstream_core::{Error, Result as CoreResult};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::refusal::{Reason, Refusal};

/// Predicts rows. What it gives for a row must not depend on the rows beside it.
pub trait Predict: Send + Sync + 'static {
    /// A value for every row, in each of some columns.
    fn predict(&self, rows: &RecordBatch) -> CoreResult<Vec<ArrayRef>>;
}

/// What bounds batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// How many rows of several requests are computed together at most.
    pub rows: usize,
    /// How long computing them may take.
    pub latency: Duration,
    /// How many rows may wait. Requests behind these are refused.
    pub waiting: usize,
    /// How many batches are computed at a time.
    pub places: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        let places = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self { rows: 1024, latency: Duration::from_millis(5), waiting: 1 << 16, places }
    }
}

/// What a request gets back.
#[derive(Clone, Debug)]
pub struct Batched {
    /// The values of its rows, in their order.
    pub columns: Vec<ArrayRef>,
    /// How long it has waited for others.
    pub waited: Duration,
    /// How long it was computed.
    pub took: Duration,
}

/// Computes what comes at the same time together.
#[derive(Debug)]
pub struct Batcher<P> {
    predictor: P,
    limits: BatchLimits,
    queue: Mutex<Queue>,
}

/// What is to be computed, and what is being computed.
#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many rows wait.
    rows: usize,
    /// How many places are taken.
    taken: usize,
    /// How long a row takes, by the batches before.
    nanos_per_row: f64,
}

/// A request that waits.
#[derive(Debug)]
struct Waiting {
    rows: RecordBatch,
    since: Instant,
    answer: oneshot::Sender<Result<Batched, Refusal>>,
}

/// How a request is computed.
enum Turn {
    /// At once, by whoever has come.
    Now(RecordBatch),
    /// When it is told.
    Later(oneshot::Receiver<Result<Batched, Refusal>>),
}

/// What takes longer is computed where it holds up nobody.
const SHORT: Duration = Duration::from_millis(1);

/// How much the last batch counts in how long a row takes.
const NEWS: f64 = 0.2;

/// How long a row takes before one was computed.
const FIRST_NANOS: f64 = 1000.0;

impl<P: Predict> Batcher<P> {
    /// Nothing waits yet.
    pub fn new(predictor: P, limits: BatchLimits) -> Self {
        let queue = Queue { waiting: VecDeque::new(), rows: 0, taken: 0, nanos_per_row: FIRST_NANOS };
        Self { predictor, limits, queue: Mutex::new(queue) }
    }

    /// What predicts.
    pub fn predictor(&self) -> &P {
        &self.predictor
    }

    /// Predicts rows, perhaps together with others.
    ///
    /// # Errors
    /// If too many wait, or it can't be computed.
    pub async fn predict(self: &Arc<Self>, rows: RecordBatch) -> Result<Batched, Refusal> {
        match self.enter(rows)? {
            Turn::Now(rows) => {
                let computed = self.compute(&rows);
                self.go_on();
                let (columns, took) = computed?;
                Ok(Batched { columns, waited: Duration::ZERO, took })
            }
            Turn::Later(answer) => answer.await.unwrap_or_else(|_| Err(defect())),
        }
    }

    fn enter(self: &Arc<Self>, rows: RecordBatch) -> Result<Turn, Refusal> {
        let mut queue = self.queue();
        let has_place = queue.taken < self.limits.places;
        if has_place && queue.expected(rows.num_rows()) <= SHORT {
            queue.taken += 1;
            return Ok(Turn::Now(rows));
        }
        if queue.rows > 0 && queue.rows + rows.num_rows() > self.limits.waiting {
            let message = format!("{} rows wait already; come again a little later", queue.rows);
            return Err(Refusal { reason: Reason::Overloaded, message });
        }
        let (answer, answered) = oneshot::channel();
        queue.rows += rows.num_rows();
        queue.waiting.push_back(Waiting { rows, since: Instant::now(), answer });
        if has_place {
            queue.taken += 1;
            drop(queue);
            self.work();
        }
        Ok(Turn::Later(answered))
    }

    /// Gives a place up that was taken, or has those computed there who wait.
    fn go_on(self: &Arc<Self>) {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            queue.taken -= 1;
        } else {
            drop(queue);
            self.work();
        }
    }

    /// Computes who waits, at a place that was taken, until nobody does.
    fn work(self: &Arc<Self>) {
        let batcher = self.clone();
        tokio::spawn(async move {
            while let Some((batch, expected)) = batcher.next_batch() {
                if expected <= SHORT {
                    batcher.answer(batch);
                    continue;
                }
                let own = batcher.clone();
                // It answers, whatever happens: nobody is left waiting.
                let _ = spawn_blocking(move || own.answer(batch)).await;
            }
        });
    }

    /// Who is computed next, and how long that may take. If there is none, the place is given up.
    fn next_batch(&self) -> Option<(Vec<Waiting>, Duration)> {
        let mut queue = self.queue();
        let most = (self.limits.latency.as_nanos() as f64 / queue.nanos_per_row) as usize;
        let most = most.clamp(1, self.limits.rows);
        let (mut batch, mut rows) = (Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            let more = next.rows.num_rows();
            if rows > 0 && rows + more > most {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            queue.rows -= more;
            // Who has left gets no answer.
            if !next.answer.is_closed() {
                rows += more;
                batch.push(next);
            }
        }
        if batch.is_empty() {
            queue.taken -= 1;
            return None;
        }
        Some((batch, queue.expected(rows)))
    }

    /// Computes a batch, and gives everybody their own.
    fn answer(&self, batch: Vec<Waiting>) {
        let begun = Instant::now();
        let computed = self.compute_together(&batch);
        let mut from = 0;
        for Waiting { rows, since, answer } in batch {
            let rows = rows.num_rows();
            let own = computed.as_ref().map(|(columns, took)| {
                let columns = columns.iter().map(|column| column.slice(from, rows)).collect();
                Batched { columns, waited: begun.saturating_duration_since(since), took: *took }
            });
            from += rows;
            // Who has left gets no answer.
            let _ = answer.send(own.map_err(Clone::clone));
        }
    }

    fn compute_together(&self, batch: &[Waiting]) -> Result<(Vec<ArrayRef>, Duration), Refusal> {
        if let [only] = batch {
            return self.compute(&only.rows);
        }
        let schema = batch.first().map(|first| first.rows.schema()).ok_or_else(defect)?;
        let rows = concat_batches(&schema, batch.iter().map(|waiting| &waiting.rows));
        self.compute(&rows.map_err(|error| Refusal::internal(&error.into()))?)
    }

    fn compute(&self, rows: &RecordBatch) -> Result<(Vec<ArrayRef>, Duration), Refusal> {
        let begun = Instant::now();
        let columns = catch_unwind(AssertUnwindSafe(|| self.predictor.predict(rows))).map_err(|_| defect())?;
        let columns = columns.map_err(|error| Refusal::internal(&error))?;
        if columns.iter().any(|column| column.len() != rows.num_rows()) {
            return Err(defect());
        }
        let took = begun.elapsed();
        self.queue().note(rows.num_rows(), took);
        Ok((columns, took))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// How long so many rows may take.
    fn expected(&self, rows: usize) -> Duration {
        Duration::from_nanos((self.nanos_per_row * rows as f64) as u64)
    }

    /// Notes how long so many rows have taken.
    fn note(&mut self, rows: usize, took: Duration) {
        let per_row = took.as_nanos() as f64 / rows.max(1) as f64;
        self.nanos_per_row = (self.nanos_per_row * (1.0 - NEWS) + per_row * NEWS).max(1.0);
    }
}

fn defect() -> Refusal {
    Refusal::internal(&Error::new("a defect of the program: it panicked over these rows"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use arrow::array::Int64Array;
    use arrow::array::cast::AsArray as _;
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn rows(ids: &[i64]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        RecordBatch::try_from_iter([("id", ids)]).unwrap()
    }

    fn answer_to(ids: &[i64]) -> Vec<i64> {
        ids.iter().map(|id| id * 2 + 1).collect()
    }

    fn answered(batched: &Batched) -> Vec<i64> {
        batched.columns[0].as_primitive::<Int64Type>().values().to_vec()
    }

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()
    }

    /// Answers with what says which row it was asked about, and notes how many rows came together.
    #[derive(Debug, Default)]
    struct Echo(Mutex<Vec<usize>>);

    impl Predict for Echo {
        fn predict(&self, rows: &RecordBatch) -> CoreResult<Vec<ArrayRef>> {
            self.0.lock().unwrap().push(rows.num_rows());
            let ids = rows.column(0).as_primitive::<Int64Type>().values();
            Ok(vec![Arc::new(Int64Array::from(answer_to(ids)))])
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn everybody_gets_their_own_rows_back(
            requests in prop::collection::vec((prop::collection::vec(any::<i32>(), 0..24), any::<bool>()), 1..48),
            rows_of_a_batch in 1_usize..64,
            places in 1_usize..3,
            latency in 1_u64..100_000,
        ) {
            let limits = BatchLimits { rows: rows_of_a_batch, latency: Duration::from_nanos(latency), waiting: 1 << 16, places };
            let batcher = Arc::new(Batcher::new(Echo::default(), limits));
            runtime().block_on(async {
                let ask = |(ids, leaves): &(Vec<i32>, bool)| {
                    let ids: Vec<i64> = ids.iter().copied().map(i64::from).collect();
                    let batcher = batcher.clone();
                    let asking = { let ids = ids.clone(); tokio::spawn(async move { batcher.predict(rows(&ids)).await }) };
                    // Some leave without an answer.
                    if *leaves { asking.abort() }
                    (ids, asking)
                };
                let asked: Vec<_> = requests.iter().map(ask).collect();
                for (ids, asking) in asked {
                    let Ok(got) = asking.await else { continue };
                    assert_eq!(answered(&got.unwrap()), answer_to(&ids));
                }
            });
            let queue = batcher.queue();
            prop_assert_eq!((queue.waiting.len(), queue.rows), (0, 0));
        }
    }

    /// Computes its first batch only when it is told to.
    #[derive(Debug)]
    struct Gated {
        gate: Mutex<Receiver<()>>,
        echo: Echo,
    }

    impl Predict for Gated {
        fn predict(&self, rows: &RecordBatch) -> CoreResult<Vec<ArrayRef>> {
            // Open once its other end is gone.
            let _ = self.gate.lock().unwrap().recv();
            self.echo.predict(rows)
        }
    }

    #[test]
    fn what_comes_meanwhile_is_computed_together() {
        let (open, gate) = channel();
        let limits = BatchLimits { rows: 8, latency: Duration::from_secs(3600), waiting: 12, places: 1 };
        let gated = Gated { gate: Mutex::new(gate), echo: Echo::default() };
        let batcher = Arc::new(Batcher::new(gated, limits));
        runtime().block_on(async {
            let ask = |id: i64| {
                let batcher = batcher.clone();
                tokio::spawn(async move { (id, batcher.predict(rows(&[id, id])).await) })
            };
            let mut asked = vec![ask(0)];
            while batcher.queue().taken == 0 {
                tokio::task::yield_now().await;
            }
            asked.extend((1..7).map(ask));
            while batcher.queue().waiting.len() < 6 {
                tokio::task::yield_now().await;
            }
            let refused = batcher.predict(rows(&[9])).await.unwrap_err();
            assert_eq!(
                (refused.reason, refused.message.as_str()),
                (Reason::Overloaded, "12 rows wait already; come again a little later")
            );
            drop(open);
            for asked in asked {
                let (id, got) = asked.await.unwrap();
                assert_eq!(answered(&got.unwrap()), answer_to(&[id, id]));
            }
        });
        assert_eq!(*batcher.predictor().echo.0.lock().unwrap(), [2, 8, 4]);
    }

    /// Panics at a row.
    #[derive(Debug)]
    struct Fragile;

    impl Predict for Fragile {
        fn predict(&self, rows: &RecordBatch) -> CoreResult<Vec<ArrayRef>> {
            assert!(!rows.column(0).as_primitive::<Int64Type>().values().contains(&13), "unlucky");
            Echo::default().predict(rows)
        }
    }

    #[test]
    fn a_panic_is_an_answer_and_takes_no_place() {
        let batcher = Arc::new(Batcher::new(Fragile, BatchLimits { places: 1, ..BatchLimits::default() }));
        runtime().block_on(async {
            assert_eq!(batcher.predict(rows(&[13])).await.unwrap_err().reason, Reason::Internal);
            assert_eq!(answered(&batcher.predict(rows(&[1])).await.unwrap()), [3]);
        });
        assert_eq!(batcher.queue().taken, 0);
    }
}
