//! The audit log: who has done what, in lines that say the hash of the line before, written before the answer.

mod entry;
mod files;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Error, Result, ResultExt as _};
use millstream_net::Allowance;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::spawn_blocking;

use self::files::LogFile;
use self::writer::Writer;

pub use entry::{Ending, Entry, Event};
pub use verify::{Verified, verify};

/// How many refused attempts are written at once, and how many a second after that: a line in ten seconds, so that whoever would like to push
/// what they have done out of the log has to go on for months.
const REFUSED: (f64, f64) = (0.1, 60.0);

/// How many bytes a file has at most, and how many files there are at most; then the oldest goes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    files: usize,
}

const LIMITS: Limits = Limits { bytes: 16 << 20, files: 64 };

/// The audit log of a daemon.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    writer: Mutex<Writer>,
    refused: Mutex<Refused>,
}

/// The refused attempts that may be written, and how many were not since the last one that was.
#[derive(Debug)]
struct Refused {
    allowance: Allowance,
    unwritten: u64,
}

/// Entries, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AuditPage {
    /// The entries.
    pub items: Vec<Entry>,
    /// What to ask for to get those before. None at the end.
    pub next: Option<u64>,
}

/// Something that is being done, of which the log says that it has begun.
#[derive(Debug)]
#[must_use = "the log has to say how it ended"]
pub struct Begun {
    audit: Arc<Audit>,
    event: Event,
    seq: u64,
}

impl Audit {
    /// Opens the log in the daemon's data folder, of which this process is the only one to write to it.
    ///
    /// # Errors
    /// If it can't be read or written, or its end is damaged.
    pub fn open(data: &Path) -> Result<Arc<Self>> {
        Self::with_limits(data, LIMITS)
    }

    fn with_limits(data: &Path, limits: Limits) -> Result<Arc<Self>> {
        let folder = data.join("admin/audit");
        let writer = Mutex::new(Writer::open(&folder, limits)?);
        let refused = Refused { allowance: Allowance::new(REFUSED.0, REFUSED.1), unwritten: 0 };
        Ok(Arc::new(Self { folder, writer, refused: Mutex::new(refused) }))
    }

    /// Says that something is about to be done. When this returns, no crash undoes that it was said.
    ///
    /// # Errors
    /// If it can't be written: then it must not be done.
    pub async fn begin(self: &Arc<Self>, event: Event) -> Result<Begun> {
        let seq = self.write(event.clone(), Ending::Begun, None, 0).await?;
        Ok(Begun { audit: self.clone(), event, seq })
    }

    /// Says that something was refused, unless too many such things are said.
    pub async fn refused(self: &Arc<Self>, event: Event, why: String) {
        let unwritten = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.allowance.take().is_err() {
                refused.unwritten += 1;
                return;
            }
            std::mem::take(&mut refused.unwritten)
        };
        if let Err(error) = self.write(event, Ending::Refused(why), None, unwritten).await {
            tracing::error!("an attempt that was refused is missing in the audit log: {error}");
        }
    }

    /// Entries before that of a number, or the last ones, the newest first.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn page(&self, before: Option<u64>, limit: usize) -> Result<AuditPage> {
        let before = before.unwrap_or(u64::MAX);
        let mut items = Vec::new();
        for file in LogFile::all(&self.folder)?.iter().rev().filter(|file| file.first < before) {
            let reading =
                || format!("reading `{}`; `millstream audit verify` says what is wrong with it", file.path.display());
            for line in file.backwards().doing(reading)? {
                let entry: Entry = serde_json::from_slice(&line.doing(reading)?).doing(reading)?;
                if entry.seq >= before {
                    continue;
                }
                if items.len() == limit {
                    return Ok(AuditPage { next: items.last().map(|entry: &Entry| entry.seq), items });
                }
                items.push(entry);
            }
        }
        Ok(AuditPage { items, next: None })
    }

    async fn write(self: &Arc<Self>, event: Event, ending: Ending, of: Option<u64>, unwritten: u64) -> Result<u64> {
        let audit = self.clone();
        let write = move || {
            let mut writer = audit.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.append(event, ending, of, unwritten)
        };
        spawn_blocking(write).await.unwrap_or_else(|_| Err(Error::new("the audit log can't be written")))
    }
}

impl Begun {
    /// Says how it ended, and what is there now.
    ///
    /// # Errors
    /// If that can't be written. What was done stays done.
    pub async fn end(self, ending: Ending, after: Option<serde_json::Value>) -> Result<()> {
        let event = Event { after, ..self.event };
        self.audit.write(event, ending, Some(self.seq), 0).await?;
        Ok(())
    }

    /// The number of the entry that says that it has begun.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}
