//! Where the reading of a file is gone on with, and how one knows that it is the same file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use millstream_core::{Error, Result};
use millstream_formats::ReaderPosition;
use serde::{Deserialize, Serialize};

/// How many bytes at the beginning of a file, and how many before the place, have to be the same.
const SAMPLE: u64 = 4096;

/// Files that begin with the same header or the same first row are not rare. With so many bytes they are.
const TELLING: u64 = 256;

/// A place in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// A place between two rows, at or before the next row.
    #[serde(rename = "mark")]
    pub start: ReaderPosition,
    /// The position of the next row.
    pub position: u64,
    /// How many bytes of the file are sampled, and the hashes of the first and the last of them.
    bytes: u64,
    beginning: String,
    end: String,
}

impl Place {
    /// The place before the first row of a file. Of its bytes those that are there already are compared later.
    pub fn first(file: &File) -> Result<Self> {
        let bytes = file.metadata()?.len().min(SAMPLE);
        Self::new(file, Some(bytes), ReaderPosition::default(), 0)
    }

    /// The place in a file whose next row has this position. Of text `read` bytes have been read, which are compared later.
    pub fn new(file: &File, read: Option<u64>, start: ReaderPosition, position: u64) -> Result<Self> {
        // Of compressed files and those with columns, the whole file has to be the same.
        let bytes = read.map_or_else(|| file.metadata().map(|metadata| metadata.len()), Ok)?;
        Ok(Self { start, position, bytes, beginning: sample(file, 0, bytes)?, end: last_sample(file, bytes)? })
    }

    /// A place that is there no more.
    pub fn lost(start: ReaderPosition, position: u64) -> Self {
        Self { start, position, bytes: u64::MAX, beginning: String::new(), end: String::new() }
    }

    /// Whether it is known to be there no more.
    pub fn is_lost(&self) -> bool {
        self.bytes == u64::MAX
    }

    /// Whether there was nothing in the file.
    pub fn is_of_nothing(&self) -> bool {
        self.bytes == 0
    }

    /// Whether no row of the file was read, though there were some.
    pub fn is_unread(&self) -> bool {
        self.position == 0 && self.bytes > 0 && !self.is_lost()
    }

    /// Whether enough of the file was there to tell it from others by what is in it.
    pub fn is_telling(&self) -> bool {
        self.bytes >= TELLING && !self.is_lost()
    }

    /// Checks that a file is the one in which the place was.
    pub fn check(&self, file: &File) -> Result<()> {
        let length = file.metadata()?.len();
        if length < self.bytes {
            return Err(Error::new(format!(
                "it has become shorter: {} bytes were read before, and it has {length}",
                self.bytes
            )));
        }
        let is_same = sample(file, 0, self.bytes)? == self.beginning && last_sample(file, self.bytes)? == self.end;
        if is_same {
            Ok(())
        } else {
            Err(Error::new("it is another file than the one that was read before: its bytes have changed"))
        }
    }
}

fn last_sample(file: &File, bytes: u64) -> Result<String> {
    sample(file, bytes.saturating_sub(SAMPLE), bytes)
}

/// The hash of the bytes from a place on, at most so many, and none at `end` or behind it.
fn sample(file: &File, start: u64, end: u64) -> Result<String> {
    let mut bytes = vec![0; SAMPLE.min(end - start) as usize];
    file.read_exact_at(&mut bytes, start)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
