//! Commits what checkpoints have decided, beside the flow: the stages of a node one after the other, those of different nodes at
//! the same time.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use millstream_core::{CommitContext, Committer, Error, ErrorClass, PendingCommit, Result, State};
use millstream_store::crash;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
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
    stats: Arc<FlowStats>,
    /// Whether what fails is tried again.
    retries: Arc<watch::Sender<bool>>,
}

/// A job that was tried, for the last time or not.
struct Attempted {
    committer: Box<dyn Committer>,
    job: Job,
    result: Result<()>,
}

/// What a node has to commit. It goes on with its work when its flow hands it over.
#[derive(Default)]
pub(super) struct Queue {
    /// It is away while it works.
    committer: Option<Box<dyn Committer>>,
    has_committer: bool,
    jobs: VecDeque<Job>,
    /// The job that is being done.
    running: Option<JoinHandle<Attempted>>,
    /// The stages that are not visible yet, among them one that is being committed.
    pending: usize,
}

impl Commits {
    pub fn new(stats: Arc<FlowStats>) -> Self {
        let queues = stats.nodes.iter().map(|_| Queue::default()).collect();
        Self { queues, stats, retries: Arc::new(watch::Sender::new(true)) }
    }

    /// Takes the queues of all nodes out, and what their jobs look at.
    pub fn hand_over(&mut self) -> (Vec<Queue>, Arc<watch::Sender<bool>>) {
        (std::mem::take(&mut self.queues), self.retries.clone())
    }

    /// Goes on where the commits of another flow have been handed over.
    pub fn go_on(&mut self, retries: Arc<watch::Sender<bool>>) {
        self.retries = retries;
    }

    /// Goes on with what a node has to commit. `retrying` is why its last try has failed, if it has.
    pub fn set_queue(&mut self, node: NodeIndex, queue: Queue, retrying: Option<String>) {
        self.stats.nodes[node].set_pending_commits(queue.pending);
        self.stats.nodes[node].set_retrying(retrying);
        self.queues[node] = queue;
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

    /// Whether a node has nothing left to do.
    pub fn is_idle(&self, node: NodeIndex) -> bool {
        self.queues[node].running.is_none()
    }

    /// Waits for the next job that is done; for ever if there is none. Cancel safe.
    pub async fn next(&mut self) -> Done {
        let (node, attempted) = self.attempted().await;
        self.done(node, attempted)
    }

    async fn attempted(&mut self) -> (NodeIndex, Attempted) {
        poll_fn(|context| {
            for (node, queue) in self.queues.iter_mut().enumerate() {
                let Some(running) = &mut queue.running else { continue };
                let Poll::Ready(attempted) = Pin::new(running).poll(context) else { continue };
                queue.running = None;
                // The task of a runtime that is being shut down has no result, and nobody waits for one any more.
                return attempted.map_or(Poll::Pending, |attempted| Poll::Ready((node, attempted)));
            }
            Poll::Pending
        })
        .await
    }

    fn done(&mut self, node: NodeIndex, attempted: Attempted) -> Done {
        let Attempted { committer, job, result } = attempted;
        self.stats.nodes[node].set_retrying(result.as_ref().err().map(Error::to_string));
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
        for queue in &mut self.queues {
            queue.jobs.clear();
            if let Some(running) = queue.running.take() {
                let _ = running.await;
            }
        }
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
        queue.running = Some(tokio::spawn(worker.run(committer, job).instrument(span)));
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
        let mut attempted = attempt(committer, job).await;
        while let Some(pause) = pause_behind(&attempted.result, &mut pauses) {
            self.note_retry(&attempted.result, pause);
            // An error means that the time is over.
            let is_stopped = timeout(pause, self.retries.wait_for(|retries| !retries)).await.is_ok();
            if is_stopped {
                break;
            }
            attempted = attempt(attempted.committer, attempted.job).await;
        }
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
async fn attempt(mut committer: Box<dyn Committer>, job: Job) -> Attempted {
    let (runtime, span) = (Handle::current(), Span::current());
    let attempted = tokio::task::spawn_blocking(move || {
        let once = AssertUnwindSafe(|| runtime.block_on(do_once(committer.as_mut(), &job).instrument(span)));
        let result = catch_unwind(once).unwrap_or_else(|panic| {
            let message = format!("the committer panicked: {}", panic_message(&*panic));
            Err(Error::new(message).of_class(ErrorClass::Bug))
        });
        Attempted { committer, job, result }
    });
    match attempted.await {
        Ok(attempted) => attempted,
        // The runtime is being shut down, and nobody waits for this any more.
        Err(_) => std::future::pending().await,
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
