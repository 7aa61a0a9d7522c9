//! Commits what checkpoints have decided, beside the flow: the stages of a node one after the other, those of different nodes at
//! the same time.

use std::collections::VecDeque;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{CommitContext, Committer, Error, ErrorClass, PendingCommit, Result, State};
use millstream_store::crash;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use crate::panic::panic_message;
use crate::plan::NodeIndex;
use crate::retry::{pause_behind, pauses};
use crate::stats::FlowStats;

/// How many stages of a node may wait to be committed. Checkpoints wait where there are more, so that a target which is down does
/// not fill the disk.
const MAX_PENDING: usize = 16;

/// What a committer is asked for.
pub(super) enum Job {
    Commit(PendingCommit),
    /// Of the run that goes on, and with what may not be visible.
    Recover(Vec<PendingCommit>, CommitContext),
    /// It has been written down that these stages are visible.
    Committed(PendingCommit),
    Abort(State),
}

/// What has come of a job.
pub(super) struct Done {
    pub node: NodeIndex,
    /// The stage, if one has been committed.
    pub committed: Option<PendingCommit>,
    pub result: Result<()>,
}

/// The committers of all nodes, and what they have to do.
pub(super) struct Commits {
    queues: Vec<Queue>,
    running: JoinSet<Attempted>,
    stats: Arc<FlowStats>,
    /// Whether what fails is tried again.
    retries: watch::Sender<bool>,
}

/// A job that was tried, for the last time or not.
struct Attempted {
    node: NodeIndex,
    committer: Box<dyn Committer>,
    job: Job,
    result: Result<()>,
}

#[derive(Default)]
struct Queue {
    /// It is away while it works.
    committer: Option<Box<dyn Committer>>,
    has_committer: bool,
    jobs: VecDeque<Job>,
    /// The stages that are not visible yet, among them one that is being committed.
    pending: usize,
}

impl Commits {
    pub fn new(stats: Arc<FlowStats>) -> Self {
        let queues = stats.nodes.iter().map(|_| Queue::default()).collect();
        Self { queues, running: JoinSet::new(), stats, retries: watch::Sender::new(true) }
    }

    /// Gives a node its committer, if it has one.
    pub fn set_committer(&mut self, node: NodeIndex, committer: Option<Box<dyn Committer>>) {
        self.queues[node].has_committer = committer.is_some();
        self.queues[node].committer = committer;
    }

    pub fn has_committer(&self, node: NodeIndex) -> bool {
        self.queues[node].has_committer
    }

    /// Has a job done behind those that were given before.
    ///
    /// # Errors
    /// If the node has no committer.
    pub fn push(&mut self, node: NodeIndex, job: Job) -> Result<()> {
        let queue = &mut self.queues[node];
        if !queue.has_committer {
            return Err(Error::new("it has staged something, and nothing can commit it"));
        }
        queue.pending += usize::from(matches!(job, Job::Commit(_)));
        self.stats.nodes[node].set_pending_commits(queue.pending);
        queue.jobs.push_back(job);
        self.start_next(node);
        Ok(())
    }

    /// How many stages of a node are not visible yet.
    pub fn pending(&self, node: NodeIndex) -> usize {
        self.queues[node].pending
    }

    /// Whether a node has so much to commit that no more should be decided.
    pub fn is_full(&self) -> bool {
        self.queues.iter().any(|queue| queue.pending >= MAX_PENDING)
    }

    /// Whether a node has more than one stage to commit, and nothing goes wrong with that. Its rows would wait longer, and not
    /// become visible sooner, if they were divided among more checkpoints.
    pub fn is_behind(&self) -> bool {
        let mut nodes = self.queues.iter().zip(&self.stats.nodes);
        nodes.any(|(queue, stats)| queue.pending > 1 && stats.retrying().is_none())
    }

    /// Whether there is nothing left to do.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for the next job that is done; for ever if there is none. Cancel safe.
    pub async fn next(&mut self) -> Done {
        match self.running.join_next().await {
            None => pending().await,
            Some(Ok(attempted)) => self.done(attempted),
            // A task of a runtime that is being shut down.
            Some(Err(_)) => pending().await,
        }
    }

