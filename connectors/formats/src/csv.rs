//! CSV: RFC 4180, with any single-byte delimiter.
//!
//! A record that can't be split, or has too few or too many cells, costs only itself; cells are
//! decoded column by column.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use millstream_core::{ColumnType, Columns, Error, Result, ResultExt, known_names};

use crate::read::{BatchReader, Mark};
use crate::rows::NO_TEXT;
use crate::split::{CellLimit, Cells, Split, Splitter};
use crate::text::{TextColumn, Timezone};
use crate::window::{MAX_BATCH_BYTES, MAX_ROW_BYTES, Window, decompress};
use crate::{BadRow, Compression, Pace, Rows};

/// How a CSV source is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether the first record holds the names of the columns.
    pub header: bool,
    /// Whether that record must be there: the source is known not to be empty.
    pub header_required: bool,
    /// Whether it must have one of the columns at least, so that a first row is not taken for it. Otherwise all of them may be
    /// missing that may be null.
    pub column_required: bool,
    /// What separates cells.
    pub delimiter: u8,
    /// The cells that stand for null.
    pub null_values: Vec<String>,
    /// How much a cell in quotes may hold.
    pub max_cell: CellLimit,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            header_required: false,
            column_required: false,
            delimiter: b',',
            null_values: vec![String::new()],
            max_cell: CellLimit::default(),
        }
    }
}

impl CsvOptions {
    pub(crate) fn is_null(&self, cell: &str) -> bool {
        self.null_values.iter().any(|null| null == cell)
    }
}

/// The names in the first record of a file, or `None` if the file is empty.
pub fn csv_header(path: &Path, compression: Option<Compression>, options: &CsvOptions) -> Result<Option<Vec<String>>> {
    let file = std::fs::File::open(path)?;
    Records::new(Window::new(decompress(file, compression)?, Pace::Full), options).header()
}

/// Checks that a file has every column that may not be null. An empty file may lack its header, too. Returns whether
/// there is one.
pub fn check_header(
    path: &Path,
    compression: Option<Compression>,
    options: &CsvOptions,
    columns: &Columns,
) -> Result<bool> {
    match csv_header(path, compression, options)? {
        Some(names) => require_columns(&names, columns).map(|()| true),
        None => Ok(false),
    }
}

/// Splits bytes into records, and keeps those of a batch.
pub(crate) struct Records {
    window: Window,
    splitter: Splitter,
    /// How many bytes of the window are split.
    seen: usize,
    /// How many bytes the window had when the next record was not whole in it.
    tried: usize,
    cells: Cells,
}

/// What was split off: where its text is in the window.
pub(crate) enum Piece {
    /// A record, whose cells are kept.
    Record(Range<usize>),
    /// A record that can't be split, and why.
    Broken(Range<usize>, String),
    /// Something that is too long. It is left in the window.
    TooLong,
}

impl Records {
    pub(crate) fn new(window: Window, options: &CsvOptions) -> Self {
        let splitter = Splitter { delimiter: options.delimiter, limit: options.max_cell, blank_is_record: false };
        Self { window, splitter, seen: 0, tried: 0, cells: Cells::default() }
    }

    /// Takes the first record as names.
    pub(crate) fn header(&mut self) -> Result<Option<Vec<String>>> {
        match self.next(true)? {
            None => return Ok(None),
            Some(Piece::Record(_)) => {}
            Some(Piece::Broken(_, why)) => return Err(Error::new(format!("the header can't be read: {why}"))),
            Some(Piece::TooLong) => return Err(Error::new("the header can't be read: it is too long")),
        }
        let cells = (0..self.len()).map(|index| String::from_utf8(self.cell_bytes(index).to_vec()));
        let names = cells.collect::<Result<Vec<_>, _>>().doing(|| "reading the header")?;
        self.clear();
        match repeated(&names) {
            Some(name) => Err(Error::new(format!("the header has the name `{name}` twice"))),
            None => Ok(Some(names)),
        }
    }

