//! The loop of an input: reads batches, and cuts them where watermarks move and epochs end.

use std::sync::Arc;
use std::time::Duration;

use arrow::compute::{filter_record_batch, not};
use millstream_core::{
    Batch, Encoding, Epoch, Error, FailedRow, Input, Message, Origin, PartitionChange, Progress, json_row, timeless,
    why_timeless,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::{Phase, Ports, Stop, reached};
use crate::gate::Gate;

/// Where the epochs of an input end.
#[derive(Debug)]
pub struct Borders {
    /// After so many rows.
    pub rows: usize,
    /// Live inputs: after this time at the latest.
    pub interval: Option<Duration>,
    /// The last border that any input has come to. A live input ends its epoch as soon as another one has: nodes that
    /// read both wait until both have.
    pub last: watch::Sender<Epoch>,
}

/// Runs an input to its end, or until the flow is stopped.
pub async fn run_input(
    mut input: Box<dyn Input>,
    ports: Ports,
    gate: Arc<Gate>,
    borders: Borders,
    clock: Option<Clock>,
    mut phase: watch::Receiver<Phase>,
) -> Result<(), Stop> {
    let epoch = tokio::select! {
        biased;
        () = reached(&mut phase, Phase::Draining) => return end(&ports, &phase).await,
        epoch = gate.opened() => epoch,
    };
    input.open().await?;
    let mut cutter = Cutter::new(&ports, epoch, borders, clock);
    let mut out = ports.collector();
    loop {
        let progress = tokio::select! {
            biased;
            () = reached(&mut phase, Phase::Draining) => return end(&ports, &phase).await,
            due = cutter.due() => {
                cutter.act(due).await?;
                continue;
            }
            progress = input.next(&mut out) => progress?,
        };
        out.take_partitions().into_iter().for_each(|change| cutter.change_partition(change));
        let mut failed = out.take_failed();
        let batches: Vec<Batch> = out.take(0).collect();
        for batch in batches {
            cutter.send(batch, &mut failed).await?;
        }
        cutter.send_failed(&failed).await?;
        if progress == Progress::End {
            return end(&ports, &phase).await;
        }
    }
}

async fn end(ports: &Ports, phase: &watch::Receiver<Phase>) -> Result<(), Stop> {
    if *phase.borrow() == Phase::Failing {
        return Err(Stop::Closed);
    }
    ports.check_failed()?;
    ports.broadcast(Message::End).await
}

/// Counts rows, and puts a border behind the last of every epoch and a watermark where it moves, wherever batches end.
struct Cutter<'a> {
    ports: &'a Ports,
    borders: Borders,
    epoch: Epoch,
    rows: usize,
    /// When the epoch ends, however few rows it has.
    due: Option<Instant>,
    clock: Option<Clock>,
}

/// What time asks for.
enum Due {
    /// The border of an epoch.
    Border,
    /// A look at partitions without rows.
    Idle,
}

impl<'a> Cutter<'a> {
    fn new(ports: &'a Ports, passed: Epoch, borders: Borders, clock: Option<Clock>) -> Self {
        let due = borders.interval.map(|interval| Instant::now() + interval);
        Self { ports, borders, epoch: passed.next(), rows: 0, due, clock }
    }

