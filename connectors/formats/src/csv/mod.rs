//! CSV: its settings, and what they come to.

mod header;
mod infer;
mod messages;
mod reader;
mod records;
mod split;
mod write;

use std::sync::Arc;

use millstream_core::{ByteSize, Columns, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::TextEncoding;
use crate::columns::refuse_nested;
use crate::kind::{FormatKind, Settings, Side};
use crate::messages::{MessageFormat, MessageWriting};
use crate::read::{ColumnsIn, Decoder, Preamble, Reading, StreamFormat};
use crate::reader::BatchReader;
use crate::text::{MomentSettings, Moments, TextSettings};
use crate::window::Window;
use crate::write::Writing;
use header::require_columns;
use messages::CsvMessages;
use reader::CsvReader;
use records::Records;
use split::FieldLimit;
use write::CsvWriting;

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "csv",
    about: "Comma-separated values after RFC 4180, or with another character than a comma. There are no lists and structs.",
    endings: &["csv", "tsv"],
    example: r#"{ type = "csv", delimiter = ";", header = false }"#,
    is_text: true,
    can_grow: true,
    read: Some(Side::of::<ReadCsv>()),
    read_messages: Some(Side::of::<ReadCsvMessages>()),
    write_files: Some(Side::of::<WriteCsv>()),
    write_streams: Some(Side::of::<WriteCsv>()),
    write_messages: Some(Side::of::<WriteCsvMessages>()),
};

/// A field stands for a value of its column's type: `true` and `false` in any case, dates and timestamps in ISO 8601 if nothing else
/// is said, binary in hexadecimal. Where there is one column, a blank line is a row: an empty field.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct ReadCsv {
    /// The character that separates fields, by default a comma, or a tab for `.tsv`.
    delimiter: Option<char>,
    /// Whether the first line holds the names of the columns, which are then matched by name. Otherwise they are in the order of
    /// `schema`, or called `column_1`, `column_2` and so on.
    header: bool,
    /// The fields that stand for null, by default empty ones.
    null_values: Vec<String>,
    /// The character that begins lines which are skipped, such as `"#"`.
    comment: Option<char>,
    /// How many lines at the beginning are skipped, before the header.
    skip_lines: usize,
    /// What stands in floats and decimals before the digits behind the point, by default `.`; with `","`, `1,5` is a number
    /// and `1.5` is none. It can't be the delimiter as well.
    decimal_separator: Option<char>,
    /// How much a field in quotes may hold, by default `{ bytes = "1MiB", lines = 1000 }`. With more, its quote counts as one
    /// that was not closed: the row fails up to the end of the line in which the quote was opened, and reading goes on behind it.
    max_field: MaxField,
    #[serde(flatten)]
    text: TextSettings,
}

impl Default for ReadCsv {
    fn default() -> Self {
        Self {
            delimiter: None,
            header: true,
            null_values: vec![String::new()],
            comment: None,
            skip_lines: 0,
            decimal_separator: None,
            max_field: MaxField::default(),
            text: TextSettings::default(),
        }
    }
}

/// How much a field in quotes may hold.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct MaxField {
    /// How many bytes.
    bytes: ByteSize,
    /// How many line breaks.
    lines: usize,
}

impl Default for MaxField {
    fn default() -> Self {
        let FieldLimit { bytes, lines } = FieldLimit::default();
        Self { bytes: ByteSize(bytes), lines }
    }
}

/// A message is a record, whose fields are the columns in the order of `schema`. One without a value fails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct ReadCsvMessages {
    /// The character that separates fields, by default a comma.
    delimiter: Option<char>,
    /// The fields that stand for null, by default empty ones.
    null_values: Vec<String>,
    /// What stands in floats and decimals before the digits behind the point, by default `.`. It can't be the delimiter as well.
    decimal_separator: Option<char>,
    #[serde(flatten)]
    moments: MomentSettings,
}

impl Default for ReadCsvMessages {
    fn default() -> Self {
        let (null_values, moments) = (vec![String::new()], MomentSettings::default());
        Self { delimiter: None, null_values, decimal_separator: None, moments }
    }
}

/// Null is an empty field, and so is an empty text. Timestamps are written in UTC, binary in hexadecimal; years behind 9999
/// and before 0 have a sign.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct WriteCsv {
    /// The character that separates fields, by default a comma, or a tab for `.tsv`.
    delimiter: Option<char>,
    /// Whether the first line holds the names of the columns.
    header: bool,
}

/// A message is a record without a line break behind it, whose fields are the columns in their order, written as in files.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct WriteCsvMessages {
    /// The character that separates fields, by default a comma.
    delimiter: Option<char>,
}

impl Default for WriteCsv {
    fn default() -> Self {
        Self { delimiter: None, header: true }
    }
}

impl Settings for ReadCsv {
    type Made = Reading;

    fn make(self, ending: &str) -> Result<Reading, Problem> {
        let delimiter = delimiter(self.delimiter, ending)?;
        let options = CsvOptions {
            header: self.header,
            delimiter,
            delimiter_is_said: self.delimiter.is_some(),
            decimal_separator: decimal_separator(self.decimal_separator, delimiter)?,
            max_field: FieldLimit { bytes: self.max_field.bytes.0, lines: self.max_field.lines },
            skip_lines: self.skip_lines,
            comment: comment(self.comment)?,
            null_values: self.null_values,
        };
        let (encoding, moments) = (self.text.encoding, self.text.moments()?);
        Ok(Reading::Stream(Arc::new(CsvFormat { options, encoding, moments })))
    }
}

