//! Values of JSON, gathered into a column.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

/// Values of JSON of one type. Lists in lists are one behind the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cells {
    values: Values,
    /// Which are null, by their place.
    nulls: Vec<usize>,
}

/// Values that are not null. Where one is null, there is any.
#[derive(Clone, Debug, Default, PartialEq)]
enum Values {
    /// None yet.
    #[default]
    None,
    /// So many, of which all are null.
    Nulls(usize),
    Booleans(Vec<bool>),
    Integers(Vec<i64>),
    /// Whole numbers, of which one is too large for 64 bits with a sign.
    Large(Vec<u64>),
    Floats(Vec<f64>),
    Texts(Vec<String>),
}

impl Cells {
    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::None => 0,
            Values::Nulls(count) => *count,
            Values::Booleans(values) => values.len(),
            Values::Integers(values) => values.len(),
            Values::Large(values) => values.len(),
            Values::Floats(values) => values.len(),
            Values::Texts(values) => values.len(),
        }
    }

    /// Adds a value.
    ///
    /// # Errors
    /// If it is of another type than those before, or a list or an object.
    pub fn push(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Null => self.push_null(),
            Value::Bool(value) => return self.push_boolean(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(integer), ..) => return self.push_integer(integer),
                (_, Some(large), _) => return self.push_large(large),
                (.., float) => return self.push_float(float.unwrap_or(f64::NAN)),
            },
            Value::String(text) => return self.push_text(text),
            Value::Array(_) => return Err("a list is no value".to_owned()),
            Value::Object(_) => return Err("an object is no value".to_owned()),
        }
        Ok(())
    }

    fn push_null(&mut self) {
        self.nulls.push(self.len());
        match &mut self.values {
            Values::None => self.values = Values::Nulls(1),
            Values::Nulls(count) => *count += 1,
            Values::Booleans(values) => values.push(false),
            Values::Integers(values) => values.push(0),
            Values::Large(values) => values.push(0),
            Values::Floats(values) => values.push(0.0),
            Values::Texts(values) => values.push(String::new()),
        }
    }

    fn push_boolean(&mut self, value: bool) -> Result<(), String> {
        match &mut self.values {
            Values::None | Values::Nulls(_) => self.values = Values::Booleans(self.behind_nulls(value)),
            Values::Booleans(values) => values.push(value),
            other => return Err(other.mixed_with("a boolean")),
        }
        Ok(())
    }

    fn push_integer(&mut self, value: i64) -> Result<(), String> {
        match &mut self.values {
            Values::None | Values::Nulls(_) => self.values = Values::Integers(self.behind_nulls(value)),
            Values::Integers(values) => values.push(value),
            Values::Floats(values) => values.push(value as f64),
            Values::Large(values) => match u64::try_from(value) {
                Ok(value) => values.push(value),
                Err(_) => return Err("no type has numbers so large and below zero".to_owned()),
            },
            other => return Err(other.mixed_with("a number")),
        }
        Ok(())
    }

    fn push_large(&mut self, value: u64) -> Result<(), String> {
        match &mut self.values {
            Values::None | Values::Nulls(_) => self.values = Values::Large(self.behind_nulls(value)),
            Values::Large(values) => values.push(value),
            Values::Floats(values) => values.push(value as f64),
            Values::Integers(values) => {
                let unsigned: Result<Vec<_>, _> = values.iter().map(|value| u64::try_from(*value)).collect();
                let mut unsigned = unsigned.map_err(|_| "no type has numbers so large and below zero")?;
                unsigned.push(value);
                self.values = Values::Large(unsigned);
            }
            other => return Err(other.mixed_with("a number")),
        }
        Ok(())
    }

    fn push_float(&mut self, value: f64) -> Result<(), String> {
        match &mut self.values {
            Values::None | Values::Nulls(_) => self.values = Values::Floats(self.behind_nulls(value)),
            Values::Floats(values) => values.push(value),
            Values::Integers(values) => {
                let floats = values.iter().map(|value| *value as f64).chain([value]);
                self.values = Values::Floats(floats.collect());
            }
            Values::Large(values) => {
                let floats = values.iter().map(|value| *value as f64).chain([value]);
                self.values = Values::Floats(floats.collect());
            }
            other => return Err(other.mixed_with("a number")),
        }
        Ok(())
    }

    fn push_text(&mut self, value: &str) -> Result<(), String> {
        match &mut self.values {
            Values::None | Values::Nulls(_) => self.values = Values::Texts(self.behind_nulls(value.to_owned())),
            Values::Texts(values) => values.push(value.to_owned()),
            other => return Err(other.mixed_with("a text")),
        }
        Ok(())
    }

    /// The first value that is not null, behind those that are.
    fn behind_nulls<T: Clone + Default>(&self, value: T) -> Vec<T> {
        let mut values = vec![T::default(); self.len()];
        values.push(value);
        values
    }

    /// The column of them, of a type that follows from the values.
    pub fn into_column(self) -> ArrayRef {
        let length = self.len();
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = vec![true; length];
            self.nulls.iter().for_each(|null| valid[*null] = false);
            NullBuffer::from(valid)
        });
        match self.values {
            Values::None | Values::Nulls(_) => new_null_array(&DataType::Null, length),
            Values::Booleans(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Values::Integers(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::Large(values) => Arc::new(UInt64Array::new(values.into(), nulls)),
            Values::Floats(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Texts(values) => {
                let valid = |at: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at));
                let texts = values.iter().enumerate().map(|(at, text)| valid(at).then_some(text));
                Arc::new(texts.collect::<StringArray>())
            }
        }
    }
}

