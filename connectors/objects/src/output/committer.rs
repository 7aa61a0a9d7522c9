//! Makes visible what the output has staged, once a checkpoint has decided that it counts.
//!
//! A name is that of one object of one run, and its bytes never change. So what is there under it, and has its size, is the object:
//! whoever made it visible, and whatever became of the answer.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use millstream_connectors::Digest;
use millstream_core::{
    CommitContext, Committer, Error, ErrorClass, PendingCommit, Result, ResultExt as _, State, join,
};
use millstream_store::{crash, object_error};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use super::Job;
use super::uploads::{Bytes, PART_BYTES, Upload, Uploads, beside, copy, with_ending};

/// How many objects are made visible at once.
const AT_ONCE: usize = 8;

/// The name of what is staged.
pub const STAGED: &str = "objects";

/// An object that is staged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StagedObject {
    /// Its name below the output's path.
    pub name: String,
    /// The file that it is, below the node's folder; from the root on if it is a temporary one.
    pub file: PathBuf,
    /// Whether its bytes are part of what is staged, for runs that don't have the file.
    pub in_stage: bool,
    /// Its bytes.
    pub digest: Digest,
    /// Files that are needed no more when it is there, below the node's folder.
    pub journals: Vec<PathBuf>,
}

/// The name of the bytes of an object in what is staged.
pub fn bytes_name(index: usize) -> String {
    format!("object-{index}")
}

/// What says that an object has become visible. Somebody may have taken it away by now.
pub fn marker(file: &FilePath) -> PathBuf {
    with_ending(file, "visible")
}

/// The files of objects that were pending when the run began: what is known of them stays until they are written down as visible.
pub type Recovered = Arc<Mutex<HashSet<PathBuf>>>;

/// Makes objects visible.
pub struct ObjectsCommitter {
    pub(super) job: Arc<Job>,
    pub(super) uploads: Uploads,
    pub(super) recovered: Recovered,
}

/// An object that is to be made visible.
struct Pending<'a> {
    staged: &'a StagedObject,
    path: Path,
    /// Its file, if it is there or should be.
    file: Option<PathBuf>,
    bytes: Bytes,
}

