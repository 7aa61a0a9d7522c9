//! What a flow is doing, as somebody who watches it sees it.

use std::fmt;
use std::sync::Arc;

use millstream_engine::outline::Outline;
use millstream_engine::run::FlowControl;
use millstream_engine::stats::FlowStats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::flow_budget::{FlowLimits, FlowUsage};
use crate::flow_store::{Desired, Owner};
use crate::hold::Reason;
use crate::time::Timestamp;

/// What a flow is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
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

/// What a flow is doing, and why.
#[derive(Clone, Debug)]
pub struct FlowStatus {
    /// The name of the flow.
    pub flow: String,
    /// Which of its texts runs; 0 if none has yet.
    pub revision: u64,
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// The same, by the clock that nobody sets.
    pub entered: Instant,
    /// Why it has failed last, where it has not run well since.
    pub reason: Option<String>,
    /// The text that has failed before its first checkpoint, so that the one before runs again.
    pub went_back: Option<Refused>,
    /// Why its inputs are held, if they are.
    pub paused: Option<Reason>,
    /// How often it was started again after a failure.
    pub restarts: u64,
    /// When it is started again, if it waits for that.
    pub next_start: Option<Instant>,
    /// Its counters, if it runs or has run.
    pub stats: Option<Arc<FlowStats>>,
    /// Its nodes and edges, if it was planned.
    pub outline: Option<Arc<Outline>>,
    /// What tells it what to do, if it runs.
    pub control: Option<FlowControl>,
    /// What it may take of the machine, and takes, if it runs.
    pub budget: Option<Budget>,
    /// When it went on from another text the last time, if it ran meanwhile.
    pub handover: Option<Handover>,
}

/// What a flow may take of the machine, and what it takes.
#[derive(Clone, Debug)]
pub struct Budget {
    /// What it may take.
    pub limits: FlowLimits,
    pub(crate) usage: watch::Receiver<FlowUsage>,
}

impl Budget {
    /// What it takes. That is looked at where it is limited.
    pub fn usage(&self) -> FlowUsage {
        *self.usage.borrow()
    }
}

/// When a flow went on from another text while it ran.
#[derive(Clone, Debug)]
pub struct Handover {
    /// When somebody wanted it.
    pub wanted: Instant,
    /// When all was built, and the nodes were asked to come to a border.
    pub asked: Instant,
    /// When the first input came there.
    pub stopped: Instant,
    /// When the nodes went on.
    pub begun: watch::Receiver<Option<Instant>>,
}

/// How long a flow took to go on from another text while it ran.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Took {
    /// How long it took until the new text was planned, and what is new in it was built. The flow ran meanwhile.
    pub build_s: f64,
    /// How long it took from there until the first input came to the border at which the nodes were handed over.
    pub wait_s: f64,
    /// How long that input then stood still, at most: what was read was worked off, and all went on.
    pub pause_s: f64,
}

impl Handover {
    /// How long it took, once it is over.
    pub fn took(&self) -> Option<Took> {
        let begun = (*self.begun.borrow())?;
        let between = |earlier: Instant, later: Instant| later.saturating_duration_since(earlier).as_secs_f64();
        Some(Took {
            build_s: between(self.wanted, self.asked),
            wait_s: between(self.asked, self.stopped),
            pause_s: between(self.stopped, begun),
        })
    }
}

/// A text that is not run, though somebody wants it to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// Its number, if it has one: what does not check gets none.
    pub revision: Option<u64>,
    /// What is wrong.
    pub reason: String,
    /// Since when that is known.
    pub since: Timestamp,
}

/// A flow: what is wanted of it, and what it is doing.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Who says what it is like.
    pub owner: Owner,
    /// What is wanted of it.
    pub desired: Desired,
    /// The revision that is wanted.
    pub revision: u64,
    /// The operation on it that is under way.
    pub operation: Option<u64>,
    /// A change that was refused, so that the flow goes on as it was.
    pub refused: Option<Refused>,
    /// What it is doing.
    pub status: FlowStatus,
}

impl FlowStatus {
    /// A flow that has not begun.
    pub(crate) fn new(flow: String) -> Self {
        Self {
            flow,
            revision: 0,
            state: State::Stopped,
            since: Timestamp::now(),
            entered: Instant::now(),
            reason: None,
            went_back: None,
            paused: None,
            restarts: 0,
            next_start: None,
            stats: None,
            outline: None,
            control: None,
            budget: None,
            handover: None,
        }
    }

    pub(crate) fn enter(&mut self, state: State) {
        if self.state != state {
            (self.state, self.since, self.entered) = (state, Timestamp::now(), Instant::now());
        }
        self.next_start = None;
        if !matches!(state, State::Running | State::Stopping) {
            (self.control, self.budget) = (None, None);
        }
    }

    /// The number of the last checkpoint of the run that is, or was last.
    pub fn checkpoint(&self) -> Option<u64> {
        self.stats.as_ref()?.checkpoint().map(|checkpoint| checkpoint.number)
    }
}

impl Refused {
    /// Something that was found wrong now.
    pub(crate) fn now(revision: Option<u64>, reason: String) -> Self {
        Self { revision, reason, since: Timestamp::now() }
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
