//! Messages that are records of CSV.

use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use millstream_core::{Columns, PlanContext, Problem, Result};

use super::split::{Cells, Split, Splitter};
use super::{CsvFormat, CsvOptions, FORMAT};
use crate::messages::{MakeReader, MessageFormat, MessageReader, NO_VALUE, always};
use crate::read::{Decoder, ReadFormat, Reading};
use crate::text::Moments;
use crate::window::MAX_ROW_BYTES;
use crate::{BadRow, Rows, TextEncoding};

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
        let (options, moments) = (self.options.clone(), self.moments.clone());
        let splitter = Splitter {
            delimiter: options.delimiter,
            comment: None,
            limit: options.max_field,
            blank_is_record: columns.0.len() == 1,
        };
        let format = CsvFormat { options, encoding: TextEncoding::Utf8, moments };
        let decoder = ReadFormat::new(&FORMAT, Reading::Stream(Arc::new(format))).decoder(columns.clone(), context);
        Box::new(MessageRecords { splitter, schema: decoder.schema(), decoder, cells: Cells::default() })
    }
}

/// Reads messages as the lines of one text.
struct MessageRecords {
    splitter: Splitter,
    decoder: Decoder,
    schema: SchemaRef,
    cells: Cells,
}

impl MessageRecords {
    /// The record that a message is, or why it is none: so no message has a part in the record of another.
    fn record<'a>(&mut self, message: &'a [u8]) -> Result<&'a [u8], String> {
        // Whichever message comes first in the text, none keeps its byte order mark.
        let text = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let record = line.strip_suffix(b"\r").unwrap_or(line);
        self.cells.truncate(0);
        if record.is_empty() {
            let no_record = || "the message has no record".to_owned();
            return self.splitter.blank_is_record.then_some(record).ok_or_else(no_record);
        }
        if record.len() >= MAX_ROW_BYTES {
            return Err(format!("the row is longer than {MAX_ROW_BYTES} bytes"));
        }
        match self.splitter.split(record, 0, true, &mut self.cells) {
            Split::Record(length) if length == record.len() => Ok(record),
            Split::Record(_) => Err("the message has more than one record".to_owned()),
            Split::Broken(_, why) => Err(why),
            Split::Nothing(_) | Split::Incomplete => Err("the message has no record".to_owned()),
        }
    }
}

impl MessageReader for MessageRecords {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], out: &mut Rows) -> Result<()> {
        let (mut text, mut positions, mut read) = (Vec::new(), Vec::new(), Rows::default());
        for (position, message) in (0..).zip(messages) {
            match message.ok_or_else(|| NO_VALUE.to_owned()).and_then(|message| self.record(message)) {
                Ok(record) => {
                    text.extend_from_slice(record);
                    text.push(b'\n');
                    positions.push(position);
                }
                Err(why) => out.failed.push(BadRow::new(position, why, message.unwrap_or_default())),
            }
        }
        let mut reader = self.decoder.read(Cursor::new(text))?;
        while reader.next(&mut read)? {}
        debug_assert_eq!(read.len(), positions.len(), "a message is a record");
        // Each record is a line, so that the numbers of lines say nothing.
        let moved = |row: BadRow| BadRow { position: positions[row.position as usize], line: None, ..row };
        out.failed.extend(read.failed.into_iter().map(moved));
        for (start, rows) in read.batches {
            let places = &positions[start as usize..start as usize + rows.num_rows()];
            out.push_stretches(&rows, places, &Default::default());
        }
        out.failed.sort_by_key(|row| row.position);
        Ok(())
    }
}
