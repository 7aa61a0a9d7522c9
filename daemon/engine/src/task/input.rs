//! The loop of an input: reads batches, and cuts them at the borders of epochs.

use std::sync::Arc;

use millstream_core::{Batch, Epoch, FailedRow, Input, Message, Origin, Progress};
use tokio::sync::watch;

use super::{Phase, Ports, Stop, reached};
use crate::gate::Gate;

/// Runs an input to its end, or until the flow is stopped.
pub async fn run_input(
    mut input: Box<dyn Input>,
    ports: Ports,
    gate: Arc<Gate>,
    epoch_rows: usize,
    mut phase: watch::Receiver<Phase>,
) -> Result<(), Stop> {
    let epoch = tokio::select! {
        biased;
        () = reached(&mut phase, Phase::Draining) => return end(&ports, &phase).await,
        epoch = gate.opened() => epoch,
    };
    input.open().await?;
    let mut cutter = Cutter { ports: &ports, epoch: epoch.next(), rows: 0, epoch_rows };
    let mut out = ports.collector();
    loop {
        let progress = tokio::select! {
            biased;
            () = reached(&mut phase, Phase::Draining) => return end(&ports, &phase).await,
            progress = input.next(&mut out) => progress?,
        };
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

/// Counts rows, and puts a border behind the last of every epoch, wherever batches end.
struct Cutter<'a> {
    ports: &'a Ports,
    epoch: Epoch,
    rows: usize,
    epoch_rows: usize,
}

impl Cutter<'_> {
    /// Sends a batch, and takes those of the refused rows out of `failed` that lie before a border in it.
    async fn send(&mut self, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<(), Stop> {
        let mut rest = batch;
        while self.rows + rest.len() >= self.epoch_rows {
            let (head, tail) = cut(rest, self.epoch_rows - self.rows, failed);
            let border = head.origin.end;
            let partition = head.origin.partition.clone();
            self.send_rows(head).await?;
            let before: Vec<_> =
                failed.extract_if(.., |row| row.partition == partition && row.position < Some(border)).collect();
            self.send_failed(&before).await?;
            self.ports.check_failed()?;
            self.ports.broadcast(Message::Barrier(self.epoch)).await?;
            (self.epoch, self.rows) = (self.epoch.next(), 0);
            rest = tail;
        }
        self.rows += rest.len();
        self.send_rows(rest).await
    }

    // Rows are counted here and not as they are read, so that a border sees the same counts in every run.

    async fn send_rows(&self, batch: Batch) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        self.ports.stats().add_in(batch.len());
        self.ports.send(0, batch).await
    }

    async fn send_failed(&self, rows: &[FailedRow]) -> Result<(), Stop> {
        self.ports.stats().add_in(rows.len());
        self.ports.send_failed(rows).await
    }
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
