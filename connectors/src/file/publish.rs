//! Moves whole files to their places, once it is decided that they count.
//!
//! It may be done any number of times, and by a run that has lost the flow long ago: hidden names are those of one run, and the
//! ledger says what has been published since.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{Committer, Error, PendingCommit, Result, ResultExt, State};
use millstream_store::crash;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::claim::{Claim, Claimed};
use super::disk::{is_there, remove, set_mode, sync_folder};
use super::hashed::{damaged, left_elsewhere};
use super::ledger::{Ledger, PublicationId, Published};
use super::output::kept::{PROGRESS, Progress};
use super::staging::FinishedFile;
use super::target::{Base, renumbered};

/// What an output has staged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Publication {
    /// Which one of the output it is.
    pub turn: PublicationId,
    /// The files, in their order.
    pub files: Vec<FinishedFile>,
    /// Whether they may take the place of others.
    pub replaces: bool,
    /// Whether one that finds another in its place gets the next free number.
    pub makes_way: bool,
    /// Files of runs before, which go.
    pub former: Vec<PathBuf>,
    /// The hidden file that keeps other runs away.
    pub lock: PathBuf,
    /// Where it is written down what has been published, if the flow keeps state.
    pub ledger: Option<PathBuf>,
    /// Whether it is the output's last.
    pub is_last: bool,
    /// The folder that all paths were relative to when it was staged.
    pub folder: PathBuf,
}

impl Publication {
    /// All paths in it.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let files = self.files.iter_mut().flat_map(FinishedFile::paths_mut);
        files.chain(&mut self.former).chain([&mut self.lock]).chain(&mut self.ledger)
    }

    /// How far publications have come, by the ledger; nothing if there is none.
    pub fn published(&self) -> Result<Published> {
        let ledger = self.ledger.as_deref().map(Ledger::open).transpose()?.flatten();
        ledger.map_or(Ok(Published::default()), |ledger| ledger.read())
    }

    /// Whether the file with this index has come to its place, of which nothing has to be left.
    pub fn has_published(&self, index: usize, published: Published) -> bool {
        published.turn > self.turn || published.turn == self.turn && index < published.files
    }

    /// Where a file is that has been moved before: at its place or, where files make way, at one with a higher number.
    pub fn find(&self, finished: &FinishedFile) -> Option<PathBuf> {
        let next = |path: &PathBuf| renumbered(path).filter(|_| self.makes_way);
        let mut places = std::iter::successors(Some(finished.path.clone()), next).take_while(|path| is_there(path));
        places.find(|path| finished.check(path).is_ok())
    }
}

/// The name under which it is staged.
pub const STAGED: &str = "files";

/// Publishes the files of an output.
pub struct Publisher {
    /// What the paths in what is staged are relative to.
    pub base: Base,
    /// The folder that the flow runs in.
    pub work_folder: PathBuf,
    /// What stands for all files of the output.
    pub place: PathBuf,
    /// The claim of the output. While it lasts, this process has staged what is published itself.
    pub claimed: Claimed,
    /// How far a run without state has come.
    pub published: Published,
}

#[async_trait]
impl Committer for Publisher {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        let publication = self.read(&pending.staged)?;
        let mut publishing = Publishing::find(self, &publication)?;
        if publishing.published.turn > publication.turn {
            return Ok(());
        }
        let mut places = Vec::new();
        for (index, finished) in publication.files.iter().enumerate() {
            places.push(publishing.publish(index, finished)?);
            crash::point("file-published");
        }
        if publishing.is_known {
            publishing.note(publication.files.len())?;
            let is_new = |path: &&PathBuf| !places.contains(path);
            publication.former.iter().filter(is_new).try_for_each(|path| remove(path))?;
        }
        let folders: BTreeSet<&Path> =
            places.iter().chain(&publication.former).filter_map(|path| path.parent()).collect();
        folders.into_iter().filter(|folder| folder.exists()).try_for_each(sync_folder)?;
        self.published = publishing.published;
        // Only now, since without them the file could not be written again.
        for journal in publication.files.iter().flat_map(|finished| &finished.journals) {
            remove(journal)?;
            crash::point("journal-removed");
        }
        Ok(())
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        let Publication { is_last: true, ledger, lock, .. } = self.read(&pending.staged)? else { return Ok(()) };
        if self.claimed.get().is_none() {
            // What a run that was killed has left of its lock goes with this one, unless another run has it by now.
            drop(Claim::take(lock, &self.place));
        }
        ledger.map_or(Ok(()), |ledger| remove(&ledger))
    }

    async fn abort(&mut self, state: &State) -> Result<()> {
        if state.has(PROGRESS) {
            state.get::<Progress>(PROGRESS)?.remove_hidden(&self.work_folder, &self.place)
        } else {
            Ok(())
        }
    }
}

impl Publisher {
    fn read(&self, staged: &State) -> Result<Publication> {
        let mut publication: Publication = staged.get(STAGED)?;
        self.base.extend(publication.paths_mut());
        Ok(publication)
    }
}

