//! A flow gets another text: an operation that has it go on from that at a checkpoint, and has it go back if it fails before its first
//! checkpoint with the new one.

use std::sync::Arc;

use millstream_core::ResultExt as _;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::actions::Request;
use crate::error::HostError;
use crate::flow_store::{Desired, Owner, Revision, Wanted};
use crate::host::Host;
use crate::launch::FlowSource;
use crate::operations::{Operation, OperationKind, RunningOperation};
use crate::status::State;

/// A text that a flow is to run from.
#[derive(Clone, Debug)]
pub struct Change {
    /// The text, which has been checked.
    pub source: FlowSource,
    /// Who says what the flow is like.
    pub owner: Owner,
    /// What the flow was when somebody decided to change it.
    pub expected: Expected,
    /// What the change is for.
    pub message: Option<String>,
    /// Whether a flow that is new is to run. One that is there stays as it was wanted.
    pub start: bool,
    /// Whether the text counts even if it is the one before: a file that it names is another one.
    pub again: bool,
    /// The nodes that start from scratch with it, so that their state is lost.
    pub resets: Vec<String>,
}

/// What a flow was when somebody decided to change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it was.
    Any,
    /// There was none.
    Absent,
    /// It was at this revision.
    Revision(u64),
}

/// A change that is on its way.
#[derive(Debug)]
pub struct Applied {
    /// The number of the text.
    pub revision: u64,
    /// The number of the one before; none if the flow is new.
    pub former: Option<u64>,
    /// What becomes of it.
    pub operation: watch::Receiver<Operation>,
}

