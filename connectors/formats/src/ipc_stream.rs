//! Arrow IPC in memory: the streaming format, or a file, which is a stream within two marks. What messages claim is compared with the
//! bytes that there are, before anybody takes memory for it.

use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::{RecordBatch as Header, root_as_message};
use millstream_core::{Error, Result, type_name, unknown_column};

use crate::Rows;
use crate::ipc::{PREFIX, shorter, unpacked_by};
use crate::pieces::Pieces;
use crate::read::Decoder;
use crate::reader::{BatchReader, ReaderPosition, guarded};
use crate::window::MAX_BATCH_BYTES;

/// What a file begins with, before the stream.
const MAGIC: &[u8] = b"ARROW1";

/// How much memory the buffers of one message may take when they are unpacked.
const MAX_UNPACKED: u64 = MAX_BATCH_BYTES as u64;

/// Reads the columns of the decoder, found by their names.
pub(crate) fn open(mut bytes: Vec<u8>, decoder: &Decoder) -> Result<Box<dyn BatchReader>> {
    if bytes.starts_with(MAGIC) {
        // Zeros fill it up to where the first message begins, with a marker that has none.
        let filled = bytes.iter().skip(MAGIC.len()).take_while(|byte| **byte == 0).count();
        bytes.drain(..MAGIC.len() + filled);
    }
    guarded(|| check(&bytes))?;
    let (schema, batch_rows) = (decoder.schema(), decoder.batch_rows);
    guarded(|| {
        let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(corrupt)?;
        let all = reader.schema();
        let place = |name: &String| all.index_of(name).map_err(|_| Error::new(unknown_column(name, &all).to_string()));
        let wanted = schema.fields().iter().map(|field| place(field.name())).collect::<Result<Vec<_>>>()?;
        let found = all.project(&wanted)?;
        let pieces = Pieces::new(&found, schema.clone(), batch_rows);
        let pieces = pieces.map_err(|_| {
            Error::new(format!(
                "its columns are {}, and have to be {}",
                listed(found.fields()),
                listed(schema.fields())
            ))
        })?;
        Ok(Box::new(BodyReader { reader, wanted, pieces }) as Box<dyn BatchReader>)
    })
}

/// Columns with their types.
fn listed(fields: &Fields) -> String {
    let column = |field: &Arc<Field>| format!("`{}` {}", field.name(), type_name(field.data_type()));
    fields.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::new(format!("no valid stream of Arrow IPC: {error}"))
}

/// A message of a stream.
struct Message<'a> {
    header: &'a [u8],
    body: &'a [u8],
    /// What lies behind it.
    rest: &'a [u8],
}

/// Checks every message, and how much memory it asks for.
fn check(mut bytes: &[u8]) -> Result<()> {
    while let Some(Message { header, body, rest }) = Message::first(bytes)? {
        let header = root_as_message(header).map_err(corrupt)?;
        let dictionary = header.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        if let Some(batch) = header.header_as_record_batch().or(dictionary) {
            check_batch(&batch, body)?;
        }
        bytes = rest;
    }
    Ok(())
}

impl<'a> Message<'a> {
    /// The first message of a stream. None if it has ended.
    fn first(bytes: &'a [u8]) -> Result<Option<Self>> {
        let cut = || corrupt("it ends in the midst of a message");
        let Some((first, rest)) = bytes.split_first_chunk::<4>() else {
            return if bytes.is_empty() { Ok(None) } else { Err(cut()) };
        };
        // Older streams lack the marker in front of the length.
        let has_marker = *first == [0xff; 4];
        let (length, rest) = if has_marker { rest.split_first_chunk().ok_or_else(cut)? } else { (first, rest) };
        let length = usize::try_from(i32::from_le_bytes(*length)).map_err(corrupt)?;
        if length == 0 {
            return Ok(None);
        }
        let (header, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        let body = root_as_message(header).map_err(corrupt)?.bodyLength();
        let (body, rest) = rest.split_at_checked(usize::try_from(body).map_err(corrupt)?).ok_or_else(cut)?;
        Ok(Some(Self { header, body, rest }))
    }
}

fn check_batch(batch: &Header<'_>, body: &[u8]) -> Result<()> {
    let is_compressed = batch.compression().is_some();
    let mut unpacked = 0_u64;
    for buffer in batch.buffers().iter().flatten() {
        let start = usize::try_from(buffer.offset()).map_err(corrupt)?;
        let length = usize::try_from(buffer.length()).map_err(corrupt)?;
        let bytes = start.checked_add(length).and_then(|end| body.get(start..end));
        let bytes = bytes.ok_or_else(|| corrupt("a buffer lies behind its message"))?;
        if is_compressed && length as u64 >= PREFIX {
            unpacked = unpacked.saturating_add(unpacked_by(bytes, length as u64)?);
        }
    }
    if unpacked > MAX_UNPACKED {
        let message =
            format!("a batch takes {unpacked} bytes in memory, more than {MAX_UNPACKED}; smaller ones would do");
        return Err(Error::new(message));
    }
    Ok(())
}

struct BodyReader {
    reader: StreamReader<Cursor<Vec<u8>>>,
    wanted: Vec<usize>,
    pieces: Pieces,
}

impl BodyReader {
    /// Reads the next batch that has rows. Returns false at the end.
    fn read(&mut self) -> Result<bool> {
        let rows = guarded(|| self.reader.next().transpose().map_err(corrupt))?;
        let Some(rows) = rows else { return Ok(false) };
        self.pieces.put(rows.project(&self.wanted)?);
        Ok(true)
    }
}

impl BatchReader for BodyReader {
    fn schema(&self) -> &SchemaRef {
        self.pieces.schema()
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        while self.pieces.is_empty() {
            if !self.read()? {
                return Ok(false);
            }
        }
        guarded(|| self.pieces.next(out))?;
        Ok(true)
    }

    fn position(&self) -> ReaderPosition {
        ReaderPosition { position: self.pieces.position(), offset: 0 }
    }

    fn go_to(&mut self, start: ReaderPosition) -> Result<()> {
        while self.pieces.position() < start.position {
            if self.pieces.is_empty() && !self.read()? {
                return Err(shorter(start.position));
            }
            self.pieces.pass(start.position);
        }
        Ok(())
    }
}
