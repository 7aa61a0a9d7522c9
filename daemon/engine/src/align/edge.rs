//! What is known of an edge: what it has shown, whether it has ended, and how far its event time has come.

use std::collections::VecDeque;

use millstream_core::{Epoch, EventTime, Message};

use super::{Event, Inputs};
use crate::checkpoint::{FanIn, FanInEdge};
use crate::edge::Receiver;

#[derive(Debug)]
pub(super) struct Edge {
    pub receiver: Receiver,
    pub port: usize,
    /// What came before it was this edge's turn.
    pub kept: VecDeque<Message>,
    /// The barrier that this edge has shown and others have not.
    pub barrier: Option<Epoch>,
    pub watermark: Option<EventTime>,
    /// Nothing has come for a while.
    pub idle: bool,
    pub ended: bool,
}

impl Edge {
    /// An edge that leads to an input port, of which nothing has come.
    pub fn new((port, receiver): (usize, Receiver)) -> Self {
        Self { receiver, port, kept: VecDeque::new(), barrier: None, watermark: None, idle: false, ended: false }
    }

    /// Whether a message may be taken from the edge's channel now.
    pub fn is_readable(&self) -> bool {
        let is_end_kept = matches!(self.kept.back(), Some(Message::End));
        !(self.ended || is_end_kept || self.barrier.is_some())
    }

    /// Whether the edge has nothing more for this epoch.
    pub fn is_through(&self) -> bool {
        self.kept.is_empty() && !self.is_readable()
    }

    /// Whether nothing more is to be taken of it.
    pub fn is_over(&self) -> bool {
        self.kept.is_empty() && self.ended
    }
}

impl Inputs {
    /// What is known of the edges, called as `names` says. To be asked at a barrier, where nothing is kept.
    pub fn state(&self, names: &[String]) -> FanIn {
        debug_assert!(self.edges.iter().all(|edge| edge.kept.is_empty()));
        let edges = self.edges.iter().zip(names).map(|(edge, name)| FanInEdge {
            from: name.clone(),
            watermark: edge.watermark,
            idle: edge.idle,
            ended: edge.is_over(),
        });
        FanIn { edges: edges.collect(), watermark: self.watermark, idle: self.idle }
    }

    /// Goes on behind the barrier `passed`. Ports that had ended then end again, and stages that were over are gone
    /// through again, before any row comes.
    pub fn restore(&mut self, state: &FanIn, names: &[String], passed: Epoch) {
        (self.passed, self.watermark, self.idle) = (passed, state.watermark, state.idle);
        for (edge, name) in self.edges.iter_mut().zip(names) {
            // An edge that is new in the flow has had nothing yet.
            let Some(known) = state.edges.iter().find(|known| known.from == *name) else { continue };
            (edge.watermark, edge.idle, edge.ended) = (known.watermark, known.idle, known.ended);
        }
    }

    /// The node knows already which of its ports have ended.
    pub fn know_ended(&mut self) {
        while self.port_over().is_some() {}
    }

    /// The lowest watermark of all edges wins; edges that are over or idle hold nothing back, and those that are always read
    /// have no part in it: between two barriers, what they bring comes at another time in every run.
    pub(super) fn advance_watermark(&mut self) -> Option<Event> {
        let has_part = |(index, edge): &(usize, &Edge)| !(edge.is_over() || self.always.contains(index));
        let mut running = self.edges.iter().enumerate().filter(has_part).map(|(_, edge)| edge).peekable();
        running.peek()?;
        let Some(lowest) = running.filter(|edge| !edge.idle).map(|edge| edge.watermark).min() else {
            return (!std::mem::replace(&mut self.idle, true)).then_some(Event::Idle);
        };
        self.idle = false;
        if lowest <= self.watermark {
            return None;
        }
        self.watermark = lowest;
        lowest.map(Event::Watermark)
    }
}
