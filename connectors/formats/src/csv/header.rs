//! The first line of CSV: whether it has the columns, and what is wrong if it has not.

use millstream_core::{Columns, Error, Result, known_names};

use super::CsvOptions;
use crate::text::shorten;

/// A column that may not be null has to be there.
pub(super) fn require_columns(names: &[String], columns: &Columns, delimiter: u8) -> Result<()> {
    let missing = columns.0.iter().find(|(name, column)| !column.nullable && !names.contains(name));
    let Some((name, _)) = missing else { return Ok(()) };
    let header = names.join(&char::from(delimiter).to_string());
    let is_cell = |other: &u8| header.split(char::from(*other)).any(|cell| cell.trim_matches(['"', ' ']) == name);
    if let Some(advice) = not_a_header(names, true) {
        return Err(Error::new(format!("there is no column `{name}` in the header{advice}")));
    }
    let advice = match DELIMITERS.iter().find(|other| **other != delimiter && names.len() == 1 && is_cell(other)) {
        Some(other) => set_delimiter(*other),
        None => known_names(name, names.iter().map(String::as_str)),
    };
    Err(Error::new(format!("there is no column `{name}` in the header; {advice}")))
}

/// What to say of a first line that is none with names.
pub(super) fn not_a_header(names: &[String], is_header: bool) -> Option<&'static str> {
    let first = names.first().filter(|_| is_header)?.as_str();
    match first.trim_start() {
        excel if excel.starts_with("sep=") => Some(
            "; the first line is a note for Excel: `format = { type = \"csv\", skip_lines = 1, delimiter = \"…\" }` skips it, and \
                 says what it says",
        ),
        comment if comment.starts_with('#') => Some(
            "; the first line looks like a comment: `format = { type = \"csv\", comment = \"#\" }` skips such lines, `skip_lines = 1` \
             there skips only this one",
        ),
        _ => None,
    }
}

/// What mostly separates cells.
const DELIMITERS: [u8; 4] = *b",;\t|";

fn set_delimiter(delimiter: u8) -> String {
    let delimiter = delimiter.escape_ascii();
    format!(
        "its fields seem to be separated by another character: set `format = {{ type = \"csv\", delimiter = \"{delimiter}\" }}`"
    )
}

/// What separates the cells of a record if they are as many as expected then; nothing if no character does it.
pub(super) fn other_delimiter(text: &[u8], width: usize, delimiter: u8) -> String {
    let cells = |other: u8| memchr::memchr_iter(other, text).count() + 1;
    let other = DELIMITERS.into_iter().find(|other| *other != delimiter && width > 1 && cells(*other) == width);
    other.map_or_else(String::new, |other| format!("; {}", set_delimiter(other)))
}

/// A header of one column in which something else stands between names, where nobody has said what does.
pub(super) fn refuse_one_name(names: &[String], options: &CsvOptions) -> Result<()> {
    let [name] = names else { return Ok(()) };
    let other = DELIMITERS.into_iter().find(|other| *other != options.delimiter && name.contains(char::from(*other)));
    match other.filter(|_| !options.delimiter_is_said) {
        Some(other) => Err(Error::new(format!(
            "the header has one column, `{}`; {}",
            shorten(name).escape_default(),
            set_delimiter(other)
        ))),
        None => Ok(()),
    }
}

/// One of the columns has to be there.
pub(super) fn require_any_column(names: &[String], columns: &Columns) -> Result<()> {
    if columns.0.iter().any(|(name, _)| names.contains(name)) {
        return Ok(());
    }
    let names: Vec<_> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
    Err(Error::new(format!("none of the columns is in the header, which has {}", names.join(", "))))
}
