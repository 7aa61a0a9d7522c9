//! The processor `window`: rows of a stretch of event time, summed up.

mod panes;
mod sessions;
mod state;

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, Duration, Epoch, EventTime, Kind, Origin, PlanContext, PortPlan, PortTime, Problem, Problems,
    Processor, ProcessorPlan, ProcessorSettings, Result, Snapshot, State, Stream, Uses, refuse_timeless,
};
use schemars::JsonSchema;
use serde::Deserialize;

use panes::Panes;
use sessions::Sessions;

use crate::accumulate::aggregate::{Aggregate, Arguments};
use crate::accumulate::groups::{Assignment, Full, Groups};
use crate::accumulate::{BATCH_ROWS, key_columns, selected};
use crate::halve::Halves;

/// Aggregates the rows of each window of event time: one row a window, or one a group of a window with `keys`. (`aggregate`
/// aggregates all rows, `over` adds to each row what came before it.)
///
/// Windows are *tumbling* (`size`: each row is in one), *sliding* (`size` and `every`: they overlap) or *sessions*
/// (`gap`: rows that follow each other closely, until nothing has come for that long). They are counted from
/// 1970-01-01T00:00:00Z. Out come `window_start`, `window_end` (exclusive), the keys, and the columns of `select`, as
/// soon as the watermark has passed the end; windows in their order, and groups as they came.
///
/// The aggregates are `count(*)`, `count(x)`, `count(DISTINCT x)` (exact), `sum`, `avg`, `min`, `max`, `stddev`, `stddev_pop`,
/// `var`, `var_pop`, `first_value` and `last_value` (by event time), and `quantile(x, 0.9)`: the value below which nine tenths of
/// the others lie, that of rank `floor(0.9 * (n - 1))` of `n` counted from 0, within 1% of the true value.
/// What stands in the brackets is an expression over one row, and `FILTER (WHERE …)` may stand behind them: for the rows that it
/// leaves out, the expression is not computed, and can't fail. Null counts nowhere but in `count(*)`, `first_value` and
/// `last_value`. `-0.0` is 0, and NaN equals NaN and is larger than any other number, in keys as in `min`, `max` and `DISTINCT`.
///
/// When the input ends, windows that are still open are emitted as they are, and so they are when a live flow without state is stopped.
/// With `--state` they stay open, and the rows of the next run go on filling them.
///
/// The input needs `event_time`, and its column has to come as far as here. A row that comes when all of its windows are
/// closed leaves by the port `late`, as it is. With `early`, windows that are still open are shown at every barrier of an
/// epoch, by the port `early`, if rows have come since.
///
/// Everything is computed row by row, so no result depends on how rows are cut into batches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowSettings {
    /// How long a window is, such as `"1m"`.
    size: Option<Duration>,
    /// Sliding windows: how long after one window the next one starts. By default, as long as a window is.
    every: Option<Duration>,
    /// Sessions: how long nothing has to come until one ends.
    gap: Option<Duration>,
    /// The columns whose values make a group.
    #[serde(default)]
    keys: Vec<String>,
    /// The columns that come out, and the aggregate that each is: `{ n = "count(*)", mean = "avg(amount)" }`.
    #[schemars(length(min = 1))]
    select: IndexMap<String, String>,
    /// Whether windows that are still open are shown at barriers.
    #[serde(default)]
    early: bool,
    /// How many groups may be open at a time, of all windows together; a row that would need one more leaves by the
    /// port `failed`. A million groups with three aggregates take about 100 MiB.
    #[serde(default = "default_max_groups")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    max_groups: usize,
}

fn default_max_groups() -> usize {
    10_000_000
}

impl Kind for WindowSettings {
    const NAME: &'static str = "window";
    const ALSO_CALLED: &'static [&'static str] = &["tumble", "tumbling", "sliding", "hop", "session"];
    const EXAMPLE: &'static str = r#"size = "1m"
keys = ["country"]
select = { payments = "count(*)", mean = "avg(amount)", p90 = "quantile(amount, 0.9)" }"#;
    const FREE_SETTINGS: &'static [&'static str] = &["max_groups"];
}

const MAIN_PORT: usize = 0;
const LATE_PORT: usize = 1;
const EARLY_PORT: usize = 2;

