//! Small nodes to test the engine with.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::crash;

/// All kinds of this file.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.input::<Count>();
    registry.processor::<Add>().processor::<Parity>().processor::<Trouble>().processor::<After>();
    registry.processor::<Merge>().processor::<Teach>().processor::<Obey>().processor::<Borders>();
    registry.output::<Memory>();
    registry
}

/// A schema of whole numbers.
fn numbers(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Int64, false);
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

fn batch_of(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_new(numbers(&["n"]), vec![column]).unwrap()
}

fn values(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// Counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// The first number.
    #[serde(default)]
    start: i64,
    /// How many.
    rows: i64,
    /// Refuses every number that this divides.
    refuse: Option<i64>,
    /// Gives an unused column, too.
    #[serde(default)]
    wide: bool,
    /// Never ends.
    #[serde(default)]
    endless: bool,
    /// Never ends, and has nothing more behind its rows.
    #[serde(default)]
    waits: bool,
}

impl Kind for Count {
    const NAME: &'static str = "count";
    const EXAMPLE: &'static str = "rows = 3";
}

impl InputSettings for Count {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let columns: &[&str] = if self.wide { &["n", "m"] } else { &["n"] };
        let is_wanted = |name: &&str| context.columns.as_ref().is_none_or(|wanted| wanted.contains(*name));
        let schema = numbers(&columns.iter().copied().filter(is_wanted).collect::<Vec<_>>());
        let counting = Counting {
            next: self.start,
            end: if self.endless { i64::MAX } else { self.start + self.rows },
            start: self.start,
            waits: self.waits,
            refuse: self.refuse,
            batch_rows: context.batch_rows as i64,
            source: context.node.as_str().into(),
            schema: schema.clone(),
        };
        Ok(InputPlan {
            schema,
            finite: !self.endless && !self.waits,
            replayable: true,
            interleaved: false,
            rows: Some(self.rows as u64),
            build: Box::new(move || Ok(Box::new(counting))),
        })
    }
}

struct Counting {
    next: i64,
    start: i64,
    end: i64,
    waits: bool,
    refuse: Option<i64>,
    batch_rows: i64,
    source: Arc<str>,
    schema: SchemaRef,
}

#[async_trait]
impl Input for Counting {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        if self.waits && self.next == self.end {
            std::future::pending::<()>().await;
        }
        let end = self.end.min(self.next.saturating_add(self.batch_rows));
        let is_refused = |n: &i64| self.refuse.is_some_and(|by| n % by == 0);
        let kept: ArrayRef = Arc::new(Int64Array::from_iter_values((self.next..end).filter(|n| !is_refused(n))));
        let columns = self.schema.fields().iter().map(|_| kept.clone()).collect();
        let positions = ((self.next - self.start) as u64, (end - self.start) as u64);
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        out.push(0, Batch::new(rows, Origin::new(self.source.clone(), "", positions.0, positions.1)));
        for n in (self.next..end).filter(is_refused) {
            out.fail(FailedRow {
                error: "refused".into(),
                source: self.source.clone(),
                partition: "".into(),
                position: Some((n - self.start) as u64),
                row: n.to_string(),
                encoding: Encoding::Text,
            });
        }
        self.next = end;
        tokio::task::yield_now().await;
        Ok(if self.next == self.end && !self.waits { Progress::End } else { Progress::More })
    }

    fn restore(&mut self, positions: &Positions, _: &State) -> Result<()> {
        self.next = self.start + positions.get("").copied().unwrap_or_default() as i64;
        Ok(())
    }
}

/// A snapshot of one value.
fn kept(value: &impl serde::Serialize) -> Result<Snapshot> {
    let mut parts = Parts::default();
    parts.put("value", value)?;
    Ok(Snapshot::of(parts))
}

/// Passes batches through a function.
struct Map<F>(F);

impl<F: FnMut(RecordBatch) -> Result<RecordBatch> + Send> Processor for Map<F> {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let rows = (self.0)(batch.rows.clone())?;
        out.push(0, batch.with_rows(rows));
        Ok(())
    }
}

fn one_port(inputs: &[Stream], processor: impl Processor + 'static) -> ProcessorPlan {
    ProcessorPlan {
        ports: vec![PortPlan::main(inputs[0].schema.clone())],
        uses: inputs.iter().map(|_| Uses::passing_on(["n"])).collect(),
        fails: true,
        build: Box::new(move || Ok(Box::new(processor))),
    }
}

/// Adds a number.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The number.
    by: i64,
}

impl Kind for Add {
    const NAME: &'static str = "add";
    const EXAMPLE: &'static str = "by = 1";
}

impl ProcessorSettings for Add {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        require_column("n", &inputs[0].schema)?;
        let by = self.by;
        Ok(one_port(inputs, Map(move |rows: RecordBatch| Ok(batch_of(values(&rows).into_iter().map(|n| n + by))))))
    }
}

