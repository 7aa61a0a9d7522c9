//! Rows that are known at a time, a model that knows the latest of them, and predictions that say which model they are by.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::{batch_of, kept, numbers, one_port, rows_of, values, with_values};
use crate::tests::crash;

/// Rows whose number is the second at which they are known.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The second of the first row.
    #[serde(default)]
    start: u64,
    /// How many rows.
    rows: u64,
    /// How many seconds lie between two rows.
    every: u64,
    /// By how many seconds rows may be out of order.
    #[serde(default)]
    disorder: u64,
    /// Refuses every row whose number of rows before it this divides.
    refuse: Option<u64>,
    /// Does not say that it will end.
    #[serde(default)]
    live: bool,
    /// Waits so many milliseconds before every batch.
    #[serde(default)]
    pause: u64,
}

impl Kind for Known {
    const NAME: &'static str = "known";
    const EXAMPLE: &'static str = "rows = 3\nevery = 10";
}

impl InputSettings for Known {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let schema = millstream_testkit::schema("n:int64 at:timestamp");
        let reading = Reading {
            settings: self.clone(),
            next: 0,
            ready: Instant::now(),
            batch_rows: context.batch_rows as u64,
            source: context.node.as_str().into(),
            flow: context.flow.clone(),
            schema: schema.clone(),
        };
        let build = Box::new(move || Ok(Box::new(reading) as Box<dyn Input>));
        let rows = Some(self.rows);
        Ok(InputPlan {
            schema,
            finite: !self.live,
            replayable: true,
            acknowledges: false,
            interleaved: false,
            rows,
            build,
        })
    }
}

struct Reading {
    settings: Known,
    /// The position of the next row.
    next: u64,
    /// When the next batch is there.
    ready: Instant,
    batch_rows: u64,
    source: Arc<str>,
    flow: String,
    schema: SchemaRef,
}

impl Reading {
    fn second(&self, position: u64) -> i64 {
        let Known { start, every, disorder, .. } = self.settings;
        (start + position * every + position * 7919 % (disorder + 1)) as i64
    }

    fn is_refused(&self, position: u64) -> bool {
        self.settings.refuse.is_some_and(|by| position.is_multiple_of(by))
    }
}

#[async_trait]
impl Input for Reading {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        tokio::time::sleep_until(self.ready).await;
        tokio::task::yield_now().await;
        self.ready = Instant::now() + Duration::from_millis(self.settings.pause);
        crash::step(&self.flow)?;
        let places = self.next..self.settings.rows.min(self.next + self.batch_rows);
        let good = places.clone().filter(|place| !self.is_refused(*place)).map(|place| self.second(place));
        let pairs: Vec<_> = good.map(|second| (second, second * 1_000_000)).collect();
        let origin = Origin::new(self.source.clone(), "", places.start, places.end);
        out.push(0, Batch::new(rows_of(&self.schema, &pairs), origin));
        for position in places.clone().filter(|place| self.is_refused(*place)) {
            out.fail(FailedRow {
                error: "refused".into(),
                source: self.source.clone(),
                partition: "".into(),
                position: Some(position),
                line: None,
                row: self.second(position).to_string(),
                encoding: Encoding::Text,
            });
        }
        self.next = places.end;
        Ok(if self.next == self.settings.rows { Progress::End } else { Progress::More })
    }

    fn restore(&mut self, positions: &Positions, _: &State) -> Result<()> {
        self.next = positions.get("").copied().unwrap_or_default();
        Ok(())
    }
}

/// A model that is the largest number so far. Versions come at borders, and at the end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latest {
    /// The model.
    model: String,
    /// Whether the only version comes at the end.
    #[serde(default)]
    at_the_end: bool,
}

impl Kind for Latest {
    const NAME: &'static str = "latest";
    const EXAMPLE: &'static str = "model = \"m\"";
}

impl ProcessorSettings for Latest {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let versions = PortPlan::new("model", numbers(&["n"])).only_at_the_end(self.at_the_end);
        let ports = vec![PortPlan::main(inputs[0].schema.clone()), versions];
        let learning = Learning { at_the_end: self.at_the_end, largest: 0, sent: 0 };
        Ok(ProcessorPlan { ports, ..one_port(inputs, learning) })
    }

    fn trains(&self) -> Option<&str> {
        Some(&self.model)
    }
}

struct Learning {
    at_the_end: bool,
    largest: i64,
    sent: i64,
}

impl Learning {
    fn send(&mut self, out: &mut Collector) {
        if self.largest > self.sent {
            self.sent = self.largest;
            out.push(1, Batch::new(batch_of([self.largest]), Origin::new("latest", "", 0, 1)));
        }
    }
}

impl Processor for Learning {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.largest = values(&batch.rows).into_iter().fold(self.largest, i64::max);
        out.push(0, batch);
        Ok(())
    }

    fn border(&mut self, _: Epoch, out: &mut Collector) -> Result<()> {
        if !self.at_the_end {
            self.send(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        self.send(out);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        kept(&(self.largest, self.sent))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        (self.largest, self.sent) = state.get("value")?;
        Ok(())
    }
}

/// Adds the model to every row, as the last five digits. It takes effect at the next border.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Labelled {
    /// The model.
    model: String,
}

impl Kind for Labelled {
    const NAME: &'static str = "labelled";
    const EXAMPLE: &'static str = "model = \"m\"";
}

impl ProcessorSettings for Labelled {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Ok(one_port(inputs, Labelling { now: 0, next: 0 }))
    }

    fn follows_model(&self) -> Option<&str> {
        Some(&self.model)
    }
}

/// The digits of the model.
pub const MODELS: i64 = 100_000;

struct Labelling {
    now: i64,
    next: i64,
}

impl Processor for Labelling {
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        if port > 0 {
            self.next = values(&batch.rows)[0];
            return Ok(());
        }
        let labelled = values(&batch.rows).into_iter().map(|n| n * MODELS + self.now).collect::<Vec<_>>();
        out.push(0, batch.with_rows(with_values(&batch.rows, labelled)));
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
