//! Looks for new commits every now and then, and keeps what they have changed.
//!
//! A note says which commit was kept as a whole, and which one is being kept: behind a crash that one is kept to its end, whatever has come
//! since. What of it was kept before has keys, so that it is not kept twice.

use std::sync::Arc;

use async_trait::async_trait;
use glob::Pattern;
use millstream_connectors::push::{FormatTag, Health, Ingest, Key, MOST_BYTES, Note, Receiver, Refused, Worker};
use millstream_core::{Error, Report, Result, ResultExt as _};
use millstream_store::crash;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Duration, sleep, timeout};

use crate::contents::{Kept, pack};
use crate::repository::{Change, ChangeKind, Objects, Remote, Repository};

/// The note that says how far the branch was kept.
const PROGRESS: &str = "progress";

/// The copy of what is needed of the repository.
const FOLDER: &str = "repository";

/// When it is tried again to keep what the log has no room for.
const PAUSE: Duration = Duration::from_millis(200);

/// How far the branch was kept.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Progress {
    /// How many commits were kept. A commit may come again, when the branch is set back to it, and is another then.
    count: u64,
    /// The last one that was kept as a whole.
    kept: Option<String>,
    /// The one behind it that is being kept, whose objects are there.
    keeping: Option<String>,
}

/// Watches a branch.
#[derive(Clone)]
pub struct Watching {
    pub remote: Remote,
    pub every: Duration,
    /// Which files are wanted; all if none is named.
    pub paths: Vec<Pattern>,
    pub max_file: usize,
    pub health: Arc<Health>,
    /// Whether `git` is at work, so that the input ends behind it: a program that is just being started has files of this one.
    pub busy: Arc<Semaphore>,
}

/// How much may be done by `git` at once.
pub const PLACES: usize = 2;

/// How long `git` may take at the end.
const LAST_MOMENT: Duration = Duration::from_secs(2);

#[async_trait]
impl Receiver for Watching {
    async fn start(&mut self, ingest: Ingest) -> Result<Box<dyn Send>> {
        let repository = Repository { remote: self.remote.clone(), folder: ingest.home().join(FOLDER) };
        let (remote, home) = (self.remote.clone(), ingest.home().to_owned());
        let tip = self.blocking(move || remote.tip(&home)).await?;
        tip.ok_or_else(|| self.missing())?;
        let this = self.clone();
        let worker = Worker::start("git", |stopped| {
            Ok(async move {
                tokio::select! {
                    () = this.watch(repository, ingest) => {}
                    _ = stopped => {}
                }
                let _ = timeout(LAST_MOMENT, this.busy.acquire_many(PLACES as u32)).await;
            })
        })?;
        Ok(Box::new(worker))
    }

    fn report(&self) -> Option<Report> {
        self.health.report("commits")
    }
}

