//! Predicted numbers beside the true ones.

use arrow::array::cast::AsArray;
use arrow::array::{Array, BooleanArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use millstream_core::{Result, State};
use millstream_models::encode::{self, LARGEST, is_usable};
use millstream_models::{BaselineScores, NumberScores, Recent, Refused, Task};

use super::comparison::{COUNTED, NUMBERS_OF_FORMAT_4};

/// What is kept of numbers: the figures, the last rows, and what needs no model.
type Kept = (NumberScores, Recent<(f64, f64)>, BaselineScores);

/// Labels and predictions that are numbers, and what was counted of them.
#[derive(Clone)]
pub(super) struct Numbers {
    pub label: String,
    pub prediction: String,
    pub scores: NumberScores,
    /// Label and prediction.
    pub recent: Recent<(f64, f64)>,
    pub baselines: BaselineScores,
}

impl Numbers {
    pub fn new(label: String, prediction: String) -> Self {
        let baselines = BaselineScores::new(Task::Regression);
        Self { label, prediction, scores: NumberScores::default(), recent: Recent::default(), baselines }
    }

    /// Counts the rows, and marks those whose label or prediction can't be compared.
    pub fn compare(&mut self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        let (labels, predictions) = (numbers(rows, &self.label)?, numbers(rows, &self.prediction)?);
        let mut refused = Refused::default();
        let known = (0..labels.len()).filter(|row| labels.is_valid(*row) && predictions.is_valid(*row));
        let (mut counted, count) = (Vec::with_capacity(labels.len()), labels.len());
        for (row, label, prediction) in known.map(|row| (row, labels.value(row), predictions.value(row))) {
            if is_usable(label, LARGEST) && is_usable(prediction, LARGEST) {
                counted.push((label, prediction));
            } else {
                refused.mark(row, count)
            }
        }
        for (label, prediction) in &counted {
            self.scores.add(*label, *prediction);
            self.baselines.add(*label);
        }
        self.recent.add_backwards(counted.into_iter().rev());
        Ok(refused.mask())
    }

    /// What is kept of it.
    pub fn counted(&self) -> Kept {
        (self.scores.clone(), self.recent.clone(), self.baselines.clone())
    }

    /// Reads what was counted in the part whose name begins with `prefix`, and says whether it can be true.
    pub fn restore(&mut self, state: &State, prefix: &str) -> Result<bool> {
        let (scores, recent, baselines): Kept = if state.has(NUMBERS_OF_FORMAT_4) {
            let (scores, recent) = state.get(NUMBERS_OF_FORMAT_4)?;
            (scores, recent, self.baselines.clone())
        } else {
            state.get(&format!("{prefix}{COUNTED}"))?
        };
        let whole = scores.is_sound() && baselines.are_like(&self.baselines);
        (self.scores, self.recent, self.baselines) = (scores, recent, baselines);
        Ok(whole)
    }

    pub fn why_refused(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        let is_odd = !is_usable(numbers(rows, &self.label)?.value(row), LARGEST);
        let name = if is_odd { &self.label } else { &self.prediction };
        let value = array_value_to_string(encode::column(rows, name)?, row)?;
        Ok(format!("`{name}` is {value}; numbers that are compared are finite, up to {LARGEST:e}"))
    }
}

pub(super) fn numbers(rows: &RecordBatch, name: &str) -> Result<Float64Array> {
    Ok(cast(encode::column(rows, name)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}
