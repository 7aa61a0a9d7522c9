//! CSV: RFC 4180, with any single-byte delimiter.
//!
//! Records are split with csv-core, so that a record with too few or too many cells costs only itself; cells are
//! decoded column by column.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use csv_core::ReadRecordResult;
use millstream_core::{ColumnType, Columns, Error, Result, ResultExt, known_names};

use crate::read::{BatchReader, Mark};
use crate::text::{TextColumn, Timezone};
use crate::window::{MAX_BATCH_BYTES, Window, decompress};
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
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            header_required: false,
            column_required: false,
            delimiter: b',',
            null_values: vec![String::new()],
        }
    }
}

impl CsvOptions {
    pub(crate) fn is_null(&self, cell: &str) -> bool {
        self.null_values.iter().any(|null| null == cell)
    }
}

/// The names in the first record of a file, or `None` if the file is empty.
pub fn csv_header(path: &Path, compression: Option<Compression>, delimiter: u8) -> Result<Option<Vec<String>>> {
    let file = std::fs::File::open(path)?;
    Records::new(Window::new(decompress(file, compression)?, Pace::Full), delimiter).header()
}

/// Checks that a file has every column that may not be null. An empty file may lack its header, too. Returns whether
/// there is one.
pub fn check_header(path: &Path, compression: Option<Compression>, delimiter: u8, columns: &Columns) -> Result<bool> {
    match csv_header(path, compression, delimiter)? {
        Some(names) => require_columns(&names, columns).map(|()| true),
        None => Ok(false),
    }
}

/// Splits bytes into records, and keeps those of a batch.
pub(crate) struct Records {
    window: Window,
    splitter: csv_core::Reader,
    /// How many bytes of the window the splitter has seen.
    seen: usize,
    /// The cells of the kept records without their quotes, one behind the other. May be longer than what is used.
    cells: Vec<u8>,
    cells_used: usize,
    /// Where each cell ends. May be longer than what is used.
    ends: Vec<usize>,
    ends_used: usize,
}

impl Records {
    pub(crate) fn new(window: Window, delimiter: u8) -> Self {
        let splitter = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { window, splitter, seen: 0, cells: Vec::new(), cells_used: 0, ends: Vec::new(), ends_used: 0 }
    }

    /// Takes the first record as names.
    pub(crate) fn header(&mut self) -> Result<Option<Vec<String>>> {
        if self.next()?.is_none() {
            return Ok(None);
        }
        let cells = (0..self.ends_used).map(|index| String::from_utf8(self.cell_bytes(index).to_vec()));
        let names = cells.collect::<Result<Vec<_>, _>>().doing(|| "reading the header")?;
        self.clear();
        match repeated(&names) {
            Some(name) => Err(Error::new(format!("the header has the name `{name}` twice"))),
            None => Ok(Some(names)),
        }
    }

