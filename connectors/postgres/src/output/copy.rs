//! Rows in the binary form of `COPY`: <https://www.postgresql.org/docs/current/sql-copy.html> has the frame, and the source of each type's
//! `_recv` function the values.

use std::iter::once;

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use millstream_core::{Error, Problem, Result, batch_bytes, type_name};
use millstream_database::OutputJob;
use tokio_postgres::types::Type;

/// Dates and times count from 2000: days and microseconds since 1970 until then.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The years 4713 BC to 5874897 AD, in days since 2000.
const DAYS: std::ops::Range<i64> = -2_451_545..2_145_031_949;
/// The years 4713 BC to 294276 AD, in microseconds since 2000.
const MICROS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
const DAY: i64 = 86_400_000_000;

/// Refuses a column that no table has a place for.
pub fn check_type(field: &Field) -> Result<(), Problem> {
    if native(field.data_type()).is_some() {
        return Ok(());
    }
    let message = format!(
        "column `{}` is a `{}`, which is not written to PostgreSQL",
        field.name(),
        type_name(field.data_type())
    );
    Err(Problem::new(message).help("leave it out with an `sql` node, or turn it into text"))
}

/// The type as which values are copied, by which a table that is created has its columns. None if there is none.
pub fn native(data_type: &DataType) -> Option<Type> {
    Some(match data_type {
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::INT2,
        DataType::Int32 | DataType::UInt16 => Type::INT4,
        DataType::Int64 | DataType::UInt32 => Type::INT8,
        DataType::UInt64 | DataType::Decimal128(..) => Type::NUMERIC,
        DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Utf8 => Type::TEXT,
        DataType::Binary => Type::BYTEA,
        DataType::Date32 => Type::DATE,
        DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::List(item) => match native(item.data_type())? {
            Type::BOOL => Type::BOOL_ARRAY,
            Type::INT2 => Type::INT2_ARRAY,
            Type::INT4 => Type::INT4_ARRAY,
            Type::INT8 => Type::INT8_ARRAY,
            Type::NUMERIC => Type::NUMERIC_ARRAY,
            Type::FLOAT4 => Type::FLOAT4_ARRAY,
            Type::FLOAT8 => Type::FLOAT8_ARRAY,
            Type::TEXT => Type::TEXT_ARRAY,
            Type::BYTEA => Type::BYTEA_ARRAY,
            Type::DATE => Type::DATE_ARRAY,
            Type::TIME => Type::TIME_ARRAY,
            Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
            Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
            // An array of arrays has the same number of values in each.
            _ => return None,
        },
        _ => return None,
    })
}

/// What column a table gets that is created.
pub fn declared(data_type: &DataType) -> String {
    match (data_type, native(data_type)) {
        (DataType::Decimal128(precision, scale), _) => format!("numeric({precision},{scale})"),
        (DataType::UInt64, _) => "numeric(20,0)".to_owned(),
        (_, Some(kind)) => written(&kind),
        (_, None) => "text".to_owned(),
    }
}

/// A type as SQL writes it.
pub fn written(kind: &Type) -> String {
    // Arrays are called `_int4`.
    kind.name().strip_prefix('_').map_or_else(|| kind.name().to_owned(), |item| format!("{item}[]"))
}

/// Appends a value of a column with its length, or that it is null.
type Write<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + Send + Sync + 'a>;

/// Where rows are copied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The table itself.
    Table,
    /// The temporary table: each has its number before its columns, and whether it is to be deleted if a column says so; then only its key is there.
    Beside,
}

/// What stands before rows, and behind them.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: [u8; 2] = (-1_i16).to_be_bytes();

/// Batches in the form in which they are copied, piece by piece: with what stands before them and behind them.
pub fn copied<'a>(
    job: &'a OutputJob,
    batches: impl Iterator<Item = Result<RecordBatch>> + 'a,
    into: Destination,
) -> impl Iterator<Item = Result<Vec<u8>>> + 'a {
    let rows = batches.map(move |rows| rows.and_then(|rows| copied_rows(job, &rows, into)));
    once(Ok(HEADER.to_vec())).chain(rows).chain(once(Ok(END.to_vec())))
}

/// The rows of a batch.
fn copied_rows(job: &OutputJob, rows: &RecordBatch, into: Destination) -> Result<Vec<u8>> {
    let writers = job.columns.iter().map(|index| Ok((column(rows.column(*index).as_ref())?, job.key.contains(index))));
    let writers = writers.collect::<Result<Vec<_>>>()?;
    let count = writers.len() + usize::from(into == Destination::Beside) + usize::from(job.op.is_some());
    let count = i16::try_from(count).map_err(|_| Error::new("PostgreSQL has no so many columns"))?;
    let mut copied = Vec::with_capacity(batch_bytes(rows) + rows.num_rows() * 4 * (writers.len() + 1));
    for row in 0..rows.num_rows() {
        copied.extend(count.to_be_bytes());
        if into == Destination::Beside {
            sized(&(row as i32).to_be_bytes(), &mut copied);
        }
        let is_delete = job.is_delete(rows, row);
        if job.op.is_some() {
            sized(&[u8::from(is_delete)], &mut copied);
        }
        for (write, is_key) in &writers {
            if is_delete && !is_key {
                copied.extend(NULL);
            } else {
                write(row, &mut copied);
            }
        }
    }
    Ok(copied)
}