    /// Says how many cells a record has. If it is one, a blank line is a record, too: that is how others write null.
    pub(crate) fn set_width(&mut self, width: usize) {
        self.splitter.blank_is_record = width == 1;
    }

    /// Splits off what comes next. `None` at the end; where it is not whole yet; and where it would have to be waited for,
    /// unless that `may_wait`.
    pub(crate) fn next(&mut self, may_wait: bool) -> Result<Option<Piece>> {
        loop {
            if self.window.is_passing() {
                return Ok(Some(Piece::TooLong));
            }
            if self.is_worth_a_try() {
                let (text, start, ended) = (self.window.bytes(), self.seen, self.window.ended());
                let kept = self.cells.len();
                match self.splitter.split(text, start, ended, &mut self.cells) {
                    Split::Record(length) | Split::Broken(length, _) | Split::Nothing(length)
                        if length > MAX_ROW_BYTES =>
                    {
                        self.cells.truncate(kept);
                        return Ok(Some(Piece::TooLong));
                    }
                    Split::Record(length) => return Ok(Some(Piece::Record(self.pass(length)))),
                    Split::Broken(length, why) => return Ok(Some(Piece::Broken(self.pass(length), why))),
                    Split::Nothing(length) => drop(self.pass(length)),
                    Split::Incomplete => self.tried = text.len(),
                }
                continue;
            }
            if self.window.is_too_long(self.seen) {
                return Ok(Some(Piece::TooLong));
            }
            if self.window.ended() || (self.window.eager() && !may_wait) {
                return Ok(None);
            }
            self.window.fill()?;
            if self.window.dry() && !self.window.ended() {
                return Ok(None);
            }
        }
    }

    /// Whether a record may be whole. One that was not before is split again when a line has ended since, or its text has
    /// doubled: not with every byte that comes.
    fn is_worth_a_try(&self) -> bool {
        let length = self.window.bytes().len();
        let has_more = self.window.lines().len() > self.tried || length - self.seen >= 2 * (self.tried - self.seen);
        length > self.seen && (self.window.ended() || length > self.tried && has_more)
    }

    /// Passes over a line that is too long, see [`Window::pass_line`]. Nothing must be kept.
    pub(crate) fn pass_line(&mut self, position: u64, out: &mut Rows) -> Result<bool> {
        self.tried = 0;
        self.window.pass_line(position, out)
    }

    fn pass(&mut self, length: usize) -> Range<usize> {
        let start = self.seen;
        self.seen += length;
        self.tried = self.seen;
        start..self.seen
    }

    /// The text of a record, without the line break at its end.
    fn text(&self, record: &Range<usize>) -> &[u8] {
        let text = &self.window.bytes()[record.clone()];
        let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        &text[..end]
    }

    /// The text of all records.
    fn all_text(&self) -> &[u8] {
        &self.window.bytes()[..self.seen]
    }

    pub(crate) fn cell_bytes(&self, index: usize) -> &[u8] {
        self.cells.get(index, self.all_text())
    }

    /// How many cells are kept.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Forgets all that was kept, and its text.
    pub(crate) fn clear(&mut self) {
        self.cells.truncate(0);
        self.window.consume(self.seen);
        self.tried -= self.seen;
        self.seen = 0;
    }
}

