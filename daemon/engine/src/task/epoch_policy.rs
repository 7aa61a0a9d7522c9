//! Where the epochs of an input end, because of rows or of time, and what is handed over there.

use std::time::Duration;

use millstream_core::{Epoch, EventTime, Input, Message, Parts, Positions, Snapshot};
use millstream_store::crash;
use tokio::time::{Instant, sleep_until};

use super::epoch_writer::EpochWriter;
use super::{Stop, WatermarkGenerator};
use crate::checkpoint::{CompletedCheckpoints, InputEvent, NodeEntry, Point, ReplayEvents};
use crate::stats::Activity;
use crate::time_group::Member;

/// Where the epochs of an input end.
#[derive(Debug)]
pub struct EpochPolicy {
    /// After so many rows, rejected ones among them.
    pub rows: usize,
    /// Live inputs: after this time at the latest, and as soon as another input or a checkpoint asks for it.
    pub interval: Option<Duration>,
    /// Inputs that advance together with others: where theirs end.
    pub member: Option<Member>,
    /// Whether time has a part in where they end, so that it is noted.
    pub are_recorded: bool,
}

/// Epochs without rows take twice as long as those before, so many times: flows that have nothing to do do little.
const MOST_EMPTY: u32 = 3;

/// What time asks for.
pub enum Due {
    /// The barrier of an epoch.
    Barrier,
    /// A look at partitions without rows.
    Idle,
}

impl EpochWriter<'_> {
    /// Hands over where the input is.
    pub(super) fn report(&mut self, point: Point, state: Parts) {
        let entry = NodeEntry {
            phase: point.phase(),
            positions: self.positions.iter().map(|(name, next)| (name.to_string(), *next)).collect(),
            watermarks: self.watermarks.as_ref().map(WatermarkGenerator::state),
            counters: self.ports.stats().counters(),
            ..NodeEntry::default()
        };
        let steps = ReplayEvents::Input(self.recorder.take());
        self.checkpointing.reporter.report(self.checkpointing.node, point, entry, Snapshot::of(state), steps);
        crash::point("input-reported");
    }

    /// Tells the input what durable checkpoints cover.
    pub async fn checkpoint_completed(
        &mut self,
        input: &mut dyn Input,
        checkpoint_completed: CompletedCheckpoints,
    ) -> Result<(), Stop> {
        let until = |epoch: Epoch| self.checkpoints.iter().rposition(|(barrier, _)| *barrier <= epoch);
        let Some(newest) = until(checkpoint_completed.newest) else { return Ok(()) };
        let oldest = until(checkpoint_completed.oldest);
        let unknown = Positions::new();
        let kept = oldest.map_or(&unknown, |oldest| &self.checkpoints[oldest].1);
        input.checkpoint_completed(&self.checkpoints[newest].1, kept).await?;
        self.checkpoints.drain(..oldest.unwrap_or(0));
        Ok(())
    }

    /// Says how far event time has come, if that has changed.
    pub(super) async fn move_watermark(&mut self) -> Result<(), Stop> {
        match self.watermarks.as_mut().and_then(WatermarkGenerator::advance) {
            Some(watermark) => self.ports.broadcast(Message::Watermark(watermark)).await,
            None => Ok(()),
        }
    }

    pub async fn end_epoch(&mut self, input: &mut dyn Input) -> Result<(), Stop> {
        self.ports.check_failed()?;
        self.move_watermark().await?;
        if let (Some(member), Some(watermarks)) = (&self.barriers.member, &mut self.watermarks) {
            member.pass(self.epoch, watermarks.come().unwrap_or(EventTime::MAX));
        }
        let may_pass = self.checkpointing.reporter.schedule().may_pass(self.epoch);
        self.ports.spend(Activity::Waiting, may_pass).await;
        self.checkpointing.reporter.pass(self.checkpointing.node, self.epoch, &self.positions);
        self.recorder.step(|| InputEvent::Barrier);
        if let Some(barrier) = self.checkpointing.reporter.schedule().pass(self.epoch) {
            let state = input.snapshot(&self.positions)?;
            self.report(Point::Barrier(barrier), state);
            self.checkpoints.push_back((self.epoch, self.positions.clone()));
        }
        input.barrier(self.epoch, &self.positions);
        self.ports.broadcast(Message::Barrier(self.epoch)).await?;
        self.ports.end_epoch(self.epoch);
        crash::point("barrier-sent");
        if self.checkpointing.is_last(self.epoch) {
            return Err(Stop::AtBarrier);
        }
        self.empty = if self.rows == 0 { (self.empty + 1).min(MOST_EMPTY) } else { 0 };
        (self.epoch, self.rows) = (self.epoch.next(), 0);
        self.set_due();
        Ok(())
    }

    pub(super) fn set_due(&mut self) {
        self.due = self.barriers.interval.map(|interval| Instant::now() + interval * (1 << self.empty));
    }

    /// Live inputs: waits until the epoch has taken long enough, or another input has ended it, or a checkpoint waits for
    /// its barrier, or there is no use in waiting for the rows of a partition.
    pub async fn due(&self) -> Due {
        let Some(due) = self.due else { return std::future::pending().await };
        let mut asked = self.checkpointing.reporter.schedule().due();
        let idle_at = self.watermarks.as_ref().and_then(WatermarkGenerator::idle_at);
        tokio::select! {
            () = sleep_until(due) => Due::Barrier,
            _ = asked.wait_for(|epoch| *epoch >= self.epoch) => Due::Barrier,
            () = sleep_until(idle_at.unwrap_or(due)), if idle_at.is_some() => Due::Idle,
        }
    }

    pub async fn act(&mut self, input: &mut dyn Input, due: Due) -> Result<(), Stop> {
        match (due, &self.watermarks) {
            (Due::Barrier, _) | (Due::Idle, None) => self.end_epoch(input).await,
            (Due::Idle, Some(watermarks)) => {
                let idle = watermarks.silent();
                self.fall_idle(&idle).await
            }
        }
    }

    /// No longer waits for partitions.
    pub async fn fall_idle(&mut self, partitions: &[String]) -> Result<(), Stop> {
        self.recorder.step(|| InputEvent::Idle(partitions.to_vec()));
        // What they have had since the last barrier counts, before they are no longer waited for.
        self.move_watermark().await?;
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.fall_idle(partitions);
        }
        self.show_time();
        self.move_watermark().await
    }

    /// Tells the inputs that wait for this one how far it has come.
    pub(super) fn show_time(&mut self) {
        let (Some(member), Some(watermarks)) = (&self.barriers.member, &mut self.watermarks) else { return };
        match watermarks.come() {
            Some(at) => member.come_to(at),
            None => member.fall_idle(),
        }
    }
}