/// In place of a length.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

fn sized(value: &[u8], into: &mut Vec<u8>) {
    into.extend((value.len() as i32).to_be_bytes());
    into.extend(value);
}

/// Writes a value whose length shows only then.
fn measured(into: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend([0; 4]);
    write(into);
    let length = (into.len() - start - 4) as i32;
    into[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn boxed<'a>(array: &'a dyn Array, value: impl Fn(usize, &mut Vec<u8>) + Send + Sync + 'a) -> Write<'a> {
    if array.null_count() == 0 {
        return Box::new(value);
    }
    Box::new(move |row, into| if array.is_null(row) { into.extend(NULL) } else { value(row, into) })
}

fn fixed<T: ArrowPrimitiveType, const N: usize>(
    array: &dyn Array,
    bytes: impl Fn(T::Native) -> [u8; N] + Send + Sync + 'static,
) -> Write<'_> {
    let values = array.as_primitive::<T>();
    boxed(values, move |row, into| sized(&bytes(values.value(row)), into))
}

fn column(array: &dyn Array) -> Result<Write<'_>> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            boxed(values, move |row, into| sized(&[u8::from(values.value(row))], into))
        }
        DataType::Int8 => fixed::<Int8Type, 2>(array, |value| i16::from(value).to_be_bytes()),
        DataType::Int16 => fixed::<Int16Type, 2>(array, i16::to_be_bytes),
        DataType::Int32 => fixed::<Int32Type, 4>(array, i32::to_be_bytes),
        DataType::Int64 => fixed::<Int64Type, 8>(array, i64::to_be_bytes),
        DataType::UInt8 => fixed::<UInt8Type, 2>(array, |value| i16::from(value).to_be_bytes()),
        DataType::UInt16 => fixed::<UInt16Type, 4>(array, |value| i32::from(value).to_be_bytes()),
        DataType::UInt32 => fixed::<UInt32Type, 8>(array, |value| i64::from(value).to_be_bytes()),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            boxed(values, move |row, into| numeric(values.value(row).into(), 0, into))
        }
        DataType::Float32 => fixed::<Float32Type, 4>(array, f32::to_be_bytes),
        DataType::Float64 => fixed::<Float64Type, 8>(array, f64::to_be_bytes),
        DataType::Decimal128(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal128Type>(), *scale);
            boxed(values, move |row, into| numeric(values.value(row), scale, into))
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            boxed(values, move |row, into| sized(values.value(row).as_bytes(), into))
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            boxed(values, move |row, into| sized(values.value(row), into))
        }
        DataType::Date32 => fixed::<Date32Type, 4>(array, |days| days.saturating_sub(EPOCH_DAYS).to_be_bytes()),
        DataType::Time64(_) => fixed::<Time64MicrosecondType, 8>(array, i64::to_be_bytes),
        DataType::Timestamp(..) => {
            fixed::<TimestampMicrosecondType, 8>(array, |micros| micros.saturating_sub(EPOCH_MICROS).to_be_bytes())
        }
        DataType::List(item) => {
            let item = native(item.data_type()).ok_or_else(|| unknown(array.data_type()))?;
            let lists = array.as_list::<i32>();
            let (write, offsets) = (column(lists.values().as_ref())?, lists.value_offsets());
            boxed(lists, move |row, into| {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                measured(into, |into| list(&item, range, &write, into));
            })
        }
        other => return Err(unknown(other)),
    })
}

fn unknown(data_type: &DataType) -> Error {
    Error::new(format!("a `{}` is not written to PostgreSQL", type_name(data_type)))
}

/// An array of one dimension, which counts from 1; or of none, if it is empty.
fn list(item: &Type, range: std::ops::Range<usize>, write: &Write<'_>, into: &mut Vec<u8>) {
    let length = range.len() as i32;
    into.extend(i32::from(length > 0).to_be_bytes());
    // There may be nulls.
    into.extend(1_i32.to_be_bytes());
    into.extend(item.oid().to_be_bytes());
    if length > 0 {
        into.extend(length.to_be_bytes());
        into.extend(1_i32.to_be_bytes());
    }
    range.for_each(|row| write(row, into));
}

