//! Segments: stretches of the spool that are short enough to be read at once. Each is a stream of Arrow IPC, compressed by LZ4.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use millstream_core::{Error, Result, ResultExt};
use millstream_store::NewFile;
use serde::{Deserialize, Serialize};

/// A segment that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub place: Place,
    pub rows: u64,
    pub bytes: u64,
    blake3: [u8; 32],
}

/// Where a segment is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In the node's own folder, under this name.
    File(String),
    /// In what is staged, under the name that [`staged_name`] gives for this number.
    Staged(u64),
    /// In a file without a name.
    Unnamed(u64),
}

/// The name of a segment that is part of what is staged.
pub(crate) fn staged_name(number: u64) -> String {
    format!("spool-{number}")
}

/// A segment that is being written.
pub(crate) struct SegmentWriter {
    place: Place,
    stream: StreamWriter<Vec<u8>>,
    file: Box<dyn NewFile>,
    hasher: blake3::Hasher,
    rows: u64,
    bytes: u64,
}

impl SegmentWriter {
    pub fn new(place: Place, file: Box<dyn NewFile>, schema: &SchemaRef) -> Result<Self> {
        let compressed = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let stream = StreamWriter::try_new_with_options(Vec::new(), schema, compressed)?;
        Ok(Self { place, stream, file, hasher: blake3::Hasher::new(), rows: 0, bytes: 0 })
    }

    /// How many bytes it has so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.stream.write(rows)?;
        self.rows += rows.num_rows() as u64;
        self.hand_on()
    }

    /// Ends it. The file is still to be made durable.
    pub fn seal(mut self) -> Result<(Segment, Box<dyn NewFile>)> {
        self.stream.finish()?;
        self.hand_on()?;
        let Self { place, rows, bytes, .. } = self;
        Ok((Segment { place, rows, bytes, blake3: *self.hasher.finalize().as_bytes() }, self.file))
    }

    fn hand_on(&mut self) -> Result<()> {
        let encoded = self.stream.get_mut();
        self.file.append(encoded)?;
        self.hasher.update(encoded);
        self.bytes += encoded.len() as u64;
        encoded.clear();
        Ok(())
    }
}

impl Segment {
    /// The rows in its bytes. None if these are others than those that were written: Arrow's reader trusts what it reads.
    pub fn decode(&self, bytes: Vec<u8>) -> Result<Option<StreamReader<Cursor<Vec<u8>>>>> {
        if bytes.len() as u64 != self.bytes || *blake3::hash(&bytes).as_bytes() != self.blake3 {
            return Ok(None);
        }
        StreamReader::try_new(Cursor::new(bytes), None).doing(|| "reading the spool").map(Some)
    }

    /// A segment that can't be used.
    pub fn unusable(&self, what: &str, why: &str) -> Error {
        Error::new(format!(
            "{what} {why}: it has {} rows that a checkpoint has decided, and that the target may not have yet; put it back from a copy. \
             Without it, only `--reset` of the output helps, which loses them",
            self.rows
        ))
    }
}
