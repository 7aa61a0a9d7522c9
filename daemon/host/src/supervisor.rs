//! One flow: compares what it is doing with what is wanted of it, and does what is lacking.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use millstream_core::{Error, ErrorClass, Held};
use millstream_engine::outline::Outline;
use millstream_engine::quarantine::Quarantine;
use millstream_engine::run::{FlowControl, FlowError, Outcome, RunningFlow, Status};
use millstream_engine::stats::FlowStats;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout};

use crate::change::Change;
use crate::flow_budget::{FlowBudget, FlowLimits, FlowUsage, Verdict, watch_usage};
use crate::flow_store::Revision;
use crate::hold::{Holds, Reason};
use crate::launch::{Launch, LaunchError, Launched, Launcher};
use crate::poison::{Finding, Poison, place};
use crate::restart::{RestartPolicy, Restarts, class_of};
use crate::status::{Budget, FlowStatus, Refused, State};

/// What is wanted of a flow. The latest counts; one that nobody has acted on yet is forgotten.
#[derive(Clone, Debug)]
pub enum Goal {
    /// That it runs.
    Run(Arc<Target>),
    /// That it stops: at a checkpoint, where it keeps state.
    Stop,
    /// That it ends now. What has been read since the last checkpoint does not count, and is read again by the next run.
    Abort,
}

/// From which text a flow is to run.
#[derive(Debug)]
pub struct Target {
    /// The text.
    pub revision: Revision,
    /// The one that runs again if this one fails before its first checkpoint.
    pub fallback: Option<Revision>,
    /// The nodes that start from scratch with it, once.
    pub resets: Vec<String>,
}

impl Target {
    /// How one of its texts is launched.
    pub(crate) fn launch(&self, revision: &Revision) -> Launch {
        let is_new = revision.number == self.revision.number;
        let resets = if is_new { self.resets.clone() } else { Vec::new() };
        let quarantine = Quarantine::default();
        Launch { source: revision.source(), revision: revision.number, resets, quarantine }
    }
}

/// Sees to one flow.
pub struct Supervisor {
    pub launcher: Arc<dyn Launcher>,
    /// Where nodes run.
    pub data: Handle,
    pub goal: watch::Receiver<Goal>,
    pub holds: Holds,
    pub status: watch::Sender<FlowStatus>,
    restarts: Restarts,
    poison: Poison,
    budget: FlowBudget,
    /// What the flow may take, and what it takes.
    usage: Option<(FlowLimits, watch::Receiver<FlowUsage>)>,
    /// What the last run has counted.
    last: Option<Arc<FlowStats>>,
    /// What has become of the last target.
    pub(crate) probation: Option<(Arc<Target>, Probation)>,
}

/// What is known of a text that was not run before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probation {
    /// It has not come to a checkpoint yet.
    Lasts,
    /// It has, so that there is no way back.
    Passed,
    /// It has failed before, so that its fallback runs.
    Failed,
}

/// When to look at the goal again.
pub(crate) enum Next {
    Now,
    /// When it is another one.
    Changed,
    /// When it is another one, or after a pause.
    After(Duration),
}

impl Supervisor {
    /// A supervisor of a flow that has not begun.
    pub fn new(
        launcher: Arc<dyn Launcher>,
        data: Handle,
        policy: RestartPolicy,
        goal: watch::Receiver<Goal>,
        holds: Holds,
        status: watch::Sender<FlowStatus>,
    ) -> Self {
        Self {
            launcher,
            data,
            goal,
            holds,
            status,
            restarts: Restarts::new(policy),
            poison: Poison::default(),
            budget: FlowBudget::default(),
            usage: None,
            last: None,
            probation: None,
        }
    }

    /// Sees to the flow until nobody can want anything of it any more.
    pub async fn run(mut self) {
        loop {
            let goal = self.goal.borrow_and_update().clone();
            let next = match goal {
                Goal::Run(target) => self.run_once(&target).await,
                Goal::Stop | Goal::Abort => {
                    self.enter(State::Stopped);
                    Next::Changed
                }
            };
            let waited = match next {
                Next::Now => Ok(self.goal.has_changed().map(drop)),
                Next::Changed => Ok(self.goal.changed().await),
                Next::After(pause) => timeout(pause, self.goal.changed()).await,
            };
            match waited {
                // Nobody can want anything of it any more.
                Ok(Err(_)) => return,
                // Somebody may have mended what had failed.
                Ok(Ok(())) => self.forget_failures(),
                Err(_) => {}
            }
        }
    }

