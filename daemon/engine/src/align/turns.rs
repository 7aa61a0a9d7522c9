//! Whose turn it is among the edges of a stage, and how much of what is kept of them.

use millstream_core::{Batch, Message};

use super::edge::Edge;
use super::{Inputs, ReadOrder, Stage};
use crate::checkpoint::FanInEvent;

impl Inputs {
    /// The first kept message of the edge whose turn it is. Takes part of a batch where the turn ends within it.
    pub(super) fn kept_message(&mut self) -> Option<(usize, Message)> {
        let index = self.next_edge()?;
        let stage = self.stages.front()?;
        let (order, count, edge) = (stage.read_order, stage.edges.len(), stage.edges[index]);
        let message = self.edges[edge].kept.pop_front()?;
        if order == ReadOrder::Arrival {
            return Some((edge, self.as_scripted(edge, message)));
        }
        let (ReadOrder::RoundRobin(rows), Message::Batch(batch)) = (order, &message) else {
            return Some((edge, message));
        };
        let left = rows - self.turn_rows;
        if batch.len() < left {
            self.turn_rows += batch.len();
            return Some((edge, message));
        }
        (self.turn, self.turn_rows) = ((index + 1) % count, 0);
        Some((edge, self.first_rows(edge, batch, left)))
    }

    /// The first rows of a batch. The others are kept.
    fn first_rows(&mut self, edge: usize, batch: &Batch, count: usize) -> Message {
        if count < batch.len() {
            let rest = batch.with_rows(batch.rows.slice(count, batch.len() - count));
            self.edges[edge].kept.push_front(Message::Batch(rest));
        }
        Message::Batch(batch.with_rows(batch.rows.slice(0, count)))
    }

    /// As much of a message as the script says.
    fn as_scripted(&mut self, edge: usize, message: Message) -> Message {
        let Message::Batch(batch) = message else {
            self.replay.pop_front();
            return message;
        };
        let (left, passed) = match self.replay.front_mut() {
            Some(FanInEvent::Rows(_, left)) => (left, false),
            Some(FanInEvent::Passed(_, left)) => (left, true),
            _ => {
                self.has_passed = None;
                return Message::Batch(batch);
            }
        };
        self.has_passed = Some(passed);
        let count = batch.len().min(*left);
        *left -= count;
        if *left == 0 {
            self.replay.pop_front();
        }
        self.first_rows(edge, &batch, count)
    }

    /// Whose turn it is, as an index among the stage's edges. Edges that are through with the epoch pass their turn.
    fn next_edge(&mut self) -> Option<usize> {
        let stage = self.stages.front()?;
        let count = stage.edges.len();
        let first = match stage.read_order {
            ReadOrder::Arrival => return self.edge_in_script(&stage.edges),
            ReadOrder::EpochByEpoch => 0,
            ReadOrder::RoundRobin(_) => self.turn,
            ReadOrder::EventTime => return self.furthest_behind(&stage.edges),
        };
        let mut indices = (0..count).map(|step| (first + step) % count);
        let index = indices.find(|index| !self.edges[stage.edges[*index]].is_through())?;
        if index != self.turn {
            (self.turn, self.turn_rows) = (index, 0);
        }
        Some(index)
    }

    /// The index of the edge that the script names. Behind the script, that of an edge of which something is kept.
    fn edge_in_script(&self, edges: &[usize]) -> Option<usize> {
        match self.replay.front() {
            Some(FanInEvent::Barrier | FanInEvent::Left(_) | FanInEvent::Expired(_)) => None,
            Some(
                FanInEvent::Rows(edge, _)
                | FanInEvent::Passed(edge, _)
                | FanInEvent::Time(edge)
                | FanInEvent::End(edge),
            ) => edges.iter().position(|known| known == edge),
            None => edges.iter().position(|edge| !self.edges[*edge].kept.is_empty()),
        }
    }

    /// The index of the edge that is furthest behind in event time. One that is idle is not waited for.
    fn furthest_behind(&self, edges: &[usize]) -> Option<usize> {
        let is_waited_for = |edge: &Edge| !(edge.is_through() || edge.idle && edge.kept.is_empty());
        let indices = (0..edges.len()).filter(|index| is_waited_for(&self.edges[edges[*index]]));
        indices.min_by_key(|index| self.edges[edges[*index]].watermark)
    }

    /// Notes what is taken of an edge as it comes.
    pub(super) fn note(&mut self, edge: usize, message: &Message) {
        let is_open = |stage: &Stage| {
            let is_free = stage.edges.len() > 1 || self.is_buffer;
            stage.read_order == ReadOrder::Arrival && is_free && stage.edges.contains(&edge)
        };
        if !self.stages.front().is_some_and(is_open) {
            return;
        }
        match message {
            Message::Batch(batch) => self.recorder.rows(edge, batch.len()),
            Message::Watermark(_) => self.recorder.step(FanInEvent::Time(edge)),
            Message::End => self.recorder.step(FanInEvent::End(edge)),
            Message::Barrier(_) => {}
        }
    }
}
