//! Messages that are texts with fields in them: the fields of many messages, column by column, to rows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{ColumnType, Columns, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::messages::{MessageReader, NO_VALUE};
use crate::rows::NO_TEXT;
use crate::text::{MomentSettings, Moments, TextColumn};
use crate::{BadRow, Rows, TextEncoding};

/// The text that a message has for a column, if any.
pub(crate) type Field<'m> = Option<Cow<'m, str>>;

/// Finds the fields of a message.
pub(crate) trait FindFields: Send {
    /// Puts the text of each column into its place among `fields`, all of which are none.
    ///
    /// # Errors
    /// What is wrong with a message that has no fields.
    fn find<'m>(&mut self, message: &'m str, fields: &mut [Field<'m>]) -> Result<(), String>;
}

/// The settings that all formats of such messages have.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct FieldSettings {
    /// The texts that stand for null, such as `["-"]`; by default none. What a message does not have is null in any case.
    pub null_values: Vec<String>,
    #[serde(flatten)]
    pub moments: MomentSettings,
}

/// The same settings for the lines of a text.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct LineSettings {
    #[serde(flatten)]
    pub fields: FieldSettings,
    /// How letters are written as bytes. Files that are followed are in UTF-8.
    pub encoding: TextEncoding,
}

/// What a text stands for.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldForm {
    pub null_values: Vec<String>,
    pub moments: Moments,
}

impl FieldSettings {
    /// What a text stands for.
    pub(crate) fn form(self) -> Result<FieldForm, Problem> {
        Ok(FieldForm { moments: self.moments.moments()?, null_values: self.null_values })
    }
}

/// Reads messages whose fields somebody finds.
pub(crate) struct FieldReader<F> {
    columns: Vec<Column>,
    schema: SchemaRef,
    null_values: Vec<String>,
    batch_rows: usize,
    find: F,
}

struct Column {
    name: String,
    nullable: bool,
    text: TextColumn,
}

impl<F: FindFields> FieldReader<F> {
    /// Reads rows of these columns.
    pub(crate) fn new(columns: &Columns, form: FieldForm, batch_rows: usize, find: F) -> Self {
        let column = |(name, column): &(String, ColumnType)| Column {
            name: name.clone(),
            nullable: column.nullable,
            text: TextColumn::new(column, &form.moments),
        };
        Self {
            columns: columns.0.iter().map(column).collect(),
            schema: columns.schema(),
            null_values: form.null_values,
            batch_rows,
            find,
        }
    }

    fn decode_batch(&mut self, start: u64, messages: &[Option<&[u8]>], out: &mut Rows) -> Result<()> {
        let width = self.columns.len();
        let mut fields = vec![None; messages.len() * width];
        let mut bad = BTreeMap::new();
        for (row, message) in messages.iter().enumerate() {
            let fields = &mut fields[row * width..][..width];
            let text = message.ok_or(NO_VALUE).and_then(|bytes| std::str::from_utf8(bytes).map_err(|_| NO_TEXT));
            if let Err(why) = text.map_err(str::to_owned).and_then(|text| self.find.find(text, fields)) {
                bad.insert(row, why);
            }
        }
        let arrays = (0..width).map(|place| self.decode_column(place, &fields, messages.len(), &mut bad)).collect();
        out.failed.extend(
            bad.iter().map(|(row, why)| BadRow::new(start + *row as u64, why, messages[*row].unwrap_or_default())),
        );
        self.push(arrays, start, messages.len(), &bad, out)
    }

    /// The values of a column. Rows that are bad already are null.
    fn decode_column(
        &self,
        place: usize,
        fields: &[Field<'_>],
        rows: usize,
        bad: &mut BTreeMap<usize, String>,
    ) -> ArrayRef {
        let Column { name, nullable, text } = &self.columns[place];
        let is_null = |field: &&str| self.null_values.iter().any(|null| null == field);
        let cells =
            (0..rows).map(|row| fields[row * self.columns.len() + place].as_deref().filter(|text| !is_null(text)));
        let array = text.decode(cells, rows, &mut |row, cell| {
            bad.entry(row).or_insert_with(|| format!("column `{name}`: {}", text.complaint(cell)));
        });
        if !nullable && array.null_count() > 0 {
            for row in (0..rows).filter(|row| array.is_null(*row)) {
                bad.entry(row).or_insert_with(|| format!("column `{name}` is null"));
            }
        }
        array
    }

    /// Hands out the rows that are not bad, which are null also in columns that must not be.
    fn push(
        &self,
        arrays: Vec<ArrayRef>,
        start: u64,
        count: usize,
        bad: &BTreeMap<usize, String>,
        out: &mut Rows,
    ) -> Result<()> {
        let with_schema = |schema: SchemaRef, arrays: Vec<ArrayRef>, count: usize| {
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            RecordBatch::try_new_with_options(schema, arrays, &options)
        };
        if bad.is_empty() {
            out.batches.push((start, with_schema(self.schema.clone(), arrays, count)?));
            return Ok(());
        }
        let nullable = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let rows = with_schema(Arc::new(Schema::new(nullable.collect::<Vec<_>>())), arrays, count)?;
        let positions: Vec<u64> = (start..start + count as u64).collect();
        let before = out.batches.len();
        out.push_stretches(&rows, &positions, bad);
        for (_, rows) in &mut out.batches[before..] {
            *rows = with_schema(self.schema.clone(), rows.columns().to_vec(), rows.num_rows())?;
        }
        Ok(())
    }
}

impl<F: FindFields> MessageReader for FieldReader<F> {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], out: &mut Rows) -> Result<()> {
        let mut start = 0;
        for messages in messages.chunks(self.batch_rows.max(1)) {
            self.decode_batch(start, messages, out)?;
            start += messages.len() as u64;
        }
        Ok(())
    }
}
