//! Rows as JSON, one object a line.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, NullableEncoder};
use arrow::json::{Encoder, EncoderFactory, EncoderOptions, WriterBuilder};

use crate::moment::{write_date, write_time, write_timestamp};
use crate::{Result, ResultExt};

/// Appends rows as JSON objects, one a line; null columns are left out. Dates, times and timestamps are texts in ISO 8601, also
/// those behind the year 9999.
pub fn write_json(rows: &RecordBatch, bytes: &mut Vec<u8>) -> Result<()> {
    let builder = WriterBuilder::new().with_encoder_factory(Arc::new(Moments));
    let mut writer = builder.build::<_, LineDelimited>(bytes);
    writer.write(rows).and_then(|()| writer.finish()).doing(|| "writing rows as JSON")
}

/// Encodes dates, times and timestamps. Arrow's own encoder writes the text of an error where chrono has no such value.
#[derive(Debug)]
struct Moments;

impl EncoderFactory for Moments {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        Ok(Some(match array.data_type() {
            DataType::Date32 => texts::<Date32Type>(array, |days, out| write_date(days.into(), out)),
            DataType::Date64 => {
                texts::<Date64Type>(array, |millis, out| write_date(millis.div_euclid(86_400_000), out))
            }
            DataType::Time32(TimeUnit::Second) => {
                texts::<Time32SecondType>(array, |time, out| write_time(i64::from(time) * 1_000_000_000, out))
            }
            DataType::Time32(_) => {
                texts::<Time32MillisecondType>(array, |time, out| write_time(i64::from(time) * 1_000_000, out))
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                texts::<Time64MicrosecondType>(array, |time, out| write_time(time.saturating_mul(1000), out))
            }
            DataType::Time64(_) => texts::<Time64NanosecondType>(array, write_time),
            DataType::Timestamp(TimeUnit::Second, _) => {
                texts::<TimestampSecondType>(array, |time, out| write_timestamp(time, 0, out))
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                texts::<TimestampMillisecondType>(array, |time, out| in_units_of(1000, time, out))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                texts::<TimestampMicrosecondType>(array, |time, out| in_units_of(1_000_000, time, out))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                texts::<TimestampNanosecondType>(array, |time, out| in_units_of(1_000_000_000, time, out))
            }
            _ => return Ok(None),
        }))
    }
}

/// Appends a timestamp that is counted in such parts of a second.
fn in_units_of(parts: i64, time: i64, out: &mut Vec<u8>) {
    write_timestamp(time.div_euclid(parts), time.rem_euclid(parts) * (1_000_000_000 / parts), out);
}

/// How a value is written, without the quotes.
type Write<T> = fn(<T as ArrowPrimitiveType>::Native, &mut Vec<u8>);

struct Texts<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    write: Write<T>,
}

fn texts<'a, T: ArrowPrimitiveType>(array: &'a dyn Array, write: Write<T>) -> NullableEncoder<'a> {
    let array = array.as_primitive::<T>();
    NullableEncoder::new(Box::new(Texts { array, write }), array.nulls().cloned())
}

impl<T: ArrowPrimitiveType> Encoder for Texts<'_, T> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        (self.write)(self.array.value(index), out);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Date32Array, ListArray, Time64MicrosecondArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn values_that_nobody_else_can_write_are_texts() {
        let times = TimestampMicrosecondArray::from(vec![i64::MAX, 0]).with_timezone("UTC");
        let lists = ListArray::from_iter_primitive::<TimestampSecondType, _, _>([Some([Some(i64::MIN)]), None]);
        let columns: [(&str, ArrayRef); 4] = [
            ("at", Arc::new(times)),
            ("day", Arc::new(Date32Array::from(vec![Some(i32::MAX), None]))),
            ("time", Arc::new(Time64MicrosecondArray::from(vec![-1, 1]))),
            ("list", Arc::new(lists)),
        ];
        let rows = RecordBatch::try_from_iter(columns).expect("equal lengths");
        let mut bytes = Vec::new();
        write_json(&rows, &mut bytes).expect("writes");
        let expected = "{\"at\":\"+294247-01-10T04:00:54.775807Z\",\"day\":\"+5881580-07-11\",\"time\":\"-00:00:00.000001\",\
                        \"list\":[\"-292277022657-01-27T08:29:52Z\"]}\n{\"at\":\"1970-01-01T00:00:00Z\",\"time\":\"00:00:00.000001\"}\n";
        assert_eq!(String::from_utf8(bytes).expect("text"), expected);
    }
}
