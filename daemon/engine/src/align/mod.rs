//! Fan-in: one order of messages out of several edges, with barriers aligned.
//!
//! Edges are read in *stages*. A stage starts when all edges of the one before have ended, and opens the gates of the
//! inputs behind its own edges; so a join reads its side input to the end first, and a sequence its first input.
//! Within a stage, rows come as they arrive, in turn, or edge by edge up to the next barrier. The last two look at
//! edges that are not up yet, too, and keep what they find: branches of one input could otherwise block each other.
//! An edge that has shown a barrier shows nothing more until all others have, so no more than an epoch is kept, and nothing
//! at a barrier.

mod edge;
mod leaving;
mod turns;

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::{FutureExt, select_all};
use millstream_core::{Batch, Epoch, EventTime, Message, Watermark};

use self::edge::Edge;
use crate::checkpoint::{FanInEvent, Recorder};
use crate::edge::{Closed, Receiver};
use crate::gate::Gate;
use crate::quarantine::NodeQuarantine;

/// The edges that are read at the same time.
#[derive(Debug)]
pub struct Stage {
    /// The positions in `edges` of the edges of this stage.
    pub edges: Vec<usize>,
    /// How their rows are ordered.
    pub read_order: ReadOrder,
    /// Opened when the stage starts.
    pub gates: Vec<Arc<Gate>>,
}

/// How the rows of the edges of one stage are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOrder {
    /// As they come.
    Arrival,
    /// Edge by edge, up to the next barrier each.
    EpochByEpoch,
    /// So many rows of each edge in turn.
    RoundRobin(usize),
    /// The edge whose watermark is furthest behind; of several the first.
    EventTime,
}

/// What a node sees of its inputs.
#[derive(Debug)]
pub enum Event {
    /// Rows at an input port.
    Batch(usize, Batch),
    /// A row at an input port at which the node would fail, and with what.
    SetAside(usize, Batch, Arc<str>),
    /// Rows with an earlier event time are late, at every port.
    Watermark(EventTime),
    /// Nothing comes at any port, for now.
    Idle,
    /// All edges have reached this barrier.
    Barrier(Epoch),
    /// All edges of an input port have ended.
    PortEnded(usize),
    /// All edges have ended.
    End,
    /// Rows that the node has kept leave now, as they did in the run that is gone through again.
    Leave(Leaving),
}

/// Rows that leave a node that had kept them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// So many of them.
    Given(usize),
    /// So many of those that it had kept longest, which are given up.
    Expired(usize),
}

/// The fan-in of one node.
#[derive(Debug)]
pub struct Inputs {
    edges: Vec<Edge>,
    stages: VecDeque<Stage>,
    /// Edges that are read in every stage, such as the one that brings a model's versions.
    always: Vec<usize>,
    /// Whose turn it is, as an index among the stage's edges, and how many rows it has had.
    turn: usize,
    turn_rows: usize,
    /// The last barrier that was passed.
    passed: Epoch,
    watermark: Option<EventTime>,
    /// Whether all edges have been idle.
    idle: bool,
    /// The ports that have not ended yet.
    open_ports: Vec<usize>,
    /// In which order rows were taken, where that is as they come.
    recorder: Recorder<FanInEvent>,
    /// In which order they are to be taken instead.
    replay: VecDeque<FanInEvent>,
    /// Whether the node keeps rows while there is no room behind it, so that it matters when they came, also those of one edge.
    is_buffer: bool,
    /// Whether the last rows left as they came, in the run that is gone through again.
    has_passed: Option<bool>,
    /// The rows that the node does without.
    quarantine: NodeQuarantine,
}

impl Inputs {
    /// The fan-in of `edges`, each with the input port that it leads to. `stages` and `always` name each of them once.
    pub fn new(edges: Vec<(usize, Receiver)>, stages: Vec<Stage>, always: Vec<usize>) -> Self {
        let mut open_ports: Vec<usize> = edges.iter().map(|(port, _)| *port).collect();
        open_ports.sort_unstable();
        open_ports.dedup();
        Self {
            edges: edges.into_iter().map(Edge::new).collect(),
            stages: stages.into(),
            always,
            turn: 0,
            turn_rows: 0,
            passed: Epoch::default(),
            watermark: None,
            idle: false,
            open_ports,
            recorder: Recorder::default(),
            replay: VecDeque::new(),
            is_buffer: false,
            has_passed: None,
            quarantine: NodeQuarantine::default(),
        }
    }

    /// Notes from now on in which order rows are taken where that is as they come.
    pub fn record(&mut self) {
        self.recorder = Recorder::taken();
    }

    /// What was noted since the last time.
    pub fn recorder(&mut self) -> VecDeque<FanInEvent> {
        self.recorder.take()
    }

    /// Takes rows in this order, instead of as they come.
    pub fn follow(&mut self, replay: VecDeque<FanInEvent>) {
        self.replay = replay;
    }

    /// Sets rows aside, or has them come one by one.
    pub(crate) fn set_quarantine(&mut self, quarantine: NodeQuarantine) {
        self.quarantine = quarantine;
    }

    /// The epoch of the rows that come now.
    pub fn epoch(&self) -> Epoch {
        self.passed.next()
    }

    /// Begins behind the barrier `passed`.
    pub fn begin_behind(&mut self, passed: Epoch) {
        self.passed = passed;
    }

