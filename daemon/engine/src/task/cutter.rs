//! Cuts the rows of an input where watermarks move and epochs end, and knows how far it has come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::compute::{filter_record_batch, not};
use millstream_core::{
    Batch, Border, Encoding, Epoch, Error, FailedRow, Input, Message, Origin, PartitionChange, Parts, Positions,
    Snapshot, json_row, timeless, why_timeless,
};
use millstream_store::crash;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::keeping::is_last;
use super::{Clock, Keeping, Phase, Ports, Stop};
use crate::checkpoint::{Covered, InputStep, NodeEntry, NodePhase, Notes, Steps};
use crate::gate::Gate;

/// Where the epochs of an input end.
#[derive(Debug)]
pub struct Borders {
    /// After so many rows.
    pub rows: usize,
    /// Live inputs: after this time at the latest, and as soon as another input or a checkpoint asks for it.
    pub interval: Option<Duration>,
}

/// Counts rows, and puts a border behind the last of every epoch and a watermark where it moves, wherever batches end.
pub struct Cutter<'a> {
    ports: &'a Ports,
    keeping: &'a Keeping,
    borders: Borders,
    epoch: Epoch,
    rows: usize,
    /// When the epoch ends, however few rows it has.
    due: Option<Instant>,
    clock: Option<Clock>,
    /// How far each partition has been sent.
    positions: Positions,
    /// How far it had been at checkpoints: those that are kept, and those that are not durable yet.
    checkpoints: VecDeque<(Epoch, Positions)>,
    /// What time has decided since the last checkpoint, if the input is live.
    notes: Notes<InputStep>,
}

/// What time asks for.
pub enum Due {
    /// The border of an epoch.
    Border,
    /// A look at partitions without rows.
    Idle,
}

impl<'a> Cutter<'a> {
    pub fn new(ports: &'a Ports, borders: Borders, clock: Option<Clock>, keeping: &'a Keeping) -> Self {
        let is_live = borders.interval.is_some();
        Self {
            ports,
            keeping,
            borders,
            epoch: keeping.passed.next(),
            rows: 0,
            due: None,
            clock,
            positions: Positions::new(),
            checkpoints: VecDeque::new(),
            notes: if keeping.durable && is_live { Notes::taken() } else { Notes::default() },
        }
    }

    /// Goes on where the input was, if it had begun.
    pub fn restore(&mut self, input: &mut dyn Input) -> Result<(), Stop> {
        self.due = self.borders.interval.map(|interval| Instant::now() + interval);
        let begun = self.keeping.resume.as_ref().filter(|resume| resume.entry.phase != NodePhase::Waiting);
        let Some(resume) = begun else { return Ok(()) };
        let positions = resume.entry.positions.iter().map(|(name, next)| (Arc::from(name.as_str()), *next));
        self.positions = positions.collect();
        input.restore(&self.positions, &resume.state)?;
        self.ports.stats().restore(&resume.entry.counters);
        if let (Some(clock), Some(state)) = (&mut self.clock, &resume.entry.clock) {
            clock.restore(state);
        }
        Ok(())
    }

    /// Shows the borders that are passed before the gate opens. The input has no part in their checkpoints. One that goes on
    /// waits as well, since the flow may have been edited; mostly its gate is opened at once.
    pub async fn wait(&mut self, gate: &Gate) {
        let mut shown = self.keeping.passed;
        loop {
            let (passed, is_open) = gate.changed(shown).await;
            while shown < passed {
                shown = shown.next();
                self.ports.remind(Message::Barrier(shown)).await;
            }
            self.epoch = shown.next();
            if is_open {
                return;
            }
        }
    }

    /// Leaves before the first row.
    pub async fn leave(&mut self, phase: &watch::Receiver<Phase>) -> Result<(), Stop> {
        match self.keeping.durable {
            true => Err(Stop::AtBorder),
            false => self.end(phase).await,
        }
    }

