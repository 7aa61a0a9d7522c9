//! Tables for people to read.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches_with_schema;
use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{FormatKind, Settings, Side};
use crate::write::{Encoder, Writing};

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "table",
    about: "A table for people to read.",
    endings: &[],
    example: r#""table""#,
    is_text: true,
    can_grow: false,
    read: None,
    read_messages: None,
    write_files: None,
    write_streams: Some(Side::of::<WriteTable>()),
    write_messages: None,
};

/// One table for every batch, or one for all rows where it is said how many there are at most.
#[derive(Debug, Deserialize, JsonSchema)]
struct WriteTable {}

impl Settings for WriteTable {
    type Made = Arc<dyn Writing>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Table))
    }
}

#[derive(Debug)]
struct Table;

impl Writing for Table {
    fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(TableEncoder(schema.clone())))
    }

    fn is_one_piece(&self) -> bool {
        true
    }
}

struct TableEncoder(SchemaRef);

impl Encoder for TableEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let table = pretty_format_batches_with_schema(self.0.clone(), std::slice::from_ref(rows))?;
        Ok(writeln!(out, "{table}")?)
    }
}
