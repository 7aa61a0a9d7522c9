//! The columns of CSV, from its header and a sample of its rows.

use millstream_core::{Columns, Error, Result};

use super::CsvOptions;
use super::header::{not_a_header, refuse_one_name};
use super::records::{Piece, Records};
use crate::Rows;
use crate::infer::{self, Inferred};
use crate::text::{Moments, exchanged};
use crate::window::Window;

/// The columns of a source, by the first so many of its rows.
pub(super) fn columns(window: Window, rows: usize, options: &CsvOptions, moments: &Moments) -> Result<Columns> {
    let mut records = Records::new(window, options);
    let mut kinds: Vec<(String, Inferred)> = Vec::new();
    let mut advice = None;
    if options.header {
        let names = records.header()?.unwrap_or_default();
        advice = not_a_header(&names, true);
        if advice.is_none() {
            refuse_one_name(&names, options)?;
        }
        kinds.extend(names.into_iter().map(|name| (name, Inferred::Nothing)));
    }
    for _ in 0..rows {
        records.set_width(kinds.len());
        match records.next(true)? {
            None => break,
            Some(Piece::Broken(..)) => {}
            Some(Piece::TooLong) => drop(records.pass_line(0, &mut Rows::default())?),
            Some(Piece::Record(_)) => match advice.take().filter(|_| records.len() != kinds.len() || is_note(&kinds)) {
                Some(advice) => return Err(Error::new(format!("the header is none{advice}"))),
                None => learn(&records, &mut kinds, options, moments),
            },
        }
        records.clear();
    }
    Ok(infer::columns(kinds))
}

/// Whether the first line tells Excel what separates cells.
fn is_note(kinds: &[(String, Inferred)]) -> bool {
    kinds.first().is_some_and(|(name, _)| name.starts_with("sep="))
}

/// Lets the kept record count for the kinds of its cells.
fn learn(records: &Records, kinds: &mut Vec<(String, Inferred)>, options: &CsvOptions, moments: &Moments) {
    if kinds.is_empty() && !options.header {
        kinds.extend((0..records.len()).map(|index| (format!("column_{}", index + 1), Inferred::Nothing)));
    }
    let cells = readable(records, kinds.len()).unwrap_or_default();
    for ((_, kind), cell) in kinds.iter_mut().zip(cells) {
        if !options.is_null(cell) {
            let other = options.decimal_separator.map(|separator| of_other_number(cell, separator, moments));
            let found = other.unwrap_or_else(|| Inferred::of_text(cell, moments));
            *kind = std::mem::take(kind).and(found);
        }
    }
}

/// What a cell looks like, if this character stands for the point of numbers.
fn of_other_number(cell: &str, separator: u8, moments: &Moments) -> Inferred {
    match (Inferred::of_text(&exchanged(cell, separator), moments), Inferred::of_text(cell, moments)) {
        (number @ (Inferred::Integer | Inferred::Float), _) => number,
        (_, Inferred::Integer | Inferred::Float) => Inferred::Text,
        (_, other) => other,
    }
}

/// The cells of a record, or `None` if the reader would reject it whatever the types are: it must not say anything
/// about them.
fn readable(records: &Records, width: usize) -> Option<Vec<&str>> {
    if records.len() != width {
        return None;
    }
    (0..width).map(|index| std::str::from_utf8(records.cell_bytes(index)).ok()).collect()
}
