//! The loop of a live input whose rows are gone through again: in the order in which they came, with barriers where they
//! were.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Batch, Collector, Error, FailedRow, Input, PartitionChange, Progress, Result};
use tokio::time::timeout;

use super::Stop;
use super::epoch_writer::{EpochWriter, Unsent};
use super::input_batch::rows_before;
use crate::checkpoint::InputEvent;

/// How long nothing comes of an input until its rows are taken for gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes every step, then ends.
pub async fn replay_input(
    input: &mut dyn Input,
    writer: &mut EpochWriter<'_>,
    mut replay: VecDeque<InputEvent>,
    out: &mut Collector,
) -> Result<(), Stop> {
    let mut waiting: HashMap<Arc<str>, Waiting> = HashMap::new();
    while let Some(step) = replay.pop_front() {
        match step {
            InputEvent::Rows(partition, to) => replay_rows(input, writer, (&partition, to), &mut waiting, out).await?,
            InputEvent::Turns(turns) => {
                for rows in turns.rows() {
                    replay_rows(input, writer, rows, &mut waiting, out).await?;
                }
            }
            InputEvent::Barrier => writer.end_epoch(input).await?,
            InputEvent::Idle(partitions) => writer.fall_idle(&partitions).await?,
            InputEvent::Added(partition, locator) => {
                let partition: Arc<str> = partition.into();
                // Of those without rows nothing need be left.
                if replay.iter().any(|step| step.has_rows_of(&partition)) {
                    input.locate(&partition, &locator)?;
                }
                writer.change_partition(PartitionChange::Added { partition, locator });
            }
            InputEvent::Gone(partition) => {
                waiting.remove(partition.as_str());
                writer.change_partition(PartitionChange::Gone(partition.into()));
            }
        }
    }
    writer.end_now().await
}

/// Sends the rows of a partition up to a position.
async fn replay_rows(
    input: &mut dyn Input,
    writer: &mut EpochWriter<'_>,
    (partition, to): (&str, u64),
    waiting: &mut HashMap<Arc<str>, Waiting>,
    out: &mut Collector,
) -> Result<(), Stop> {
    let mut progress = Progress::More;
    while waiting.get(partition).is_none_or(|rows| rows.end < to) {
        if progress != Progress::More {
            return Err(gone(partition, to).into());
        }
        let next = timeout(PATIENCE, input.next(out)).await;
        progress = next.map_err(|_| gone(partition, to))??;
        // They are told by the replay log, too.
        out.take_partitions();
        sort(out, waiting);
    }
    let Some(rows) = waiting.get_mut(partition) else { return Ok(()) };
    let (batches, failed) = rows.take(to);
    writer.send_all(input, &mut Unsent::of(batches, failed)).await
}

fn gone(partition: &str, to: u64) -> Error {
    Error::new(format!("the rows before {to} of partition `{partition}` can't be read any more"))
}

/// Rows of a partition that have come before it is their turn.
#[derive(Default)]
struct Waiting {
    batches: VecDeque<(usize, Batch)>,
    failed: Vec<FailedRow>,
    /// The position behind the last of them.
    end: u64,
}

impl Waiting {
    /// Those before a position.
    fn take(&mut self, to: u64) -> (Vec<(usize, Batch)>, Vec<FailedRow>) {
        let failed: Vec<_> = self.failed.extract_if(.., |row| row.position < Some(to)).collect();
        let mut taken = Vec::new();
        while let Some((port, batch)) = self.batches.pop_front_if(|(_, batch)| batch.origin.start < to) {
            if batch.origin.end <= to {
                taken.push((port, batch));
                continue;
            }
            let start = batch.origin.start;
            let refused = failed.iter().filter(|row| row.position >= Some(start)).count();
            let rows = rows_before(&batch, to, refused);
            let (head, tail) = batch.cut(rows, to);
            taken.push((port, head));
            self.batches.push_front((port, tail));
        }
        (taken, failed)
    }
}

/// Sorts what has come by partitions.
fn sort(out: &mut Collector, waiting: &mut HashMap<Arc<str>, Waiting>) {
    for (port, batch) in out.take_all() {
        let rows = waiting.entry(batch.origin.partition.clone()).or_default();
        rows.end = batch.origin.end;
        rows.batches.push_back((port, batch));
    }
    for row in out.take_failed() {
        let rows = waiting.entry(row.partition.clone()).or_default();
        rows.end = rows.end.max(row.position.map_or(0, |position| position + 1));
        rows.failed.push(row);
    }
}