    fn done(&mut self, attempted: Attempted) -> Done {
        let Attempted { node, committer, job, result } = attempted;
        let queue = &mut self.queues[node];
        queue.committer = Some(committer);
        let committed = match job {
            Job::Commit(stage) if result.is_ok() => {
                queue.pending -= 1;
                self.stats.nodes[node].set_pending_commits(queue.pending);
                Some(stage)
            }
            _ => None,
        };
        if result.is_ok() {
            self.start_next(node);
        } else {
            // What comes behind a stage waits until that is visible.
            queue.jobs.clear();
        }
        Done { node, committed, result }
    }

    /// Nothing is tried again any more: what can't be committed now is left to the next run.
    pub fn stop_retries(&self) {
        self.retries.send_replace(false);
    }

    /// Starts no more jobs, and waits for those that are under way.
    pub async fn give_up(&mut self) {
        self.stop_retries();
        self.queues.iter_mut().for_each(|queue| queue.jobs.clear());
        while self.running.join_next().await.is_some() {}
    }

    fn start_next(&mut self, node: NodeIndex) {
        let queue = &mut self.queues[node];
        let Some(committer) = queue.committer.take() else { return };
        let Some(job) = queue.jobs.pop_front() else {
            queue.committer = Some(committer);
            return;
        };
        let worker = Worker { node, stats: self.stats.clone(), retries: self.retries.subscribe() };
        let span =
            tracing::error_span!("node", flow = self.stats.flow.as_str(), node = self.stats.nodes[node].name.as_str());
        self.running.spawn(worker.run(committer, job).instrument(span));
    }
}

/// Does a job of a node.
struct Worker {
    node: NodeIndex,
    stats: Arc<FlowStats>,
    retries: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self, committer: Box<dyn Committer>, job: Job) -> Attempted {
        let mut pauses = pauses();
        let mut attempted = attempt(self.node, committer, job).await;
        while let Some(pause) = pause_behind(&attempted.result, &mut pauses) {
            self.note_retry(&attempted.result, pause);
            // An error means that the time is over.
            let is_stopped = timeout(pause, self.retries.wait_for(|retries| !retries)).await.is_ok();
            if is_stopped {
                break;
            }
            attempted = attempt(self.node, attempted.committer, attempted.job).await;
        }
        let why = attempted.result.as_ref().err().map(Error::to_string);
        self.stats.nodes[self.node].set_retrying(why);
        attempted
    }

    fn note_retry(&self, result: &Result<()>, pause: Duration) {
        let Err(error) = result else { return };
        let node = &self.stats.nodes[self.node];
        tracing::warn!(%error, "the commit is tried again in {:.1} s", pause.as_secs_f64());
        node.set_retrying(Some(error.to_string()));
    }
}

/// Does a job once. Committers wait for disks, which data must not, and so they have a thread.
async fn attempt(node: NodeIndex, mut committer: Box<dyn Committer>, job: Job) -> Attempted {
    let (runtime, span) = (Handle::current(), Span::current());
    let attempted = tokio::task::spawn_blocking(move || {
        let once = AssertUnwindSafe(|| runtime.block_on(do_once(committer.as_mut(), &job).instrument(span)));
        let result = catch_unwind(once).unwrap_or_else(|panic| {
            let message = format!("the committer panicked: {}", panic_message(&*panic));
            Err(Error::new(message).of_class(ErrorClass::Bug))
        });
        Attempted { node, committer, job, result }
    });
    match attempted.await {
        Ok(attempted) => attempted,
        // The runtime is being shut down, and nobody waits for this any more.
        Err(_) => pending().await,
    }
}

async fn do_once(committer: &mut dyn Committer, job: &Job) -> Result<()> {
    match job {
        Job::Commit(stage) => {
            crash::point("before-commit");
            committer.commit(stage).await?;
            crash::point("after-commit");
            Ok(())
        }
        Job::Recover(stages, run) => {
            crash::point("recovery-before-commit");
            committer.recover(stages, run).await?;
            crash::point("recovery-after-commit");
            Ok(())
        }
        Job::Committed(stage) => committer.committed(stage).await,
        Job::Abort(state) => committer.abort(state).await,
    }
}
