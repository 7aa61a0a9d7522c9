//! Rows by their keys: which row of a table has the key of each row of a batch.

use std::collections::HashMap;
use std::hash::Hash;

use arrow::array::types::Int64Type;
use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use foldhash::fast::RandomState;
use millstream_core::{Result, canonical_floats};

/// How values of two types are compared, or `None` if they can't be.
///
/// Integers are compared by value, whatever their widths. Others must have the same type.
pub fn common_type(left: &DataType, right: &DataType) -> Option<DataType> {
    if left == right && !left.is_nested() {
        return Some(left.clone());
    }
    if !(left.is_integer() && right.is_integer()) {
        return None;
    }
    let holds_all =
        if [left, right].contains(&&DataType::UInt64) { DataType::Decimal128(20, 0) } else { DataType::Int64 };
    Some(holds_all)
}

/// The rows of a table by their keys. Null in a key equals nothing; NaN equals NaN, and -0.0 equals 0.0.
#[derive(Debug)]
pub struct Lookup {
    types: Vec<DataType>,
    first: FirstRows,
    /// For each row of the table, the next one with the same key; empty if no key has two.
    next: Vec<Option<u32>>,
}

/// The first row of each key. Hashes are seeded at random: no result depends on them, and nobody can choose keys that
/// collide.
#[derive(Debug)]
enum FirstRows {
    Integers(HashMap<i64, u32, RandomState>),
    Texts(HashMap<Box<str>, u32, RandomState>),
    /// Keys of several columns or other types, as bytes that are equal if the keys are.
    Rows(RowConverter, HashMap<Box<[u8]>, u32, RandomState>),
}

impl Lookup {
    /// The rows of a table whose key columns are `keys`, to be compared as `types`.
    pub fn new(keys: &[ArrayRef], types: Vec<DataType>) -> Result<Self> {
        let keys = comparable(keys, &types)?;
        let mut next = Vec::new();
        let first = match types.as_slice() {
            [DataType::Int64] => {
                let keys = keys[0].as_primitive::<Int64Type>();
                FirstRows::Integers(index(keys.iter(), &mut next))
            }
            [DataType::Utf8] => {
                let keys = keys[0].as_string::<i32>();
                FirstRows::Texts(index(keys.iter().map(|key| key.map(Box::from)), &mut next))
            }
            types => {
                let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
                let rows = converter.convert_columns(&keys)?;
                let nulls = nulls(&keys);
                let bytes =
                    rows.iter().enumerate().map(|(row, key)| is_valid(&nulls, row).then(|| Box::from(key.as_ref())));
                let first = index(bytes, &mut next);
                FirstRows::Rows(converter, first)
            }
        };
        Ok(Self { types, first, next })
    }

    /// For each row of a batch whose key columns are `keys`, the first row of the table with the same key.
    pub fn find(&self, keys: &[ArrayRef]) -> Result<UInt32Array> {
        let keys = comparable(keys, &self.types)?;
        Ok(match &self.first {
            FirstRows::Integers(first) => {
                keys[0].as_primitive::<Int64Type>().iter().map(|key| first.get(&key?).copied()).collect()
            }
            FirstRows::Texts(first) => keys[0].as_string::<i32>().iter().map(|key| first.get(key?).copied()).collect(),
            FirstRows::Rows(converter, first) => {
                let rows = converter.convert_columns(&keys)?;
                let nulls = nulls(&keys);
                let find = |(row, key): (usize, arrow::row::Row)| {
                    if is_valid(&nulls, row) { first.get(key.as_ref()).copied() } else { None }
                };
                rows.iter().enumerate().map(find).collect()
            }
        })
    }

    /// Whether no key stands in two rows of the table.
    pub fn is_unique(&self) -> bool {
        self.next.is_empty()
    }

    /// The next row of the table behind this one that has the same key.
    pub fn next(&self, row: u32) -> Option<u32> {
        self.next.get(row as usize).copied().flatten()
    }
}

/// The first row of each key; `next` chains the rows of a key, in their order.
fn index<K: Hash + Eq>(
    keys: impl DoubleEndedIterator<Item = Option<K>> + ExactSizeIterator,
    next: &mut Vec<Option<u32>>,
) -> HashMap<K, u32, RandomState> {
    let count = keys.len();
    let mut first = HashMap::with_capacity_and_hasher(count, RandomState::default());
    for (row, key) in keys.enumerate().rev() {
        let Some(key) = key else { continue };
        if let Some(behind) = first.insert(key, row as u32) {
            next.resize(count, None);
            next[row] = Some(behind);
        }
    }
    first
}

/// The key columns in the types in which they are compared.
fn comparable(keys: &[ArrayRef], types: &[DataType]) -> Result<Vec<ArrayRef>> {
    let casts = keys.iter().zip(types).map(|(key, data_type)| Ok(canonical_floats(&cast(key, data_type)?)));
    casts.collect()
}

fn nulls(keys: &[ArrayRef]) -> Option<NullBuffer> {
    keys.iter().fold(None, |nulls, key| NullBuffer::union(nulls.as_ref(), key.nulls()))
}

fn is_valid(nulls: &Option<NullBuffer>, row: usize) -> bool {
    nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
}
