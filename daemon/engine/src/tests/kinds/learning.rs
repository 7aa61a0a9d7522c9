//! Processors that learn, and such as follow what they have learned.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{batch_of, kept, numbers, one_port, opened, rows_of, values, with_values};
use crate::tests::sabotage::Sabotage;

/// Learns a number, and sends it as its model at barriers, which makes a version, as does the end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Teach {
    /// The model.
    model: String,
    /// Wants a barrier after so many rows.
    every: Option<u64>,
    /// What is learned.
    #[serde(default)]
    learns: Learns,
    /// Whether the only version comes at the end.
    #[serde(default)]
    at_the_end: bool,
}

/// What is learned of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Learns {
    /// How many there are. There is a version at every barrier.
    #[default]
    Count,
    /// The largest number. There is a version when it is another one, also at the end.
    Largest,
}

impl Kind for Teach {
    const NAME: &'static str = "teach";
    const EXAMPLE: &'static str = "model = \"count\"";
}

impl ProcessorSettings for Teach {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let versions = PortPlan::versions(numbers(&["n"])).only_at_the_end(self.at_the_end);
        let ports = vec![PortPlan::main(inputs[0].schema.clone()), versions];
        let (flow, place) = (context.flow.clone(), format!("{}/{}", context.flow, context.node));
        let (learns, at_the_end) = (self.learns, self.at_the_end);
        let teaching = Teaching { flow, place, learns, at_the_end, learned: 0, sent: 0, before: 0, made: Vec::new() };
        Ok(ProcessorPlan { ports, ..one_port(inputs, teaching) })
    }

    fn trains(&self) -> Option<&str> {
        Some(&self.model)
    }

    fn barrier_rows(&self) -> Option<u64> {
        self.every
    }
}

/// What versions have learned of, by flow and node and by the epochs of the versions.
static LINEAGES: LazyLock<Mutex<HashMap<String, BTreeMap<u64, Value>>>> = LazyLock::new(Mutex::default);

/// What the versions that a node has made have learned of, by epoch.
pub fn lineages(flow: &str, node: &str) -> BTreeMap<u64, Value> {
    LINEAGES.lock().unwrap().get(&format!("{flow}/{node}")).cloned().unwrap_or_default()
}

/// Forgets the versions that were made at other places.
pub fn retain(is_wanted: impl Fn(&str) -> bool) {
    LINEAGES.lock().unwrap().retain(|place, _| is_wanted(place));
}

struct Teaching {
    flow: String,
    place: String,
    learns: Learns,
    at_the_end: bool,
    learned: i64,
    /// What the last version was.
    sent: i64,
    /// What was learned at the last snapshot.
    before: i64,
    /// The epochs of the versions since then.
    made: Vec<u64>,
}

impl Processor for Teaching {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.learned = match self.learns {
            Learns::Count => self.learned + batch.len() as i64,
            Learns::Largest => values(&batch.rows).into_iter().fold(self.learned, i64::max),
        };
        out.push(0, batch);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let before = std::mem::replace(&mut self.before, self.learned);
        let learned = if Sabotage::OldState.is_on(&self.flow) { before } else { self.learned };
        let mut snapshot = kept(&(learned, self.sent))?;
        snapshot.versions = self.made.iter().copied().map(Epoch).collect();
        snapshot.staged.put("epochs", &std::mem::take(&mut self.made))?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        (self.learned, self.sent) = state.get("value")?;
        self.before = self.learned;
        Ok(())
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(Witness(self.place.clone())))
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        self.made.push(u64::MAX);
        if self.learns == Learns::Largest && self.has_news() {
            self.send(u64::MAX, out);
        }
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, out: &mut Collector) -> Result<()> {
        if !self.at_the_end && self.has_news() {
            self.made.push(epoch.0);
            self.send(epoch.0, out);
        }
        Ok(())
    }
}

impl Teaching {
    fn has_news(&self) -> bool {
        self.learns == Learns::Count || self.learned > self.sent
    }

    fn send(&mut self, epoch: u64, out: &mut Collector) {
        self.sent = self.learned;
        out.push(1, Batch::new(batch_of([self.learned]), Origin::new("teach", "", epoch, epoch)));
    }
}

