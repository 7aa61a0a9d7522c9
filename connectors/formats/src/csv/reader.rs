//! Reads CSV: RFC 4180, with any single-byte delimiter.
//!
//! A record that can't be split, or has too few or too many cells, costs only itself; cells are
//! decoded column by column.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::datatypes::SchemaRef;
use millstream_core::{ColumnType, Columns, Error, Result};

use super::CsvOptions;
use super::header::{not_a_header, other_delimiter, require_any_column, require_columns};
use super::records::{Piece, Records};
use super::split::Cells;
use crate::lines::LineCount;
use crate::part::read_all;
use crate::read::{Decoder, Names};
use crate::reader::{BatchReader, ReaderPosition};
use crate::rows::NO_TEXT;
use crate::spare::SpareText;
use crate::text::{Moments, TextColumn, exchanged};
use crate::window::{MAX_BATCH_BYTES, Window};
use crate::{BadRow, Part, Rows};

/// Reads CSV. Records with another number of cells than the header are rejected.
pub(super) struct CsvReader {
    records: Records,
    form: Arc<Form>,
    position: u64,
    /// The positions of the batch's records, and where their texts are.
    positions: Vec<u64>,
    places: Vec<Range<usize>>,
    /// Where the rejected ones begin, by position.
    bad_starts: BTreeMap<u64, usize>,
}

/// A source's columns, and how its records are decoded to them; all parts of the source share it.
pub(super) struct Form {
    /// How many cells a record has.
    width: usize,
    /// What may be wrong with the header, where records are wider.
    advice: Option<&'static str>,
    columns: Vec<Column>,
    schema: SchemaRef,
    options: CsvOptions,
    batch_rows: usize,
}

struct Column {
    name: String,
    nullable: bool,
    /// Which cell of a record it is; `None` if the file does not have it.
    cell: Option<usize>,
    text: TextColumn,
}

impl Form {
    /// For records that have cells of these names.
    pub(super) fn new(
        names: &[String],
        wanted: &Columns,
        moments: &Moments,
        options: CsvOptions,
        batch_rows: usize,
    ) -> Self {
        let column = |(name, column): &(String, ColumnType)| Column {
            name: name.clone(),
            nullable: column.nullable,
            cell: names.iter().position(|known| known == name),
            text: TextColumn::new(column, moments),
        };
        Self {
            width: names.len(),
            advice: not_a_header(names, options.header),
            columns: wanted.0.iter().map(column).collect(),
            schema: wanted.schema(),
            options,
            batch_rows,
        }
    }

    /// The columns of the batches.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows a batch has at most.
    pub(super) fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    /// Why a record has not the cells that it should have, if it hasn't.
    pub(super) fn misfit<'a>(&self, width: usize, record: impl FnOnce() -> &'a [u8]) -> Option<String> {
        if width == self.width {
            return None;
        }
        let other = other_delimiter(record(), self.width, self.options.delimiter);
        let advice = self.advice.unwrap_or_default();
        Some(format!("expected {} fields instead of {width}{other}{advice}", self.width))
    }

    /// Decodes records that were split before, each of which has the cells that it should have.
    pub(super) fn decode(self: Arc<Self>, records: SplitRecords, out: &mut Rows) -> Result<()> {
        let SplitRecords { text, cells, positions, places } = records;
        let mut split = Records::behind_skipped(Window::whole(text, LineCount::default()), &self.options);
        (split.seen, split.cells) = (split.window.bytes().len(), cells);
        CsvReader { positions, places, ..CsvReader::at(0, split, self) }.finish_batch(out)
    }
}

/// Records that have been split: the text that they are in, their cells, and for each its position, and where it is in the text.
#[derive(Default)]
pub(super) struct SplitRecords {
    pub text: SpareText,
    pub cells: Cells,
    pub positions: Vec<u64>,
    pub places: Vec<Range<usize>>,
}

impl CsvReader {
    /// Reads the columns that are wanted of those that the source has.
    pub(super) fn new(window: Window, decoder: &Decoder, moments: &Moments, options: CsvOptions) -> Result<Self> {
        let (all, wanted) = (&decoder.columns, decoder.wanted_columns());
        let mut records = Records::new(window, &options);
        let declared = || all.0.iter().map(|(name, _)| name.clone()).collect();
        let header = if options.header { records.header()? } else { None };
        match (&header, decoder.names) {
            (None, Names::Header) if options.header => {
                return Err(Error::new("the header is gone; was the file emptied since it was checked?"));
            }
            (Some(names), Names::One) => require_any_column(names, all)?,
            (_, Names::Any | Names::Header | Names::One) => {}
        }
        let names = header.unwrap_or_else(declared);
        require_columns(&names, all, options.delimiter)?;
        Ok(Self::at(0, records, Form::new(&names, &wanted, moments, options, decoder.batch_rows).into()))
    }

    /// Reads records, the first of which has this position.
    fn at(position: u64, mut records: Records, form: Arc<Form>) -> Self {
        records.set_width(form.width);
        let (positions, places, bad_starts) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { records, form, position, positions, places, bad_starts }
    }

