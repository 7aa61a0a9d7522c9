//! Messages that are records of CSV.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, PlanContext, Problem, Result};

use super::CsvOptions;
use super::reader::{Form, SplitRecords};
use super::split::{Cells, Split, Splitter};
use crate::messages::{MakeReader, MessageFormat, MessageReader, NO_VALUE, always};
use crate::read::wanted;
use crate::spare::Spare;
use crate::text::Moments;
use crate::window::{MAX_BATCH_BYTES, MAX_ROW_BYTES};
use crate::{BadRow, Rows};

/// Records of CSV to read from messages.
#[derive(Debug)]
pub(super) struct CsvMessages {
    pub options: CsvOptions,
    pub moments: Moments,
}

impl MessageFormat for CsvMessages {
    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        crate::columns::refuse_nested(&columns.schema(), "CSV")
    }

    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem> {
        Ok(always(self, columns, context, Self::open))
    }
}

impl CsvMessages {
    /// Reads messages that are rows of these columns.
    fn open(&self, columns: &Columns, context: &PlanContext) -> Box<dyn MessageReader> {
        let names: Vec<_> = columns.0.iter().map(|(name, _)| name.clone()).collect();
        let splitter = Splitter {
            delimiter: self.options.delimiter,
            comment: None,
            limit: self.options.max_field,
            blank_is_record: names.len() == 1,
        };
        let wanted = wanted(columns, context.columns.as_ref());
        let form = Form::new(&names, &wanted, &self.moments, self.options.clone(), context.batch_rows);
        Box::new(MessageRecords {
            splitter,
            form: form.into(),
            records: SplitRecords::default(),
            spare: Spare::default(),
        })
    }
}

/// Reads messages as the lines of one text.
struct MessageRecords {
    splitter: Splitter,
    form: Arc<Form>,
    /// The records that are not decoded yet.
    records: SplitRecords,
    spare: Spare,
}

impl MessageRecords {
    /// Takes the record that a message is, or says why it is none, with what is to be shown of it: so no message has a part in the record of another.
    fn push<'a>(&mut self, message: &'a [u8], position: u64) -> Result<(), (String, &'a [u8])> {
        // Whichever message comes first in the text, none keeps its byte order mark.
        let text = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let record = line.strip_suffix(b"\r").unwrap_or(line);
        let refused = |why: &str| Err((why.to_owned(), message));
        if record.is_empty() && !self.splitter.blank_is_record {
            return refused("the message has no record");
        }
        if record.len() >= MAX_ROW_BYTES {
            return refused(&format!("the row is longer than {MAX_ROW_BYTES} bytes"));
        }
        let SplitRecords { text, cells, positions, places } = &mut self.records;
        let (start, before) = (text.len(), cells.len());
        text.extend_from_slice(record);
        text.push(b'\n');
        let why = match self.splitter.split(text, start, true, cells) {
            Split::Record(length) if length == text.len() - start => {
                let Some(why) = self.form.misfit(cells.len() - before, || record) else {
                    positions.push(position);
                    places.push(start..text.len());
                    return Ok(());
                };
                (why, record)
            }
            Split::Record(_) => ("the message has more than one record".to_owned(), message),
            Split::Broken(_, why) => (why, message),
            Split::Nothing(_) | Split::Incomplete => ("the message has no record".to_owned(), message),
        };
        text.truncate(start);
        cells.truncate(before);
        Err(why)
    }

    fn is_full(&self) -> bool {
        self.records.positions.len() >= self.form.batch_rows() || self.records.text.len() > MAX_BATCH_BYTES
    }

    /// Decodes the records that were taken.
    fn flush(&mut self, out: &mut Rows) -> Result<()> {
        if self.records.positions.is_empty() {
            return Ok(());
        }
        // Those that come next are likely to be as many.
        let next = SplitRecords {
            text: self.spare.take(),
            cells: Cells::with_room(self.records.cells.len()),
            positions: Vec::with_capacity(self.records.positions.len()),
            places: Vec::with_capacity(self.records.places.len()),
        };
        let records = std::mem::replace(&mut self.records, next);
        let mut decoded = Rows::default();
        self.form.clone().decode(records, &mut decoded)?;
        out.batches.append(&mut decoded.batches);
        // Each record is a line, so that the numbers of lines say nothing.
        out.failed.extend(decoded.failed.into_iter().map(|row| BadRow { line: None, ..row }));
        Ok(())
    }
}

impl MessageReader for MessageRecords {
    fn schema(&self) -> &SchemaRef {
        self.form.schema()
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], out: &mut Rows) -> Result<()> {
        for (position, message) in (0..).zip(messages) {
            let taken = message.ok_or((NO_VALUE.to_owned(), &[][..])).and_then(|message| self.push(message, position));
            out.failed.extend(taken.err().map(|(why, shown)| BadRow::new(position, why, shown)));
            if self.is_full() {
                self.flush(out)?;
            }
        }
        self.flush(out)?;
        out.failed.sort_by_key(|row| row.position);
        Ok(())
    }
}
