//! Rows of an object as the flow wants them: its columns by their names, those that its name tells of, and none missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch, not, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_connectors::value_in_name;
use millstream_core::{ColumnType, Columns, Encoding, Result, json_row, type_name};
use millstream_formats::{BadRow, Rows, SiftedRows};

/// What rows have to be, whatever the object.
#[derive(Debug)]
pub struct Shape {
    /// All columns that come out.
    schema: SchemaRef,
    /// Those of objects, whether they are wanted or not.
    all: Columns,
    /// Those that are read from objects and come out.
    read: Columns,
    /// Those to which only the condition looks by which rows are read.
    looked_at: Columns,
    added: Vec<Added>,
}

/// A column that is not in the object.
#[derive(Debug)]
struct Added {
    name: String,
    /// What of the object's name it is: all of it, or the value behind `NAME=`.
    column: Option<ColumnType>,
    /// Whether the flow uses it. The name has to have the value in any case.
    is_wanted: bool,
}

/// What rows of one object have to be.
#[derive(Debug)]
pub struct ObjectShape {
    schema: SchemaRef,
    /// Of each column that is read, which one of the object it is.
    places: Vec<usize>,
    /// The columns that must not be missing, though they may be in the object.
    required: Vec<usize>,
    /// Each of the added columns, of one row.
    added: Vec<ArrayRef>,
}

impl Shape {
    /// Of columns of objects, those of names, and one for the name, as far as they are wanted. Those of objects that the condition of a decoder looks at have to be
    /// there as well.
    pub fn new(
        schema: &Columns,
        partition: &Columns,
        key_column: Option<&str>,
        wanted: Option<&BTreeSet<String>>,
        filters_by: impl Fn(&str) -> bool,
    ) -> Self {
        let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted.contains(name));
        let (read, others): (Vec<_>, Vec<_>) = schema.0.iter().cloned().partition(|(name, _)| is_wanted(name));
        let looked_at = others.into_iter().filter(|(name, _)| filters_by(name)).collect();
        let mut fields: Vec<Field> = read.iter().map(|(name, column)| column.field(name)).collect();
        let mut added = Vec::new();
        for (name, column) in &partition.0 {
            let is_wanted = is_wanted(name);
            fields.extend(is_wanted.then(|| column.field(name)));
            added.push(Added { name: name.clone(), column: Some(column.clone()), is_wanted });
        }
        if let Some(name) = key_column.filter(|name| is_wanted(name)) {
            fields.push(Field::new(name, DataType::Utf8, false));
            added.push(Added { name: name.to_owned(), column: None, is_wanted: true });
        }
        let (schema, all) = (Arc::new(Schema::new(fields)), schema.clone());
        Self { schema, all, read: Columns(read), looked_at: Columns(looked_at), added }
    }

    /// The columns that come out.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether a name can have a value of this type.
    pub fn can_parse(data_type: &DataType) -> bool {
        data_type.is_integer()
            || matches!(data_type, DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Timestamp(..))
    }

    /// That of an object, and the columns with which it is read. `found` are those that it names itself, if it does.
    ///
    /// # Errors
    /// Why the object can't be read.
    pub fn of(&self, name: &str, found: Option<&Columns>) -> Result<(Columns, ObjectShape), String> {
        let values = self.added.iter().map(|added| Ok((added.is_wanted, added.value(name)?)));
        let values = values.collect::<Result<Vec<_>, String>>()?;
        let added = values.into_iter().filter_map(|(is_wanted, value)| is_wanted.then_some(value)).collect();
        let is_one = |of: &Columns, name: &String| of.0.iter().any(|(own, _)| own == name);
        let is_used = |name: &String| is_one(&self.read, name) || is_one(&self.looked_at, name);
        let columns = match found {
            // Where names are not told, those that are not read count as well.
            None => self.all.clone(),
            Some(found) => Columns(found.0.iter().filter(|(name, _)| is_used(name)).cloned().collect()),
        };
        let find = |name: &String, column: &ColumnType| {
            let found = columns.0.iter().find(|(found, _)| found == name);
            let (_, is) = found.ok_or_else(|| format!("it has no column `{name}`"))?;
            if is.data_type == column.data_type {
                return Ok(is);
            }
            let [is, declared] = [&is.data_type, &column.data_type].map(type_name);
            Err(format!("`{name}` is {is} in it, and `schema` says {declared}"))
        };
        for (name, column) in &self.looked_at.0 {
            find(name, column)?;
        }
        let come: Vec<_> = columns.0.iter().filter(|(name, _)| is_one(&self.read, name)).collect();
        let mut places = Vec::with_capacity(self.read.0.len());
        let mut required = Vec::new();
        for (index, (name, column)) in self.read.0.iter().enumerate() {
            let is = find(name, column)?;
            places.extend(come.iter().position(|(found, _)| found == name));
            if is.nullable && !column.nullable {
                required.push(index);
            }
        }
        Ok((columns, ObjectShape { schema: self.schema.clone(), places, required, added }))
    }
}

