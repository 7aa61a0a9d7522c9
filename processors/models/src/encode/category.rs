//! Columns of categories: each value has a slot.

use arrow::array::{Array, StringArray};
use millstream_core::{Error, Result};
use twox_hash::XxHash3_64;

use super::{Encoder, Feature};
use crate::onnx::{Attribute, ElementType, Graph, Slots, Value};
use crate::tensors::Tensors;

/// The encoder of one column of categories. Costs the same for every row, however many slots there are.
#[derive(Clone, Debug)]
pub(crate) struct Category {
    column: String,
    /// The number of its first slot among those of all columns.
    first: u32,
    slots: u32,
    /// The values that have a slot, or `None` where slots are hashed.
    known: Option<foldhash::HashMap<Box<str>, u32>>,
}

impl Category {
    /// Of a feature, or `None` if that is a number.
    pub fn new(feature: &Feature, first: u32) -> Option<Self> {
        let (slots, known) = match feature.encoder {
            Encoder::OneHot(slots) => (slots, Some(foldhash::HashMap::default())),
            Encoder::Hash(slots) => (slots, None),
            _ => return None,
        };
        Some(Self { column: feature.name.clone(), first, slots, known })
    }

    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The slot of a row's value, or `None` if it is null.
    ///
    /// An unknown value has the slot that it would get: the next free one, about which nothing has been learned, or
    /// the last.
    #[inline]
    pub fn slot(&self, texts: &StringArray, row: usize) -> Option<u32> {
        if texts.is_null(row) {
            return None;
        }
        let text = texts.value(row);
        let slot = match &self.known {
            Some(known) => known.get(text).copied().unwrap_or_else(|| self.next(known.len())),
            None => (XxHash3_64::oneshot(text.as_bytes()) % u64::from(self.slots)) as u32,
        };
        Some(self.first + slot)
    }

    /// Whether a value has a slot of its own; `None` where slots are hashed, so that no value is remembered.
    pub fn knows(&self, text: &str) -> Option<bool> {
        self.known.as_ref().map(|known| known.contains_key(text))
    }

    /// Gives a new value its slot, as long as there are any that it would have to itself.
    #[inline]
    pub fn learn(&mut self, texts: &StringArray, row: usize) {
        let Some(known) = &mut self.known else { return };
        let next = known.len() as u32;
        if next == self.slots || texts.is_null(row) || known.contains_key(texts.value(row)) {
            return;
        }
        known.insert(texts.value(row).into(), next);
    }

    fn next(&self, known: usize) -> u32 {
        (known as u32).min(self.slots - 1)
    }

    /// The known values in the order of their slots.
    fn values(&self) -> Option<Vec<&str>> {
        let mut values: Vec<_> = self.known.as_ref()?.iter().collect();
        values.sort_unstable_by_key(|(_, slot)| **slot);
        Some(values.into_iter().map(|(value, _)| value.as_ref()).collect())
    }

    /// Adds the encoding of a column of tensors to a graph.
    ///
    /// # Errors
    /// If slots are hashed.
    pub fn to_onnx(&self, column: &Value, element: ElementType, graph: &mut Graph) -> Result<Slots> {
        let Some(values) = self.values() else {
            let problem = format!("feature `{}` is encoded by `hash`, which ONNX has no operator for", self.column);
            return Err(Error::new(format!("{problem}; `one_hot` can be written")));
        };
        let (slots, others) = ((0..values.len() as i64).collect(), self.next(values.len()));
        let slots = ("values_int64s", Attribute::Ints(slots));
        let others_slot = ("default_int64", Attribute::Int(others.into()));
        let slot = if values.is_empty() {
            let none = graph.ints(&[0]);
            let shape = graph.add("Shape", &[column]);
            graph.add("Expand", &[&none, &shape])
        } else if element == ElementType::String {
            let keys = values.iter().map(|value| (*value).to_owned()).collect();
            graph.add_ml("LabelEncoder", &[column], [("keys_strings", Attribute::Texts(keys)), slots, others_slot])
        } else {
            let keys = values.iter().map(|value| self.whole(value)).collect::<Result<_>>()?;
            let whole = graph.cast(column, ElementType::Int64);
            graph.add_ml("LabelEncoder", &[&whole], [("keys_int64s", Attribute::Ints(keys)), slots, others_slot])
        };
        Ok(Slots { slot, first: self.first as usize, used: others as usize + 1 })
    }

