//! What is watched, and the detector that watches it.

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Datum, Float64Array, RecordBatch};
use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Schema};
use millstream_core::{Problem, Result, require_column, type_name};
use millstream_models::drift::{Change, Detector, DetectorSettings, DetectorState, Signal};
use millstream_models::encode;

/// What the errors of a model are called among what is watched.
const ERROR: &str = "error";

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alarm {
    Warning(Change),
    Drift(Change),
}

impl Alarm {
    pub fn level(&self) -> &'static str {
        match self {
            Self::Warning(_) => "warning",
            Self::Drift(_) => "drift",
        }
    }

    pub fn change(&self) -> &Change {
        match self {
            Self::Warning(change) | Self::Drift(change) => change,
        }
    }
}

/// One thing that is watched.
pub struct Watch {
    values: Values,
    detector: Detector,
    /// Whether it has been warned of, since which nothing has become better.
    is_warned: bool,
}

/// Where the numbers come from that a detector gets.
enum Values {
    /// A column.
    Column(String),
    /// Whether a prediction is wrong.
    IsWrong { label: String, prediction: String },
    /// By how much a prediction is wrong.
    Distance { label: String, prediction: String },
}

impl Watch {
    fn new(values: Values, settings: &DetectorSettings) -> Self {
        Self { values, detector: Detector::new(settings.clone()), is_warned: false }
    }

    /// Watches a column.
    pub fn column(column: &str, schema: &Schema, settings: &DetectorSettings) -> Result<Self, Problem> {
        let data_type = require_column(column, schema)?.data_type();
        if !data_type.is_numeric() && *data_type != DataType::Boolean {
            let problem = format!("column `{column}` is {}, and should be a number or boolean", type_name(data_type));
            return Err(Problem::new(problem));
        }
        if settings.is_for_rates() && *data_type != DataType::Boolean {
            let problem = format!("column `{column}` is {}, and this detector watches rates", type_name(data_type));
            let help = "take a boolean column, or `adwin`, `page_hinkley` or `kswin`, which watch any numbers";
            return Err(Problem::new(problem).help(help));
        }
        Ok(Self::new(Values::Column(column.to_owned()), settings))
    }

    /// Watches the errors of predictions.
    pub fn error(label: &str, predicted: &str, schema: &Schema, settings: &DetectorSettings) -> Result<Self, Problem> {
        let truth = require_column(label, schema).map_err(|problem| problem.under("label"))?.data_type();
        let guess = require_column(predicted, schema).map_err(|problem| problem.under("prediction"))?.data_type();
        let (label, prediction) = (label.to_owned(), predicted.to_owned());
        if truth.is_numeric() && guess.is_numeric() && !(truth.is_integer() && guess.is_integer()) {
            if settings.is_for_rates() {
                let problem = Problem::new("predictions are numbers, and this detector watches rates");
                return Err(problem.help("take `adwin`, `page_hinkley` or `kswin`, which watch any numbers"));
            }
            return Ok(Self::new(Values::Distance { label, prediction }, settings));
        }
        if truth == guess || truth.is_integer() && guess.is_integer() {
            return Ok(Self::new(Values::IsWrong { label, prediction }, settings));
        }
        let (truth, guess) = (type_name(truth), type_name(guess));
        let problem = format!("label `{label}` is {truth}, and prediction `{prediction}` is {guess}");
        Err(Problem::new(problem).help("cast one of them in an `sql` node"))
    }

    /// What it is called in alarms.
    pub fn name(&self) -> &str {
        match &self.values {
            Values::Column(column) => column,
            Values::IsWrong { .. } | Values::Distance { .. } => ERROR,
        }
    }

    /// The columns that it needs.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match &self.values {
            Values::Column(column) => (column, None),
            Values::IsWrong { label, prediction } | Values::Distance { label, prediction } => (label, Some(prediction)),
        };
        [first].into_iter().chain(second).map(String::as_str)
    }

    /// The alarms of some rows, by their numbers.
    pub fn look(&mut self, rows: &RecordBatch) -> Result<Vec<(usize, Alarm)>> {
        let values = self.values.of(rows)?;
        let mut alarms = Vec::new();
        for (row, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            match self.detector.update(value) {
                Signal::Stable => self.is_warned = false,
                Signal::Warning(change) => {
                    if !self.is_warned {
                        alarms.push((row, Alarm::Warning(change)));
                    }
                    self.is_warned = true;
                }
                Signal::Drift(change) => {
                    alarms.push((row, Alarm::Drift(change)));
                    self.is_warned = false;
                }
            }
        }
        Ok(alarms)
    }

    pub fn state(&self) -> (DetectorState, bool) {
        (self.detector.state(), self.is_warned)
    }

    pub fn restore(&mut self, (state, is_warned): (DetectorState, bool)) -> Result<()> {
        self.is_warned = is_warned;
        self.detector.restore(state)
    }
}

impl Values {
    /// The numbers of some rows; null where there are none.
    fn of(&self, rows: &RecordBatch) -> Result<Float64Array> {
        match self {
            Self::Column(column) => numbers(encode::column(rows, column)?),
            Self::IsWrong { label, prediction } => {
                let (label, prediction) = (encode::column(rows, label)?, encode::column(rows, prediction)?);
                let prediction = cast_with_options(prediction, label.data_type(), &CastOptions::default())?;
                numbers(&neq(label as &dyn Datum, &prediction)?)
            }
            Self::Distance { label, prediction } => {
                let label = numbers(encode::column(rows, label)?)?;
                let prediction = numbers(encode::column(rows, prediction)?)?;
                let distance = |(label, prediction): (Option<f64>, Option<f64>)| Some((label? - prediction?).abs());
                Ok(label.iter().zip(&prediction).map(distance).collect())
            }
        }
    }
}

fn numbers(array: &dyn Array) -> Result<Float64Array> {
    let cast: ArrayRef = cast_with_options(array, &DataType::Float64, &CastOptions::default())?;
    Ok(cast.as_primitive::<Float64Type>().clone())
}
