//! What a database sends becomes columns: row by row it is checked whether every value has a place, and only then is the row appended.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use millstream_core::Result;

/// A value on its way into a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// Whole numbers, and what is kept as one: truth, dates, times, decimals.
    Whole(i128),
    /// A number with a point.
    Float(f64),
    /// A text, or bytes.
    Bytes(&'a [u8]),
    /// Bytes, as an even number of hexadecimal digits.
    Hex(&'a [u8]),
}

/// The least and the greatest value of a type of whole numbers.
pub fn limits(integer: &DataType) -> Option<(i128, i128)> {
    Some(match integer {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

/// A decimal as a whole number with so many digits behind the point; more of them have to be zeros.
pub fn parse_decimal(text: &[u8], scale: u32) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (before, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let (kept, dropped) = behind.split_at_checked(scale as usize).unwrap_or((behind, ""));
    if before.is_empty() && behind.is_empty() || dropped.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let missing = scale - kept.len() as u32;
    let digits = before.bytes().chain(kept.bytes());
    let number = digits.into_iter().try_fold(0_i128, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    let number = number.checked_mul(10_i128.checked_pow(missing)?)?;
    Some(if is_negative { -number } else { number })
}

/// A column that is being put together.
enum Builder {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Self::Int8(Int8Builder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::UInt8 => Self::UInt8(UInt8Builder::new()),
            DataType::UInt16 => Self::UInt16(UInt16Builder::new()),
            DataType::UInt32 => Self::UInt32(UInt32Builder::new()),
            DataType::UInt64 => Self::UInt64(UInt64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(..) => Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone())),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp(..) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            // Others were refused.
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn append(&mut self, cell: Cell<'_>) {
        macro_rules! append {
            ($builder:ident, $pattern:pat => $value:expr) => {
                match cell {
                    $pattern => $builder.append_value($value),
                    _ => $builder.append_null(),
                }
            };
        }
        match self {
            Self::Boolean(builder) => append!(builder, Cell::Whole(number) => number != 0),
            Self::Int8(builder) => append!(builder, Cell::Whole(number) => number as i8),
            Self::Int16(builder) => append!(builder, Cell::Whole(number) => number as i16),
            Self::Int32(builder) => append!(builder, Cell::Whole(number) => number as i32),
            Self::Int64(builder) => append!(builder, Cell::Whole(number) => number as i64),
            Self::UInt8(builder) => append!(builder, Cell::Whole(number) => number as u8),
            Self::UInt16(builder) => append!(builder, Cell::Whole(number) => number as u16),
            Self::UInt32(builder) => append!(builder, Cell::Whole(number) => number as u32),
            Self::UInt64(builder) => append!(builder, Cell::Whole(number) => number as u64),
            Self::Float32(builder) => append!(builder, Cell::Float(number) => number as f32),
            Self::Float64(builder) => append!(builder, Cell::Float(number) => number),
            Self::Decimal(builder) => append!(builder, Cell::Whole(number) => number),
            // It was checked to be UTF-8.
            Self::Text(builder) => {
                append!(builder, Cell::Bytes(bytes) => std::str::from_utf8(bytes).unwrap_or_default())
            }
            Self::Binary(builder) => match cell {
                Cell::Bytes(bytes) => builder.append_value(bytes),
                Cell::Hex(digits) => builder.append_value(unhex(digits)),
                _ => builder.append_null(),
            },
            Self::Date(builder) => append!(builder, Cell::Whole(number) => number as i32),
            Self::Time(builder) => append!(builder, Cell::Whole(number) => number as i64),
            Self::Timestamp(builder) => append!(builder, Cell::Whole(number) => number as i64),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::UInt8(builder) => Arc::new(builder.finish()),
            Self::UInt16(builder) => Arc::new(builder.finish()),
            Self::UInt32(builder) => Arc::new(builder.finish()),
            Self::UInt64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}

/// Puts rows together.
pub struct RowBuilder {
    schema: SchemaRef,
    columns: Vec<Builder>,
    rows: usize,
    bytes: usize,
}

impl RowBuilder {
    /// For rows of these columns.
    pub fn new(schema: SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| Builder::new(field.data_type())).collect();
        Self { schema, columns, rows: 0, bytes: 0 }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how many bytes they have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a row: a cell for each column, each of which fits it.
    pub fn append(&mut self, cells: &[Cell<'_>]) {
        debug_assert_eq!(cells.len(), self.columns.len());
        for (builder, cell) in self.columns.iter_mut().zip(cells) {
            self.bytes += 8 + if let Cell::Bytes(bytes) | Cell::Hex(bytes) = cell { bytes.len() } else { 0 };
            builder.append(*cell);
        }
        self.rows += 1;
    }

    /// The rows, which are taken out.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        (self.rows, self.bytes) = (0, 0);
        let columns = self.columns.iter_mut().map(Builder::finish).collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// The bytes of digits that were checked to be some.
fn unhex(digits: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A text that is the same for the same values of some cells, and for no others.
pub fn key_of<'a>(cells: impl Iterator<Item = &'a Cell<'a>>) -> Vec<u8> {
    let mut text = Vec::new();
    for cell in cells {
        match cell {
            Cell::Null => text.push(0),
            Cell::Whole(number) => {
                text.push(1);
                text.extend(number.to_le_bytes());
            }
            Cell::Float(number) => {
                text.push(2);
                text.extend(number.to_le_bytes());
            }
            Cell::Bytes(bytes) | Cell::Hex(bytes) => {
                text.push(3);
                text.extend((bytes.len() as u64).to_le_bytes());
                text.extend_from_slice(bytes);
            }
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::AsArray as _;
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(parse_decimal(b"-12.50", 2), Some(-1250));
        assert_eq!(parse_decimal(b"12.5000", 2), Some(1250));
        assert_eq!(parse_decimal(b".5", 1), Some(5));
        for wrong in ["12.505", "", ".", "-", "NaN", "1e3", "99999999999999999999999999999999999999999"] {
            assert_eq!(parse_decimal(wrong.as_bytes(), 2), None, "{wrong}");
        }
    }

    #[test]
    fn digits_become_bytes() {
        let field = |name: &str| Field::new(name, DataType::Binary, true);
        let mut rows = RowBuilder::new(Arc::new(Schema::new(vec![field("a"), field("b")])));
        rows.append(&[Cell::Hex(b"00fF"), Cell::Bytes(b"00")]);
        rows.append(&[Cell::Null, Cell::Hex(b"")]);
        let rows = rows.finish().unwrap();
        let column = |index: usize| rows.column(index).as_binary::<i32>().iter().collect::<Vec<_>>();
        assert_eq!(column(0), [Some(&b"\x00\xff"[..]), None]);
        assert_eq!(column(1), [Some(&b"00"[..]), Some(&b""[..])]);
    }
}
