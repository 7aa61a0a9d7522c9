//! Drives one processor by hand, without an engine.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use millstream_core::{
    Batch, Collector, Epoch, FailedRow, Kind, Origin, PlanContext, PortPlan, Processor, ProcessorSettings, Report,
    Stream,
};

/// What came out of a processor.
#[derive(Debug, Default)]
pub struct Driven {
    /// The batches by port.
    pub ports: BTreeMap<String, Vec<RecordBatch>>,
    /// The rows that it refused.
    pub failed: Vec<FailedRow>,
    /// Its last report, before commit.
    pub report: Option<Report>,
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
        flow_folder: ".".into(),
        work_folder: ".".into(),
        registry: "models".into(),
        batch_rows: 8192,
        columns: None,
    }
}

/// What arrives at an input port; the node it comes from is called `input`.
pub fn stream(port: &str, schema: SchemaRef) -> Stream {
    Stream { port: port.into(), node: "input".into(), schema, event_time: None }
}

/// Rows whose origin counts from 0.
pub fn batch(rows: RecordBatch) -> Batch {
    let origin = Origin::new("input", "", 0, rows.num_rows() as u64);
    Batch::new(rows, origin)
}

/// Plans and builds a processor, gives it the tables of its inputs (side inputs and the model edge first, each to its
/// end and a border), cut into batches of `batch_rows`, then finishes it.
///
/// `inputs` are port names with their tables, in the order of the plan: `from` first.
pub fn drive(settings: &dyn ProcessorSettings, inputs: &[(&str, RecordBatch)], batch_rows: usize) -> Driven {
    let streams: Vec<_> = inputs.iter().map(|(port, rows)| stream(port, rows.schema())).collect();
    let plan = settings.plan(&context(), &streams).unwrap();
    let mut processor = (plan.build)().unwrap();
    let mut out = Collector::new(plan.ports.len());
    for (port, (_, rows)) in inputs.iter().enumerate().rev() {
        let mut start = 0;
        while start < rows.num_rows() {
            let count = batch_rows.min(rows.num_rows() - start);
            let origin = Origin::new("input", "", start as u64, (start + count) as u64);
            processor.process(port, Batch::new(rows.slice(start, count), origin), &mut out).unwrap();
            start += count;
        }
        processor.ended(port, &mut out).unwrap();
        if port > 0 {
            processor.border(Epoch::default().next(), &mut out).unwrap();
        }
    }
    end(processor, &plan.ports, out)
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

/// Plans and builds a processor, and gives it rows whose event time is in their column `at`, with watermarks and borders
/// as an input would have them; then finishes it.
pub fn drive_in_time(settings: &dyn ProcessorSettings, rows: &RecordBatch, timing: Timing) -> Driven {
    let stream = Stream { event_time: Some("at".into()), ..stream("from", rows.schema()) };
    let plan = settings.plan(&context(), &[stream]).unwrap();
    let mut processor = (plan.build)().unwrap();
    let mut out = Collector::new(plan.ports.len());
    let times = rows.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>();
    let mut epoch = Epoch::default();
    let (mut start, mut said) = (0, None);
    while start < rows.num_rows() {
        let left = |every: usize| every - start % every;
        let count = left(timing.watermark_rows).min(left(timing.epoch_rows)).min(timing.batch_rows);
        let end = (start + count).min(rows.num_rows());
        let origin = Origin::new("input", "", start as u64, end as u64);
        processor.process(0, Batch::new(rows.slice(start, end - start), origin), &mut out).unwrap();
        start = end;
        let is_border = start % timing.epoch_rows == 0;
        if is_border || start % timing.watermark_rows == 0 {
            let watermark = times.values()[..start].iter().max().map(|latest| latest - timing.lateness);
            if watermark > said {
                processor.watermark(watermark.unwrap(), &mut out).unwrap();
                said = watermark;
            }
        }
        if is_border {
            epoch = epoch.next();
            processor.border(epoch, &mut out).unwrap();
        }
    }
    processor.ended(0, &mut out).unwrap();
    end(processor, &plan.ports, out)
}

fn end(mut processor: Box<dyn Processor>, ports: &[PortPlan], mut out: Collector) -> Driven {
    processor.finish(&mut out).unwrap();
    let mut driven = Driven { failed: out.take_failed(), report: processor.report(), ..Driven::default() };
    for (index, port) in ports.iter().enumerate() {
        let batches: Vec<_> = out.take(index).map(|batch| batch.rows).collect();
        if !batches.is_empty() {
            driven.ports.insert(port.name.clone(), batches);
        }
    }
    driven
}
