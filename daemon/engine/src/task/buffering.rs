//! The loop of a node that keeps rows while those behind it have no room: it takes what comes, and gives what it has kept when there is room.
//!
//! Barriers pass what waits, which is part of the snapshot. Watermarks and the end don't. In what order rows came and left is noted by the
//! fan-in; where that is gone through again, its script says it, and there is no need to wait for room.

use std::sync::Arc;

use millstream_core::{
    Batch, Buffer, Collector, Error, ErrorClass, EventTime, Message, Parts, Processor, Result as CoreResult, Watermark,
};
use tokio::time::sleep;

use super::pace::Pace;
use super::processor::{finish, pass_barrier, resume};
use super::{NodeCheckpointing, Ports, Stop};
use crate::align::{Event, Inputs, Leaving};
use crate::gate::Gate;
use crate::stats::Activity;

/// Runs such a node, which is restored, to its end, or to the barrier at which the flow stops, and gives it back. Where it is not `is_live`,
/// rows pass it, and only those leave that it has kept from a run before.
pub async fn run_buffer(
    mut processor: Box<dyn Processor>,
    is_live: bool,
    gate: Arc<Gate>,
    mut inputs: Inputs,
    ports: Ports,
    checkpointing: NodeCheckpointing,
) -> Result<Box<dyn Processor>, Stop> {
    let node = processor.buffer().ok_or_else(no_buffer)?;
    resume(Some(&*node), &mut inputs, &ports, &checkpointing);
    if checkpointing.had_ended() {
        ports.remind(Message::End).await;
        return Ok(processor);
    }
    if !checkpointing.goes_on {
        node.open(&checkpointing.home)?;
    }
    // What was idle and had not been said, since rows waited.
    let is_idle = checkpointing.fan_in().is_some_and(|fan_in| fan_in.idle);
    let buffering = Buffering {
        node,
        is_live,
        gate: &gate,
        is_open: false,
        out: ports.collector(),
        ports: &ports,
        pace: Pace::new(),
        gives_first: false,
        has_ended: false,
        come: None,
        is_idle,
    };
    buffering.run(&mut inputs, &checkpointing).await?;
    ports.stats().set_report(processor.report());
    Ok(processor)
}

fn no_buffer() -> Error {
    Error::new("it is declared as a node that keeps rows, and is none").of_class(ErrorClass::Bug)
}

/// Such a node at work.
struct Buffering<'a> {
    node: &'a mut dyn Buffer,
    is_live: bool,
    gate: &'a Gate,
    is_open: bool,
    out: Collector,
    ports: &'a Ports,
    pace: Pace,
    /// Whether what waits has its turn before what comes.
    gives_first: bool,
    /// Whether all inputs have ended.
    has_ended: bool,
    /// How far event time has come, as was said.
    come: Option<EventTime>,
    /// Whether nothing comes, which is still to be said.
    is_idle: bool,
}

/// What a node does next.
enum Next {
    Open,
    Give,
    Expire,
    Take(Event),
}

