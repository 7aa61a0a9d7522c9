//! Appends to the audit log.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use chrono::{SubsecRound as _, Utc};
use millstream_core::{Error, Result, ResultExt as _};

use super::Limits;
use super::entry::{Ending, Entry, Event, Link, link_to};
use super::files::LogFile;
use super::verify::ZEROS;
use crate::security::private::{create_folder, open_to_append, sync_folder};

/// The end of the log, where entries are appended.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    limits: Limits,
    /// None after a failure: then it is looked for again.
    end: Option<End>,
    /// Nobody else writes while it is held.
    _lock: File,
}

#[derive(Debug)]
struct End {
    file: File,
    path: PathBuf,
    /// How long the file is.
    length: u64,
    /// The number of the next entry.
    next: u64,
    /// The hash of the last line.
    prev: String,
}

impl Writer {
    /// Opens the log in a folder, which is made if need be. What a crash has left of a line is cut off.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self> {
        let opening = || format!("opening the audit log in `{}`", folder.display());
        if let Some(above) = folder.parent() {
            create_folder(above).doing(opening)?;
        }
        create_folder(folder).doing(opening)?;
        let lock = open_to_append(&folder.join("lock")).doing(opening)?;
        lock.try_lock().map_err(|_| Error::new("another daemon writes to it")).doing(opening)?;
        let end = Some(End::find(folder).doing(opening)?);
        Ok(Self { folder: folder.to_owned(), limits, end, _lock: lock })
    }

    /// Appends an entry, and says its number. It is durable then.
    pub fn append(&mut self, event: Event, result: Ending, of: Option<u64>, unwritten: u64) -> Result<u64> {
        let mut end = match self.end.take() {
            Some(end) => end,
            None => End::find(&self.folder)?,
        };
        let seq = end.next;
        let entry =
            Entry { seq, at: Utc::now().trunc_subsecs(3), event, result, of, unwritten, prev: end.prev.clone() };
        let mut line = match entry.line() {
            Ok(line) => line,
            Err(error) => {
                self.end = Some(end);
                return Err(error);
            }
        };
        let prev = link_to(&line).to_hex().as_str().to_owned();
        line.push(b'\n');
        if end.length > 0 && end.length + line.len() as u64 > self.limits.bytes {
            end = End::begin(&self.folder, seq, end.prev)?;
            self.remove_oldest();
        }
        end.write(&line).doing(|| format!("writing `{}`", end.path.display()))?;
        end.length += line.len() as u64;
        self.end = Some(End { next: seq + 1, prev, ..end });
        Ok(seq)
    }

    /// Removes what is too much. That it can't be costs space.
    fn remove_oldest(&self) {
        let files = LogFile::all(&self.folder).unwrap_or_default();
        let too_many = files.len().saturating_sub(self.limits.files);
        for file in files.into_iter().take(too_many) {
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

impl End {
    /// Looks for the end of the log.
    fn find(folder: &Path) -> Result<Self> {
        let files = LogFile::all(folder)?;
        let Some(last) = files.last() else { return Self::begin(folder, 1, ZEROS.to_owned()) };
        // A crash may have left a file without a line.
        for file in files.iter().rev() {
            if let Some(line) = file.backwards().doing(|| doing(file))?.next() {
                let line = line.doing(|| doing(file))?;
                let link: Link = serde_json::from_slice(&line).doing(|| {
                    format!(
                        "the last line of `{}` is no entry; move the log away to begin another one",
                        file.path.display()
                    )
                })?;
                let prev = link_to(&line).to_hex().as_str().to_owned();
                return Self::reopen(last, link.seq + 1, prev);
            }
        }
        Self::reopen(last, last.first, ZEROS.to_owned())
    }

    fn begin(folder: &Path, first: u64, prev: String) -> Result<Self> {
        let LogFile { path, .. } = LogFile::new(folder, first);
        let file = open_to_append(&path).doing(|| format!("beginning `{}`", path.display()))?;
        sync_folder(folder).doing(|| format!("beginning `{}`", path.display()))?;
        Ok(Self { file, path, length: 0, next: first, prev })
    }

    /// Opens the last file, and cuts off what is behind its last line.
    fn reopen(last: &LogFile, next: u64, prev: String) -> Result<Self> {
        let opening = || doing(last);
        let bytes = std::fs::read(&last.path).doing(opening)?;
        let length = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1) as u64;
        let file = OpenOptions::new().append(true).open(&last.path).doing(opening)?;
        if length < bytes.len() as u64 {
            file.set_len(length).doing(opening)?;
            tracing::warn!("a line of the audit log `{}` was cut off that was not whole", last.path.display());
        }
        file.sync_all().doing(opening)?;
        Ok(Self { file, path: last.path.clone(), length, next, prev })
    }

    /// Writes a line for good. If that fails, nothing of it is left, as far as that can be done.
    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        let written = self.file.write_all(line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            let _ = self.file.set_len(self.length);
        }
        written
    }
}

fn doing(file: &LogFile) -> String {
    format!("reading `{}`", file.path.display())
}
