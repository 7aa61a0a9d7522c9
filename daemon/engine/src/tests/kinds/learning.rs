//! Processors that learn, and such as follow what they have learned.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{batch_of, kept, numbers, one_port, rows_of, values, with_values};
use crate::tests::sabotage::Sabotage;

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
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let ports = vec![PortPlan::main(inputs[0].schema.clone()), PortPlan::new("model", numbers(&["n"]))];
        let teaching = Teaching { flow: context.flow.clone(), count: 0, before: 0 };
        Ok(ProcessorPlan { ports, ..one_port(inputs, teaching) })
    }

    fn trains(&self) -> Option<&str> {
        Some(&self.model)
    }
}

struct Teaching {
    flow: String,
    count: i64,
    /// What it was at the last snapshot.
    before: i64,
}

impl Processor for Teaching {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.count += batch.len() as i64;
        out.push(0, batch);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let before = std::mem::replace(&mut self.before, self.count);
        kept(if Sabotage::OldState.is_on(&self.flow) { &before } else { &self.count })
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.count = state.get("value")?;
        self.before = self.count;
        Ok(())
    }

    fn border(&mut self, epoch: Epoch, out: &mut Collector) -> Result<()> {
        out.push(1, Batch::new(batch_of([self.count]), Origin::new("teach", "", epoch.0, epoch.0)));
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
