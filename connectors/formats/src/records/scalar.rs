//! Values that are no lists and no structs, and which columns take them.

use arrow::datatypes::{DataType, Decimal128Type, DecimalType as _, TimeUnit};
use millstream_core::{ColumnType, write_date, write_time, write_timestamp};

/// A value that is no list and no struct.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970.
    Timestamp(i64),
    /// Digits, and how many of them are behind the point.
    Decimal(i128, i8),
}

/// Which kind of scalar values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Boolean,
    Integer,
    Float,
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
    Decimal,
}

impl ScalarKind {
    /// Whether a column of a type takes such values, at least some of them.
    pub(crate) fn fits(self, column: &ColumnType) -> bool {
        let data_type = &column.data_type;
        let is_text = *data_type == DataType::Utf8;
        match self {
            Self::Boolean => is_text || *data_type == DataType::Boolean,
            Self::Integer => {
                let is_moment = matches!(data_type, DataType::Timestamp(_, _)) && column.unit.is_some();
                is_text || is_moment || data_type.is_integer() || is_float(data_type) || is_decimal(data_type)
            }
            Self::Float => is_text || is_float(data_type),
            Self::Text | Self::Bytes => is_text || *data_type == DataType::Binary,
            Self::Date => is_text || *data_type == DataType::Date32,
            Self::Time => is_text || matches!(data_type, DataType::Time64(_)),
            Self::Timestamp => is_text || matches!(data_type, DataType::Timestamp(_, _)),
            Self::Decimal => is_text || is_decimal(data_type),
        }
    }
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(_, _))
}

impl Scalar<'_> {
    /// Appends the text of the value, which of bytes is what they are. False if it has none.
    pub(crate) fn write_text(self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Self::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Unsigned(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Float(value) => out.extend_from_slice(format!("{value:?}").as_bytes()),
            Self::Double(value) => out.extend_from_slice(format!("{value:?}").as_bytes()),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                return std::str::from_utf8(bytes).is_ok();
            }
            Self::Date(days) => write_date(days.into(), out),
            Self::Time(micros) => write_time(micros.saturating_mul(1000), out),
            Self::Timestamp(micros) => {
                write_timestamp(micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000) * 1000, out);
            }
            Self::Decimal(digits, scale) => {
                let precision = arrow::datatypes::DECIMAL128_MAX_PRECISION;
                out.extend_from_slice(Decimal128Type::format_decimal(digits, precision, scale).as_bytes());
            }
        }
        true
    }

    /// The integer, if it is one.
    pub(super) fn integer(self) -> Option<i128> {
        match self {
            Self::Integer(value) => Some(value.into()),
            Self::Unsigned(value) => Some(value.into()),
            _ => None,
        }
    }
}

/// A number of units since 1970, in microseconds: the earlier one if it lies between two. None if it is out of range.
pub(crate) fn micros(number: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => number.checked_mul(1_000_000),
        TimeUnit::Millisecond => number.checked_mul(1000),
        TimeUnit::Microsecond => Some(number),
        TimeUnit::Nanosecond => Some(number.div_euclid(1000)),
    }
}
