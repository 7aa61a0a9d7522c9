//! A hash of a row's values that is the same on every machine and in every language.
//!
//! The method is XXH3 with 64 bits and a seed (<https://xxhash.com>). The hash of a row starts as the seed; then, column by
//! column, it becomes the hash of the value's bytes with the hash so far as the seed. The bytes are a tag and the value, all
//! numbers little-endian:
//!
//! | value | tag | bytes |
//! |---|---|---|
//! | null | 0 | none |
//! | boolean | 1 | 0 or 1 |
//! | integer of any width | 2 | int64 |
//! | integer above the largest int64 | 3 | uint64 |
//! | float of any width | 4 | float64; -0.0 as 0.0, every NaN as 0x7ff8000000000000 |
//! | decimal | 5 | its digits as int128, its scale as int8 |
//! | utf8 | 6 | UTF-8 |
//! | binary | 7 | as they are |
//! | date | 8 | int64: days since 1970-01-01 |
//! | time | 9 | int64: microseconds since midnight |
//! | timestamp | 10 | int64: microseconds since 1970-01-01 UTC |

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use millstream_core::{PlanContext, Problem, Problems, canonical_float, require_column, type_name};
use twox_hash::XxHash3_64;

/// The seed of a node: the one that its settings say, else the XXH3 hash of its name, so that what one node chooses by some
/// columns says nothing about what another one of its type chooses by them.
pub fn seed(said: Option<u64>, context: &PlanContext) -> u64 {
    said.unwrap_or_else(|| XxHash3_64::oneshot(context.choosing_name().as_bytes()))
}

/// What the hashes of rows start as, for a type of node with this name and a seed.
///
/// Each type of node has its own, so that what one chooses by some columns is not always the same to another one that looks
/// at the same columns. (`split` is the one that starts with the seed itself.)
pub fn start(node: &str, seed: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, node.as_bytes())
}

/// Whether values of this type can be hashed: all but lists and structures.
fn can_hash(data_type: &DataType) -> bool {
    !data_type.is_nested()
}

/// The columns of these names, if their values can be hashed. Problems are at their places in `setting`.
pub fn hash_columns(setting: &str, names: &[String], schema: &Schema) -> Result<Vec<usize>, Problems> {
    let (mut columns, mut problems) = (Vec::new(), Problems::new());
    if names.is_empty() {
        problems.push(Problem::new("there are no columns").at([setting]));
    }
    for (place, name) in names.iter().enumerate() {
        match require_column(name, schema).and_then(hashable) {
            Ok(_) => columns.extend(schema.index_of(name)),
            Err(problem) => problems.push(problem.under(place).under(setting)),
        }
    }
    if problems.is_empty() { Ok(columns) } else { Err(problems) }
}

fn hashable(field: &Field) -> Result<(), Problem> {
    if can_hash(field.data_type()) {
        return Ok(());
    }
    let (name, data_type) = (field.name(), type_name(field.data_type()));
    Err(Problem::new(format!("`{name}` is {data_type}, whose values have no hash"))
        .help("take a column of single values"))
}

/// Takes the values of a column into the hashes of their rows.
pub fn hash_column(hashes: &mut [u64], column: &dyn Array) {
    match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            each(hashes, column, |row, bytes| bytes.extend([1, u8::from(values.value(row))]));
        }
        DataType::Int8 => integers(hashes, column.as_primitive::<Int8Type>()),
        DataType::Int16 => integers(hashes, column.as_primitive::<Int16Type>()),
        DataType::Int32 => integers(hashes, column.as_primitive::<Int32Type>()),
        DataType::Int64 => integers(hashes, column.as_primitive::<Int64Type>()),
        DataType::UInt8 => integers(hashes, column.as_primitive::<UInt8Type>()),
        DataType::UInt16 => integers(hashes, column.as_primitive::<UInt16Type>()),
        DataType::UInt32 => integers(hashes, column.as_primitive::<UInt32Type>()),
        DataType::UInt64 => integers(hashes, column.as_primitive::<UInt64Type>()),
        DataType::Float32 => floats(hashes, column.as_primitive::<Float32Type>()),
        DataType::Float64 => floats(hashes, column.as_primitive::<Float64Type>()),
        DataType::Decimal128(_, scale) => {
            let values = column.as_primitive::<Decimal128Type>();
            each(hashes, column, |row, bytes| {
                tagged(bytes, 5, &values.value(row).to_le_bytes());
                bytes.extend(scale.to_le_bytes());
            });
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            each(hashes, column, |row, bytes| tagged(bytes, 6, values.value(row).as_bytes()));
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            each(hashes, column, |row, bytes| tagged(bytes, 7, values.value(row)));
        }
        DataType::Date32 => times(hashes, column.as_primitive::<Date32Type>(), 8),
        DataType::Time64(TimeUnit::Microsecond) => times(hashes, column.as_primitive::<Time64MicrosecondType>(), 9),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            times(hashes, column.as_primitive::<TimestampMicrosecondType>(), 10);
        }
        // Only null columns are left: `can_hash` was asked before, and batches come in canonical types.
        _ => each(hashes, column, |_, bytes| bytes.push(0)),
    }
}

