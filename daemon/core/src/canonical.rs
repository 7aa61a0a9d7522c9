//! The few encodings that nodes see: each type of the flow language has exactly one in Arrow.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{CastOptions, cast_with_options, take_record_batch};
use arrow::datatypes::{
    ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, DataType, Date32Type, Date64Type, Field, Fields, Schema, SchemaRef,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};

use crate::moment::DAY_MICROS;
use crate::types::{UTC, timestamp};
use crate::{Error, Result};

/// Brings batches of one schema to canonical types: planned once, free of cost where nothing has to change.
#[derive(Clone, Debug)]
pub struct Canonical {
    schema: SchemaRef,
    /// The columns that have to be cast or checked.
    casts: Vec<usize>,
}

impl Canonical {
    /// How to bring batches of `from` to canonical types. The error names the column that has none.
    pub fn new(from: &Schema) -> Result<Self, String> {
        let mut casts = Vec::new();
        let mut fields = Vec::with_capacity(from.fields().len());
        for (index, field) in from.fields().iter().enumerate() {
            let to = canonical_type(field.data_type()).ok_or_else(|| {
                format!("column `{}` has the type {}, which flows can't carry", field.name(), field.data_type())
            })?;
            if to != *field.data_type() || has_time(&to) {
                casts.push(index);
            }
            fields.push(Field::new(field.name(), to, field.is_nullable()));
        }
        Ok(Self { schema: Arc::new(Schema::new_with_metadata(fields, from.metadata().clone())), casts })
    }

    /// How to bring batches of `from` to other columns of the same names, which take the values of these. None if they are the
    /// same.
    pub fn between(from: &Schema, to: SchemaRef) -> Option<Self> {
        let fields = from.fields().iter().zip(to.fields()).enumerate();
        let casts =
            fields.filter(|(_, (from, to))| from.data_type() != to.data_type()).map(|(index, _)| index).collect();
        (from.fields() != to.fields()).then_some(Self { schema: to, casts })
    }

    /// The schema to which batches are brought.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows in canonical types. Only columns of another encoding are copied. An error where a value has no place there.
    pub fn apply(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let Canonicalized { rows, refused } = self.sift(rows)?;
        match refused.into_iter().next() {
            None => Ok(rows),
            Some((_, why)) => Err(Error::new(why)),
        }
    }

