//! Lists and structs.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullBufferBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::ArrowError;

use super::buffers::emptied;
use super::object::{Column, Object};
use super::scanner::Scanner;
use super::values::{Values, rejected};
use crate::refusal::{Read, Refusal};
use crate::text::{Moments, shorten};

/// The values of a column of lists.
pub(super) struct List {
    item: Column,
    field: FieldRef,
    /// Where the lists end among the items, behind a 0.
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl List {
    pub(super) fn new(item: &FieldRef, moments: &Moments) -> Self {
        let column = Column::of_field(item, moments);
        Self { item: column, field: item.clone(), ends: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    fn end(&mut self) {
        // A batch has far fewer items than that: each has two bytes in its text.
        self.ends.push(i32::try_from(self.item.rows()).unwrap_or(i32::MAX));
    }
}

impl Values for List {
    fn read(&mut self, json: &mut Scanner) -> Read<()> {
        if json.peek() != b'[' {
            return Err(other_than(json, &DataType::List(self.field.clone()))?);
        }
        let first = self.item.rows();
        let mut has_more = json.open(b']')?;
        while has_more {
            let index = self.item.rows() - first;
            self.item.read(json).map_err(|refusal| refusal.within(&format!("[{index}]")))?;
            has_more = json.another(b']')?;
        }
        self.end();
        self.nulls.append_non_null();
        Ok(())
    }

    fn push_null(&mut self) {
        self.end();
        self.nulls.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.item.truncate(self.ends[rows] as usize);
        self.nulls.truncate(rows);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let ends = emptied(&mut self.ends);
        self.ends.push(0);
        let (items, nulls) = (self.item.finish()?, self.nulls.finish());
        Ok(Arc::new(ListArray::try_new(self.field.clone(), OffsetBuffer::new(ends.into()), items, nulls)?))
    }
}

/// The values of a column of structs.
pub(super) struct Struct {
    object: Object,
    fields: Fields,
    nulls: NullBufferBuilder,
}

impl Struct {
    pub(super) fn new(fields: &Fields, moments: &Moments) -> Self {
        let columns = fields.iter().map(|field| Column::of_field(field, moments)).collect();
        Self { object: Object::new(columns), fields: fields.clone(), nulls: NullBufferBuilder::new(0) }
    }
}

impl Values for Struct {
    fn read(&mut self, json: &mut Scanner) -> Read<()> {
        if json.peek() != b'{' {
            return Err(other_than(json, &DataType::Struct(self.fields.clone()))?);
        }
        self.object.read(json)?;
        self.nulls.append_non_null();
        Ok(())
    }

    fn push_null(&mut self) {
        self.object.push_null();
        self.nulls.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.object.truncate(rows);
        self.nulls.truncate(rows);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let (rows, nulls, columns) = (self.object.rows(), self.nulls.finish(), self.object.finish()?);
        Ok(Arc::new(StructArray::try_new_with_length(self.fields.clone(), columns, nulls, rows)?))
    }
}

/// Says what there is instead of a list or an object.
fn other_than(json: &mut Scanner, data_type: &DataType) -> Read<Box<Refusal>> {
    Ok(match json.peek() {
        b'{' => rejected("an object", data_type),
        b'[' => rejected("an array", data_type),
        _ => rejected(&format!("`{}`", shorten(json.scalar()?.text())), data_type),
    })
}
