//! What every processor has to keep to, whatever it does: one suite over all types of nodes that are registered.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::nullif;
use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::{Canonical, Collector, NodeTypes, Parsed, PortPlan, Processor, ProcessorSettings, Role, Stream};

use crate::drive::{Driven, Driver, Renewal, batch, context, stream, stream_in_time};
use crate::{Timing, restore_damaged};

/// Settings with which a type of processor is tried.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What `type` says.
    pub node: &'static str,
    /// The body of the node's table, for the rows of [`Rows`].
    pub settings: &'static str,
}

/// The rows that samples are given.
#[derive(Clone, Debug)]
pub struct Rows {
    /// What arrives at `from`. The event time is in the column `at`.
    pub from: RecordBatch,
    /// What arrives at the side input of nodes that have one.
    pub side: RecordBatch,
}

/// How the rows of `from` come.
const TIMING: Timing = Timing { lateness: 5_000_000, watermark_rows: 20, epoch_rows: 100, batch_rows: 8192 };

/// Puts every processor of these types through the suite:
///
/// * a plan has no side effects, so that a second one says the same;
/// * the columns are those of the plan, in canonical types, and null only where the plan says so;
/// * results, rejected rows and the last report are the same for batches of 1, 7 and 8,192 rows, and for a node that is replaced
///   by one which is restored from its snapshot after each of them;
/// * no rows at all, and rows of nulls, are no reason to panic;
/// * a damaged state is refused, or taken where nothing shows, without a panic;
/// * lanes of a stateless node give what the node itself gives.
///
/// # Panics
/// If a processor does not keep to it, or if a type has no sample.
pub fn check_processors(types: &NodeTypes, samples: &[Sample], rows: &Rows) {
    let processors = types.kinds().iter().filter(|kind| kind.role == Role::Processor);
    let without: Vec<_> =
        processors.map(|kind| kind.name).filter(|name| samples.iter().all(|s| s.node != *name)).collect();
    assert!(without.is_empty(), "no sample of {}", without.join(", "));
    for sample in samples {
        Case::new(types, sample, rows).check();
    }
}

/// A sample, and what it is tried with.
struct Case<'a> {
    name: String,
    settings: Box<dyn ProcessorSettings>,
    rows: &'a Rows,
    has_side: bool,
}

impl<'a> Case<'a> {
    fn new(types: &NodeTypes, sample: &Sample, rows: &'a Rows) -> Self {
        let kind = types.find(Role::Processor, sample.node).unwrap();
        let table = toml::from_str(sample.settings).unwrap();
        let settings = match kind.parse(table) {
            Ok(Parsed::Processor(settings)) => settings,
            Ok(_) => panic!("`{}` is no processor", sample.node),
            Err(problem) => panic!("{}: {problem:?}", sample.settings),
        };
        let name = format!("{} with {}", sample.node, sample.settings);
        Self { name, settings, rows, has_side: kind.side_input.is_some() }
    }

    fn check(&self) {
        self.plans_are_pure();
        let whole = self.drive(&self.rows.from, 8192, Renewal::Never);
        self.columns_are_true(&whole);
        for (batch_rows, renewal) in
            [(8192, Renewal::AtEveryBatch), (7, Renewal::Never), (7, Renewal::AtEveryBatch), (1, Renewal::Never)]
        {
            self.same(&whole, &self.drive(&self.rows.from, batch_rows, renewal), batch_rows, renewal);
        }
        self.drive(&self.rows.from.slice(0, 0), 8192, Renewal::AtEveryBatch);
        self.nulls_are_survived();
        self.damage_is_survived();
        self.lanes_do_the_same();
    }

    fn streams(&self, from: &RecordBatch) -> Vec<Stream> {
        let side = self.has_side.then(|| stream("with", self.rows.side.schema()));
        [stream_in_time(from)].into_iter().chain(side).collect()
    }

    fn drive(&self, from: &RecordBatch, batch_rows: usize, renewal: Renewal) -> Driven {
        let streams = self.streams(from);
        let mut driver = Driver::new(self.settings.as_ref(), &streams, renewal);
        if self.has_side {
            driver.pass_side(1, &self.rows.side, batch_rows);
        }
        driver.pass_in_time(from, Timing { batch_rows, ..TIMING });
        driver.ended(0);
        driver.end()
    }