/// Panics or fails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// Panics at this number.
    panic: Option<i64>,
    /// Fails at this number.
    fail: Option<i64>,
}

impl Kind for Trouble {
    const NAME: &'static str = "trouble";
    const EXAMPLE: &'static str = "panic = 3";
}

impl ProcessorSettings for Trouble {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let (panic, fail) = (self.panic, self.fail);
        Ok(one_port(
            inputs,
            Map(move |rows: RecordBatch| {
                let has = |wanted: Option<i64>| wanted.is_some_and(|n| values(&rows).contains(&n));
                assert!(!has(panic), "this node panics");
                if has(fail) { Err(Error::new("this node fails")) } else { Ok(rows) }
            }),
        ))
    }
}

/// Sorts numbers into ports.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parity {}

impl Kind for Parity {
    const NAME: &'static str = "parity";
    const EXAMPLE: &'static str = "";
}

impl ProcessorSettings for Parity {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let port = |name: &str| PortPlan::new(name, inputs[0].schema.clone());
        Ok(ProcessorPlan { ports: vec![port("even"), port("odd")], ..one_port(inputs, Sorting) })
    }
}

struct Sorting;

impl Processor for Sorting {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        for (port, rest) in [0, 1].into_iter().enumerate() {
            let mask: BooleanArray = values(&batch.rows).iter().map(|n| Some(n % 2 == rest)).collect();
            out.push(port, batch.with_rows(filter_record_batch(&batch.rows, &mask)?));
        }
        Ok(())
    }
}

/// Adds up a side input, then adds the sum to every row.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {}

impl Kind for After {
    const NAME: &'static str = "after";
    const EXAMPLE: &'static str = "with = \"others\"";
    const SIDE_INPUT: Option<&'static str> = Some("with");
}

impl ProcessorSettings for After {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Ok(one_port(inputs, Summing(0)))
    }
}

struct Summing(i64);

impl Processor for Summing {
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        if port == 1 {
            self.0 += values(&batch.rows).iter().sum::<i64>();
        } else {
            out.push(0, batch.with_rows(batch_of(values(&batch.rows).into_iter().map(|n| n + self.0))));
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        kept(&self.0)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.0 = state.get("value")?;
        Ok(())
    }
}

/// Passes rows on in an order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// Rows of each edge in turn.
    rows: Option<usize>,
}

impl Kind for Merge {
    const NAME: &'static str = "merge";
    const EXAMPLE: &'static str = "";
}

impl ProcessorSettings for Merge {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Ok(one_port(inputs, Map(Ok)))
    }

    fn order(&self) -> Order {
        self.rows.map_or(Order::Automatic, |rows| Order::RoundRobin { rows })
    }
}

/// Passes rows on, and at every border the negative number of the epoch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Borders {}

impl Kind for Borders {
    const NAME: &'static str = "borders";
    const EXAMPLE: &'static str = "";
}

impl ProcessorSettings for Borders {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Ok(one_port(inputs, Bordering))
    }
}

struct Bordering;

impl Processor for Bordering {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        out.push(0, batch);
        Ok(())
    }

    fn border(&mut self, epoch: Epoch, out: &mut Collector) -> Result<()> {
        let origin = Origin::new("borders", "", epoch.0, epoch.0);
        out.push(0, Batch::new(batch_of([-(epoch.0 as i64)]), origin));
        Ok(())
    }
}

/// Counts rows, and sends the count as its model at every border and at the end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Teach {
    /// The model.
    model: String,
}

impl Kind for Teach {
    const NAME: &'static str = "teach";
    const EXAMPLE: &'static str = "model = \"count\"";
}

impl ProcessorSettings for Teach {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let ports = vec![PortPlan::main(inputs[0].schema.clone()), PortPlan::new("model", numbers(&["n"]))];
        Ok(ProcessorPlan { ports, ..one_port(inputs, Teaching(0)) })
    }

    fn trains(&self) -> Option<&str> {
        Some(&self.model)
    }
}

struct Teaching(i64);

impl Processor for Teaching {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.0 += batch.len() as i64;
        out.push(0, batch);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        kept(&self.0)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.0 = state.get("value")?;
        Ok(())
    }

    fn border(&mut self, epoch: Epoch, out: &mut Collector) -> Result<()> {
        out.push(1, Batch::new(batch_of([self.0]), Origin::new("teach", "", epoch.0, epoch.0)));
        Ok(())
    }
}

/// Replaces every row by the model that was known at the last border.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Obey {
    /// The model.
    model: String,
}

impl Kind for Obey {
    const NAME: &'static str = "obey";
    const EXAMPLE: &'static str = "model = \"count\"";
}

impl ProcessorSettings for Obey {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Ok(one_port(inputs, Obeying { now: 0, next: 0 }))
    }

    fn follows_model(&self) -> Option<&str> {
        Some(&self.model)
    }
}

