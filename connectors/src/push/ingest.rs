//! Takes rows, or refuses them, and says when they are durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{Error, Held};
use millstream_store::{Log, NotAppended};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::spawn_blocking;

use super::contents::Contents;
use super::formats::FormatTag;
use super::keys::{Answered, Key, Known, SharedKeys, now};
use super::memory::{Memory, Share};
use super::record::Record;
use super::refused::Refused;

/// How much memory what comes may take together, unless that which comes at once may take more.
const MEMORY: usize = if cfg!(test) { 4 << 20 } else { 256 << 20 };

/// How many of those that take long, or become much more when they are read, are read at a time.
const READERS: usize = 4;

/// Bytes that take longer to read than one sender should keep others waiting.
const LONG: usize = 256 << 10;

/// Takes rows for a flow. Any number of senders may have one.
#[derive(Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

struct Shared {
    contents: Arc<dyn Contents>,
    readers: Arc<Semaphore>,
    keys: SharedKeys,
    log: Arc<Log>,
    home: PathBuf,
    memory: Memory,
    held: watch::Receiver<Option<Held>>,
}

/// An acknowledgement: these rows are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The position of the first one; none if there are none.
    pub first: Option<u64>,
    /// How many they are.
    pub rows: u32,
}

impl Ingest {
    /// One that writes to a log. At most so many bytes come at once.
    pub(super) fn new(
        contents: Arc<dyn Contents>,
        keys: SharedKeys,
        log: Arc<Log>,
        home: &Path,
        largest: usize,
        held: watch::Receiver<Option<Held>>,
    ) -> Self {
        let memory = Memory::new(MEMORY.max(2 * largest));
        let readers = Arc::new(Semaphore::new(READERS));
        Self { shared: Arc::new(Shared { contents, readers, keys, log, home: home.to_owned(), memory, held }) }
    }

    /// The node's own folder, in which the receiver may keep files.
    pub fn home(&self) -> &Path {
        &self.shared.home
    }

    /// The format that senders call so: the input's own, or another one that it knows.
    ///
    /// # Errors
    /// If rows are not read in it.
    pub fn format(&self, name: &str) -> Result<FormatTag, Refused> {
        self.shared.contents.format(name)
    }

    /// A share of the memory for what comes, to be grown before bytes are held. It goes with them to [`Ingest::take`].
    pub fn memory(&self) -> Share {
        self.shared.memory.share()
    }

    /// Whether anything is taken for now. Asked before what comes is read, it saves that.
    ///
    /// # Errors
    /// If the flow reads nothing.
    pub fn check(&self) -> Result<(), Refused> {
        self.shared.held.borrow().clone().map_or(Ok(()), |held| Err(Refused::Held(held)))
    }

    /// Takes the rows of bytes in a format: all of them, or none. Returns when they are durable.
    ///
    /// What has come before with the same key is not taken again, and answered as then. Whoever stops waiting does not know
    /// whether rows were taken; the key does.
    pub async fn take(
        &self,
        key: Option<Key>,
        format: FormatTag,
        bytes: Vec<u8>,
        memory: Share,
    ) -> Result<Ack, Refused> {
        self.check()?;
        let (record, _memory) = self.record(key.clone(), format, bytes, memory).await?;
        self.write(key, record).await
    }

    async fn record(
        &self,
        key: Option<Key>,
        format: FormatTag,
        bytes: Vec<u8>,
        memory: Share,
    ) -> Result<(Record, Share), Refused> {
        let contents = self.shared.contents.clone();
        if bytes.len() < LONG && !contents.grows(format) {
            return Ok((Record::new(key.as_ref(), format, bytes, &*contents)?, memory));
        }
        let failed = || Refused::Unreadable { row: None, why: "the rows can't be read".to_owned() };
        let place = self.shared.readers.clone().acquire_owned().await.map_err(|_| failed())?;
        let work = move || {
            let record = Record::new(key.as_ref(), format, bytes, &*contents);
            drop(place);
            Ok((record?, memory))
        };
        spawn_blocking(work).await.unwrap_or_else(|_| Err(failed()))
    }

    /// Answers as before if the key is known, and else when the rows are durable.
    async fn write(&self, key: Option<Key>, record: Record) -> Result<Ack, Refused> {
        let Record { payload, rows, fingerprint } = record;
        if rows == 0 {
            return Ok(Ack { first: None, rows });
        }
        let taken = |first| Ack { first: Some(first), rows };
        match key.as_ref().map(|key| self.shared.keys.lock().come(key, now())) {
            None | Some(Known::New) => {}
            Some(Known::Answered(before)) if before.fingerprint == fingerprint => return Ok(taken(before.first)),
            Some(Known::Answered(_)) => return Err(Refused::KeyOfOthers),
            Some(Known::Writing) => return Err(Refused::BeingTaken),
        }
        let (sender, written) = oneshot::channel();
        let keys = self.shared.keys.clone();
        // It counts for the key whether or not the sender still waits.
        self.shared.log.append_then(payload, rows, move |number| {
            match (&key, &number) {
                (Some(key), Ok(first)) => {
                    keys.lock().answered(key, Answered { first: *first, rows, fingerprint }, now())
                }
                (Some(key), Err(_)) => keys.lock().forget(key),
                (None, _) => {}
            }
            let _ = sender.send(number);
        });
        let closed = |_| Err(NotAppended { error: Error::new("the log is closed"), may_count: true });
        written.await.unwrap_or_else(closed).map(taken).map_err(Refused::from)
    }
}

impl From<NotAppended> for Refused {
    fn from(NotAppended { error, may_count }: NotAppended) -> Self {
        if may_count { Self::Unknown(error.to_string()) } else { Self::NoRoom(error.to_string()) }
    }
}
