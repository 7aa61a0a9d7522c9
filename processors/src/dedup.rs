//! The processor `dedup`: each key once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{BooleanArray, Int64Array, LargeBinaryArray, LargeBinaryBuilder, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use foldhash::fast::RandomState;
use millstream_core::{
    Batch, Collector, Duration, EventTime, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor,
    ProcessorPlan, ProcessorSettings, Result, Snapshot, State, Stream, Uses, refuse_timeless,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::keys::Keys;
use crate::rows::BATCH_ROWS;

/// Lets the first row of each key pass; the others leave by the port `repeated`.
///
/// With `within`, a row is a repetition only if its event time is less than that away from the one of the row that
/// passed, and keys are forgotten once the watermark has come so far.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupSettings {
    /// The columns that together name what a row is about.
    #[schemars(length(min = 1))]
    keys: Vec<String>,
    /// How long a key is remembered, such as `"1h"`; for ever without it. Needs `event_time` at the input.
    within: Option<Duration>,
    /// How many keys may be remembered at a time; a row with another one leaves by `failed`.
    #[serde(default = "default_max_keys")]
    #[schemars(range(min = 1))]
    max_keys: usize,
}

fn default_max_keys() -> usize {
    10_000_000
}

impl Kind for DedupSettings {
    const NAME: &'static str = "dedup";
    const EXAMPLE: &'static str = r#"keys = ["id"]
within = "1h""#;
    const FREE_SETTINGS: &'static [&'static str] = &["max_keys"];
}

impl ProcessorSettings for DedupSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let keys = Keys::plan("keys", &self.keys, &stream.schema)?;
        let span = match self.within {
            None => None,
            Some(within) => match within.span().map_err(|problem| problem.at(["within"]))? {
                0 => return Err(Problem::new("a span can't be 0").at(["within"]).into()),
                span => Some((stream.require_event_time()?, span)),
            },
        };
        let ports = vec![PortPlan::main(stream.schema.clone()), PortPlan::side("repeated", stream.schema.clone())];
        let time = stream.event_time.iter().filter(|_| span.is_some());
        let uses = vec![Uses::passing_on(self.keys.iter().chain(time).cloned())];
        let (seen, forget) = (HashMap::default(), BinaryHeap::new());
        let dedup = Dedup { keys, span, max_keys: self.max_keys, seen, forget };
        Ok(ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(dedup))) })
    }
}

struct Dedup {
    keys: Keys,
    /// The column of the event time, and how long keys are remembered.
    span: Option<(usize, i64)>,
    max_keys: usize,
    /// The times of the rows that passed, by their keys.
    seen: HashMap<Box<[u8]>, EventTime, RandomState>,
    /// When to look whether a key can be forgotten. Every key is in it with the time that it has in `seen`.
    forget: BinaryHeap<Reverse<(EventTime, Box<[u8]>)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    Repeated,
    Full,
}

impl Dedup {
    fn fate(&mut self, key: &[u8], time: EventTime) -> Fate {
        let span = self.span.map_or(i64::MAX, |(_, span)| span);
        if let Some(seen) = self.seen.get_mut(key) {
            if time.saturating_sub(*seen).saturating_abs() < span || self.span.is_none() {
                return Fate::Repeated;
            }
            *seen = time.max(*seen);
        } else if self.seen.len() >= self.max_keys {
            return Fate::Full;
        } else {
            self.seen.insert(key.into(), time);
        }
        self.forget_later(key, time);
        Fate::Passes
    }

    fn forget_later(&mut self, key: &[u8], time: EventTime) {
        if let Some((_, span)) = self.span {
            self.forget.push(Reverse((time.saturating_add(span), key.into())));
        }
    }
}

