//! The ingest log: what came in by an input that can't ask for it again, durable before it is acknowledged.
//!
//! A log is a folder of segments, files that are named by the number of their first record. Records are numbered by their
//! rows: one of three rows at number 5 is followed by number 8. Many append at once; a thread of the log's own writes what
//! waits, syncs once for all of it, and answers. Readers get durable records only.
//!
//! What is acknowledged survives any crash. What is not may survive, too: an answer can be lost as well as a request. What is
//! refused does not, unless the refusal says so. Should
//! rows that were acknowledged be gone nevertheless, a guard beside the segments tells, so that it is an error.

mod folder;
mod follower;
mod guard;
mod marks;
mod reader;
mod record;
mod replace;
mod segments;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use millstream_core::{Error, Result};
use tokio::sync::oneshot;

pub use follower::LogFollower;
pub use marks::{LogMark, LogMarks, Mark};
pub use reader::{LogReader, verify_log};
pub use record::Record;

use crate::Files;
use record::MAX_PAYLOAD;
use segments::Segments;
use writer::{Entry, NotWritten, Writer};

/// A group is written when it has so many bytes, or nothing else waits.
const GROUP_BYTES: u64 = 4 << 20;

/// How large a log and its files are.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A segment of so many bytes is followed by the next one. Only whole segments can be trimmed.
    pub segment_bytes: u64,
    /// Nothing is appended to a log that would have more bytes then.
    pub max_bytes: u64,
}

/// An ingest log. Only one process can have it open, once.
#[derive(Debug)]
pub struct Log {
    segments: Arc<Segments>,
    options: LogOptions,
    /// `None` while it is being dropped.
    queue: Option<mpsc::Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

/// A record that waits to be written, and who waits for it.
struct Waiting {
    entry: Entry,
    answer: Answer,
}

/// Told the number of a record that has become durable, or why it has not.
type Answer = Box<dyn FnOnce(Result<u64, NotAppended>) + Send>;

/// Why a record was not appended.
#[derive(Debug)]
pub struct NotAppended {
    /// What went wrong. It may work again later.
    pub error: Error,
    /// Whether the record may be found in the log after a crash nevertheless: it was written in part, and could not be removed.
    pub may_count: bool,
}

impl From<Error> for NotAppended {
    /// Before anything of it was written.
    fn from(error: Error) -> Self {
        Self { error, may_count: false }
    }
}

impl Log {
    /// Opens the log in a folder, which is created if need be.
    ///
    /// # Errors
    /// If another has it open, or if it is damaged in another way than a crash may have left it. Nothing has been changed then.
    pub fn open(files: Arc<dyn Files>, folder: &Path, options: LogOptions) -> Result<Self> {
        let mut writer = Writer::open(files, folder, options)?;
        let segments = writer.segments().clone();
        let (queue, waiting) = mpsc::channel();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            while let Some(group) = collect(&waiting) {
                write(&mut writer, group);
            }
        })?;
        Ok(Self { segments, options, queue: Some(queue), thread: Some(thread) })
    }

    /// Appends a record of so many rows, at least one. Returns its number when it is durable.
    ///
    /// If the caller stops waiting, the record is appended or not.
    ///
    /// # Errors
    /// If the log is full, or the disk, or the disk failed.
    pub async fn append(&self, payload: Vec<u8>, rows: u32) -> Result<u64> {
        let (sender, answer) = oneshot::channel();
        // Whoever has stopped waiting does not want to know.
        self.append_then(payload, rows, move |number| drop(sender.send(number)));
        answer.await.map_err(|_| Error::new("the log is closed"))?.map_err(|NotAppended { error, .. }| error)
    }

    /// Appends a record of so many rows, at least one, and calls `then` with what [`append`](Self::append) would return. That
    /// is called by the thread that writes the log, and so must be quick.
    pub fn append_then(
        &self,
        payload: Vec<u8>,
        rows: u32,
        then: impl FnOnce(Result<u64, NotAppended>) + Send + 'static,
    ) {
        let entry = Entry { payload, rows };
        if let Err(error) = self.reserve(&entry) {
            return then(Err(error.into()));
        }
        if let Some(queue) = &self.queue {
            // The thread ends when the queue does; if it panicked, the answer is dropped.
            let _ = queue.send(Waiting { entry, answer: Box::new(then) });
        }
    }

    fn reserve(&self, entry: &Entry) -> Result<()> {
        if entry.payload.len() > MAX_PAYLOAD || entry.rows == 0 {
            return Err(Error::new("a record must have a row, and at most 1 GiB"));
        }
        let most = self.options.max_bytes;
        if self.segments.reserve(entry.bytes(), most) {
            Ok(())
        } else {
            Err(Error::new(format!("the log is full: it holds {} of {most} bytes", self.segments.bytes())))
        }
    }

    /// Reads from the record that holds row `number` on.
    pub fn read(&self, number: u64) -> Result<LogReader> {
        LogReader::new(self.segments.clone(), number)
    }

    /// Reads single records.
    pub fn finder(&self) -> LogReader {
        LogReader::finder(self.segments.clone())
    }

    /// The number behind the last durable record.
    pub fn end(&self) -> u64 {
        self.segments.end()
    }

    /// The number of the first record that was not trimmed away.
    pub fn oldest(&self) -> u64 {
        self.segments.oldest()
    }

    /// The number of the first record of the second segment, before which all can be trimmed away at once.
    pub fn second(&self) -> Option<u64> {
        self.segments.behind(self.oldest())
    }

    /// How many bytes it takes up.
    pub fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// Nobody will read what lies before `number` any more: removes the segments that hold nothing else.
    pub fn trim(&self, number: u64) -> Result<()> {
        self.segments.trim(number)
    }
}

impl Drop for Log {
    /// Waits until what was appended is durable, so that the log can be opened again.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported, and whoever waited for it knows.
            let _ = thread.join();
        }
    }
}

/// The records that wait, as soon as there is one. `None` when nobody can append any more.
fn collect(waiting: &mpsc::Receiver<Waiting>) -> Option<Vec<Waiting>> {
    let first = waiting.recv().ok()?;
    let mut bytes = first.entry.bytes();
    let mut group = vec![first];
    while bytes < GROUP_BYTES {
        let Ok(next) = waiting.try_recv() else { break };
        bytes += next.entry.bytes();
        group.push(next);
    }
    Some(group)
}

/// Writes a group, and answers those who wait for it.
fn write(writer: &mut Writer, group: Vec<Waiting>) {
    let (entries, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|waiting| (waiting.entry, waiting.answer)).unzip();
    let written = writer.write(&entries);
    if written.is_err() {
        writer.segments().release(entries.iter().map(Entry::bytes).sum());
    }
    let mut number = *written.as_ref().unwrap_or(&0);
    for (entry, answer) in entries.iter().zip(answers) {
        let result = written.as_ref().map(|_| number);
        answer(result.map_err(|NotWritten { error, may_count }| NotAppended {
            error: Error::new(format!("writing the log: {error}")),
            may_count: *may_count,
        }));
        number += u64::from(entry.rows);
    }
}