impl Buffering<'_> {
    /// Until everything has left, or until the barrier at which the flow stops.
    async fn run(mut self, inputs: &mut Inputs, checkpointing: &NodeCheckpointing) -> Result<(), Stop> {
        loop {
            self.ports.stats().set_kept_rows(self.node.waiting());
            if self.has_ended && self.node.waiting() == 0 {
                return finish(self.node, Parts::default(), inputs, self.ports, checkpointing).await;
            }
            // Who has rows waits for room, and else for rows.
            let activity = if self.node.waiting() > 0 { Activity::Blocked } else { Activity::Waiting };
            let ports = self.ports;
            match ports.spend(activity, self.next(inputs)).await? {
                Next::Open => self.is_open = true,
                Next::Give => {
                    self.pace.taken();
                    self.give(self.pace.rows(), inputs).await?;
                }
                Next::Expire => _ = self.expire(None, inputs).await?,
                Next::Take(Event::Barrier(epoch)) => {
                    let out = &mut self.out;
                    if pass_barrier(self.node, epoch, out, inputs, ports, checkpointing).await? {
                        return Ok(());
                    }
                }
                Next::Take(event) => self.take(event, inputs).await?,
            }
        }
    }

    /// Waits for what can be done next: in turn, so that neither those behind the node wait nor those before it.
    async fn next(&mut self, inputs: &mut Inputs) -> Result<Next, Stop> {
        let is_free = self.has_ended || !inputs.is_scripted();
        let gives = is_free && self.is_open && self.node.waiting() > 0;
        let has_room = if self.is_live { !(is_free && self.node.is_full()) } else { !gives };
        let patience = self.node.patience().filter(|_| gives && self.is_live);
        self.gives_first = !self.gives_first;
        let (gives_first, gives_last) = (gives && self.gives_first, gives && !self.gives_first);
        tokio::select! {
            biased;
            () = self.gate.opened(), if !self.is_open => Ok(Next::Open),
            () = sleep(patience.unwrap_or_default()), if patience.is_some() => Ok(Next::Expire),
            drained = self.ports.drained(), if gives_first => drained.map(|()| Next::Give),
            event = inputs.next(), if has_room && !self.has_ended => Ok(Next::Take(event?)),
            drained = self.ports.drained(), if gives_last => drained.map(|()| Next::Give),
        }
    }

    async fn take(&mut self, event: Event, inputs: &mut Inputs) -> Result<(), Stop> {
        match event {
            Event::Batch(port, batch) => {
                self.is_idle = false;
                self.ports.begin(port, &batch);
                self.take_rows(port, batch, inputs)?;
                self.flush().await?;
                self.ports.finish();
                Ok(())
            }
            Event::SetAside(port, row, error) => self.ports.set_aside(port, &row, &error).await,
            Event::Watermark(at) => {
                self.is_idle = false;
                self.node.watermark(at, &mut self.out)?;
                self.flush().await?;
                self.say_time().await
            }
            Event::Idle => {
                self.is_idle = true;
                self.say_time().await
            }
            Event::PortEnded(port) => {
                self.node.ended(port, &mut self.out)?;
                self.flush().await
            }
            Event::End => {
                self.has_ended = true;
                Ok(())
            }
            Event::Leave(Leaving::Given(rows)) => self.give_as_before(rows, inputs).await,
            Event::Leave(Leaving::Expired(rows)) => self.expire_as_before(rows, inputs).await,
            // It has been taken before.
            Event::Barrier(_) => Ok(()),
        }
    }

    /// Lets rows pass, or keeps them.
    fn take_rows(&mut self, port: usize, batch: Batch, inputs: &mut Inputs) -> CoreResult<()> {
        let rows = batch.len();
        if inputs.has_passed().unwrap_or_else(|| self.may_pass(rows)) {
            inputs.passed(rows);
            self.pace.left(rows);
            self.node.process(port, batch, &mut self.out)
        } else {
            self.node.take(port, batch, &mut self.out)
        }
    }

    fn may_pass(&self, rows: usize) -> bool {
        let has_room = || rows <= self.pace.rows() && self.ports.are_drained();
        self.is_open && self.node.waiting() == 0 && (!self.is_live || has_room())
    }

    /// Lets rows leave that were kept. Returns how many.
    async fn give(&mut self, rows: usize, inputs: &mut Inputs) -> Result<usize, Stop> {
        // Of rows that were dropped meanwhile, event time no longer waits.
        self.say_time().await?;
        let given = self.node.give(rows, &mut self.out)?;
        inputs.left(Leaving::Given(given));
        self.pace.left(given);
        self.flush().await?;
        self.say_time().await?;
        Ok(given)
    }

    /// Gives up rows that were kept for too long. Returns how many.
    async fn expire(&mut self, rows: Option<usize>, inputs: &mut Inputs) -> Result<usize, Stop> {
        self.say_time().await?;
        let expired = self.node.expire(rows, &mut self.out)?;
        if expired > 0 {
            inputs.left(Leaving::Expired(expired));
        }
        self.flush().await?;
        self.say_time().await?;
        Ok(expired)
    }

    async fn give_as_before(&mut self, mut rows: usize, inputs: &mut Inputs) -> Result<(), Stop> {
        while rows > 0 {
            let given = self.give(rows, inputs).await?;
            rows = rows.checked_sub(given).filter(|_| given > 0).ok_or_else(other_rows)?;
        }
        Ok(())
    }

    async fn expire_as_before(&mut self, mut rows: usize, inputs: &mut Inputs) -> Result<(), Stop> {
        while rows > 0 {
            let expired = self.expire(Some(rows), inputs).await?;
            rows = rows.checked_sub(expired).filter(|_| expired > 0).ok_or_else(other_rows)?;
        }
        Ok(())
    }

    /// Sends on what the node has pushed.
    async fn flush(&mut self) -> Result<(), Stop> {
        self.ports.flush(&mut self.out).await?;
        if self.ports.stats().is_report_wanted() {
            self.ports.stats().set_report(self.node.report());
        }
        Ok(())
    }

    /// Says how far event time has come for what is still to leave, and that nothing is, if that is new.
    async fn say_time(&mut self) -> Result<(), Stop> {
        if let Some(at) = self.node.come().filter(|at| Some(*at) > self.come) {
            self.come = Some(at);
            self.ports.broadcast(Message::Watermark(Watermark::At(at))).await?;
        }
        if self.is_idle && self.node.waiting() == 0 {
            self.is_idle = false;
            self.ports.broadcast(Message::Watermark(Watermark::Idle)).await?;
        }
        Ok(())
    }
}

fn other_rows() -> Error {
    Error::new("more rows have left it than it has kept this time; has the flow or its data changed?")
}
