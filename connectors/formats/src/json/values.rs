//! Buffers for the values of columns, which can be cut off behind any row.

use arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanBufferBuilder, NullBufferBuilder};
use arrow::datatypes::{BinaryType, DataType, Utf8Type};
use arrow::error::ArrowError;
use millstream_core::{ColumnType, type_name, with_article};

use super::buffers::{Buffer, Bytes, Primitives};
use super::nested::{List, Struct};
use super::raw::Raw;
use super::scanner::{Scalar, Scanner};
use crate::refusal::{Read, Refusal};
use crate::text::{ByType, Float, Integer, Moments, TextColumn, float, hexadecimal, integer};

/// The values of a column, as they are read.
pub(crate) trait Values: Send + Sync {
    /// Reads a value that is not null. One that is rejected may leave something behind, see [`Self::truncate`].
    fn read(&mut self, json: &mut Scanner) -> Read<()>;

    fn push_null(&mut self);

    /// Drops all but the first values, and what is left of one that was rejected.
    fn truncate(&mut self, rows: usize);

    /// Hands over all values, after which there are none.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError>;
}

/// A buffer for values of a type.
pub(crate) fn values_of(column: &ColumnType, moments: &Moments) -> Box<dyn Values> {
    match &column.data_type {
        DataType::List(item) => Box::new(List::new(item, moments)),
        DataType::Struct(fields) => Box::new(Struct::new(fields, moments)),
        _ => {
            let text = TextColumn::new(column, moments);
            text.by_type(ForType(&text))
        }
    }
}

/// Makes the buffer for values of a type that are no lists and no structs.
struct ForType<'a>(&'a TextColumn);

impl ForType<'_> {
    fn leaf(self, buffer: impl Buffer + 'static) -> Box<dyn Values> {
        Box::new(Leaf { buffer, nulls: NullBufferBuilder::new(0), text: self.0.clone() })
    }

    fn primitive<T: ArrowPrimitiveType>(
        self,
        parse: impl Fn(&Scalar) -> Option<T::Native> + Send + Sync + 'static,
    ) -> Box<dyn Values> {
        let data_type = self.0.data_type().clone();
        self.leaf(Primitives::<T, _>::new(data_type, parse))
    }
}

impl ByType for ForType<'_> {
    type Made = Box<dyn Values>;

    fn texts(self) -> Self::Made {
        let append = |value: &Scalar, bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(value.text().as_bytes());
            true
        };
        self.leaf(Bytes::<Utf8Type, _>::new(append))
    }

    fn json(self) -> Self::Made {
        Box::new(Raw::default())
    }

    fn binary(self) -> Self::Made {
        let append = |value: &Scalar, bytes: &mut Vec<u8>| hexadecimal(value.text(), bytes);
        self.leaf(Bytes::<BinaryType, _>::new(append))
    }

    fn booleans(self) -> Self::Made {
        self.leaf(BooleanBufferBuilder::new(0))
    }

    fn integers<T: Integer>(self) -> Self::Made {
        self.primitive::<T>(|value| match value {
            Scalar::Number(number) => match number.integer() {
                Some(number) => number.try_into().ok(),
                None => integer::<T>(number.text),
            },
            other => integer::<T>(other.text()),
        })
    }

    fn floats<T: Float>(self) -> Self::Made {
        self.primitive::<T>(|value| {
            let parts = if let Scalar::Number(number) = value { number.parts() } else { None };
            let short = parts.and_then(|(negative, digits, fraction)| T::of_digits(digits, fraction, negative));
            short.or_else(|| float::<T>(value.text()))
        })
    }

    fn others<T: ArrowPrimitiveType>(
        self,
        parse: impl Fn(&str) -> Option<T::Native> + Send + Sync + 'static,
    ) -> Self::Made {
        self.primitive::<T>(move |value| parse(value.text()))
    }
}

/// Values that are no lists and no structs.
struct Leaf<B> {
    buffer: B,
    nulls: NullBufferBuilder,
    text: TextColumn,
}

impl<B: Buffer> Values for Leaf<B> {
    fn read(&mut self, json: &mut Scanner) -> Read<()> {
        if let bracket @ (b'{' | b'[') = json.peek() {
            return Err(rejected(if bracket == b'{' { "an object" } else { "an array" }, self.text.data_type()));
        }
        let value = json.scalar()?;
        if self.buffer.push(&value) {
            self.nulls.append_non_null();
            return Ok(());
        }
        Err(Refusal::value(format!(": {}", self.text.complaint(value.text()))))
    }

    fn push_null(&mut self) {
        self.buffer.push_default();
        self.nulls.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.buffer.truncate(rows);
        self.nulls.truncate(rows);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        self.buffer.finish(nulls)
    }
}

/// Says that something has another type.
#[cold]
pub(super) fn rejected(found: &str, data_type: &DataType) -> Box<Refusal> {
    let is_text = *data_type == DataType::Utf8;
    let advice = if is_text { "; a column of type `json` takes the text of any value" } else { "" };
    Refusal::value(format!(": {found} is not {}{advice}", with_article(&type_name(data_type))))
}
