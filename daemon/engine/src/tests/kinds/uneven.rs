//! A stateless processor that takes longer for some batches than for others.

use std::time::{Duration, Instant};

use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{one_port, values};

/// Passes every batch on in two pieces, and rejects every thirteenth number.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uneven {
    /// Panics at this number.
    panic: Option<i64>,
}

impl Kind for Uneven {
    const NAME: &'static str = "uneven";
    const EXAMPLE: &'static str = "";
}

impl ProcessorSettings for Uneven {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Ok(one_port(inputs, Passing { panic: self.panic, rest: None }))
    }
}

struct Passing {
    panic: Option<i64>,
    rest: Option<Batch>,
}

impl Processor for Passing {
    #[expect(clippy::disallowed_methods, reason = "it keeps a thread busy in real time")]
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let numbers = values(&batch.rows);
        assert!(!self.panic.is_some_and(|n| numbers.contains(&n)), "this node panics");
        // The first of several batches takes longest, so that those behind it are ready before.
        let takes = Duration::from_micros(400 - 100 * (numbers[0] / numbers.len() as i64 % 4) as u64);
        let begin = Instant::now();
        while begin.elapsed() < takes {}
        let rejected = numbers.iter().map(|n| Some(n % 13 == 12)).collect();
        let rows = out.fail_rows(&batch, &rejected, |row| format!("{} is rejected", numbers[row]))?;
        let half = rows.num_rows() / 2;
        out.push(0, batch.with_rows(rows.slice(0, half)));
        self.rest = Some(batch.with_rows(rows.slice(half, rows.num_rows() - half)));
        Ok(())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let rest = self.rest.take();
        Ok(rest.map(|rest| out.push(0, rest)).is_some())
    }

    fn lane(&self) -> Option<Box<dyn Processor>> {
        Some(Box::new(Self { panic: self.panic, rest: None }))
    }
}
