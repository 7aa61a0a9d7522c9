//! The loop of a stateless processor: several batches at a time, each on a lane of its own, in order again when they leave.

use std::collections::VecDeque;
use std::future::pending;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use millstream_core::{Batch, Collector, Error, Message, Processor, Watermark};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::node_checkpointing::is_last;
use super::processor::{finish, flush, resume};
use super::{NodeCheckpointing, Phase, Ports, Stop};
use crate::align::{Event, Inputs};

/// A batch that takes less than this is not worth another thread.
const WORTH_A_LANE: Duration = Duration::from_micros(50);

/// A processor and what it has pushed for one batch.
struct Lane {
    processor: Box<dyn Processor>,
    out: Collector,
}

/// What has come of a batch, and how long that took.
struct Processed {
    lane: Lane,
    result: Result<(), Error>,
    took: Duration,
}

/// What leaves next, in the order in which it came.
enum Leaving {
    Rows(JoinHandle<Processed>),
    Watermark(Watermark),
}

/// The lanes of a node.
pub struct Lanes {
    idle: Vec<Lane>,
    leaving: VecDeque<Leaving>,
    /// About how long a batch takes.
    average: Duration,
}

impl Lanes {
    /// As many lanes as there are threads, beginning with `first`. Gives it back if there would be one only.
    pub fn new(first: Box<dyn Processor>, ports: &Ports) -> Result<Self, Box<dyn Processor>> {
        let threads = Handle::current().metrics().num_workers();
        let others: Vec<_> = (1..threads).map_while(|_| first.lane()).collect();
        if others.is_empty() {
            return Err(first);
        }
        let lane = |processor| Lane { processor, out: ports.collector() };
        let idle = others.into_iter().chain([first]).map(lane).collect();
        Ok(Self { idle, leaving: VecDeque::new(), average: WORTH_A_LANE })
    }

    /// Runs the node, which is restored, to its end, or to the barrier at which the flow stops, and gives it back.
    pub async fn run(
        mut self,
        mut inputs: Inputs,
        ports: Ports,
        checkpointing: NodeCheckpointing,
        phase: watch::Receiver<Phase>,
    ) -> Result<Box<dyn Processor>, Stop> {
        resume(None, &mut inputs, &ports, &checkpointing);
        if checkpointing.had_ended() {
            ports.remind(Message::End).await;
            return Ok(self.into_processor());
        }
        loop {
            let event = tokio::select! {
                biased;
                leaving = next(&mut self.leaving) => {
                    self.leave(leaving, &ports).await?;
                    continue;
                }
                event = inputs.next(), if !self.idle.is_empty() => event?,
            };
            if *phase.borrow() >= Phase::Failing {
                return Err(Stop::Closed);
            }
            match event {
                Event::Batch(port, batch) => self.process(port, batch, &ports).await?,
                Event::Watermark(at) => self.leaving.push_back(Leaving::Watermark(Watermark::At(at))),
                Event::Idle => self.leaving.push_back(Leaving::Watermark(Watermark::Idle)),
                Event::PortEnded(_) => {}
                Event::Barrier(epoch) => {
                    self.drain(&ports).await?;
                    ports.check_failed()?;
                    let wanted = checkpointing.wanted(epoch);
                    if let Some(barrier) = wanted {
                        checkpointing.report(barrier, &ports, &mut inputs, Default::default());
                    }
                    ports.remind(Message::Barrier(epoch)).await;
                    if is_last(wanted) {
                        return Ok(self.into_processor());
                    }
                }
                Event::End => {
                    self.drain(&ports).await?;
                    let mut processor = self.into_processor();
                    finish(processor.as_mut(), &mut inputs, &ports, &checkpointing).await?;
                    return Ok(processor);
                }
            }
        }
    }

    /// Works on a batch: on another thread, if it takes long enough.
    async fn process(&mut self, port: usize, batch: Batch, ports: &Ports) -> Result<(), Stop> {
        ports.add_in(port, batch.len());
        let Some(lane) = self.idle.pop() else { return Ok(()) };
        if self.average >= WORTH_A_LANE {
            self.leaving.push_back(Leaving::Rows(tokio::spawn(async move { lane.process(port, batch) })));
            return Ok(());
        }
        self.drain(ports).await?;
        self.take(lane.process(port, batch), ports).await
    }

    /// Sends on what leaves next.
    async fn leave(&mut self, leaving: Result<Processed, Watermark>, ports: &Ports) -> Result<(), Stop> {
        match leaving {
            Ok(processed) => self.take(processed, ports).await,
            Err(watermark) => ports.broadcast(Message::Watermark(watermark)).await,
        }
    }

    /// Sends on what has come of a batch, and what follows from it.
    async fn take(&mut self, processed: Processed, ports: &Ports) -> Result<(), Stop> {
        let Processed { mut lane, result, took } = processed;
        self.average = (self.average * 7 + took) / 8;
        result?;
        flush(lane.processor.as_mut(), ports, &mut lane.out).await?;
        self.idle.push(lane);
        Ok(())
    }

    /// Sends on all that has come.
    async fn drain(&mut self, ports: &Ports) -> Result<(), Stop> {
        while !self.leaving.is_empty() {
            let leaving = next(&mut self.leaving).await;
            self.leave(leaving, ports).await?;
        }
        Ok(())
    }

    fn into_processor(mut self) -> Box<dyn Processor> {
        // Nothing is under way, so that all lanes are here.
        self.idle.swap_remove(0).processor
    }
}

impl Lane {
    fn process(mut self, port: usize, batch: Batch) -> Processed {
        let begin = Instant::now();
        let result = self.processor.process(port, batch, &mut self.out);
        Processed { lane: self, result, took: begin.elapsed() }
    }
}

/// Waits for what leaves next; for ever if nothing does. Cancel safe.
async fn next(leaving: &mut VecDeque<Leaving>) -> Result<Processed, Watermark> {
    let next = match leaving.front_mut() {
        None => pending().await,
        Some(Leaving::Watermark(watermark)) => Err(*watermark),
        Some(Leaving::Rows(task)) => match task.await {
            Ok(processed) => Ok(processed),
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime is being shut down.
            Err(_) => pending().await,
        },
    };
    leaving.pop_front();
    next
}
