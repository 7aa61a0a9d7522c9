//! The processor `limit`: the first rows.

use millstream_core::{
    Batch, Collector, Kind, Parts, PlanContext, PortPlan, Problems, Processor, ProcessorPlan, ProcessorSettings,
    Result, Snapshot, State, Stream, Uses,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Lets the first rows pass, and drops all others.
///
/// The inputs are read to their end all the same, since other nodes may need their rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// How many rows pass.
    rows: usize,
    /// How many rows are left out before them.
    #[serde(default)]
    skip: usize,
}

impl Kind for LimitSettings {
    const NAME: &'static str = "limit";
    const ALSO_CALLED: &'static [&'static str] = &["head", "take"];
    const EXAMPLE: &'static str = "rows = 100";
}

impl ProcessorSettings for LimitSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let ports = vec![PortPlan::main(inputs[0].schema.clone())];
        let limit = Limit { skip: self.skip, rows: self.rows, row: 0 };
        let uses = vec![Uses::passing_on::<&str>([])];
        Ok(ProcessorPlan { ports, uses, fails: false, build: Box::new(|| Ok(Box::new(limit))) })
    }
}

struct Limit {
    skip: usize,
    rows: usize,
    /// How many rows have come. It is this that is kept, so that the settings may change.
    row: usize,
}

impl Processor for Limit {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let place = |row: usize| row.saturating_sub(self.row).min(batch.len());
        let (start, end) = (place(self.skip), place(self.skip.saturating_add(self.rows)));
        self.row = self.row.saturating_add(batch.len());
        out.push(0, batch.with_rows(batch.rows.slice(start, end - start)));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put("row", &self.row)?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.row = state.get("row")?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{drive, parse, table};

    use super::*;

    #[test]
    fn the_first_rows_pass_whatever_the_batches() {
        let rows = table("n:int64\n 1\n 2\n 3\n 4\n 5");
        for batch_rows in 1..6 {
            let driven = drive(&parse::<LimitSettings>("rows = 2\nskip = 2"), &[("from", rows.clone())], batch_rows);
            assert_eq!(driven.text("main"), "n:int64\n3\n4\n");
        }
    }
}
