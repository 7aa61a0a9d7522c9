//! What a model predicts for the rows of a batch.

use std::iter::once;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use millstream_core::{Error, Result};

use super::Signature;
use crate::decision::Decision;
use crate::estimator::{Gives, PredictedColumn, Quantiles, positive};
use crate::label::{Label, Task};

/// One prediction a row: a number, the probability of the positive of two classes, or one probability a class; or scores
/// instead of probabilities; or a number and quantiles of it; or the numbers of columns that the estimator has of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    rows: usize,
    outputs: usize,
    decision: Decision,
    values: Vec<f64>,
}

impl Predictions {
    pub(crate) fn new(rows: usize, outputs: usize, decision: Decision) -> Self {
        Self { rows, outputs, decision, values: vec![0.0; rows * outputs] }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The prediction of one row. Of two classes it may be both probabilities or that of the positive one: the last
    /// number is that in any case.
    #[inline]
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.outputs..(row + 1) * self.outputs]
    }

    /// All of them, one row behind the other.
    pub(crate) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// The same, but that the positive of two classes is predicted above another number, if one is given.
    pub fn deciding_by(mut self, threshold: Option<f64>) -> Self {
        self.decision.threshold = threshold.or(self.decision.threshold);
        self
    }

    fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.outputs)
    }

    /// The predictions as columns, in the order of [`prediction_fields`].
    pub fn columns(&self, signature: &Signature) -> Result<Vec<ArrayRef>> {
        match signature.gives() {
            Gives::Number => {
                // The ends of its interval, if there is one.
                Ok(once(self.numbers(0)).chain((1..self.outputs).map(|at| self.end(at))).collect())
            }
            Gives::Quantiles(quantiles) => {
                let columns = (1..self.outputs).map(|at| self.numbers(at)).collect();
                let quantiles = StructArray::try_new(quantile_fields(quantiles), columns, None)?;
                Ok(vec![self.numbers(0), Arc::new(quantiles)])
            }
            Gives::Probabilities | Gives::Scores | Gives::Actions => {
                let label = signature.label.as_ref().ok_or_else(|| Error::new("the model has no label"))?;
                self.columns_of_classes(label, signature.gives())
            }
            Gives::Columns(columns) => {
                Ok(columns.iter().enumerate().map(|(at, own)| self.own_column(at, own)).collect())
            }
        }
    }

    /// An end of the intervals, which is null where none is known.
    fn end(&self, at: usize) -> ArrayRef {
        Arc::new(self.iter().map(|row| Some(row[at]).filter(|end| !end.is_nan())).collect::<Float64Array>())
    }

    /// The numbers at that place of each row.
    fn numbers(&self, at: usize) -> ArrayRef {
        Label::column_of_numbers(self.iter().map(|row| row[at]))
    }

    fn own_column(&self, at: usize, column: &PredictedColumn) -> ArrayRef {
        let numbers = self.iter().map(|row| Some(row[at]).filter(|number| !number.is_nan()));
        if column.whole {
            Arc::new(numbers.map(|number| number.map(|number| number as i64)).collect::<Int64Array>())
        } else {
            Arc::new(numbers.collect::<Float64Array>())
        }
    }

    fn columns_of_classes(&self, label: &Label, gives: Gives) -> Result<Vec<ArrayRef>> {
        let decision = self.decision;
        let class = label.column_of(self.iter().map(|row| decision.class(row)))?;
        if gives == Gives::Actions || matches!(label.task(), Task::Multiclass(_)) {
            let of_class = self.iter().map(|row| row[decision.class(row)]);
            return Ok(vec![class, Label::column_of_numbers(of_class), self.by_class(label)?]);
        }
        Ok(vec![class, Label::column_of_numbers(self.iter().map(positive))])
    }

    fn by_class(&self, label: &Label) -> Result<ArrayRef> {
        let of_class = |class: usize| self.iter().map(move |row| row[class]);
        let columns =
            (0..self.outputs).map(|class| -> ArrayRef { Arc::new(Float64Array::from_iter_values(of_class(class))) });
        Ok(Arc::new(StructArray::try_new(class_fields(label), columns.collect(), None)?))
    }
}