impl Values {
    fn mixed_with(&self, other: &str) -> String {
        let those = match self {
            Self::None | Self::Nulls(_) => "nulls",
            Self::Booleans(_) => "booleans",
            Self::Integers(_) | Self::Large(_) | Self::Floats(_) => "numbers",
            Self::Texts(_) => "texts",
        };
        format!("{other} is among {those}")
    }
}

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut cells = Self::default();
        deserializer.deserialize_seq(List(&mut cells))?;
        Ok(cells)
    }
}

/// A list, whose values are added.
struct List<'a>(&'a mut Cells);

/// A value, or a list of such.
struct Item<'a>(&'a mut Cells);

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Item(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text, a boolean, null, or a list of such")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.0.push_boolean(value).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.0.push_integer(value).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.0.push_integer(value).map_err(E::custom),
            Err(_) => self.0.push_large(value).map_err(E::custom),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.0.push_float(value).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.0.push_text(value).map_err(E::custom)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.0.push_null();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        List(self.0).visit_seq(list)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::Array as _;
    use arrow::array::cast::AsArray as _;
    use arrow::datatypes::{Float64Type, UInt64Type};

    use super::*;

    fn cells(text: &str) -> Result<Cells, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_in_lists_are_flat_and_types_follow_from_values() {
        assert_eq!(
            cells("[[1, 2], [3, 4.5]]").unwrap().into_column().as_primitive::<Float64Type>().values(),
            &[1.0, 2.0, 3.0, 4.5]
        );
        let large = cells("[1, 18446744073709551615]").unwrap().into_column();
        assert_eq!(large.as_primitive::<UInt64Type>().values(), &[1, u64::MAX]);
        let texts = cells(r#"[null, "a", null]"#).unwrap().into_column();
        assert_eq!(texts.as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("a"), None]);
        assert_eq!(cells("[null, null]").unwrap().into_column().len(), 2);
        assert_eq!(cells("[]").unwrap().len(), 0);
    }

    #[test]
    fn what_is_mixed_or_no_value_is_refused() {
        assert!(cells(r#"[1, "a"]"#).unwrap_err().contains("a text is among numbers"));
        assert!(cells("[true, 1]").unwrap_err().contains("a number is among booleans"));
        assert!(cells("[-1, 18446744073709551615]").unwrap_err().contains("below zero"));
        assert!(cells(r#"[{ "a": 1 }]"#).unwrap_err().contains("expected a number, a text"));
        assert!(cells("[NaN]").is_err());
        assert!(cells(&"[".repeat(200)).is_err());
    }
}
