//! Values that are kept as the JSON that they are written in.

use arrow::array::{ArrayRef, NullBufferBuilder, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::error::ArrowError;

use super::buffers::emptied;
use super::scanner::Scanner;
use super::values::Values;
use crate::refusal::{Read, Refusal};

/// The texts of any values, which are JSON.
pub(super) struct Raw {
    bytes: Vec<u8>,
    /// Where the texts end, behind a 0.
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Default for Raw {
    fn default() -> Self {
        Self { bytes: Vec::new(), ends: vec![0], nulls: NullBufferBuilder::new(0) }
    }
}

impl Values for Raw {
    fn read(&mut self, json: &mut Scanner) -> Read<()> {
        self.bytes.extend_from_slice(json.raw()?.as_bytes());
        // A batch has far fewer bytes.
        let end = i32::try_from(self.bytes.len()).map_err(|_| Refusal::value(" is too long"))?;
        self.ends.push(end);
        self.nulls.append_non_null();
        Ok(())
    }

    fn push_null(&mut self) {
        self.ends.extend(self.ends.last().copied());
        self.nulls.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.bytes.truncate(self.ends[rows] as usize);
        self.nulls.truncate(rows);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let ends = emptied(&mut self.ends);
        self.ends.push(0);
        let (ends, bytes) = (OffsetBuffer::new(ends.into()), emptied(&mut self.bytes).into());
        Ok(std::sync::Arc::new(StringArray::try_new(ends, bytes, self.nulls.finish())?))
    }
}
