//! Lets a flow stop when nothing of what it has read is on its way any more.
//!
//! A flow that stops works off what is on its edges as well. What `drain` has besides: rows that a buffer keeps leave it, and what outputs
//! have staged is visible before the flow stops, however long its targets take.

use std::sync::Arc;
use std::time::Duration;

use millstream_engine::stats::FlowStats;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::actions::{GLANCE, Request};
use crate::error::HostError;
use crate::flow_store::{Desired, Wanted};
use crate::hold::Reason;
use crate::host::Host;
use crate::operations::{Operation, OperationKind};
use crate::status::{FlowStatus, State};

/// What is on its way through a flow, and how long its nodes have worked.
#[derive(Debug, PartialEq, Eq)]
struct InFlight {
    /// Rows on edges, and rows that buffers keep.
    rows: u64,
    /// Stages that are not visible.
    commits: usize,
    /// How long each node has worked that is no input.
    busy: Vec<Duration>,
}

impl InFlight {
    fn of(stats: &FlowStats) -> Self {
        let on_edges: u64 = stats.edges.iter().map(|edge| edge.queue.waiting().rows).sum();
        let kept: u64 = stats.nodes.iter().map(|node| node.kept_rows() as u64).sum();
        let commits = stats.nodes.iter().map(|node| node.pending_commits()).sum();
        let working = stats.nodes.iter().filter(|node| !node.is_input);
        Self { rows: on_edges + kept, commits, busy: working.map(|node| node.clock.times().busy).collect() }
    }

    fn is_nothing(&self) -> bool {
        self.rows == 0 && self.commits == 0
    }
}

/// Holds the inputs of a flow until it is dropped; then they are held as before, if they were.
struct Held {
    host: Arc<Host>,
    flow: String,
    before: Option<Reason>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.host.set_held(&self.flow, self.before.take());
    }
}

impl Host {
    /// Lets a flow stop when all that it has read is out and visible. Its inputs read nothing more meanwhile. It goes on as before if that
    /// is called off, or does not come about in time; else it stays stopped when the process is started again.
    ///
    /// # Errors
    /// If there is no such flow, or it does not run, or is busy.
    pub async fn drain(
        self: &Arc<Self>,
        flow: &str,
        request: Request,
    ) -> Result<watch::Receiver<Operation>, HostError> {
        let mut status = self.running(flow)?.0;
        let (operation, former) = self.begin(OperationKind::Drain, flow, &request).await?;
        let (host, name, watched) = (self.clone(), flow.to_owned(), operation.watch());
        let wanted = Wanted { desired: Desired::Stopped, ..former.clone() };
        self.carry_out(operation, flow, Some(former), &request, move |operation| async move {
            let before = host.held(&name);
            let _held = Held { host: host.clone(), flow: name.clone(), before };
            host.set_held(&name, Some("it is drained".into()));
            operation.say("its inputs are held; waiting until what they have read is out and visible");
            wait_until_empty(&status).await?;
            host.want_from_now_on(&name, wanted).await.map_err(|error| error.to_string())?;
            operation.say("taking a last checkpoint");
            let at_rest = status.wait_for(|status| status.state.is_at_rest()).await;
            let at_rest = at_rest.map_err(|_| "it is gone")?;
            let last = at_rest.checkpoint().unwrap_or_default();
            let stats = at_rest.stats.clone();
            stats.and_then(|stats| left(&stats)).map_or(Ok(last), |left| Err(format!("it has stopped, but {left}")))
        });
        Ok(watched)
    }
}

/// Waits until nothing is on its way through a flow whose inputs are held.
async fn wait_until_empty(status: &watch::Receiver<FlowStatus>) -> Result<(), String> {
    let mut last = None;
    loop {
        let now = status.borrow().clone();
        let seen = match (now.state, now.stats) {
            (State::Finished, _) => return Ok(()),
            (State::Running, Some(stats)) => InFlight::of(&stats),
            (state, _) => return Err(format!("the flow is {state} now")),
        };
        // Twice the same, so that no node was at work with rows that are on no edge.
        if seen.is_nothing() && now.paused.is_some() && last.as_ref() == Some(&seen) {
            return Ok(());
        }
        last = Some(seen);
        sleep(GLANCE).await;
    }
}

/// What was not out when the flow had stopped, in words.
fn left(stats: &FlowStats) -> Option<String> {
    stats.nodes.iter().find_map(|node| match (node.kept_rows(), node.pending_commits()) {
        (0, 0) => None,
        (0, _) => {
            let why = node.retrying().map(|why| format!(" ({why})")).unwrap_or_default();
            Some(format!("rows of `{}` are not visible yet{why}; they will be when it runs again", node.name))
        }
        (rows, _) => Some(format!("`{}` keeps {rows} rows, which leave it when it runs again", node.name)),
    })
}
