//! One flow: compares what it is doing with what is wanted of it, and does what is lacking.

use std::pin::pin;
use std::sync::Arc;

use millstream_core::{Error, ErrorClass};
use millstream_engine::run::{FlowError, Outcome, ReadyFlow, RunningFlow, Status};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout};

use crate::launch::{FlowSource, LaunchError, Launcher};
use crate::restart::{RestartPolicy, Restarts};
use crate::status::{FlowStatus, State};

/// What is wanted of a flow. The latest counts; one that nobody has acted on yet is forgotten.
#[derive(Clone, Debug)]
pub enum Goal {
    /// That it runs, from this text.
    Run(Arc<Revision>),
    /// That it stops: at a checkpoint, where it keeps state.
    Stop,
    /// That it ends now. What has been read since the last checkpoint does not count, and is read again by the next run.
    Abort,
}

/// A text of a flow.
#[derive(Debug)]
pub struct Revision {
    /// Which, counted from 1.
    pub number: u64,
    pub source: FlowSource,
}

/// Sees to one flow.
pub struct Supervisor {
    pub launcher: Arc<dyn Launcher>,
    /// Where nodes run.
    pub data: Handle,
    pub goal: watch::Receiver<Goal>,
    pub status: watch::Sender<FlowStatus>,
    restarts: Restarts,
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
        status: watch::Sender<FlowStatus>,
    ) -> Self {
        Self { launcher, data, goal, status, restarts: Restarts::new(policy) }
    }

    /// Sees to the flow until nobody can want anything of it any more.
    pub async fn run(mut self) {
        loop {
            let goal = self.goal.borrow_and_update().clone();
            let next = match goal {
                Goal::Run(revision) => self.run_once(&revision).await,
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
                Ok(Ok(())) => self.restarts.forget(),
                Err(_) => {}
            }
        }
    }

    /// Runs the flow until it ends, fails, or something else is wanted.
    async fn run_once(&mut self, revision: &Arc<Revision>) -> Next {
        self.status.send_modify(|status| {
            status.enter(State::Starting);
            if status.revision != revision.number {
                (status.revision, status.reason) = (revision.number, None);
            }
        });
        let ready = match self.launch(revision.source.clone()).await {
            Ok(ready) => ready,
            Err(LaunchError::Check(diagnostics)) => return self.fail(diagnostics.to_string(), None),
            Err(LaunchError::Flow(error)) => return self.failed(&error, None),
        };
        if self.goal.has_changed().unwrap_or(true) {
            return Next::Now;
        }
        let running = ready.start(&self.data);
        self.status.send_modify(|status| {
            status.enter(State::Running);
            status.stats = Some(running.stats());
        });
        match self.watch(running).await.status {
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
                self.failed(
                    &error,
                    stats.map(|stats| (stats.rows_read(), stats.checkpoint().map(|last| last.rows_read))),
                )
            }
        }
    }

    /// Plans and prepares the flow where that holds up nobody.
    async fn launch(&self, source: FlowSource) -> Result<ReadyFlow, LaunchError> {
        let launcher = self.launcher.clone();
        let launched = tokio::task::spawn_blocking(move || launcher.launch(&source)).await;
        launched.unwrap_or_else(|panic| {
            let error = Error::caused_by("starting the flow", panic).of_class(ErrorClass::Bug);
            Err(LaunchError::Flow(error.into()))
        })
    }

    /// Waits for the end of a flow, which begins to stop as soon as something else is wanted.
    async fn watch(&mut self, running: RunningFlow) -> Outcome {
        let control = running.control();
        let mut end = pin!(running.join());
        let mut is_left = false;
        loop {
            let changed = tokio::select! {
                outcome = &mut end => return outcome,
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

    /// The flow has failed: it is started again after a pause, if that may help. `progress` is how many rows it had read, and how many of
    /// them its last checkpoint was of.
    fn failed(&mut self, error: &FlowError, progress: Option<(u64, Option<u64>)>) -> Next {
        let (read, checkpointed) = progress.unwrap_or_default();
        let pause = self.restarts.failed(error.error.class(), read, checkpointed);
        self.fail(error.to_string(), pause)
    }

    fn fail(&mut self, reason: String, pause: Option<Duration>) -> Next {
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

    fn enter(&self, state: State) {
        self.status.send_modify(|status| status.enter(state));
    }
}
