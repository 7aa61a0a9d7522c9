//! Reads a log, from any number on: while it grows, or as it lies in its folder.

use std::path::Path;
use std::sync::Arc;

use millstream_core::{Error, Result, ResultExt};
use tokio::sync::watch;

use super::folder::{Found, acknowledged, damaged};
use super::record::{Header, Parsed, Record, START, Salt, parse};
use super::segments::{Known, Segments};
use crate::Files;
use crate::files::is_missing;

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// How much is read at once where a single record is looked for.
const SMALL_CHUNK: usize = 64 << 10;

/// Reads the durable records of a log, one by one.
#[derive(Debug)]
pub struct LogReader {
    segments: Arc<Segments>,
    /// How much it reads at once.
    chunk: usize,
    /// Whether it notes where the records begin that it passes, and looks there for others.
    finds: bool,
    /// Tells when there is more. `None` if it is read as it was.
    grown: Option<watch::Receiver<u64>>,
    /// The number that is wanted next.
    number: u64,
    place: Option<Place>,
}

/// Where in a segment.
#[derive(Debug)]
struct Place {
    first: u64,
    salt: Salt,
    /// The number of the record that begins at `used`.
    number: u64,
    /// Bytes that were read, and how many of them are done with.
    bytes: Vec<u8>,
    used: usize,
    /// Where `bytes` begin in the segment.
    start: u64,
}

impl LogReader {
    /// Reads the log in a folder from the record that holds `number` on, as far as it was written when this is called.
    ///
    /// Nothing is changed, and another process may write the log meanwhile. What that process trims is not there any more,
    /// and what it has written without having acknowledged it may be there.
    ///
    /// # Errors
    /// If there is no such folder, the record is no longer in the log or not yet, or records are damaged or missing. Those
    /// before the last segment are looked at when they are read.
    pub fn of_folder(files: Arc<dyn Files>, folder: &Path, number: u64) -> Result<Self> {
        Self::of_segments(look(files, folder)?, number)
    }

    fn of_segments(segments: Segments, number: u64) -> Result<Self> {
        Ok(Self { grown: None, ..Self::new(Arc::new(segments), number)? })
    }

    /// Reads from the record that holds `number` on.
    pub(super) fn new(segments: Arc<Segments>, number: u64) -> Result<Self> {
        let end = segments.end();
        if number > end {
            let folder = segments.folder.display();
            return Err(Error::new(format!(
                "the log `{folder}` ends at row {end}, but the rows before {number} were read already: it was removed or replaced"
            )));
        }
        segments.holding(number)?;
        let grown = Some(segments.watch());
        Ok(Self { segments, chunk: CHUNK, finds: false, grown, number, place: None })
    }

    /// Reads single records, which [`find`](Self::find) looks for.
    pub(super) fn finder(segments: Arc<Segments>) -> Self {
        Self { segments, chunk: SMALL_CHUNK, finds: true, grown: None, number: 0, place: None }
    }

    /// The record that holds row `number`, or `None` if there is none yet. What lies between two records of which it is known where they begin is
    /// passed, so that it costs the least if the next one lies behind this one.
    ///
    /// # Errors
    /// If it can't be read, or is no longer in the log.
    pub fn find(&mut self, number: u64) -> Result<Option<Record>> {
        if !self.place.as_ref().is_some_and(|place| place.is_nearest(&self.segments, number)) {
            self.place = None;
        }
        self.number = number;
        self.try_next()
    }

    /// The number that is wanted next.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Goes on with what another process has written meanwhile. What was read ahead may not have been durable then, and is read again.
    pub(super) fn read_again(&mut self) {
        if let Some(place) = &mut self.place {
            place.bytes.truncate(place.used);
        }
    }

    /// The next record, as soon as there is one. Cancel safe.
    ///
    /// # Errors
    /// If it can't be read, or there is none, and the log is read as it was.
    pub async fn next(&mut self) -> Result<Record> {
        loop {
            if let Some(record) = self.try_next()? {
                return Ok(record);
            }
            let number = self.number;
            let grown = self.grown.as_mut().ok_or_else(|| Error::new(format!("the log ends at row {number}")))?;
            grown.wait_for(|end| *end > number).await.doing(|| "waiting for the log to grow")?;
        }
    }