/// Writes down what versions have learned of.
struct Witness(String);

#[async_trait]
impl Committer for Witness {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        let staged = &pending.staged;
        let lineages = PendingCommit::lineages(staged)?;
        for (epoch, lineage) in staged.get::<Vec<u64>>("epochs")?.into_iter().zip(lineages) {
            LINEAGES.lock().unwrap().entry(self.0.clone()).or_default().insert(epoch, lineage["inputs"].clone());
        }
        Ok(())
    }
}

/// Replaces every row by the model that was known at the last barrier.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Obey {
    /// The model.
    model: String,
    /// Whether the number of the row stands before it, which then is the last five digits.
    #[serde(default)]
    beside: bool,
}

/// What the number of a row is multiplied by that stands before the model.
pub const MODELS: i64 = 100_000;

impl Kind for Obey {
    const NAME: &'static str = "obey";
    const EXAMPLE: &'static str = "model = \"count\"";
}

impl ProcessorSettings for Obey {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Ok(one_port(inputs, Obeying { beside: self.beside, now: 0, next: 0 }))
    }

    fn follows_model(&self) -> Option<&str> {
        Some(&self.model)
    }
}

struct Obeying {
    beside: bool,
    now: i64,
    next: i64,
}

impl Processor for Obeying {
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        if port == 1 {
            self.next = values(&batch.rows)[0];
        } else {
            let before = |number: i64| if self.beside { number * MODELS } else { 0 };
            let obeyed = values(&batch.rows).into_iter().map(|number| before(number) + self.now);
            out.push(0, batch.with_rows(with_values(&batch.rows, obeyed)));
        }
        Ok(())
    }

    fn barrier(&mut self, _: Epoch, _: &mut Collector) -> Result<()> {
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

/// Adds up so many rows at a time, wherever batches and epochs end, and sends on the sums.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batched {
    /// How many.
    rows: usize,
}

impl Kind for Batched {
    const NAME: &'static str = "batched";
    const EXAMPLE: &'static str = "rows = 3";
}

impl ProcessorSettings for Batched {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let (flow, schema) = (context.flow.clone(), inputs[0].schema.clone());
        let node = context.node.clone();
        let plan = one_port(inputs, Batching { flow: flow.clone(), schema, rows: self.rows, open: Vec::new() });
        let made = plan.build;
        let build = Box::new(move || {
            opened::note(&flow, &node);
            made()
        });
        Ok(ProcessorPlan { build, ..plan })
    }
}

struct Batching {
    flow: String,
    schema: SchemaRef,
    rows: usize,
    /// The rows of an incomplete one.
    open: Vec<i64>,
}

impl Processor for Batching {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        for n in values(&batch.rows) {
            self.open.push(n);
            if self.open.len() == self.rows {
                let sum = self.open.drain(..).sum();
                out.push(0, batch.with_rows(rows_of(&self.schema, &[(sum, 0)])));
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        kept(if Sabotage::DroppedRemainder.is_on(&self.flow) { &[] } else { self.open.as_slice() } as &[i64])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.open = state.get("value")?;
        Ok(())
    }
}

/// Adds a number to every row that looks random, and is the same in every run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dice {
    /// Where the numbers begin.
    seed: u64,
}

impl Kind for Dice {
    const NAME: &'static str = "dice";
    const EXAMPLE: &'static str = "seed = 3";
}

impl ProcessorSettings for Dice {
    #[expect(clippy::disallowed_methods, reason = "it is to differ from run to run")]
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let from_time = Sabotage::SeededFromTime.is_on(&context.flow);
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let seed = if from_time { now() } else { self.seed };
        Ok(one_port(inputs, Throwing { seed, thrown: 0 }))
    }
}

struct Throwing {
    seed: u64,
    /// How many numbers have been used.
    thrown: u64,
}

impl Processor for Throwing {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let thrown = values(&batch.rows).into_iter().map(|n| {
            self.thrown += 1;
            n + ((self.seed ^ self.thrown).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as i64
        });
        let rows = with_values(&batch.rows, thrown.collect::<Vec<_>>());
        out.push(0, batch.with_rows(rows));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        kept(&self.thrown)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.thrown = state.get("value")?;
        Ok(())
    }
}
