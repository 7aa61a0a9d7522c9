//! Columns beside those of values: what else messages have, such as their topic.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, ListBuilder, RecordBatch, RecordBatchOptions, StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{Columns, PlanContext, Problem, Result, Step};

use crate::Rows;

/// Something of a message that is not in its value, and may become a column.
pub trait Metadata: Copy + PartialEq {
    /// A message.
    type Message<'a>;

    /// The column, by this name.
    fn field(self, name: &str) -> Field;

    /// What the column has for messages.
    fn column(self, messages: &[Self::Message<'_>]) -> ArrayRef;
}

/// Columns behind those of the values.
pub struct MetadataColumns<M> {
    columns: Vec<M>,
    /// With those of the values.
    schema: SchemaRef,
}

impl<M: Metadata> MetadataColumns<M> {
    /// Those of the columns of the setting `metadata` that the flow wants. `declared` are the columns of the values, and `values` those of them
    /// that are read.
    ///
    /// # Errors
    /// If there are two of one name.
    pub fn plan(
        metadata: &IndexMap<String, M>,
        declared: &Columns,
        values: &SchemaRef,
        context: &PlanContext,
    ) -> Result<Self, Problem> {
        if let Some(name) = metadata.keys().find(|name| declared.0.iter().any(|(column, _)| column == *name)) {
            let problem = Problem::new(format!("there is a column `{name}` already"));
            return Err(problem.at([Step::from("metadata"), Step::Name(name.clone())]).help("give it another name"));
        }
        let is_wanted = |name: &String| context.columns.as_ref().is_none_or(|wanted| wanted.contains(name));
        let wanted = metadata.iter().filter(|(name, _)| is_wanted(name));
        let own = wanted.clone().map(|(name, column)| column.field(name).into());
        let fields: Vec<_> = values.fields().iter().cloned().chain(own).collect();
        Ok(Self { columns: wanted.map(|(_, column)| *column).collect(), schema: Schema::new(fields).into() })
    }

    /// All columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether this is one of the columns.
    pub fn has(&self, column: M) -> bool {
        self.columns.contains(&column)
    }

    /// Adds the columns to the values of messages. The position of a row is the number of its message among them.
    ///
    /// # Errors
    /// If that can't be done.
    pub fn add_to(&self, rows: &mut Rows, messages: &[M::Message<'_>]) -> Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        for (start, values) in &mut rows.batches {
            let of = &messages[*start as usize..][..values.num_rows()];
            let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
            let own = self.columns.iter().map(|column| column.column(of));
            let columns = values.columns().iter().cloned().chain(own).collect();
            *values = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        }
        Ok(())
    }
}

fn header_fields() -> Fields {
    let fields = [Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)];
    fields.into_iter().collect()
}

fn header_field() -> Field {
    Field::new("item", DataType::Struct(header_fields()), false)
}

/// The type of a column with the headers of messages: `list<{ name = utf8, value = binary? }>`.
pub fn headers_type() -> DataType {
    DataType::List(Arc::new(header_field()))
}

/// The headers of messages, each of which has a name and perhaps a value.
pub fn headers_column<'m, N: AsRef<str>, H: Iterator<Item = (N, Option<&'m [u8]>)>>(
    messages: impl Iterator<Item = H>,
) -> ArrayRef {
    let header =
        StructBuilder::new(header_fields(), vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
    let mut lists = ListBuilder::new(header).with_field(header_field());
    for headers in messages {
        for (name, value) in headers {
            let header = lists.values();
            if let Some(names) = header.field_builder::<StringBuilder>(0) {
                names.append_value(name);
            }
            if let Some(values) = header.field_builder::<BinaryBuilder>(1) {
                values.append_option(value);
            }
            header.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}
