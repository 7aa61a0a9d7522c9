//! A flow goes on from another text while it runs: what is new is planned and built beside it, then it comes to a border, where nodes that do
//! not change are handed over as they are.
//!
//! Until the new text has a checkpoint of its own, nothing is lost of the former: what goes wrong before the border is noticed while that one
//! runs, what goes wrong at the border has it go on with its nodes, and what goes wrong behind has it started again from there.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_core::{Error, ErrorClass};
use millstream_engine::outline::Outline;
use millstream_engine::run::{FlowControl, FlowError, HandedOver, Kept, NotTakenOver, ReadyFlow, RunningFlow};
use millstream_store::crash;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use crate::flow_budget::FlowLimits;
use crate::launch::{Launch, LaunchError, Launcher, Planned};
use crate::status::{Handover, Refused};
use crate::supervisor::{Goal, Probation, Supervisor, Target};

/// A change of a flow that runs.
pub struct Change {
    /// What it is to run from.
    pub target: Arc<Target>,
    /// Since when.
    wanted: Instant,
    stage: Stage,
}

/// How far a change has come.
enum Stage {
    /// Both texts are being planned.
    Planning(JoinHandle<Result<Plans, LaunchError>>),
    /// They are planned, and the flow is to stop.
    Planned,
    /// The flow is on its way to the border, since then.
    Asked(Box<Plans>, Instant),
}

/// What a flow goes on from.
pub struct Plans {
    new: Planned,
    /// The former text, for the case that it can't.
    back: Planned,
    /// The nodes that go on as they are; none if the flow has to be stopped.
    kept: Option<Kept>,
}

impl Change {
    /// Begins to plan and to build what is new, beside the flow. `back` is the text that it runs from.
    pub fn begin(launcher: Arc<dyn Launcher>, target: Arc<Target>, back: Launch, control: FlowControl) -> Self {
        let new = target.launch(&target.revision);
        let plan = move || {
            let (mut new, back) = (launcher.plan(&new)?, launcher.plan(&back)?);
            let kept = control.build(&mut new.plan)?;
            crash::point("change-planned");
            Ok(Plans { new, back, kept })
        };
        Self { target, wanted: Instant::now(), stage: Stage::Planning(spawn_blocking(plan)) }
    }

    /// Waits until a change is planned; for ever if there is none, or it is. Cancel safe.
    pub async fn planned(change: &mut Option<Self>) -> Result<Plans, String> {
        let Some(Self { stage, .. }) = change else { return pending().await };
        let Stage::Planning(planning) = stage else { return pending().await };
        let planned = planning.await;
        *stage = Stage::Planned;
        match planned {
            Ok(planned) => planned.map_err(|error| error.to_string()),
            Err(panic) => Err(Error::caused_by("planning the flow", panic).to_string()),
        }
    }

    /// Asks the flow to come to a border, or to stop if it can't be handed over.
    pub fn ask(&mut self, mut plans: Plans, control: &FlowControl) {
        match plans.kept.take() {
            Some(kept) => {
                control.hand_over(kept);
                self.stage = Stage::Asked(Box::new(plans), Instant::now());
            }
            None => control.stop(),
        }
    }

    /// Whether the flow was asked to come to a border.
    pub fn is_asked(&self) -> bool {
        matches!(self.stage, Stage::Asked(..))
    }
}

/// What goes on at a border.
struct GoneOn {
    flow: ReadyFlow,
    outline: Outline,
    limits: FlowLimits,
    folders: Vec<PathBuf>,
    revision: u64,
    /// Why it is the former text, if it was to be the new one.
    refused: Option<FlowError>,
}

impl Supervisor {
    /// A flow has come to its border: the new text goes on, if it is still wanted, and else the former.
    pub(crate) async fn go_on(
        &mut self,
        handed_over: HandedOver,
        change: Change,
        target: &mut Arc<Target>,
    ) -> Result<RunningFlow, FlowError> {
        crash::point("change-handed-over");
        let Change { target: new, wanted, stage: Stage::Asked(plans, asked) } = change else {
            let error = Error::new("it was handed over, and nobody has asked for that").of_class(ErrorClass::Bug);
            return Err(error.into());
        };
        let stopped = handed_over.stopped();
        let is_wanted = matches!(&*self.goal.borrow(), Goal::Run(goal) if Arc::ptr_eq(goal, &new));
        let gone_on = spawn_blocking(move || go_on(handed_over, *plans, is_wanted)).await;
        let gone_on = gone_on.unwrap_or_else(|panic| {
            Err(Error::caused_by("going on at a border", panic).of_class(ErrorClass::Bug).into())
        });
        if is_wanted {
            _ = self.revision(&new);
            *target = new;
        }
        let GoneOn { flow, outline, limits, folders, revision, refused } = gone_on?;
        let running = flow.start(&self.data);
        crash::point("change-begun");
        self.follows_last(&running);
        self.runs(&running, outline, limits, folders, revision);
        match refused {
            Some(error) => self.refuse(target.clone(), error.to_string()),
            None if is_wanted => {
                let handover = Handover { wanted, asked, stopped, begun: running.begun() };
                self.status.send_modify(|status| status.handover = Some(handover));
                running.control().checkpoint();
            }
            None => {}
        }
        Ok(running)
    }

    /// A text can't be gone on from. The flow goes on as if nobody had wanted that.
    pub(crate) fn refuse(&mut self, target: Arc<Target>, reason: String) {
        let (flow, revision) = (self.status.borrow().flow.clone(), target.revision.number);
        tracing::error!(flow, revision, "can't be gone on from, so the revision before goes on: {reason}");
        self.probation = Some((target, Probation::Failed));
        self.status.send_modify(|status| status.went_back = Some(Refused::now(Some(revision), reason)));
    }
}

/// Lets the new text go on, if it is wanted, or the former.
fn go_on(mut handed_over: HandedOver, plans: Plans, is_wanted: bool) -> Result<GoneOn, FlowError> {
    let Plans { new, back, .. } = plans;
    let mut refused = None;
    if is_wanted {
        match new.go_on(handed_over) {
            Ok(gone_on) => return Ok(gone_on),
            Err(NotTakenOver { error, back: None }) => return Err(error),
            Err(NotTakenOver { error, back: Some(back) }) => (handed_over, refused) = (*back, Some(error)),
        }
    }
    match back.go_on(handed_over) {
        Ok(gone_on) => Ok(GoneOn { refused, ..gone_on }),
        Err(NotTakenOver { error, .. }) => Err(refused.unwrap_or(error)),
    }
}

impl Planned {
    fn go_on(self, handed_over: HandedOver) -> Result<GoneOn, NotTakenOver> {
        let Self { plan, outline, options, limits, folders } = self;
        let flow = handed_over.go_on(plan, &options)?;
        let revision = options.revision.unwrap_or_default();
        Ok(GoneOn { flow, outline, limits, folders, revision, refused: None })
    }
}
