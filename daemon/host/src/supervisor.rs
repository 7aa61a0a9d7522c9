//! One flow: compares what it is doing with what is wanted of it, and does what is lacking.

use std::pin::pin;
use std::sync::Arc;

use millstream_core::{Error, ErrorClass};
use millstream_engine::run::{FlowControl, FlowError, Outcome, RunningFlow, Status};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout};

use crate::flow_budget::{FlowBudget, FlowLimits, FlowUsage, Verdict, watch_usage};
use crate::flow_store::Revision;
use crate::hold::{Holds, Reason};
use crate::launch::{FlowSource, LaunchError, Launched, Launcher};
use crate::poison::{Finding, Poison, place};
use crate::restart::{RestartPolicy, Restarts, class_of};
use crate::status::{FlowStatus, Refused, State};

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
    /// What has become of the last target.
    probation: Option<(Arc<Target>, Probation)>,
}

/// What is known of a text that was not run before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probation {
    /// It has not come to a checkpoint yet.
    Lasts,
    /// It has, so that there is no way back.
    Passed,
    /// It has failed before, so that its fallback runs.
    Failed,
}

/// When to look at the goal again.
enum Next {
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
        let Launched { flow, outline, limits, folders } = match self.launch(revision.source()).await {
            Ok(launched) => launched,
            Err(LaunchError::Check(diagnostics)) => return self.fail(diagnostics.to_string(), None, target),
            Err(LaunchError::Flow(error)) => return self.failed(&error, None, target),
        };
        if self.goal.has_changed().unwrap_or(true) {
            return Next::Now;
        }
        let running = flow.start(&self.data);
        let control = running.control();
        if self.is_on_probation(target) {
            control.checkpoint();
        }
        self.status.send_modify(|status| {
            status.enter(State::Running);
            (status.stats, status.control) = (Some(running.stats()), Some(control));
            status.outline = Some(Arc::new(outline));
        });
        let name = self.status.borrow().flow.clone();
        tracing::info!(flow = name, revision = revision.number, "runs");
        let usage = watch_usage(running.stats(), folders, &limits);
        match self.watch(running, &limits, usage).await.status {
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
    fn revision(&mut self, target: &Arc<Target>) -> Revision {
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
    async fn launch(&self, source: FlowSource) -> Result<Launched, LaunchError> {
        let (launcher, quarantine) = (self.launcher.clone(), self.poison.quarantine().clone());
        let launched = tokio::task::spawn_blocking(move || launcher.launch(&source, &quarantine)).await;
        launched.unwrap_or_else(|panic| {
            let error = Error::caused_by("starting the flow", panic).of_class(ErrorClass::Bug);
            Err(LaunchError::Flow(error.into()))
        })
    }

    /// Waits for the end of a flow, which begins to stop as soon as something else is wanted, and is given up where it takes too much.
    async fn watch(
        &mut self,
        running: RunningFlow,
        limits: &FlowLimits,
        mut usage: watch::Receiver<FlowUsage>,
    ) -> Outcome {
        let control = running.control();
        let mut end = pin!(running.join());
        let mut is_left = false;
        // Why it is held, or was given up, by what it takes.
        let (mut over, mut exceeded): (Option<Reason>, _) = (None, None);
        self.budget.begin();
        loop {
            self.hold(over.clone(), &control);
            let changed = tokio::select! {
                outcome = &mut end => {
                    self.status.send_modify(|status| status.paused = None);
                    return match exceeded {
                        Some(error) => failed_by(error, outcome),
                        None => outcome,
                    };
                }
                () = self.holds.changed() => continue,
                Ok(()) = usage.changed(), if exceeded.is_none() => {
                    let now = *usage.borrow_and_update();
                    let held;
                    (held, exceeded) = verdict(self.budget.look(limits, now, Instant::now()));
                    // It is said once, and not whenever it is a little more.
                    over = held.map(|why| over.take().unwrap_or(why));
                    if exceeded.is_some() {
                        control.give_up();
                    }
                    continue;
                }
                changed = self.goal.changed(), if !is_left => changed,
            };
            is_left = changed.is_err();
            if matches!(*self.goal.borrow(), Goal::Abort) {
                control.give_up();
            } else {
                control.stop();
            }
            self.enter(State::Stopping);
        }
    }

    /// Holds the inputs, or has them go on, as is wanted, or where the flow takes too much.
    fn hold(&mut self, over: Option<Reason>, control: &FlowControl) {
        let reason = self.holds.reason().or(over);
        if reason.is_some() {
            control.pause()
        } else {
            control.resume()
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
