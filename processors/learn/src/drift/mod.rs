//! The node `drift`: says when what it watches has changed.

mod watch;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{
    Batch, Collector, Error, Figures, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Report, Result, Snapshot, State, Stream, Uses,
};
use millstream_models::drift::{Change, DetectorSettings, DetectorState};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use watch::{Alarm, Watch};

/// Says when columns, or the errors of a model, are no longer what they were.
///
/// The rows pass as they are. Each alarm is a row of the port `alarm`, with the column of the event time, if there is one, and the columns
/// `row` (the number of the row, from 1), `watched` (the column, or `error`), `level` (`drift`, or `warning` where something speaks for it and not
/// enough), `before` and `after` (the means on both sides of the change, as far as the detector knows them). Behind a drift the detector starts
/// from scratch, so that there is one alarm for each change.
///
/// Rows in which what is watched is null, infinite or not a number are passed over by its detector. In a flow that learns, put the node behind
/// `train`, and watch its errors: `error = { label = "fraud", prediction = "prediction" }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftSettings {
    /// The columns to watch, each with a detector of its own: numbers or booleans.
    #[serde(default)]
    columns: Vec<String>,
    /// Watches the errors of predictions: of classes, whether one is wrong; of numbers, by how much.
    error: Option<ErrorColumns>,
    /// How a change is detected.
    detector: DetectorSettings,
}

/// What predictions are compared with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ErrorColumns {
    /// The column with the true value.
    label: String,
    /// The column with the predicted one.
    #[serde(default = "prediction")]
    prediction: String,
}

fn prediction() -> String {
    "prediction".to_owned()
}

impl Kind for DriftSettings {
    const NAME: &'static str = "drift";
    const ALSO_CALLED: &'static [&'static str] = &["detect", "monitor", "change"];
    const EXAMPLE: &'static str = r#"columns = ["amount"]
detector = { type = "adwin" }"#;
}

const MAIN_PORT: usize = 0;
const ALARM_PORT: usize = 1;

impl ProcessorSettings for DriftSettings {
    fn plan(&self, _context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let mut problems = Problems::new();
        let watches = self.watches(&stream.schema, &mut problems);
        problems.extend(self.detector.check().err().map(|problem| problem.under("detector")));
        let alarms = alarms_of(stream).map_err(|problem| problems.push(problem)).ok();
        let (Some(alarms), []) = (alarms, &problems[..]) else { return Err(problems) };
        let ports = vec![PortPlan::main(stream.schema.clone()), PortPlan::new("alarm", alarms.clone())];
        let time = stream.event_time.as_ref().and_then(|name| stream.schema.index_of(name).ok());
        let columns = watches.iter().flat_map(|watch: &Watch| watch.columns()).map(str::to_owned);
        let uses = Uses::passing_on(columns.chain(stream.event_time.clone()).collect::<Vec<_>>());
        let drift = Drift { watches, time, alarms, rows: 0, drifts: 0, warnings: 0 };
        Ok(ProcessorPlan { ports, uses: vec![uses], fails: false, build: Box::new(|| Ok(Box::new(drift))) })
    }
}

impl DriftSettings {
    fn watches(&self, schema: &Schema, problems: &mut Problems) -> Vec<Watch> {
        let mut watches = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            match Watch::column(column, schema, &self.detector) {
                Ok(watch) => watches.push(watch),
                Err(problem) => problems.push(problem.under(index).under("columns")),
            }
        }
        if let Some(ErrorColumns { label, prediction }) = &self.error {
            match Watch::error(label, prediction, schema, &self.detector) {
                Ok(watch) => watches.push(watch),
                Err(problem) => problems.push(problem.under("error")),
            }
        }
        if self.columns.is_empty() && self.error.is_none() {
            let help = "name `columns`, or the `error` of a prediction";
            problems.push(Problem::new("nothing is watched").help(help));
        }
        watches
    }
}

