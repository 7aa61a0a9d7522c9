//! Cuts the rows of an input where watermarks move and epochs end, and knows how far it has come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{
    Batch, Epoch, Error, EventTime, FailedRow, Input, Message, Origin, PartitionChange, Parts, Positions, Snapshot,
    timeless, why_timeless,
};
use millstream_store::crash;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::derive::with_times;
use super::keeping::is_last;
use super::stretch::Stretch;
use super::{Clock, Keeping, Phase, Ports, Stop};
use crate::checkpoint::{Covered, InputStep, NodeEntry, NodePhase, Notes, Point, Steps};
use crate::gate::Gate;
use crate::time_group::{Member, Turn};

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
        let are_noted = keeping.takes_notes && borders.are_noted;
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
            notes: if are_noted { Notes::taken() } else { Notes::default() },
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
                break;
            }
        }
        if let Some(member) = &self.borders.member {
            member.begin(self.epoch);
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
        if *phase.borrow() >= Phase::Failing {
            return Err(Stop::Closed);
        }
        self.end_now().await
    }

    /// Nothing more comes.
    pub async fn end_now(&mut self) -> Result<(), Stop> {
        self.ports.check_failed()?;
        self.report(Point::End(self.epoch), Parts::default());
        self.ports.broadcast(Message::End).await
    }

    fn report(&mut self, point: Point, state: Parts) {
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

    /// Sends a batch, and takes those of the refused rows out of `failed` that lie before its end.
    pub async fn send(&mut self, input: &mut dyn Input, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<(), Stop> {
        let mut rest = self.with_times(batch, failed)?;
        loop {
            let Some(turn_left) = self.turn_left(&rest).await else {
                rest = self.end_epoch_before(rest, input).await?;
                continue;
            };
            let partition = &rest.batch.origin.partition;
            let until_mark = self.clock.as_ref().and_then(|clock| rest.behind_rows(clock.rows_left(partition)));
            let until_border = rest.behind_all(self.borders.rows - self.rows);
            let until_turn = rest.behind_rows(turn_left);
            let Some(cut) = until_border.into_iter().chain(until_mark).chain(until_turn).min() else {
                return self.send_stretch(rest).await;
            };
            let (head, tail) = rest.cut(cut);
            self.send_stretch(head).await?;
            if until_border == Some(cut) {
                self.end_epoch(input).await?;
            } else if until_mark == Some(cut) {
                self.move_watermark().await?;
            }
            rest = tail;
        }
    }

    /// Waits until it is the turn of this input among those that it advances with. How many of the rows it may send then, or
    /// none if the epoch ends before them.
    async fn turn_left(&self, rest: &Stretch) -> Option<usize> {
        let (Some(member), Some(clock)) = (&self.borders.member, &self.clock) else { return Some(usize::MAX) };
        let rows = rest.behind_all(self.borders.rows - self.rows).map_or(rest.batch.len(), |cut| cut.rows());
        // Refused rows have no time, and wait for nobody.
        if rows == 0 {
            return Some(usize::MAX);
        }
        let advance = clock.advance_of(&rest.batch.origin.partition, &rest.batch.rows);
        let last = advance.at(rows);
        member.come_to(last);
        match member.turn(self.epoch, advance.at(1)).await {
            Turn::Border => None,
            Turn::Until(at) if last <= at => Some(usize::MAX),
            Turn::Until(at) => Some(advance.rows_until(at)),
        }
    }

    /// Ends the epoch before rows that have been read, and behind the refused ones before them. Returns those behind.
    async fn end_epoch_before(&mut self, rest: Stretch, input: &mut dyn Input) -> Result<Stretch, Stop> {
        let Origin { partition, start, .. } = &rest.batch.origin;
        if let Some(clock) = &mut self.clock {
            let first = clock.advance_of(partition, &rest.batch.rows).at(1);
            clock.come_to(first);
        }
        // Also of a partition of which nothing has been sent, it has to be known where it is gone on with.
        self.positions.entry(partition.clone()).or_insert(*start);
        let before = rest.before_rows();
        let (head, tail) = rest.cut(before);
        if !head.refused.is_empty() {
            self.send_stretch(head).await?;
        }
        self.end_epoch(input).await?;
        Ok(tail)
    }

    /// Sends rows, and the refused ones between them: a border that follows, in this batch or in one of another
    /// partition, lies behind both.
    async fn send_stretch(&mut self, stretch: Stretch) -> Result<(), Stop> {
        self.send_rows(stretch.batch).await?;
        self.send_failed(&stretch.refused).await
    }

    /// Sends refused rows that lie in no batch.
    pub async fn send_refused(&mut self, input: &mut dyn Input, failed: Vec<FailedRow>) -> Result<(), Stop> {
        let mut rest = failed.as_slice();
        while !rest.is_empty() {
            let left = self.borders.rows - self.rows;
            let (head, tail) = rest.split_at(left.min(rest.len()));
            self.send_failed(head).await?;
            if head.len() == left {
                self.end_epoch(input).await?;
            }
            rest = tail;
        }
        Ok(())
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
        self.show_time();
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
    fn show_time(&mut self) {
        let (Some(member), Some(clock)) = (&self.borders.member, &mut self.clock) else { return };
        match clock.come() {
            Some(at) => member.come_to(at),
            None => member.fall_idle(),
        }
    }

    /// The rows in canonical types. Those that have no event time, where they need one, or one that is out of this world, are
    /// refused.
    fn with_times(&self, batch: Batch, failed: &mut Vec<FailedRow>) -> Result<Stretch, Error> {
        if let Some(derived) = self.clock.as_ref().and_then(Clock::derived) {
            return with_times(derived, batch, failed);
        }
        let batch = Batch { rows: self.ports.canonical(0, batch.rows)?, origin: batch.origin };
        let mut stretch = Stretch::new(batch, failed);
        let Some(clock) = &self.clock else { return Ok(stretch) };
        if let Some(timeless) = timeless(&stretch.batch.rows, clock.column()) {
            stretch.refuse(&timeless, |rows, row| why_timeless(rows, clock.column(), row))?;
        }
        Ok(stretch)
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

    async fn send_failed(&mut self, rows: &[FailedRow]) -> Result<(), Stop> {
        self.rows += rows.len();
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
