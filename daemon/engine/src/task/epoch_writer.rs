//! Cuts the rows of an input where watermarks move and epochs end, and knows how far it has come.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::{
    Batch, Collector, Epoch, Error, EventTime, FailedRow, Input, Message, Origin, PartitionChange, Parts, Positions,
    Watermark, timeless, why_timeless,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::advance::Latest;
use super::derive::with_times;
use super::input_batch::InputBatch;
use super::{EpochPolicy, NodeCheckpointing, Phase, Ports, Stop, WatermarkGenerator};
use crate::checkpoint::{InputEvent, NodePhase, Point, Recorder};
use crate::gate::Gate;
use crate::plan::TimeColumn;
use crate::stats::Activity;
use crate::time_group::Turn;

/// What an input has read and not sent yet.
#[derive(Default)]
pub struct Unsent {
    /// The rest of a batch, behind a barrier.
    cut: Option<InputBatch>,
    /// The batches behind it.
    batches: VecDeque<(usize, Batch)>,
    failed: Vec<FailedRow>,
}

impl Unsent {
    /// Takes what an input has pushed.
    pub fn take(&mut self, out: &mut Collector) {
        self.failed.append(&mut out.take_failed());
        self.batches.extend(out.take_all());
    }

    /// Rows of a partition, and those of them that were refused.
    pub fn of(batches: Vec<(usize, Batch)>, failed: Vec<FailedRow>) -> Self {
        Self { cut: None, batches: batches.into(), failed }
    }
}

/// Counts rows, and puts a barrier behind the last of every epoch and a watermark where it moves, wherever batches end.
pub struct EpochWriter<'a> {
    pub(super) ports: &'a Ports,
    pub(super) checkpointing: &'a NodeCheckpointing,
    pub(super) barriers: EpochPolicy,
    pub(super) epoch: Epoch,
    pub(super) rows: usize,
    /// When the epoch ends, however few rows it has.
    pub(super) due: Option<Instant>,
    /// How many epochs without rows there have been one after the other, as far as that matters.
    pub(super) empty: u32,
    pub(super) watermarks: Option<WatermarkGenerator>,
    /// How far each partition has been sent.
    pub(super) positions: Positions,
    /// How far it had been at checkpoints: those that are kept, and those that are not durable yet.
    pub(super) checkpoints: VecDeque<(Epoch, Positions)>,
    /// What time has decided since the last checkpoint, if the input is live.
    pub(super) recorder: Recorder<InputEvent>,
}

impl<'a> EpochWriter<'a> {
    pub fn new(
        ports: &'a Ports,
        barriers: EpochPolicy,
        watermarks: Option<WatermarkGenerator>,
        checkpointing: &'a NodeCheckpointing,
    ) -> Self {
        let are_recorded = checkpointing.records && barriers.are_recorded;
        Self {
            ports,
            checkpointing,
            barriers,
            epoch: checkpointing.passed.next(),
            rows: 0,
            due: None,
            empty: 0,
            watermarks,
            positions: Positions::new(),
            checkpoints: VecDeque::new(),
            recorder: if are_recorded { Recorder::taken() } else { Recorder::default() },
        }
    }

    /// Goes on where the input was, if it had begun.
    pub fn resume(&mut self) {
        self.set_due();
        let begun = self.checkpointing.resume.as_ref().filter(|resume| resume.entry.phase != NodePhase::Waiting);
        let Some(resume) = begun else { return };
        self.positions = resume.entry.positions();
        self.ports.stats().restore(&resume.entry.counters);
        if let (Some(watermarks), Some(state)) = (&mut self.watermarks, &resume.entry.watermarks) {
            watermarks.restore(state);
            if let Some(Watermark::At(at)) = state.said {
                self.ports.stats().set_watermark(at);
            }
        }
    }

    /// Shows the barriers that are passed before the gate opens. The input has no part in their checkpoints. One that goes on
    /// waits as well, since the flow may have been edited; mostly its gate is opened at once.
    pub async fn wait(&mut self, gate: &Gate) {
        let mut shown = self.checkpointing.passed;
        loop {
            let (passed, is_open) = gate.changed(shown).await;
            while shown < passed {
                shown = shown.next();
                self.ports.remind(Message::Barrier(shown)).await;
            }
            self.epoch = shown.next();
            if is_open {
                break;
            }
        }
        if let Some(member) = &self.barriers.member {
            member.begin(self.epoch);
        }
    }

    /// Whether a checkpoint waits for this input, which comes to a barrier by reading only.
    pub fn is_awaited(&self) -> bool {
        self.barriers.interval.is_none() && self.checkpointing.reporter.schedule().awaits(self.epoch)
    }

