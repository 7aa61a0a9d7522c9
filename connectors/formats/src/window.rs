//! A sliding window over the bytes of a source: what has been read and is still needed.
//!
//! Text readers keep the bytes of a batch until all of its rows are decoded, because only then is it known which of
//! them have to be shown as failed.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use millstream_core::{Error, Result, ResultExt};

use crate::encoding::Decoder;
use crate::lines::{LineCount, breaks};
use crate::spare::{Spare, SpareText};
use crate::{BadRow, Compression, ReadMode, Rows, TextEncoding};

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// How long a row of a text format may be: longer ones would fill the memory.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// So much of a row that is too long is shown.
const SHOWN_BYTES: usize = 1 << 10;

/// A batch is handed out early when its text is this long.
pub(crate) use millstream_core::MAX_BATCH_BYTES;

/// A reader of the decompressed bytes of a source. Files that were appended to, with several compressed parts, are read to their end.
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

/// A reader of a text of any encoding as UTF-8.
pub(crate) fn decode(source: Box<dyn Read + Send>, encoding: TextEncoding) -> Box<dyn Read + Send> {
    match encoding {
        TextEncoding::Utf8 => source,
        other => Box::new(Decoder::new(source, other)),
    }
}

/// Whether a text file, decompressed, is empty or ends with a line break, so that lines can be appended.
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
    /// A source in which bytes can be passed over without reading them.
    Seekable(Box<dyn Seekable>),
}

/// Bytes of a file, in which reading can go on at any place.
pub trait Seekable: Read + Seek + Send {
    /// The file, to look at other places of it meanwhile.
    ///
    /// # Errors
    /// If the process may open no more files.
    fn file(&self) -> std::io::Result<File>;
}

impl Seekable for File {
    fn file(&self) -> std::io::Result<File> {
        self.try_clone()
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Stream(source) => source.read(buffer),
            Self::Seekable(source) => source.read(buffer),
        }
    }
}

/// A line that is too long.
struct LongLine {
    /// The number of the line.
    line: u64,
    /// How much of the line has been passed over.
    length: u64,
    beginning: Vec<u8>,
}

impl LongLine {
    fn refuse(mut self, position: u64) -> BadRow {
        // Not in the middle of a character.
        if let Err(error) = std::str::from_utf8(&self.beginning)
            && error.error_len().is_none()
        {
            self.beginning.truncate(error.valid_up_to());
        }
        let LongLine { line, length, beginning } = self;
        let mut error = format!("the row is longer than {MAX_ROW_BYTES} bytes");
        if length > beginning.len() as u64 {
            error += &format!("; of the {length} bytes of its first line, {} are shown", beginning.len());
        }
        let beginning = beginning.trim_ascii_end();
        BadRow { line: Some(line), ..BadRow::new(position, error, beginning) }
    }
}

pub(crate) struct Window {
    source: Source,
    bytes: SpareText,
    /// Memory for the texts that are split off.
    spare: Spare,
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
    read_mode: ReadMode,
    /// Whether the place of a byte order mark lies behind.
    started: bool,
    /// A line of which the end has not come.
    passing: Option<LongLine>,
    /// The line breaks before the first byte that is needed.
    lines: LineCount,
}

impl Window {
    pub(crate) fn new(source: Box<dyn Read + Send>, read_mode: ReadMode) -> Self {
        Self::of(Source::Stream(source), read_mode)
    }

    /// A window over a source in which bytes can be passed over.
    pub(crate) fn seekable(source: Box<dyn Seekable>, read_mode: ReadMode) -> Self {
        Self::of(Source::Seekable(source), read_mode)
    }

    /// A window over a text all of which is there, behind so many lines.
    pub(crate) fn whole(text: SpareText, lines: LineCount) -> Self {
        let nothing = Source::Stream(Box::new(std::io::empty()));
        let (complete, searched) = (text.len(), text.len());
        let window = Self::of(nothing, ReadMode::Bounded);
        Self { bytes: text, complete, searched, ended: true, dry: true, started: true, lines, ..window }
    }

    fn of(source: Source, read_mode: ReadMode) -> Self {
        let (bytes, spare) = (SpareText::default(), Spare::default());
        let (passed, start, complete, searched) = (0, 0, 0, 0);
        let (ended, dry, started, passing, lines) = (false, false, false, None, LineCount::default());
        Self { source, bytes, spare, passed, start, complete, searched, ended, dry, read_mode, started, passing, lines }
    }

    /// How many bytes of the source lie before the first one that is needed.
    pub(crate) fn offset(&self) -> u64 {
        self.passed + self.start as u64 - self.passing.as_ref().map_or(0, |line| line.length)
    }

    /// Whether the row that begins at this place is not whole, and can't become so in the room that there is.
    pub(crate) fn is_too_long(&self, start: usize) -> bool {
        self.bytes().len() - start > MAX_ROW_BYTES && self.lines().len() <= start
    }

    /// Whether a line that is too long is passed over, and its end has not come.
    pub(crate) fn is_passing(&self) -> bool {
        self.passing.is_some()
    }