/// The columns of the alarms.
fn alarms_of(stream: &Stream) -> Result<SchemaRef, Problem> {
    let own = [
        Field::new("row", DataType::Int64, false),
        Field::new("watched", DataType::Utf8, false),
        Field::new("level", DataType::Utf8, false),
        Field::new("before", DataType::Float64, true),
        Field::new("after", DataType::Float64, true),
    ];
    let time = stream.event_time.as_ref().and_then(|name| stream.schema.field_with_name(name).ok());
    if let Some(taken) = time.filter(|time| own.iter().any(|field| field.name() == time.name())) {
        let problem = format!("alarms have a column `{}`, and the event time is called so, too", taken.name());
        return Err(Problem::new(problem).help("rename it in an `sql` node"));
    }
    Ok(Arc::new(Schema::new(time.cloned().into_iter().chain(own).collect::<Vec<_>>())))
}

struct Drift {
    watches: Vec<Watch>,
    /// The column of the event time.
    time: Option<usize>,
    alarms: SchemaRef,
    /// How many rows have passed.
    rows: u64,
    drifts: u64,
    warnings: u64,
}

/// The part of the state with what the detectors remember.
const DETECTORS: &str = "detectors";

/// The part of the state with the numbers of rows and alarms.
const COUNTS: &str = "counts";

impl Drift {
    /// The alarms of a batch, in the order of its rows.
    fn look(&mut self, batch: &Batch) -> Result<Vec<(usize, usize, Alarm)>> {
        let mut alarms = Vec::new();
        for (index, watch) in self.watches.iter_mut().enumerate() {
            let of_watch = watch.look(&batch.rows)?;
            alarms.extend(of_watch.into_iter().map(|(row, alarm)| (row, index, alarm)));
        }
        // Those of one row stay in the order of what is watched.
        alarms.sort_by_key(|(row, ..)| *row);
        Ok(alarms)
    }

    /// The alarms as rows.
    fn rows_of(&self, batch: &Batch, alarms: &[(usize, usize, Alarm)]) -> Result<Batch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        if let Some(time) = self.time {
            let rows = UInt64Array::from_iter_values(alarms.iter().map(|(row, ..)| *row as u64));
            columns.push(take(batch.rows.column(time), &rows, None)?);
        }
        let number = |row: usize| (self.rows + row as u64 + 1) as i64;
        columns.push(Arc::new(Int64Array::from_iter_values(alarms.iter().map(|(row, ..)| number(*row)))));
        let watched = alarms.iter().map(|(_, watch, _)| self.watches[*watch].name());
        columns.push(Arc::new(StringArray::from_iter_values(watched)));
        columns.push(Arc::new(StringArray::from_iter_values(alarms.iter().map(|(.., alarm)| alarm.level()))));
        let mean = |of: fn(&Change) -> f64| {
            let means = alarms.iter().map(|(.., alarm)| Some(of(alarm.change())).filter(|mean| mean.is_finite()));
            Arc::new(means.collect::<Float64Array>())
        };
        columns.push(mean(|change| change.before));
        columns.push(mean(|change| change.after));
        Ok(batch.with_rows(arrow::array::RecordBatch::try_new(self.alarms.clone(), columns)?))
    }
}

impl Processor for Drift {
    fn process(&mut self, _port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let alarms = self.look(&batch)?;
        if !alarms.is_empty() {
            out.push(ALARM_PORT, self.rows_of(&batch, &alarms)?);
            let drifts = alarms.iter().filter(|(.., alarm)| matches!(alarm, Alarm::Drift(_))).count() as u64;
            self.drifts += drifts;
            self.warnings += alarms.len() as u64 - drifts;
        }
        self.rows += batch.len() as u64;
        out.push(MAIN_PORT, batch);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put_later(DETECTORS, self.watches.iter().map(Watch::state).collect::<Vec<_>>());
        parts.put(COUNTS, &(self.rows, self.drifts, self.warnings))?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        (self.rows, self.drifts, self.warnings) = state.get(COUNTS)?;
        let states: Vec<(DetectorState, bool)> = state.get(DETECTORS)?;
        if states.len() != self.watches.len() {
            return Err(Error::new(format!("`{DETECTORS}` of the state is damaged: it is of other columns")));
        }
        self.watches.iter_mut().zip(states).try_for_each(|(watch, state)| watch.restore(state))
    }

    fn report(&self) -> Option<Report> {
        let values = vec![
            ("rows", json!(self.rows)),
            ("drifts", json!(self.drifts)),
            ("warnings", json!(self.warnings)),
            ("watched", json!(self.watches.iter().map(Watch::name).collect::<Vec<_>>())),
        ];
        Some(Report::Figures(Figures { title: "drift".to_owned(), values }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
