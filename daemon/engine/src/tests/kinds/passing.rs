//! Processors that pass rows on, changed or sorted.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{batch_of, kept, one_port, rows_of, values, with_values};

/// Passes batches through a function.
struct Map<F>(F);

impl<F: FnMut(RecordBatch) -> Result<RecordBatch> + Send> Processor for Map<F> {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let rows = (self.0)(batch.rows.clone())?;
        out.push(0, batch.with_rows(rows));
        Ok(())
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
        Ok(one_port(
            inputs,
            Map(move |rows: RecordBatch| Ok(with_values(&rows, values(&rows).into_iter().map(|n| n + by)))),
        ))
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

/// Passes every batch on several times, piece by piece; and -1 at barriers, -2 at the end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often.
    times: usize,
    /// How many seconds lie between two pieces.
    #[serde(default)]
    pause: u64,
}

impl Kind for Repeat {
    const NAME: &'static str = "repeat";
    const EXAMPLE: &'static str = "times = 3";
}

impl ProcessorSettings for Repeat {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let pause = (self.pause > 0).then(|| std::time::Duration::from_secs(self.pause));
        Ok(one_port(inputs, Repeating { times: self.times, pause, left: Vec::new() }))
    }
}

struct Repeating {
    times: usize,
    pause: Option<std::time::Duration>,
    left: Vec<Batch>,
}

impl Repeating {
    fn begin(&mut self, batch: Batch) {
        assert!(self.left.is_empty(), "there was more");
        self.left = vec![batch; self.times];
    }
}

impl Processor for Repeating {
    fn process(&mut self, _: usize, batch: Batch, _: &mut Collector) -> Result<()> {
        self.begin(batch);
        Ok(())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let piece = self.left.pop();
        Ok(piece.map(|piece| out.push(0, piece)).is_some())
    }

    fn pause(&self) -> Option<std::time::Duration> {
        self.pause
    }

    fn barrier(&mut self, _: Epoch, _: &mut Collector) -> Result<()> {
        self.begin(Batch::new(batch_of([-1]), Origin::new("barrier", "", 0, 1)));
        Ok(())
    }

    fn finish(&mut self, _: &mut Collector) -> Result<()> {
        self.begin(Batch::new(batch_of([-2]), Origin::new("end", "", 0, 1)));
        Ok(())
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
            out.push(0, batch.with_rows(with_values(&batch.rows, values(&batch.rows).into_iter().map(|n| n + self.0))));
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
    /// In event time.
    #[serde(default)]
    timed: bool,
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
        let order = if self.timed { Order::EventTime } else { Order::Automatic };
        self.rows.map_or(order, |rows| Order::RoundRobin { rows })
    }
}

/// Passes rows on, and from the first one on at every barrier the negative number of the epoch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Barriers {}

impl Kind for Barriers {
    const NAME: &'static str = "barriers";
    const EXAMPLE: &'static str = "";
}

impl ProcessorSettings for Barriers {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Ok(one_port(inputs, Bordering { schema: inputs[0].schema.clone(), has_begun: false }))
    }
}

struct Bordering {
    schema: SchemaRef,
    /// Whether it has had a row.
    has_begun: bool,
}

impl Processor for Bordering {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.has_begun = true;
        out.push(0, batch);
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, out: &mut Collector) -> Result<()> {
        if !self.has_begun {
            return Ok(());
        }
        let origin = Origin::new("barriers", "", epoch.0, epoch.0);
        out.push(0, Batch::new(rows_of(&self.schema, &[(-(epoch.0 as i64), 0)]), origin));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        kept(&self.has_begun)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.has_begun = state.get("value")?;
        Ok(())
    }
}