impl Settings for ReadCsvMessages {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, ending: &str) -> Result<Self::Made, Problem> {
        let delimiter = delimiter(self.delimiter, ending)?;
        let options = CsvOptions {
            header: false,
            delimiter,
            decimal_separator: decimal_separator(self.decimal_separator, delimiter)?,
            // A message ends by itself.
            max_field: FieldLimit { bytes: usize::MAX, lines: usize::MAX },
            null_values: self.null_values,
            ..CsvOptions::default()
        };
        Ok(Arc::new(CsvMessages { options, moments: self.moments.moments()? }))
    }
}

impl Settings for WriteCsv {
    type Made = Arc<dyn Writing>;

    fn make(self, ending: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(CsvWriting { delimiter: delimiter(self.delimiter, ending)?, header: self.header }))
    }
}

impl Settings for WriteCsvMessages {
    type Made = Arc<dyn MessageWriting>;

    fn make(self, ending: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(CsvWriting { delimiter: delimiter(self.delimiter, ending)?, header: false }))
    }
}

/// The delimiter as a byte.
fn delimiter(delimiter: Option<char>, ending: &str) -> Result<u8, Problem> {
    match delimiter {
        None if ending == "tsv" => Ok(b'\t'),
        None => Ok(b','),
        Some(byte) if byte.is_ascii() && !matches!(byte, '"' | '\r' | '\n') => Ok(byte as u8),
        Some(other) => Err(Problem::new(format!("`{}` can't separate fields", other.escape_default()))
            .at(["delimiter"])
            .help("use a single ASCII character, such as `,`, `;` or a tab")),
    }
}

/// What stands in numbers for the point, as a byte; it can't separate fields as well.
fn decimal_separator(separator: Option<char>, delimiter: u8) -> Result<Option<u8>, Problem> {
    let problem = |message: String| Problem::new(message).at(["decimal_separator"]);
    match separator {
        None | Some('.') => Ok(None),
        Some(',') if delimiter == b',' => {
            let message = "`,` can't stand in numbers and separate fields".to_owned();
            Err(problem(message).help("say what separates fields, such as `delimiter = \";\"`"))
        }
        Some(',') => Ok(Some(b',')),
        Some(other) => {
            let message = format!("`{}` can't stand in numbers", other.escape_default());
            Err(problem(message).help("use `,`, or `.`, which is the default"))
        }
    }
}

/// The character that comments begin with, as a byte.
fn comment(comment: Option<char>) -> Result<Option<u8>, Problem> {
    match comment {
        None => Ok(None),
        Some(byte) if byte.is_ascii() && !matches!(byte, '"' | '\r' | '\n') => Ok(Some(byte as u8)),
        Some(other) => Err(Problem::new(format!("comments can't begin with `{}`", other.escape_default()))
            .at(["comment"])
            .help("use a single ASCII character, such as `#`")),
    }
}

/// How the records of a source are written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CsvOptions {
    /// Whether the first record holds the names of the columns.
    header: bool,
    /// What separates cells.
    delimiter: u8,
    /// Whether the settings say that, or it is the default.
    delimiter_is_said: bool,
    /// What stands in numbers where others have a point.
    decimal_separator: Option<u8>,
    /// The cells that stand for null.
    null_values: Vec<String>,
    /// How much a cell in quotes may hold.
    max_field: FieldLimit,
    /// How many lines at the beginning are passed over, before the header.
    skip_lines: usize,
    /// What a line begins with that is passed over.
    comment: Option<u8>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            delimiter: b',',
            delimiter_is_said: false,
            decimal_separator: None,
            null_values: vec![String::new()],
            max_field: FieldLimit::default(),
            skip_lines: 0,
            comment: None,
        }
    }
}

impl CsvOptions {
    fn is_null(&self, cell: &str) -> bool {
        self.null_values.iter().any(|null| null == cell)
    }
}

/// CSV to read.
#[derive(Debug)]
struct CsvFormat {
    options: CsvOptions,
    encoding: TextEncoding,
    moments: Moments,
}

impl StreamFormat for CsvFormat {
    fn encoding(&self) -> TextEncoding {
        self.encoding
    }

    fn open(&self, window: Window, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
        Ok(Box::new(CsvReader::new(window, decoder, &self.moments, self.options.clone())?))
    }

    fn infer(&self, window: Window, rows: usize) -> Result<Columns> {
        infer::columns(window, rows, &self.options, &self.moments)
    }

    fn columns_in(&self) -> ColumnsIn {
        if self.options.header { ColumnsIn::Header } else { ColumnsIn::Rows }
    }

    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        refuse_nested(&columns.schema(), "CSV")
    }

    fn check_header(&self, window: Window, columns: &Columns) -> Result<bool> {
        if !self.options.header {
            return Ok(false);
        }
        let names = Records::new(window, &self.options).header()?;
        names.map_or(Ok(false), |names| require_columns(&names, columns, self.options.delimiter).map(|()| true))
    }

    fn preamble(&self) -> Preamble {
        Preamble { lines: self.options.skip_lines, comment: self.options.comment }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_numbers_does_not_separate_fields() {
        assert_eq!(decimal_separator(Some(','), b';').unwrap(), Some(b','));
        assert_eq!(decimal_separator(Some('.'), b',').unwrap(), None);
        let problem = decimal_separator(Some(','), b',').unwrap_err();
        assert_eq!(problem.message, "`,` can't stand in numbers and separate fields");
        assert!(decimal_separator(Some(';'), b',').is_err());
    }
}
