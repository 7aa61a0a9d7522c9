//! The node `evaluate`: compares predictions with labels.

mod classes;
mod comparison;
mod numbers;
mod segments;

use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, Schema};
use millstream_core::{
    Batch, Collector, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Report, Result, Snapshot, State, Stream, Uses, require_column, type_name,
};
use millstream_models::{BaselineScores, Class, ClassScores, Recent, Task};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::classes_of;
use classes::{Classes, Probabilities};
use comparison::Comparison;
use numbers::Numbers;
use segments::Segments;

/// Compares predictions with labels, and passes the rows on as they are.
///
/// Where the predictions are fractional numbers the metrics are those of regression (`mae`, `rmse`, `r2`), else those of
/// classes (`accuracy`, `balanced_accuracy`, `precision`, `recall`, `f1`, `kappa`, `log_loss`, `auc`, `pr_auc`, `brier`, `ece`), and
/// up to 100 classes the confusion matrix. `log_loss`, `auc`, `pr_auc`, `brier` and `ece` need probabilities: of two classes the column `probability`, of more the column `probabilities`, as `train` and `predict`
/// make them. `auc` and `pr_auc` are computed from counts of rows with about the same probability, a five-hundredth apart, and so
/// mostly right to three digits. `ece`, the expected calibration error, is how far probabilities are from how often they come true, over 15 bins of the same
/// width: of the positive of two classes, else of the likeliest class. Rows without label or prediction are passed on and not counted; those whose label or prediction is no class,
/// no finite number or no probability leave by the port `failed`. The metrics are of all rows, of the last 1000 (`recent`), and, with `by`, of the rows of
/// each segment (`segments`). Beside them stands what needs no model (`baselines`): the label of the row before, and the mean or the most frequent class so far, where it is known from
/// the beginning which classes there are; and, of classes, the precision, the recall and the F1 of each (`by_class`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSettings {
    /// The column with the true value.
    label: String,
    /// The column with the predicted value. By default `prediction`, with `as` in front of it; models that learn without a label
    /// have none, so that a column of theirs has to be named.
    prediction: Option<String>,
    /// The column with the probability of the positive of two classes. By default `probability`, with `as` in
    /// front of it, if there is one.
    probability: Option<String>,
    /// The values that a label can have. Of two the second is the positive one. By default they are those of the
    /// `train` or `predict` node that made the predictions, or those that the label's type has. Otherwise texts are
    /// compared as they come: none of them is the positive one, and nothing is said about their probabilities.
    classes: Option<Vec<Class>>,
    /// The `as` of the node that made the predictions.
    #[serde(default, rename = "as")]
    prefix: String,
    /// A column by whose values the figures are also told apart, such as a country: a model that is good on the whole may be bad for some. Rows without a
    /// value are `(none)`.
    by: Option<String>,
    /// How many values of `by` have figures of their own, the first ones. Rows of others are counted together, as `(others)`. Each takes some tens of kilobytes.
    #[serde(default = "max_segments")]
    #[schemars(range(min = 1, max = 1000))]
    max_segments: u32,
}

fn max_segments() -> u32 {
    100
}

impl Kind for EvaluateSettings {
    const NAME: &'static str = "evaluate";
    const ALSO_CALLED: &'static [&'static str] = &["metrics", "test"];
    const EXAMPLE: &'static str = r#"label = "fraud""#;
}

impl ProcessorSettings for EvaluateSettings {
    fn plan(&self, _context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let comparison = self.comparison(schema)?;
        let segments = self.segments(&comparison, schema)?;
        let column = segments.as_ref().map(|segments| segments.column.clone());
        let uses = Uses::passing_on(comparison.columns().map(str::to_owned).chain(column));
        let evaluator = Evaluator { comparison, segments };
        let ports = vec![PortPlan::main(schema.clone())];
        Ok(ProcessorPlan { ports, uses: vec![uses], fails: true, build: Box::new(|| Ok(Box::new(evaluator))) })
    }
}

impl EvaluateSettings {
    fn segments(&self, comparison: &Comparison, schema: &Schema) -> Result<Option<Segments>, Problem> {
        if !(1..=1000).contains(&self.max_segments) {
            let problem = format!("{} segments can't be told apart; there are from 1 to 1000", self.max_segments);
            return Err(Problem::new(problem).under("max_segments"));
        }
        let Some(by) = &self.by else { return Ok(None) };
        let column = require_column(by, schema).map_err(|problem| problem.under("by"))?;
        let data_type = column.data_type();
        if !matches!(data_type, DataType::Utf8 | DataType::Boolean) && !data_type.is_integer() {
            let problem = format!("column `{by}` is {}, whose values make no segments", type_name(data_type));
            return Err(Problem::new(problem).help("make a text of it in an `sql` node").under("by"));
        }
        Ok(Some(Segments::new(by.clone(), self.max_segments as usize, comparison.clone())))
    }

