//! Texts whose lines are rows of one column.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use millstream_core::{ColumnType, Columns, Problem, Result, type_name};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::TextEncoding;
use crate::fields::{Field, FieldForm, FieldReader, FindFields};
use crate::kind::{FormatKind, Settings, Side};
use crate::message_lines::{LineFormat, Lines};
use crate::messages::MessageReader;
use crate::read::Reading;

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "lines",
    about: "Lines of text, each of which is a row of one column, such as those of logs for a node `parse`.",
    endings: &["log"],
    example: r#""lines""#,
    is_text: true,
    can_grow: false,
    read: Some(Side::of::<ReadLines>()),
    read_messages: None,
    write_files: None,
    write_streams: None,
    write_messages: None,
};

/// The column is of the type `utf8`, and called `line` unless `schema` says otherwise. Blank lines are skipped.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ReadLines {
    /// How letters are written as bytes. Files that are followed are in UTF-8.
    encoding: TextEncoding,
}

impl Settings for ReadLines {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        Ok(Reading::Stream(Arc::new(Lines { format: Arc::new(WholeLines), encoding: self.encoding })))
    }
}

/// The column, where none is declared.
const LINE: &str = "line";

/// Lines as they are.
#[derive(Debug)]
struct WholeLines;

impl LineFormat for WholeLines {
    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        let problem = match columns.0.as_slice() {
            [(_, column)] if column.is_json => "`json`".to_owned(),
            [(_, column)] if column.data_type == DataType::Utf8 => return Ok(()),
            [(_, column)] => format!("`{}`", type_name(&column.data_type)),
            columns => format!("{} columns", columns.len()),
        };
        let help =
            "declare one column of the type `utf8`, such as `{ line = \"utf8\" }`, and take it apart by a node `parse`";
        Err(Problem::new(format!("lines can't be {problem}")).help(help))
    }

    fn columns(&self) -> Option<Columns> {
        Some(Columns(vec![(LINE.to_owned(), ColumnType::new(DataType::Utf8, false))]))
    }

    fn open(&self, columns: &Columns, batch_rows: usize) -> Box<dyn MessageReader> {
        Box::new(FieldReader::new(columns, FieldForm::default(), batch_rows, Whole))
    }
}

struct Whole;

impl FindFields for Whole {
    fn find<'m>(&mut self, message: &'m str, fields: &mut [Field<'m>]) -> Result<(), String> {
        fields.iter_mut().for_each(|field| *field = Some(Cow::Borrowed(message)));
        Ok(())
    }
}