impl ProcessorSettings for WindowSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let mut problems = Problems::new();
        let time = stream.require_event_time().map_err(|problem| problems.push(problem)).ok();
        let windows = self.windows().map_err(|problem| problems.push(problem)).ok();
        let keys = key_columns(&self.keys, &stream.schema, &mut problems);
        let is_taken =
            |name: &str| self.keys.iter().any(|key| key == name) || [WINDOW_START, WINDOW_END].contains(&name);
        let aggregates = selected(&self.select, is_taken, |name, text| Aggregate::new(name, text, &stream.schema));
        let aggregates = aggregates.map_err(|found| problems.extend(found)).ok();
        let (Some(time), Some(windows), Some(aggregates), []) = (time, windows, aggregates, &problems[..]) else {
            return Err(problems);
        };
        let schema = self.schema(&stream.schema, &keys, &aggregates)?;
        let mentioned = aggregates.iter().flat_map(|aggregate| aggregate.columns.iter().cloned());
        let names = self.keys.iter().chain(&stream.event_time).cloned();
        let mut uses = Uses::only(mentioned.chain(names));
        // The rows that come late are passed on.
        uses.passes_on = true;
        // Sessions can start at any time before their end.
        let column = if windows.are_sessions() { WINDOW_END } else { WINDOW_START };
        let mut ports = vec![
            PortPlan::main(schema.clone()).with_event_time(PortTime::Column(column.to_owned())),
            PortPlan::side("late", stream.schema.clone()),
        ];
        if self.early {
            ports.push(PortPlan::side("early", schema.clone()).with_event_time(PortTime::None));
        }
        let own = if windows.are_sessions() { Sessions::own_fields() } else { Panes::own_fields() };
        let groups = Groups::new(&stream.schema, keys, aggregates, self.max_groups, own);
        let groups = groups.map_err(|error| Problem::new(error.to_string()))?;
        let early = self.early;
        let window = Window {
            time,
            windows,
            groups,
            schema,
            early,
            watermark: EventTime::MIN,
            max_groups: self.max_groups,
            origin: None,
        };
        Ok(ProcessorPlan { ports, uses: vec![uses], fails: true, build: Box::new(|| Ok(Box::new(window))) })
    }
}

const WINDOW_START: &str = "window_start";
const WINDOW_END: &str = "window_end";

impl WindowSettings {
    fn windows(&self) -> Result<Windows, Problem> {
        let micros = |name: &str, duration: Duration| match duration.span().map_err(|problem| problem.at([name]))? {
            0 => Err(Problem::new("a window can't be 0 long").at([name])),
            length => Ok(length),
        };
        let length = |name: &str, duration: Option<Duration>| duration.map(|length| micros(name, length)).transpose();
        let (size, every, gap) = (length("size", self.size)?, length("every", self.every)?, length("gap", self.gap)?);
        match (size, every, gap) {
            (Some(size), None, None) => Ok(Windows::Panes(Panes::new(size, size))),
            (Some(size), Some(every), None) if every <= size => {
                let windows = (size as u64).div_ceil(every as u64) as usize;
                if windows <= self.max_groups {
                    Ok(Windows::Panes(Panes::new(size, every)))
                } else {
                    let problem = format!("a row would be in {windows} windows, more than `max_groups` allows");
                    let help = format!("let windows start less often, or raise `max_groups` ({})", self.max_groups);
                    Err(Problem::new(problem).help(help).at(["every"]))
                }
            }
            (Some(_), Some(_), None) => {
                let problem = Problem::new("windows that start less often than they are long would leave rows out");
                Err(problem.help("let `every` be at most `size`").at(["every"]))
            }
            (None, None, Some(gap)) => Ok(Windows::Sessions(Sessions::new(gap))),
            (None, Some(_), None) => Err(Problem::new("`every` needs `size`").at(["every"])),
            (None, None, None) => {
                Err(Problem::new("a window needs a length").help("set `size`, or `gap` for sessions"))
            }
            (_, _, Some(_)) => {
                Err(Problem::new("sessions have no length").help("leave `size` and `every` out, or `gap`").at(["gap"]))
            }
        }
    }

    /// The columns that come out.
    fn schema(&self, input: &Schema, keys: &[usize], aggregates: &[Aggregate]) -> Result<SchemaRef, Problem> {
        let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false);
        let keys = keys.iter().map(|key| input.field(*key).clone());
        let aggregates = aggregates.iter().map(|aggregate| aggregate.field.clone());
        let fields: Vec<Field> =
            [time(WINDOW_START), time(WINDOW_END)].into_iter().chain(keys).chain(aggregates).collect();
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// A window with one of its groups, on its way out.
#[derive(Clone, Copy, Debug)]
struct Closed {
    start: i64,
    end: i64,
    slot: u32,
}

/// The windows that are open.
enum Windows {
    Panes(Panes),
    Sessions(Sessions),
}

impl Windows {
    fn are_sessions(&self) -> bool {
        matches!(self, Self::Sessions(_))
    }
}

struct Window {
    /// The column of the event time.
    time: usize,
    windows: Windows,
    groups: Groups,
    schema: SchemaRef,
    early: bool,
    watermark: EventTime,
    max_groups: usize,
    /// Of the last rows.
    origin: Option<Origin>,
}

impl Processor for Window {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.origin = Some(batch.origin.clone());
        let batch = refuse_timeless(batch, self.time, out)?;
        let mut halves = Halves::of(&batch.rows);
        let evaluate = |groups: &Groups, rows: &RecordBatch| Ok((rows.num_rows(), groups.evaluate(rows)?));
        while let Some((start, (count, arguments))) =
            halves.next_good(|rows| evaluate(&self.groups, rows), |row, why| out.fail_row(&batch, row, why))?
        {
            let rows = batch.rows.slice(start, count);
            let assignments = self.take(&rows, &arguments)?;
            if assignments.contains(&Assignment::Late) {
                let late: BooleanArray =
                    assignments.iter().map(|assignment| Some(*assignment == Assignment::Late)).collect();
                out.push(LATE_PORT, batch.with_rows(filter_record_batch(&rows, &late)?));
            }
            for row in (0..count).filter(|row| assignments[*row] == Assignment::Full) {
                let why = format!("{} groups are open already (`max_groups`)", self.max_groups);
                out.fail_row(&batch, start + row, why)?;
            }
        }
        Ok(())
    }

