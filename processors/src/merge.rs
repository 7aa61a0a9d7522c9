//! The processor `merge`: several streams as one, in an order of choice.

use arrow::compute::SortOptions;
use millstream_core::{
    Batch, Collector, Kind, Order, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Result, Stream, Uses,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::keys::Keys;
use crate::ordered::Ordered;
use crate::sort;

/// How many rows a turn has, unless `rows` says otherwise.
const ROWS_OF_A_TURN: usize = 1024;

/// Merges the streams that `from` lists into one, in an order of choice. They must have the same columns.
///
/// A list in the `from` of any node merges, too: finite streams one after the other, live ones as they arrive.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeSettings {
    /// `sequence`: all rows of the first stream, then all of the second. `round_robin`: some rows of each in turn; a stream
    /// that has ended is left out. `event_time`: sorted by it. A row is
    /// kept until the watermarks of all streams have passed it, and late ones leave by the port `late`; the stream whose
    /// event time is furthest behind is read first. `arrival`: as they come, which differs from run to run.
    order: MergeOrder,
    /// With `round_robin`: how many rows of a stream before it is the next one's turn; 1024 unless set.
    #[schemars(range(min = 1))]
    rows: Option<usize>,
    /// With `event_time`: how many rows may wait. One more, and the flow fails.
    #[serde(default = "default_max_rows")]
    #[schemars(range(min = 1))]
    max_rows: usize,
}

fn default_max_rows() -> usize {
    10_000_000
}

/// An order of streams.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum MergeOrder {
    Arrival,
    Sequence,
    RoundRobin,
    EventTime,
}

impl Kind for MergeSettings {
    const NAME: &'static str = "merge";
    const ALSO_CALLED: &'static [&'static str] = &["union", "concat"];
    const EXAMPLE: &'static str = r#"order = "round_robin"
rows = 100"#;
}

impl ProcessorSettings for MergeSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        match self.rows {
            Some(0) => return Err(Problem::new("a turn must have at least 1 row").under("rows").into()),
            Some(_) if self.order != MergeOrder::RoundRobin => {
                return Err(Problem::new("`rows` only means something with `order = \"round_robin\"`")
                    .under("rows")
                    .into());
            }
            _ => {}
        }
        if self.order == MergeOrder::EventTime {
            return self.by_event_time(&inputs[0]);
        }
        Ok(ProcessorPlan {
            ports: inputs.iter().take(1).map(|stream| PortPlan::main(stream.schema.clone())).collect(),
            uses: vec![Uses::passing_on::<&str>([])],
            fails: false,
            build: Box::new(|| Ok(Box::new(Merge))),
        })
    }

    fn order(&self) -> Order {
        match self.order {
            MergeOrder::EventTime => Order::EventTime,
            MergeOrder::Arrival => Order::Arrival,
            MergeOrder::Sequence => Order::Sequence,
            MergeOrder::RoundRobin => Order::RoundRobin { rows: self.rows.unwrap_or(ROWS_OF_A_TURN) },
        }
    }
}

impl MergeSettings {
    /// The engine lets the streams come along together; what is left is to sort the few rows that wait.
    fn by_event_time(&self, stream: &Stream) -> Result<ProcessorPlan, Problems> {
        let time = stream.require_event_time()?;
        let keys = Keys::ordered(vec![(time, SortOptions::default())], &stream.schema)?;
        let uses = Uses::passing_on(stream.event_time.clone());
        Ok(sort::plan(stream, Ordered::new(stream.schema.clone(), keys, Some(time)), Some(time), self.max_rows, uses))
    }
}

/// Passes on what the engine has ordered.
struct Merge;

impl Processor for Merge {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        out.push(0, batch);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{context, drive, parse, stream, table};

    use super::*;

    fn order(settings: &str) -> Order {
        parse::<MergeSettings>(settings).order()
    }

    #[test]
    fn rows_pass_as_they_are() {
        let rows = table("id:int64 name:utf8?\n 1 Ada\n 2 null");
        let settings: MergeSettings = parse("order = 'sequence'");
        let driven = drive(&settings, &[("from", rows)], 1);
        assert_eq!(driven.text("main"), "id:int64 name:utf8?\n1 Ada\n2 null\n");
    }

    #[test]
    fn the_engine_is_told_the_order() {
        assert_eq!(order("order = 'arrival'"), Order::Arrival);
        assert_eq!(order("order = 'sequence'"), Order::Sequence);
        assert_eq!(order("order = 'round_robin'"), Order::RoundRobin { rows: 1024 });
        assert_eq!(order(MergeSettings::EXAMPLE), Order::RoundRobin { rows: 100 });
    }

    #[test]
    fn rows_of_a_turn_are_checked() {
        let streams = [stream("from", table("id:int64\n").schema())];
        for settings in ["order = 'sequence'\nrows = 5", "order = 'round_robin'\nrows = 0"] {
            let problems = parse::<MergeSettings>(settings).plan(&context(), &streams).unwrap_err();
            assert_eq!(problems[0].at, ["rows".into()]);
        }
    }
}
