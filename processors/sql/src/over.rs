//! The processor `over`: columns about the rows that came before, attached to each row.

mod blocks;
mod counting;
mod feature;
mod history;
mod kept;
mod segments;

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, Duration, EventTime, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor,
    ProcessorPlan, ProcessorSettings, Result, Snapshot, State, Stream, Uses, refuse_timeless,
};
use schemars::JsonSchema;
use serde::Deserialize;

use feature::Feature;
use history::{Frame, History};

use crate::accumulate::aggregate::Arguments;
use crate::accumulate::{key_columns, selected};
use crate::halve::Halves;

/// Adds columns to each row that sum up the rows before it with the same keys: how often a card was used in the last hour,
/// what a sensor showed before, how long ago a customer came.
///
/// With `last`, rows count whose event time lies less than that before the row's own; with `rows`, the last ones that came.
/// The row itself counts, too, unless `current = false`. Rows leave in their order, at once, with all their columns.
///
/// What can be selected are the aggregates of `window`, with `FILTER (WHERE …)`, and two more that look at the row before:
/// `lag(x)` is its value of `x`, and `time_since()` is how many seconds of event time lie between them. The row before is the one with
/// the same keys that came last, with `last` among those that count. Both are null where there is none: for a first row, and with
/// `last` where none lies less than that before.
///
/// So where rows are out of order, the row before is not always the one before in event time, and with `rows` the last ones are
/// those that came last. A `sort` in front of the node brings rows into the order of event time.
///
/// However many rows count, each takes a few dozen steps, but for `count(DISTINCT x)` and `quantile`, which go through all of them.
/// For that, floats of a key are added up in blocks of 32 rows, of 64, of 128 and so on, counted from the first row that is
/// remembered of the key, where all rows of a block count; so the last digits of `sum`, `avg`, `stddev` and `var` may differ from
/// those of a sum from left to right. They are the same in every run.
///
/// With `last` the input needs `event_time`, and rows that are late leave by the port `late`, as they are. Rows are remembered
/// until the watermark has left them behind; with `rows`, as many as that for each key that ever came.
///
/// Everything is computed row by row, so no result depends on how rows are cut into batches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverSettings {
    /// The columns whose values make a group. Without them, all rows are one.
    #[serde(default)]
    keys: Vec<String>,
    /// How far back rows count, such as `"1h"`.
    last: Option<Duration>,
    /// How many rows count.
    #[schemars(range(min = 1, max = 100_000))]
    rows: Option<usize>,
    /// Whether the row itself counts.
    #[serde(default = "default_current")]
    current: bool,
    /// The columns that are added, and what each is: `{ n = "count(*)", before = "lag(amount)" }`.
    #[schemars(length(min = 1))]
    select: IndexMap<String, String>,
    /// How many rows may be remembered; a row that would be one more leaves by the port `failed`.
    #[serde(default = "default_max_rows")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    max_rows: usize,
}

fn default_current() -> bool {
    true
}

fn default_max_rows() -> usize {
    10_000_000
}

impl Kind for OverSettings {
    const NAME: &'static str = "over";
    const ALSO_CALLED: &'static [&'static str] = &["lag", "rolling", "features"];
    const EXAMPLE: &'static str = r#"keys = ["card"]
last = "1h"
select = { n = "count(*)", mean = "avg(amount)", before = "lag(amount)", since = "time_since()" }"#;
    const FREE_SETTINGS: &'static [&'static str] = &["max_rows"];
}

const MAIN_PORT: usize = 0;
const LATE_PORT: usize = 1;

impl ProcessorSettings for OverSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let mut problems = Problems::new();
        let frame = self.frame().map_err(|problem| problems.push(problem)).ok();
        let keys = key_columns(&self.keys, &stream.schema, &mut problems);
        let is_taken = |name: &str| stream.schema.field_with_name(name).is_ok();
        let features = selected(&self.select, is_taken, |name, text| Feature::new(name, text, &stream.schema));
        let features = features.map_err(|found| problems.extend(found)).unwrap_or_default();
        let needs_time = self.last.is_some() || features.iter().any(Feature::needs_time);
        let time = if needs_time { stream.require_event_time().map(Some) } else { Ok(None) };
        let time = time.map_err(|problem| problems.push(problem)).ok().flatten();
        let (Some(frame), []) = (frame, &problems[..]) else { return Err(problems) };
        let schema = schema(&stream.schema, &features);
        let mentioned = features.iter().flat_map(|feature| feature.columns().iter().cloned());
        let event_time = stream.event_time.iter().filter(|_| time.is_some());
        let uses = vec![Uses::passing_on(mentioned.chain(self.keys.iter().chain(event_time).cloned()))];
        let mut ports = vec![PortPlan::main(schema.clone())];
        if self.last.is_some() {
            ports.push(PortPlan::side("late", stream.schema.clone()));
        }
        let history = History::new(&stream.schema, keys, &features, frame, self.current, self.max_rows);
        let history = history.map_err(|error| Problem::new(error.to_string()))?;
        let (is_timed, max_rows) = (self.last.is_some(), self.max_rows);
        let over = Over { time, is_timed, features, history, schema, watermark: EventTime::MIN, max_rows };
        Ok(ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(over))) })
    }
}

