//! Texts to values for others than formats, by the same rules.

use arrow::array::ArrayRef;
use millstream_core::ColumnType;

use super::{Moments, TextColumn, has_text};

/// Reads values out of texts as CSV does: a text that does not stand for exactly one value is refused.
#[derive(Clone, Debug)]
pub struct TextValues(TextColumn);

impl TextValues {
    /// For a type, if texts can stand for its values.
    pub fn new(column: &ColumnType) -> Option<Self> {
        has_text(&column.data_type).then(|| Self(TextColumn::new(column, &Moments::default())))
    }

    /// The values of so many texts; one that stands for none is null, and `refuse` gets its place and the text.
    pub fn decode<'a>(
        &self,
        texts: impl Iterator<Item = Option<&'a str>>,
        count: usize,
        refuse: &mut dyn FnMut(usize, &str),
    ) -> ArrayRef {
        self.0.decode(texts, count, refuse)
    }
}
