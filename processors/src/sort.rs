//! The processor `sort`: rows in the order of some columns.

use arrow::array::cast::AsArray;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{SortOptions, filter_record_batch, not};
use arrow::datatypes::TimestampMicrosecondType;
use millstream_core::{
    Batch, Collector, Error, EventTime, Kind, Origin, Parts, PlanContext, PortPlan, Problem, Problems, Processor,
    ProcessorPlan, ProcessorSettings, Result, Snapshot, State, Stream, Uses, refuse_timeless, require_column,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::keys::Keys;
use crate::ordered::Ordered;
use crate::rows::BATCH_ROWS;

/// Sorts rows.
///
/// By event time, a row leaves as soon as the watermark has passed it, so only as many rows wait as `lateness` says at
/// the input; a row that comes later than that leaves by the port `late`. By other columns, all rows wait for the end.
///
/// Rows with equal values keep their order. Null is larger than any value, and NaN larger than any other number.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SortSettings {
    /// The columns, the first of which counts most; with a `-` in front, from the largest to the smallest.
    #[schemars(length(min = 1))]
    by: Vec<String>,
    /// How many rows may wait. One more, and the flow fails.
    #[serde(default = "default_max_rows")]
    #[schemars(range(min = 1))]
    max_rows: usize,
}

fn default_max_rows() -> usize {
    10_000_000
}

impl Kind for SortSettings {
    const NAME: &'static str = "sort";
    const ALSO_CALLED: &'static [&'static str] = &["order_by", "order"];
    const EXAMPLE: &'static str = r#"by = ["country", "-amount"]"#;
    const FREE_SETTINGS: &'static [&'static str] = &["max_rows"];
}

impl ProcessorSettings for SortSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let (mut columns, mut problems) = (Vec::new(), Problems::new());
        for (place, name) in self.by.iter().enumerate() {
            let (name, descending) = name.strip_prefix('-').map_or((name.as_str(), false), |name| (name, true));
            match require_column(name, &stream.schema) {
                Ok(_) => {
                    let options = SortOptions { descending, nulls_first: descending };
                    columns.extend(stream.schema.index_of(name).map(|column| (column, options)));
                }
                Err(problem) => problems.push(problem.under(place).under("by")),
            }
        }
        if self.by.is_empty() {
            problems.push(Problem::new("there are no columns to sort by").at(["by"]));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let names = self.by.iter().map(|name| name.strip_prefix('-').unwrap_or(name).to_owned());
        let time = stream.require_event_time().ok().filter(|_| stream.event_time.as_ref() == self.by.first());
        let keys = Keys::ordered(columns, &stream.schema)?;
        Ok(plan(stream, Ordered::new(stream.schema.clone(), keys, time), time, self.max_rows, Uses::passing_on(names)))
    }
}

/// A plan of a node that gives its rows out in order.
pub fn plan(stream: &Stream, rows: Ordered, time: Option<usize>, max_rows: usize, uses: Uses) -> ProcessorPlan {
    let mut ports = vec![PortPlan::main(stream.schema.clone())];
    if time.is_some() {
        ports.push(PortPlan::side("late", stream.schema.clone()));
    }
    let sort = Sort { rows, time, max_rows, watermark: EventTime::MIN, origin: None };
    ProcessorPlan { ports, uses: vec![uses], fails: time.is_some(), build: Box::new(|| Ok(Box::new(sort))) }
}

struct Sort {
    rows: Ordered,
    time: Option<usize>,
    max_rows: usize,
    watermark: EventTime,
    /// Of the last rows.
    origin: Option<Origin>,
}

impl Processor for Sort {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.origin = Some(batch.origin.clone());
        let rows = self.set_late_aside(batch, out)?;
        self.rows.insert(rows)?;
        if self.rows.rows() > self.max_rows {
            let rows = self.rows.rows();
            let advice = "let `max_rows` be larger, or sort by event time, which needs no more rows than come late";
            return Err(Error::new(format!("{rows} rows wait to be sorted; {advice}")));
        }
        Ok(())
    }

    fn watermark(&mut self, at: EventTime, out: &mut Collector) -> Result<EventTime> {
        self.watermark = at;
        let rows = self.rows.before(at)?;
        self.push(rows, out);
        Ok(at)
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        let rows = self.rows.all()?;
        self.push(rows, out);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put("watermark", &self.watermark)?;
        parts.put("origin", &self.origin)?;
        self.rows.save(&mut parts);
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.watermark = state.get("watermark")?;
        self.origin = state.get("origin")?;
        self.rows.load(state)
    }
}

