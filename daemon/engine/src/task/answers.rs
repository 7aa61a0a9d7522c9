//! What others have told a node: noted where it comes, and told again when a run is gone through again.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{
    Batch, Collector, Epoch, Error, FailedRow, Origin, Parts, Processor, Result, ResultExt, State, batch_bytes,
};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::concurrent::{Concurrent, Work};
use super::{Ports, Stop};
use crate::checkpoint::{Recorded, Reporter};

/// How many bytes of answers wait in memory for a checkpoint to take them. Where there are more, it is taken out of turn, so that those
/// of the rows that wait on edges are all that comes on top.
const MOST_BYTES: usize = if cfg!(test) { 64 << 10 } else { 16 << 20 };

/// What was pushed for so many rows.
pub struct Answer {
    /// How many.
    pub rows: usize,
    /// What.
    pub out: Collector,
}

/// An answer but for the rows that were pushed, which stand by port in the order of their answers.
#[derive(Serialize, Deserialize)]
struct RecordedAnswer {
    rows: usize,
    /// The port and the origin of each batch.
    pushed: Vec<(usize, Origin)>,
    failed: Vec<FailedRow>,
}

/// The part of a state with what is [`RecordedAnswer`].
const ANSWERS: &str = "answers";

/// The part of a state with the rows that left by a port.
fn rows_of(port: usize) -> String {
    format!("rows of port {port}")
}

/// Notes what a node is told.
pub struct AnswerRecorder {
    reporter: Reporter,
    answers: Vec<RecordedAnswer>,
    rows: BTreeMap<usize, Vec<RecordBatch>>,
    bytes: usize,
}

impl AnswerRecorder {
    /// Of a node whose checkpoints are asked for by `reporter`.
    pub fn new(reporter: Reporter) -> Self {
        Self { reporter, answers: Vec::new(), rows: BTreeMap::new(), bytes: 0 }
    }

    /// Notes an answer that is about to leave, and brings it to the types in which it does.
    pub fn note(&mut self, answer: &mut Answer, ports: &Ports) -> Result<()> {
        let mut recorded = RecordedAnswer { rows: answer.rows, pushed: Vec::new(), failed: answer.out.take_failed() };
        let before = self.bytes;
        for port in 0..ports.len() {
            let pushed: Vec<Batch> = answer.out.take(port).collect();
            for Batch { rows, origin, .. } in pushed {
                let rows = ports.canonical(port, rows)?;
                self.bytes += batch_bytes(&rows);
                recorded.pushed.push((port, origin.clone()));
                self.rows.entry(port).or_default().push(rows.clone());
                answer.out.push(port, Batch::new(rows, origin));
            }
        }
        for row in &recorded.failed {
            self.bytes += row.row.len() + row.error.len();
            answer.out.fail(row.clone());
        }
        self.answers.push(recorded);
        if before < MOST_BYTES && self.bytes >= MOST_BYTES {
            self.reporter.hurry();
        }
        Ok(())
    }

    /// What was noted since the last time.
    pub fn take(&mut self) -> Parts {
        let mut parts = Parts::default();
        if !self.answers.is_empty() {
            parts.put_later(ANSWERS, std::mem::take(&mut self.answers));
        }
        for (port, batches) in std::mem::take(&mut self.rows) {
            parts.put_rows(rows_of(port), batches[0].schema(), batches);
        }
        self.bytes = 0;
        parts
    }
}

/// A node that is told what it was told before, instead of asking.
pub struct AnswerReplay {
    processor: Box<dyn Processor>,
    recorded: Recorded,
    answers: VecDeque<Answer>,
    /// How many rows have come that are not answered yet. Batches need not be those of the run before; but wherever that run had sent
    /// something else between rows, such as a watermark, a batch had ended.
    waiting: usize,
}

impl AnswerReplay {
    /// The node as it was recorded.
    pub fn new(processor: Box<dyn Processor>, recorded: Recorded) -> Self {
        Self { processor, recorded, answers: VecDeque::new(), waiting: 0 }
    }

    /// The next answer, if all rows have come that it is for.
    async fn next(&mut self, ports: &Ports) -> Result<Option<Answer>> {
        if self.answers.is_empty()
            && let Some(pieces) = self.recorded.answers.pop_front()
        {
            let (store, schemas) = (self.recorded.store.clone(), ports.schemas());
            let read = spawn_blocking(move || answers(&store.state(&pieces)?, &schemas)).await;
            let doing = || "reading what it was told";
            self.answers = read.doing(doing)?.doing(doing)?;
        }
        let answer = self.answers.pop_front_if(|answer| answer.rows <= self.waiting);
        self.waiting -= answer.as_ref().map_or(0, |answer| answer.rows);
        Ok(answer)
    }
}

impl Concurrent for AnswerReplay {
    type Done = usize;

    fn has_room(&self) -> bool {
        true
    }

    fn begin(&mut self, _: usize, batch: Batch) -> Option<Work<usize>> {
        Some(Work::Done(batch.len()))
    }

    async fn leave(&mut self, rows: usize, ports: &Ports) -> Result<(), Stop> {
        self.waiting += rows;
        while let Some(mut answer) = self.next(ports).await? {
            ports.flush(&mut answer.out).await?;
        }
        Ok(())
    }

    fn pass(&mut self, epoch: Epoch) -> Result<()> {
        // What came later than what is gone through again is of no interest.
        let rows = std::mem::take(&mut self.waiting);
        if rows > 0 && epoch <= self.recorded.until {
            Err(Error::new(format!("it is not recorded what it was told about {rows} rows of epoch {epoch}")))
        } else {
            Ok(())
        }
    }

    fn into_processor(self) -> Box<dyn Processor> {
        self.processor
    }
}

/// The answers of which a checkpoint tells.
fn answers(state: &State, schemas: &[SchemaRef]) -> Result<VecDeque<Answer>> {
    let rows = |(port, schema): (usize, &SchemaRef)| {
        if state.has(&rows_of(port)) {
            state.rows(&rows_of(port), schema).map(Vec::into_iter)
        } else {
            Ok(Vec::new().into_iter())
        }
    };
    let mut rows = schemas.iter().enumerate().map(rows).collect::<Result<Vec<_>>>()?;
    let recorded: Vec<RecordedAnswer> = state.get(ANSWERS)?;
    let answer = |RecordedAnswer { rows: count, pushed, failed }: RecordedAnswer| {
        let mut out = Collector::new(schemas.len());
        for (port, origin) in pushed {
            let batch = rows.get_mut(port).and_then(Iterator::next);
            let batch = batch.ok_or_else(|| Error::new("rows are missing"))?;
            out.push(port, Batch::new(batch, origin));
        }
        failed.into_iter().for_each(|row| out.fail(row));
        Ok(Answer { rows: count, out })
    };
    recorded.into_iter().map(answer).collect()
}
