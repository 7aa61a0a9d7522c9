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

use super::{batch_of, kept, numbers, one_port, rows_of, values, with_values};
use crate::tests::sabotage::Sabotage;

/// Counts rows, and sends the count as its model at every border, which makes a version, as does the end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Teach {
    /// The model.
    model: String,
    /// Wants a border after so many rows.
    every: Option<u64>,
}

impl Kind for Teach {
    const NAME: &'static str = "teach";
    const EXAMPLE: &'static str = "model = \"count\"";
}

impl ProcessorSettings for Teach {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let ports = vec![PortPlan::main(inputs[0].schema.clone()), PortPlan::new("model", numbers(&["n"]))];
        let (flow, place) = (context.flow.clone(), format!("{}/{}", context.flow, context.node));
        let teaching = Teaching { flow, place, count: 0, before: 0, made: Vec::new() };
        Ok(ProcessorPlan { ports, ..one_port(inputs, teaching) })
    }

    fn trains(&self) -> Option<&str> {
        Some(&self.model)
    }

    fn border_rows(&self) -> Option<u64> {
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
    count: i64,
    /// What it was at the last snapshot.
    before: i64,
    /// The epochs of the versions since then.
    made: Vec<u64>,
}

impl Processor for Teaching {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.count += batch.len() as i64;
        out.push(0, batch);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let before = std::mem::replace(&mut self.before, self.count);
        let mut snapshot = kept(if Sabotage::OldState.is_on(&self.flow) { &before } else { &self.count })?;
        snapshot.staged.put("epochs", &std::mem::take(&mut self.made))?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.count = state.get("value")?;
        self.before = self.count;
        Ok(())
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(Witness(self.place.clone())))
    }

    fn finish(&mut self, _: &mut Collector) -> Result<()> {
        self.made.push(u64::MAX);
        Ok(())
    }

    fn border(&mut self, epoch: Epoch, out: &mut Collector) -> Result<()> {
        self.made.push(epoch.0);
        out.push(1, Batch::new(batch_of([self.count]), Origin::new("teach", "", epoch.0, epoch.0)));
        Ok(())
    }
}

/// Writes down what versions have learned of.
struct Witness(String);

#[async_trait]
impl Committer for Witness {
    async fn commit(&mut self, staged: &State) -> Result<()> {
        for (version, epoch) in staged.get::<Vec<u64>>("epochs")?.into_iter().enumerate() {
            let lineage: Value = serde_json::from_slice(staged.bytes(&format!("lineage.{version}"))?).unwrap();
            LINEAGES.lock().unwrap().entry(self.0.clone()).or_default().insert(epoch, lineage["inputs"].clone());
        }
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
            out.push(0, batch.with_rows(with_values(&batch.rows, values(&batch.rows).iter().map(|_| self.now))));
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
        Ok(one_port(inputs, Batching { flow, schema, rows: self.rows, open: Vec::new() }))
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