    fn plans_are_pure(&self) {
        let plan = || self.settings.plan(&context(), &self.streams(&self.rows.from));
        let ports = || plan().unwrap_or_else(|problems| panic!("{}: {problems:?}", self.name)).ports;
        assert_eq!(format!("{:?}", ports()), format!("{:?}", ports()), "{}: another plan", self.name);
    }

    fn columns_are_true(&self, driven: &Driven) {
        let plan = self.settings.plan(&context(), &self.streams(&self.rows.from)).unwrap();
        for PortPlan { name, schema, .. } in &plan.ports {
            let canonical = Canonical::new(schema).unwrap();
            for rows in driven.ports.get(name).into_iter().flatten() {
                let rows = canonical.apply(rows.clone()).unwrap();
                assert_eq!(rows.schema().fields(), canonical.schema().fields(), "{}: port `{name}`", self.name);
                let fields = canonical.schema().fields().iter();
                for (field, column) in fields.zip(rows.columns()).filter(|(field, _)| !field.is_nullable()) {
                    assert_eq!(column.null_count(), 0, "{}: nulls in `{}` of port `{name}`", self.name, field.name());
                }
            }
        }
    }

    fn same(&self, whole: &Driven, other: &Driven, batch_rows: usize, renewal: Renewal) {
        let what = format!("{} in batches of {batch_rows}, {renewal:?}", self.name);
        let ports: BTreeSet<_> = whole.ports.keys().chain(other.ports.keys()).collect();
        for port in ports {
            assert_eq!(other.text(port), whole.text(port), "{what}: port `{port}`");
        }
        let failed =
            |driven: &Driven| driven.failed.iter().map(|row| (row.error.clone(), row.row.clone())).collect::<Vec<_>>();
        assert_eq!(failed(other), failed(whole), "{what}: rejected rows");
        assert_eq!(format!("{:?}", other.report), format!("{:?}", whole.report), "{what}: report");
    }

    /// Gives rows of which each third value is null, but for event times. The columns may be refused then.
    fn nulls_are_survived(&self) {
        let rows = with_nulls(&self.rows.from);
        if self.settings.plan(&context(), &self.streams(&rows)).is_ok() {
            self.drive(&rows, 7, Renewal::AtEveryBatch);
        }
    }

    fn damage_is_survived(&self) {
        let streams = self.streams(&self.rows.from);
        let mut driver = Driver::new(self.settings.as_ref(), &streams, Renewal::Never);
        if self.has_side {
            driver.pass_side(1, &self.rows.side, 8192);
        }
        driver.pass_in_time(&self.rows.from, TIMING);
        let state = driver.state();
        if !state.is_empty() {
            restore_damaged(&state, || (self.settings.plan(&context(), &streams).unwrap().build)().unwrap());
        }
    }

    fn lanes_do_the_same(&self) {
        let plan = self.settings.plan(&context(), &self.streams(&self.rows.from)).unwrap();
        let ports = plan.ports.len();
        let mut node = (plan.build)().unwrap();
        let Some(mut lane) = node.lane() else { return };
        let of = |processor: &mut dyn Processor, rows: &RecordBatch| {
            let mut out = Collector::new(ports);
            processor.process(0, batch(rows.clone()), &mut out).unwrap();
            while processor.more(&mut out).unwrap() {}
            (0..ports).map(|port| out.take(port).map(|batch| batch.rows).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        for start in (0..self.rows.from.num_rows()).step_by(50) {
            let rows = self.rows.from.slice(start, 50.min(self.rows.from.num_rows() - start));
            assert_eq!(of(lane.as_mut(), &rows), of(node.as_mut(), &rows), "{}: a lane", self.name);
        }
    }
}

/// The rows with a null for each third value, but for those of `at`.
fn with_nulls(rows: &RecordBatch) -> RecordBatch {
    let nullable = |field: &Field| field.clone().with_nullable(field.is_nullable() || field.name() != "at");
    let fields: Vec<_> = rows.schema().fields().iter().map(|field| nullable(field)).collect();
    let schema: SchemaRef = Schema::new(fields).into();
    let columns = rows.columns().iter().enumerate().map(|(place, column)| -> ArrayRef {
        let is_null: BooleanArray = (0..rows.num_rows()).map(|row| Some((row + place) % 3 == 0)).collect();
        match schema.field(place).name().as_str() {
            "at" => column.clone(),
            _ => nullif(column, &is_null).unwrap(),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}
