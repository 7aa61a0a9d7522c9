//! Drives one processor by hand, without an engine.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use millstream_core::{
    Batch, Collector, Epoch, FailedRow, FilesRead, Kind, Locked, Origin, PlanContext, PortPlan, Processor,
    ProcessorSettings, Report, State, Stream,
};
use tokio::runtime::Builder;

/// What came out of a processor.
#[derive(Debug, Default)]
pub struct Driven {
    /// The batches by port.
    pub ports: BTreeMap<String, Vec<RecordBatch>>,
    /// The rows that it refused.
    pub failed: Vec<FailedRow>,
    /// Its last report.
    pub report: Option<Report>,
    /// How many rows it has pushed at once, at most.
    pub largest: usize,
    /// What it has staged at each of its snapshots, if anything.
    pub(crate) staged: Vec<State>,
}

impl Driven {
    /// The rows of a port as text, see [`crate::rows_as_text`]. Empty if none left by it.
    pub fn text(&self, port: &str) -> String {
        crate::rows_as_text(self.ports.get(port).into_iter().flatten())
    }
}

/// Settings from the body of a node's TOML table.
pub fn parse<T: Kind>(toml: &str) -> T {
    let table: serde_json::Value = toml::from_str(toml).unwrap();
    serde_json::from_value(table).unwrap()
}

/// Where a node called `node` of a flow called `test` stands; all paths are relative to the current folder.
pub fn context() -> PlanContext {
    PlanContext {
        flow: "test".into(),
        node: "node".into(),
        renamed_from: None,
        flow_folder: ".".into(),
        work_folder: ".".into(),
        registry: "models".into(),
        batch_rows: 8192,
        columns: None,
        scripted: false,
        kept: State::default(),
        locked: Locked::default(),
        files: FilesRead::default(),
        expressions: None,
    }
}

/// What arrives at an input port; the node it comes from is called `input`.
pub fn stream(port: &str, schema: SchemaRef) -> Stream {
    Stream { port: port.into(), node: "input".into(), schema, event_time: None, is_live: false }
}

/// Rows whose origin counts from 0.
pub fn batch(rows: RecordBatch) -> Batch {
    let origin = Origin::new("input", "", 0, rows.num_rows() as u64);
    Batch::new(rows, origin)
}

/// When a driven processor is replaced by a new one that goes on from its snapshot, as after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    Never,
    /// Snapshots are taken at barriers and at the end, for what is staged.
    SnapshotsOnly,
    AtEveryBatch,
}

/// Plans and builds a processor, gives it the tables of its inputs (side inputs and the model edge first, each to its
/// end and a barrier), cut into batches of `batch_rows`, then finishes it.
///
/// `inputs` are port names with their tables, in the order of the plan: `from` first. All is done a second time with a
/// processor that is replaced after every batch by one that is restored from its snapshot, and must come to the same.
pub fn drive(settings: &dyn ProcessorSettings, inputs: &[(&str, RecordBatch)], batch_rows: usize) -> Driven {
    drive_at(&context(), settings, inputs, batch_rows)
}

/// [`drive`] of a processor that stands elsewhere than at [`context`].
pub fn drive_at(
    context: &PlanContext,
    settings: &dyn ProcessorSettings,
    inputs: &[(&str, RecordBatch)],
    batch_rows: usize,
) -> Driven {
    let streams: Vec<_> = inputs.iter().map(|(port, rows)| stream(port, rows.schema())).collect();
    both_ways(|renewal| {
        let mut driver = Driver::new(context, settings, &streams, renewal);
        driver.pass(inputs, batch_rows);
        driver.ended(0);
        driver.end()
    })
}

/// How far rows are out of order, and how they are cut.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// By how many microseconds a row may be earlier than one before it.
    pub lateness: i64,
    /// After how many rows the watermark moves.
    pub watermark_rows: usize,
    /// After how many rows an epoch ends.
    pub epoch_rows: usize,
    /// How many rows a batch has at most.
    pub batch_rows: usize,
}

