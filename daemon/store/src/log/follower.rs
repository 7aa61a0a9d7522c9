//! Reads a log that another process writes, while it grows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{Error, Result, ResultExt};

use super::folder::list;
use super::guard::{self, Claim};
use super::reader::LogReader;
use super::record::Record;
use super::segments::Segments;
use crate::Files;

/// Reads the durable records of a log that another process writes. How far they are durable the guard says: what is not claimed yet is not read, since
/// other records may have its numbers after a power cut.
#[derive(Debug)]
pub struct LogFollower {
    files: Arc<dyn Files>,
    folder: PathBuf,
    segments: Arc<Segments>,
    reader: LogReader,
}

impl LogFollower {
    /// Follows the log in a folder from the record that holds `number` on; without a number, from the oldest that there is.
    ///
    /// # Errors
    /// If there is no log, or the record is no longer in it.
    pub fn open(files: Arc<dyn Files>, folder: &Path, number: Option<u64>) -> Result<Self> {
        let doing = || format!("opening the log `{}`", folder.display());
        let claim = guard::read(&*files, folder).doing(doing)?;
        let claim = claim.ok_or_else(|| Error::new(format!("there is no log `{}`", folder.display())))?;
        let by_number = list(&*files, folder).doing(doing)?;
        let number = number.or_else(|| by_number.first_key_value().map(|(first, _)| *first)).unwrap_or(0);
        // After a power cut the claims may be gone that were made of what was read already. What they were made of is there.
        let end = claim.end.max(number);
        let segments = Arc::new(Segments::new(files.clone(), folder.to_owned(), by_number, end));
        let reader = LogReader::new(segments.clone(), number)?;
        Ok(Self { files, folder: folder.to_owned(), segments, reader })
    }

    /// The next record, or `None` if none is durable yet.
    ///
    /// # Errors
    /// If it can't be read, or was trimmed away.
    pub fn try_next(&mut self) -> Result<Option<Record>> {
        match self.reader.try_next()? {
            None if self.look()? => self.reader.try_next(),
            next => Ok(next),
        }
    }

    /// The number of the next record.
    pub fn number(&self) -> u64 {
        self.reader.number()
    }

    /// Looks for what has become durable meanwhile. False if nothing has.
    fn look(&mut self) -> Result<bool> {
        let doing = || format!("reading the log `{}`", self.folder.display());
        let Some(Claim { end, .. }) = guard::read(&*self.files, &self.folder).doing(doing)? else { return Ok(false) };
        if end <= self.segments.end() {
            return Ok(false);
        }
        // After the claim, so that all is there that it is made of.
        self.segments.replaced(list(&*self.files, &self.folder).doing(doing)?, end);
        self.reader.read_again();
        Ok(true)
    }
}
