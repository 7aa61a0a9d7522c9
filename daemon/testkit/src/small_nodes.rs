//! Small nodes to run flows of in tests of what runs flows: numbers, which may fail on the way, a node that can't bear some of them, and an output
//! that remembers what was committed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// The input `numbers` and the output `remember`.
pub fn small_nodes() -> &'static NodeTypes {
    static REGISTRY: LazyLock<NodeTypes> = LazyLock::new(|| {
        let mut registry = NodeTypes::default();
        registry.input::<Numbers>();
        registry.processor::<Shy>();
        registry.output::<Remember>();
        registry
    });
    &REGISTRY
}

/// How often inputs have failed, by the names of their troubles.
static FAILURES: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// How often inputs were opened, by what their failures are counted by.
static OPENED: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// How often an input was opened whose failures are counted by this.
pub fn opened(counted: &str) -> u32 {
    OPENED.lock().unwrap().get(counted).copied().unwrap_or_default()
}

/// What was committed, by place.
static COMMITTED: Mutex<BTreeMap<String, Vec<i64>>> = Mutex::new(BTreeMap::new());

/// The numbers that were committed at a place.
pub fn committed(place: &str) -> Vec<i64> {
    COMMITTED.lock().unwrap().get(place).cloned().unwrap_or_default()
}

/// Numbers from 0 on, a batch every ten milliseconds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Numbers {
    /// How many there are. Without it, it never ends.
    rows: Option<i64>,
    /// How many come at a time.
    #[serde(default = "one")]
    together: i64,
    /// How it fails: `transient`, `permanent` or `panic`.
    trouble: Option<String>,
    /// From which number on.
    #[serde(default)]
    at: i64,
    /// How often.
    #[serde(default)]
    times: u32,
    /// What its failures are counted by.
    #[serde(default)]
    counted: String,
}

impl Kind for Numbers {
    const NAME: &'static str = "numbers";
    const EXAMPLE: &'static str = "rows = 3";
}

fn one() -> i64 {
    1
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

impl InputSettings for Numbers {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let input = Counting { settings: self.clone(), source: context.node.as_str().into(), next: 0 };
        Ok(InputPlan { finite: self.rows.is_some(), ..InputPlan::new(schema(), move || Ok(input)) })
    }
}

struct Counting {
    settings: Numbers,
    source: Arc<str>,
    next: i64,
}

impl Counting {
    /// Fails as the settings say.
    fn trouble(&self) -> Result<()> {
        let Numbers { trouble, at, times, counted, .. } = &self.settings;
        let Some(trouble) = trouble.as_ref().filter(|_| self.next >= *at) else { return Ok(()) };
        {
            let mut failures = FAILURES.lock().unwrap();
            let failed = failures.entry(counted.clone()).or_default();
            if failed == times {
                return Ok(());
            }
            *failed += 1;
        }
        match trouble.as_str() {
            "panic" => panic!("a bug"),
            "permanent" => Err(Error::new("there is no such table")),
            _ => Err(Error::transient("the line is dead")),
        }
    }
}

#[async_trait]
impl Input for Counting {
    async fn open(&mut self, _: &Home) -> Result<()> {
        *OPENED.lock().unwrap().entry(self.settings.counted.clone()).or_default() += 1;
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        self.trouble()?;
        let end = (self.next + self.settings.together).min(self.settings.rows.unwrap_or(i64::MAX));
        if self.next < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(self.next..end));
            let rows = RecordBatch::try_new(schema(), vec![numbers])?;
            out.push(0, Batch::new(rows, Origin::new(self.source.clone(), "", self.next as u64, end as u64)));
            self.next = end;
        }
        Ok(if Some(self.next) == self.settings.rows { Progress::End } else { Progress::More })
    }

    fn restore(&mut self, positions: &Positions, _: &State) -> Result<()> {
        self.next = positions.get("").copied().unwrap_or_default() as i64;
        Ok(())
    }
}

/// Passes numbers on, remembers them, and panics at some.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shy {
    /// At which.
    of: Vec<i64>,
}

impl Kind for Shy {
    const NAME: &'static str = "shy";
    const EXAMPLE: &'static str = "of = [3]";
}

impl ProcessorSettings for Shy {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let shy = Passing { of: self.of.clone(), seen: Vec::new() };
        Ok(ProcessorPlan {
            ports: vec![PortPlan::main(inputs[0].schema.clone())],
            uses: vec![Uses::passing_on(["n"])],
            fails: true,
            build: Box::new(move || Ok(Box::new(shy))),
        })
    }
}

struct Passing {
    of: Vec<i64>,
    seen: Vec<i64>,
}

impl Processor for Passing {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let numbers = batch.rows.column(0).as_primitive::<Int64Type>().values();
        self.seen.extend(numbers);
        assert!(!numbers.iter().any(|number| self.of.contains(number)), "it is shy");
        out.push(0, batch);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put("seen", &self.seen)?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.seen = state.get("seen")?;
        Ok(())
    }
}

/// Remembers what was committed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remember {
    /// Where.
    place: String,
}

impl Kind for Remember {
    const NAME: &'static str = "remember";
    const EXAMPLE: &'static str = "place = 'here'";
}

impl OutputSettings for Remember {
    fn plan(&self, _: &PlanContext, _: &Stream) -> Result<OutputPlan, Problems> {
        let output = Remembering { place: self.place.clone(), written: Vec::new() };
        Ok(OutputPlan {
            writes: None,
            uses: Uses::only(["n"]),
            delivery: Delivery::ExactlyOnce,
            exclusive: None,
            answers: None,
            place: None,
            takes_other_columns: false,
            fails: false,
            build: Box::new(|| Ok(Box::new(output))),
        })
    }
}

struct Remembering {
    place: String,
    written: Vec<i64>,
}

#[async_trait]
impl Output for Remembering {
    async fn write(&mut self, batch: Batch, _: &mut Collector) -> Result<()> {
        self.written.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
        Ok(())
    }

    async fn stage(&mut self, _: Barrier) -> Result<Snapshot> {
        let mut staged = Parts::default();
        staged.put("numbers", &std::mem::take(&mut self.written))?;
        Ok(Snapshot { staged, ..Snapshot::default() })
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(Publishing { place: self.place.clone() }))
    }
}

struct Publishing {
    place: String,
}

#[async_trait]
impl Committer for Publishing {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        let numbers: Vec<i64> = pending.staged.get("numbers")?;
        let mut committed = COMMITTED.lock().unwrap();
        let there = committed.entry(self.place.clone()).or_default();
        // A commit may be repeated: numbers come once each, in their order.
        let next = there.last().map_or(0, |last| last + 1);
        there.extend(numbers.into_iter().filter(|number| *number >= next));
        Ok(())
    }
}
