//! A stateless processor: several batches at a time, each on a lane of its own.

use std::time::{Duration, Instant};

use millstream_core::{Batch, Collector, Error, Processor};
use tokio::runtime::Handle;

use super::concurrent::{Concurrent, Task, Work};
use super::processor::flush;
use super::{Ports, Stop};

/// A batch that takes less than this is not worth another thread.
const WORTH_A_LANE: Duration = Duration::from_micros(50);

/// A processor and what it has pushed for one batch.
struct Lane {
    processor: Box<dyn Processor>,
    out: Collector,
}

/// What has come of a batch, and how long that took.
pub struct Processed {
    lane: Lane,
    result: Result<(), Error>,
    took: Duration,
}

/// The lanes of a node.
pub struct Lanes {
    idle: Vec<Lane>,
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
        Ok(Self { idle, average: WORTH_A_LANE })
    }
}

impl Concurrent for Lanes {
    type Done = Processed;

    fn has_room(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Works on a batch: on another thread, if it takes long enough.
    fn begin(&mut self, port: usize, batch: Batch) -> Option<Work<Processed>> {
        let lane = self.idle.pop()?;
        Some(if self.average >= WORTH_A_LANE {
            Work::UnderWay(Task::spawn(async move { lane.process(port, batch) }))
        } else {
            Work::Done(lane.process(port, batch))
        })
    }

    /// Sends on what has come of a batch, and what follows from it.
    async fn leave(&mut self, processed: Processed, ports: &Ports) -> Result<(), Stop> {
        let Processed { mut lane, result, took } = processed;
        self.average = (self.average * 7 + took) / 8;
        result?;
        flush(lane.processor.as_mut(), ports, &mut lane.out).await?;
        self.idle.push(lane);
        Ok(())
    }

    fn into_processor(mut self) -> Box<dyn Processor> {
        // Nothing is under way, so that all lanes are here.
        self.idle.swap_remove(0).processor
    }
}

impl Lane {
    #[expect(clippy::disallowed_methods, reason = "what a batch costs is real time")]
    fn process(mut self, port: usize, batch: Batch) -> Processed {
        let begin = Instant::now();
        let result = self.processor.process(port, batch, &mut self.out);
        Processed { lane: self, result, took: begin.elapsed() }
    }
}