/// Hashes the bytes that `write` gives for each row that is not null.
fn each(hashes: &mut [u64], column: &dyn Array, write: impl Fn(usize, &mut Vec<u8>)) {
    let mut bytes = Vec::new();
    for (row, hash) in hashes.iter_mut().enumerate() {
        bytes.clear();
        if column.is_null(row) {
            bytes.push(0);
        } else {
            write(row, &mut bytes)
        }
        *hash = XxHash3_64::oneshot_with_seed(*hash, &bytes);
    }
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(value);
}

fn integers<T: ArrowPrimitiveType<Native: Into<i128>>>(hashes: &mut [u64], values: &PrimitiveArray<T>) {
    each(hashes, values, |row, bytes| {
        let value: i128 = values.value(row).into();
        match i64::try_from(value) {
            Ok(value) => tagged(bytes, 2, &value.to_le_bytes()),
            Err(_) => tagged(bytes, 3, &(value as u64).to_le_bytes()),
        }
    });
}

fn floats<T: ArrowPrimitiveType<Native: Into<f64>>>(hashes: &mut [u64], values: &PrimitiveArray<T>) {
    each(hashes, values, |row, bytes| {
        tagged(bytes, 4, &canonical_float(values.value(row).into()).to_le_bytes());
    });
}

fn times<T: ArrowPrimitiveType<Native: Into<i64>>>(hashes: &mut [u64], values: &PrimitiveArray<T>, tag: u8) {
    each(hashes, values, |row, bytes| {
        let value: i64 = values.value(row).into();
        tagged(bytes, tag, &value.to_le_bytes());
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Float64Array, Int8Array, UInt64Array};
    use millstream_testkit::table;

    use super::*;

    fn hashes(columns: &[ArrayRef], seed: u64) -> Vec<u64> {
        let mut hashes = vec![seed; columns[0].len()];
        columns.iter().for_each(|column| hash_column(&mut hashes, column));
        hashes
    }

    /// Computed by the reference implementation, as Python's `xxhash.xxh3_64_intdigest(bytes, seed)`.
    #[test]
    fn hashes_are_those_of_the_reference() {
        let rows = table("id:int64 name:utf8?\n 1 Ada\n -7 null\n 300 Österreich");
        let expected = [1600737928446379011, 12889992884532948844, 4122630779539458816];
        assert_eq!(hashes(rows.columns(), 0), expected);
        let long = table(&format!("text:utf8\n {}", "long".repeat(100)));
        assert_eq!(hashes(long.columns(), 42), [11956972197445769135]);
    }

    #[test]
    fn equal_values_have_equal_hashes_in_every_width() {
        let narrow: ArrayRef = Arc::new(Int8Array::from(vec![5]));
        let wide: ArrayRef = Arc::new(UInt64Array::from(vec![5]));
        assert_eq!(hashes(&[narrow], 1), hashes(&[wide], 1));
        let narrow: ArrayRef = Arc::new(Float32Array::from(vec![0.5, -0.0, f32::NAN]));
        let wide: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.0, -f64::NAN]));
        assert_eq!(hashes(&[narrow], 1), hashes(&[wide], 1));
    }

    #[test]
    fn other_types_seeds_and_orders_give_other_hashes() {
        let rows = table(
            "n:int64? text:utf8? at:timestamp? day:date? large:uint64\n 1 1 1970-01-01T00:00:00.000001Z 1970-01-02 18446744073709551615",
        );
        let mut all: Vec<u64> =
            rows.columns().iter().map(|column| hashes(std::slice::from_ref(column), 0)[0]).collect();
        all.push(hashes(&rows.columns()[..1], 1)[0]);
        all.push(hashes(&rows.columns()[..2], 0)[0]);
        all.push(hashes(&[rows.column(1).clone(), rows.column(0).clone()], 0)[0]);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
