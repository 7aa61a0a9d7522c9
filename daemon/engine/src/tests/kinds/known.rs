//! Rows that are known at a time.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::rows_of;
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
    /// How many tables there are, if the rows are of several: three rows of each in turn, which leave by the ports `t0`, `t1` and so on.
    tables: Option<u64>,
}

impl Kind for Known {
    const NAME: &'static str = "known";
    const FREE_SETTINGS: &'static [&'static str] = &["pause"];
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
        let rows = Some(self.rows);
        let plan = InputPlan { finite: !self.live, rows, ..InputPlan::new(schema.clone(), move || Ok(reading)) };
        let Some(tables) = self.tables else { return Ok(plan) };
        let ports = (0..tables).map(|table| PortPlan::new(format!("t{table}"), schema.clone())).collect();
        Ok(InputPlan { ports, ..plan })
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

    /// By which port a row leaves.
    fn port(&self, position: u64) -> usize {
        self.settings.tables.map_or(0, |tables| position / 3 % tables) as usize
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
        let all: Vec<u64> = places.clone().collect();
        for run in all.chunk_by(|one, two| self.port(*one) == self.port(*two)) {
            let good = run.iter().filter(|place| !self.is_refused(**place)).map(|place| self.second(*place));
            let pairs: Vec<_> = good.map(|second| (second, second * 1_000_000)).collect();
            let origin = Origin::new(self.source.clone(), "", run[0], run[0] + run.len() as u64);
            out.push(self.port(run[0]), Batch::new(rows_of(&self.schema, &pairs), origin));
        }
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