    /// Splits off one more record. Returns where its text is in the window, or `None` at the end, and where it is not
    /// whole yet.
    pub(crate) fn next(&mut self) -> Result<Option<Range<usize>>> {
        let (start, cells_start, ends_start) = (self.seen, self.cells_used, self.ends_used);
        loop {
            if self.seen == self.window.bytes().len() && !self.window.ended() {
                self.window.fill()?;
                if self.window.dry() && !self.window.ended() {
                    (self.seen, self.cells_used, self.ends_used) = (start, cells_start, ends_start);
                    self.splitter.reset();
                    return Ok(None);
                }
                continue;
            }
            let (result, read, written, ends) = self.splitter.read_record(
                &self.window.bytes()[self.seen..],
                &mut self.cells[self.cells_used..],
                &mut self.ends[self.ends_used..],
            );
            self.seen += read;
            self.cells_used += written;
            self.ends_used += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.cells.resize(2 * self.cells.len().max(1024), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len().max(256), 0),
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record => {
                    self.ends[ends_start..self.ends_used].iter_mut().for_each(|end| *end += cells_start);
                    return Ok(Some(start..self.seen));
                }
            }
        }
    }

    /// Whether the next record would have to be waited for, although rows could be handed out.
    fn would_wait(&self) -> bool {
        self.window.eager() && !self.window.ended() && self.seen >= self.window.lines().len()
    }

    /// The text of a record, without the line breaks around it.
    fn text(&self, record: &Range<usize>) -> &[u8] {
        let text = &self.window.bytes()[record.clone()];
        let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let start = text.iter().position(|byte| !is_break(byte)).unwrap_or(text.len());
        let end = text.iter().rposition(|byte| !is_break(byte)).map_or(start, |last| last + 1);
        &text[start..end]
    }

    /// The place of cell number `index` of the kept records.
    fn cell(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    pub(crate) fn cell_bytes(&self, index: usize) -> &[u8] {
        &self.cells[self.cell(index)]
    }

    /// How many cells are kept.
    pub(crate) fn len(&self) -> usize {
        self.ends_used
    }

    /// Forgets the kept cells from number `len` on.
    fn truncate(&mut self, len: usize) {
        self.ends_used = len;
        self.cells_used = if len == 0 { 0 } else { self.ends[len - 1] };
    }

    /// Forgets all that was kept, and its text.
    pub(crate) fn clear(&mut self) {
        self.truncate(0);
        self.window.consume(self.seen);
        self.seen = 0;
    }
}

fn repeated(names: &[String]) -> Option<&String> {
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
        let mut records = Records::new(window, options.delimiter);
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
            if self.position > 0 && self.positions.len() + out.failed.len() > 0 && self.records.would_wait() {
                return Ok(());
            }
            let kept = self.records.len();
            let Some(place) = self.records.next()? else { return Ok(()) };
            let width = self.records.len() - kept;
            if width == self.width {
                self.positions.push(self.position);
                self.places.push(place);
            } else {
                let error = format!("expected {} cells instead of {width}", self.width);
                out.failed.push(BadRow::new(self.position, error, self.records.text(&place)));
                self.records.truncate(kept);
            }
            self.position += 1;
        }
        Ok(())
    }

    /// Refuses records that are no text, and puts question marks in their place.
    fn refuse_non_text(&mut self, bad: &mut BTreeMap<usize, String>) {
        let Records { cells, cells_used, ends, ends_used, .. } = &mut self.records;
        let (cells, ends) = (&mut cells[..*cells_used], &ends[..*ends_used]);
        if cells.is_ascii() {
            return;
        }
        let mut start = 0;
        for (row, record) in ends.chunks(self.width.max(1)).enumerate() {
            let (record_start, mut is_text) = (start, true);
            for end in record {
                is_text &= std::str::from_utf8(&cells[start..*end]).is_ok();
                start = *end;
            }
            if !is_text {
                bad.insert(row, "the row is no valid UTF-8".to_owned());
                cells[record_start..start].fill(b'?');
            }
        }
    }

    fn decode(&self, column: &Column, text: &str, bad: &mut BTreeMap<usize, String>) -> ArrayRef {
        let rows = self.positions.len();
        let name = &column.name;
        let Some(cell) = column.cell else { return new_null_array(self.field_type(name), rows) };
        let cells = (0..rows).map(|row| {
            let cell = &text[self.records.cell(row * self.width + cell)];
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
        self.refuse_non_text(&mut bad);
        let text = std::str::from_utf8(&self.records.cells[..self.records.cells_used]).doing(|| "reading CSV")?;
        let arrays: Vec<_> = self.columns.iter().map(|column| self.decode(column, text, &mut bad)).collect();
        for (row, error) in &bad {
            let text = self.records.text(&self.places[*row]);
            out.failed.push(BadRow::new(self.positions[*row], error, text));
        }
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
        out.failed.sort_by_key(|row| row.position);
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
