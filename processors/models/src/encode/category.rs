//! Columns of categories: each value has a slot.

use arrow::array::{Array, StringArray};
use millstream_core::{Error, Result};
use twox_hash::XxHash3_64;

use super::dictionary::Dictionary;
use super::{Encoder, Feature};
use crate::onnx::{ElementType, Graph, Slots, Value};
use crate::tensors::Tensors;

/// The encoder of one column of categories. Costs the same for every row, however many slots there are.
#[derive(Clone, Debug)]
pub(crate) struct Category {
    column: String,
    /// The number of its first slot among those of all columns.
    first: u32,
    slots: u32,
    /// The values that have a slot, or `None` where slots are hashed.
    known: Option<Dictionary>,
}

impl Category {
    /// Of a feature, or `None` if that is a number.
    pub fn new(feature: &Feature, first: u32) -> Option<Self> {
        let (slots, known) = match feature.encoder {
            Encoder::OneHot(slots) => (slots, Some(Dictionary::new(slots))),
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
            Some(known) => known.get(text).unwrap_or_else(|| self.next(known.len())),
            None => (XxHash3_64::oneshot(text.as_bytes()) % u64::from(self.slots)) as u32,
        };
        Some(self.first + slot)
    }

    /// Whether a value has a slot of its own; `None` where slots are hashed, so that no value is remembered.
    pub fn knows(&self, text: &str) -> Option<bool> {
        self.known.as_ref().map(|known| known.get(text).is_some())
    }

    /// Gives a new value its slot, as long as there are any that it would have to itself.
    #[inline]
    pub fn learn(&mut self, texts: &StringArray, row: usize) {
        let Some(known) = &mut self.known else { return };
        if !known.is_full() && !texts.is_null(row) {
            known.add(texts.value(row));
        }
    }

    fn next(&self, known: usize) -> u32 {
        (known as u32).min(self.slots - 1)
    }

    /// Adds the encoding of a column of tensors to a graph.
    ///
    /// # Errors
    /// If slots are hashed.
    pub fn to_onnx(&self, column: &Value, element: ElementType, graph: &mut Graph) -> Result<Slots> {
        let Some(known) = &self.known else {
            let problem = format!("feature `{}` is encoded by `hash`, which ONNX has no operator for", self.column);
            return Err(Error::new(format!("{problem}; `one_hot` can be written")));
        };
        let others = self.next(known.len());
        let slot = known.to_onnx(&self.column, column, element, others.into(), graph)?;
        Ok(Slots { slot, first: self.first as usize, used: others as usize + 1 })
    }

    /// Writes the known values.
    pub fn save(&self, tensors: &mut Tensors) {
        if let Some(known) = &self.known {
            known.save(&self.values_name(), &self.ends_name(), tensors);
        }
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let (values, ends) = (self.values_name(), self.ends_name());
        match &mut self.known {
            Some(known) => known.load(&self.column, &values, &ends, tensors),
            None => Ok(()),
        }
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
        assert_eq!(category.known.unwrap().len(), 0);
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