/// Moves the files of a publication to their places.
struct Publishing<'a> {
    publication: &'a Publication,
    ledger: Option<Ledger>,
    published: Published,
    /// Whether this process has staged the files itself.
    is_own: bool,
    /// Whether the files, or what is written down about them, are there, so that it is not too late for this publication.
    is_known: bool,
    _claim: Arc<Claim>,
}

impl<'a> Publishing<'a> {
    /// Makes sure that the publication was staged here, and that nobody else writes here.
    fn find(publisher: &Publisher, publication: &'a Publication) -> Result<Self> {
        check_folder(publication, &publisher.base)?;
        let own = publisher.claimed.get();
        let is_own = publisher.claimed.is_writing();
        let place = publication.files.first().map_or(&publication.lock, |finished| &finished.path);
        let claim = own.map_or_else(|| Claim::take(publication.lock.clone(), place).map(Arc::new), Ok)?;
        let mut ledger = publication.ledger.as_deref().map(Ledger::open).transpose()?.flatten();
        let has_part = publication.files.iter().any(|finished| finished.part.exists());
        if let (None, Some(path), true) = (&ledger, &publication.ledger, has_part) {
            Ledger::create(path)?;
            ledger = Ledger::open(path)?;
        }
        let published = ledger.as_ref().map_or(Ok(publisher.published), Ledger::read)?;
        let is_known = ledger.is_some() || has_part || publication.ledger.is_none();
        Ok(Self { publication, ledger, published, is_own, is_known, _claim: claim })
    }

    /// Moves a file to its place, unless that has been done. Where it is then.
    fn publish(&mut self, index: usize, finished: &FinishedFile) -> Result<PathBuf> {
        let doing = || format!("moving `{}` to its place", finished.part.display());
        if !finished.part.exists() {
            return self.find_published(index, finished);
        }
        self.check(finished)?;
        set_mode(&finished.part, finished.mode).doing(doing)?;
        self.note(index + 1)?;
        crash::point("file-noted");
        if self.publication.replaces {
            fs::rename(&finished.part, &finished.path).doing(doing)?;
            return Ok(finished.path.clone());
        }
        let mut path = finished.path.clone();
        while let Err(error) = move_to_free(&finished.part, &path) {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(error).doing(doing);
            }
            let next = renumbered(&path).filter(|_| self.publication.makes_way);
            path = next.ok_or_else(|| Error::new(format!("`{}` exists", path.display())))?;
        }
        Ok(path)
    }

    /// A file must be what was staged; one that another process has left, bit for bit.
    fn check(&self, finished: &FinishedFile) -> Result<()> {
        if !self.is_own {
            return finished.check(&finished.part);
        }
        let found = fs::metadata(&finished.part).doing(|| format!("reading `{}`", finished.part.display()))?;
        if found.len() == finished.digest.bytes { Ok(()) } else { Err(damaged(&finished.part)) }
    }

    /// Where a file is that is not at its hidden name.
    fn find_published(&self, index: usize, finished: &FinishedFile) -> Result<PathBuf> {
        if self.publication.has_published(index, self.published) {
            return Ok(finished.path.clone());
        }
        self.publication.find(finished).ok_or_else(|| {
            Error::new(format!(
                "`{}` was to become visible, and is neither there nor at `{}`; put it back from a copy; without it, its rows are \
                 lost, and `--reset` of the output resumes without them",
                finished.path.display(),
                finished.part.display()
            ))
        })
    }

    /// Writes down how many files of this publication have come to their places, or are about to: durably before they do, since
    /// somebody may take them away at once. It never goes back.
    fn note(&mut self, files: usize) -> Result<()> {
        let published = Published { turn: self.publication.turn, files };
        if published.turn == self.published.turn && files <= self.published.files {
            return Ok(());
        }
        self.published = published;
        self.ledger.as_ref().map_or(Ok(()), |ledger| ledger.note(published))
    }
}

/// Where a flow runs in another folder than the one in which files were staged, they have to be there, too.
fn check_folder(publication: &Publication, base: &Base) -> Result<()> {
    let is_moved = publication.folder != base.0;
    let has_ledger = publication.ledger.as_ref().is_some_and(|ledger| ledger.exists());
    let is_gone = |finished: &&FinishedFile| !finished.part.exists() && !is_there(&finished.path);
    match publication.files.iter().find(is_gone) {
        Some(finished) if is_moved && !has_ledger => Err(left_elsewhere(&finished.part, &publication.folder)),
        None if is_moved && !base.0.exists() => Err(left_elsewhere(&base.0, &publication.folder)),
        _ => Ok(()),
    }
}

/// Moves a file to a name that must be free.
fn move_to_free(from: &Path, to: &Path) -> IoResult<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system knows no such thing.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if is_there(to) => Err(ErrorKind::AlreadyExists.into()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(from, to),
        moved => Ok(moved?),
    }
}
