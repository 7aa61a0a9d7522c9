//! What leaves a node that keeps rows while there is no room behind it: time decides when, so that it is noted among what it takes.

use super::{Inputs, Leaving};
use crate::checkpoint::FanInEvent;

impl Inputs {
    /// The node keeps rows: what it takes is noted and followed, also where it has one edge.
    pub fn of_buffer(&mut self) {
        self.is_buffer = true;
    }

    /// Whether it is known from the run before what comes and leaves next.
    pub fn is_scripted(&self) -> bool {
        !self.replay.is_empty()
    }

    /// Whether the rows that came last left as they came, where that is known from the run before.
    pub fn has_passed(&self) -> Option<bool> {
        self.has_passed
    }

    /// Notes that the rows that came last leave as they came.
    pub fn passed(&mut self, rows: usize) {
        self.recorder.passed(rows);
    }

    /// Notes that rows leave which were kept.
    pub fn left(&mut self, leaving: Leaving) {
        match leaving {
            Leaving::Given(rows) => self.recorder.left(rows),
            Leaving::Expired(rows) => self.recorder.expired(rows),
        }
    }

    /// What leaves next by the script.
    pub(super) fn scripted_leaving(&mut self) -> Option<Leaving> {
        let leaving = match self.replay.front()? {
            FanInEvent::Left(rows) => Leaving::Given(*rows),
            FanInEvent::Expired(rows) => Leaving::Expired(*rows),
            _ => return None,
        };
        self.replay.pop_front();
        Some(leaving)
    }
}
