//! What can be done with flows. Each is an operation: it is asked for, has a deadline, can be called off, and has an end that is kept.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Result, ResultExt as _};
use millstream_engine::run::FlowControl;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::error::HostError;
use crate::flow_store::{Desired, Owner, Wanted};
use crate::host::{Host, LAST_MOMENT};
use crate::operations::{Operation, OperationKind, RunningOperation};
use crate::status::{FlowStatus, State};

/// Who asks for something, and how long it may take.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub by: String,
    /// How long it may take.
    pub patience: Duration,
}

/// How often it is looked whether something has come about of which nobody tells.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);

impl Host {
    /// Lets a flow run that was stopped or has failed.
    ///
    /// # Errors
    /// If there is no such flow, or it is busy.
    pub async fn start(
        self: &Arc<Self>,
        flow: &str,
        request: Request,
    ) -> Result<watch::Receiver<Operation>, HostError> {
        let (operation, former) = self.begin(OperationKind::Start, flow, &request).await?;
        let (host, name, watched) = (self.clone(), flow.to_owned(), operation.watch());
        let wanted = Wanted { desired: Desired::Running, ..former.clone() };
        self.carry_out(operation, flow, Some(former), &request, |_| async move {
            host.run(&name, wanted.clone()).await?;
            Ok(wanted.revision)
        });
        Ok(watched)
    }

    /// Lets a flow stop at a checkpoint; or at once, so that what it has read since the last one is read again by its next run. It stays
    /// stopped when the process is started again.
    ///
    /// # Errors
    /// If there is no such flow, or it is busy.
    pub async fn stop(
        self: &Arc<Self>,
        flow: &str,
        at_once: bool,
        request: Request,
    ) -> Result<watch::Receiver<Operation>, HostError> {
        let (operation, former) = self.begin(OperationKind::Stop, flow, &request).await?;
        let (host, name, watched) = (self.clone(), flow.to_owned(), operation.watch());
        let wanted = Wanted { desired: Desired::Stopped, ..former.clone() };
        self.carry_out(operation, flow, Some(former), &request, move |operation| async move {
            let mut status = host.watch(&name).ok_or("it is gone")?;
            host.want_from_now_on(&name, wanted).await.map_err(|error| error.to_string())?;
            if at_once {
                host.abort(&name);
            } else {
                operation.say("working off what it has read, and taking a last checkpoint");
            }
            let at_rest = status.wait_for(|status| status.state.is_at_rest()).await;
            Ok(at_rest.map_err(|_| "it is gone")?.checkpoint().unwrap_or_default())
        });
        Ok(watched)
    }

    /// Lets a flow take a checkpoint now.
    ///
    /// # Errors
    /// If there is no such flow, or it does not run, or is busy.
    pub async fn checkpoint(
        self: &Arc<Self>,
        flow: &str,
        request: Request,
    ) -> Result<watch::Receiver<Operation>, HostError> {
        let (status, control) = self.running(flow)?;
        let (operation, former) = self.begin(OperationKind::Checkpoint, flow, &request).await?;
        let watched = operation.watch();
        self.carry_out(operation, flow, Some(former), &request, |_| async move {
            let before = status.borrow().checkpoint();
            control.checkpoint();
            loop {
                let now = status.borrow().clone();
                match now.checkpoint() {
                    Some(number) if Some(number) != before => return Ok(number),
                    _ if now.state != State::Running => return Err(format!("the flow is {} now", now.state)),
                    _ => sleep(GLANCE).await,
                }
            }
        });
        Ok(watched)
    }

    /// Takes a flow away when it has stopped at a checkpoint. Its state and its texts stay.
    ///
    /// # Errors
    /// If there is no such flow, another owner has it, or it is busy.
    pub async fn remove(
        self: &Arc<Self>,
        flow: &str,
        owner: &Owner,
        request: Request,
    ) -> Result<watch::Receiver<Operation>, HostError> {
        self.check_owner(flow, &self.wanted(flow)?.owner, owner)?;
        let (operation, former) = self.begin(OperationKind::Remove, flow, &request).await?;
        let (host, name, watched) = (self.clone(), flow.to_owned(), operation.watch());
        // It ends in time: what does not stop by itself is aborted.
        let patience = request.patience.saturating_sub(2 * LAST_MOMENT);
        self.carry_out(operation, flow, Some(former), &request, move |_| async move {
            let last = host.forget(&name, patience).await.map_err(|error| error.to_string())?;
            Ok(last.unwrap_or_default())
        });
        Ok(watched)
    }

    /// A flow that runs, and what tells it what to do.
    ///
    /// # Errors
    /// If there is no such flow, or it does not run.
    pub fn running(&self, flow: &str) -> Result<(watch::Receiver<FlowStatus>, FlowControl), HostError> {
        let status = self.watch(flow).ok_or_else(|| HostError::NoFlow(flow.to_owned()))?;
        let (control, state) = {
            let seen = status.borrow();
            (seen.control.clone(), seen.state.name())
        };
        let control = control.ok_or_else(|| HostError::NotRunning { flow: flow.to_owned(), state })?;
        Ok((status, control))
    }