    /// Nothing is read: the node had come to its end before. No input waits for it any more, also none that it does not read itself, but
    /// which advances together with one that it reads.
    pub fn open_gates(&mut self) {
        for gate in self.stages.drain(..).skip(1).flat_map(|stage| stage.gates) {
            gate.open(self.passed);
        }
    }

    /// The next event; none follows [`Event::End`]. `Closed` if an upstream node stopped before its end. Cancel safe.
    pub async fn next(&mut self) -> Result<Event, Closed> {
        if self.quarantine.is_empty() {
            return self.next_event().await;
        }
        loop {
            if let Some(event) = self.quarantine.next() {
                return Ok(event);
            }
            match self.next_event().await? {
                Event::Batch(port, batch) => self.quarantine.take(port, batch),
                event => return Ok(event),
            }
        }
    }

    /// The next event as it comes.
    async fn next_event(&mut self) -> Result<Event, Closed> {
        loop {
            if let Some(event) = self.settled() {
                return Ok(event);
            }
            let (edge, message) = self.receive().await?;
            if let Some(event) = self.take(edge, message) {
                return Ok(event);
            }
        }
    }

    /// The next event that needs no further message.
    fn settled(&mut self) -> Option<Event> {
        loop {
            if let Some(leaving) = self.scripted_leaving() {
                return Some(Event::Leave(leaving));
            }
            if let Some(port) = self.port_over() {
                return Some(Event::PortEnded(port));
            }
            if let Some((edge, message)) = self.kept_message() {
                match self.deliver(edge, message) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            if self.stage_is_over() {
                self.start_next_stage();
                continue;
            }
            if self.active_edges().any(|edge| !self.edges[edge].is_through()) {
                return None;
            }
            let barrier = self.edges.iter().filter_map(|edge| edge.barrier).min();
            return Some(barrier.map_or(Event::End, |epoch| self.pass(epoch)));
        }
    }

    fn port_over(&mut self) -> Option<usize> {
        let over = |port: &usize| self.edges.iter().all(|edge| edge.port != *port || edge.is_over());
        let index = self.open_ports.iter().position(over)?;
        Some(self.open_ports.remove(index))
    }

    fn stage_is_over(&self) -> bool {
        self.stages.len() > 1 && self.stages[0].edges.iter().all(|edge| self.edges[*edge].is_over())
    }

    fn start_next_stage(&mut self) {
        self.stages.pop_front();
        (self.turn, self.turn_rows) = (0, 0);
        for gate in self.stages.front().iter().flat_map(|stage| &stage.gates) {
            gate.open(self.passed);
        }
    }

    /// Passes a barrier that all active edges have shown. One that started late may have shown a later one: it waits.
    fn pass(&mut self, epoch: Epoch) -> Event {
        for edge in &mut self.edges {
            if edge.barrier == Some(epoch) {
                edge.barrier = None;
            }
        }
        self.passed = epoch;
        (self.turn, self.turn_rows) = (0, 0);
        self.recorder.step(FanInEvent::Barrier);
        if self.replay.front() == Some(&FanInEvent::Barrier) {
            self.replay.pop_front();
        }
        for gate in self.stages.iter().skip(1).flat_map(|stage| &stage.gates) {
            gate.pass(epoch);
        }
        Event::Barrier(epoch)
    }

    fn active_edges(&self) -> impl Iterator<Item = usize> + '_ {
        let stage = self.stages.front().map(|stage| stage.edges.as_slice()).unwrap_or_default();
        stage.iter().chain(&self.always).copied()
    }

    async fn receive(&self) -> Result<(usize, Message), Closed> {
        let receive = |edge: usize| async move { Ok((edge, self.edges[edge].receiver.recv().await?)) };
        let mut readable = self.active_edges().filter(|edge| self.edges[*edge].is_readable());
        match (readable.next(), readable.next()) {
            (Some(edge), None) => receive(edge).await,
            (first, second) => {
                let readable = first.into_iter().chain(second).chain(readable);
                select_all(readable.map(|edge| receive(edge).boxed())).await.0
            }
        }
    }

    /// Takes what has just been received: for now, or for when it is the edge's turn.
    fn take(&mut self, edge: usize, message: Message) -> Option<Event> {
        let at_once = self.always.contains(&edge)
            || self.stages.front().is_some_and(|stage| {
                (stage.edges.len() == 1 && !self.is_buffer)
                    || stage.read_order == ReadOrder::Arrival && self.replay.is_empty()
            });
        match message {
            // An input that starts late shows barriers that this node has passed already.
            Message::Barrier(epoch) if epoch <= self.passed => {}
            Message::Barrier(epoch) => self.edges[edge].barrier = Some(epoch),
            message if at_once => {
                self.has_passed = None;
                return self.deliver(edge, message);
            }
            message => self.edges[edge].kept.push_back(message),
        }
        None
    }

    fn deliver(&mut self, edge: usize, message: Message) -> Option<Event> {
        self.note(edge, &message);
        match message {
            Message::Batch(batch) => {
                (self.edges[edge].idle, self.idle) = (false, false);
                Some(Event::Batch(self.edges[edge].port, batch))
            }
            Message::Watermark(Watermark::At(at)) => {
                let known = &mut self.edges[edge];
                (known.watermark, known.idle) = (known.watermark.max(Some(at)), false);
                self.advance_watermark()
            }
            Message::Watermark(Watermark::Idle) => {
                self.edges[edge].idle = true;
                self.advance_watermark()
            }
            Message::End => {
                self.edges[edge].ended = true;
                self.advance_watermark()
            }
            // Never delivered: `take` keeps it as the state of their edge.
            Message::Barrier(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
