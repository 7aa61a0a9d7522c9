//! The columns of a file, without reading all of it.

use std::fs::File;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use indexmap::IndexMap;
use millstream_core::{ColumnType, Columns, Error, Result, ResultExt};

use crate::csv::numbered;
use crate::header::not_a_header;
use crate::infer::{Inferred, columns};
use crate::json::Documents;
use crate::records::{Piece, Records};
use crate::text::exchanged;
use crate::window::{Window, decode, decompress};
use crate::{Compression, CsvOptions, Format, Moments, Pace, Rows, ipc, parquet};

/// How many columns are found in JSON at most. Where there are more keys they are data, such as ids.
const MAX_KEYS: usize = 10_000;

/// How to look at a file.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// The format of the file.
    pub format: Format,
    /// How the bytes of a text format are compressed.
    pub compression: Option<Compression>,
    /// How many rows of a text format are looked at to find the types.
    pub rows: usize,
    /// How CSV is written.
    pub csv: CsvOptions,
    /// How texts stand for dates and timestamps, which are plain texts otherwise.
    pub moments: Moments,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The columns in canonical types. Those inferred from a sample may be null. None if there is nothing to tell
    /// from: an empty file, or NDJSON without a readable row.
    pub columns: Columns,
    /// How many rows the file has, if it says.
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
            Format::Csv => csv(window(file, options)?, options).map(inferred),
            Format::Json => json(window(file, options)?, options).map(inferred),
            Format::Ndjson => ndjson(window(file, options)?, options).map(inferred),
        }
    };
    found().doing(|| format!("reading `{}`", path.display()))
}

fn window(file: File, options: &InspectOptions) -> Result<Window> {
    let source = decode(decompress(file, options.compression)?, options.csv.encoding);
    Ok(Window::new(source, Pace::Full))
}

fn declared((schema, rows): (SchemaRef, u64)) -> Found {
    let fields = schema
        .fields()
        .iter()
        .map(|field| (field.name().clone(), ColumnType::new(field.data_type().clone(), field.is_nullable())));
    Found { columns: Columns(fields.collect()), rows: Some(rows) }
}

fn inferred(kinds: impl IntoIterator<Item = (String, Inferred)>) -> Found {
    Found { columns: columns(kinds), rows: None }
}

fn csv(window: Window, options: &InspectOptions) -> Result<Vec<(String, Inferred)>> {
    let mut records = Records::new(window, &options.csv);
    let mut kinds: Vec<(String, Inferred)> = Vec::new();
    let mut advice = None;
    if options.csv.header {
        let names = records.header()?.unwrap_or_default();
        advice = not_a_header(&names, true);
        kinds.extend(names.into_iter().map(|name| (name, Inferred::Nothing)));
    }
    for _ in 0..options.rows {
        records.set_width(kinds.len());
        match records.next(true)? {
            None => break,
            Some(Piece::Broken(..)) => {}
            Some(Piece::TooLong) => drop(records.pass_line(0, &mut Rows::default())?),
            Some(Piece::Record(_)) => match advice.take().filter(|_| records.len() != kinds.len() || is_note(&kinds)) {
                Some(advice) => {
                    return Err(Error::new(format!("the header is none{advice}")));
                }
                None => learn(&records, &mut kinds, options),
            },
        }
        records.clear();
    }
    Ok(kinds)
}

/// Whether the first line tells Excel what separates cells.
fn is_note(kinds: &[(String, Inferred)]) -> bool {
    kinds.first().is_some_and(|(name, _)| name.starts_with("sep="))
}

/// Lets the kept record count for the kinds of its cells.
fn learn(records: &Records, kinds: &mut Vec<(String, Inferred)>, options: &InspectOptions) {
    if kinds.is_empty() && !options.csv.header {
        kinds.extend((0..records.len()).map(|index| (numbered(index), Inferred::Nothing)));
    }
    let cells = readable(records, kinds.len()).unwrap_or_default();
    for ((_, kind), cell) in kinds.iter_mut().zip(cells) {
        if !options.csv.is_null(cell) {
            let other =
                options.csv.decimal_separator.map(|separator| of_other_number(cell, separator, &options.moments));
            let found = other.unwrap_or_else(|| Inferred::of_text(cell, &options.moments));
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

/// The cells of a record, or `None` if the reader would refuse it whatever the types are: it must not say anything
/// about them.
fn readable(records: &Records, width: usize) -> Option<Vec<&str>> {
    if records.len() != width {
        return None;
    }
    (0..width).map(|index| std::str::from_utf8(records.cell_bytes(index)).ok()).collect()
}

/// Lines that are no JSON objects are left for the reader to refuse.
fn ndjson(mut window: Window, options: &InspectOptions) -> Result<IndexMap<String, Inferred>> {
    let mut keys = Keys::new(options);
    while keys.rows < options.rows {
        if window.pass_long_line(0, &mut Rows::default())?.is_some() {
            keys.rows += 1;
            continue;
        }
        let Some(end) = memchr::memchr(b'\n', window.lines()).map(|end| end + 1).or_else(|| rest(&window)) else {
            match window.ended() {
                true => break,
                false => window.fill()?,
            }
            continue;
        };
        let line = window.lines()[..end].trim_ascii();
        if !line.is_empty() {
            keys.learn(line);
        }
        window.consume(end);
    }
    keys.found()
}

fn json(window: Window, options: &InspectOptions) -> Result<IndexMap<String, Inferred>> {
    let mut documents = Documents::new(window);
    let mut keys = Keys::new(options);
    while keys.rows < options.rows {
        match documents.find(1)?.first() {
            Some(object) => {
                keys.learn(documents.text(object));
                documents.consume(object.end);
            }
            None if documents.pass_long(0, &mut Rows::default())?.is_some() => keys.rows += 1,
            None => break,
        }
    }
    keys.found()
}

/// The keys of JSON objects.
struct Keys<'a> {
    all: Inferred,
    rows: usize,
    moments: &'a Moments,
}

impl<'a> Keys<'a> {
    fn new(options: &'a InspectOptions) -> Self {
        Self { all: Inferred::Struct(IndexMap::new()), rows: 0, moments: &options.moments }
    }

    /// Lets a document count for the kinds of its keys, unless the reader would refuse it.
    fn learn(&mut self, text: &[u8]) {
        self.rows += 1;
        let Ok(text) = std::str::from_utf8(text) else { return };
        if let Ok(row @ Inferred::Struct(_)) = Inferred::of_json(text, self.moments) {
            self.all = std::mem::take(&mut self.all).and(row);
        }
    }

    fn found(self) -> Result<IndexMap<String, Inferred>> {
        match self.all {
            Inferred::Struct(kinds) if kinds.len() > MAX_KEYS => Err(Error::new(format!(
                "its first {} rows have {} different keys, more than {MAX_KEYS} columns; declare those that are wanted",
                self.rows,
                kinds.len()
            ))),
            Inferred::Struct(kinds) => Ok(kinds),
            _ => Ok(IndexMap::new()),
        }
    }
}

/// The length of a last line without a line break.
fn rest(window: &Window) -> Option<usize> {
    let length = window.lines().len();
    (window.ended() && length > 0).then_some(length)
}
