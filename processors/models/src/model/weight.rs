//! How much rows count, where a column says so.

use arrow::array::cast::AsArray;
use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Schema};
use arrow::util::display::array_value_to_string;
use millstream_core::{Problem, Result, ResultExt, require_column, type_name};

use crate::encode::column;
use crate::estimator::EstimatorSettings;
use crate::refused::Refused;

/// More than that counts no row: it would be as if there were no others.
const LARGEST: f64 = 1e6;

/// Says if rows can't count what a column says, if one is named.
pub(super) fn check(weight: Option<&str>, schema: &Schema, estimator: &EstimatorSettings) -> Result<(), Problem> {
    let Some(weight) = weight else { return Ok(()) };
    if !estimator.takes_weights() {
        let problem = Problem::new(format!("all rows count the same for `{}`", estimator.name()));
        return Err(problem.help("leave `weight` out").under("weight"));
    }
    let field = require_column(weight, schema).map_err(|problem| problem.under("weight"))?;
    if field.data_type().is_numeric() {
        return Ok(());
    }
    let type_name = type_name(field.data_type());
    Err(Problem::new(format!("weight `{weight}` is {type_name}, and should be a number")).under("weight"))
}

fn is_good(weight: f64) -> bool {
    (0.0..=LARGEST).contains(&weight)
}

/// How much each row counts. What is no weight is marked.
pub(super) fn read(weight: &str, rows: &RecordBatch, refused: &mut Refused) -> Result<Vec<f64>> {
    let weights = cast(column(rows, weight)?, &DataType::Float64).doing(|| format!("reading weight `{weight}`"))?;
    let weights = weights.as_primitive::<Float64Type>().iter().map(|weight| weight.unwrap_or(f64::NAN));
    let weights: Vec<_> = weights.collect();
    for (row, weight) in weights.iter().enumerate() {
        if !is_good(*weight) {
            refused.mark(row, weights.len());
        }
    }
    Ok(weights)
}

/// Why the weight of a row was marked, if it was.
pub(super) fn why_refused(weight: &str, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
    let column = column(rows, weight)?.slice(row, 1);
    let number = cast(&column, &DataType::Float64)?;
    if number.is_valid(0) && is_good(number.as_primitive::<Float64Type>().value(0)) {
        return Ok(None);
    }
    let value = if column.is_null(0) { "null".to_owned() } else { array_value_to_string(&column, 0)? };
    Ok(Some(format!("weight `{weight}` is {value}, and should be a number from 0 to {LARGEST}")))
}
