//! The node `evaluate`: compares predictions with labels.

use arrow::array::cast::AsArray;
use arrow::array::{Array, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Schema};
use millstream_core::{
    Batch, Collector, Error, Evaluation, Kind, Metrics, Parts, PlanContext, PortPlan, Problem, Problems, Processor,
    ProcessorPlan, ProcessorSettings, Report, Result, Snapshot, State, Stream, Uses, require_column, type_name,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::encode;
use crate::label::Class;
use crate::metrics::{ClassScores, NumberScores, Recent};
use crate::refused::Refused;

/// Compares predictions with labels, and passes the rows on as they are.
///
/// Where the predictions are fractional numbers the metrics are those of regression (`mae`, `rmse`, `r2`), else those of
/// classes (`accuracy`, `balanced_accuracy`, `f1`, `kappa`, `log_loss`, `auc`, `brier`). The last three need
/// probabilities: of two classes the column `probability`, of more the column `probabilities`, as `train` and `predict`
/// make them. Rows without label or prediction are passed on and not counted. The metrics are of all rows, and of the last
/// 1000 (`recent`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSettings {
    /// The column with the true value.
    label: String,
    /// The column with the predicted value. `prediction` with `as` in front of it if nothing is said.
    prediction: Option<String>,
    /// The column with the probability of the positive of two classes. `probability` with `as` in front of it if
    /// nothing is said and there is one.
    probability: Option<String>,
    /// The values that a label can have, where its type doesn't say. Of two the second is the positive one. Without
    /// them, texts are compared as they come, and nothing is said about their probabilities.
    classes: Option<Vec<Class>>,
    /// The `as` of the node that made the predictions.
    #[serde(default, rename = "as")]
    prefix: String,
}

impl Kind for EvaluateSettings {
    const NAME: &'static str = "evaluate";
    const EXAMPLE: &'static str = r#"label = "fraud""#;
}

/// The most classes that are found by looking.
const MOST_CLASSES: usize = 1000;

impl ProcessorSettings for EvaluateSettings {
    fn plan(&self, _context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let comparison = self.comparison(schema)?;
        let uses = Uses::passing_on(comparison.columns().map(str::to_owned));
        let evaluator = Evaluator { comparison };
        let ports = vec![PortPlan::main(schema.clone())];
        let fails = matches!(&evaluator.comparison, Comparison::Classes(classes) if classes.fixed);
        Ok(ProcessorPlan { ports, uses: vec![uses], fails, build: Box::new(|| Ok(Box::new(evaluator))) })
    }
}

impl EvaluateSettings {
    fn comparison(&self, schema: &Schema) -> Result<Comparison, Problem> {
        let label = require_column(&self.label, schema).map_err(|problem| problem.under("label"))?;
        let prediction = self.prediction.clone().unwrap_or_else(|| format!("{}prediction", self.prefix));
        let predicted = require_column(&prediction, schema).map_err(|problem| problem.under("prediction"))?;
        let (label_type, predicted_type) = (label.data_type(), predicted.data_type());
        let fractional = |data_type: &DataType| data_type.is_numeric() && !data_type.is_integer();
        let label = self.label.clone();
        if fractional(predicted_type) && label_type.is_numeric() {
            return Ok(Comparison::Numbers(Numbers::new(label, prediction)));
        }
        if !comparable(label_type, predicted_type) {
            let types = format!("{} and {}", type_name(label_type), type_name(predicted_type));
            let problem = format!("label `{label}` and prediction `{prediction}` can't be compared: they are {types}");
            return Err(Problem::new(problem).help("cast one of them in an `sql` node").under("prediction"));
        }
        let classes = self.classes(label_type, schema)?;
        let probabilities = self.probabilities(&classes, schema)?;
        let fixed = !classes.is_empty();
        let scores = ClassScores::new(classes.len());
        Ok(Comparison::Classes(Classes {
            label,
            prediction,
            probabilities,
            known: classes,
            fixed,
            scores,
            recent: Recent::new(),
        }))
    }

