//! The suite of processors.

use std::collections::BTreeSet;
use std::panic::Location;
use std::path::Path;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::nullif;
use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::{
    Canonical, Collector, MODEL, NodeTypes, Parsed, PlanContext, PortPlan, Processor, ProcessorSettings, Role, State,
    Stream,
};

use super::folder::Folder;
use super::refused::parse;
use super::staging::check_committer;
use super::{check_each, require_samples};
use crate::drive::{Driven, Driver, Renewal, batch, context, stream, stream_in_time};
use crate::{Timing, restore_damaged};

/// Settings with which a type of processor is tried.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What `type` says.
    pub node: &'static str,
    /// The body of the node's table, for the rows of [`Given`].
    pub settings: &'static str,
}

/// What samples are given.
#[derive(Clone, Debug)]
pub struct Given {
    /// What arrives at `from`. The event time is in the column `at`.
    pub from: RecordBatch,
    /// What arrives at the side input of nodes that have one, or at the port `model` of those that follow a model.
    pub side: RecordBatch,
    /// Where the nodes are planned.
    pub context: PlanContext,
    /// What is visible of what nodes with a committer have published in a folder: a line for each thing.
    pub published: Option<fn(&Path) -> Vec<String>>,
}

impl Given {
    /// Rows, for nodes that publish nothing.
    pub fn new(from: RecordBatch, side: RecordBatch) -> Self {
        Self { from, side, context: context(), published: None }
    }
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
/// * lanes of a stateless node give what the node itself gives;
/// * what a committer has made visible, stage after stage, does not change when it commits late, again and out of order.
///
/// A crate calls it in one test, with all types that it registers:
///
/// ```
/// use millstream_core::{
///     Batch, Collector, Kind, NodeTypes, PlanContext, PortPlan, Problems, Processor, ProcessorPlan, ProcessorSettings, Result,
///     Stream, Uses,
/// };
/// use millstream_testkit::{Given, Sample, check_processors, table};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// /// Passes rows on.
/// #[derive(Debug, Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct PassSettings {}
///
/// impl Kind for PassSettings {
///     const NAME: &'static str = "pass";
///     const EXAMPLE: &'static str = "";
/// }
///
/// impl ProcessorSettings for PassSettings {
///     fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
///         Ok(ProcessorPlan {
///             ports: vec![PortPlan::main(inputs[0].schema.clone())],
///             uses: vec![Uses::passing_on::<&str>([])],
///             fails: false,
///             build: Box::new(|| Ok(Box::new(Pass))),
///         })
///     }
/// }
///
/// struct Pass;
///
/// impl Processor for Pass {
///     fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
///         out.push(0, batch);
///         Ok(())
///     }
/// }
///
/// let mut types = NodeTypes::default();
/// types.processor::<PassSettings>();
/// let rows = table("at:timestamp n:int64?\n 1970-01-01T00:00:10Z 1\n 1970-01-01T00:00:11Z null");
/// check_processors(&types, &[Sample { node: "pass", settings: "" }], &Given::new(rows.clone(), rows));
/// ```
///
/// # Panics
/// If a processor does not keep to it, or if a type has no sample.
#[track_caller]
pub fn check_processors(types: &NodeTypes, samples: &[Sample], given: &Given) {
    let advice = "`Sample { node, settings }` with the body of a table that does something with the rows given there";
    require_samples(types, Role::Processor, samples.iter().map(|sample| sample.node), advice, Location::caller());
    check_each(samples, |sample| Case::new(types, sample, given).check());
}

/// A sample, and what it is tried with.
struct Case<'a> {
    name: String,
    settings: Box<dyn ProcessorSettings>,
    given: &'a Given,
    /// The second port.
    side: Option<&'static str>,
}

impl<'a> Case<'a> {
    fn new(types: &NodeTypes, sample: &Sample, given: &'a Given) -> Self {
        let kind = types.find(Role::Processor, sample.node).unwrap();
        let settings = match parse(kind, sample.settings) {
            Ok(Parsed::Processor(settings)) => settings,
            Ok(_) => panic!("`{}` is no processor", sample.node),
            Err(problem) => panic!("{}: {problem:?}", sample.settings),
        };
        let name = format!("{} with {}", sample.node, sample.settings);
        let side = kind.side_input.or(settings.follows_model().map(|_| MODEL));
        Self { name, settings, given, side }
    }

