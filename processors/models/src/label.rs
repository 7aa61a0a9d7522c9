//! Labels: the column that a model learns to predict.

use std::fmt;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use millstream_core::{ColumnType, Error, Result, ResultExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::encode::{column, is_usable};
use crate::refused::Refused;

/// One of the values that a label can have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Class {
    /// Of a boolean column.
    Boolean(bool),
    /// Of a column of integers.
    Integer(i64),
    /// Of a column of texts.
    Text(String),
}

impl Class {
    fn boolean(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }

    fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(value) = self { Some(value) } else { None }
    }

    /// Whether a column of this type can hold it.
    pub fn is_of(&self, data_type: &DataType) -> bool {
        match self {
            Self::Boolean(_) => *data_type == DataType::Boolean,
            Self::Text(_) => *data_type == DataType::Utf8,
            Self::Integer(value) => {
                let cast = || cast(&Int64Array::from(vec![*value]), data_type);
                data_type.is_integer() && cast().is_ok_and(|cast| cast.is_valid(0))
            }
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A number.
    Regression,
    /// One of two classes, of which the second is the positive one.
    Binary,
    /// One of so many classes, more than two.
    Multiclass(usize),
}

/// The column that a model learns to predict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The column's name.
    pub column: String,
    /// Its type in the type language: `boolean`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The values that it can have, in their order; none for numbers.
    pub classes: Vec<Class>,
    /// The column with what each row was worth, where the label is an action that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<String>,
}

/// The columns from which a model learns what is right: none, a label, or an action and its reward.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelColumns<'a> {
    /// The label, or the action.
    pub label: Option<&'a str>,
    /// The reward of the action.
    pub reward: Option<&'a str>,
    /// How much rows count.
    pub weight: Option<&'a str>,
}

impl<'a> From<&'a str> for LabelColumns<'a> {
    fn from(label: &'a str) -> Self {
        Self { label: Some(label), ..Self::default() }
    }
}

impl<'a> From<Option<&'a str>> for LabelColumns<'a> {
    fn from(label: Option<&'a str>) -> Self {
        Self { label, ..Self::default() }
    }
}

impl Label {
    /// What is predicted.
    pub fn task(&self) -> Task {
        match self.classes.len() {
            0 => Task::Regression,
            1 | 2 => Task::Binary,
            classes => Task::Multiclass(classes),
        }
    }

    /// The type of the predictions: the label's own for classes, else `float64`.
    pub fn prediction_type(&self) -> DataType {
        let own = || ColumnType::parse(&self.type_name).map_or(DataType::Utf8, |column| column.data_type);
        if self.classes.is_empty() { DataType::Float64 } else { own() }
    }

    /// Whether its type has such a class.
    pub(crate) fn has(&self, class: &Class) -> bool {
        ColumnType::parse(&self.type_name).is_ok_and(|column| class.is_of(&column.data_type))
    }

    /// A column of labels as numbers: classes by their index. Null becomes NaN, and what is no label is marked.
    /// Numbers may be as large as `largest`.
    pub(crate) fn read(&self, column: &ArrayRef, largest: f64, refused: &mut Refused) -> Result<Vec<f64>> {
        let targets = match self.classes.first() {
            None => self.read_numbers(column)?,
            Some(Class::Boolean(_)) => {
                column.as_boolean_opt().map(|values| self.read_booleans(values)).ok_or_else(|| self.odd(column))?
            }
            Some(Class::Integer(_)) => self.read_integers(column)?,
            Some(Class::Text(_)) => {
                column.as_string_opt().map(|texts| self.read_texts(texts)).ok_or_else(|| self.odd(column))?
            }
        };
        for (row, target) in targets.iter().enumerate() {
            // A target that is not null stands for a value that is no label where it is NaN, too large or infinite.
            if !is_usable(*target, largest) && column.is_valid(row) {
                refused.mark(row, targets.len());
            }
        }
        Ok(targets)
    }

