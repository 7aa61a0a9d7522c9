//! What comes at once, as a record of the log holds it: how many rows it is, and which.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result};
use millstream_formats::{BadRow, BatchReader, Decoder, Rows};

use super::formats::{Decoders, FormatTag};
use super::refused::Refused;

/// What the bytes stand for that come at once.
pub trait Contents: Send + Sync {
    /// The columns of the rows.
    fn schema(&self) -> SchemaRef;

    /// How many rows a batch has at most.
    fn batch_rows(&self) -> usize;

    /// The format that senders call so. By default there is none besides the input's own, which has no name.
    ///
    /// # Errors
    /// If rows are not read in it.
    fn format(&self, name: &str) -> Result<FormatTag, Refused> {
        Err(Refused::Format(format!("`{name}` is not read here")))
    }

    /// Whether bytes in a format may become much more when they are read.
    fn grows(&self, _format: FormatTag) -> bool {
        false
    }

    /// How many rows bytes in a format are. What a sender could mend is best refused here: nobody has it to mend it later.
    ///
    /// # Errors
    /// If they are not taken.
    fn count(&self, format: FormatTag, bytes: Vec<u8>) -> Result<usize, Refused>;

    /// What reads the rows of records.
    fn reader(&self) -> Box<dyn ReadRecords>;
}

/// Reads the rows of records.
pub trait ReadRecords: Send {
    /// Begins with the bytes of a record, which are so many rows in a format.
    ///
    /// # Errors
    /// If they can't be read.
    fn begin(&mut self, format: FormatTag, bytes: &[u8], rows: usize) -> Result<()>;

    /// Adds some of its rows, of which the first has the position 0. False if there are no more.
    ///
    /// # Errors
    /// If they can't be read. Rows that are of no use are none: they are refused.
    fn next(&mut self, out: &mut Rows) -> Result<bool>;
}

/// Rows of what was kept, each of which is one or is refused: `read` says which, and `batch` makes a batch of those that follow each other.
///
/// # Errors
/// If there can't be such a batch.
pub fn rows_of<'k, K, V>(
    kept: &'k [K],
    read: impl Fn(u64, &'k K) -> Result<V, BadRow>,
    batch: impl Fn(&[V]) -> Result<RecordBatch>,
) -> Result<Rows> {
    let (mut rows, mut together) = (Rows::default(), Vec::new());
    for (position, one) in (0..).zip(kept) {
        match read(position, one) {
            Ok(value) => together.push(value),
            Err(refused) => {
                rows.failed.push(refused);
                if !together.is_empty() {
                    rows.batches.push((position - together.len() as u64, batch(&together)?));
                    together.clear();
                }
            }
        }
    }
    if !together.is_empty() {
        rows.batches.push(((kept.len() - together.len()) as u64, batch(&together)?));
    }
    Ok(rows)
}

/// Bytes in formats, all of whose rows can be read.
pub(super) struct Streams {
    /// As the flow reads them.
    decoders: Decoders,
    /// With all columns: what is promised to who sends rows must not depend on which ones the flow uses at the moment.
    whole: Decoders,
}

impl Streams {
    pub fn new(decoders: Decoders) -> Self {
        Self { whole: decoders.whole(), decoders }
    }
}

impl Contents for Streams {
    fn schema(&self) -> SchemaRef {
        self.decoders.own.schema()
    }

    fn batch_rows(&self) -> usize {
        self.decoders.own.batch_rows
    }

    fn format(&self, name: &str) -> Result<FormatTag, Refused> {
        self.whole.named(name)
    }

    fn grows(&self, format: FormatTag) -> bool {
        self.whole.of(format).is_ok_and(|decoder| !decoder.format.kind().is_text)
    }

    /// They are read as the flow will read them, so that there is only one way to count them.
    fn count(&self, format: FormatTag, bytes: Vec<u8>) -> Result<usize, Refused> {
        let decoder = self.whole.of(format).map_err(Refused::Format)?;
        if decoder.format.is_utf8() && std::str::from_utf8(&bytes).is_err() {
            return Err(Refused::NoText);
        }
        let wrong = |error: Error| Refused::Unreadable { row: None, why: error.to_string() };
        let small = small(decoder, decoder.format.most_rows(&bytes));
        let mut reader = small.read_body(bytes).map_err(wrong)?;
        let (mut rows, mut bad, mut first) = (0, 0, None);
        let mut read = Rows::default();
        while reader.next(&mut read).map_err(wrong)? {
            let read = std::mem::take(&mut read);
            (rows, bad) = (rows + read.len(), bad + read.failed.len());
            first = first.or_else(|| read.failed.into_iter().min_by_key(|row| row.position));
        }
        first.map_or(Ok(rows), |first| Err(bad_rows(first, bad, rows)))
    }

    fn reader(&self) -> Box<dyn ReadRecords> {
        Box::new(StreamReader { decoders: self.decoders.clone(), open: None })
    }
}

struct StreamReader {
    decoders: Decoders,
    open: Option<Box<dyn BatchReader>>,
}

impl ReadRecords for StreamReader {
    fn begin(&mut self, format: FormatTag, bytes: &[u8], rows: usize) -> Result<()> {
        let decoder = self.decoders.of(format).map_err(Error::new)?;
        self.open = Some(small(decoder, rows).read_body(bytes.to_vec())?);
        Ok(())
    }

    fn next(&mut self, out: &mut Rows) -> Result<bool> {
        self.open.as_mut().map_or(Ok(false), |reader| reader.next(out))
    }
}

/// Rows that can't be read, of so many. None of them is taken: who sends them has them still, and can mend them.
fn bad_rows(first: BadRow, bad: usize, rows: usize) -> Refused {
    let BadRow { position, error, .. } = first;
    let others = match bad.saturating_sub(1) {
        0 => String::new(),
        1 => format!(", nor can 1 other of {rows}"),
        others => format!(", nor can {others} others of {rows}"),
    };
    let why = format!("row {position}, counted from 0, can't be read{others}: {error}; none was taken");
    Refused::Unreadable { row: Some(position), why }
}

/// What reads so few rows: memory is taken for as many as there may be.
fn small(decoder: &Decoder, rows: usize) -> Decoder {
    Decoder { batch_rows: decoder.batch_rows.min(rows.max(1)), ..decoder.clone() }
}
