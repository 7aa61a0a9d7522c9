//! The loop of a node that works on several batches at a time: what comes of them leaves in the order in which they came.

use std::collections::VecDeque;
use std::future::{Future, pending};

use millstream_core::{Batch, Epoch, Error, Message, Parts, Processor, Snapshot, Watermark, join, spawn_beside};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::processor::{finish, resume};
use super::{NodeCheckpointing, Phase, Ports, Stop, reached};
use crate::align::{Event, Inputs};
use crate::quarantine::AtWork;
use crate::stats::Activity;

/// A node whose batches do not depend on each other.
pub trait Concurrent: Send {
    /// What comes of a batch.
    type Done: Send + 'static;

    /// Whether it can begin with another batch.
    fn has_room(&self) -> bool;

    /// Begins with a batch, for which there is room.
    fn begin(&mut self, port: usize, batch: Batch) -> Option<Work<Self::Done>>;

    /// Sends on what has come of a batch, whose turn it is.
    fn leave(&mut self, done: Self::Done, ports: &Ports) -> impl Future<Output = Result<(), Stop>> + Send;

    /// The barrier of an epoch, or the end, which lies in it. Everything before has left.
    fn pass(&mut self, _: Epoch) -> Result<(), Error> {
        Ok(())
    }

    /// What a replay will need of what has left since it was asked for last.
    fn answers(&mut self) -> Parts {
        Parts::default()
    }

    /// The node, when everything has left.
    fn into_processor(self) -> Box<dyn Processor>;
}

/// A batch that was begun.
pub enum Work<T> {
    /// A task works on it.
    UnderWay(Task<T>),
    /// This has come of it.
    Done(T),
}

/// A task that ends when nobody waits for it any more.
pub struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    /// Works on another thread, if one is free.
    pub fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(spawn_beside(work.in_current_span()))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a node, which is restored, to its end, or to the barrier at which the flow stops, and gives it back.
pub async fn run_concurrently<N: Concurrent>(
    node: N,
    mut inputs: Inputs,
    ports: Ports,
    checkpointing: NodeCheckpointing,
    mut phase: watch::Receiver<Phase>,
) -> Result<Box<dyn Processor>, Stop> {
    let mut queue = Queue { node, leaving: VecDeque::new() };
    let is_over = tokio::select! {
        biased;
        // A slow node need not work off what waits for it when nothing of it counts.
        () = reached(&mut phase, Phase::Failing) => return Err(Stop::Closed),
        is_over = queue.run(&mut inputs, &ports, &checkpointing) => is_over?,
    };
    let answers = queue.node.answers();
    let mut processor = queue.node.into_processor();
    if is_over {
        finish(processor.as_mut(), answers, &mut inputs, &ports, &checkpointing).await?;
    }
    Ok(processor)
}

/// A node, and what leaves it next.
struct Queue<N: Concurrent> {
    node: N,
    /// In the order in which it came.
    leaving: VecDeque<Leaving<N::Done>>,
}

enum Leaving<T> {
    /// What comes of rows.
    Rows(AtWork, Work<T>),
    Watermark(Watermark),
}

impl<N: Concurrent> Queue<N> {
    /// Until all inputs have ended, or until the barrier at which the flow stops. Whether it was the end.
    async fn run(
        &mut self,
        inputs: &mut Inputs,
        ports: &Ports,
        checkpointing: &NodeCheckpointing,
    ) -> Result<bool, Stop> {
        resume(None, inputs, ports, checkpointing);
        if checkpointing.had_ended() {
            ports.remind(Message::End).await;
            return Ok(false);
        }
        loop {
            // What it has begun with is its own work, on whichever thread.
            let activity = if self.leaving.is_empty() { Activity::Waiting } else { Activity::Busy };
            let event = tokio::select! {
                biased;
                leaving = next(&mut self.leaving, ports) => {
                    self.leave(leaving, ports).await?;
                    continue;
                }
                event = ports.spend(activity, inputs.next()), if self.node.has_room() => event?,
            };
            match event {
                Event::Batch(port, batch) => {
                    ports.begin(port, &batch);
                    let rows = AtWork::of(&batch);
                    self.leaving.extend(self.node.begin(port, batch).map(|work| Leaving::Rows(rows, work)));
                }
                Event::SetAside(port, row, error) => {
                    self.drain(ports).await?;
                    ports.set_aside(port, &row, &error).await?;
                }
                Event::Watermark(at) => self.leaving.push_back(Leaving::Watermark(Watermark::At(at))),
                Event::Idle => self.leaving.push_back(Leaving::Watermark(Watermark::Idle)),
                // It keeps no rows.
                Event::PortEnded(_) | Event::Leave(_) => {}
                Event::Barrier(epoch) => {
                    self.drain(ports).await?;
                    ports.check_failed()?;
                    self.node.pass(epoch)?;
                    if let Some(barrier) = checkpointing.wanted(epoch) {
                        let answers = self.node.answers();
                        checkpointing.report(barrier, ports, inputs, Snapshot { answers, ..Snapshot::default() });
                    }
                    ports.remind(Message::Barrier(epoch)).await;
                    if checkpointing.is_last(epoch) {
                        return Ok(false);
                    }
                }
                Event::End => {
                    self.drain(ports).await?;
                    self.node.pass(inputs.epoch())?;
                    return Ok(true);
                }
            }
        }
    }

    /// Sends on what leaves next.
    async fn leave(&mut self, leaving: Result<N::Done, Watermark>, ports: &Ports) -> Result<(), Stop> {
        match leaving {
            Ok(done) => {
                self.node.leave(done, ports).await?;
                ports.finish();
                Ok(())
            }
            Err(watermark) => ports.broadcast(Message::Watermark(watermark)).await,
        }
    }

    /// Sends on all that has come.
    async fn drain(&mut self, ports: &Ports) -> Result<(), Stop> {
        while !self.leaving.is_empty() {
            let leaving = next(&mut self.leaving, ports).await;
            self.leave(leaving, ports).await?;
        }
        Ok(())
    }
}

/// Waits for what leaves next; for ever if nothing does. Cancel safe.
async fn next<T: Send + 'static>(leaving: &mut VecDeque<Leaving<T>>, ports: &Ports) -> Result<T, Watermark> {
    if let Some(Leaving::Rows(rows, work)) = leaving.front_mut() {
        // It may have begun with others meanwhile, at which it does not fail.
        ports.stats().set_at_work(Some(rows.clone()));
        if let Work::UnderWay(task) = work {
            *work = Work::Done(join(&mut task.0).await);
        }
    }
    match leaving.pop_front() {
        Some(Leaving::Rows(_, Work::Done(done))) => Ok(done),
        Some(Leaving::Watermark(watermark)) => Err(watermark),
        // The front is done by now, if there is one.
        Some(Leaving::Rows(_, Work::UnderWay(_))) | None => pending().await,
    }
}