impl OverSettings {
    fn frame(&self) -> Result<Frame, Problem> {
        match (self.last, self.rows) {
            (Some(last), None) => match last.span().map_err(|problem| problem.at(["last"]))? {
                0 => Err(Problem::new("nothing lies within 0").at(["last"])),
                span => Ok(Frame::Time(span)),
            },
            (None, Some(rows)) => Ok(Frame::Rows(rows)),
            (None, None) => {
                Err(Problem::new("it does not say which rows count").help("set `last = \"1h\"`, or `rows = 20`"))
            }
            (Some(_), Some(_)) => {
                Err(Problem::new("rows count by time or by number").help("leave `last` or `rows` out").at(["rows"]))
            }
        }
    }
}

/// The columns of the rows, and what is added.
fn schema(input: &Schema, features: &[Feature]) -> SchemaRef {
    let added = features.iter().map(|feature| Arc::new(feature.field().clone()));
    Arc::new(Schema::new(input.fields().iter().cloned().chain(added).collect::<Vec<_>>()))
}

struct Over {
    /// The column of the event time, if it is looked at.
    time: Option<usize>,
    /// Whether rows count by their time.
    is_timed: bool,
    features: Vec<Feature>,
    history: History,
    schema: SchemaRef,
    watermark: EventTime,
    max_rows: usize,
}

impl Processor for Over {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let batch = match self.time {
            Some(time) => refuse_timeless(batch, time, out)?,
            None => batch,
        };
        let batch = batch.with_rows(self.set_late_aside(&batch, out)?);
        let mut halves = Halves::of(&batch.rows);
        while let Some((start, (count, arguments))) =
            halves.next_good(|rows| evaluate(&self.features, rows), |row, why| out.fail_row(&batch, row, why))?
        {
            let rows = batch.rows.slice(start, count);
            let times = self.time.map(|time| rows.column(time).as_primitive::<TimestampMicrosecondType>().values());
            let (added, fits) =
                self.history.take(&rows, arguments, times.map(|times| &times[..]), &mut self.features)?;
            let kept = if fits.true_count() == count { rows } else { filter_record_batch(&rows, &fits)? };
            let columns = kept.columns().iter().cloned().chain(added).collect();
            out.push(MAIN_PORT, batch.with_rows(RecordBatch::try_new(self.schema.clone(), columns)?));
            for row in (0..count).filter(|row| !fits.value(*row)) {
                let why = format!("{} rows are remembered already (`max_rows`)", self.max_rows);
                out.fail_row(&batch, start + row, why)?;
            }
        }
        Ok(())
    }

    fn watermark(&mut self, at: EventTime, _: &mut Collector) -> Result<EventTime> {
        self.watermark = at;
        self.history.forget(at);
        Ok(at)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put("watermark", &self.watermark)?;
        self.history.save(&mut parts)?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.watermark = state.get("watermark")?;
        self.history.load(state, &mut self.features)
    }
}

/// How many rows there are, and what is remembered of them. The error is why at least one of them failed.
fn evaluate(features: &[Feature], rows: &RecordBatch) -> Result<(usize, Vec<Arguments>), String> {
    let arguments = features.iter().map(|feature| feature.evaluate(rows)).collect::<Result<_, _>>()?;
    Ok((rows.num_rows(), arguments))
}

impl Over {
    fn set_late_aside(&self, batch: &Batch, out: &mut Collector) -> Result<RecordBatch> {
        let (Some(time), true) = (self.time, self.is_timed) else { return Ok(batch.rows.clone()) };
        let times = batch.rows.column(time).as_primitive::<TimestampMicrosecondType>().values();
        let on_time: BooleanArray = times.iter().map(|time| Some(*time >= self.watermark)).collect();
        if on_time.true_count() == batch.len() {
            return Ok(batch.rows.clone());
        }
        let late = arrow::compute::not(&on_time)?;
        out.push(LATE_PORT, batch.with_rows(filter_record_batch(&batch.rows, &late)?));
        Ok(filter_record_batch(&batch.rows, &on_time)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