    fn watermark(&mut self, at: EventTime, out: &mut Collector) -> Result<EventTime> {
        self.watermark = at;
        self.close(at, out)?;
        Ok(match &self.windows {
            Windows::Panes(panes) => panes.start_of_open(at).min(at),
            Windows::Sessions(_) => at,
        })
    }

    fn barrier(&mut self, _: Epoch, out: &mut Collector) -> Result<()> {
        if !self.early {
            return Ok(());
        }
        match &mut self.windows {
            Windows::Panes(panes) => {
                let shown = panes.peek(&mut self.groups);
                self.send(EARLY_PORT, &shown, out)?;
                self.groups.release(shown.iter().map(|window| window.slot));
            }
            Windows::Sessions(sessions) => {
                let shown = sessions.peek(&mut self.groups);
                self.send(EARLY_PORT, &shown, out)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        self.close(EventTime::MAX, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        self.save().map(Snapshot::of)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.load(state)
    }
}

impl Window {
    /// Takes rows into their groups, one after the other.
    fn take(&mut self, rows: &RecordBatch, arguments: &[Arguments]) -> Result<Vec<Assignment>> {
        let times = rows.column(self.time).as_primitive::<TimestampMicrosecondType>().values();
        let keys = self.groups.keys(rows)?;
        let mut assignments = Vec::with_capacity(rows.num_rows());
        let mut taken = 0;
        for (row, time) in times.iter().enumerate() {
            let key = keys.of(row);
            let slot = match &mut self.windows {
                Windows::Panes(panes) if panes.is_late(*time, self.watermark) => None,
                Windows::Panes(panes) => Some(panes.slot(&mut self.groups, *time, key)),
                Windows::Sessions(sessions) => {
                    if sessions.brings_together(*time, key) {
                        // What came before has to be in its sessions when they become one.
                        self.groups.take(arguments, times, &assignments, taken..row)?;
                        taken = row;
                    }
                    let is_late = sessions.is_late(*time, key, self.watermark);
                    (!is_late).then(|| sessions.slot(&mut self.groups, *time, key))
                }
            };
            assignments.push(match slot {
                None => Assignment::Late,
                Some(Err(Full)) => Assignment::Full,
                Some(Ok(slot)) => Assignment::Slot(slot),
            });
        }
        self.groups.take(arguments, times, &assignments, taken..rows.num_rows())?;
        Ok(assignments)
    }

    fn close(&mut self, at: EventTime, out: &mut Collector) -> Result<()> {
        let closed = match &mut self.windows {
            Windows::Panes(panes) => panes.close(&mut self.groups, at),
            Windows::Sessions(sessions) => sessions.close(at),
        };
        self.send(MAIN_PORT, &closed, out)?;
        self.groups.release(closed.iter().map(|window| window.slot));
        Ok(())
    }

    fn send(&self, port: usize, windows: &[Closed], out: &mut Collector) -> Result<()> {
        let Some(origin) = &self.origin else { return Ok(()) };
        for windows in windows.chunks(BATCH_ROWS) {
            let rows = RecordBatch::try_new(self.schema.clone(), self.columns(windows)?)?;
            out.push(port, Batch::new(rows, origin.clone()));
        }
        Ok(())
    }

    /// The columns of windows: start, end, keys, aggregates.
    fn columns(&self, windows: &[Closed]) -> Result<Vec<ArrayRef>> {
        let times = |of: fn(&Closed) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(windows.iter().map(of)).with_timezone("UTC"))
        };
        let mut columns = vec![times(|window| window.start), times(|window| window.end)];
        let slots: Vec<u32> = windows.iter().map(|window| window.slot).collect();
        columns.extend(self.groups.columns(&slots)?);
        Ok(columns)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
