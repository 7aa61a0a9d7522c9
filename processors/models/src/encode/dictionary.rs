//! The first values of a column, by number: as many as there is room for.

use millstream_core::{Error, Result};

use crate::onnx::{Attribute, ElementType, Graph, Value};
use crate::tensors::Tensors;

/// The first values of a column, counted from 0 in the order in which they came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dictionary {
    most: u32,
    known: foldhash::HashMap<Box<str>, u32>,
}

impl Dictionary {
    /// For so many values at most.
    pub fn new(most: u32) -> Self {
        Self { most, known: foldhash::HashMap::default() }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is no room for another value.
    pub fn is_full(&self) -> bool {
        self.known.len() == self.most as usize
    }

    /// The number of a value, if it has one.
    #[inline]
    pub fn get(&self, text: &str) -> Option<u32> {
        self.known.get(text).copied()
    }

    /// The number of a value, which is the next one if it is new and there is room.
    #[inline]
    pub fn add(&mut self, text: &str) -> Option<u32> {
        let known = self.get(text);
        if known.is_some() || self.is_full() {
            return known;
        }
        let next = self.known.len() as u32;
        self.known.insert(text.into(), next);
        Some(next)
    }

    /// The values in the order of their numbers.
    fn values(&self) -> Vec<&str> {
        let mut values: Vec<_> = self.known.iter().collect();
        values.sort_unstable_by_key(|(_, number)| **number);
        values.into_iter().map(|(value, _)| value.as_ref()).collect()
    }

    /// Adds to a graph a column with the number of each value of a column of tensors, and another one for those that have none.
    ///
    /// # Errors
    /// If a value has no place in the type of the tensors. `feature` is what messages call the column.
    pub fn to_onnx(
        &self,
        feature: &str,
        column: &Value,
        element: ElementType,
        others: i64,
        graph: &mut Graph,
    ) -> Result<Value> {
        let values = self.values();
        let numbers = ("values_int64s", Attribute::Ints((0..values.len() as i64).collect()));
        let others = ("default_int64", Attribute::Int(others));
        if values.is_empty() {
            let none = graph.ints(&[0]);
            let shape = graph.add("Shape", &[column]);
            return Ok(graph.add("Expand", &[&none, &shape]));
        }
        if element == ElementType::String {
            let keys = values.iter().map(|value| (*value).to_owned()).collect();
            let keys = ("keys_strings", Attribute::Texts(keys));
            return Ok(graph.add_ml("LabelEncoder", &[column], [keys, numbers, others]));
        }
        let keys = values.iter().map(|value| whole(feature, value)).collect::<Result<_>>()?;
        let whole = graph.cast(column, ElementType::Int64);
        Ok(graph.add_ml("LabelEncoder", &[&whole], [("keys_int64s", Attribute::Ints(keys)), numbers, others]))
    }

    /// Writes the values in the order of their numbers: their text one after the other, and where each ends.
    pub fn save(&self, values_name: &str, ends_name: &str, tensors: &mut Tensors) {
        let mut text = Vec::new();
        let mut ends = Vec::new();
        for value in self.values() {
            text.extend_from_slice(value.as_bytes());
            ends.push(text.len() as u64);
        }
        tensors.put_u8(values_name, &text);
        tensors.put_u64(ends_name, &ends);
    }

    /// Reads values. `feature` is what messages call the column.
    ///
    /// # Errors
    /// If those are none, or too many.
    pub fn load(&mut self, feature: &str, values_name: &str, ends_name: &str, tensors: &Tensors) -> Result<()> {
        let text = tensors.u8s(values_name)?;
        let ends = tensors.u64s(ends_name)?;
        let damaged = || Error::new(format!("the categories of `{feature}` are damaged"));
        let mut known = foldhash::HashMap::default();
        let mut start = 0;
        for (number, &end) in ends.iter().enumerate() {
            let value = text.get(start..end as usize).and_then(|bytes| std::str::from_utf8(bytes).ok());
            known.insert(value.ok_or_else(damaged)?.into(), number as u32);
            start = end as usize;
        }
        if known.len() != ends.len() || known.len() > self.most as usize || start != text.len() {
            return Err(damaged());
        }
        self.known = known;
        Ok(())
    }
}

/// A value of a column of whole numbers, or of yes and no.
fn whole(feature: &str, value: &str) -> Result<i64> {
    match value {
        "false" => Ok(0),
        "true" => Ok(1),
        number => number.parse().map_err(|_| {
            Error::new(format!("feature `{feature}` has had the value `{number}`, which has no place in 64 bits"))
        }),
    }
}
