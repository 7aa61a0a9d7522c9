//! A processor that waits for event time.

use arrow::datatypes::SchemaRef;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{one_port, pairs, rows_of};

/// Keeps rows until event time has passed them, and sends them on in its order. Late ones leave by `late`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {}

impl Kind for Hold {
    const NAME: &'static str = "hold";
    const EXAMPLE: &'static str = "";
}

impl ProcessorSettings for Hold {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        inputs[0].require_event_time()?;
        let schema = &inputs[0].schema;
        let holding = Holding { schema: schema.clone(), rows: Vec::new(), now: EventTime::MIN };
        let ports = vec![PortPlan::main(schema.clone()), PortPlan::side("late", schema.clone())];
        Ok(ProcessorPlan { ports, ..one_port(inputs, holding) })
    }
}

struct Holding {
    schema: SchemaRef,
    /// Event times and numbers.
    rows: Vec<(EventTime, i64)>,
    now: EventTime,
}

impl Holding {
    fn send(&self, port: usize, rows: impl IntoIterator<Item = (EventTime, i64)>, out: &mut Collector) {
        let pairs: Vec<_> = rows.into_iter().map(|(at, n)| (n, at)).collect();
        out.push(port, Batch::new(rows_of(&self.schema, &pairs), Origin::new("hold", "", 0, pairs.len() as u64)));
    }

    fn send_before(&mut self, at: EventTime, out: &mut Collector) {
        self.rows.sort_unstable();
        let due: Vec<_> = self.rows.extract_if(.., |row| row.0 < at).collect();
        self.send(0, due, out);
    }
}

impl Processor for Holding {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        for (n, at) in pairs(&batch.rows) {
            if at < self.now { self.send(1, [(at, n)], out) } else { self.rows.push((at, n)) }
        }
        Ok(())
    }

    fn watermark(&mut self, at: EventTime, out: &mut Collector) -> Result<EventTime> {
        self.now = at;
        self.send_before(at, out);
        Ok(at)
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        self.send_before(EventTime::MAX, out);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put("now", &self.now)?;
        parts.put_later("rows", self.rows.clone());
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        (self.now, self.rows) = (state.get("now")?, state.get("rows")?);
        Ok(())
    }
}