/// The columns that predictions add to rows: `prediction`, where there are intervals `prediction_low` and `prediction_high`, for classes `probability` (of the positive one of two, else
/// of the predicted one), and for more than two classes `probabilities`, each with `prefix` in front of its name. The last
/// two are `score` and `scores` where the estimator has no probabilities. Behind a number are its `quantiles`, by their shares, where the
/// estimator predicts some. Of actions they are `action`, `score` and `scores`. What an estimator predicts without a label has names
/// of its own, and may be null.
pub fn prediction_fields(signature: &Signature, prefix: &str, nullable: bool) -> Vec<Field> {
    let field = |name, data_type| Field::new(format!("{prefix}{name}"), data_type, nullable);
    let own = |column: &PredictedColumn| {
        let data_type = if column.whole { DataType::Int64 } else { DataType::Float64 };
        field(column.name, data_type).with_nullable(true)
    };
    let of_classes = |one, all| {
        let Some(label) = &signature.label else { return Vec::new() };
        let all = field(all, DataType::Struct(class_fields(label)));
        let fields = [field("prediction", label.prediction_type()), field(one, DataType::Float64)];
        fields.into_iter().chain(matches!(label.task(), Task::Multiclass(_)).then_some(all)).collect()
    };
    match signature.gives() {
        Gives::Number => {
            let end = |name| field(name, DataType::Float64).with_nullable(true);
            let ends = signature.interval.map(|_| [end("prediction_low"), end("prediction_high")]);
            once(field("prediction", DataType::Float64)).chain(ends.into_iter().flatten()).collect()
        }
        Gives::Quantiles(quantiles) => {
            let quantiles = DataType::Struct(quantile_fields(quantiles));
            vec![field("prediction", DataType::Float64), field("quantiles", quantiles)]
        }
        Gives::Probabilities => of_classes("probability", "probabilities"),
        Gives::Scores => of_classes("score", "scores"),
        Gives::Actions => {
            let Some(label) = &signature.label else { return Vec::new() };
            let scores = DataType::Struct(class_fields(label));
            let action = field("action", label.prediction_type());
            vec![action, field("score", DataType::Float64), field("scores", scores)]
        }
        Gives::Columns(columns) => columns.iter().map(own).collect(),
    }
}

fn quantile_fields(quantiles: Quantiles) -> Fields {
    let of_share = |share: &f64| Field::new(share.to_string(), DataType::Float64, false);
    quantiles.shares().iter().map(of_share).collect()
}

fn class_fields(label: &Label) -> Fields {
    label.classes.iter().map(|class| Field::new(class.to_string(), DataType::Float64, false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimator::{Certainty, likeliest};

    #[test]
    fn the_likeliest_class_is_predicted() {
        let by = |prediction: &[f64]| likeliest(prediction, Certainty::Probability);
        assert_eq!([by(&[0.5]), by(&[0.51]), by(&[f64::NAN])], [0, 1, 0]);
        assert_eq!([by(&[0.5, 0.5]), by(&[0.1, 0.2, 0.7]), by(&[0.4, 0.4, 0.2])], [0, 2, 0]);
        let by = |prediction: &[f64]| likeliest(prediction, Certainty::Score);
        assert_eq!([by(&[0.0]), by(&[0.1]), by(&[-2.0, -1.0, -3.0])], [0, 1, 1]);
        let by =
            |prediction: &[f64]| Decision { threshold: Some(0.2), ..Certainty::Probability.into() }.class(prediction);
        assert_eq!([by(&[0.2]), by(&[0.21]), by(&[0.7, 0.3]), by(&[f64::NAN])], [0, 1, 1, 0]);
    }
}
