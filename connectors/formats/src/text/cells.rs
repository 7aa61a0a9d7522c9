//! A column of cells to an array.

use std::sync::Arc;

use arrow::array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow::array::{ArrayRef, ArrowPrimitiveType};
use arrow::datatypes::DataType;

use super::numbers::{Float, Integer, float, integer};
use super::{ByType, boolean, hexadecimal};
use crate::json::is_json;

/// The cells of a column, null where there is none.
pub(super) struct Cells<'c, I> {
    pub cells: I,
    pub rows: usize,
    /// Takes the rows and the texts of cells that stand for no value.
    pub refuse: &'c mut dyn FnMut(usize, &str),
    pub data_type: &'c DataType,
}

impl<'a, I: Iterator<Item = Option<&'a str>>> Cells<'_, I> {
    fn primitive<T: ArrowPrimitiveType>(self, parse: impl Fn(&str) -> Option<T::Native>) -> ArrayRef {
        let mut builder = PrimitiveBuilder::<T>::with_capacity(self.rows).with_data_type(self.data_type.clone());
        self.each(parse, |value| builder.append_option(value));
        Arc::new(builder.finish())
    }

    fn each<V>(self, parse: impl Fn(&'a str) -> Option<V>, mut append: impl FnMut(Option<V>)) {
        for (row, cell) in self.cells.enumerate() {
            let value = cell.and_then(&parse);
            if let (None, Some(text)) = (&value, cell) {
                (self.refuse)(row, text);
            }
            append(value);
        }
    }
}

impl<'a, I: Iterator<Item = Option<&'a str>>> ByType for Cells<'_, I> {
    type Made = ArrayRef;

    fn texts(self) -> ArrayRef {
        let mut builder = StringBuilder::with_capacity(self.rows, self.rows * 8);
        self.cells.for_each(|cell| builder.append_option(cell));
        Arc::new(builder.finish())
    }

    fn json(self) -> ArrayRef {
        let mut builder = StringBuilder::with_capacity(self.rows, self.rows * 8);
        self.each(|text| is_json(text).then_some(text), |value| builder.append_option(value));
        Arc::new(builder.finish())
    }

    fn binary(self) -> ArrayRef {
        let mut builder = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for (row, cell) in self.cells.enumerate() {
            bytes.clear();
            let is_value = cell.is_some_and(|text| hexadecimal(text, &mut bytes));
            builder.append_option(is_value.then_some(&bytes));
            if let (false, Some(text)) = (is_value, cell) {
                (self.refuse)(row, text);
            }
        }
        Arc::new(builder.finish())
    }

    fn booleans(self) -> ArrayRef {
        let mut builder = BooleanBuilder::with_capacity(self.rows);
        self.each(boolean, |value| builder.append_option(value));
        Arc::new(builder.finish())
    }

    fn integers<T: Integer>(self) -> ArrayRef {
        self.primitive::<T>(integer::<T>)
    }

    fn floats<T: Float>(self) -> ArrayRef {
        self.primitive::<T>(float::<T>)
    }

    fn others<T: ArrowPrimitiveType>(
        self,
        parse: impl Fn(&str) -> Option<T::Native> + Send + Sync + 'static,
    ) -> ArrayRef {
        self.primitive::<T>(parse)
    }
}
