//! A processor that asks others: about several batches at a time, and again where that may help.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{AsyncProcessor, Batch, Collector, Error, Parts, Processor, Result};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::answers::{Answer, AnswerRecorder};
use super::concurrent::{Concurrent, Task, Work};
use super::{NodeCheckpointing, Phase, Ports, Stop, reached};
use crate::plan::{NodeIndex, PlannedRequests};
use crate::retry::{LAST_PATIENCE, pause_behind, pauses};
use crate::stats::FlowStats;

/// The requests of a node that wait for their answers.
pub struct PendingRequests {
    processor: Box<dyn Processor>,
    most: usize,
    under_way: usize,
    request: Request,
    /// If a replay will need what the node is told.
    recorder: Option<AnswerRecorder>,
}

impl PendingRequests {
    /// Requests that a processor makes by `asker`.
    pub fn new(
        processor: Box<dyn Processor>,
        asker: Arc<dyn AsyncProcessor>,
        planned: PlannedRequests,
        ports: &Ports,
        checkpointing: &NodeCheckpointing,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let (stats, node) = ports.flow_stats();
        let request = Request { asker, timeout: planned.timeout, ports: ports.len(), phase, stats, node };
        let is_recorded = planned.answers_may_differ && checkpointing.records;
        let recorder = is_recorded.then(|| AnswerRecorder::new(checkpointing.reporter.clone()));
        Self { processor, most: planned.in_flight, under_way: 0, request, recorder }
    }
}

impl Concurrent for PendingRequests {
    type Done = Result<Answer>;

    fn has_room(&self) -> bool {
        self.under_way < self.most
    }

    fn begin(&mut self, port: usize, batch: Batch) -> Option<Work<Result<Answer>>> {
        self.under_way += 1;
        Some(Work::UnderWay(Task::spawn(self.request.clone().ask(port, batch))))
    }

    async fn leave(&mut self, answer: Result<Answer>, ports: &Ports) -> Result<(), Stop> {
        self.under_way -= 1;
        let mut answer = answer?;
        if let Some(recorder) = &mut self.recorder {
            recorder.note(&mut answer, ports)?;
        }
        ports.flush(&mut answer.out).await?;
        if ports.stats().is_report_wanted() {
            ports.stats().set_report(self.processor.report());
        }
        Ok(())
    }

    fn answers(&mut self) -> Parts {
        self.recorder.as_mut().map(AnswerRecorder::take).unwrap_or_default()
    }

    fn into_processor(self) -> Box<dyn Processor> {
        self.processor
    }
}

/// How a node asks about a batch.
#[derive(Clone)]
struct Request {
    asker: Arc<dyn AsyncProcessor>,
    timeout: Duration,
    /// How many output ports the node has.
    ports: usize,
    phase: watch::Receiver<Phase>,
    stats: Arc<FlowStats>,
    node: NodeIndex,
}

impl Request {
    /// Asks until there is an answer, or an error that asking again does not help against, or until the flow is to stop and does not
    /// wait any longer.
    async fn ask(self, port: usize, batch: Batch) -> Result<Answer> {
        let mut given_up = pin!(last_moment(self.phase.clone()));
        let mut pauses = pauses();
        loop {
            let answer = self.ask_once(port, &batch).await;
            let Some(pause) = pause_behind(&answer, &mut pauses) else {
                self.stats.nodes[self.node].set_retrying(None);
                return answer;
            };
            self.note_retry(&answer, pause);
            tokio::select! {
                () = sleep(pause) => {}
                () = &mut given_up => return answer,
            }
        }
    }

    async fn ask_once(&self, port: usize, batch: &Batch) -> Result<Answer> {
        let mut out = Collector::new(self.ports);
        let asked = timeout(self.timeout, self.asker.ask(port, batch, &mut out)).await;
        asked.unwrap_or_else(|_| Err(no_answer(self.timeout)))?;
        Ok(Answer { rows: batch.len(), out })
    }

    fn note_retry(&self, answer: &Result<Answer>, pause: Duration) {
        let Err(error) = answer else { return };
        let node = &self.stats.nodes[self.node];
        tracing::warn!(%error, "asking again in {:.1} s", pause.as_secs_f64());
        node.set_retrying(Some(error.to_string()));
    }
}

/// When a flow that is to stop waits no longer.
async fn last_moment(mut phase: watch::Receiver<Phase>) {
    reached(&mut phase, Phase::Draining).await;
    sleep(LAST_PATIENCE).await;
}

fn no_answer(within: Duration) -> Error {
    Error::transient(format!("no answer within {} s, which is the `timeout`", within.as_secs_f64()))
}
