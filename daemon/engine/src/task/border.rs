//! Where the epochs of an input end, because of rows or of time, and what is handed over there.

use std::time::Duration;

use millstream_core::{Epoch, EventTime, Input, Message, Parts, Positions, Snapshot};
use millstream_store::crash;
use tokio::time::{Instant, sleep_until};

use super::cutter::Cutter;
use super::keeping::is_last;
use super::{Clock, Stop};
use crate::checkpoint::{Covered, InputStep, NodeEntry, Point, Steps};
use crate::time_group::Member;

/// Where the epochs of an input end.
#[derive(Debug)]
pub struct Borders {
    /// After so many rows, refused ones among them.
    pub rows: usize,
    /// Live inputs: after this time at the latest, and as soon as another input or a checkpoint asks for it.
    pub interval: Option<Duration>,
    /// Inputs that advance together with others: where theirs end.
    pub member: Option<Member>,
    /// Whether time has a part in where they end, so that it is noted.
    pub are_noted: bool,
}

/// What time asks for.
pub enum Due {
    /// The border of an epoch.
    Border,
    /// A look at partitions without rows.
    Idle,
}

impl Cutter<'_> {
    /// Hands over where the input is.
    pub(super) fn report(&mut self, point: Point, state: Parts) {
        let entry = NodeEntry {
            phase: point.phase(),
            positions: self.positions.iter().map(|(name, next)| (name.to_string(), *next)).collect(),
            clock: self.clock.as_ref().map(Clock::state),
            counters: self.ports.stats().counters(),
            ..NodeEntry::default()
        };
        let steps = Steps::Input(self.notes.take());
        self.keeping.reporter.report(self.keeping.place, point, entry, Snapshot::of(state), steps);
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

    /// Says how far event time has come, if that has changed.
    pub(super) async fn move_watermark(&mut self) -> Result<(), Stop> {
        match self.clock.as_mut().and_then(Clock::advance) {
            Some(watermark) => self.ports.broadcast(Message::Watermark(watermark)).await,
            None => Ok(()),
        }
    }

    pub async fn end_epoch(&mut self, input: &mut dyn Input) -> Result<(), Stop> {
        self.ports.check_failed()?;
        self.move_watermark().await?;
        if let (Some(member), Some(clock)) = (&self.borders.member, &mut self.clock) {
            member.pass(self.epoch, clock.come().unwrap_or(EventTime::MAX));
        }
        self.keeping.reporter.schedule().may_pass(self.epoch).await;
        self.keeping.reporter.pass(self.keeping.place, self.epoch, &self.positions);
        self.notes.step(|| InputStep::Border);
        let wanted = self.keeping.reporter.schedule().pass(self.epoch);
        if let Some(border) = wanted {
            let state = input.snapshot(&self.positions)?;
            self.report(Point::Border(border), state);
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
        self.show_time();
        self.move_watermark().await
    }

    /// Tells the inputs that wait for this one how far it has come.
    pub(super) fn show_time(&mut self) {
        let (Some(member), Some(clock)) = (&self.borders.member, &mut self.clock) else { return };
        match clock.come() {
            Some(at) => member.come_to(at),
            None => member.fall_idle(),
        }
    }
}