    /// The rows in canonical types, without those that have a value that has no place there, such as a timestamp that
    /// overflows.
    pub fn sift(&self, rows: RecordBatch) -> Result<Canonicalized> {
        let is_done = self.casts.is_empty() && rows.num_columns() == self.schema.fields().len();
        if Arc::ptr_eq(rows.schema_ref(), &self.schema) && is_done {
            return Ok(Canonicalized { rows, refused: Vec::new() });
        }
        if let Ok(rows) = self.convert(&rows) {
            return Ok(Canonicalized { rows, refused: Vec::new() });
        }
        let (mut kept, mut refused) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            match self.convert(&only(&rows, &[row as u64])?) {
                Ok(_) => kept.push(row as u64),
                Err(error) => refused.push((row, error.to_string())),
            }
        }
        Ok(Canonicalized { rows: self.convert(&only(&rows, &kept)?)?, refused })
    }

    fn convert(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for &index in &self.casts {
            let field = self.schema.field(index);
            let column = canonical(&columns[index]).and_then(|column| as_type(column, field.data_type()));
            columns[index] = column.map_err(|why| Error::new(format!("column `{}`: {why}", field.name())))?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// Rows in canonical types.
#[derive(Debug)]
pub struct Canonicalized {
    /// Those that have some.
    pub rows: RecordBatch,
    /// The others, by their number, and why.
    pub refused: Vec<(usize, String)>,
}

/// Some of the rows, copied: items of lists that belong to none of them would be converted, too.
fn only(rows: &RecordBatch, numbers: &[u64]) -> Result<RecordBatch> {
    Ok(take_record_batch(rows, &UInt64Array::from(numbers.to_vec()))?)
}

/// The values in their canonical type; an error if one has no place there.
fn canonical(array: &ArrayRef) -> Result<ArrayRef, String> {
    let unpacked = unpacked_type(array.data_type()).unwrap_or(DataType::Null);
    in_micros(&as_type(array.clone(), &unpacked)?)
}

/// The values in another type; an error if one has no place there.
fn as_type(array: ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    if array.data_type() == to {
        return Ok(array);
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&array, to, &options).map_err(|error| error.to_string())
}

/// Dates in days, times and timestamps in microseconds. What lies between two of them becomes the earlier one.
fn in_micros(array: &ArrayRef) -> Result<ArrayRef, String> {
    Ok(match array.data_type() {
        DataType::Timestamp(_, _) => Arc::new(timestamps(array)?.with_timezone(UTC)),
        DataType::Date64 => {
            let days = |millis: i64| i32::try_from(millis.div_euclid(86_400_000));
            let days = array.as_primitive::<Date64Type>().try_unary::<_, Date32Type, _>(days);
            Arc::new(days.map_err(|_| "a date is out of range".to_owned())?)
        }
        DataType::Time32(_) | DataType::Time64(_) => times(array)?,
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = in_micros(list.values())?;
            let item = Arc::new(item.as_ref().clone().with_data_type(values.data_type().clone()));
            let list = ListArray::try_new(item, list.offsets().clone(), values, list.nulls().cloned());
            Arc::new(list.map_err(|error| error.to_string())?)
        }
        DataType::Struct(fields) => {
            let rows = array.as_struct();
            let columns = rows.columns().iter().map(in_micros).collect::<Result<Vec<_>, _>>()?;
            let field = |(field, column): (&Arc<Field>, &ArrayRef)| {
                field.as_ref().clone().with_data_type(column.data_type().clone())
            };
            let fields = fields.iter().zip(&columns).map(field).collect::<Fields>();
            let rows = StructArray::try_new_with_length(fields, columns, rows.nulls().cloned(), rows.len());
            Arc::new(rows.map_err(|error| error.to_string())?)
        }
        _ => array.clone(),
    })
}

fn timestamps(array: &ArrayRef) -> Result<TimestampMicrosecondArray, String> {
    fn times<T: ArrowPrimitiveType<Native = i64>>(
        array: &ArrayRef,
        factor: i64,
    ) -> Result<TimestampMicrosecondArray, String> {
        let micros = |time: i64| time.checked_mul(factor).ok_or(time);
        let micros = array.as_primitive::<T>().try_unary::<_, TimestampMicrosecondType, _>(micros);
        micros.map_err(|time| format!("the timestamp {time} is out of range, which is 292,000 years"))
    }
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => times::<TimestampSecondType>(array, 1_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => times::<TimestampMillisecondType>(array, 1000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Ok(array.as_primitive::<TimestampNanosecondType>().unary(|nanos| nanos.div_euclid(1000)))
        }
        _ => Ok(array.as_primitive::<TimestampMicrosecondType>().clone()),
    }
}

fn times(array: &ArrayRef) -> Result<ArrayRef, String> {
    let times: Time64MicrosecondArray = match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            array.as_primitive::<Time32SecondType>().unary(|time| i64::from(time) * 1_000_000)
        }
        DataType::Time32(_) => array.as_primitive::<Time32MillisecondType>().unary(|time| i64::from(time) * 1000),
        DataType::Time64(TimeUnit::Nanosecond) => {
            array.as_primitive::<Time64NanosecondType>().unary(|nanos| nanos.div_euclid(1000))
        }
        _ => array.as_primitive::<Time64MicrosecondType>().clone(),
    };
    match times.iter().flatten().find(|time| !(0..DAY_MICROS).contains(time)) {
        None => Ok(Arc::new(times)),
        Some(time) => Err(format!("{time} microseconds are no time of day")),
    }
}

/// The encoding that stands for a type in flows, or `None` for a type that flows can't carry.
fn canonical_type(data_type: &DataType) -> Option<DataType> {
    unpacked_type(data_type).map(|unpacked| in_micros_type(&unpacked))
}