    /// The next record, or `None` if it is not there yet.
    pub fn try_next(&mut self) -> Result<Option<Record>> {
        while self.number < self.segments.end() {
            let mut place = match self.place.take() {
                Some(place) => place,
                None => self.open()?,
            };
            if place.number > place.first && self.segments.begins(place.number) {
                // The rest of the segment, if there is any, was given up.
                self.place = Some(Place::open(&self.segments, place.number, self.chunk)?);
                continue;
            }
            if self.finds {
                self.segments.passed(place.number, place.known());
            }
            let header = place.header(&self.segments, self.chunk)?;
            let found = (header.end() > self.number).then(|| place.record(&header));
            place.skip(&header);
            self.place = Some(place);
            if let Some(record) = found {
                self.number = record.end();
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Where the record is found, or lies behind.
    fn open(&self) -> Result<Place> {
        match self.segments.near(self.number).filter(|_| self.finds) {
            Some((number, known)) => Place::at(&self.segments, number, known, self.chunk),
            None => Place::open(&self.segments, self.segments.holding(self.number)?, self.chunk),
        }
    }

    /// Reads what lies before `number`, to see whether it is there.
    pub(super) fn pass(&mut self, number: u64) -> Result<()> {
        while self.number < number && self.try_next()?.is_some() {}
        Ok(())
    }
}

/// The segments in a folder, as they are now.
fn look(files: Arc<dyn Files>, folder: &Path) -> Result<Segments> {
    if !files.exists(folder).doing(|| format!("opening the log `{}`", folder.display()))? {
        return Err(Error::new(format!("there is no log `{}`", folder.display())));
    }
    let Found { by_number, last } = Found::look(&*files, folder)?;
    Ok(Segments::new(files, folder.to_owned(), by_number, last.end))
}

/// Reads all records of the log in a folder, to see whether they are whole and none is missing. Nothing is changed, and
/// another process may write the log meanwhile.
///
/// # Errors
/// If there is no such folder, or what was acknowledged and was not trimmed away is damaged or missing.
pub fn verify_log(files: Arc<dyn Files>, folder: &Path) -> Result<()> {
    let mut segments = look(files.clone(), folder)?;
    loop {
        let (oldest, end) = (segments.oldest(), segments.end());
        let passed = LogReader::of_segments(segments, oldest)?.pass(end);
        if passed.is_ok() {
            return Ok(());
        }
        segments = look(files.clone(), folder)?;
        // Else it was trimmed meanwhile, and what was missing may be of that.
        if segments.oldest() <= oldest {
            return passed;
        }
    }
}

impl Place {
    fn open(segments: &Segments, first: u64, chunk: usize) -> Result<Self> {
        let bytes = read(segments, first, 0, chunk)?;
        let salt = Salt::of(&bytes).ok_or_else(|| damaged(&segments.path(first), 0))?;
        Ok(Self { first, salt, number: first, bytes, used: START, start: 0 })
    }

    fn at(segments: &Segments, number: u64, known: Known, chunk: usize) -> Result<Self> {
        let Known { first, salt, place } = known;
        let bytes = read(segments, first, place, chunk)?;
        Ok(Self { first, salt, number, bytes, used: 0, start: place })
    }

    /// Whether a record lies in this segment behind this place, and no other is known that is nearer.
    fn is_nearest(&self, segments: &Segments, number: u64) -> bool {
        let is_here = segments.holding(number).is_ok_and(|first| first == self.first);
        is_here && self.number <= number && segments.near(number).is_none_or(|(nearest, _)| nearest <= self.number)
    }

    /// Where it is.
    fn known(&self) -> Known {
        Known { first: self.first, salt: self.salt, place: self.start + self.used as u64 }
    }

    /// The record that must be here, with all of its bytes.
    fn header(&mut self, segments: &Segments, chunk: usize) -> Result<Header> {
        loop {
            match parse(&self.bytes[self.used..], self.salt) {
                Parsed::Record(header, _) if header.number == self.number => return Ok(header),
                Parsed::Short(length) if self.fill(segments, length, chunk)? => {}
                _ => return Err(self.lost(segments)),
            }
        }
    }

    /// The record that must be here is not.
    fn lost(&self, segments: &Segments) -> Error {
        let (path, place) = (segments.path(self.first), self.start + self.used as u64);
        match segments.behind(self.first) {
            Some(next) if place == segments.length(self.first) => Error::new(format!(
                "a segment behind `{}` is missing: {}, and are no longer in the log",
                path.display(),
                acknowledged(self.number, next)
            )),
            _ => damaged(&path, place),
        }
    }

    /// Reads on until `length` bytes are there. Returns false if there are not so many.
    fn fill(&mut self, segments: &Segments, length: usize, chunk: usize) -> Result<bool> {
        self.bytes.drain(..self.used);
        self.start += self.used as u64;
        self.used = 0;
        let (from, more) = (self.start + self.bytes.len() as u64, chunk.max(length - self.bytes.len()));
        self.bytes.extend_from_slice(&read(segments, self.first, from, more)?);
        Ok(self.bytes.len() >= length)
    }

    fn record(&self, header: &Header) -> Record {
        let payload = self.bytes[self.used..][header.payload()].to_vec();
        Record { number: header.number, rows: header.rows, payload }
    }

    fn skip(&mut self, header: &Header) {
        self.used += header.payload().end;
        self.number = header.end();
    }
}

/// Bytes of a segment, as far as they are durable: what follows may yet be given up.
fn read(segments: &Segments, first: u64, start: u64, length: usize) -> Result<Vec<u8>> {
    let length = segments.length(first).saturating_sub(start).min(length as u64) as usize;
    let path = segments.path(first);
    match segments.files.read_at(&path, start, length) {
        // Another process has trimmed the log.
        Err(error) if is_missing(&error) => Err(segments.gone(first)),
        read => read.doing(|| format!("reading `{}`", path.display())),
    }
}