/// The first name that was there before.
pub(crate) fn repeated(names: &[String]) -> Option<&String> {
    let mut seen = std::collections::BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

/// The names of columns without a header.
pub(crate) fn numbered(index: usize) -> String {
    format!("column_{}", index + 1)
}

/// Reads CSV. Records with another number of cells than the header are refused.
pub(crate) struct CsvReader {
    records: Records,
    /// How many cells a record has.
    width: usize,
    columns: Vec<Column>,
    schema: SchemaRef,
    options: CsvOptions,
    batch_rows: usize,
    position: u64,
    /// Of the batch's records: their positions and their texts.
    positions: Vec<u64>,
    places: Vec<Range<usize>>,
}

struct Column {
    name: String,
    nullable: bool,
    /// Which cell of a record it is; `None` if the file does not have it.
    cell: Option<usize>,
    text: TextColumn,
}

impl CsvReader {
    /// Reads the columns `wanted` out of `all` that the source has.
    pub(crate) fn new(
        window: Window,
        all: &Columns,
        wanted: &Columns,
        timezone: Option<Timezone>,
        batch_rows: usize,
        options: CsvOptions,
    ) -> Result<Self> {
        let mut records = Records::new(window, &options);
        let declared = || all.0.iter().map(|(name, _)| name.clone()).collect();
        let header = if options.header { records.header()? } else { None };
        if options.header && options.header_required && header.is_none() {
            return Err(Error::new("the header is gone; was the file emptied since it was checked?"));
        }
        if let Some(names) = header.as_ref().filter(|_| options.column_required) {
            require_any_column(names, all)?;
        }
        let names = header.unwrap_or_else(declared);
        require_columns(&names, all)?;
        records.set_width(names.len());
        let column = |(name, ColumnType { data_type, nullable, unit }): &(String, ColumnType)| Column {
            name: name.clone(),
            nullable: *nullable,
            cell: names.iter().position(|known| known == name),
            text: TextColumn::new(data_type.clone(), *unit, timezone),
        };
        Ok(Self {
            records,
            width: names.len(),
            columns: wanted.0.iter().map(column).collect(),
            schema: wanted.schema(),
            options,
            batch_rows,
            position: 0,
            positions: Vec::new(),
            places: Vec::new(),
        })
    }

    /// Splits off a batch's worth of records. Those with a wrong number of cells are refused at once.
    fn split(&mut self, out: &mut Rows) -> Result<()> {
        while self.positions.len() + out.failed.len() < self.batch_rows && self.records.seen < MAX_BATCH_BYTES {
            let kept = self.records.len();
            let is_empty = self.positions.len() + out.failed.len() == 0;
            let (place, error) = match self.records.next(is_empty)? {
                None => return Ok(()),
                // What lies before it is handed out first.
                Some(Piece::TooLong) if self.records.seen > 0 => return Ok(()),
                Some(Piece::TooLong) if self.records.pass_line(self.position, out)? => {
                    self.position += 1;
                    continue;
                }
                Some(Piece::TooLong) => return Ok(()),
                Some(Piece::Broken(place, why)) => (place, why),
                Some(Piece::Record(place)) => match self.records.len() - kept {
                    width if width == self.width => {
                        self.positions.push(self.position);
                        self.places.push(place);
                        self.position += 1;
                        continue;
                    }
                    width => (place, format!("expected {} cells instead of {width}", self.width)),
                },
            };
            out.failed.push(BadRow::new(self.position, error, self.records.text(&place)));
            self.records.cells.truncate(kept);
            self.position += 1;
        }
        Ok(())
    }

    /// Refuses records that are no text.
    fn refuse_non_text(&mut self, out: &mut Rows) {
        let is_text = |place| std::str::from_utf8(self.records.text(place)).is_ok();
        let is_kept: Vec<bool> = self.places.iter().map(is_text).collect();
        for row in (0..is_kept.len()).filter(|row| !is_kept[*row]) {
            let text = self.records.text(&self.places[row]);
            out.failed.push(BadRow::new(self.positions[row], NO_TEXT, text));
        }
        self.records.cells.retain(self.width, &is_kept);
        let mut kept = is_kept.iter();
        self.positions.retain(|_| kept.next().is_some_and(|kept| *kept));
        let mut kept = is_kept.iter();
        self.places.retain(|_| kept.next().is_some_and(|kept| *kept));
    }

    /// The values of the columns. There is no text of the records where some of them were no text.
    fn decode_all(&self, text: Option<&str>, bad: &mut BTreeMap<usize, String>) -> Vec<ArrayRef> {
        self.columns.iter().map(|column| self.decode(column, text, bad)).collect()
    }

    fn decode(&self, column: &Column, text: Option<&str>, bad: &mut BTreeMap<usize, String>) -> ArrayRef {
        let rows = self.positions.len();
        let name = &column.name;
        let Some(cell) = column.cell else { return new_null_array(self.field_type(name), rows) };
        let cells = (0..rows).map(|row| {
            let index = row * self.width + cell;
            let cell = match text {
                Some(text) => self.records.cells.get_text(index, text),
                None => std::str::from_utf8(self.records.cell_bytes(index)).unwrap_or_default(),
            };
            (!self.options.is_null(cell)).then_some(cell)
        });
        let mut refuse = |row, cell: &str| {
            bad.entry(row).or_insert_with(|| format!("column `{name}`: {}", column.text.complaint(cell)));
        };
        let array = column.text.decode(cells, rows, &mut refuse);
        if !column.nullable && array.null_count() > 0 {
            for row in (0..rows).filter(|row| array.is_null(*row)) {
                bad.entry(row).or_insert_with(|| format!("column `{name}` is null"));
            }
        }
        array
    }

    fn field_type(&self, name: &str) -> &arrow::datatypes::DataType {
        self.schema.field_with_name(name).map_or(&arrow::datatypes::DataType::Null, |field| field.data_type())
    }

    /// The records of the batch as columns, cut where a row is missing.
    fn finish_batch(&mut self, out: &mut Rows) -> Result<()> {
        let mut bad = BTreeMap::new();
        let text = std::str::from_utf8(self.records.all_text());
        let arrays = match text.map(|text| self.decode_all(Some(text), &mut bad)) {
            Ok(arrays) => arrays,
            Err(_) => {
                self.refuse_non_text(out);
                self.decode_all(None, &mut bad)
            }
        };
        for (row, error) in &bad {
            let text = self.records.text(&self.places[*row]);
            out.failed.push(BadRow::new(self.positions[*row], error, text));
        }
        out.failed.sort_by_key(|row| row.position);
        let options = RecordBatchOptions::new().with_row_count(Some(self.positions.len()));
        if bad.is_empty() {
            let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
            out.push_stretches(&rows, &self.positions, &bad);
            return Ok(());
        }
        // Bad rows are null for now, also in columns that must not be.
        let nullable = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let nullable = Arc::new(arrow::datatypes::Schema::new(nullable.collect::<Vec<_>>()));
        let rows = RecordBatch::try_new_with_options(nullable, arrays, &options)?;
        out.push_stretches(&rows, &self.positions, &bad);
        for (_, rows) in &mut out.batches {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
            *rows = RecordBatch::try_new_with_options(self.schema.clone(), rows.columns().to_vec(), &options)?;
        }
        Ok(())
    }
}

impl BatchReader for CsvReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        let mut batch = Rows::default();
        let before = self.position;
        self.split(&mut batch)?;
        self.finish_batch(&mut batch)?;
        self.positions.clear();
        self.places.clear();
        self.records.clear();
        out.batches.append(&mut batch.batches);
        out.failed.append(&mut batch.failed);
        Ok(self.position > before)
    }

    fn mark(&self) -> Mark {
        Mark { position: self.position, offset: self.records.window.offset() }
    }

    fn go_to(&mut self, mark: Mark) -> Result<()> {
        self.position = mark.position;
        self.records.tried = 0;
        self.records.window.go_to(mark.offset)
    }

    fn end(&mut self) {
        self.records.window.end();
    }
}

/// A column that may not be null has to be there.
fn require_columns(names: &[String], columns: &Columns) -> Result<()> {
    let missing = columns.0.iter().find(|(name, column)| !column.nullable && !names.contains(name));
    match missing {
        None => Ok(()),
        Some((name, _)) => {
            let known = known_names(name, names.iter().map(String::as_str));
            Err(Error::new(format!("there is no column `{name}` in the header; {known}")))
        }
    }
}

/// One of the columns has to be there.
fn require_any_column(names: &[String], columns: &Columns) -> Result<()> {
    if columns.0.iter().any(|(name, _)| names.contains(name)) {
        return Ok(());
    }
    let names: Vec<_> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
    Err(Error::new(format!("none of the columns is in the header, which has {}", names.join(", "))))
}