    /// Sends a batch, and takes those of the refused rows out of `failed` that lie before a cut in it.
    async fn send(&mut self, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<(), Stop> {
        let batch = Batch { rows: self.ports.canonical(0, batch.rows)?, origin: batch.origin };
        let mut rest = self.refuse_timeless(batch, failed)?;
        loop {
            let epoch_left = self.borders.rows - self.rows;
            let mark_left = self.clock.as_ref().map_or(usize::MAX, |clock| clock.rows_left(&rest.origin.partition));
            let left = epoch_left.min(mark_left);
            if rest.len() < left {
                return self.send_rows(rest).await;
            }
            let (head, tail) = cut(rest, left, failed);
            let (border, partition) = (head.origin.end, head.origin.partition.clone());
            self.send_rows(head).await?;
            let before: Vec<_> =
                failed.extract_if(.., |row| row.partition == partition && row.position < Some(border)).collect();
            self.send_failed(&before).await?;
            match left == epoch_left {
                true => self.end_epoch().await?,
                false => self.move_watermark().await?,
            }
            rest = tail;
        }
    }

    fn change_partition(&mut self, change: PartitionChange) {
        if let Some(clock) = &mut self.clock {
            clock.change(change);
        }
    }

    async fn move_watermark(&mut self) -> Result<(), Stop> {
        match self.clock.as_mut().and_then(Clock::advance) {
            Some(watermark) => self.ports.broadcast(Message::Watermark(watermark)).await,
            None => Ok(()),
        }
    }

    async fn end_epoch(&mut self) -> Result<(), Stop> {
        self.ports.check_failed()?;
        self.move_watermark().await?;
        self.ports.broadcast(Message::Barrier(self.epoch)).await?;
        self.borders.last.send_if_modified(|last| {
            let later = self.epoch > *last;
            *last = self.epoch.max(*last);
            later
        });
        (self.epoch, self.rows) = (self.epoch.next(), 0);
        self.due = self.borders.interval.map(|interval| Instant::now() + interval);
        Ok(())
    }

    /// Live inputs: waits until the epoch has taken long enough, or another input has ended it, or there is no use in
    /// waiting for the rows of a partition.
    async fn due(&self) -> Due {
        let Some(due) = self.due else { return std::future::pending().await };
        let mut last = self.borders.last.subscribe();
        let idle_at = self.clock.as_ref().and_then(Clock::idle_at);
        tokio::select! {
            () = sleep_until(due) => Due::Border,
            _ = last.wait_for(|last| *last >= self.epoch) => Due::Border,
            () = sleep_until(idle_at.unwrap_or(due)), if idle_at.is_some() => Due::Idle,
        }
    }

    async fn act(&mut self, due: Due) -> Result<(), Stop> {
        match (due, &self.clock) {
            (Due::Border, _) | (Due::Idle, None) => self.end_epoch().await,
            (Due::Idle, Some(_)) => {
                // What the partition has had since the last border counts, before it is no longer waited for.
                self.move_watermark().await?;
                self.clock.as_mut().map(Clock::fall_idle);
                self.move_watermark().await
            }
        }
    }

    /// Refuses the rows that have no event time, where they need one, or one that is out of this world.
    fn refuse_timeless(&self, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<Batch, Stop> {
        let Some(clock) = &self.clock else { return Ok(batch) };
        let Some(timeless) = timeless(&batch.rows, clock.column()) else { return Ok(batch) };
        let positions = positions(&batch, failed);
        for row in timeless.values().set_indices() {
            failed.push(FailedRow {
                error: why_timeless(&batch.rows, clock.column(), row),
                source: batch.origin.source.clone(),
                partition: batch.origin.partition.clone(),
                position: Some(positions[row]),
                row: json_row(&batch.rows, row)?,
                encoding: Encoding::Json,
            });
        }
        failed.sort_by_key(|row| row.position);
        let has_time = not(&timeless).map_err(Error::from)?;
        Ok(batch.with_rows(filter_record_batch(&batch.rows, &has_time).map_err(Error::from)?))
    }

    // Rows are counted here and not as they are read, so that a border sees the same counts in every run.

    async fn send_rows(&mut self, batch: Batch) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        self.rows += batch.len();
        if let Some(clock) = &mut self.clock {
            clock.pass(&batch.origin.partition, &batch.rows);
        }
        self.ports.stats().add_in(batch.len());
        self.ports.send(0, batch).await
    }

    async fn send_failed(&self, rows: &[FailedRow]) -> Result<(), Stop> {
        self.ports.stats().add_in(rows.len());
        self.ports.send_failed(rows).await
    }
}

/// The position of each row of a batch. Refused rows have positions, too, but are not in the batch.
fn positions(batch: &Batch, failed: &[FailedRow]) -> Vec<u64> {
    let origin = &batch.origin;
    let of_batch = failed.iter().filter(|row| row.partition == origin.partition);
    let refused: std::collections::BTreeSet<u64> = of_batch.filter_map(|row| row.position).collect();
    (origin.start..).filter(|position| !refused.contains(position)).take(batch.len()).collect()
}

/// Cuts a batch behind its first `rows` rows. Refused rows have positions, too, but are not in the batch.
fn cut(batch: Batch, rows: usize, failed: &[FailedRow]) -> (Batch, Batch) {
    let count = batch.len();
    if rows == count {
        let empty = Batch::new(batch.rows.slice(count, 0), Origin { start: batch.origin.end, ..batch.origin.clone() });
        return (batch, empty);
    }
    let mut border = batch.origin.start + rows as u64;
    let origin = &batch.origin;
    for row in failed.iter().filter(|row| row.partition == origin.partition && row.position >= Some(origin.start)) {
        if row.position < Some(border) {
            border += 1;
        }
    }
    let head = Batch::new(batch.rows.slice(0, rows), Origin { end: border, ..origin.clone() });
    let tail = Batch::new(batch.rows.slice(rows, count - rows), Origin { start: border, ..origin.clone() });
    (head, tail)
}

#[cfg(test)]
mod tests {
    use millstream_core::Encoding;
    use millstream_testkit::{batch, table};

    use super::*;

    fn failed(position: u64) -> FailedRow {
        FailedRow {
            error: "bad".into(),
            source: "input".into(),
            partition: "".into(),
            position: Some(position),
            row: String::new(),
            encoding: Encoding::Text,
        }
    }

    #[test]
    fn positions_of_refused_rows_count_at_a_cut() {
        let mut whole = batch(table("n:int64\n0\n2\n3\n5"));
        whole.origin.end = 6;
        let (head, tail) = cut(whole, 2, &[failed(1), failed(4)]);
        assert_eq!((head.origin.start, head.origin.end), (0, 3), "rows 0 and 2, and the refused 1");
        assert_eq!((tail.origin.start, tail.origin.end), (3, 6));
    }
}