    /// The rewards of rows; none where there are no actions. A row without one has no target, and what is no number that can be
    /// learned is marked.
    pub(crate) fn read_rewards(
        &self,
        rows: &RecordBatch,
        targets: &mut [f64],
        largest: f64,
        refused: &mut Refused,
    ) -> Result<Vec<f64>> {
        let Some(reward) = &self.reward else { return Ok(Vec::new()) };
        let column = column(rows, reward)?;
        let numbers = cast(column, &DataType::Float64).doing(|| format!("reading reward `{reward}`"))?;
        let rewards = numbers.as_primitive::<Float64Type>().iter().enumerate().map(|(row, number)| {
            match number {
                None => targets[row] = f64::NAN,
                Some(number) if !is_usable(number, largest) => refused.mark(row, targets.len()),
                Some(_) => {}
            }
            number.unwrap_or(f64::NAN)
        });
        Ok(rewards.collect())
    }

    /// Why the reward of a row was marked, if it was.
    pub(crate) fn why_reward_refused(&self, rows: &RecordBatch, largest: f64, row: usize) -> Result<Option<String>> {
        let Some(reward) = &self.reward else { return Ok(None) };
        let column = column(rows, reward)?.slice(row, 1);
        let number = cast(&column, &DataType::Float64)?;
        let is_good = number.is_null(0) || is_usable(number.as_primitive::<Float64Type>().value(0), largest);
        let value = array_value_to_string(&column, 0)?;
        let problem =
            || format!("reward `{reward}` is {value}; numbers that are learned are finite, up to {largest:e}");
        Ok((!is_good).then(problem))
    }

    /// Why the label of a row was marked.
    pub(crate) fn why_refused(&self, column: &ArrayRef, largest: f64, row: usize) -> Result<String> {
        let value = array_value_to_string(column, row)?;
        let name = &self.column;
        if self.classes.is_empty() {
            return Ok(format!("label `{name}` is {value}; numbers that are learned are finite, up to {largest:e}"));
        }
        let classes: Vec<_> = self.classes.iter().take(20).map(|class| format!("`{class}`")).collect();
        Ok(format!("label `{name}` is `{value}`, which is none of its classes {}", classes.join(", ")))
    }

    fn read_numbers(&self, column: &ArrayRef) -> Result<Vec<f64>> {
        let numbers = cast(column, &DataType::Float64).doing(|| format!("reading label `{}`", self.column))?;
        Ok(numbers.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(f64::NAN)).collect())
    }

    fn read_booleans(&self, values: &BooleanArray) -> Vec<f64> {
        let index = |value| self.classes.iter().position(|class| class.boolean() == Some(value));
        let [of_false, of_true] = [false, true].map(|value| as_target(index(value)));
        values.iter().map(|value| value.map_or(f64::NAN, |value| if value { of_true } else { of_false })).collect()
    }

    fn read_integers(&self, column: &ArrayRef) -> Result<Vec<f64>> {
        let integers = cast(column, &DataType::Int64).doing(|| format!("reading label `{}`", self.column))?;
        let index = |value| self.classes.iter().position(|class| class.integer() == Some(value));
        Ok(integers.as_primitive::<Int64Type>().iter().map(|value| as_target(value.and_then(index))).collect())
    }

    fn read_texts(&self, texts: &StringArray) -> Vec<f64> {
        let index = |text| self.classes.iter().position(|class| class.text() == Some(text));
        texts.iter().map(|text| as_target(text.and_then(index))).collect()
    }

    fn odd(&self, column: &ArrayRef) -> Error {
        Error::new(format!("label `{}` should be {} and is {}", self.column, self.type_name, column.data_type()))
    }

    /// Predicted classes, given by their index, as a column.
    pub(crate) fn column_of(&self, classes: impl Iterator<Item = usize>) -> Result<ArrayRef> {
        let class = classes.map(|index| self.classes.get(index));
        let column: ArrayRef = match self.classes.first() {
            Some(Class::Boolean(_)) => Arc::new(class.map(|class| class?.boolean()).collect::<BooleanArray>()),
            Some(Class::Integer(_)) => Arc::new(class.map(|class| class?.integer()).collect::<Int64Array>()),
            _ => Arc::new(class.map(|class| class?.text()).collect::<StringArray>()),
        };
        Ok(cast(&column, &self.prediction_type())?)
    }

    /// Numbers as a column of predictions.
    pub(crate) fn column_of_numbers(numbers: impl Iterator<Item = f64>) -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(numbers))
    }
}

