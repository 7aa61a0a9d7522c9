//! A file that grows: its rows, as far as they are written.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use millstream_core::Result;
use millstream_formats::{BatchReader, Decoder, MAX_ROW_BYTES, Preamble, ReadMode, ReaderPosition, Rows, Seekable};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::place::Place;

/// What a file is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// What a path leads to.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// When a file was created, as far as that is known: else when it was written last.
pub fn created(metadata: &Metadata) -> SystemTime {
    metadata.created().or_else(|_| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// How many of a file's first bytes are remembered.
const BEGINNING: usize = 1024;

/// How many bytes are searched for a line break at once.
const CHUNK: usize = 64 << 10;

/// So many bytes are read until it is checked again that the file is still the same.
const STRETCH: u64 = 16 << 20;

/// A file that is open for reading, and how far it has been read.
pub struct Tail {
    file: Arc<File>,
    identity: Identity,
    decoder: Decoder,
    /// None until the first line is there, which may be a header.
    reader: Option<Box<dyn BatchReader>>,
    range: Arc<ReadRange>,
    /// The first bytes, which tell a file that was emptied and written again.
    beginning: Vec<u8>,
    /// Length and time of change when the file was looked at last.
    looked_at: Option<(u64, i64, i64)>,
    /// When a change was seen last.
    changed: Instant,
    /// Whether the reader has nothing more of what was reached.
    drained: bool,
    /// Whether it was emptied, and what comes is of other rows.
    emptied: bool,
    /// The place before the rows that came last.
    before: ReaderPosition,
    /// Where a run before was, until the file is read from there.
    resume: Option<Place>,
    /// Rows before this position were read by a run before.
    first: u64,
}

/// From where to where a file may be read now.
#[derive(Debug, Default)]
struct ReadRange {
    from: AtomicU64,
    to: AtomicU64,
}

impl Tail {
    /// Opens a file; `None` if it has gone.
    pub fn open(path: &Path, decoder: &Decoder) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let identity = Identity::of(&file.metadata()?);
        Ok(Some(Self {
            file: Arc::new(file),
            identity,
            decoder: Decoder { read_mode: ReadMode::Tailing, ..decoder.clone() },
            reader: None,
            range: Arc::default(),
            beginning: Vec::new(),
            looked_at: None,
            changed: Instant::now(),
            drained: true,
            emptied: false,
            before: ReaderPosition::default(),
            resume: None,
            first: 0,
        }))
    }

    /// Opens a file in which a run before was at a place; `None` if it has gone, or another one has its name.
    pub fn open_at(path: &Path, decoder: &Decoder, place: Place) -> Result<Option<Self>> {
        let Some(mut tail) = Self::open(path, decoder)?.filter(|tail| tail.has(&place)) else {
            return Ok(None);
        };
        tail.resume = (place.position > 0 || place.start.offset > 0).then_some(place);
        Ok(Some(tail))
    }

    /// Whether a place may be in this file.
    pub fn has(&self, place: &Place) -> bool {
        place.check(&self.file).is_ok()
    }

    /// The place before its first row.
    pub fn first_place(&self) -> Result<Place> {
        Place::first(&self.file)
    }

    /// The place of the row with this position, which is one of those that came last, or the next.
    pub fn place(&self, position: u64) -> Result<Place> {
        if let Some(place) = &self.resume {
            return Ok(place.clone());
        }
        let now = self.reader.as_ref().map(|reader| reader.position()).unwrap_or_default();
        let start = if now.position <= position { now } else { self.before };
        // It may have been emptied since it was read, and is then read from its beginning.
        let is_lost = self.file.metadata()?.len() < now.offset || !self.begins_as_before()?;
        if is_lost {
            Ok(Place::lost(start, position))
        } else if now.offset == 0 {
            // It may have to wait, and be somewhere else when it is its turn.
            self.first_place()
        } else {
            Place::new(&self.file, Some(now.offset), start, position)
        }
    }

    /// When the file was created.
    pub fn created(&self) -> Result<SystemTime> {
        Ok(created(&self.file.metadata()?))
    }

    /// What the file is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The position behind the rows that were read.
    pub fn read(&self) -> u64 {
        self.reader.as_ref().map(|reader| reader.position().position).unwrap_or_default()
    }

    /// Whether it was emptied since this was asked last, so that rows have come from its beginning since.
    pub fn take_emptied(&mut self) -> bool {
        std::mem::take(&mut self.emptied)
    }

    /// When a change of the file was seen last.
    pub fn changed(&self) -> Instant {
        self.changed
    }

    /// Adds the next rows. Returns false if there are none for now.
    pub fn next(&mut self, out: &mut Rows) -> Result<bool> {
        loop {
            if self.drained && !self.look()? {
                return Ok(false);
            }
            self.drained = match self.reader(ReadMode::Tailing)? {
                Some(reader) => {
                    let before = reader.position();
                    let has_rows = reader.next(out)?;
                    if has_rows {
                        self.before = before;
                    }
                    !has_rows
                }
                None => true,
            };
            if !self.drained {
                out.drop_before(self.first);
                return Ok(true);
            }
        }
    }

    /// Adds a last row that has no line break, if there is one: the file won't grow any more.
    pub fn end(&mut self, out: &mut Rows) -> Result<()> {
        let Some(reader) = self.reader(ReadMode::Bounded)? else { return Ok(()) };
        let before = reader.position();
        reader.end();
        while reader.next(out)? {}
        self.before = before;
        out.drop_before(self.first);
        Ok(())
    }

    /// Looks how long the file is. Returns whether there is something new to read.
    fn look(&mut self) -> Result<bool> {
        let metadata = self.file.metadata()?;
        let length = metadata.len();
        let looked_at = Some((length, metadata.mtime(), metadata.mtime_nsec()));
        if looked_at == self.looked_at && self.range.to.load(Ordering::Relaxed) >= length {
            return Ok(false);
        }
        if looked_at != self.looked_at {
            (self.looked_at, self.changed) = (looked_at, Instant::now());
        }
        if length < self.range.from.load(Ordering::Relaxed) || !self.begins_as_before()? {
            self.begin_anew();
        }
        if self.beginning.len() < BEGINNING {
            self.beginning = self.first_bytes(length.min(BEGINNING as u64) as usize)?;
        }
        // A first line may be longer than a stretch.
        let from = self.range.from.load(Ordering::Relaxed);
        let to = if self.reader.is_some() { length.min(from + STRETCH) } else { length };
        self.range.to.store(to, Ordering::Relaxed);
        Ok(true)
    }

    fn begins_as_before(&self) -> Result<bool> {
        Ok(self.first_bytes(self.beginning.len())? == self.beginning)
    }

    fn first_bytes(&self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut read = 0;
        while read < count {
            match self.file.read_at(&mut bytes[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The file was emptied. A row that was not whole is lost with the rest of it.
    fn begin_anew(&mut self) {
        self.emptied |= self.read() > 0 || self.resume.is_some();
        self.reader = None;
        (self.resume, self.first) = (None, 0);
        self.range = Arc::default();
        self.beginning.clear();
    }

    /// The reader, unless the first line is not whole and may still become so.
    fn reader(&mut self, read_mode: ReadMode) -> Result<Option<&mut Box<dyn BatchReader>>> {
        if self.reader.is_none() && (read_mode == ReadMode::Bounded || self.has_line()?) {
            let source = RangeReader { file: self.file.clone(), range: self.range.clone() };
            let mut reader = Decoder { read_mode, ..self.decoder.clone() }.read_seekable(source)?;
            if let Some(place) = self.resume.take() {
                reader.go_to(place.start)?;
                self.first = place.position;
            }
            self.reader = Some(reader);
        }
        Ok(self.reader.as_mut())
    }

    fn has_line(&self) -> Result<bool> {
        let to = self.range.to.load(Ordering::Relaxed);
        if to > MAX_ROW_BYTES as u64 {
            // The reader says that it is too long.
            return Ok(true);
        }
        let Preamble { lines: skipped, comment } = self.decoder.format.preamble();
        let mut chunk = vec![0; CHUNK];
        let (mut from, mut lines, mut before) = (0, 0, b'\n');
        let mut is_comment = false;
        while from < to {
            let read = self.file.read_at(&mut chunk, from)?;
            for byte in &chunk[..read] {
                is_comment |= before == b'\n' && lines >= skipped && Some(*byte) == comment;
                before = *byte;
                if *byte == b'\n' {
                    lines += usize::from(!std::mem::take(&mut is_comment));
                }
            }
            if lines > skipped {
                return Ok(true);
            }
            if read == 0 {
                break;
            }
            from += read as u64;
        }
        Ok(false)
    }
}

/// Reads the bytes of a file that are released for reading.
struct RangeReader {
    file: Arc<File>,
    range: Arc<ReadRange>,
}

impl Seek for RangeReader {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => place,
            SeekFrom::Current(by) => self.range.from.load(Ordering::Relaxed).saturating_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().saturating_add_signed(by),
        };
        self.range.from.store(place, Ordering::Relaxed);
        Ok(place)
    }
}

impl Seekable for RangeReader {
    fn file(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (from, to) = (self.range.from.load(Ordering::Relaxed), self.range.to.load(Ordering::Relaxed));
        let most = buffer.len().min(to.saturating_sub(from) as usize);
        let read = self.file.read_at(&mut buffer[..most], from)?;
        self.range.from.store(from + read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
