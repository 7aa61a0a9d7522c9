//! The columns of a file, without reading all of it.

use std::fs::File;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use millstream_core::{ColumnType, Columns, Result, ResultExt};
use serde_json::Value;

use crate::csv::{Records, numbered};
use crate::infer::{Inferred, columns};
use crate::window::{Window, decompress};
use crate::{Compression, CsvOptions, Format, Pace, Timezone, ipc, parquet};

/// How to look at a file.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// The format of its bytes.
    pub format: Format,
    /// How they are packed.
    pub compression: Option<Compression>,
    /// How many rows of a text format are looked at to find the types.
    pub rows: usize,
    /// How CSV is written.
    pub csv: CsvOptions,
    /// The time zone of text timestamps without an offset, which are plain texts without one.
    pub timezone: Option<Timezone>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its columns in canonical types. Those inferred from a sample may be null. None if there is nothing to tell
    /// from: an empty file, or NDJSON without a readable row.
    pub columns: Columns,
    /// How many rows there are, if the file says.
    pub rows: Option<u64>,
}

/// Finds the columns of a file: Parquet and Arrow files name them, of CSV and NDJSON they are inferred. Integers are
/// `int64`, other numbers `float64`, `true` and `false` `boolean`, texts in ISO 8601 with time and offset (or with
/// `timezone` set) `timestamp`, and all else is `utf8`. Errors name the file.
pub fn inspect(path: &Path, options: &InspectOptions) -> Result<Found> {
    let found = || {
        let file = File::open(path)?;
        match options.format {
            Format::Parquet => parquet::inspect(file).map(declared),
            Format::Arrow => ipc::inspect(file).map(declared),
            Format::Csv => inferred(csv(window(file, options)?, options)?),
            Format::Ndjson => inferred(ndjson(window(file, options)?, options)?),
        }
    };
    found().doing(|| format!("reading `{}`", path.display()))
}

fn window(file: File, options: &InspectOptions) -> Result<Window> {
    Ok(Window::new(decompress(file, options.compression)?, Pace::Full))
}

fn declared((schema, rows): (SchemaRef, u64)) -> Found {
    let fields = schema.fields().iter().map(|field| {
        let column = ColumnType { data_type: field.data_type().clone(), nullable: field.is_nullable(), unit: None };
        (field.name().clone(), column)
    });
    Found { columns: Columns(fields.collect()), rows: Some(rows) }
}

fn inferred(kinds: Vec<(String, Inferred)>) -> Result<Found> {
    Ok(Found { columns: columns(kinds), rows: None })
}

fn csv(window: Window, options: &InspectOptions) -> Result<Vec<(String, Inferred)>> {
    let mut records = Records::new(window, options.csv.delimiter);
    let mut kinds: Vec<(String, Inferred)> = Vec::new();
    if options.csv.header {
        let names = records.header()?.unwrap_or_default();
        kinds.extend(names.into_iter().map(|name| (name, Inferred::Nothing)));
    }
    for _ in 0..options.rows {
        if records.next()?.is_none() {
            break;
        }
        if kinds.is_empty() && !options.csv.header {
            kinds.extend((0..records.len()).map(|index| (numbered(index), Inferred::Nothing)));
        }
        if let Some(cells) = readable(&records, kinds.len()) {
            for ((_, kind), cell) in kinds.iter_mut().zip(cells).filter(|(_, cell)| !options.csv.is_null(cell)) {
                *kind = std::mem::take(kind).and(Inferred::of_text(cell, options.timezone.as_ref()));
            }
        }
        records.clear();
    }
    Ok(kinds)
}

/// The cells of a record, or `None` if the reader would refuse it whatever the types are: it must not say anything
/// about them.
fn readable(records: &Records, width: usize) -> Option<Vec<&str>> {
    if records.len() != width {
        return None;
    }
    (0..width).map(|index| std::str::from_utf8(records.cell_bytes(index)).ok()).collect()
}

/// Lines that are no JSON objects are left for the reader to refuse.
fn ndjson(mut window: Window, options: &InspectOptions) -> Result<Vec<(String, Inferred)>> {
    let mut all = Inferred::Struct(Vec::new());
    let mut rows = 0;
    while rows < options.rows {
        let Some(end) = memchr::memchr(b'\n', window.lines()).map(|end| end + 1).or_else(|| rest(&window)) else {
            match window.ended() {
                true => break,
                false => window.fill()?,
            }
            continue;
        };
        let line = window.lines()[..end].trim_ascii();
        if let Ok(row @ Value::Object(_)) = serde_json::from_slice(line) {
            all = all.and(Inferred::of_json(&row, options.timezone.as_ref()));
        }
        rows += usize::from(!line.is_empty());
        window.consume(end);
    }
    match all {
        Inferred::Struct(kinds) => Ok(kinds),
        _ => Ok(Vec::new()),
    }
}

/// The length of a last line without a line break.
fn rest(window: &Window) -> Option<usize> {
    let length = window.lines().len();
    (window.ended() && length > 0).then_some(length)
}