    /// Leaves before the first row.
    pub async fn leave(&mut self, phase: &watch::Receiver<Phase>) -> Result<(), Stop> {
        if self.checkpointing.durable { Err(Stop::AtBarrier) } else { self.end(phase).await }
    }

    /// Nothing more comes.
    pub async fn end(&mut self, phase: &watch::Receiver<Phase>) -> Result<(), Stop> {
        if *phase.borrow() >= Phase::Failing {
            return Err(Stop::Closed);
        }
        self.end_now().await
    }

    /// Nothing more comes.
    pub async fn end_now(&mut self) -> Result<(), Stop> {
        self.ports.check_failed()?;
        if let (Some(member), Some(come)) =
            (&self.barriers.member, self.watermarks.as_mut().and_then(|time| time.come()))
        {
            member.come_to(come);
        }
        self.report(Point::End(self.epoch), Parts::default());
        self.ports.broadcast(Message::End).await
    }

    /// Sends all that has been read, with the refused rows between. What is left of it lies behind the barrier at which the flow ends.
    pub async fn send_all(&mut self, input: &mut dyn Input, read: &mut Unsent) -> Result<(), Stop> {
        loop {
            self.send(input, &mut read.cut).await?;
            let Some((port, batch)) = read.batches.pop_front() else { break };
            read.cut = Some(self.with_times(port, batch, &mut read.failed)?);
        }
        self.send_refused(input, &mut read.failed).await
    }

    /// Sends a batch. What is left of it lies behind the barrier at which the flow ends.
    async fn send(&mut self, input: &mut dyn Input, left: &mut Option<InputBatch>) -> Result<(), Stop> {
        let Some(read) = left else { return Ok(()) };
        let (latest, mut sent) = (self.latest(read), 0);
        while let Some(rest) = left.take() {
            let Some(turn_left) = self.turn_left(&rest, latest.behind(sent)).await else {
                self.end_epoch_before(rest, latest.behind(sent)[0], input, left).await?;
                continue;
            };
            let partition = &rest.batch.origin.partition;
            let until_mark =
                self.watermarks.as_ref().and_then(|watermarks| rest.behind_rows(watermarks.rows_left(partition)));
            let until_barrier = rest.behind_all(self.barriers.rows - self.rows);
            let until_turn = rest.behind_rows(turn_left);
            let until_alone =
                self.checkpointing.alone.cut(partition, || rest.positions()).and_then(|rows| rest.behind_rows(rows));
            let cuts = until_barrier.into_iter().chain(until_mark).chain(until_turn).chain(until_alone);
            let Some(cut) = cuts.min() else {
                return self.send_batch(rest).await;
            };
            let (head, tail) = rest.cut(cut);
            *left = Some(tail);
            sent += head.batch.len();
            self.send_batch(head).await?;
            if until_barrier == Some(cut) {
                self.end_epoch(input).await?;
            } else if until_mark == Some(cut) {
                self.move_watermark().await?;
            }
        }
        Ok(())
    }

    /// The latest event time up to each row, of an input that advances with others.
    fn latest(&self, read: &InputBatch) -> Latest {
        match (&self.barriers.member, &self.watermarks) {
            (Some(_), Some(watermarks)) => Latest::of(&read.batch.rows, watermarks.column(read.port).index),
            _ => Latest::default(),
        }
    }

    /// Waits until it is the turn of this input among those that it advances with. How many of the rows it may send then, or
    /// none if the epoch ends before them.
    async fn turn_left(&self, rest: &InputBatch, latest: &[EventTime]) -> Option<usize> {
        let (Some(member), Some(watermarks)) = (&self.barriers.member, &self.watermarks) else {
            return Some(usize::MAX);
        };
        let rows = rest.behind_all(self.barriers.rows - self.rows).map_or(rest.batch.len(), |cut| cut.rows());
        // Refused rows have no time, and wait for nobody.
        if rows == 0 {
            return Some(usize::MAX);
        }
        let advance = watermarks.advance_of(&rest.batch.origin.partition);
        let last = advance.with(latest[rows - 1]);
        member.come_to(last);
        let turn = member.turn(self.epoch, advance.with(latest[0]));
        match self.ports.spend(Activity::Waiting, turn).await {
            Turn::Barrier => None,
            Turn::Until(at) if last <= at => Some(usize::MAX),
            Turn::Until(at) => Some(advance.rows_until(latest, at)),
        }
    }