impl ObjectsCommitter {
    /// The objects of a stage.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn objects(staged: &State) -> Result<Vec<StagedObject>> {
        if staged.has(STAGED) { staged.get(STAGED) } else { Ok(Vec::new()) }
    }

    /// Makes all objects of a stage be there, whatever became of them before, where something else says whether they count. Returns
    /// where the bytes of each are.
    ///
    /// # Errors
    /// If one can't be written, or something else is there under its name.
    pub async fn put_all(&self, stage: &PendingCommit) -> Result<Vec<(StagedObject, Bytes)>> {
        let objects = Self::objects(&stage.staged)?;
        let put = objects.iter().enumerate().map(|(index, staged)| async move {
            let object = self.find(index, staged, stage).await?;
            self.make_visible(&object).await.doing(|| self.making(&object))?;
            Ok::<_, Error>((staged.clone(), object.bytes))
        });
        stream::iter(put.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect().await
    }

    /// Keeps the files of stages that were pending when the run began, until they are written down as visible.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn keep(&self, pending: &[PendingCommit]) -> Result<()> {
        for one in pending {
            let files = Self::objects(&one.staged)?.into_iter().map(|object| object.file);
            self.recovered.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
        }
        Ok(())
    }

    /// An object of a stage, and where its bytes are.
    async fn find<'a>(&self, index: usize, staged: &'a StagedObject, stage: &PendingCommit) -> Result<Pending<'a>> {
        let path = self.job.objects.path(&self.job.name(&staged.name))?;
        let file = self.file(&staged.file, &stage.context)?;
        if !staged.in_stage || file.exists() {
            return Ok(Pending { staged, path, file: Some(file.clone()), bytes: Bytes::File(file) });
        }
        let state = stage.staged.clone();
        let read = move || state.bytes(&bytes_name(index)).map(<[u8]>::to_vec);
        let bytes = join(&mut tokio::task::spawn_blocking(read)).await?;
        Ok(Pending { staged, path, file: None, bytes: Bytes::Memory(Arc::new(bytes)) })
    }

    fn making(&self, object: &Pending<'_>) -> String {
        format!("making `{}` visible at `{}`", object.path, self.job.objects.location)
    }

    async fn publish(&self, index: usize, staged: &StagedObject, stage: &PendingCommit) -> Result<()> {
        let object = self.find(index, staged, stage).await?;
        if object.file.as_ref().is_some_and(|file| marker(file).exists()) {
            return Ok(());
        }
        self.make_visible(&object).await.doing(|| self.making(&object))?;
        crash::point("objects-completed");
        if let Some(file) = object.file.as_ref().filter(|_| !staged.file.is_absolute()) {
            fs::write(marker(file), b"").doing(|| format!("writing beside `{}`", file.display()))?;
        }
        crash::point("objects-marked");
        Ok(())
    }

    async fn make_visible(&self, object: &Pending<'_>) -> Result<()> {
        let length = object.staged.digest.bytes;
        if length <= PART_BYTES {
            return self.put(object).await;
        }
        let Some(store) = self.job.objects.multipart.clone() else {
            if self.is_there(object).await? {
                return Ok(());
            }
            object.check().await?;
            crash::point("objects-uploaded");
            return copy(&self.job.objects, &object.path, &object.bytes, length).await;
        };
        let known = match self.uploads.take(&object.path).await {
            Some(upload) => Some(upload),
            None => {
                if self.is_there(object).await? {
                    return Ok(());
                }
                object.file.as_deref().and_then(Upload::beside)
            }
        };
        crash::point("objects-uploaded");
        if let Some(upload) = known.filter(Upload::is_whole) {
            let Err(error) = upload.complete(&*store, &object.path).await else { return Ok(()) };
            if self.is_there(object).await? {
                return Ok(());
            }
            let error = object_error(&error);
            if error.class() == ErrorClass::Transient {
                return Err(error);
            }
            tracing::warn!("`{}` is uploaded once more, since its parts are gone: {error}", object.path);
        }
        object.check().await?;
        if let Some(file) = &object.file {
            self.uploads.give_up(&object.path, file).await;
        }
        let upload = self.uploads.send(&*store, &object.path, &object.bytes, length, object.file.as_deref()).await?;
        let Err(error) = upload.complete(&*store, &object.path).await else { return Ok(()) };
        if self.is_there(object).await? { Ok(()) } else { Err(object_error(&error)) }
    }

    /// Puts a small object, unless it is there.
    async fn put(&self, object: &Pending<'_>) -> Result<()> {
        if !object.has_bytes() {
            return if self.is_there(object).await? { Ok(()) } else { Err(object.gone()) };
        }
        object.check().await?;
        let payload = object.bytes.stretch(0, object.staged.digest.bytes).await?;
        crash::point("objects-uploaded");
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let Err(error) = self.job.objects.store.put_opts(&object.path, payload, options).await else { return Ok(()) };
        if self.is_there(object).await? { Ok(()) } else { Err(object_error(&error)) }
    }

    /// Whether the object is there.
    ///
    /// # Errors
    /// If another one is, or that can't be found out.
    async fn is_there(&self, object: &Pending<'_>) -> Result<bool> {
        match self.job.objects.store.head(&object.path).await {
            Ok(found) if found.size == object.staged.digest.bytes => Ok(true),
            Ok(found) => Err(Error::new(format!(
                "there is an object of that name with {} bytes, and it would have {}: it is none of this flow; move it away",
                found.size, object.staged.digest.bytes
            ))),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(object_error(&error)),
        }
    }

    fn file(&self, name: &FilePath, context: &CommitContext) -> Result<PathBuf> {
        if name.is_absolute() {
            return Ok(name.to_owned());
        }
        let folder = context.home.folder().ok_or_else(|| {
            Error::new(format!(
                "`{}`, which is to become an object, lies in the local folder of the state, and the state is elsewhere now; run the flow \
                 with the state that it had",
                name.display()
            ))
        })?;
        Ok(folder.join(name))
    }
}

impl Pending<'_> {
    fn has_bytes(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.exists())
    }

    fn gone(&self) -> Error {
        let file = self.file.as_deref().unwrap_or(FilePath::new(""));
        Error::new(format!(
            "`{}`, from which it was to be made, is missing; put it back from a copy; without it, only `--reset` of the node helps, which \
             loses the rows in it",
            file.display()
        ))
    }

    /// Checks that the file is what was staged.
    async fn check(&self) -> Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        if !file.exists() {
            return Err(self.gone());
        }
        let digest = self.staged.digest;
        // Without a state, nobody has kept its hash.
        if digest.blake3 == [0; 32] {
            return Ok(());
        }
        join(&mut tokio::task::spawn_blocking(move || digest.check(&file))).await
    }
}

#[async_trait]
impl Committer for ObjectsCommitter {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        let objects = Self::objects(&pending.staged)?;
        let published = objects.iter().enumerate().map(|(index, object)| self.publish(index, object, pending));
        stream::iter(published.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn recover(&mut self, pending: &[PendingCommit], _: &CommitContext) -> Result<()> {
        self.keep(pending)?;
        for one in pending {
            self.commit(one).await?;
        }
        Ok(())
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        for object in Self::objects(&pending.staged)? {
            let file = self.file(&object.file, &pending.context)?;
            object.journals.iter().try_for_each(|journal| remove(&self.file(journal, &pending.context)?))?;
            // The marker last, by which it is known until then.
            [file.clone(), beside(&file), marker(&file)].iter().try_for_each(|file| remove(file))?;
            crash::point("objects-removed");
        }
        Ok(())
    }
}

/// Removes a file. Harmless if there is none.
pub fn remove(file: &FilePath) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.doing(|| format!("removing `{}`", file.display())),
    }
}
