//! Predicted classes beside the true ones.

use std::collections::HashMap;

use arrow::array::cast::AsArray;
use arrow::array::{Array, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use millstream_core::{Error, Result, State};
use millstream_models::{BaselineScores, ClassScores, Recent, Refused, Reliability, encode};
use serde::{Deserialize, Serialize};

use super::comparison::{CLASSES_OF_FORMAT_4, COUNTED};
use super::numbers::numbers;

/// The most classes that are found by looking.
const MOST_CLASSES: usize = 1000;

/// What is kept of classes: their names, the figures, the last rows, and of figures and baselines how far their probabilities are off.
type Kept = (Vec<String>, ClassScores, Recent<Counted>, Reliability, BaselineScores, Option<Reliability>);

/// Labels and predictions that are classes, and what was counted of them.
#[derive(Clone)]
pub(super) struct Classes {
    pub label: String,
    pub prediction: String,
    pub probabilities: Probabilities,
    pub known: KnownClasses,
    /// Whether there are no others.
    pub fixed: bool,
    pub scores: ClassScores,
    pub recent: Recent<Counted>,
    /// None if it is not known which classes there will be.
    pub baselines: BaselineScores,
}

/// Classes in their order, and the place of each.
#[derive(Clone, Default)]
pub(super) struct KnownClasses {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl KnownClasses {
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    fn add(&mut self, name: &str) -> usize {
        self.places.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.names.len() - 1
    }
}

impl From<Vec<String>> for KnownClasses {
    fn from(names: Vec<String>) -> Self {
        let places = names.iter().cloned().enumerate().map(|(place, name)| (name, place)).collect();
        Self { names, places }
    }
}

/// A row that was counted: the indexes of its class and of the predicted one, and the probabilities if there are any.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Counted {
    pub class: usize,
    pub predicted: usize,
    pub probabilities: Box<[f64]>,
}

impl Counted {
    /// Whether such scores could count it.
    fn fits(&self, scores: &ClassScores, classes: usize) -> bool {
        let known = self.class < classes && self.predicted < classes;
        known && (self.probabilities.is_empty() || scores.takes(self.class, &self.probabilities))
    }

    pub fn add_to(&self, scores: &mut ClassScores) {
        if self.probabilities.is_empty() {
            scores.add_class(self.class, self.predicted)
        } else {
            scores.add_chosen(self.class, self.predicted, &self.probabilities)
        }
    }
}

/// The column that probabilities come from.
#[derive(Clone)]
pub(super) enum Probabilities {
    OfPositive(String),
    ByClass(String),
    None,
}

impl Probabilities {
    pub fn column(&self) -> Option<&str> {
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

impl Classes {
    /// Counts the rows, and marks those whose label or prediction is no class, or with a probability that is none.
    pub fn compare(&mut self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        let (labels, predictions) = (texts(rows, &self.label)?, texts(rows, &self.prediction)?);
        let probabilities = self.probabilities.read(rows, self.known.names())?;
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
            if !are_probable(&prediction) {
                refused.mark(row, rows.num_rows());
                continue;
            }
            if prediction.is_empty() {
                self.scores.add_class(class, predicted)
            } else {
                self.scores.add_chosen(class, predicted, &prediction)
            }
            self.baselines.add(class as f64);
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
        if let Some(place) = self.known.place(text) {
            return Ok(Some(place));
        }
        if self.fixed {
            return Ok(None);
        }
        if self.known.names().len() == MOST_CLASSES {
            return Err(Error::new(format!(
                "`{}` has more than {MOST_CLASSES} different values, which are no classes; if it is a number, cast \
                 `{}` to float64",
                self.label, self.prediction
            )));
        }
        Ok(Some(self.known.add(text)))
    }

    /// What is kept of it.
    pub fn counted(&self) -> Kept {
        let Self { known, scores, recent, baselines, .. } = self;
        let (reliability, of_baselines) = (scores.reliability().clone(), baselines.reliability().cloned());
        (known.names().to_vec(), scores.clone(), recent.clone(), reliability, baselines.clone(), of_baselines)
    }

    /// Reads what was counted in the part whose name begins with `prefix`, and says whether it can be true.
    pub fn restore(&mut self, state: &State, prefix: &str) -> Result<bool> {
        let (known, scores, recent, reliability, baselines, of_baselines): Kept = if state.has(CLASSES_OF_FORMAT_4) {
            let (known, scores, recent) = state.get(CLASSES_OF_FORMAT_4)?;
            (known, scores, recent, Reliability::default(), self.baselines.clone(), None)
        } else {
            state.get(&format!("{prefix}{COUNTED}"))?
        };
        let scores = scores.with_reliability(reliability);
        let sound = baselines.are_like(&self.baselines);
        self.baselines = baselines.with_reliability(of_baselines);
        let fits = if self.fixed { known == self.known.names() } else { known.len() <= MOST_CLASSES };
        if !fits {
            return Ok(false);
        }
        // As if all classes had come already.
        self.scores.grow(known.len());
        let whole = scores.are_like(&self.scores) && recent.rows().all(|row| row.fits(&scores, known.len()));
        (self.known, self.scores, self.recent) = (known.into(), scores, recent);
        Ok(whole && sound)
    }

    pub fn why_refused(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        let (label, prediction) = (texts(rows, &self.label)?, texts(rows, &self.prediction)?);
        let is_class = |text: &str| self.known.place(text).is_some();
        let are_classes = is_class(label.value(row)) && is_class(prediction.value(row));
        if let Some(column) = self.probabilities.column().filter(|_| are_classes) {
            let value = array_value_to_string(encode::column(rows, column)?, row)?;
            return Ok(format!("`{column}` is {value}; probabilities are numbers from 0 to 1"));
        }
        let classes: Vec<_> = self.known.names().iter().take(20).map(|class| format!("`{class}`")).collect();
        Ok(format!("`{}` or `{}` is none of the classes {}", self.label, self.prediction, classes.join(", ")))
    }
}

fn are_probable(probabilities: &[f64]) -> bool {
    probabilities.iter().all(|probability| (0.0..=1.0).contains(probability))
}

/// A column as texts.
pub(super) fn texts(rows: &RecordBatch, name: &str) -> Result<StringArray> {
    Ok(cast(encode::column(rows, name)?, &DataType::Utf8)?.as_string::<i32>().clone())
}