impl Watching {
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let place = self.busy.clone().acquire_owned().await.doing(|| "running `git`")?;
        let work = move || {
            let _place = place;
            work()
        };
        spawn_blocking(work).await.doing(|| "running `git`")?
    }

    fn missing(&self) -> Error {
        Error::new(format!("there is no `{}` in `{}`", self.remote.reference, self.remote.url))
    }

    async fn watch(&self, repository: Repository, ingest: Ingest) {
        let note = Note::new(ingest.home(), PROGRESS);
        loop {
            let looked = self.look(&repository, &note, &ingest).await;
            if let Err(error) = &looked {
                tracing::warn!("{error}; trying again");
            }
            self.health.note(looked.as_ref().err());
            sleep(self.every).await;
        }
    }

    /// Keeps what has changed since the commit that was kept last, if anything has.
    async fn look(&self, repository: &Repository, note: &Note, ingest: &Ingest) -> Result<()> {
        let mut progress = read_progress(note)?;
        if progress.keeping.is_none() {
            let (remote, home) = (self.remote.clone(), ingest.home().to_owned());
            let tip = self.blocking(move || remote.tip(&home)).await?.ok_or_else(|| self.missing())?;
            if progress.kept.as_ref() == Some(&tip) {
                return Ok(());
            }
            let repository = repository.clone();
            progress.keeping = Some(self.blocking(move || repository.fetch()).await?);
            write_progress(note, &progress)?;
        }
        let Some(commit) = progress.keeping.take() else { return Ok(()) };
        self.keep_commit(repository, &progress, &commit, ingest).await?;
        write_progress(note, &Progress { count: progress.count + 1, kept: Some(commit), keeping: None })
    }

    /// Keeps what has changed in a commit.
    async fn keep_commit(
        &self,
        repository: &Repository,
        behind: &Progress,
        commit: &str,
        ingest: &Ingest,
    ) -> Result<()> {
        let (send, mut parcels) = mpsc::channel(1);
        let (this, repository) = (self.clone(), repository.clone());
        let (before, commit) = (behind.kept.clone(), commit.to_owned());
        let reading = self.blocking(move || this.read(&repository, before.as_deref(), &commit, &send));
        let keeping = async {
            let mut number = 0;
            while let Some(files) = parcels.recv().await {
                number += 1;
                keep(&format!("{}/{number}", behind.count), &files, ingest).await?;
                crash::point("git-kept");
            }
            Ok(())
        };
        tokio::try_join!(reading, keeping).map(|_| ())
    }

    /// Reads what has changed in a commit, parcel by parcel.
    fn read(
        &self,
        repository: &Repository,
        before: Option<&str>,
        commit: &str,
        to: &mpsc::Sender<Vec<Kept>>,
    ) -> Result<()> {
        let committed_at = repository.committed_at(commit)?;
        let mut objects = repository.objects()?;
        let (mut parcel, mut bytes) = (Vec::new(), 0);
        for change in repository.changes(before, commit)? {
            if !self.wants(&change) {
                continue;
            }
            let file = self.file(change, &mut objects, commit, committed_at)?;
            bytes += file.content.as_ref().map_or(0, Vec::len) + file.path.len();
            parcel.push(file);
            if bytes >= MOST_BYTES && to.blocking_send(std::mem::take(&mut parcel)).is_err() {
                return Err(Error::new("nobody keeps files any more"));
            }
            bytes = if parcel.is_empty() { 0 } else { bytes };
        }
        if !parcel.is_empty() {
            let _ = to.blocking_send(parcel);
        }
        Ok(())
    }

    fn wants(&self, change: &Change) -> bool {
        let path = String::from_utf8_lossy(&change.path);
        self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(&path))
    }

    fn file(&self, change: Change, objects: &mut Objects, commit: &str, committed_at: i64) -> Result<Kept> {
        let Change { path, kind, object } = change;
        let (mut content, mut size, mut refusal) = (None, None, None);
        if let Some(object) = object {
            let bytes = objects.size(&object)?;
            size = bytes.map(|bytes| bytes as u64);
            match bytes {
                Some(bytes) if bytes <= self.max_file => content = objects.read(&object)?,
                Some(bytes) => {
                    refusal = Some(format!("it has {bytes} bytes, and may have {} (`max_file`)", self.max_file))
                }
                None => refusal = Some("the repository does not have it".to_owned()),
            }
        }
        let change = match kind {
            ChangeKind::Added => "added",
            ChangeKind::Changed => "changed",
            ChangeKind::Deleted => "deleted",
        };
        let (change, commit) = (change.to_owned(), commit.to_owned());
        Ok(Kept { path, change, content, size, commit, committed_at, refusal })
    }
}

/// Keeps a parcel of a commit, unless that has been done.
async fn keep(key: &str, files: &[Kept], ingest: &Ingest) -> Result<()> {
    let bytes = pack(files)?;
    loop {
        let mut memory = ingest.memory();
        let taken = match memory.grow(bytes.len()) {
            Ok(()) => ingest.take(Key::new(key), FormatTag::OWN, bytes.clone(), memory).await.map(drop),
            Err(refused) => Err(refused),
        };
        match taken {
            // It was kept with other settings before.
            Ok(()) | Err(Refused::KeyOfOthers) => return Ok(()),
            Err(Refused::Held(_) | Refused::NoRoom(_) | Refused::BeingTaken) => sleep(PAUSE).await,
            Err(refused) => return Err(Error::new(format!("files can't be kept: {refused:?}"))),
        }
    }
}

fn read_progress(note: &Note) -> Result<Progress> {
    let said = note.read()?;
    said.map_or(Ok(Progress::default()), |said| {
        postcard::from_bytes(&said).doing(|| "reading how far the branch was kept")
    })
}

fn write_progress(note: &Note, progress: &Progress) -> Result<()> {
    note.write(&postcard::to_allocvec(progress).doing(|| "noting how far the branch was kept")?)
}
