//! What a flow is doing, as somebody who watches it sees it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use millstream_engine::stats::FlowStats;
use tokio::time::Instant;

/// What a flow is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing, because somebody wants that.
    Stopped,
    /// It is planned and prepared.
    Starting,
    /// Its nodes are at work.
    Running,
    /// It works off what it has read, and takes its last checkpoint.
    Stopping,
    /// It has failed, and is started again later.
    BackingOff,
    /// All its inputs have come to their end.
    Finished,
    /// It has failed, and is not started again until somebody changes it or asks for it.
    Failed,
}

/// A flow, what it is doing, and why.
#[derive(Clone, Debug)]
pub struct FlowStatus {
    /// The name of the flow.
    pub flow: String,
    /// Which of its texts runs, counted from 1 since the host began.
    pub revision: u64,
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Why it has failed last, where it has not run well since.
    pub reason: Option<String>,
    /// How often it was started again after a failure.
    pub restarts: u64,
    /// When it is started again, if it waits for that.
    pub next_start: Option<Instant>,
    /// Its counters, if it runs or has run.
    pub stats: Option<Arc<FlowStats>>,
}

impl FlowStatus {
    /// A flow that has not begun.
    pub(crate) fn new(flow: String) -> Self {
        let (state, since) = (State::Stopped, now());
        Self { flow, revision: 0, state, since, reason: None, restarts: 0, next_start: None, stats: None }
    }

    pub(crate) fn enter(&mut self, state: State) {
        if self.state != state {
            (self.state, self.since) = (state, now());
        }
        self.next_start = None;
    }
}

impl State {
    /// Whether nothing of the flow is at work, and nothing is about to be without somebody's doing.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Stopped | Self::Finished | Self::Failed)
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing_off",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[expect(clippy::disallowed_methods, reason = "people read it beside their clocks; nothing is computed from it")]
fn now() -> SystemTime {
    SystemTime::now()
}
