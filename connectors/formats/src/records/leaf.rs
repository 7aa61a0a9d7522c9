//! Buffers for values that are no lists and no structs, which can be cut off behind any row.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use millstream_core::{ColumnType, DAY_MICROS, type_name, with_article};

use super::scalar::{Scalar, micros};
use crate::refusal::{Read, Refusal};
use crate::text::shorten;

/// The values of a column; where there is null, any.
pub(crate) enum Leaf {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    /// With how many digits there are, and how many of them behind the point.
    Decimal(Vec<i128>, u8, i8),
    Date(Vec<i32>),
    Time(Vec<i64>),
    /// With the unit in which integers stand for some.
    Timestamp(Vec<i64>, Option<TimeUnit>),
    Utf8(Bytes),
    Binary(Bytes),
}

/// Texts, or other bytes.
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    /// Where the values end, behind a 0.
    ends: Vec<i32>,
}

impl Bytes {
    fn new() -> Self {
        Self { bytes: Vec::new(), ends: vec![0] }
    }

    /// Takes what `write` appends, if it says so.
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let is_value = write(&mut self.bytes);
        // A batch has far fewer bytes.
        let end = i32::try_from(self.bytes.len()).ok().filter(|_| is_value);
        self.ends.extend(end);
        end.is_some()
    }

    fn push_default(&mut self) {
        self.ends.extend(self.ends.last().copied());
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Vec<u8>) {
        let ends = emptied(&mut self.ends);
        self.ends.push(0);
        (OffsetBuffer::new(ends.into()), emptied(&mut self.bytes))
    }
}

/// What a buffer holds. It keeps room for as many values.
pub(super) fn emptied<V>(values: &mut Vec<V>) -> Vec<V> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<PrimitiveArray<T>, ArrowError> {
    PrimitiveArray::try_new(emptied(values).into(), nulls)
}

/// Does the same with the values of every fixed width, with texts and bytes, and with booleans.
macro_rules! each {
    ($leaf:expr, $fixed:ident => $do:expr, $bytes:ident => $with_bytes:expr, $bits:ident => $with_bits:expr) => {
        match $leaf {
            Leaf::Boolean($bits) => $with_bits,
            Leaf::Int8($fixed) => $do,
            Leaf::Int16($fixed) => $do,
            Leaf::Int32($fixed) | Leaf::Date($fixed) => $do,
            Leaf::Int64($fixed) | Leaf::Time($fixed) | Leaf::Timestamp($fixed, _) => $do,
            Leaf::UInt8($fixed) => $do,
            Leaf::UInt16($fixed) => $do,
            Leaf::UInt32($fixed) => $do,
            Leaf::UInt64($fixed) => $do,
            Leaf::Float32($fixed) => $do,
            Leaf::Float64($fixed) => $do,
            Leaf::Decimal($fixed, _, _) => $do,
            Leaf::Utf8($bytes) | Leaf::Binary($bytes) => $with_bytes,
        }
    };
}