    /// The classes that are known before the first row, in their order.
    fn classes(&self, label: &DataType, schema: &Schema) -> Result<Vec<String>, Problem> {
        if let Some(classes) = &self.classes {
            return Ok(classes.iter().map(Class::to_string).collect());
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

/// Whether labels and predictions of these types can be equal.
fn comparable(label: &DataType, prediction: &DataType) -> bool {
    let is_class =
        |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::Boolean) || data_type.is_integer();
    is_class(label) && (label == prediction || label.is_integer() && prediction.is_integer())
}

struct Evaluator {
    comparison: Comparison,
}

enum Comparison {
    Numbers(Numbers),
    Classes(Classes),
}

struct Numbers {
    label: String,
    prediction: String,
    scores: NumberScores,
    /// Label and prediction.
    recent: Recent<(f64, f64)>,
}

struct Classes {
    label: String,
    prediction: String,
    probabilities: Probabilities,
    /// The classes in their order.
    known: Vec<String>,
    /// Whether there are no others.
    fixed: bool,
    scores: ClassScores,
    recent: Recent<Counted>,
}

/// A row that was counted: the indexes of its class and of the predicted one, and the probabilities if there are any.
#[derive(Clone, Serialize, Deserialize)]
struct Counted {
    class: usize,
    predicted: usize,
    probabilities: Box<[f64]>,
}

impl Counted {
    /// Whether such scores could count it.
    fn fits(&self, scores: &ClassScores, classes: usize) -> bool {
        let known = self.class < classes && self.predicted < classes;
        known && (self.probabilities.is_empty() || scores.takes(self.class, &self.probabilities))
    }

    fn add_to(&self, scores: &mut ClassScores) {
        match self.probabilities.is_empty() {
            true => scores.add_class(self.class, self.predicted),
            false => scores.add_chosen(self.class, self.predicted, &self.probabilities),
        }
    }
}

/// The column that probabilities come from.
enum Probabilities {
    OfPositive(String),
    ByClass(String),
    None,
}

impl Comparison {
    fn columns(&self) -> impl Iterator<Item = &str> {
        let (label, prediction, probabilities) = match self {
            Self::Numbers(numbers) => (&numbers.label, &numbers.prediction, None),
            Self::Classes(classes) => (&classes.label, &classes.prediction, classes.probabilities.column()),
        };
        [label.as_str(), prediction].into_iter().chain(probabilities)
    }

    fn metrics(&self) -> Metrics {
        match self {
            Self::Numbers(numbers) => numbers.scores.metrics(),
            Self::Classes(classes) => classes.scores.metrics(),
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Numbers(numbers) => numbers.scores.rows(),
            Self::Classes(classes) => classes.scores.rows(),
        }
    }

    /// Adds what was counted so far.
    fn keep(&self, parts: &mut Parts) {
        match self {
            Self::Numbers(numbers) => parts.put_later(NUMBERS, (numbers.scores.clone(), numbers.recent.clone())),
            Self::Classes(Classes { known, scores, recent, .. }) => {
                parts.put_later(CLASSES, (known.clone(), scores.clone(), recent.clone()));
            }
        }
    }

    /// Goes on from what was counted.
    fn restore(&mut self, state: &State) -> Result<()> {
        let whole = match self {
            Self::Numbers(numbers) => {
                (numbers.scores, numbers.recent) = state.get(NUMBERS)?;
                numbers.scores.is_sound()
            }
            Self::Classes(classes) => classes.restore(state)?,
        };
        let damaged = || Error::new("what was counted is damaged in the state, or not of these classes");
        whole.then_some(()).ok_or_else(damaged)
    }

    fn recent(&self) -> Metrics {
        match self {
            Self::Numbers(numbers) => {
                let mut scores = NumberScores::default();
                numbers.recent.rows().for_each(|(label, prediction)| scores.add(*label, *prediction));
                scores.metrics()
            }
            Self::Classes(classes) => {
                let mut scores = ClassScores::new(classes.known.len());
                classes.recent.rows().for_each(|row| row.add_to(&mut scores));
                scores.metrics()
            }
        }
    }
}

/// The parts of the state, of which there is one.
const NUMBERS: &str = "numbers";
const CLASSES: &str = "classes";

impl Probabilities {
    fn column(&self) -> Option<&str> {
        match self {
            Self::OfPositive(column) | Self::ByClass(column) => Some(column),
            Self::None => None,
        }
    }

    /// One column of probabilities, or one a class.
    fn read(&self, rows: &RecordBatch, classes: &[String]) -> Result<Vec<Float64Array>> {
        let odd = |name: &str| Error::new(format!("the column `{name}` has no probabilities of the classes"));
        match self {
            Self::None => Ok(Vec::new()),
            Self::OfPositive(name) => Ok(vec![numbers(rows, name)?]),
            Self::ByClass(name) => {
                let column = encode::column(rows, name)?.as_struct_opt().ok_or_else(|| odd(name))?;
                let of_class = |class: &String| {
                    let child = column.column_by_name(class)?.as_primitive_opt::<Float64Type>()?;
                    Some(Float64Array::new(child.values().clone(), NullBuffer::union(child.nulls(), column.nulls())))
                };
                classes.iter().map(|class| of_class(class).ok_or_else(|| odd(name))).collect()
            }
        }
    }
}

impl Processor for Evaluator {
    fn process(&mut self, _port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        match &mut self.comparison {
            Comparison::Numbers(numbers) => {
                numbers.compare(&batch.rows)?;
                out.push(0, batch);
            }
            Comparison::Classes(classes) => {
                let refused = classes.compare(&batch.rows)?;
                let rows = match &refused {
                    None => batch.rows.clone(),
                    Some(refused) => out.fail_rows(&batch, refused, |_| classes.why_refused())?,
                };
                out.push(0, batch.with_rows(rows));
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut state = Parts::default();
        self.comparison.keep(&mut state);
        Ok(Snapshot::of(state))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.comparison.restore(state)
    }

    fn report(&self) -> Option<Report> {
        let Self { comparison } = self;
        let (rows, metrics, recent) = (comparison.rows(), comparison.metrics(), comparison.recent());
        Some(Report::Evaluation(Evaluation { rows, metrics, recent }))
    }
}

impl Numbers {
    fn new(label: String, prediction: String) -> Self {
        Self { label, prediction, scores: NumberScores::default(), recent: Recent::new() }
    }

    fn compare(&mut self, rows: &RecordBatch) -> Result<()> {
        let (labels, predictions) = (numbers(rows, &self.label)?, numbers(rows, &self.prediction)?);
        let known = |row: usize| labels.is_valid(row) && predictions.is_valid(row);
        let rows = (0..labels.len()).filter(|row| known(*row)).map(|row| (labels.value(row), predictions.value(row)));
        rows.clone().for_each(|(label, prediction)| self.scores.add(label, prediction));
        self.recent.add_backwards(rows.rev());
        Ok(())
    }
}

impl Classes {
    /// Counts the rows, and marks those whose label or prediction is no class.
    fn compare(&mut self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        let (labels, predictions) = (texts(rows, &self.label)?, texts(rows, &self.prediction)?);
        let probabilities = self.probabilities.read(rows, &self.known)?;
        let mut prediction = vec![0.0; probabilities.len()];
        let mut refused = Refused::default();
        let mut counted = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let missing = probabilities.iter().any(|column| column.is_null(row));
            if labels.is_null(row) || predictions.is_null(row) || missing {
                continue;
            }
            let (Some(class), Some(predicted)) = (self.class(labels.value(row))?, self.class(predictions.value(row))?)
            else {
                refused.mark(row, rows.num_rows());
                continue;
            };
            prediction.iter_mut().zip(&probabilities).for_each(|(value, column)| *value = column.value(row));
            match prediction.is_empty() {
                true => self.scores.add_class(class, predicted),
                false => self.scores.add_chosen(class, predicted, &prediction),
            }
            counted.push((row, class, predicted));
        }
        self.recent.add_backwards(counted.into_iter().rev().map(|(row, class, predicted)| {
            let probabilities = probabilities.iter().map(|column| column.value(row)).collect();
            Counted { class, predicted, probabilities }
        }));
        Ok(refused.mask())
    }

    /// The index of a class; `None` if there is no such and none may be added.
    fn class(&mut self, text: &str) -> Result<Option<usize>> {
        if let Some(index) = self.known.iter().position(|known| known == text) {
            return Ok(Some(index));
        }
        if self.fixed {
            return Ok(None);
        }
        if self.known.len() == MOST_CLASSES {
            return Err(Error::new(format!(
                "`{}` has more than {MOST_CLASSES} different values, which are no classes; if it is a number, cast \
                 `{}` to float64",
                self.label, self.prediction
            )));
        }
        self.known.push(text.to_owned());
        Ok(Some(self.known.len() - 1))
    }

    /// Reads what was counted, and says whether it can be true.
    fn restore(&mut self, state: &State) -> Result<bool> {
        let (known, scores, recent): (Vec<String>, ClassScores, Recent<Counted>) = state.get(CLASSES)?;
        let fits = if self.fixed { known == self.known } else { known.len() <= MOST_CLASSES };
        if !fits {
            return Ok(false);
        }
        // As if all classes had come already.
        self.scores.grow(known.len());
        let whole = scores.are_like(&self.scores) && recent.rows().all(|row| row.fits(&scores, known.len()));
        (self.known, self.scores, self.recent) = (known, scores, recent);
        Ok(whole)
    }

    fn why_refused(&self) -> String {
        let classes: Vec<_> = self.known.iter().take(20).map(|class| format!("`{class}`")).collect();
        format!("`{}` or `{}` is none of the classes {}", self.label, self.prediction, classes.join(", "))
    }
}

fn numbers(rows: &RecordBatch, name: &str) -> Result<Float64Array> {
    Ok(cast(encode::column(rows, name)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn texts(rows: &RecordBatch, name: &str) -> Result<StringArray> {
    Ok(cast(encode::column(rows, name)?, &DataType::Utf8)?.as_string::<i32>().clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
