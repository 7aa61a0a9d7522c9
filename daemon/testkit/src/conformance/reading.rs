//! Reads an input as the engine does, interrupted or not, and asks it for snapshots.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use millstream_core::{
    Batch, Collector, FailedRow, Home, Input, InputPlan, Intake, PartitionChange, Positions, Progress, State,
};
use tokio::time::timeout;

use super::folder::Folder;
use super::inputs::Source;
use crate::rows_as_text;

/// How long an input may take for its next rows.
const PATIENCE: Duration = Duration::from_secs(30);

/// A row that came, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub partition: Arc<str>,
    pub position: u64,
    pub row: Result<String, String>,
    pub has_null: bool,
}

/// What it takes to go on from somewhere.
pub(super) struct Kept {
    pub positions: Positions,
    pub state: State,
    /// How many entries lie before it.
    pub before: usize,
}

/// When `next` is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    /// Never.
    Whole,
    /// At each place at which it waits, before it is called again.
    Interrupted,
}

/// An input that is being read.
pub(super) struct Reading<'a> {
    source: &'a Source,
    folder: &'a Folder,
    /// By output port.
    schemas: Vec<SchemaRef>,
    batch_rows: usize,
    /// Whether it ends, and whether it has.
    finite: bool,
    ended: bool,
    input: Box<dyn Input>,
    intake: Option<Arc<dyn Intake>>,
    out: Collector,
    positions: Positions,
    pub entries: Vec<Entry>,
    /// The partitions that the input has told of, and their locators.
    pub added: BTreeMap<Arc<str>, String>,
}

impl<'a> Reading<'a> {
    /// Builds an input, and resumes it where it was.
    pub(super) fn new(
        source: &'a Source,
        folder: &'a Folder,
        plan: InputPlan,
        batch_rows: usize,
        kept: Option<&Kept>,
    ) -> Self {
        let schemas: Vec<_> = plan.ports.iter().map(|port| port.schema.clone()).collect();
        let (finite, ended) = (plan.finite, false);
        let mut input = folder.unchanged("building an input", || (plan.build)().unwrap());
        let mut positions = Positions::new();
        if let Some(Kept { positions: before, state, .. }) = kept {
            let restored = folder.unchanged("restoring an input", || input.restore(before, state));
            restored.unwrap_or_else(|error| panic!("{source:?}: it does not go on from {before:?}: {error}"));
            positions = before.clone();
        }
        let intake = input.intake();
        let (out, entries, added) = (Collector::of_input(schemas.len()), Vec::new(), BTreeMap::new());
        Self { source, folder, schemas, batch_rows, finite, ended, input, intake, out, positions, entries, added }
    }

    pub(super) async fn open(mut self, home: &Home) -> Self {
        let opened = self.input.open(home).await;
        opened.unwrap_or_else(|error| panic!("{:?} in {home:?}: {error}", self.source));
        self
    }

    pub(super) fn input(&mut self) -> &mut dyn Input {
        self.input.as_mut()
    }

    /// Reads until so many rows have come, or the end, and that there are no more. Snapshots are taken wherever the engine may.
    pub(super) async fn read_all(&mut self, count: usize, calls: Calls, mut kept: Option<&mut Vec<Kept>>) {
        self.keep(&mut kept);
        while self.entries.len() < count {
            if self.next(calls, &mut kept).await != Progress::More {
                break;
            }
        }
        let (came, what) = (self.entries.len(), self.source);
        assert_eq!(came, count, "{what:?}: other rows than the sample says, {calls:?}: {:?}", self.entries);
        // What ends has to say so. What is live waits now.
        while !self.ended {
            let progress = if self.finite {
                Some(self.next(calls, &mut kept).await)
            } else {
                polled(self.input.next(&mut self.out), 0, || {}).await.map(Result::unwrap)
            };
            self.take(&mut kept);
            assert_eq!(self.entries.len(), count, "{what:?}: more rows than the sample says: {:?}", self.entries);
            self.ended |= progress != Some(Progress::More);
        }
    }

    /// What comes with the next call.
    pub(super) async fn next(&mut self, calls: Calls, kept: &mut Option<&mut Vec<Kept>>) -> Progress {
        let mut waits = if calls == Calls::Whole { usize::MAX } else { 0 };
        loop {
            let (source, folder, intake) = (self.source, self.folder, self.intake.as_ref());
            let complete = || source.complete(folder, intake);
            let progress = timeout(PATIENCE, polled(self.input.next(&mut self.out), waits, complete)).await;
            match progress.unwrap_or_else(|_| panic!("{source:?}: no row comes behind {:?}", self.positions)) {
                Some(progress) => {
                    let progress = progress.unwrap_or_else(|error| panic!("{source:?}: {error}"));
                    self.take(kept);
                    self.ended |= progress == Progress::End;
                    return progress;
                }
                None => {
                    // An epoch may end here.
                    self.keep(kept);
                    waits += 1;
                }
            }
        }
    }