    /// Splits off a batch's worth of records. Those with a wrong number of cells are rejected at once.
    fn split(&mut self, out: &mut Rows) -> Result<()> {
        while self.positions.len() + out.failed.len() < self.form.batch_rows && self.records.seen < MAX_BATCH_BYTES {
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
                Some(Piece::Record(place)) => {
                    match self.form.misfit(self.records.len() - kept, || self.records.text(&place)) {
                        Some(why) => (place, why),
                        None => {
                            self.positions.push(self.position);
                            self.places.push(place);
                            self.position += 1;
                            continue;
                        }
                    }
                }
            };
            self.bad_starts.insert(self.position, place.start);
            out.failed.push(BadRow::new(self.position, error, self.records.text(&place)));
            self.records.cells.truncate(kept);
            self.position += 1;
        }
        Ok(())
    }

    /// Refuses records that are no text.
    fn reject_non_text(&mut self, out: &mut Rows) {
        let is_text = |place| std::str::from_utf8(self.records.text(place)).is_ok();
        let is_kept: Vec<bool> = self.places.iter().map(is_text).collect();
        for row in (0..is_kept.len()).filter(|row| !is_kept[*row]) {
            let text = self.records.text(&self.places[row]);
            out.failed.push(BadRow::new(self.positions[row], NO_TEXT, text));
            self.bad_starts.insert(self.positions[row], self.places[row].start);
        }
        self.records.cells.retain(self.form.width, &is_kept);
        let mut kept = is_kept.iter();
        self.positions.retain(|_| kept.next().is_some_and(|kept| *kept));
        let mut kept = is_kept.iter();
        self.places.retain(|_| kept.next().is_some_and(|kept| *kept));
    }

    /// The values of the columns. There is no text of the records where some of them were no text.
    fn decode_all(&self, text: Option<&str>, bad: &mut BTreeMap<usize, String>) -> Vec<ArrayRef> {
        self.form.columns.iter().map(|column| self.decode(column, text, bad)).collect()
    }

    fn decode(&self, column: &Column, text: Option<&str>, bad: &mut BTreeMap<usize, String>) -> ArrayRef {
        let rows = self.positions.len();
        let name = &column.name;
        let Some(cell) = column.cell else { return new_null_array(self.field_type(name), rows) };
        let cells = (0..rows).map(|row| {
            let index = row * self.form.width + cell;
            let cell = match text {
                Some(text) => self.records.cells.get_text(index, text),
                None => std::str::from_utf8(self.records.cell_bytes(index)).unwrap_or_default(),
            };
            (!self.form.options.is_null(cell)).then_some(cell)
        });
        let mut reject = |row, cell: &str| {
            bad.entry(row).or_insert_with(|| format!("column `{name}`: {}", column.text.complaint(cell)));
        };
        let array = match self.form.options.decimal_separator.filter(|_| column.text.has_point()) {
            None => column.text.decode(cells, rows, &mut reject),
            Some(separator) => {
                let cells: StringArray = cells.map(|cell| cell.map(|cell| exchanged(cell, separator))).collect();
                let mut reject = |row, cell: &str| reject(row, &exchanged(cell, separator));
                column.text.decode(cells.iter(), rows, &mut reject)
            }
        };
        if !column.nullable && array.null_count() > 0 {
            for row in (0..rows).filter(|row| array.is_null(*row)) {
                bad.entry(row).or_insert_with(|| format!("column `{name}` is null"));
            }
        }
        array
    }

    fn field_type(&self, name: &str) -> &arrow::datatypes::DataType {
        self.form.schema.field_with_name(name).map_or(&arrow::datatypes::DataType::Null, |field| field.data_type())
    }

    /// The records of the batch as columns, cut where a row is missing.
    fn finish_batch(&mut self, out: &mut Rows) -> Result<()> {
        let mut bad = BTreeMap::new();
        let text = std::str::from_utf8(self.records.all_text());
        let arrays = match text.map(|text| self.decode_all(Some(text), &mut bad)) {
            Ok(arrays) => arrays,
            Err(_) => {
                self.reject_non_text(out);
                self.decode_all(None, &mut bad)
            }
        };
        for (row, error) in &bad {
            let text = self.records.text(&self.places[*row]);
            out.failed.push(BadRow::new(self.positions[*row], error, text));
            self.bad_starts.insert(self.positions[*row], self.places[*row].start);
        }
        out.failed.sort_by_key(|row| row.position);
        let starts = std::mem::take(&mut self.bad_starts);
        self.records.window.number_lines(&mut out.failed, |position| starts.get(&position).copied().unwrap_or(0))?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.positions.len()));
        if bad.is_empty() {
            let rows = RecordBatch::try_new_with_options(self.form.schema.clone(), arrays, &options)?;
            out.push_stretches(&rows, &self.positions, &bad);
            return Ok(());
        }
        // Bad rows are null for now, also in columns that must not be.
        let nullable = self.form.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let nullable = Arc::new(arrow::datatypes::Schema::new(nullable.collect::<Vec<_>>()));
        let rows = RecordBatch::try_new_with_options(nullable, arrays, &options)?;
        out.push_stretches(&rows, &self.positions, &bad);
        for (_, rows) in &mut out.batches {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
            *rows = RecordBatch::try_new_with_options(self.form.schema.clone(), rows.columns().to_vec(), &options)?;
        }
        Ok(())
    }
}

impl BatchReader for CsvReader {
    fn schema(&self) -> &SchemaRef {
        &self.form.schema
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

    fn split_off(&mut self) -> Result<Option<Part>> {
        let before = self.position();
        let Some(rows) = self.records.split_off(self.form.batch_rows)? else { return Part::decoded(self) };
        self.position += rows.rows;
        let form = self.form.clone();
        let decode = move || {
            let records = Records::behind_skipped(Window::whole(rows.text, rows.lines), &form.options);
            read_all(Self::at(before.position, records, form))
        };
        Ok(Some(Part::new(before, self.position(), decode)))
    }

    fn position(&self) -> ReaderPosition {
        ReaderPosition { position: self.position, offset: self.records.window.offset() }
    }

    fn go_to(&mut self, start: ReaderPosition) -> Result<()> {
        self.position = start.position;
        self.records.go_to(start.offset)
    }

    fn end(&mut self) {
        self.records.window.end();
    }
}