    /// Nothing more comes.
    pub async fn end(&mut self, phase: &watch::Receiver<Phase>) -> Result<(), Stop> {
        if *phase.borrow() == Phase::Failing {
            return Err(Stop::Closed);
        }
        self.end_now().await
    }

    /// Nothing more comes.
    pub async fn end_now(&mut self) -> Result<(), Stop> {
        self.ports.check_failed()?;
        self.report(None, Parts::default());
        self.ports.broadcast(Message::End).await
    }

    fn report(&mut self, border: Option<Border>, state: Parts) {
        let entry = NodeEntry {
            phase: if border.is_some() { NodePhase::Running } else { NodePhase::Ended },
            positions: self.positions.iter().map(|(name, next)| (name.to_string(), *next)).collect(),
            clock: self.clock.as_ref().map(Clock::state),
            counters: self.ports.stats().counters(),
            ..NodeEntry::default()
        };
        let steps = Steps::Input(self.notes.take());
        self.keeping.reporter.report(self.keeping.place, border, entry, Snapshot::of(state), steps);
        crash::point("input-reported");
    }

    /// Tells the input what durable checkpoints cover.
    pub async fn covered(&mut self, input: &mut dyn Input, covered: Covered) -> Result<(), Stop> {
        let until = |epoch: Epoch| self.checkpoints.iter().rposition(|(border, _)| *border <= epoch);
        let Some(newest) = until(covered.newest) else { return Ok(()) };
        let oldest = until(covered.oldest);
        let unknown = Positions::new();
        let kept = oldest.map_or(&unknown, |oldest| &self.checkpoints[oldest].1);
        input.covered(&self.checkpoints[newest].1, kept).await?;
        self.checkpoints.drain(..oldest.unwrap_or(0));
        Ok(())
    }