    /// Ends the epoch before rows that have been read, of which the first is at this event time, and behind the refused ones before
    /// them. Those behind are left.
    async fn end_epoch_before(
        &mut self,
        rest: InputBatch,
        first: EventTime,
        input: &mut dyn Input,
        left: &mut Option<InputBatch>,
    ) -> Result<(), Stop> {
        let Origin { partition, start, .. } = &rest.batch.origin;
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.come_to(watermarks.advance_of(partition).with(first));
        }
        // Also of a partition of which nothing has been sent, it has to be known where it is gone on with.
        self.positions.entry(partition.clone()).or_insert(*start);
        let before = rest.before_rows();
        let (head, tail) = rest.cut(before);
        *left = Some(tail);
        if !head.refused.is_empty() {
            self.send_batch(head).await?;
        }
        self.end_epoch(input).await
    }

    /// Sends rows, and the refused ones between them: a barrier that follows, in this batch or in one of another
    /// partition, lies behind both.
    async fn send_batch(&mut self, read: InputBatch) -> Result<(), Stop> {
        self.send_rows(read.port, read.batch).await?;
        self.send_failed(&read.refused).await
    }

    /// Sends refused rows that lie in no batch.
    async fn send_refused(&mut self, input: &mut dyn Input, failed: &mut Vec<FailedRow>) -> Result<(), Stop> {
        while !failed.is_empty() {
            let left = self.barriers.rows - self.rows;
            let head: Vec<_> = failed.drain(..left.min(failed.len())).collect();
            self.send_failed(&head).await?;
            if head.len() == left {
                self.end_epoch(input).await?;
            }
        }
        Ok(())
    }

    pub fn change_partition(&mut self, change: PartitionChange) {
        match &change {
            PartitionChange::Added { partition, locator } => {
                self.recorder.step(|| InputEvent::Added(partition.to_string(), locator.clone()));
            }
            // Its position stays: models have learned of its rows.
            PartitionChange::Gone(partition) => self.recorder.step(|| InputEvent::Gone(partition.to_string())),
        }
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.change(change);
        }
        self.show_time();
    }

    /// The rows in canonical types. Those that have no event time, where they need one, or one that is out of this world, are
    /// refused.
    fn with_times(&self, port: usize, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<InputBatch, Error> {
        let column = self.watermarks.as_ref().map(|watermarks| watermarks.column(port));
        if let Some(derived) = column.and_then(|column| column.derived.as_ref()) {
            return with_times(derived, port, batch, failed);
        }
        let batch = batch.try_map(|rows| self.ports.canonical(port, rows))?;
        let mut read = InputBatch::new(port, batch, failed);
        let Some(TimeColumn { index, .. }) = column else { return Ok(read) };
        if let Some(timeless) = timeless(&read.batch.rows, *index) {
            read.refuse(&timeless, |rows, row| why_timeless(rows, *index, row))?;
        }
        Ok(read)
    }

    // Rows are counted here and not as they are read, so that a barrier sees the same counts in every run.

    async fn send_rows(&mut self, port: usize, mut batch: Batch) -> Result<(), Stop> {
        self.come_to(&batch.origin.partition, batch.origin.end);
        self.narrow(&mut batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.count(batch.len());
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.pass(&batch.origin.partition, port, &batch.rows);
        }
        self.ports.stats().add_in(batch.len());
        self.ports.send(port, batch).await
    }

    /// A row that goes alone comes from nowhere but its own position, whichever others have none beside it.
    fn narrow(&self, batch: &mut Batch) {
        let Origin { partition, end, .. } = &batch.origin;
        if batch.len() != 1 {
            return;
        }
        // Where positions have no gaps, the batch was cut right behind it.
        let position = batch.positions().map_or(end.saturating_sub(1), |positions| positions[0]);
        if self.checkpointing.alone.has(partition, position) {
            (batch.origin.start, batch.origin.end) = (position, position + 1);
        }
    }

    async fn send_failed(&mut self, rows: &[FailedRow]) -> Result<(), Stop> {
        self.count(rows.len());
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

    /// Counts rows. The first one behind epochs without any does not wait for as long as these took.
    fn count(&mut self, rows: usize) {
        self.rows += rows;
        if self.empty > 0 && rows > 0 {
            self.empty = 0;
            self.set_due();
        }
    }

    fn come_to(&mut self, partition: &Arc<str>, next: u64) {
        self.recorder.rows(partition, next);
        match self.positions.get_mut(partition) {
            Some(known) => *known = next,
            None => _ = self.positions.insert(partition.clone(), next),
        }
    }
}
