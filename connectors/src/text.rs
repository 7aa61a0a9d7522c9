//! Settings that inputs of text formats share.

use arrow::datatypes::Schema;
use millstream_core::{ByteSize, Problem, type_name};
use millstream_formats::{CellLimit, CsvOptions, Format, MomentFormat, Moments, nested_column, parse_timezone};
use schemars::JsonSchema;
use serde::Deserialize;

/// The formats that can be read while they are written.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamFormat {
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// An array of JSON objects, or objects one behind the other, on as many lines as they take.
    Json,
}

impl From<StreamFormat> for Format {
    fn from(format: StreamFormat) -> Self {
        match format {
            StreamFormat::Csv => Self::Csv,
            StreamFormat::Ndjson => Self::Ndjson,
            StreamFormat::Json => Self::Json,
        }
    }
}

/// How many rows are looked at to find the types of columns.
pub const INFER_ROWS: usize = 10_000;

/// For `#[serde(default)]`.
pub fn infer_rows() -> usize {
    INFER_ROWS
}

/// For `#[serde(default)]`.
pub fn header() -> bool {
    true
}

/// For `#[serde(default)]`.
pub fn null_values() -> Vec<String> {
    vec![String::new()]
}

/// The delimiter as a byte, `or` if there is none.
pub fn delimiter(delimiter: Option<char>, or: u8) -> Result<u8, Problem> {
    match delimiter {
        None => Ok(or),
        Some(byte) if byte.is_ascii() && !matches!(byte, '"' | '\r' | '\n') => Ok(byte as u8),
        Some(other) => Err(Problem::new(format!("`{}` can't separate fields", other.escape_default()))
            .at(["delimiter"])
            .help("use a single ASCII character, such as `,`, `;` or a tab")),
    }
}

/// How texts stand for dates and timestamps.
pub fn moments(timezone: Option<&str>, date: Option<&str>, timestamp: Option<&str>) -> Result<Moments, Problem> {
    let parse = |name| parse_timezone(name).map_err(|message| Problem::new(message).at(["timezone"]));
    let format = |key: &'static str, of: fn(&str) -> Result<MomentFormat, String>, format: Option<&str>| {
        format.map(of).transpose().map_err(|message| Problem::new(message).at([key]))
    };
    Ok(Moments {
        timezone: timezone.map(parse).transpose()?,
        date: format("date_format", MomentFormat::of_dates, date)?,
        timestamp: format("timestamp_format", MomentFormat::of_timestamps, timestamp)?,
    })
}

/// What stands in numbers for the point, as a byte; it can't separate fields as well.
pub fn decimal_separator(separator: Option<char>, delimiter: u8) -> Result<Option<u8>, Problem> {
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
pub fn comment(comment: Option<char>) -> Result<Option<u8>, Problem> {
    match comment {
        None => Ok(None),
        Some(byte) if byte.is_ascii() && !matches!(byte, '"' | '\r' | '\n') => Ok(Some(byte as u8)),
        Some(other) => Err(Problem::new(format!("comments can't begin with `{}`", other.escape_default()))
            .at(["comment"])
            .help("use a single ASCII character, such as `#`")),
    }
}

/// How much a field in quotes may hold.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaxCell {
    /// How many bytes.
    bytes: ByteSize,
    /// How many line breaks.
    lines: usize,
}

impl Default for MaxCell {
    fn default() -> Self {
        let CellLimit { bytes, lines } = CellLimit::default();
        Self { bytes: ByteSize(bytes), lines }
    }
}

/// The settings of CSV but for the delimiter.
pub fn csv_options(header: bool, null_values: &[String], max_cell: MaxCell) -> CsvOptions {
    let max_cell = CellLimit { bytes: max_cell.bytes.0, lines: max_cell.lines };
    CsvOptions { header, null_values: null_values.to_vec(), max_cell, ..CsvOptions::default() }
}

/// CSV has no lists and structs.
pub fn flat(schema: &Schema) -> Result<(), Problem> {
    let Some(field) = nested_column(schema) else { return Ok(()) };
    let (name, kind) = (field.name(), type_name(field.data_type()));
    Err(Problem::new(format!("column `{name}` has the type {kind}, which CSV can't hold")))
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

    #[test]
    fn formats_are_refused_at_their_settings() {
        let problem = moments(None, Some("DD.MM.YYYY"), None).unwrap_err();
        assert!(problem.message.starts_with("`DD.MM.YYYY` does not say a date"), "{}", problem.message);
        assert_eq!(problem.at, [millstream_core::Step::from("date_format")]);
        assert!(moments(Some("Europe/Berlin"), Some("%d.%m.%Y"), Some("%d.%m.%Y %H:%M")).is_ok());
    }
}