    /// Passes over the first line if it is too long, see [`Self::pass_line`]; `None` if it is not.
    pub(crate) fn pass_long_line(&mut self, position: u64, out: &mut Rows) -> Result<Option<bool>> {
        if self.is_passing() || self.has_long_line(0) { self.pass_line(position, out).map(Some) } else { Ok(None) }
    }

    /// Passes over the first line, and refuses it as the beginning of a row that is too long. Returns whether its end has
    /// come; until then, a reader that went on from here would begin with it.
    pub(crate) fn pass_line(&mut self, position: u64, out: &mut Rows) -> Result<bool> {
        loop {
            let end = memchr::memchr(b'\n', self.bytes());
            let length = end.map_or(self.bytes().len(), |end| end + 1);
            if self.passing.is_none() {
                let line = self.lines.first()?;
                let beginning = self.bytes()[..length.min(SHOWN_BYTES)].to_vec();
                self.passing = Some(LongLine { line, length: 0, beginning });
            }
            self.passing.iter_mut().for_each(|line| line.length += length as u64);
            self.consume(length);
            if end.is_some() || self.ended {
                out.failed.extend(self.passing.take().map(|line| line.refuse(position)));
                return Ok(true);
            }
            self.fill()?;
            if self.dry && !self.ended {
                return Ok(false);
            }
        }
    }

    /// Whether the line that begins at this place is too long.
    pub(crate) fn has_long_line(&self, start: usize) -> bool {
        let bytes = &self.bytes()[start..];
        bytes.len() > MAX_ROW_BYTES && memchr::memchr(b'\n', &bytes[..MAX_ROW_BYTES]).is_none()
    }

    /// Goes on behind so many bytes of the source, which must not be fewer than lie behind already.
    pub(crate) fn go_to(&mut self, offset: u64) -> Result<()> {
        let there = self.passed + self.bytes.len() as u64;
        if offset <= there {
            self.consume(offset.saturating_sub(self.passed + self.start as u64) as usize);
            return Ok(());
        }
        let missing = offset - there;
        self.lines.pass(&self.bytes[self.start..]);
        let passed = match &mut self.source {
            Source::Stream(source) => std::io::copy(&mut source.take(missing), &mut self.lines)?,
            Source::Seekable(source) => {
                self.lines.pass_over(source.file()?, there..offset);
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

    /// Gives refused rows the numbers of their lines, counted from 1: `start_of` says where in the window a row of a position
    /// begins.
    pub(crate) fn number_lines(&mut self, failed: &mut [BadRow], start_of: impl Fn(u64) -> usize) -> Result<()> {
        let mut failed = failed.iter_mut().filter(|row| row.line.is_none()).peekable();
        if failed.peek().is_none() {
            return Ok(());
        }
        let (mut line, mut at) = (self.lines.first()?, 0);
        for row in failed {
            let start = start_of(row.position);
            line += breaks(&self.bytes()[at..start]);
            (row.line, at) = (Some(line), start);
        }
        Ok(())
    }

    /// The bytes that were read and not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The whole lines among the bytes that were read and not consumed. At the end of the source that is all.
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
        self.read_mode == ReadMode::Streaming
    }

    /// Says that the source grows no more.
    pub(crate) fn end(&mut self) {
        self.read_mode = ReadMode::Bounded;
    }

    /// Gives up the first bytes of the window.
    pub(crate) fn consume(&mut self, bytes: usize) {
        let end = self.start + bytes;
        self.lines.pass(&self.bytes[self.start..end]);
        self.start = end;
    }

    /// Gives up the first bytes of the window, as a text of its own.
    pub(crate) fn split_off(&mut self, bytes: usize) -> (SpareText, LineCount) {
        let (mut text, lines) = (self.spare.take(), self.lines.clone());
        text.extend_from_slice(&self.bytes()[..bytes]);
        self.consume(bytes);
        (text, lines)
    }

    /// Reads more bytes of the source into the window.
    pub(crate) fn fill(&mut self) -> Result<()> {
        self.bytes.drain(..self.start);
        self.passed += self.start as u64;
        self.complete = self.complete.saturating_sub(self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        self.dry = self.read().doing(|| "reading")? == 0;
        while !self.started && !self.dry && self.skip_byte_order_mark() {
            self.dry = self.read().doing(|| "reading")? == 0;
        }
        self.ended = self.dry && self.read_mode != ReadMode::Tailing;
        if self.ended {
            self.complete = self.bytes.len();
        } else if let Some(last) = memchr::memrchr(b'\n', &self.bytes[self.searched..]) {
            self.complete = self.searched + last + 1;
        }
        self.searched = self.bytes.len();
        if self.dry && self.bytes.is_empty() {
            *self.bytes = Vec::new();
        }
        Ok(())
    }

    /// Appends the bytes that the source has, at most a chunk. Returns how many they are.
    fn read(&mut self) -> std::io::Result<usize> {
        if self.read_mode != ReadMode::Streaming {
            // A file that grows is mostly at its end, and many may be open.
            self.bytes.reserve(if self.read_mode == ReadMode::Bounded { CHUNK } else { 0 });
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
