//! The columns that the fields of records become, which can be cut off behind any row.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullBufferBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::ArrowError;
use millstream_core::{ColumnType, Columns};

use super::leaf::{Leaf, emptied};
use super::reader::Budget;
use super::scalar::Scalar;
use crate::refusal::{Read, Refusal};

/// A column of a batch, a field of a struct, or the items of lists.
pub(crate) struct Column {
    name: String,
    nullable: bool,
    pub(crate) values: Values,
    nulls: NullBufferBuilder,
    rows: usize,
    /// About how many bytes a value has in memory, apart from texts and items of lists.
    width: usize,
}

/// The values of a column.
pub(crate) enum Values {
    Leaf(Leaf),
    List(Box<List>),
    Struct(Record, Fields),
}

/// Lists.
pub(crate) struct List {
    pub(crate) item: Column,
    field: FieldRef,
    /// Where the lists end among the items, behind a 0.
    ends: Vec<i32>,
}

/// What an item of a list counts at least, so that the number of those without any bytes is bounded, too.
const LEAST_WIDTH: usize = 16;

impl Column {
    pub(crate) fn new(name: &str, column: &ColumnType) -> Self {
        let values = match &column.data_type {
            DataType::List(item) => {
                Values::List(Box::new(List { item: Self::of_field(item), field: item.clone(), ends: vec![0] }))
            }
            DataType::Struct(fields) => {
                Values::Struct(Record::new(fields.iter().map(Self::of_field).collect()), fields.clone())
            }
            // Canonical types are these.
            _ => Values::Leaf(Leaf::new(column).unwrap_or(Leaf::Int64(Vec::new()))),
        };
        let width = 1 + match &values {
            Values::Leaf(leaf) => leaf.width(),
            Values::List(_) => 4,
            Values::Struct(record, _) => record.columns.iter().map(|column| column.width).sum(),
        };
        let (name, nullable, nulls) = (name.to_owned(), column.nullable, NullBufferBuilder::new(0));
        Self { name, nullable, values, nulls, rows: 0, width }
    }