    /// Runs the flow until it ends, fails, or something else is wanted.
    async fn run_once(&mut self, target: &Arc<Target>) -> Next {
        let revision = self.revision(target);
        self.status.send_modify(|status| {
            status.enter(State::Starting);
            if status.revision != revision.number {
                (status.revision, status.reason, status.stats) = (revision.number, None, None);
            }
        });
        let launched = self.launch(target.launch(&revision)).await;
        let Launched { flow, outline, limits, folders } = match launched {
            Ok(launched) => launched,
            Err(LaunchError::Check(diagnostics)) => return self.fail(diagnostics.to_string(), None, target),
            Err(LaunchError::Flow(error)) => return self.failed(&error, None, target),
        };
        if self.goal.has_changed().unwrap_or(true) {
            return Next::Now;
        }
        let running = flow.start(&self.data);
        self.follows_last(&running);
        if self.is_on_probation(target) {
            running.control().checkpoint();
        }
        self.runs(&running, outline, limits, folders, revision.number);
        self.keep_running(running, target.clone()).await
    }

    /// Sees to a flow that runs, from one text or after another, until it ends.
    async fn keep_running(&mut self, mut running: RunningFlow, mut target: Arc<Target>) -> Next {
        loop {
            let (outcome, change) = self.watch(running, &mut target).await;
            let Outcome { status, handed_over, .. } = outcome;
            match (handed_over, change) {
                (Some(handed_over), Some(change)) => match self.go_on(*handed_over, change, &mut target).await {
                    Ok(gone_on) => running = gone_on,
                    Err(error) => return self.failed(&error, None, &target),
                },
                // What is to run now has still to begin.
                (_, Some(_)) => return Next::Now,
                (_, None) => return self.ended(status, &target),
            }
        }
    }

    /// Has a run take over what is known of the last one.
    pub(crate) fn follows_last(&mut self, running: &RunningFlow) {
        let stats = running.stats();
        if let Some(last) = self.last.replace(stats.clone()) {
            stats.follow(&last);
        }
    }

    /// Says that a flow runs.
    pub(crate) fn runs(
        &mut self,
        running: &RunningFlow,
        outline: Outline,
        limits: FlowLimits,
        folders: Vec<PathBuf>,
        revision: u64,
    ) {
        let usage = watch_usage(running.stats(), folders, &limits);
        self.usage = Some((limits, usage.clone()));
        self.status.send_modify(|status| {
            status.enter(State::Running);
            status.budget = Some(Budget { limits, usage });
            (status.stats, status.control) = (Some(running.stats()), Some(running.control()));
            (status.outline, status.handover, status.revision) = (Some(Arc::new(outline)), None, revision);
        });
        let flow = self.status.borrow().flow.clone();
        tracing::info!(flow, revision, "runs");
    }

    /// The flow has ended.
    fn ended(&mut self, status: Status, target: &Target) -> Next {
        match status {
            Status::Done => {
                self.status.send_modify(|status| {
                    status.enter(State::Finished);
                    status.reason = None;
                });
                Next::Changed
            }
            Status::Stopped => Next::Now,
            Status::Failed(_) if matches!(*self.goal.borrow(), Goal::Abort) => Next::Now,
            Status::Failed(error) => {
                let stats = self.status.borrow().stats.clone();
                let progress = stats.map(|stats| (stats.rows_read(), stats.checkpoint().map(|last| last.rows_read)));
                self.failed(&error, progress, target)
            }
        }
    }