/// A number of digits of base 10,000, of which so many lie before the point.
fn numeric(value: i128, scale: i8, into: &mut Vec<u8>) {
    const MOST: usize = 24;
    let mut left = value.unsigned_abs();
    let (mut groups, mut count) = ([0_i16; MOST], 0);
    let mut push = |group: u128| {
        groups[count] = group as i16;
        count += 1;
    };
    // The lowest of those behind the point may be part of a group.
    let behind = usize::from(scale.unsigned_abs());
    let part = behind % 4;
    if part > 0 && scale > 0 {
        let unit = 10_u128.pow(part as u32);
        push(left % unit * 10_u128.pow(4 - part as u32));
        left /= unit;
    }
    // A negative scale stands for zeros before the point.
    let before = if scale < 0 { behind } else { 0 };
    (0..before / 4).for_each(|_| push(0));
    if before % 4 > 0 {
        let rest = 10_u128.pow((4 - before % 4) as u32);
        push(left % rest * 10_u128.pow((before % 4) as u32));
        left /= rest;
    }
    while left > 0 {
        push(left % 10_000);
        left /= 10_000;
    }
    let groups_behind = if scale > 0 { behind.div_ceil(4) } else { 0 };
    let first = groups[..count].iter().position(|group| *group != 0).unwrap_or(count);
    let last = groups[..count].iter().rposition(|group| *group != 0).map_or(first, |last| last + 1);
    let weight = if first == last { 0 } else { last as i16 - groups_behind as i16 - 1 };
    let sign: i16 = if value < 0 && first < last { 0x4000 } else { 0 };
    into.extend((8 + 2 * (last - first) as i32).to_be_bytes());
    for part in [(last - first) as i16, weight, sign, i16::from(scale.max(0))] {
        into.extend(part.to_be_bytes());
    }
    groups[first..last].iter().rev().for_each(|group| into.extend(group.to_be_bytes()));
}

/// What PostgreSQL has no value for in a row, and why.
pub fn unwritable(array: &dyn Array, row: usize) -> Option<&'static str> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Utf8 => {
            let is_wrong = array.as_string::<i32>().value(row).as_bytes().contains(&0);
            is_wrong.then_some("has a zero byte, which PostgreSQL has in no text")
        }
        DataType::Date32 => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row)) - i64::from(EPOCH_DAYS);
            (!DAYS.contains(&days)).then_some("is no date that PostgreSQL has")
        }
        DataType::Timestamp(..) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row).checked_sub(EPOCH_MICROS);
            let is_there = micros.is_some_and(|micros| MICROS.contains(&micros));
            (!is_there).then_some("is no time that PostgreSQL has")
        }
        DataType::Time64(_) => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(row);
            (!(0..=DAY).contains(&micros)).then_some("is no time of a day")
        }
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            (0..values.len()).find_map(|row| unwritable(values.as_ref(), row))
        }
        _ => None,
    }
}

/// The number in a row, if the column has whole numbers.
pub fn whole(array: &dyn Array, row: usize) -> Option<i128> {
    Some(match array.data_type() {
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        // They fit into every column of whole numbers.
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The groups, the weight, the sign and the scale of a number.
    fn parts(value: i128, scale: i8) -> (Vec<i16>, i16, i16, i16) {
        let mut bytes = Vec::new();
        numeric(value, scale, &mut bytes);
        let words: Vec<i16> = bytes.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect();
        assert_eq!(usize::try_from(words[1]).unwrap(), bytes.len() - 4);
        assert_eq!(usize::try_from(words[2]).unwrap(), words.len() - 6);
        (words[6..].to_vec(), words[3], words[4], words[5])
    }

    #[test]
    fn numbers_are_in_groups_of_four_digits() {
        assert_eq!(parts(0, 2), (vec![], 0, 0, 2));
        assert_eq!(parts(1250, 2), (vec![12, 5000], 0, 0, 2));
        assert_eq!(parts(-5, 2), (vec![500], -1, 0x4000, 2));
        assert_eq!(parts(123_456_789, 0), (vec![1, 2345, 6789], 2, 0, 0));
        assert_eq!(parts(10_000, 0), (vec![1], 1, 0, 0));
        assert_eq!(parts(1, 5), (vec![1000], -2, 0, 5));
        assert_eq!(parts(7, -5), (vec![70], 1, 0, 0));
        assert_eq!(parts(10_i128.pow(38) - 1, 37).0.len(), 11);
        assert_eq!(parts(10_i128.pow(38) - 1, 0), ([vec![99], vec![9999; 9]].concat(), 9, 0, 0));
    }

    #[test]
    fn types_have_names_in_sql() {
        let list = |of| DataType::List(Field::new("item", of, true).into());
        assert_eq!(declared(&list(DataType::Int64)), "int8[]");
        assert_eq!(declared(&DataType::Decimal128(10, 2)), "numeric(10,2)");
        assert_eq!(declared(&DataType::UInt64), "numeric(20,0)");
        assert!(check_type(&Field::new("a", list(list(DataType::Utf8)), true)).is_err());
        assert!(check_type(&Field::new("a", DataType::Struct(arrow::datatypes::Fields::empty()), true)).is_err());
    }
}