impl Added {
    fn value(&self, object: &str) -> Result<ArrayRef, String> {
        let Some(column) = &self.column else { return Ok(Arc::new(StringArray::from(vec![object]))) };
        let wanted = |part: &str| part.strip_prefix(&self.name)?.strip_prefix('=').map(str::to_owned);
        let text = object.split('/').find_map(wanted);
        let text = text.ok_or_else(|| format!("its name has no `{}=…`", self.name))?;
        let text = value_in_name(&text);
        if text.is_none() && !column.nullable {
            return Err(format!("`{}` is missing in its name, and `partition` says that it is not", self.name));
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let array: ArrayRef = Arc::new(StringArray::from(vec![text.as_deref()]));
        cast_with_options(&array, &column.data_type, &options).map_err(|_| {
            let is = text.unwrap_or_default();
            format!("`{}={is}` in its name is no {}", self.name, type_name(&column.data_type))
        })
    }
}

impl ObjectShape {
    /// The rows as they have to be. Those in which something is missing are refused.
    pub fn apply(&self, rows: Rows) -> Result<Rows> {
        let mut out = Rows { failed: rows.failed, ..Rows::default() };
        for (start, batch) in rows.batches {
            let (batch, refused) = self.shaped(&batch)?;
            if refused.true_count() == 0 {
                out.batches.push((start, self.strict(&batch)?));
            } else {
                self.sift(start, &batch, &refused, &mut out)?;
            }
        }
        for SiftedRows { start, end, rows, positions } in rows.sifted {
            let (batch, refused) = self.shaped(&rows)?;
            for row in refused.values().set_indices() {
                out.failed.push(self.refuse(positions[row], &batch, row)?);
            }
            let kept = not(&refused)?;
            let positions = kept.values().set_indices().map(|row| positions[row]).collect();
            let rows = self.strict(&filter_record_batch(&batch, &kept)?)?;
            out.sifted.push(SiftedRows { start, end, rows, positions });
        }
        Ok(out)
    }

    /// All columns of rows, which may be null, and in which rows one is that must not be.
    fn shaped(&self, batch: &RecordBatch) -> Result<(RecordBatch, BooleanArray)> {
        let mut columns: Vec<ArrayRef> = self.places.iter().map(|place| batch.column(*place).clone()).collect();
        let refused = self.refused(&columns, batch.num_rows());
        let zeros = UInt32Array::from(vec![0; batch.num_rows()]);
        for added in &self.added {
            columns.push(take(added, &zeros, None)?);
        }
        let loose = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let loose = Arc::new(Schema::new(loose.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok((RecordBatch::try_new_with_options(loose, columns, &options)?, refused))
    }

    /// Rows in which nothing is missing.
    fn strict(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), rows.columns().to_vec(), &options)?)
    }