/// Plans and builds a processor, and gives it rows whose event time is in their column `at`, with watermarks and barriers
/// as an input would have them; then finishes it. All is done a second time with a processor that is replaced, as in
/// [`drive`].
pub fn drive_in_time(settings: &dyn ProcessorSettings, rows: &RecordBatch, timing: Timing) -> Driven {
    let stream = stream_in_time(rows);
    both_ways(|renewal| {
        let mut driver = Driver::new(&context(), settings, std::slice::from_ref(&stream), renewal);
        driver.pass_in_time(rows, timing);
        driver.ended(0);
        driver.end()
    })
}

/// Rows whose event time is in their column `at`.
pub(crate) fn stream_in_time(rows: &RecordBatch) -> Stream {
    Stream { event_time: Some("at".into()), ..stream("from", rows.schema()) }
}

/// Without renewals and with them.
fn both_ways(drive: impl Fn(Renewal) -> Driven) -> Driven {
    let driven = drive(Renewal::Never);
    let renewed = drive(Renewal::AtEveryBatch);
    let ports: Vec<_> = driven.ports.keys().chain(renewed.ports.keys()).collect();
    for port in ports {
        assert_eq!(renewed.text(port), driven.text(port), "port `{port}` of a processor that was restored");
    }
    let failed =
        |driven: &Driven| driven.failed.iter().map(|row| (row.error.clone(), row.row.clone())).collect::<Vec<_>>();
    assert_eq!(failed(&renewed), failed(&driven), "failed rows of a processor that was restored");
    assert_eq!(
        format!("{:?}", renewed.report),
        format!("{:?}", driven.report),
        "report of a processor that was restored"
    );
    driven
}