    /// Takes what was pushed, as the engine does.
    fn take(&mut self, kept: &mut Option<&mut Vec<Kept>>) {
        for change in self.out.take_partitions() {
            if let PartitionChange::Added { partition, locator } = change {
                let before = self.added.insert(partition.clone(), locator);
                assert_eq!(before, None, "{:?}: two partitions are called `{partition}`", self.source);
            }
        }
        let mut refused = self.out.take_failed();
        for (port, batch) in self.out.take_all().collect::<Vec<_>>() {
            self.check(port, &batch);
            let (partition, end) = (batch.origin.partition.clone(), batch.origin.end);
            let is_before = |row: &mut FailedRow| row.partition == partition && row.position < Some(end);
            let before = refused.extract_if(.., is_before).collect();
            let entries = merged(&batch, before);
            let first = entries.first().map_or(batch.origin.start, |entry| entry.position.min(batch.origin.start));
            self.positions.entry(partition.clone()).or_insert(first);
            self.keep(kept);
            for entry in entries {
                self.come_to(entry, kept);
            }
            self.positions.insert(partition, end);
            self.keep(kept);
        }
        for row in refused {
            self.come_to(entry_of(row), kept);
        }
    }

    fn come_to(&mut self, entry: Entry, kept: &mut Option<&mut Vec<Kept>>) {
        let next = entry.position + 1;
        let known = self.positions.entry(entry.partition.clone()).or_insert(entry.position);
        assert!(*known <= entry.position, "{:?}: {entry:?} comes behind position {known}", self.source);
        *known = next;
        self.entries.push(entry);
        self.keep(kept);
    }

    /// What the input keeps if an epoch ends here.
    fn keep(&mut self, kept: &mut Option<&mut Vec<Kept>>) {
        if let Some(kept) = kept {
            let (positions, before) = (self.positions.clone(), self.entries.len());
            let state = self.input.snapshot(&positions).and_then(millstream_core::Parts::into_state);
            let state =
                state.unwrap_or_else(|error| panic!("{:?}: no snapshot at {positions:?}: {error}", self.source));
            kept.push(Kept { positions, state, before });
        }
    }

    fn check(&self, port: usize, batch: &Batch) {
        let (what, schema) = (self.source, &self.schemas[port]);
        assert_eq!(batch.rows.schema(), *schema, "{what:?}: other columns than those of the plan");
        for (field, column) in schema.fields().iter().zip(batch.rows.columns()) {
            assert!(field.is_nullable() || column.null_count() == 0, "{what:?}: nulls in `{}`", field.name());
        }
        assert!(batch.len() <= self.batch_rows, "{what:?}: {} rows in a batch of {}", batch.len(), self.batch_rows);
        assert_eq!(&*batch.origin.source, "node", "{what:?}: rows of another input");
    }
}

/// The rows of a batch, and those that were refused between them.
fn merged(batch: &Batch, refused: Vec<FailedRow>) -> Vec<Entry> {
    let mut entries: Vec<_> = refused.into_iter().map(entry_of).collect();
    let skipped: Vec<u64> = entries.iter().map(|entry| entry.position).collect();
    let following =
        || (batch.origin.start..).filter(|position| !skipped.contains(position)).take(batch.len()).collect();
    let positions = batch.positions().map_or_else(following, <[u64]>::to_vec);
    for (row, position) in positions.into_iter().enumerate() {
        let rows = batch.rows.slice(row, 1);
        let has_null = rows.columns().iter().any(|column| column.null_count() > 0);
        let (partition, row) = (batch.origin.partition.clone(), Ok(rows_as_text([&rows])));
        entries.push(Entry { partition, position, row, has_null });
    }
    entries.sort_by_key(|entry| entry.position);
    entries
}

fn entry_of(row: FailedRow) -> Entry {
    assert_eq!(&*row.source, "node", "a refused row of another input");
    let position = row.position.unwrap_or_else(|| panic!("a refused row without a position: {row:?}"));
    assert!(!row.error.is_empty(), "a row is refused without a word: {row:?}");
    Entry { partition: row.partition, position, row: Err(format!("{}: {}", row.error, row.row)), has_null: false }
}

/// Waits until it is ready, or has waited more than so many times. Says when it waits.
async fn polled<T>(future: impl Future<Output = T>, mut waits: usize, mut waiting: impl FnMut()) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = future.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        waiting();
        if waits == 0 {
            return Poll::Ready(None);
        }
        waits -= 1;
        Poll::Pending
    })
    .await
}