/// What [`in_micros`] makes of a type.
fn in_micros_type(data_type: &DataType) -> DataType {
    let field = |field: &Arc<Field>| field.as_ref().clone().with_data_type(in_micros_type(field.data_type()));
    match data_type {
        DataType::Timestamp(_, _) => timestamp(),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::List(item) => DataType::List(Arc::new(field(item))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

/// Whether values of a type may have to be refused although it is canonical.
fn has_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Time64(_) => true,
        DataType::List(item) => has_time(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_time(field.data_type())),
        _ => false,
    }
}

/// The type that stands for another in flows, but for the units of dates, times and timestamps.
fn unpacked_type(data_type: &DataType) -> Option<DataType> {
    let canonical = match data_type {
        DataType::Null | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(precision, scale) if *precision <= DECIMAL128_MAX_PRECISION => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => unpacked_type(value)?,
        DataType::RunEndEncoded(_, value) => unpacked_type(value.data_type())?,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new("item", unpacked_type(item.data_type())?, item.is_nullable())))
        }
        DataType::Struct(fields) => {
            let canonical = fields
                .iter()
                .map(|field| Some(Field::new(field.name(), unpacked_type(field.data_type())?, field.is_nullable())));
            DataType::Struct(canonical.collect::<Option<Fields>>()?)
        }
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Decimal128(_, _) => data_type.clone(),
        _ => return None,
    };
    Some(canonical)
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, StringViewArray, TimestampNanosecondArray, TimestampSecondArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn items_of_lists_may_come_to_be_null_in_a_union() {
        let list = |nullable| DataType::List(Arc::new(Field::new("item", DataType::Int64, nullable)));
        let schema = |nullable| Arc::new(Schema::new(vec![Field::new("l", list(nullable), false)]));
        let items = Arc::new(arrow::array::Int64Array::from(vec![1, 2, 3]));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1]);
        let lists = ListArray::new(Arc::new(Field::new("item", DataType::Int64, false)), offsets, items, None);
        let rows = RecordBatch::try_new(schema(false), vec![Arc::new(lists)]).expect("one column");
        let canonical = Canonical::between(&schema(false), schema(true)).expect("they differ");
        assert_eq!(canonical.apply(rows).expect("a null fits").schema(), schema(true));
    }

    #[test]
    fn other_encodings_become_canonical() {
        let columns: [(&str, ArrayRef); 3] = [
            ("view", Arc::new(StringViewArray::from(vec!["a", "b"]))),
            ("dictionary", Arc::new(DictionaryArray::<Int32Type>::from_iter(["x", "x"]))),
            ("at", Arc::new(TimestampSecondArray::from(vec![1, 2]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).expect("equal lengths");
        let canonical = Canonical::new(&rows.schema()).expect("all have a canonical type");
        let rows = canonical.apply(rows).expect("casts");
        let types: Vec<_> = rows.columns().iter().map(|column| crate::type_name(column.data_type())).collect();
        assert_eq!(types, ["utf8", "utf8", "timestamp"]);
    }

    #[test]
    fn a_value_without_a_place_costs_its_row_only() {
        let seconds = |values: Vec<Option<i64>>| Arc::new(TimestampSecondArray::from(values)) as ArrayRef;
        let items = [Some(vec![Some(1)]), Some(vec![Some(i64::MIN)]), None, Some(vec![])];
        let lists = ListArray::from_iter_primitive::<TimestampSecondType, _, _>(items);
        let times = Time64MicrosecondArray::from(vec![Some(0), Some(1), Some(DAY_MICROS), None]);
        let columns: [(&str, ArrayRef); 3] = [
            ("at", seconds(vec![None, Some(1), Some(2), Some(i64::MAX)])),
            ("list", Arc::new(lists)),
            ("time", Arc::new(times)),
        ];
        let rows = RecordBatch::try_from_iter(columns).expect("equal lengths");
        let canonical = Canonical::new(&rows.schema()).expect("all have a canonical type");
        let Canonicalized { rows: kept, refused } = canonical.sift(rows.clone()).expect("sifts");
        assert_eq!((kept.num_rows(), refused.iter().map(|(row, _)| *row).collect::<Vec<_>>()), (1, vec![1, 2, 3]));
        assert!(refused[0].1.starts_with("column `list`: the timestamp -9223372036854775808 is out of"), "{refused:?}");
        assert_eq!(refused[1].1, "column `time`: 86400000000 microseconds are no time of day");
        // The items of the rows beside it are not its own.
        assert_eq!(canonical.sift(rows.slice(0, 1)).expect("sifts").rows, kept);
        assert!(canonical.apply(rows).is_err());
    }

    #[test]
    fn what_lies_between_two_microseconds_becomes_the_earlier_one() {
        let nanos = TimestampNanosecondArray::from(vec![1999, -1, -1001]);
        let rows = RecordBatch::try_from_iter([("at", Arc::new(nanos) as ArrayRef)]).expect("one column");
        let canonical = Canonical::new(&rows.schema()).expect("timestamps have a canonical type");
        let rows = canonical.apply(rows).expect("converts");
        assert_eq!(rows.column(0).as_primitive::<TimestampMicrosecondType>().values(), &[1, -1, -2]);
    }

    #[test]
    fn a_type_that_flows_can_not_carry_is_named() {
        let schema = Schema::new(vec![Field::new("span", DataType::Duration(TimeUnit::Second), true)]);
        let error = Canonical::new(&schema).expect_err("durations have no canonical type");
        assert!(error.starts_with("column `span` has the type Duration(s)"), "{error}");
    }
}