fn as_target(class: Option<usize>) -> f64 {
    class.map_or(f64::NAN, |index| index as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Int8Array, UInt64Array};

    use super::*;
    use crate::encode::LARGEST;

    fn label(type_name: &str, classes: &[Class]) -> Label {
        Label { column: "y".into(), type_name: type_name.into(), classes: classes.to_vec(), reward: None }
    }

    fn read(label: &Label, column: ArrayRef) -> (String, Option<BooleanArray>) {
        let mut refused = Refused::default();
        let targets = label.read(&column, LARGEST, &mut refused).unwrap();
        (format!("{targets:?}"), refused.mask())
    }

    #[test]
    fn classes_become_their_index_and_what_is_none_is_marked() {
        let label = label("uint64", &[Class::Integer(0), Class::Integer(7)]);
        let column: ArrayRef = Arc::new(UInt64Array::from(vec![Some(7), None, Some(0), Some(3), Some(u64::MAX)]));
        let (targets, refused) = read(&label, column.clone());
        assert_eq!(targets, "[1.0, NaN, 0.0, NaN, NaN]");
        assert_eq!(refused.unwrap(), BooleanArray::from(vec![false, false, false, true, true]));
        assert_eq!(
            label.why_refused(&column, LARGEST, 3).unwrap(),
            "label `y` is `3`, which is none of its classes `0`, `7`"
        );
    }

    #[test]
    fn what_is_read_as_a_class_is_written_as_that_class_in_any_order() {
        let booleans = [Class::Boolean(true), Class::Boolean(false)];
        let integers = [Class::Integer(-7), Class::Integer(100), Class::Integer(0)];
        let texts = ["b", "", "größe"].map(|text| Class::Text(text.to_owned()));
        let columns: [(&str, &[Class], ArrayRef); 4] = [
            ("boolean", &booleans, Arc::new(BooleanArray::from(vec![true, false, false, true]))),
            ("int8", &integers, Arc::new(Int8Array::from(vec![0, -7, 100, 100]))),
            ("int64", &integers, Arc::new(Int64Array::from(vec![0, -7, 100, 100]))),
            ("utf8", &texts, Arc::new(StringArray::from(vec!["", "größe", "b", "b"]))),
        ];
        for (type_name, classes, column) in columns {
            let mut turned = classes.to_vec();
            for _ in classes {
                turned.rotate_left(1);
                let label = label(type_name, &turned);
                let targets = label.read(&column, LARGEST, &mut Refused::default()).unwrap();
                let first = targets.iter().map(|target| *target as usize);
                assert_eq!(&label.column_of(first).unwrap(), &column, "{type_name}: {turned:?}");
            }
        }
    }

    #[test]
    fn a_class_is_of_the_types_that_hold_it() {
        let is_of = |class: Class, type_name: &str| label(type_name, &[]).has(&class);
        assert!(is_of(Class::Integer(-128), "int8") && is_of(Class::Integer(i64::MAX), "uint64"));
        assert!(!is_of(Class::Integer(128), "int8") && !is_of(Class::Integer(-1), "uint64"));
        assert!(!is_of(Class::Integer(1), "boolean") && !is_of(Class::Text("1".into()), "int64"));
    }

    #[test]
    fn numbers_must_be_finite() {
        let column = Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::INFINITY), Some(f64::NAN)]));
        let (targets, refused) = read(&label("float64", &[]), column);
        assert_eq!(targets, "[1.5, NaN, inf, NaN]");
        assert_eq!(refused.unwrap(), BooleanArray::from(vec![false, false, true, true]));
    }

    #[test]
    fn predicted_classes_have_the_type_of_the_label() {
        let integers = label("uint64", &[Class::Integer(0), Class::Integer(7)]).column_of([1, 0].into_iter()).unwrap();
        assert_eq!(integers.as_ref(), &UInt64Array::from(vec![7, 0]) as &dyn Array);
        let booleans = label("boolean", &[Class::Boolean(false), Class::Boolean(true)]);
        let booleans = booleans.column_of([1, 0].into_iter()).unwrap();
        assert_eq!(booleans.as_ref(), &BooleanArray::from(vec![true, false]) as &dyn Array);
    }
}
