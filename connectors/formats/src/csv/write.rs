//! Writes CSV.

use std::sync::Arc;

use arrow::array::builder::StringBuilder;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::csv::WriterBuilder;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Schema, SchemaRef, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use millstream_core::{Problem, Result, write_date, write_time, write_timestamp};

use super::CsvOptions;
use super::records::Records;
use crate::columns::refuse_nested;
use crate::messages::{MessageWriter, MessageWriting, Payloads};
use crate::window::Window;
use crate::write::{Encoder, Header, Writing};

/// CSV to write.
#[derive(Clone, Debug)]
pub(super) struct CsvWriting {
    pub delimiter: u8,
    /// Whether the first line holds the names of the columns.
    pub header: bool,
}

impl Writing for CsvWriting {
    fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(CsvEncoder { options: self.clone(), schema: schema.clone() }))
    }

    fn check_columns(&self, schema: &Schema) -> Result<(), Problem> {
        refuse_nested(schema, "CSV")
    }

    fn header(&self, window: Window) -> Result<Header> {
        if !self.header {
            return Ok(Header::None);
        }
        let options = CsvOptions { delimiter: self.delimiter, ..CsvOptions::default() };
        Ok(Records::new(window, &options).header()?.map_or(Header::Missing, Header::Names))
    }
}

struct CsvEncoder {
    options: CsvWriting,
    schema: SchemaRef,
}

impl CsvEncoder {
    fn append(&self, rows: &RecordBatch, header: bool, out: &mut Vec<u8>) -> Result<()> {
        let writer = WriterBuilder::new().with_header(header).with_delimiter(self.options.delimiter);
        Ok(writer.build(out).write(&moments_as_text(rows)?)?)
    }
}

impl MessageWriting for CsvWriting {
    fn check_columns(&self, schema: &Schema) -> Result<(), Problem> {
        refuse_nested(schema, "CSV")
    }

    fn open(&self, schema: &SchemaRef) -> Result<Box<dyn MessageWriter>> {
        Ok(Box::new(CsvEncoder { options: self.clone(), schema: schema.clone() }))
    }
}

impl MessageWriter for CsvEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Payloads) -> Result<()> {
        // Within quotes, a line break is one of a field. A quote in a field is doubled.
        let mut is_quoted = false;
        let is_break = move |byte| {
            is_quoted ^= byte == b'"';
            byte == b'\n' && !is_quoted
        };
        out.push_lines(|bytes| self.append(rows, false, bytes), is_break)
    }
}

impl Encoder for CsvEncoder {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.options.header { self.append(&RecordBatch::new_empty(self.schema.clone()), true, out) } else { Ok(()) }
    }

    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.append(rows, false, out)
    }
}

/// The rows with texts for dates, times and timestamps. Arrow fails at those that chrono does not have.
fn moments_as_text(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<_> = rows.columns().iter().map(|column| moment_texts(column).unwrap_or(column.clone())).collect();
    let fields = rows.schema_ref().fields().iter().zip(&columns);
    let fields = fields.map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

fn moment_texts(array: &ArrayRef) -> Option<ArrayRef> {
    fn texts<T: ArrowPrimitiveType>(array: &ArrayRef, write: impl Fn(T::Native, &mut Vec<u8>)) -> ArrayRef {
        let mut text = Vec::new();
        let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 24);
        for value in array.as_primitive::<T>() {
            text.clear();
            texts.append_option(value.and_then(|value| {
                write(value, &mut text);
                std::str::from_utf8(&text).ok()
            }));
        }
        Arc::new(texts.finish())
    }
    match array.data_type() {
        DataType::Date32 => Some(texts::<Date32Type>(array, |days, out| write_date(days.into(), out))),
        DataType::Time64(TimeUnit::Microsecond) => {
            Some(texts::<Time64MicrosecondType>(array, |time, out| write_time(time.saturating_mul(1000), out)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(texts::<TimestampMicrosecondType>(array, |time, out| {
            write_timestamp(time.div_euclid(1_000_000), time.rem_euclid(1_000_000) * 1000, out);
        })),
        _ => None,
    }
}