impl Processor for Dedup {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let batch = match self.span {
            Some((time, _)) => refuse_timeless(batch, time, out)?,
            None => batch,
        };
        let keys = self.keys.of(&batch.rows)?;
        let times = self.span.map(|(time, _)| batch.rows.column(time).as_primitive::<TimestampMicrosecondType>());
        let time = |row: usize| times.map_or(0, |times| times.value(row));
        let fates: Vec<Fate> = (0..batch.len()).map(|row| self.fate(keys.row(row).data(), time(row))).collect();
        for (port, fate) in [Fate::Passes, Fate::Repeated].into_iter().enumerate() {
            let mask: BooleanArray = fates.iter().map(|of_row| Some(*of_row == fate)).collect();
            match mask.true_count() {
                0 => {}
                all if all == batch.len() => out.push(port, batch.clone()),
                _ => out.push(port, batch.with_rows(filter_record_batch(&batch.rows, &mask)?)),
            }
        }
        for row in (0..batch.len()).filter(|row| fates[*row] == Fate::Full) {
            out.fail_row(&batch, row, format!("{} keys are remembered already (`max_keys`)", self.max_keys))?;
        }
        Ok(())
    }

    fn watermark(&mut self, at: EventTime, _: &mut Collector) -> Result<EventTime> {
        let Some((_, span)) = self.span else { return Ok(at) };
        while self.forget.peek().is_some_and(|Reverse((until, _))| *until <= at) {
            let Some(Reverse((_, key))) = self.forget.pop() else { break };
            if self.seen.get(&key).is_some_and(|seen| seen.saturating_add(span) <= at) {
                self.seen.remove(&key);
            }
        }
        Ok(at)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        let (reader, schema) = (self.keys.clone(), kept_schema(&self.keys));
        // Room for all at once: this is waited for.
        let bytes = self.seen.keys().map(|key| key.len()).sum();
        let mut keys = LargeBinaryBuilder::with_capacity(self.seen.len(), bytes);
        self.seen.keys().for_each(|key| keys.append_value(key));
        let keys = keys.finish();
        let times: Vec<EventTime> = self.seen.values().copied().collect();
        parts.put_rows_later("keys", schema.clone(), move || kept(&schema, &reader, &keys, &times));
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        for rows in state.rows("keys", &kept_schema(&self.keys))? {
            let Some((times, columns)) = rows.columns().split_last() else { continue };
            let keys = self.keys.of_values(columns)?;
            for (key, time) in keys.iter().zip(times.as_primitive::<Int64Type>().values()) {
                self.seen.insert(key.data().into(), *time);
                self.forget_later(key.data(), *time);
            }
        }
        Ok(())
    }
}

/// What is kept of a key: its values, and when it was seen.
fn kept_schema(keys: &Keys) -> SchemaRef {
    let time = Field::new("seen", DataType::Int64, false);
    Arc::new(Schema::new(keys.fields().iter().cloned().chain([time]).collect::<Vec<_>>()))
}

/// The keys in their order, so that it does not show in which one they lay in memory.
fn kept(schema: &SchemaRef, reader: &Keys, keys: &LargeBinaryArray, times: &[EventTime]) -> Result<Vec<RecordBatch>> {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_unstable_by_key(|place| keys.value(*place));
    let batch = |places: &[usize]| {
        let mut columns = reader.values(places.iter().map(|place| keys.value(*place)))?;
        columns.push(Arc::new(Int64Array::from_iter_values(places.iter().map(|place| times[*place]))));
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    };
    order.chunks(BATCH_ROWS).map(batch).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{Timing, drive, drive_in_time, parse, table};

    use super::*;

    #[test]
    fn the_first_row_of_a_key_passes() {
        let rows = table("k:utf8? n:int64\n a 1\n b 2\n a 3\n null 4\n null 5\n b 6");
        for batch_rows in [1, 2, 100] {
            let driven = drive(&parse::<DedupSettings>("keys = ['k']"), &[("from", rows.clone())], batch_rows);
            assert_eq!(driven.text("main"), "k:utf8? n:int64\na 1\nb 2\nnull 4\n");
            assert_eq!(driven.text("repeated"), "k:utf8? n:int64\na 3\nnull 5\nb 6\n");
        }
    }

    #[test]
    fn a_key_is_remembered_for_a_span() {
        let rows = table(
            "at:timestamp k:int64
             1970-01-01T00:00:00Z 1
             1970-01-01T00:00:09Z 1
             1970-01-01T00:00:10Z 1
             1970-01-01T00:00:19Z 1
             1970-01-01T00:01:00Z 2
             1970-01-01T00:01:01Z 1",
        );
        let settings: DedupSettings = parse("keys = ['k']\nwithin = '10s'\nmax_keys = 1");
        for batch_rows in [1, 100] {
            let timing = Timing { lateness: 0, watermark_rows: 1, epoch_rows: 100, batch_rows };
            let driven = drive_in_time(&settings, &rows, timing);
            let expected =
                "at:timestamp k:int64\n1970-01-01T00:00:00Z 1\n1970-01-01T00:00:10Z 1\n1970-01-01T00:01:01Z 1\n";
            assert_eq!(driven.text("main"), expected);
            assert!(driven.failed[0].error.contains("max_keys"), "only one key is remembered");
        }
    }
}
