//! How a flow has ended, and how a running one is told what to do.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::Error;
use tokio::sync::{Notify, watch};

use crate::file::Secrets;
use crate::phase::Phase;

/// How a flow ended.
#[derive(Debug)]
pub struct Outcome {
    /// Done, stopped or failed.
    pub status: Status,
    /// Whether it was stopped although its inputs end by themselves, so that a run which is not stopped gives more. Without
    /// state, nothing of it is committed then.
    pub unfinished: bool,
    /// Whether it was stopped between two barriers: what came since the last checkpoint does not count. A run that resumes it
    /// reads that again; without state, nothing is committed.
    pub abandoned: bool,
    /// The nodes whose effects count: all if the flow ended well, none if a node failed, some if a commit failed.
    pub committed: Vec<String>,
    /// How long it ran.
    pub elapsed: Duration,
}

/// How a flow ended.
#[derive(Debug)]
pub enum Status {
    /// All inputs have ended, and everything is committed.
    Done,
    /// It was told to stop; what was read until then is committed, unless [`Outcome::unfinished`] says otherwise.
    Stopped,
    /// A node failed, or the flow was told to give up.
    Failed(FlowError),
}

/// Why a flow failed.
#[derive(Debug)]
pub struct FlowError {
    /// The name of the node that failed. None if it was the flow as a whole, such as where its state can't be written.
    pub node: Option<String>,
    /// Why.
    pub error: Error,
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "node `{node}`: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for FlowError {}

impl FlowError {
    /// The same, with the names of variables in place of their values.
    pub fn without_secrets(self, secrets: &Secrets) -> Self {
        match secrets.hide(&self.error.to_string()) {
            Cow::Borrowed(_) => self,
            Cow::Owned(hidden) => Self { error: Error::new(hidden).of_class(self.error.class()), ..self },
        }
    }
}

/// Tells a running flow what to do.
#[derive(Clone, Debug)]
pub struct FlowControl {
    pub(super) phase: watch::Sender<Phase>,
    /// Asks for a checkpoint before its time.
    pub(super) hurry: Arc<Notify>,
    /// Whether inputs are held.
    pub(super) held: watch::Sender<bool>,
    /// What becomes of a flow that is stopped.
    pub(super) stop: Phase,
}

impl FlowControl {
    /// Ends the inputs, or where the flow keeps state, stops them at a barrier; what they have read is worked off and
    /// committed. A flow without state that can be run again from the start is given up: half of a result must not take the
    /// place of a whole one.
    pub fn stop(&self) {
        self.phase.send_if_modified(|phase| advance(phase, self.stop));
    }

    /// Asks for a checkpoint now, or behind the one that is under way. A flow that keeps no state takes none.
    pub fn checkpoint(&self) {
        self.hurry.notify_one();
    }

    /// Holds the inputs: they read nothing more until they are told to go on, or the flow is to stop. What they have read is worked off.
    /// Checkpoints are taken as before where inputs are live; those that end by themselves read on to the next barrier, at which one is
    /// taken.
    pub fn pause(&self) {
        self.set_held(true);
    }

    /// Has inputs go on that are held.
    pub fn resume(&self) {
        self.set_held(false);
    }

    /// Whoever waits for it is told only what is new.
    fn set_held(&self, held: bool) {
        self.held.send_if_modified(|before| std::mem::replace(before, held) != held);
    }

    /// Whether inputs are held.
    pub fn is_paused(&self) -> bool {
        *self.held.borrow()
    }

    /// Whether [`FlowControl::stop`] commits what has been read.
    pub fn commits(&self) -> bool {
        self.stop == Phase::Draining
    }

    /// Gives up: nothing counts, and what was staged is removed.
    pub fn give_up(&self) {
        self.phase.send_if_modified(|phase| advance(phase, Phase::Failing));
    }
}

/// Comes to a phase, unless that lies behind. Whether it did.
pub(super) fn advance(phase: &mut Phase, to: Phase) -> bool {
    let later = to > *phase;
    *phase = (*phase).max(to);
    later
}
