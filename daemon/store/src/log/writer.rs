//! The one who writes a log: groups of records, each made durable at once.

use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use millstream_core::{Error, Result, ResultExt};

use super::LogOptions;
use super::folder::Found;
use super::guard::{Claim, Guard};
use super::reader::LogReader;
use super::record::{HEADER, START, Salt, encode};
use super::replace::replace;
use super::segments::Segments;
use crate::files::create_folders;
use crate::{Access, Files, NewFile, crash};

/// Writes a log.
///
/// A file in which a write or a sync has failed is given up: nobody knows what of it is on the disk. What lies behind the last
/// durable record is cut off, since a crash might make it count though it was refused. The log goes on with a new segment
/// from there, and if cutting failed, too, what lies behind is not read any more once there is one.
pub struct Writer {
    segments: Arc<Segments>,
    options: LogOptions,
    /// The last segment, unless it was given up.
    current: Option<Segment>,
    guard: Guard,
    /// Reused from group to group.
    buffer: Vec<u8>,
    /// Ends with the writer.
    _lock: Box<dyn Any + Send + Sync>,
}

struct Segment {
    first: u64,
    salt: Salt,
    /// How many bytes of records it has.
    bytes: u64,
    file: Box<dyn NewFile>,
}

impl Segment {
    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        crash::point("log-append");
        self.file.append(records)?;
        crash::point("log-before-sync");
        self.file.sync()?;
        crash::point("log-after-sync");
        Ok(())
    }

    /// Cuts off what lies behind the records that are durable, so that it is not taken for one of them after a crash.
    fn give_up(mut self) -> io::Result<()> {
        self.file.cut(START as u64 + self.bytes)?;
        self.file.sync()
    }
}

/// Why a group was not written.
#[derive(Debug)]
pub struct NotWritten {
    pub error: io::Error,
    /// Whether some of it may be found in the log after a crash nevertheless.
    pub may_count: bool,
}

impl From<io::Error> for NotWritten {
    /// Before anything of it was written.
    fn from(error: io::Error) -> Self {
        Self { error, may_count: false }
    }
}

/// A record that is to be written.
pub struct Entry {
    pub payload: Vec<u8>,
    pub rows: u32,
}

impl Entry {
    /// How many bytes it takes up.
    pub fn bytes(&self) -> u64 {
        (HEADER + self.payload.len()) as u64
    }
}

impl Writer {
    /// Opens the log in a folder, which is created if need be. What a crash has torn off is cut.
    pub fn open(files: Arc<dyn Files>, folder: &Path, options: LogOptions) -> Result<Self> {
        let doing = || format!("opening the log `{}`", folder.display());
        create_folders(&*files, folder, Access::Private, &mut BTreeSet::new()).doing(doing)?;
        let lock = files.lock(&folder.join(".lock")).doing(doing)?;
        let lock = lock.ok_or_else(|| Error::new(format!("another run is using the log `{}`", folder.display())))?;
        let Found { by_number, last } = Found::look(&*files, folder)?;
        let segments = Arc::new(Segments::new(files.clone(), folder.to_owned(), by_number, last.end));
        // Nothing is changed before all that was acknowledged is known to be there.
        LogReader::new(segments.clone(), segments.oldest())?.pass(last.first)?;
        if last.is_torn {
            crash::point("log-cut-tail");
        }
        // The last segment is written anew: its records may be there without being durable, and that can't be made up for in
        // a file in which the former process may have failed.
        let file = begin(&segments, last.first, &last.bytes).doing(doing)?;
        let bytes = (last.bytes.len() - START) as u64;
        let current = Some(Segment { first: last.first, salt: last.salt, bytes, file });
        let mut guard = Guard::new(files, folder.to_owned());
        guard.claim(Claim { end: last.end, first: last.first });
        Ok(Self { segments, options, current, guard, buffer: Vec::new(), _lock: lock })
    }

    /// What its readers need.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// Writes records and makes them durable: all of them, or none. Returns the number of the first.
    pub fn write(&mut self, group: &[Entry]) -> Result<u64, NotWritten> {
        let number = self.segments.end();
        let full = |segment: &Segment| segment.bytes >= self.options.segment_bytes;
        // Out of its place until all has gone well.
        let mut segment = match self.current.take() {
            Some(segment) if !full(&segment) => segment,
            _ => self.roll(number)?,
        };
        let mut end = number;
        self.buffer.clear();
        for entry in group {
            encode(&entry.payload, entry.rows, end, number, segment.salt, &mut self.buffer);
            end += u64::from(entry.rows);
        }
        if let Err(error) = segment.append(&self.buffer) {
            return Err(NotWritten { error, may_count: segment.give_up().is_err() });
        }
        self.guard.claim(Claim { end, first: segment.first });
        segment.bytes += self.buffer.len() as u64;
        self.segments.grown(segment.first, self.buffer.len() as u64, end);
        self.current = Some(segment);
        Ok(number)
    }

    /// Begins a segment for the records from `first` on.
    fn roll(&self, first: u64) -> io::Result<Segment> {
        let (salt, start) = Salt::start_segment();
        let file = begin(&self.segments, first, &start)?;
        crash::point("log-roll");
        self.segments.begun(first);
        Ok(Segment { first, salt, bytes: 0, file })
    }
}

/// Writes a segment under a hidden name, and gives it its own when all of it is durable.
fn begin(segments: &Segments, first: u64, bytes: &[u8]) -> io::Result<Box<dyn NewFile>> {
    let file = replace(&*segments.files, &segments.path(first), bytes)?;
    segments.files.sync_folder(&segments.folder)?;
    Ok(file)
}