    /// A known value of a column of whole numbers, or of yes and no.
    fn whole(&self, value: &str) -> Result<i64> {
        match value {
            "false" => Ok(0),
            "true" => Ok(1),
            number => number.parse().map_err(|_| {
                Error::new(format!(
                    "feature `{}` has had the value `{number}`, which has no place in 64 bits",
                    self.column
                ))
            }),
        }
    }

    /// Writes the known values in the order of their slots: their text one after the other, and where each ends.
    pub fn save(&self, tensors: &mut Tensors) {
        let Some(values) = self.values() else { return };
        let mut text = Vec::new();
        let mut ends = Vec::new();
        for value in values {
            text.extend_from_slice(value.as_bytes());
            ends.push(text.len() as u64);
        }
        tensors.put_u8(&self.values_name(), &text);
        tensors.put_u64(&self.ends_name(), &ends);
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        if self.known.is_none() {
            return Ok(());
        }
        let text = tensors.u8s(&self.values_name())?;
        let ends = tensors.u64s(&self.ends_name())?;
        let damaged = || Error::new(format!("the categories of `{}` are damaged", self.column));
        let mut known = foldhash::HashMap::default();
        let mut start = 0;
        for (slot, &end) in ends.iter().enumerate() {
            let value = text.get(start..end as usize).and_then(|bytes| std::str::from_utf8(bytes).ok());
            known.insert(value.ok_or_else(damaged)?.into(), slot as u32);
            start = end as usize;
        }
        if known.len() != ends.len() || known.len() > self.slots as usize || start != text.len() {
            return Err(damaged());
        }
        self.known = Some(known);
        Ok(())
    }

    fn values_name(&self) -> String {
        format!("encoder.values.{}", self.column)
    }

    fn ends_name(&self) -> String {
        format!("encoder.ends.{}", self.column)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn category(encoder: Encoder) -> Category {
        Category::new(&Feature::new("c", "utf8", encoder), 10).unwrap()
    }

    fn slots(category: &mut Category, values: &[Option<&str>], learn: bool) -> Vec<Option<u32>> {
        let texts = StringArray::from(values.to_vec());
        let each = |row| {
            let slot = category.slot(&texts, row);
            if learn {
                category.learn(&texts, row);
            }
            slot
        };
        (0..texts.len()).map(each).collect()
    }

    #[test]
    fn the_first_values_get_slots_and_later_ones_share_the_last() {
        let mut category = category(Encoder::OneHot(3));
        let values = [Some("a"), Some("b"), Some("a"), None, Some("c"), Some("d"), Some("e"), Some("c")];
        let expected = [Some(10), Some(11), Some(10), None, Some(12), Some(12), Some(12), Some(12)];
        assert_eq!(slots(&mut category, &values, true), expected);
        assert_eq!(slots(&mut category, &values, false), expected);
    }

    #[test]
    fn predicting_remembers_no_value() {
        let mut category = category(Encoder::OneHot(3));
        assert_eq!(slots(&mut category, &[Some("a"), Some("b")], false), [Some(10), Some(10)]);
        assert!(category.known.unwrap().is_empty());
    }

    #[test]
    fn hashed_slots_are_the_same_everywhere() {
        let mut category = category(Encoder::Hash(8));
        let values = [Some("a"), Some("größe"), Some(""), None];
        assert_eq!(slots(&mut category, &values, true), [Some(17), Some(14), Some(12), None]);
    }

    #[test]
    fn values_are_saved_in_the_order_of_their_slots() {
        let mut saved = category(Encoder::OneHot(4));
        slots(&mut saved, &[Some("größe"), Some(""), Some("x")], true);
        let mut tensors = Tensors::default();
        saved.save(&mut tensors);
        let mut loaded = category(Encoder::OneHot(4));
        loaded.load(&tensors).unwrap();
        assert_eq!(loaded.known, saved.known);
        let mut smaller = category(Encoder::OneHot(2));
        assert!(smaller.load(&tensors).unwrap_err().to_string().contains("`c` are damaged"));
    }
}