impl Sort {
    fn set_late_aside(&self, batch: Batch, out: &mut Collector) -> Result<RecordBatch> {
        let Some(time) = self.time else { return Ok(batch.rows) };
        let batch = refuse_timeless(batch, time, out)?;
        let times = batch.rows.column(time).as_primitive::<TimestampMicrosecondType>().values();
        let late: BooleanArray = times.iter().map(|time| Some(*time < self.watermark)).collect();
        if late.true_count() == 0 {
            return Ok(batch.rows);
        }
        out.push(1, batch.with_rows(filter_record_batch(&batch.rows, &late)?));
        Ok(filter_record_batch(&batch.rows, &not(&late)?)?)
    }

    fn push(&self, rows: Option<RecordBatch>, out: &mut Collector) {
        let (Some(rows), Some(origin)) = (rows, &self.origin) else { return };
        let mut start = 0;
        while start < rows.num_rows() {
            let count = BATCH_ROWS.min(rows.num_rows() - start);
            out.push(0, Batch::new(rows.slice(start, count), origin.clone()));
            start += count;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{Timing, context, drive, drive_in_time, parse, stream, table};

    use super::*;

    const TIMING: Timing = Timing { lateness: 5_000_000, watermark_rows: 1, epoch_rows: 100, batch_rows: 100 };

    #[test]
    fn rows_wait_for_the_end_and_leave_in_order() {
        let rows = table("a:int64? b:utf8\n 2 x\n null y\n 1 z\n 2 a\n 1 y");
        for batch_rows in [1, 2, 100] {
            let sorted = |by: &str| {
                drive(&parse::<SortSettings>(&format!("by = {by}")), &[("from", rows.clone())], batch_rows).text("main")
            };
            assert_eq!(sorted("['a']"), "a:int64? b:utf8\n1 z\n1 y\n2 x\n2 a\nnull y\n");
            assert_eq!(sorted("['-a', 'b']"), "a:int64? b:utf8\nnull y\n2 a\n2 x\n1 y\n1 z\n");
        }
    }

    #[test]
    fn by_event_time_rows_leave_as_it_comes_along() {
        let rows = table(
            "at:timestamp n:int64
             1970-01-01T00:00:10Z 1
             1970-01-01T00:00:07Z 2
             1970-01-01T00:00:10Z 3
             1970-01-01T00:00:20Z 4
             1970-01-01T00:00:14Z 5
             1970-01-01T00:00:15Z 6",
        );
        for batch_rows in [1, 2, 100] {
            let driven = drive_in_time(&parse::<SortSettings>("by = ['at']"), &rows, Timing { batch_rows, ..TIMING });
            let numbers = |port: &str| -> Vec<String> {
                driven.text(port).lines().skip(1).map(|line| line[21..].to_owned()).collect()
            };
            assert_eq!(numbers("main"), ["2", "1", "3", "6", "4"]);
            assert_eq!(numbers("late"), ["5"]);
            let first = driven.ports["main"][0].num_rows();
            assert_eq!(first, 3, "when 20 comes, those before 15 leave");
        }
    }

    #[test]
    fn too_many_rows_are_an_error() {
        let plan = parse::<SortSettings>("by = ['a']\nmax_rows = 1")
            .plan(&context(), &[stream("from", table("a:int64\n").schema())]);
        let mut sort = (plan.unwrap().build)().unwrap();
        let rows = millstream_testkit::batch(table("a:int64\n 1\n 2"));
        let error = sort.process(0, rows, &mut Collector::new(1)).unwrap_err();
        assert!(error.to_string().contains("`max_rows`"), "{error}");
    }
}