impl Leaf {
    /// A buffer for values of a canonical type. None for lists and structs.
    pub(crate) fn new(column: &ColumnType) -> Option<Self> {
        Some(match column.data_type {
            DataType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Self::Int8(Vec::new()),
            DataType::Int16 => Self::Int16(Vec::new()),
            DataType::Int32 => Self::Int32(Vec::new()),
            DataType::Int64 => Self::Int64(Vec::new()),
            DataType::UInt8 => Self::UInt8(Vec::new()),
            DataType::UInt16 => Self::UInt16(Vec::new()),
            DataType::UInt32 => Self::UInt32(Vec::new()),
            DataType::UInt64 => Self::UInt64(Vec::new()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Float64 => Self::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => Self::Decimal(Vec::new(), precision, scale),
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Time64(_) => Self::Time(Vec::new()),
            DataType::Timestamp(_, _) => Self::Timestamp(Vec::new(), column.unit),
            DataType::Utf8 => Self::Utf8(Bytes::new()),
            DataType::Binary => Self::Binary(Bytes::new()),
            _ => return None,
        })
    }

    /// How many bytes a value has, apart from those of texts.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Boolean(_) | Self::Int8(_) | Self::UInt8(_) => 1,
            Self::Int16(_) | Self::UInt16(_) => 2,
            Self::Int32(_) | Self::UInt32(_) | Self::Float32(_) | Self::Date(_) | Self::Utf8(_) | Self::Binary(_) => 4,
            Self::Decimal(..) => 16,
            _ => 8,
        }
    }

    /// Appends a value. Refused, it may leave something behind.
    #[inline]
    pub(crate) fn push(&mut self, value: Scalar) -> Read<()> {
        match (&mut *self, value) {
            (Self::Boolean(bits), Scalar::Boolean(value)) => bits.append(value),
            (Self::Int64(values), Scalar::Integer(value)) => values.push(value),
            (Self::Int32(values), Scalar::Integer(value)) if i32::try_from(value).is_ok() => values.push(value as i32),
            (Self::UInt64(values), Scalar::Unsigned(value)) => values.push(value),
            (Self::Float64(values), Scalar::Double(value)) => values.push(value),
            (Self::Float32(values), Scalar::Float(value)) => values.push(value),
            (Self::Date(values), Scalar::Date(value)) => values.push(value),
            (Self::Timestamp(values, _), Scalar::Timestamp(value)) => values.push(value),
            (Self::Utf8(texts), Scalar::Text(text)) | (Self::Binary(texts), Scalar::Text(text)) => {
                return self_or_long(texts.push(|out| append(out, text.as_bytes())));
            }
            (Self::Binary(values), Scalar::Bytes(bytes)) => {
                return self_or_long(values.push(|out| append(out, bytes)));
            }
            (leaf, value) => return leaf.convert(value),
        }
        Ok(())
    }

    /// Appends a value of another kind than the column's, if that has a place for it.
    fn convert(&mut self, value: Scalar) -> Read<()> {
        fn number<T: TryFrom<i128>>(values: &mut Vec<T>, value: Scalar) -> bool {
            let number = value.integer().and_then(|number| T::try_from(number).ok());
            let fits = number.is_some();
            values.extend(number);
            fits
        }
        let fits = match self {
            Self::Int8(values) => number(values, value),
            Self::Int16(values) => number(values, value),
            Self::Int32(values) => number(values, value),
            Self::Int64(values) => number(values, value),
            Self::UInt8(values) => number(values, value),
            Self::UInt16(values) => number(values, value),
            Self::UInt32(values) => number(values, value),
            Self::UInt64(values) => number(values, value),
            Self::Float32(values) => push_some(values, float(value).map(|value| value as f32)),
            Self::Float64(values) => push_some(values, float(value)),
            Self::Decimal(values, precision, scale) => push_some(values, decimal(value, *precision, *scale)),
            Self::Time(values) => push_some(values, time(value)),
            Self::Timestamp(values, unit) => push_some(values, timestamp(value, *unit)),
            Self::Utf8(texts) => texts.push(|out| value.write_text(out)),
            Self::Boolean(_) | Self::Date(_) | Self::Binary(_) => false,
        };
        if fits { Ok(()) } else { Err(self.misfit(value)) }
    }

    #[cold]
    fn misfit(&self, value: Scalar) -> Box<Refusal> {
        let mut text = Vec::new();
        if !value.write_text(&mut text) {
            return Refusal::value(": its bytes are no valid UTF-8");
        }
        let (text, name) = (String::from_utf8_lossy(&text), type_name(&self.data_type()));
        Refusal::value(format!(": `{}` is not {}", shorten(&text), with_article(&name)))
    }

    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Boolean(_) => DataType::Boolean,
            Self::Int8(_) => DataType::Int8,
            Self::Int16(_) => DataType::Int16,
            Self::Int32(_) => DataType::Int32,
            Self::Int64(_) => DataType::Int64,
            Self::UInt8(_) => DataType::UInt8,
            Self::UInt16(_) => DataType::UInt16,
            Self::UInt32(_) => DataType::UInt32,
            Self::UInt64(_) => DataType::UInt64,
            Self::Float32(_) => DataType::Float32,
            Self::Float64(_) => DataType::Float64,
            Self::Decimal(_, precision, scale) => DataType::Decimal128(*precision, *scale),
            Self::Date(_) => DataType::Date32,
            Self::Time(_) => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Utf8(_) => DataType::Utf8,
            Self::Binary(_) => DataType::Binary,
        }
    }

    /// Appends what `write` appends to a text, if it is one.
    pub(crate) fn push_text(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Read<()>) -> Read<()> {
        let Self::Utf8(texts) = self else { return Err(Refusal::value(" takes no texts")) };
        let mut written = Ok(());
        let fits = texts.push(|out| {
            written = write(out);
            written.is_ok()
        });
        written.and_then(|()| self_or_long(fits))
    }

    pub(crate) fn push_default(&mut self) {
        each!(self, values => values.push(Default::default()), bytes => bytes.push_default(), bits => bits.append(false));
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        each!(self, values => values.truncate(rows), bytes => bytes.truncate(rows), bits => bits.truncate(rows));
    }

    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Self::Int8(values) => Arc::new(primitive::<Int8Type>(values, nulls)?),
            Self::Int16(values) => Arc::new(primitive::<Int16Type>(values, nulls)?),
            Self::Int32(values) => Arc::new(primitive::<Int32Type>(values, nulls)?),
            Self::Int64(values) => Arc::new(primitive::<Int64Type>(values, nulls)?),
            Self::UInt8(values) => Arc::new(primitive::<UInt8Type>(values, nulls)?),
            Self::UInt16(values) => Arc::new(primitive::<UInt16Type>(values, nulls)?),
            Self::UInt32(values) => Arc::new(primitive::<UInt32Type>(values, nulls)?),
            Self::UInt64(values) => Arc::new(primitive::<UInt64Type>(values, nulls)?),
            Self::Float32(values) => Arc::new(primitive::<Float32Type>(values, nulls)?),
            Self::Float64(values) => Arc::new(primitive::<Float64Type>(values, nulls)?),
            Self::Decimal(values, precision, scale) => {
                let values = primitive::<Decimal128Type>(values, nulls)?;
                Arc::new(values.with_precision_and_scale(*precision, *scale)?)
            }
            Self::Date(values) => Arc::new(primitive::<Date32Type>(values, nulls)?),
            Self::Time(values) => Arc::new(primitive::<Time64MicrosecondType>(values, nulls)?),
            Self::Timestamp(values, _) => {
                Arc::new(primitive::<TimestampMicrosecondType>(values, nulls)?.with_timezone("UTC"))
            }
            Self::Utf8(texts) => {
                let (ends, bytes) = texts.finish();
                Arc::new(StringArray::try_new(ends, bytes.into(), nulls)?)
            }
            Self::Binary(values) => {
                let (ends, bytes) = values.finish();
                Arc::new(BinaryArray::try_new(ends, bytes.into(), nulls)?)
            }
        })
    }
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    out.extend_from_slice(bytes);
    true
}