/// A processor at work.
pub(crate) struct Driver<'a> {
    context: PlanContext,
    settings: &'a dyn ProcessorSettings,
    streams: &'a [Stream],
    renewal: Renewal,
    ports: Vec<PortPlan>,
    processor: Box<dyn Processor>,
    /// What the processor pushes to, and what was taken from there.
    out: Collector,
    taken: Collector,
    largest: usize,
    /// The ports that have ended.
    over: Vec<usize>,
    /// What the processor kept last.
    state: State,
    staged: Vec<State>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        context: &PlanContext,
        settings: &'a dyn ProcessorSettings,
        streams: &'a [Stream],
        renewal: Renewal,
    ) -> Self {
        let plan = settings.plan(context, streams).unwrap();
        let collector = || Collector::new(plan.ports.len());
        Self {
            context: context.clone(),
            settings,
            streams,
            renewal,
            out: collector(),
            taken: collector(),
            largest: 0,
            ports: plan.ports,
            processor: (plan.build)().unwrap(),
            over: Vec::new(),
            state: State::default(),
            staged: Vec::new(),
        }
    }

    /// Takes what was pushed, and what follows from it.
    fn take(&mut self) {
        loop {
            let mut rows = 0;
            for port in 0..self.ports.len() {
                for batch in self.out.take(port) {
                    rows += batch.len();
                    self.taken.push(port, batch);
                }
            }
            self.out.take_failed().into_iter().for_each(|row| self.taken.fail(row));
            self.largest = self.largest.max(rows);
            if !self.processor.more(&mut self.out).unwrap() {
                return;
            }
        }
    }

    /// Passes all rows of the inputs, the last input first; all but the first input end.
    pub(crate) fn pass(&mut self, inputs: &[(&str, RecordBatch)], batch_rows: usize) {
        for (port, (_, rows)) in inputs.iter().enumerate().rev() {
            let mut start = 0;
            while start < rows.num_rows() {
                let count = batch_rows.min(rows.num_rows() - start);
                self.process(port, rows, start..start + count);
                start += count;
            }
            if port > 0 {
                self.ended(port);
                self.processor.barrier(Epoch::default().next(), &mut self.out).unwrap();
                self.take();
            }
        }
    }

    /// Passes all rows of a side input, which ends with them.
    pub(crate) fn pass_side(&mut self, port: usize, rows: &RecordBatch, batch_rows: usize) {
        for start in (0..rows.num_rows()).step_by(batch_rows) {
            self.process(port, rows, start..rows.num_rows().min(start + batch_rows));
        }
        self.ended(port);
    }

    fn process(&mut self, port: usize, rows: &RecordBatch, range: Range<usize>) {
        let origin = Origin::new("input", "", range.start as u64, range.end as u64);
        let batch = Batch::new(rows.slice(range.start, range.len()), origin);
        match self.processor.asks() {
            None => self.processor.process(port, batch, &mut self.out),
            Some(asker) => Builder::new_current_thread().enable_all().build().unwrap().block_on(asker.ask(
                port,
                &batch,
                &mut self.out,
            )),
        }
        .unwrap();
        self.take();
        if self.renewal == Renewal::AtEveryBatch {
            self.renew();
        }
    }

    /// Goes on with a new processor.
    fn renew(&mut self) {
        let state = self.state();
        self.processor = (self.settings.plan(&self.context, self.streams).unwrap().build)().unwrap();
        self.processor.restore(&state).unwrap();
        for port in &self.over {
            self.processor.ended(*port, &mut self.out).unwrap();
        }
        self.take();
    }

    /// What the processor keeps.
    pub(crate) fn state(&mut self) -> State {
        let snapshot = self.processor.snapshot().unwrap();
        self.staged.extend(Some(snapshot.staged.into_state().unwrap()).filter(|staged| !staged.is_empty()));
        self.state = snapshot.state.into_state_after(&self.state).unwrap();
        self.state.clone()
    }

    pub(crate) fn pass_in_time(&mut self, rows: &RecordBatch, timing: Timing) {
        let times = rows.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>();
        let mut epoch = Epoch::default();
        let (mut start, mut said) = (0, None);
        while start < rows.num_rows() {
            let left = |every: usize| every - start % every;
            let count = left(timing.watermark_rows).min(left(timing.epoch_rows)).min(timing.batch_rows);
            let end = (start + count).min(rows.num_rows());
            self.process(0, rows, start..end);
            start = end;
            let is_border = start % timing.epoch_rows == 0;
            if is_border || start % timing.watermark_rows == 0 {
                let watermark = times.values()[..start].iter().max().map(|latest| latest - timing.lateness);
                if watermark > said {
                    self.processor.watermark(watermark.unwrap(), &mut self.out).unwrap();
                    self.take();
                    said = watermark;
                }
            }
            if is_border {
                epoch = epoch.next();
                self.processor.barrier(epoch, &mut self.out).unwrap();
                self.take();
                self.snapshot();
            }
        }
    }

    /// Takes a snapshot, if that is wanted.
    fn snapshot(&mut self) {
        match self.renewal {
            Renewal::Never => {}
            Renewal::SnapshotsOnly => _ = self.state(),
            Renewal::AtEveryBatch => self.renew(),
        }
    }

    pub(crate) fn ended(&mut self, port: usize) {
        self.processor.ended(port, &mut self.out).unwrap();
        self.take();
        self.over.push(port);
    }

    pub(crate) fn end(mut self) -> Driven {
        self.processor.finish(&mut self.out).unwrap();
        self.take();
        self.snapshot();
        let mut out = self.taken;
        let (failed, report, staged) = (out.take_failed(), self.processor.report(), self.staged);
        let mut driven = Driven { failed, report, staged, ..Driven::default() };
        driven.largest = self.largest;
        for (index, port) in self.ports.iter().enumerate() {
            let batches: Vec<_> = out.take(index).map(|batch| batch.rows).collect();
            if !batches.is_empty() {
                driven.ports.insert(port.name.clone(), batches);
            }
        }
        driven
    }
}