impl Host {
    /// Lets a flow run from a text. One that runs already goes on from it at a checkpoint, with the nodes that do not change as they are; if
    /// it fails with the new text before its first checkpoint, it goes on with the one before.
    ///
    /// # Errors
    /// If the flow has another owner, is at another revision than expected, or is busy.
    pub async fn apply(self: &Arc<Self>, flow: &str, change: Change, request: Request) -> Result<Applied, HostError> {
        // First of all: the other operation may be about to take the flow away.
        if let Some(operation) = self.operations.of_flow(flow) {
            return Err(HostError::Busy { flow: flow.to_owned(), operation });
        }
        self.may_apply(flow, &change)?;
        let operation = self.operations.begin(OperationKind::Apply, flow, &request.by, request.patience).await?;
        let begun = match self.may_apply(flow, &change) {
            // Nobody else changes the flow from here on.
            Ok(former) => self.keep(flow, &change, former, &request).await,
            Err(error) => Err(error),
        };
        let (former, wanted) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                operation.end(Err(error.to_string())).await;
                return Err(error);
            }
        };
        let (revision, watched) = (wanted.revision, operation.watch());
        let (host, name) = (self.clone(), flow.to_owned());
        let applied = Applied { revision, former: former.as_ref().map(|former| former.revision), operation: watched };
        self.carry_out(operation, flow, former, &request, |operation| async move {
            host.carry_out_change(&name, wanted, &operation).await?;
            Ok(revision)
        });
        Ok(applied)
    }

    /// Lets a flow run from a text that it had before, as a revision of its own.
    ///
    /// # Errors
    /// As [`Host::apply`], and if there is no such text or it does not check any more.
    pub async fn roll_back(self: &Arc<Self>, flow: &str, to: u64, request: Request) -> Result<Applied, HostError> {
        let Wanted { owner, revision, .. } = self.wanted(flow)?;
        let (store, name) = (self.store.clone(), flow.to_owned());
        let found = spawn_blocking(move || store.revision(&name, to)).await.doing(|| "reading a revision")??;
        let source = found.ok_or(HostError::NoRevision { flow: flow.to_owned(), revision: to })?.source();
        if let Owner::File { path } = owner {
            return Err(HostError::OfFile { flow: flow.to_owned(), path });
        }
        self.check(source.clone()).await?;
        let message = Some(format!("back to revision {to}"));
        let expected = Expected::Revision(revision);
        self.apply(
            flow,
            Change { source, owner, expected, message, start: true, again: false, resets: Vec::new() },
            request,
        )
        .await
    }

    /// Whether a change may be made. What is wanted of the flow now, if there is one.
    fn may_apply(&self, flow: &str, change: &Change) -> Result<Option<Wanted>, HostError> {
        let former = self.wanted(flow).ok();
        if let Some(former) = &former {
            self.check_owner(flow, &former.owner, &change.owner)?;
        }
        let revision = former.as_ref().map_or(0, |former| former.revision);
        let is_expected = match change.expected {
            Expected::Any => true,
            Expected::Absent => former.is_none(),
            Expected::Revision(expected) => former.is_some() && revision == expected,
        };
        if is_expected { Ok(former) } else { Err(HostError::Outdated { flow: flow.to_owned(), revision }) }
    }

    /// Whether a flow may be changed by `owner`.
    pub(crate) fn check_owner(&self, flow: &str, now: &Owner, owner: &Owner) -> Result<(), HostError> {
        match (now, owner) {
            (Owner::File { path }, Owner::Api) => Err(HostError::OfFile { flow: flow.to_owned(), path: path.clone() }),
            (Owner::Api, Owner::File { .. }) => Err(HostError::OfApi(flow.to_owned())),
            (Owner::File { path }, Owner::File { path: other }) if path != other => {
                Err(HostError::Twice { flow: flow.to_owned(), path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Keeps the text of a change. What was wanted of the flow, and what is from now on.
    async fn keep(
        &self,
        flow: &str,
        change: &Change,
        former: Option<Wanted>,
        request: &Request,
    ) -> Result<(Option<Wanted>, Wanted), HostError> {
        let (store, name, by) = (self.store.clone(), flow.to_owned(), request.by.clone());
        let (source, message, again) = (change.source.clone(), change.message.clone(), change.again);
        let add = move || store.add_revision(&name, &source, &by, message.as_deref(), again);
        let kept: Revision = spawn_blocking(add).await.doing(|| "keeping the text of a flow")??;
        let running = self.watch(flow).map(|status| status.borrow().clone());
        let fallback = running.filter(|now| now.state == State::Running).map(|now| now.revision);
        let wanted = Wanted {
            owner: change.owner.clone(),
            desired: former
                .as_ref()
                .map_or(if change.start { Desired::Running } else { Desired::Stopped }, |former| former.desired),
            revision: kept.number,
            fallback: fallback.filter(|fallback| *fallback != kept.number),
            resets: change.resets.clone(),
        };
        if former.is_none() {
            // Whoever is told of the operation finds the flow.
            self.want(flow, Wanted { desired: Desired::Stopped, ..wanted.clone() }).await?;
        }
        Ok((former, wanted))
    }

    /// Lets a flow run from another text, and waits until there is no way back.
    async fn carry_out_change(&self, flow: &str, wanted: Wanted, operation: &RunningOperation) -> Result<(), String> {
        if let Some(former) = wanted.fallback {
            operation.say(format!("building revision {} beside revision {former}", wanted.revision));
        }
        if wanted.desired == Desired::Stopped {
            return self.want_from_now_on(flow, wanted).await.map_err(|error| error.to_string());
        }
        let Some(fallback) = wanted.fallback else { return self.run(flow, wanted).await };
        let passed = match self.run(flow, wanted.clone()).await {
            Ok(()) => {
                operation.say(format!("waiting for the first checkpoint with revision {}", wanted.revision));
                self.pass(flow, wanted.revision).await
            }
            failed => failed,
        };
        let Err(reason) = passed else {
            if let Some(took) = self.watch(flow).and_then(|status| status.borrow().handover.as_ref()?.took()) {
                operation.took(took);
            }
            let settled = Wanted { fallback: None, resets: Vec::new(), ..wanted };
            return self.want_from_now_on(flow, settled).await.map_err(|error| error.to_string());
        };
        operation.say(format!("going back to revision {fallback}"));
        // Where that fails, the status of the flow says why; what matters here is why the change has failed.
        let _ =
            self.run(flow, Wanted { revision: fallback, fallback: None, resets: Vec::new(), ..wanted.clone() }).await;
        self.refuse(flow, Some(wanted.revision), reason.clone());
        Err(reason)
    }
}