    /// In which rows a value is missing that must not be.
    fn refused(&self, columns: &[ArrayRef], count: usize) -> BooleanArray {
        let nulls = self.required.iter().filter_map(|index| columns[*index].logical_nulls());
        let valid = nulls.fold(None, |all, nulls| NullBuffer::union(all.as_ref(), Some(&nulls)));
        match valid {
            Some(valid) => BooleanArray::new(!valid.inner(), None),
            None => BooleanArray::new(BooleanBuffer::new_unset(count), None),
        }
    }

    fn sift(&self, start: u64, batch: &RecordBatch, refused: &BooleanArray, out: &mut Rows) -> Result<()> {
        let mut first = 0;
        for row in refused.values().set_indices().chain([batch.num_rows()]) {
            if first < row {
                out.batches.push((start + first as u64, self.strict(&batch.slice(first, row - first))?));
            }
            if row < batch.num_rows() {
                out.failed.push(self.refuse(start + row as u64, batch, row)?);
            }
            first = row + 1;
        }
        Ok(())
    }

    fn refuse(&self, position: u64, batch: &RecordBatch, row: usize) -> Result<BadRow> {
        let missing = self.required.iter().find(|index| batch.column(**index).is_null(row)).copied();
        let name = self.schema.field(missing.unwrap_or_default()).name();
        let bad = BadRow::new(position, format!("column `{name}`: null"), json_row(batch, row)?.as_bytes());
        Ok(BadRow { encoding: Encoding::Json, ..bad })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{rows_as_text, table};

    use super::*;

    fn columns(columns: &[(&str, &str)]) -> Columns {
        Columns(columns.iter().map(|(name, column)| ((*name).to_owned(), ColumnType::parse(column).unwrap())).collect())
    }

    #[test]
    fn columns_are_found_by_name_and_added_ones_are_behind_them() {
        let shape = Shape::new(
            &columns(&[("id", "int64"), ("name", "utf8?")]),
            &columns(&[("country", "utf8?"), ("year", "int32")]),
            Some("object"),
            None,
            |_| false,
        );
        let found = columns(&[("name", "utf8?"), ("other", "int64"), ("id", "int64?")]);
        let (read, of) = shape.of("in/country=D%2FE/year=2026/a.parquet", Some(&found)).unwrap();
        assert_eq!(read.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["name", "id"]);
        let rows = table("name:utf8? id:int64?\nAda 1\nnull 2\nBob null\nEve 4\n");
        let mut rows = of.apply(Rows { batches: vec![(7, rows)], ..Rows::default() }).unwrap();
        assert_eq!(rows.failed.len(), 1);
        assert_eq!((rows.failed[0].position, rows.failed[0].error.as_str()), (9, "column `id`: null"));
        assert_eq!(
            rows.batches.iter().map(|(start, rows)| (*start, rows.num_rows())).collect::<Vec<_>>(),
            [(7, 2), (10, 1)]
        );
        let last = rows.batches.pop().unwrap().1;
        let path = "in/country=D%2FE/year=2026/a.parquet";
        assert_eq!(
            rows_as_text([&last]),
            format!("id:int64 name:utf8? country:utf8? year:int32 object:utf8\n4 Eve D/E 2026 {path}\n")
        );
    }

    #[test]
    fn an_object_that_does_not_fit_is_told_why() {
        let shape = Shape::new(&columns(&[("id", "int64")]), &columns(&[("year", "int32")]), None, None, |_| false);
        let why = |name: &str, found: &[(&str, &str)]| shape.of(name, Some(&columns(found))).unwrap_err();
        assert_eq!(why("year=1/a", &[("x", "int64")]), "it has no column `id`");
        assert_eq!(why("year=1/a", &[("id", "utf8")]), "`id` is utf8 in it, and `schema` says int64");
        assert_eq!(why("a", &[("id", "int64")]), "its name has no `year=…`");
        assert_eq!(why("year=x/a", &[("id", "int64")]), "`year=x` in its name is no int32");
        let missing = "`year` is missing in its name, and `partition` says that it is not";
        assert_eq!(why("year=__HIVE_DEFAULT_PARTITION__/a", &[("id", "int64")]), missing);
    }
}
