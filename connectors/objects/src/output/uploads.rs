//! Uploads: a file is sent in parts, which nobody sees until somebody says that they are an object.
//!
//! How far an upload has come is written down beside its file, so that a run after a crash completes it instead of sending it again, or
//! gives it up.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use millstream_core::{Result, ResultExt as _, join};
use millstream_store::{Objects, object_error};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// An object that is no larger is sent at once. A part has as much; all but the last have the same size, which some services want.
/// In tests of this crate it is so little that few rows are an upload.
pub const PART_BYTES: u64 = if cfg!(test) { 64 } else { 8 << 20 };

/// The most parts that services take.
const MOST_PARTS: u64 = 10_000;

/// How many parts of an object are on their way at once, and how many objects.
const PARTS: usize = 4;
const OBJECTS: usize = 2;

/// How many objects may wait for their turn, before rows wait as well.
const WAITING: usize = 8;

/// An upload that has all its parts, or is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upload {
    /// How the service calls it.
    id: String,
    /// How it calls the parts, if all are there.
    parts: Option<Vec<String>>,
}

/// Where the bytes of an object are.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// In a file.
    File(PathBuf),
    /// In memory.
    Memory(Arc<Vec<u8>>),
}

impl Bytes {
    /// A stretch of them.
    fn read(&self, start: u64, length: u64) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => {
                let read = || {
                    let mut bytes = vec![0; length as usize];
                    File::open(path)?.read_exact_at(&mut bytes, start)?;
                    Ok::<_, std::io::Error>(bytes)
                };
                read().doing(|| format!("reading `{}`", path.display()))
            }
            Self::Memory(bytes) => Ok(bytes[start as usize..(start + length) as usize].to_vec()),
        }
    }

    /// A stretch of them, read on a thread that may wait for a disk.
    pub async fn stretch(&self, start: u64, length: u64) -> Result<PutPayload> {
        let bytes = self.clone();
        let read = join(&mut tokio::task::spawn_blocking(move || bytes.read(start, length))).await;
        Ok(PutPayload::from(read?))
    }
}

/// The uploads of an output that have begun before a checkpoint has decided on their objects.
#[derive(Clone)]
pub struct Uploads {
    objects: Objects,
    tasks: Arc<Mutex<HashMap<Path, JoinHandle<Result<Upload>>>>>,
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Uploads {
    /// None yet.
    pub fn new(objects: Objects) -> Self {
        let semaphore = |count| Arc::new(Semaphore::new(count));
        Self { objects, tasks: Arc::default(), turns: semaphore(OBJECTS), waiting: semaphore(WAITING) }
    }

    /// Begins to send a file in the background, if it is worth it. Waits while others wait for their turn.
    pub async fn begin(&self, path: &Path, file: &FilePath, bytes: u64) {
        let Some(store) = self.objects.multipart.clone().filter(|_| bytes > PART_BYTES) else { return };
        // Neither is ever closed.
        let Ok(place) = self.waiting.clone().acquire_owned().await else { return };
        let (turns, of, file) = (self.turns.clone(), path.clone(), file.to_owned());
        let task = tokio::spawn(async move {
            let _turn = turns.acquire().await;
            drop(place);
            send(&*store, &of, &Bytes::File(file.clone()), bytes, Some(&beside(&file))).await
        });
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), task);
    }

    /// The upload of an object that has begun in this run, once all its parts are there. None if it failed: it is tried again when
    /// the object is to be seen.
    pub async fn take(&self, path: &Path) -> Option<Upload> {
        let task = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        join(&mut task?).await.ok()
    }

    /// Sends bytes when it is their turn. How far that has come is written beside `file`.
    pub async fn send(
        &self,
        store: &dyn MultipartStore,
        path: &Path,
        bytes: &Bytes,
        length: u64,
        file: Option<&FilePath>,
    ) -> Result<Upload> {
        let _turn = self.turns.acquire().await;
        send(store, path, bytes, length, file.map(beside).as_deref()).await
    }

    /// Gives up all that has begun.
    pub async fn abort(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(store) = &self.objects.multipart else { return };
        let given_up = tasks.into_iter().map(|(path, mut task)| async move {
            if let Ok(upload) = join(&mut task).await {
                let _ = store.abort_multipart(&path, &upload.id).await;
            }
        });
        futures::future::join_all(given_up).await;
    }

    /// Gives up an upload of a run before, of which nobody needs the file any more.
    pub async fn give_up(&self, path: &Path, file: &FilePath) {
        if let (Some(store), Some(upload)) = (&self.objects.multipart, Upload::beside(file)) {
            // What can't be given up now, the service removes one day.
            let _ = store.abort_multipart(path, &upload.id).await;
        }
    }
}