    fn check(&self) {
        self.plans_are_pure();
        let whole = self.drive(&self.given.from, 8192, Renewal::Never);
        self.columns_are_true(&whole);
        for (batch_rows, renewal) in
            [(8192, Renewal::AtEveryBatch), (7, Renewal::Never), (7, Renewal::AtEveryBatch), (1, Renewal::Never)]
        {
            self.same(&whole, &self.drive(&self.given.from, batch_rows, renewal), batch_rows, renewal);
        }
        self.drive(&self.given.from.slice(0, 0), 8192, Renewal::AtEveryBatch);
        self.nulls_are_survived();
        self.damage_is_survived();
        self.lanes_do_the_same();
        self.commits_can_be_repeated();
    }

    fn streams(&self, from: &RecordBatch) -> Vec<Stream> {
        let side = self.side.map(|port| stream(port, self.given.side.schema()));
        [stream_in_time(from)].into_iter().chain(side).collect()
    }

    fn drive(&self, from: &RecordBatch, batch_rows: usize, renewal: Renewal) -> Driven {
        self.drive_in(&self.given.context, from, batch_rows, renewal)
    }

    fn drive_in(&self, context: &PlanContext, from: &RecordBatch, batch_rows: usize, renewal: Renewal) -> Driven {
        let streams = self.streams(from);
        let mut driver = Driver::new(context, self.settings.as_ref(), &streams, renewal);
        if self.side.is_some() {
            driver.pass_side(1, &self.given.side, batch_rows);
        }
        driver.pass_in_time(from, Timing { batch_rows, ..TIMING });
        driver.ended(0);
        driver.end()
    }

    fn plans_are_pure(&self) {
        let plan = || self.settings.plan(&self.given.context, &self.streams(&self.given.from));
        let ports = || plan().unwrap_or_else(|problems| panic!("{}: {problems:?}", self.name)).ports;
        assert_eq!(ports(), ports(), "{}: another plan", self.name);
    }

    fn columns_are_true(&self, driven: &Driven) {
        let plan = self.settings.plan(&self.given.context, &self.streams(&self.given.from)).unwrap();
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
        let rows = with_nulls(&self.given.from);
        if self.settings.plan(&self.given.context, &self.streams(&rows)).is_ok() {
            self.drive(&rows, 7, Renewal::AtEveryBatch);
        }
    }

    fn damage_is_survived(&self) {
        let streams = self.streams(&self.given.from);
        let mut driver = Driver::new(&self.given.context, self.settings.as_ref(), &streams, Renewal::Never);
        if self.side.is_some() {
            driver.pass_side(1, &self.given.side, 8192);
        }
        driver.pass_in_time(&self.given.from, TIMING);
        let state = driver.state();
        if !state.is_empty() {
            restore_damaged(&state, || (self.settings.plan(&self.given.context, &streams).unwrap().build)().unwrap());
        }
    }

    fn lanes_do_the_same(&self) {
        let plan = self.settings.plan(&self.given.context, &self.streams(&self.given.from)).unwrap();
        let ports = plan.ports.len();
        let mut node = (plan.build)().unwrap();
        let Some(mut lane) = node.lane() else { return };
        let of = |processor: &mut dyn Processor, rows: &RecordBatch| {
            let mut out = Collector::new(ports);
            processor.process(0, batch(rows.clone()), &mut out).unwrap();
            while processor.more(&mut out).unwrap() {}
            (0..ports).map(|port| out.take(port).map(|batch| batch.rows).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        for start in (0..self.given.from.num_rows()).step_by(50) {
            let rows = self.given.from.slice(start, 50.min(self.given.from.num_rows() - start));
            assert_eq!(of(lane.as_mut(), &rows), of(node.as_mut(), &rows), "{}: a lane", self.name);
        }
    }

    fn commits_can_be_repeated(&self) {
        let streams = self.streams(&self.given.from);
        let build = |context: &PlanContext| (self.settings.plan(context, &streams).unwrap().build)().unwrap();
        if build(&self.given.context).committer().is_none() {
            return;
        }
        let published = self.given.published;
        let published = published.unwrap_or_else(|| {
            panic!("{}: it has a committer: let `Given::published` say what it has made visible in a folder", self.name)
        });
        let committer = |folder: &Folder| build(&folder.context(8192)).committer().unwrap();
        let stages = |renewal: Renewal| {
            move |folder: &Folder| -> Vec<State> {
                self.drive_in(&folder.context(8192), &self.given.from, 7, renewal).staged
            }
        };
        let once = check_committer(&self.name, stages(Renewal::SnapshotsOnly), committer, published);
        let restarted = check_committer(&self.name, stages(Renewal::AtEveryBatch), committer, published);
        assert_eq!(restarted, once, "{}: other things are published by a node that was restored", self.name);
    }
}

/// The rows with a null for each third value, but for those of `at`.
pub(super) fn with_nulls(rows: &RecordBatch) -> RecordBatch {
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
