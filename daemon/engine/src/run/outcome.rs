//! How a flow has ended, and how a running one is told what to do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Error, Held, Intake};
use tokio::sync::{Notify, watch};

use super::HandedOver;
use crate::checkpoint::NodeResume;
use crate::file::Secrets;
use crate::phase::Phase;
use crate::plan::{Identities, NodeIndex, Plan};

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
    /// What it leaves to the flow that goes on in its place, if it was told to hand over, and has.
    pub handed_over: Option<Box<HandedOver>>,
    /// Where the nodes were at the barrier up to which it was gone through again, if it has come there.
    pub replayed: Option<BTreeMap<String, NodeResume>>,
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

/// The nodes of a flow that go on as they are where it is handed over.
#[derive(Clone, Debug)]
pub struct Kept(BTreeSet<NodeIndex>);

/// Tells a running flow what to do.
#[derive(Clone, Debug)]
pub struct FlowControl {
    pub(super) phase: watch::Sender<Phase>,
    /// Asks for a checkpoint before its time.
    pub(super) hurry: Arc<Notify>,
    /// Why inputs are held, if they are.
    pub(super) held: watch::Sender<Option<Held>>,
    /// What becomes of a flow that is stopped.
    pub(super) stop: Phase,
    /// Whether the flow keeps state.
    pub(super) durable: bool,
    /// Which nodes go on as they are, if the flow is to hand over.
    pub(super) keeps: watch::Sender<Option<BTreeSet<NodeIndex>>>,
    /// What the nodes are built from, in the order of the plan.
    pub(super) identities: Identities,
    /// Their names, in that order.
    pub(super) names: Arc<[String]>,
    /// What gives rows to inputs by hand, by their names.
    pub(super) intakes: Arc<Intakes>,
}

/// What gives rows to inputs by hand, by their names.
pub(super) type Intakes = BTreeMap<String, Arc<dyn Intake>>;

impl FlowControl {
    /// Ends the inputs, or where the flow keeps state, stops them at a barrier; what they have read is worked off and
    /// committed. A flow without state that can be run again from the start is given up: half of a result must not take the
    /// place of a whole one.
    pub fn stop(&self) {
        self.phase.send_if_modified(|phase| advance(phase, self.stop));
    }

    /// Whether the flow can come to a checkpoint behind which another goes on: not without state.
    pub fn can_hand_over(&self) -> bool {
        self.durable
    }

    /// Builds the nodes of a plan that is to go on in place of this flow, but for those that can go on as they are: these are returned. None
    /// if the flow has to be stopped, since nodes get another name, and their folders with them.
    ///
    /// # Errors
    /// If a node can't be built.
    pub fn build(&self, plan: &mut Plan) -> Result<Option<Kept>, FlowError> {
        if !self.durable || plan.renames().any(|(before, _)| self.names.iter().any(|name| name == before)) {
            return Ok(None);
        }
        let common = self.identities.common(&plan.identities());
        plan.build_besides(&common)?;
        let index = |name: &String| self.names.iter().position(|known| known == name);
        Ok(Some(Kept(common.iter().filter_map(index).collect())))
    }

    /// Has the flow come to a checkpoint behind which another goes on in its place, with these nodes as they are. Meanwhile it goes on as
    /// before. What comes of it is [`Outcome::handed_over`].
    pub fn hand_over(&self, kept: Kept) {
        self.keeps.send_replace(Some(kept.0));
    }

    /// Asks for a checkpoint now, or behind the one that is under way. A flow that keeps no state takes none.
    pub fn checkpoint(&self) {
        self.hurry.notify_one();
    }

    /// Holds the inputs: they read nothing more until they are told to go on. What they have read is worked off. Checkpoints are taken as before
    /// where inputs are live, also the last one; those that end by themselves read on to the next barrier, at which one is taken, and to one when
    /// the flow is to stop.
    pub fn pause(&self, why: Held) {
        self.set_held(Some(why));
    }

    /// Has inputs go on that are held.
    pub fn resume(&self) {
        self.set_held(None);
    }

    /// Whoever waits for it is told only what is new.
    fn set_held(&self, held: Option<Held>) {
        self.held.send_if_modified(|before| {
            let is_new = *before != held;
            *before = held;
            is_new
        });
    }

    /// Whether inputs are held.
    pub fn is_paused(&self) -> bool {
        self.held.borrow().is_some()
    }

    /// Whether [`FlowControl::stop`] commits what has been read.
    pub fn commits(&self) -> bool {
        self.stop == Phase::Draining
    }

    /// The inputs that can be given rows by hand.
    pub fn intakes(&self) -> impl Iterator<Item = &str> {
        self.intakes.keys().map(String::as_str)
    }

    /// What gives rows to an input by hand, if that can be done.
    pub fn intake(&self, input: &str) -> Option<Arc<dyn Intake>> {
        self.intakes.get(input).cloned()
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