    /// Begins an operation on a flow that is there.
    pub(crate) async fn begin(
        &self,
        kind: OperationKind,
        flow: &str,
        request: &Request,
    ) -> Result<(RunningOperation, Wanted), HostError> {
        self.wanted(flow)?;
        let operation = self.operations.begin(kind, flow, &request.by, request.patience).await?;
        match self.wanted(flow) {
            Ok(wanted) => Ok((operation, wanted)),
            Err(error) => {
                operation.end(Err(error.to_string())).await;
                Err(error)
            }
        }
    }

    /// Lets a flow run, and waits until it does.
    pub(crate) async fn run(&self, flow: &str, wanted: Wanted) -> Result<(), String> {
        let revision = wanted.revision;
        let mut status = self.watch(flow).ok_or("it is gone")?;
        status.mark_unchanged();
        self.want_from_now_on(flow, wanted).await.map_err(|error| error.to_string())?;
        // What it was before says nothing, unless it is what is wanted already.
        let mut is_fresh = status.has_changed().unwrap_or(true);
        loop {
            let outcome = outcome(&status.borrow_and_update(), revision);
            match outcome {
                Some(Ok(())) => return Ok(()),
                Some(Err(reason)) if is_fresh => return Err(reason),
                _ => status.changed().await.map_err(|_| "it is gone")?,
            }
            is_fresh = true;
        }
    }

    /// Waits until a flow has taken a checkpoint with a text, or has come to its end.
    pub(crate) async fn pass(&self, flow: &str, revision: u64) -> Result<(), String> {
        let status = self.watch(flow).ok_or("it is gone")?;
        loop {
            let now = status.borrow().clone();
            match outcome(&now, revision) {
                Some(Err(reason)) => return Err(reason),
                Some(Ok(())) if now.checkpoint().is_some() || now.state == State::Finished => return Ok(()),
                _ => sleep(GLANCE).await,
            }
        }
    }

    /// Carries an operation out beside everything else, until its end, its deadline, or until somebody calls it off. What is called off is
    /// undone: then the flow is wanted as it was before.
    pub(crate) fn carry_out<W, F>(
        self: &Arc<Self>,
        operation: RunningOperation,
        flow: &str,
        former: Option<Wanted>,
        request: &Request,
        work: W,
    ) where
        W: FnOnce(Arc<RunningOperation>) -> F,
        F: Future<Output = Result<u64, String>> + Send + 'static,
    {
        let (host, flow, patience) = (self.clone(), flow.to_owned(), request.patience);
        let operation = Arc::new(operation);
        let work = work(operation.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = timeout(patience, work) => ended.unwrap_or_else(|_| Err(host.late(&flow, patience))),
                () = operation.cancelled() => host.undo(&flow, former).await,
            };
            operation.end(ended).await;
        });
    }

    /// Lets a flow be wanted as it was before; one that was not there is taken away.
    async fn undo(&self, flow: &str, former: Option<Wanted>) -> Result<u64, String> {
        let undone = match former {
            Some(former) => self.want_from_now_on(flow, former).await,
            None => self.forget(flow, LAST_MOMENT).await.map(drop),
        };
        undone.map(|()| 0).map_err(|error| error.to_string())
    }

    /// Nothing is wanted of a flow any more: it is taken away when it has stopped at a checkpoint, or when that takes too long, without
    /// one. The number of its last checkpoint, if it has taken one.
    async fn forget(&self, flow: &str, patience: Duration) -> Result<Option<u64>> {
        let (store, name) = (self.store.clone(), flow.to_owned());
        spawn_blocking(move || store.forget(&name)).await.doing(|| "forgetting a flow")??;
        let Some(mut status) = self.watch(flow) else { return Ok(None) };
        self.stop_now(flow);
        if timeout(patience, status.wait_for(|status| status.state.is_at_rest())).await.is_err() {
            self.abort(flow);
            let _ = timeout(LAST_MOMENT, status.wait_for(|status| status.state.is_at_rest())).await;
        }
        let last = status.borrow().checkpoint();
        self.take_away(flow).await;
        Ok(last)
    }

    fn late(&self, flow: &str, patience: Duration) -> String {
        let state = self.watch(flow).map_or("gone", |status| status.borrow().state.name());
        format!("it was not done within {} s: the flow is {state}, and goes on to what is wanted", patience.as_secs())
    }
}

/// What has become of a flow that is to run from a text. Nothing yet, if it is still on its way.
fn outcome(status: &FlowStatus, revision: u64) -> Option<Result<(), String>> {
    if let Some(refused) = status.went_back.as_ref().filter(|refused| refused.revision == Some(revision)) {
        return Some(Err(refused.reason.clone()));
    }
    let reason = || status.reason.clone().unwrap_or_else(|| format!("the flow is {}", status.state));
    match status.state {
        _ if status.revision != revision => None,
        State::Running | State::Finished => Some(Ok(())),
        State::Failed | State::BackingOff => Some(Err(reason())),
        State::Stopped | State::Starting | State::Stopping => None,
    }
}