    fn comparison(&self, schema: &Schema) -> Result<Comparison, Problem> {
        let label = require_column(&self.label, schema).map_err(|problem| problem.under("label"))?;
        let prediction = self.prediction.clone().unwrap_or_else(|| format!("{}prediction", self.prefix));
        let predicted = require_column(&prediction, schema).map_err(|problem| problem.under("prediction"))?;
        let (label_type, predicted_type) = (label.data_type(), predicted.data_type());
        let fractional = |data_type: &DataType| data_type.is_numeric() && !data_type.is_integer();
        let label = self.label.clone();
        if fractional(predicted_type) && label_type.is_numeric() {
            return Ok(Comparison::Numbers(Box::new(Numbers::new(label, prediction))));
        }
        if !comparable(label_type, predicted_type) {
            let types = format!("{} and {}", type_name(label_type), type_name(predicted_type));
            let problem = format!("label `{label}` and prediction `{prediction}` can't be compared: they are {types}");
            return Err(Problem::new(problem).help("cast one of them in an `sql` node").under("prediction"));
        }
        let classes = self.classes(label_type, &prediction, schema)?;
        let probabilities = self.probabilities(&classes, schema)?;
        let fixed = !classes.is_empty();
        let scores = ClassScores::new(classes.len());
        let baselines = match classes.len() {
            0 | 1 => BaselineScores::Nothing,
            2 => BaselineScores::new(Task::Binary),
            more => BaselineScores::new(Task::Multiclass(more)),
        };
        Ok(Comparison::Classes(Box::new(Classes {
            label,
            prediction,
            probabilities,
            known: classes.into(),
            fixed,
            scores,
            recent: Recent::default(),
            baselines,
        })))
    }

    /// The classes that are known before the first row, in their order.
    fn classes(&self, label: &DataType, prediction: &str, schema: &Schema) -> Result<Vec<String>, Problem> {
        let as_texts = |classes: &[Class]| classes.iter().map(Class::to_string).collect();
        if let Some(classes) = &self.classes {
            self.check_classes(classes, label)?;
            return Ok(as_texts(classes));
        }
        if let Some(classes) = classes_of(prediction, schema).filter(|classes| are_of(classes, label)) {
            return Ok(as_texts(&classes));
        }
        if let Ok(DataType::Struct(fields)) = schema.field_with_name(&self.by_class()).map(|field| field.data_type()) {
            return Ok(fields.iter().map(|field| field.name().clone()).collect());
        }
        let has_probability = schema.field_with_name(&self.of_positive()).is_ok();
        match label {
            DataType::Boolean => Ok(vec!["false".to_owned(), "true".to_owned()]),
            integer if integer.is_integer() && has_probability => Ok(vec!["0".to_owned(), "1".to_owned()]),
            _ => Ok(Vec::new()),
        }
    }

    fn check_classes(&self, classes: &[Class], label: &DataType) -> Result<(), Problem> {
        let Some(odd) = classes.iter().position(|class| !class.is_of(label)) else { return Ok(()) };
        let problem =
            format!("`{}` is no value of the label `{}`, which is {}", classes[odd], self.label, type_name(label));
        Err(Problem::new(problem).under(odd).under("classes"))
    }

    fn probabilities(&self, classes: &[String], schema: &Schema) -> Result<Probabilities, Problem> {
        let (of_positive, by_class) = (self.of_positive(), self.by_class());
        if self.probability.is_some() {
            let field = require_column(&of_positive, schema).map_err(|problem| problem.under("probability"))?;
            if !field.data_type().is_numeric() {
                let problem = format!("column `{of_positive}` is {}, and no number", type_name(field.data_type()));
                return Err(Problem::new(problem).under("probability"));
            }
        }
        let is = |name: &str, fits: fn(&DataType) -> bool| {
            schema.field_with_name(name).is_ok_and(|field| fits(field.data_type()))
        };
        match classes.len() {
            2 if is(&of_positive, DataType::is_numeric) => Ok(Probabilities::OfPositive(of_positive)),
            3.. if is(&by_class, |data_type| matches!(data_type, DataType::Struct(_))) => {
                Ok(Probabilities::ByClass(by_class))
            }
            _ => Ok(Probabilities::None),
        }
    }

    fn of_positive(&self) -> String {
        self.probability.clone().unwrap_or_else(|| format!("{}probability", self.prefix))
    }

    fn by_class(&self) -> String {
        format!("{}probabilities", self.prefix)
    }
}

fn are_of(classes: &[Class], label: &DataType) -> bool {
    classes.iter().all(|class| class.is_of(label))
}

/// Whether labels and predictions of these types can be equal.
fn comparable(label: &DataType, prediction: &DataType) -> bool {
    let is_class =
        |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::Boolean) || data_type.is_integer();
    is_class(label) && (label == prediction || label.is_integer() && prediction.is_integer())
}

struct Evaluator {
    comparison: Comparison,
    segments: Option<Segments>,
}

impl Processor for Evaluator {
    fn process(&mut self, _port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let refused = self.comparison.compare(&batch.rows)?;
        if let Some(segments) = &mut self.segments {
            segments.count(&batch.rows)?;
        }
        pass_on(&self.comparison, batch, refused, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut state = Parts::default();
        self.comparison.keep(&mut state, "");
        if let Some(segments) = &self.segments {
            segments.keep(&mut state);
        }
        Ok(Snapshot::of(state))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.comparison.restore(state, "")?;
        self.segments.as_mut().map_or(Ok(()), |segments| segments.restore(state))
    }

    fn report(&self) -> Option<Report> {
        let mut evaluation = self.comparison.evaluation();
        evaluation.segments = self.segments.as_ref().map(Segments::evaluations).unwrap_or_default();
        Some(Report::Evaluation(evaluation))
    }
}

/// Sends the rows on that are not refused, and those that are to the port `failed`.
fn pass_on(comparison: &Comparison, batch: Batch, refused: Option<BooleanArray>, out: &mut Collector) -> Result<()> {
    let Some(refused) = refused else {
        out.push(0, batch);
        return Ok(());
    };
    let why = |row| comparison.why_refused(&batch.rows, row).unwrap_or_else(|error| error.to_string());
    let rows = out.fail_rows(&batch, &refused, why)?;
    out.push(0, batch.with_rows(rows));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests;
