//! Writes JSON: as lines, as an array, and indented.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Result, write_json};

use super::pretty::indent;
use crate::write::{Encoder, Writing};

/// An object a line.
#[derive(Debug)]
pub(super) struct Lines;

impl Writing for Lines {
    fn encoder(&self, _: &SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(Self))
    }

    fn takes_other_columns(&self) -> bool {
        true
    }
}

impl Encoder for Lines {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        write_json(rows, out)
    }
}

/// An array with an object on each line.
#[derive(Debug)]
pub(super) struct Arrays;

impl Writing for Arrays {
    fn encoder(&self, _: &SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(Box::<ArrayEncoder>::default())
    }
}

#[derive(Default)]
struct ArrayEncoder {
    /// Whether the array has items.
    has_rows: bool,
    /// Rows as lines; reused from one batch to the next.
    lines: Vec<u8>,
}

impl Encoder for ArrayEncoder {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.push(b'[');
        Ok(())
    }

    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.lines.clear();
        write_json(rows, &mut self.lines)?;
        for line in self.lines.split_inclusive(|byte| *byte == b'\n') {
            out.extend_from_slice(if self.has_rows { b",\n" } else { b"\n" });
            out.extend_from_slice(line.trim_ascii_end());
            self.has_rows = true;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(b"\n]\n");
        Ok(())
    }
}

/// Objects of several lines each.
#[derive(Debug)]
pub(super) struct Indented;

impl Writing for Indented {
    fn encoder(&self, _: &SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(Self))
    }
}

impl Encoder for Indented {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let mut lines = Vec::new();
        write_json(rows, &mut lines)?;
        lines.split_inclusive(|byte| *byte == b'\n').for_each(|line| indent(line, out));
        Ok(())
    }
}
