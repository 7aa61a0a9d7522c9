//! The numbers of lines in a text, of which most are never asked for.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use millstream_core::Result;

/// How much of a range that was passed over is read at once.
const CHUNK: usize = 1 << 20;

/// How many line breaks a text has.
pub(crate) fn breaks(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

/// Counts the line breaks before a place. Those in a range that was passed over and not read are counted when a number is
/// needed, which mostly is never.
#[derive(Clone, Debug, Default)]
pub(crate) struct LineCount {
    breaks: u64,
    passed_over: Option<Arc<FileRange>>,
}

/// A range of a file whose line breaks are counted once, when somebody asks.
#[derive(Debug)]
struct FileRange {
    file: File,
    range: Range<u64>,
    breaks: OnceLock<u64>,
}

impl LineCount {
    /// Counts those of a text.
    pub(crate) fn pass(&mut self, text: &[u8]) {
        self.breaks += breaks(text);
    }

    /// Counts those of a range that is not read, once that is needed. There is one such range at most.
    pub(crate) fn pass_over(&mut self, file: File, range: Range<u64>) {
        self.passed_over = Some(Arc::new(FileRange { file, range, breaks: OnceLock::new() }));
    }

    /// The number of the line behind them, counted from 1.
    pub(crate) fn first(&self) -> Result<u64> {
        let passed_over = self.passed_over.as_ref().map_or(Ok(0), |range| range.breaks())?;
        Ok(self.breaks + passed_over + 1)
    }
}

/// Counts the line breaks in what is written to it.
impl Write for LineCount {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.pass(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl FileRange {
    fn breaks(&self) -> Result<u64> {
        if let Some(known) = self.breaks.get() {
            return Ok(*known);
        }
        let (mut chunk, mut at, mut count) = (vec![0; CHUNK], self.range.start, 0);
        while at < self.range.end {
            let most = (self.range.end - at).min(CHUNK as u64) as usize;
            let read = self.file.read_at(&mut chunk[..most], at)?;
            if read == 0 {
                break;
            }
            count += breaks(&chunk[..read]);
            at += read as u64;
        }
        Ok(*self.breaks.get_or_init(|| count))
    }
}
