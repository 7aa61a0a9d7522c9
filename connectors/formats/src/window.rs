//! A sliding window over the bytes of a source: what has been read and is still needed.
//!
//! Text readers keep the bytes of a batch until all of its rows are decoded, because only then is it known which of
//! them have to be shown as failed.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use millstream_core::{Error, Result, ResultExt};

use crate::{Compression, Pace};

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// How long a row of a text format may be: longer ones are most likely an unclosed quote, and would fill the memory.
pub const MAX_ROW_BYTES: usize = 256 << 20;

/// A batch is handed out early when its text is this long.
pub(crate) const MAX_BATCH_BYTES: usize = 64 << 20;

/// Unpacks what it reads. Files that were appended to, with several packed parts, are read to their end.
pub fn decompress(
    source: impl Read + Send + 'static,
    compression: Option<Compression>,
) -> Result<Box<dyn Read + Send>> {
    Ok(match compression {
        None => Box::new(source),
        Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(source)),
        Some(Compression::Zstd) => Box::new(zstd::Decoder::new(source).doing(|| "starting to unpack zstd")?),
        Some(Compression::Bzip2) => Box::new(bzip2::read::MultiBzDecoder::new(source)),
    })
}

/// Whether a text file, unpacked, is empty or ends with a line break, so that lines can be appended.
pub fn ends_with_line_break(path: &Path, compression: Option<Compression>) -> Result<bool> {
    let mut source = decompress(File::open(path)?, compression)?;
    let mut chunk = vec![0; CHUNK];
    let mut last = b'\n';
    loop {
        match source.read(&mut chunk)? {
            0 => return Ok(last == b'\n'),
            read => last = chunk[read - 1],
        }
    }
}

/// Where bytes come from.
enum Source {
    Stream(Box<dyn Read + Send>),
    /// One in which bytes can be passed over without reading them.
    Seekable(Box<dyn Seekable>),
}

/// A source with places.
pub(crate) trait Seekable: Read + Seek + Send {}

impl<T: Read + Seek + Send> Seekable for T {}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Stream(source) => source.read(buffer),
            Self::Seekable(source) => source.read(buffer),
        }
    }
}

pub(crate) struct Window {
    source: Source,
    bytes: Vec<u8>,
    /// How many bytes of the source lie before `bytes`.
    passed: u64,
    /// The first byte that is still needed.
    start: usize,
    /// One past the last line break; at the end of the source one past the last byte.
    complete: usize,
    /// Up to here line breaks have been looked for.
    searched: usize,
    ended: bool,
    /// Whether the last read brought nothing.
    dry: bool,
    pace: Pace,
    /// Whether the place of a byte order mark lies behind.
    started: bool,
}

impl Window {
    pub(crate) fn new(source: Box<dyn Read + Send>, pace: Pace) -> Self {
        Self::of(Source::Stream(source), pace)
    }

    /// A window over a source in which bytes can be passed over.
    pub(crate) fn seekable(source: Box<dyn Seekable>, pace: Pace) -> Self {
        Self::of(Source::Seekable(source), pace)
    }

    fn of(source: Source, pace: Pace) -> Self {
        let (bytes, passed, start, complete, searched) = (Vec::new(), 0, 0, 0, 0);
        Self { source, bytes, passed, start, complete, searched, ended: false, dry: false, pace, started: false }
    }

    /// How many bytes of the source lie before the first one that is needed.
    pub(crate) fn offset(&self) -> u64 {
        self.passed + self.start as u64
    }

    /// Goes on behind so many bytes of the source, which must not be fewer than lie behind already.
    pub(crate) fn go_to(&mut self, offset: u64) -> Result<()> {
        let there = self.passed + self.bytes.len() as u64;
        if offset <= there {
            self.start = offset.saturating_sub(self.passed) as usize;
            return Ok(());
        }
        let missing = offset - there;
        let passed = match &mut self.source {
            Source::Stream(source) => std::io::copy(&mut source.take(missing), &mut std::io::sink())?,
            Source::Seekable(source) => {
                let here = source.stream_position()?;
                let end = source.seek(SeekFrom::End(0))?;
                source.seek(SeekFrom::Start(end.min(here + missing)))? - here
            }
        };
        if passed < missing {
            return Err(Error::new(format!("it has become shorter: it should have {offset} bytes and more")));
        }
        self.bytes.clear();
        (self.passed, self.start, self.complete, self.searched, self.started) = (offset, 0, 0, 0, true);
        Ok(())
    }

    /// The bytes that were read and not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Those of them that are whole lines. At the end of the source that is all.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.bytes[self.start..self.complete.max(self.start)]
    }

    /// Whether the source has no more bytes.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the source had no bytes when it was read last. If it grows, it may have some by now.
    pub(crate) fn dry(&self) -> bool {
        self.dry
    }

    /// Whether rows should be handed out rather than wait for more to come.
    pub(crate) fn eager(&self) -> bool {
        self.pace == Pace::Eager
    }

    /// The source grows no more.
    pub(crate) fn end(&mut self) {
        self.pace = Pace::Full;
    }

    /// Gives up the first bytes.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }

    /// Reads more bytes.
    pub(crate) fn fill(&mut self) -> Result<()> {
        self.bytes.drain(..self.start);
        self.passed += self.start as u64;
        self.complete = self.complete.saturating_sub(self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        if self.bytes.len() > MAX_ROW_BYTES {
            return Err(Error::new(format!(
                "a row is longer than {} MiB; is a quote not closed?",
                MAX_ROW_BYTES >> 20
            )));
        }
        self.dry = self.read().doing(|| "reading")? == 0;
        while !self.started && !self.dry && self.skip_byte_order_mark() {
            self.dry = self.read().doing(|| "reading")? == 0;
        }
        self.ended = self.dry && self.pace != Pace::Growing;
        if self.ended {
            self.complete = self.bytes.len();
        } else if let Some(last) = memchr::memrchr(b'\n', &self.bytes[self.searched..]) {
            self.complete = self.searched + last + 1;
        }
        self.searched = self.bytes.len();
        if self.dry && self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(())
    }

    /// Appends what is there, at most a chunk.
    fn read(&mut self) -> std::io::Result<usize> {
        if self.pace != Pace::Eager {
            // A file that grows is mostly at its end, and many may be open.
            self.bytes.reserve(if self.pace == Pace::Full { CHUNK } else { 0 });
            return (&mut self.source).take(CHUNK as u64).read_to_end(&mut self.bytes);
        }
        let mut chunk = [0; 1 << 14];
        loop {
            match self.source.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(read) => {
                    self.bytes.extend_from_slice(&chunk[..read]);
                    return Ok(read);
                }
            }
        }
    }

    /// Spreadsheets begin their files with the bytes EF BB BF. Returns whether more bytes are needed to tell.
    fn skip_byte_order_mark(&mut self) -> bool {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if self.bytes.len() < MARK.len() && MARK.starts_with(&self.bytes) {
            return true;
        }
        self.started = true;
        if self.bytes.starts_with(MARK) {
            self.bytes.drain(..MARK.len());
            self.passed += MARK.len() as u64;
        }
        false
    }
}