    /// The text that is to run now.
    pub(crate) fn revision(&mut self, target: &Arc<Target>) -> Revision {
        if !self.probation.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, target)) {
            self.probation = Some((target.clone(), Probation::Lasts));
            self.status.send_modify(|status| status.went_back = None);
        }
        let has_failed = self.probation.as_ref().is_some_and(|(_, probation)| *probation == Probation::Failed);
        target.fallback.as_ref().filter(|_| has_failed).unwrap_or(&target.revision).clone()
    }

    /// Whether the flow goes back to the text before if it fails now.
    fn is_on_probation(&self, target: &Target) -> bool {
        target.fallback.is_some() && self.probation.as_ref().is_some_and(|(_, now)| *now == Probation::Lasts)
    }

    /// Plans and prepares the flow where that holds up nobody.
    async fn launch(&self, launch: Launch) -> Result<Launched, LaunchError> {
        let launch = Launch { quarantine: self.poison.quarantine().clone(), ..launch };
        let launcher = self.launcher.clone();
        let launched = tokio::task::spawn_blocking(move || launcher.launch(&launch)).await;
        launched.unwrap_or_else(|panic| {
            let error = Error::caused_by("starting the flow", panic).of_class(ErrorClass::Bug);
            Err(LaunchError::Flow(error.into()))
        })
    }

    /// Waits for the end of a flow, which begins to stop as soon as something else is wanted; or to hand over, if that is another text. It is
    /// given up where it takes too much. With what is still to be done then.
    async fn watch(&mut self, running: RunningFlow, target: &mut Arc<Target>) -> (Outcome, Option<Change>) {
        let control = running.control();
        let mut end = pin!(running.join());
        let mut change: Option<Change> = None;
        let mut is_left = false;
        // Why it is held, or was given up, by what it takes.
        let (mut over, mut exceeded): (Option<Reason>, _) = (None, None);
        self.budget.begin();
        loop {
            let is_asked = change.as_ref().is_some_and(Change::is_asked);
            if self.wants_otherwise(target, change.as_ref()) {
                // Another text has to wait until it is known what has come of the one that was asked for.
                if is_asked {
                    self.stop_if_wanted(&control);
                } else {
                    change = self.turn_to_goal(&control, target);
                }
            }
            // A flow that is about to hand over has to come to a border.
            if is_asked {
                control.resume()
            } else {
                self.hold(over.clone(), &control)
            }
            tokio::select! {
                outcome = &mut end => {
                    let is_over = outcome.handed_over.is_none();
                    self.status.send_if_modified(|status| is_over && status.paused.take().is_some());
                    let outcome = match exceeded {
                        Some(error) => failed_by(error, outcome),
                        None => outcome,
                    };
                    return (outcome, change);
                }
                () = self.holds.changed() => {}
                now = usage_changed(&mut self.usage), if exceeded.is_none() => {
                    let held;
                    (held, exceeded) = verdict(self.budget.look(&now.0, now.1, Instant::now()));
                    // It is said once, and not whenever it is a little more.
                    over = held.map(|why| over.take().unwrap_or(why));
                    if exceeded.is_some() {
                        control.give_up();
                    }
                }
                planned = Change::planned(&mut change) => match (planned, &mut change) {
                    (Ok(plans), Some(change)) => {
                        change.ask(plans, &control);
                        if !change.is_asked() {
                            self.enter(State::Stopping);
                        }
                    }
                    (Err(reason), Some(refused)) => {
                        target.clone_from(&refused.target);
                        change = None;
                        self.refuse(target.clone(), reason);
                    }
                    (_, None) => {}
                },
                changed = self.goal.changed(), if !is_left => is_left = changed.is_err(),
            }
        }
    }

    /// Whether something else is wanted than what runs, or is on its way.
    fn wants_otherwise(&self, target: &Arc<Target>, change: Option<&Change>) -> bool {
        match &*self.goal.borrow() {
            Goal::Run(wanted) => !Arc::ptr_eq(wanted, change.map_or(target, |change| &change.target)),
            Goal::Stop | Goal::Abort => true,
        }
    }

    /// Has a flow do what is wanted now: stop, or go on from another text, which is planned first.
    fn turn_to_goal(&mut self, control: &FlowControl, target: &mut Arc<Target>) -> Option<Change> {
        let goal = self.goal.borrow().clone();
        if let Goal::Run(wanted) = goal {
            let (runs, is_running) = {
                let status = self.status.borrow();
                (status.revision, status.state == State::Running)
            };
            if wanted.revision.number == runs {
                // It runs already: somebody has called a change off.
                _ = self.revision(&wanted);
                *target = wanted;
                return None;
            }
            let former = wanted.fallback.as_ref().filter(|former| is_running && former.number == runs);
            if let Some(former) = former.filter(|_| control.can_hand_over()) {
                let (source, revision) = (former.source(), former.number);
                let back = Launch { source, revision, resets: Vec::new(), quarantine: Quarantine::default() };
                return Some(Change::begin(self.launcher.clone(), wanted.clone(), back, control.clone()));
            }
            control.stop();
            self.enter(State::Stopping);
        }
        self.stop_if_wanted(control);
        None
    }

    /// Has a flow stop, or end at once, if that is wanted.
    fn stop_if_wanted(&self, control: &FlowControl) {
        match *self.goal.borrow() {
            Goal::Run(_) => return,
            Goal::Stop => control.stop(),
            Goal::Abort => control.give_up(),
        }
        self.enter(State::Stopping);
    }

    /// Holds the inputs, or has them go on, as is wanted, or where the flow takes too much.
    fn hold(&mut self, over: Option<Reason>, control: &FlowControl) {
        let held = self.holds.reason().or(over.map(Held::Scarcity));
        let reason = held.as_ref().map(|held| held.reason().clone());
        match held {
            Some(held) => control.pause(held),
            None => control.resume(),
        }
        self.status.send_if_modified(|status| {
            let is_other = status.paused != reason;
            status.paused = reason;
            is_other
        });
    }

    /// The flow has failed: it is started again after a pause, if that may help. `progress` is how many rows it had read, and how many of
    /// them its last checkpoint was of.
    fn failed(&mut self, error: &FlowError, progress: Option<(u64, Option<u64>)>, target: &Target) -> Next {
        let (read, checkpointed) = progress.unwrap_or_default();
        if let (Some((_, probation @ Probation::Lasts)), Some(_)) = (&mut self.probation, checkpointed) {
            *probation = Probation::Passed;
        }
        let stats = progress.and_then(|_| self.status.borrow().stats.clone());
        let (finding, flow) = (stats.map(|stats| self.poison.failed(error, &stats)), self.status.borrow().flow.clone());
        let pause = match finding {
            None | Some(Finding::Nothing) => self.restarts.failed(class_of(&error.error), read, checkpointed),
            Some(Finding::Fails(reason)) => return self.fail(reason, None, target),
            Some(Finding::Among(rows)) => {
                tracing::warn!(flow, "a node fails whenever it comes to {}: they go one by one now", place(&rows));
                Some(self.restarts.other_start())
            }
            Some(Finding::Row(row)) => {
                tracing::error!(flow, node = row.node, "{} is set aside: {}", place(&row.origin), row.error);
                // Whatever fails next is at another place.
                self.restarts.forget();
                Some(self.restarts.other_start())
            }
        };
        self.fail(error.to_string(), pause, target)
    }

    fn fail(&mut self, reason: String, pause: Option<Duration>, target: &Target) -> Next {
        if self.is_on_probation(target) {
            return self.go_back(reason, target);
        }
        let flow = self.status.borrow().flow.clone();
        match pause {
            Some(pause) => {
                tracing::warn!(flow, "has failed and is started again in {:.1} s: {reason}", pause.as_secs_f64())
            }
            None => tracing::error!(flow, "has failed: {reason}"),
        }
        self.status.send_modify(|status| {
            status.enter(if pause.is_some() { State::BackingOff } else { State::Failed });
            status.reason = Some(reason);
            status.restarts += u64::from(pause.is_some());
            status.next_start = pause.map(|pause| Instant::now() + pause);
        });
        pause.map_or(Next::Changed, Next::After)
    }

    /// Lets the text before run again, since nothing of the new one counts yet.
    fn go_back(&mut self, reason: String, target: &Target) -> Next {
        let (flow, revision) = (self.status.borrow().flow.clone(), target.revision.number);
        tracing::error!(
            flow,
            revision,
            "has failed before its first checkpoint, so the revision before runs again: {reason}"
        );
        if let Some((_, probation)) = &mut self.probation {
            *probation = Probation::Failed;
        }
        self.forget_failures();
        self.status.send_modify(|status| status.went_back = Some(Refused::now(Some(revision), reason)));
        Next::Now
    }

    /// What failed is not what runs from now on.
    fn forget_failures(&mut self) {
        self.restarts.forget();
        self.poison.forget();
        self.budget.forget();
    }

    fn enter(&self, state: State) {
        self.status.send_modify(|status| status.enter(state));
    }
}

/// Waits until it is known again what a flow takes; for ever if nobody watches that. Cancel safe.
async fn usage_changed(usage: &mut Option<(FlowLimits, watch::Receiver<FlowUsage>)>) -> (FlowLimits, FlowUsage) {
    if let Some((limits, usage)) = usage
        && usage.changed().await.is_ok()
    {
        return (*limits, *usage.borrow_and_update());
    }
    std::future::pending().await
}

/// Why inputs are held, or the flow is given up.
fn verdict(verdict: Verdict) -> (Option<Reason>, Option<Error>) {
    match verdict {
        Verdict::Fine => (None, None),
        Verdict::Hold(reason) => (Some(reason), None),
        Verdict::Restart(reason) => (None, Some(Error::transient(reason))),
        Verdict::Fail(reason) => (None, Some(Error::new(format!("{reason}, also when it is started again")))),
    }
}

/// The end of a flow that was given up, unless it came to another one before.
fn failed_by(error: Error, outcome: Outcome) -> Outcome {
    match outcome.status {
        Status::Failed(_) => Outcome { status: Status::Failed(error.into()), ..outcome },
        Status::Done | Status::Stopped => outcome,
    }
}