impl Upload {
    /// How far the upload of a file has come.
    pub fn beside(file: &FilePath) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(beside(file)).ok()?).ok()
    }

    /// Whether all parts are there.
    pub fn is_whole(&self) -> bool {
        self.parts.is_some()
    }

    /// Says that the parts are an object, which is seen from then on.
    ///
    /// # Errors
    /// Those of the store. Whether the object is there nevertheless is unknown then.
    pub async fn complete(&self, store: &dyn MultipartStore, path: &Path) -> object_store::Result<()> {
        let parts = self.parts.iter().flatten().map(|id| PartId { content_id: id.clone() }).collect();
        store.complete_multipart(path, &self.id, parts).await.map(|_| ())
    }
}

/// Where it is written down how far the upload of a file has come.
pub fn beside(file: &FilePath) -> PathBuf {
    with_ending(file, "upload")
}

/// A path with something behind it.
pub fn with_ending(file: &FilePath, ending: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    file.with_file_name(name)
}

/// Sends bytes in parts. How far that has come is written to `noted`.
async fn send(
    store: &dyn MultipartStore,
    path: &Path,
    bytes: &Bytes,
    length: u64,
    noted: Option<&FilePath>,
) -> Result<Upload> {
    let doing = || format!("uploading `{path}`");
    let note = |upload: &Upload| match noted {
        Some(noted) => std::fs::write(noted, serde_json::to_vec(upload).doing(doing)?).doing(doing),
        None => Ok(()),
    };
    let id = store.create_multipart(path).await.map_err(|error| object_error(&error)).doing(doing)?;
    let mut upload = Upload { id, parts: None };
    note(&upload)?;
    let size = PART_BYTES.max(length.div_ceil(MOST_PARTS));
    let parts = (0..length.div_ceil(size)).map(|part| {
        let id = &upload.id;
        async move {
            let start = part * size;
            let payload = bytes.stretch(start, size.min(length - start)).await?;
            let sent = store.put_part(path, id, part as usize, payload).await.map_err(|error| object_error(&error));
            Ok::<_, millstream_core::Error>(sent.doing(doing)?.content_id)
        }
    });
    let parts: Vec<String> = stream::iter(parts).buffered(PARTS).try_collect().await?;
    upload.parts = Some(parts);
    note(&upload)?;
    Ok(upload)
}

/// Writes an object of a store in which there are no uploads from one process to the next. It is there as a whole, or not.
pub async fn copy(objects: &Objects, path: &Path, bytes: &Bytes, length: u64) -> Result<()> {
    let doing = || format!("writing `{path}`");
    let wrong = |error: object_store::Error| object_error(&error);
    let mut upload = objects.store.put_multipart(path).await.map_err(wrong).doing(doing)?;
    for start in (0..length).step_by(PART_BYTES as usize) {
        let part = bytes.stretch(start, PART_BYTES.min(length - start)).await?;
        upload.put_part(part).await.map_err(wrong).doing(doing)?;
    }
    upload.complete().await.map_err(wrong).doing(doing).map(|_| ())
}