struct Obeying {
    now: i64,
    next: i64,
}

impl Processor for Obeying {
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        if port == 1 {
            self.next = values(&batch.rows)[0];
        } else {
            out.push(0, batch.with_rows(batch_of(values(&batch.rows).iter().map(|_| self.now))));
        }
        Ok(())
    }

    fn border(&mut self, _: Epoch, _: &mut Collector) -> Result<()> {
        self.now = self.next;
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        kept(&(self.now, self.next))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        (self.now, self.next) = state.get("value")?;
        Ok(())
    }
}

/// What `file` outputs have received, by path.
static MEMORY: LazyLock<Mutex<HashMap<String, Received>>> = LazyLock::new(Mutex::default);

/// What an output has received.
#[derive(Default)]
struct Received {
    /// All rows, also those of runs that came to nothing.
    rows: Vec<RecordBatch>,
    /// Rows that were staged, by the number under which they will be committed.
    staged: BTreeMap<u64, Vec<RecordBatch>>,
    /// Rows that were committed, by the number under which they were staged.
    committed: BTreeMap<u64, Vec<RecordBatch>>,
    end: &'static str,
}

fn with_memory<T>(path: &str, action: impl FnOnce(&mut Received) -> T) -> T {
    action(MEMORY.lock().unwrap().entry(path.to_owned()).or_default())
}

/// The numbers that were written to a path, and whether they were `committed` or `aborted`.
pub fn memory(path: &str) -> (Vec<i64>, &'static str) {
    with_memory(path, |received| (received.rows.iter().flat_map(values).collect(), received.end))
}

/// The rows that were committed to a path, as text.
pub fn committed_text(path: &str) -> String {
    with_memory(path, |received| millstream_testkit::rows_as_text(received.committed.values().flatten()))
}

/// The rows that were written to a path, as text.
pub fn memory_text(path: &str) -> String {
    with_memory(path, |received| millstream_testkit::rows_as_text(&received.rows))
}

/// Keeps rows in memory, in the way of a database: what is staged has a number, and is moved to what is committed once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The name under which.
    path: String,
    /// Unused.
    #[allow(dead_code)]
    format: Option<String>,
    /// Unused.
    #[allow(dead_code)]
    every: Option<String>,
    /// Waits so many milliseconds at every batch.
    #[serde(default)]
    slow: u64,
}

impl Kind for Memory {
    const NAME: &'static str = "file";
    const EXAMPLE: &'static str = "path = \"a\"";
}

impl OutputSettings for Memory {
    fn plan(&self, _: &PlanContext, _: &Stream) -> Result<OutputPlan, Problems> {
        let output = Remembering { path: self.path.clone(), slow: self.slow, number: 0, open: Vec::new() };
        let build = Box::new(move || Ok(Box::new(output) as Box<dyn Output>));
        Ok(OutputPlan { uses: Uses::only(["n"]), delivery: Delivery::ExactlyOnce, exclusive: None, build })
    }
}

struct Remembering {
    path: String,
    slow: u64,
    /// The number of what is staged next.
    number: u64,
    open: Vec<RecordBatch>,
}

#[async_trait]
impl Output for Remembering {
    fn restore(&mut self, state: &State) -> Result<()> {
        self.number = state.get("number")?;
        Ok(())
    }

    async fn write(&mut self, batch: Batch) -> Result<()> {
        crash::step(&self.path)?;
        tokio::time::sleep(std::time::Duration::from_millis(self.slow)).await;
        with_memory(&self.path, |received| received.rows.push(batch.rows.clone()));
        self.open.push(batch.rows);
        Ok(())
    }

    async fn stage(&mut self, _: Border) -> Result<Snapshot> {
        crash::step(&self.path)?;
        let rows = std::mem::take(&mut self.open);
        with_memory(&self.path, |received| received.staged.insert(self.number, rows));
        crash::step(&self.path)?;
        let mut snapshot = Snapshot::default();
        snapshot.staged.put("number", &self.number)?;
        self.number += 1;
        snapshot.state.put("number", &self.number)?;
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(MemoryCommitter(self.path.clone())))
    }

    async fn abort(&mut self) {
        with_memory(&self.path, |received| received.end = "aborted");
    }
}

struct MemoryCommitter(String);

#[async_trait]
impl Committer for MemoryCommitter {
    async fn commit(&mut self, staged: &State) -> Result<()> {
        crash::step(&self.0)?;
        let number: u64 = staged.get("number")?;
        with_memory(&self.0, |received| {
            received.end = "committed";
            // In one transaction with the marker, which here is the number itself.
            if !received.committed.contains_key(&number) {
                let rows = received.staged.remove(&number);
                let rows = rows.ok_or_else(|| Error::new("what was staged is gone"))?;
                received.committed.insert(number, rows);
            }
            Ok::<_, Error>(())
        })?;
        crash::step(&self.0)
    }
}