    /// Sends a batch, and takes those of the refused rows out of `failed` that lie before a cut in it.
    pub async fn send(&mut self, input: &mut dyn Input, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<(), Stop> {
        let batch = Batch { rows: self.ports.canonical(0, batch.rows)?, origin: batch.origin };
        let mut rest = self.refuse_timeless(batch, failed)?;
        loop {
            let epoch_left = self.borders.rows - self.rows;
            let mark_left = self.clock.as_ref().map_or(usize::MAX, |clock| clock.rows_left(&rest.origin.partition));
            let left = epoch_left.min(mark_left);
            if rest.len() < left {
                return self.send_with_failed(rest, failed).await;
            }
            let (head, tail) = cut(rest, left, failed);
            self.send_with_failed(head, failed).await?;
            match left == epoch_left {
                true => self.end_epoch(input).await?,
                false => self.move_watermark().await?,
            }
            rest = tail;
        }
    }

    /// Sends rows, and the refused ones between them: a border that follows, in this batch or in one of another
    /// partition, lies behind both.
    async fn send_with_failed(&mut self, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<(), Stop> {
        let (partition, end) = (batch.origin.partition.clone(), batch.origin.end);
        self.send_rows(batch).await?;
        let is_before = |row: &mut FailedRow| row.partition == partition && row.position < Some(end);
        let before: Vec<_> = failed.extract_if(.., is_before).collect();
        self.send_failed(&before).await
    }

    pub fn change_partition(&mut self, change: PartitionChange) {
        match &change {
            PartitionChange::Added { partition, trace } => {
                self.notes.step(|| InputStep::Added(partition.to_string(), trace.clone()));
            }
            // Its position stays: models have learned of its rows.
            PartitionChange::Gone(partition) => self.notes.step(|| InputStep::Gone(partition.to_string())),
        }
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

    pub async fn end_epoch(&mut self, input: &mut dyn Input) -> Result<(), Stop> {
        self.ports.check_failed()?;
        self.move_watermark().await?;
        self.keeping.reporter.schedule().may_pass(self.epoch).await;
        self.keeping.reporter.pass(self.keeping.place, self.epoch, &self.positions);
        self.notes.step(|| InputStep::Border);
        let wanted = self.keeping.reporter.schedule().pass(self.epoch);
        if let Some(border) = wanted {
            let state = input.snapshot(&self.positions)?;
            self.report(Some(border), state);
            self.checkpoints.push_back((self.epoch, self.positions.clone()));
        }
        self.ports.broadcast(Message::Barrier(self.epoch)).await?;
        crash::point("barrier-sent");
        if is_last(wanted) {
            return Err(Stop::AtBorder);
        }
        (self.epoch, self.rows) = (self.epoch.next(), 0);
        self.due = self.borders.interval.map(|interval| Instant::now() + interval);
        Ok(())
    }

    /// Live inputs: waits until the epoch has taken long enough, or another input has ended it, or a checkpoint waits for
    /// its border, or there is no use in waiting for the rows of a partition.
    pub async fn due(&self) -> Due {
        let Some(due) = self.due else { return std::future::pending().await };
        let mut asked = self.keeping.reporter.schedule().due();
        let idle_at = self.clock.as_ref().and_then(Clock::idle_at);
        tokio::select! {
            () = sleep_until(due) => Due::Border,
            _ = asked.wait_for(|epoch| *epoch >= self.epoch) => Due::Border,
            () = sleep_until(idle_at.unwrap_or(due)), if idle_at.is_some() => Due::Idle,
        }
    }

    pub async fn act(&mut self, input: &mut dyn Input, due: Due) -> Result<(), Stop> {
        match (due, &self.clock) {
            (Due::Border, _) | (Due::Idle, None) => self.end_epoch(input).await,
            (Due::Idle, Some(clock)) => {
                let idle = clock.silent();
                self.fall_idle(&idle).await
            }
        }
    }

    /// No longer waits for partitions.
    pub async fn fall_idle(&mut self, partitions: &[String]) -> Result<(), Stop> {
        self.notes.step(|| InputStep::Idle(partitions.to_vec()));
        // What they have had since the last border counts, before they are no longer waited for.
        self.move_watermark().await?;
        if let Some(clock) = &mut self.clock {
            clock.fall_idle(partitions);
        }
        self.move_watermark().await
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
                line: None,
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
        self.come_to(&batch.origin.partition, batch.origin.end);
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

    pub async fn send_failed(&mut self, rows: &[FailedRow]) -> Result<(), Stop> {
        for row in rows {
            let next = row.position.map_or(0, |position| position + 1);
            // Rows that follow each other in a batch may have been sent before the refused ones between them.
            if self.positions.get(&row.partition).is_none_or(|known| *known < next) {
                self.come_to(&row.partition, next);
            }
        }
        self.ports.stats().add_in(rows.len());
        self.ports.send_failed(rows).await
    }

    fn come_to(&mut self, partition: &Arc<str>, next: u64) {
        self.notes.rows(partition, next);
        match self.positions.get_mut(partition) {
            Some(known) => *known = next,
            None => _ = self.positions.insert(partition.clone(), next),
        }
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
pub fn cut(batch: Batch, rows: usize, failed: &[FailedRow]) -> (Batch, Batch) {
    let (count, origin) = (batch.len(), &batch.origin);
    let mut border = origin.start + rows as u64;
    let mut is_behind = false;
    for row in failed.iter().filter(|row| row.partition == origin.partition && row.position >= Some(origin.start)) {
        match row.position < Some(border) {
            true => border += 1,
            false => is_behind |= row.position < Some(origin.end),
        }
    }
    if rows == count && !is_behind {
        border = origin.end;
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
            line: None,
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

    #[test]
    fn refused_rows_behind_the_last_one_lie_behind_a_cut_there() {
        let mut whole = batch(table("n:int64\n0\n2"));
        whole.origin.end = 5;
        let (head, tail) = cut(whole.clone(), 2, &[failed(1), failed(3), failed(4)]);
        assert_eq!((head.origin.end, tail.origin.start, tail.origin.end), (3, 3, 5));
        let (head, _) = cut(whole, 2, &[failed(1)]);
        assert_eq!(head.origin.end, 5, "other positions belong to no row");
    }
}