fn self_or_long(fits: bool) -> Read<()> {
    if fits { Ok(()) } else { Err(Refusal::value(" is too long")) }
}

fn push_some<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let fits = value.is_some();
    values.extend(value);
    fits
}

/// The number as a float, which may have fewer digits than an integer.
fn float(value: Scalar) -> Option<f64> {
    match value {
        Scalar::Float(value) => Some(value.into()),
        Scalar::Double(value) => Some(value),
        other => other.integer().map(|number| number as f64),
    }
}

/// The number with so many digits, of which so many are behind the point; only if it is that exactly.
fn decimal(value: Scalar, precision: u8, scale: i8) -> Option<i128> {
    let (digits, of) = match value {
        Scalar::Decimal(digits, of) => (digits, of),
        other => (other.integer()?, 0),
    };
    let power = |exponent: i16| 10_i128.checked_pow(u32::try_from(exponent).ok()?);
    let more = i16::from(scale) - i16::from(of);
    let digits = if more >= 0 {
        digits.checked_mul(power(more)?)?
    } else {
        let power = power(-more)?;
        Some(digits / power).filter(|_| digits % power == 0)?
    };
    let limit = power(precision.into())?;
    (-limit < digits && digits < limit).then_some(digits)
}

fn time(value: Scalar) -> Option<i64> {
    match value {
        Scalar::Time(micros) => Some(micros).filter(|micros| (0..DAY_MICROS).contains(micros)),
        _ => None,
    }
}

fn timestamp(value: Scalar, unit: Option<TimeUnit>) -> Option<i64> {
    micros(i64::try_from(value.integer()?).ok()?, unit?)
}