    fn of_field(field: &FieldRef) -> Self {
        Self::new(field.name(), &ColumnType::new(field.data_type().clone(), field.is_nullable()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many values the column has.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Appends a value.
    #[inline]
    pub(crate) fn push(&mut self, value: Scalar) -> Read<()> {
        let Values::Leaf(leaf) = &mut self.values else { return Err(mismatch()) };
        leaf.push(value)?;
        self.end_value();
        Ok(())
    }

    /// Appends an integer. The type that most columns of integers have is looked at first.
    #[inline]
    pub(crate) fn push_integer(&mut self, value: i64) -> Read<()> {
        let Values::Leaf(Leaf::Int64(values)) = &mut self.values else { return self.push(Scalar::Integer(value)) };
        values.push(value);
        self.end_value();
        Ok(())
    }

    /// Appends a floating-point number.
    #[inline]
    pub(crate) fn push_double(&mut self, value: f64) -> Read<()> {
        let Values::Leaf(Leaf::Float64(values)) = &mut self.values else { return self.push(Scalar::Double(value)) };
        values.push(value);
        self.end_value();
        Ok(())
    }

    /// Appends a time in microseconds since 1970.
    #[inline]
    pub(crate) fn push_timestamp(&mut self, micros: i64) -> Read<()> {
        let Values::Leaf(Leaf::Timestamp(values, _)) = &mut self.values else {
            return self.push(Scalar::Timestamp(micros));
        };
        values.push(micros);
        self.end_value();
        Ok(())
    }

    #[inline]
    fn end_value(&mut self) {
        self.nulls.append_non_null();
        self.rows += 1;
    }

    /// Appends the text that `write` appends.
    pub(crate) fn push_text(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Read<()>) -> Read<()> {
        let Values::Leaf(leaf) = &mut self.values else { return Err(mismatch()) };
        leaf.push_text(write)?;
        self.nulls.append_non_null();
        self.rows += 1;
        Ok(())
    }

    /// Appends a struct, whose fields `read` reads.
    pub(crate) fn push_record(&mut self, read: impl FnOnce(&mut Record) -> Read<()>) -> Read<()> {
        let Values::Struct(record, _) = &mut self.values else { return Err(mismatch()) };
        read(record)?;
        record.end()?;
        self.nulls.append_non_null();
        self.rows += 1;
        Ok(())
    }

    /// The items of the list that comes next, to read one.
    pub(crate) fn next_item(&mut self, budget: &mut Budget) -> Read<&mut Column> {
        let Values::List(list) = &mut self.values else { return Err(mismatch()) };
        budget.take(list.item.width.max(LEAST_WIDTH))?;
        Ok(&mut list.item)
    }

    /// The list whose items have been read is whole.
    pub(crate) fn end_list(&mut self) -> Read<()> {
        let Values::List(list) = &mut self.values else { return Err(mismatch()) };
        // A batch has far fewer items.
        list.ends.push(i32::try_from(list.item.rows).map_err(|_| Refusal::value(" is too long"))?);
        self.nulls.append_non_null();
        self.rows += 1;
        Ok(())
    }

    /// Takes note that there is no value.
    pub(crate) fn miss(&mut self) -> Read<()> {
        if !self.nullable {
            return Err(Refusal::value(" is missing or null"));
        }
        self.push_null();
        Ok(())
    }

    fn push_null(&mut self) {
        match &mut self.values {
            Values::Leaf(leaf) => leaf.push_default(),
            Values::List(list) => list.ends.extend(list.ends.last().copied()),
            Values::Struct(record, _) => record.push_null(),
        }
        self.nulls.append_null();
        self.rows += 1;
    }

    /// Drops all but the first values, and what is left of one that was refused.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Leaf(leaf) => leaf.truncate(rows),
            Values::List(list) => {
                list.ends.truncate(rows + 1);
                list.item.truncate(list.ends.last().map_or(0, |end| *end as usize));
            }
            Values::Struct(record, _) => record.truncate(rows),
        }
        self.nulls.truncate(rows);
        self.rows = rows;
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        self.rows = 0;
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Leaf(leaf) => leaf.finish(nulls),
            Values::List(list) => {
                let ends = emptied(&mut list.ends);
                list.ends.push(0);
                let items = list.item.finish()?;
                Ok(Arc::new(ListArray::try_new(list.field.clone(), OffsetBuffer::new(ends.into()), items, nulls)?))
            }
            Values::Struct(record, fields) => {
                let rows = record.rows;
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), record.finish()?, nulls, rows)?))
            }
        }
    }
}

/// A value is read into a column that was not planned for it, which does not happen.
#[cold]
fn mismatch() -> Box<Refusal> {
    Refusal::value(" has another type")
}

/// The columns that the fields of records become.
pub(crate) struct Record {
    columns: Vec<Column>,
    rows: usize,
}

impl Record {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: 0 }
    }

    pub(crate) fn of(columns: &Columns) -> Self {
        Self::new(columns.0.iter().map(|(name, column)| Column::new(name, column)).collect())
    }

    /// How many records have been read.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The column of this number, as planned.
    #[inline]
    pub(crate) fn column(&mut self, index: usize) -> Read<&mut Column> {
        self.columns.get_mut(index).ok_or_else(mismatch)
    }

    /// The record whose fields have been read is whole: what has no value is null.
    pub(crate) fn end(&mut self) -> Read<()> {
        for column in self.columns.iter_mut().filter(|column| column.rows == self.rows) {
            column.miss().map_err(|refusal| refusal.within(&column.name))?;
        }
        self.rows += 1;
        Ok(())
    }

    fn push_null(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
        self.rows += 1;
    }

    /// Drops all but the first records, and what is left of one that was refused.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        self.rows = rows;
    }

    pub(crate) fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows = 0;
        self.columns.iter_mut().map(Column::finish).collect()
    }
}
