//! Moves whole files to their places, once it is decided that they count.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use millstream_core::{Committer, Error, Result, ResultExt, State};
use millstream_store::crash;
use serde::{Deserialize, Serialize};

use super::hashed::{damaged, left_elsewhere};
use super::staging::{Whole, is_there, remove, sync_folder};
use super::target::{Base, renumbered};

/// What an output has staged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Publication {
    /// The files, in their order.
    pub files: Vec<Whole>,
    /// Whether they may take the place of others.
    pub replaces: bool,
    /// Whether one that finds another in its place gets the next free number.
    pub makes_way: bool,
    /// Files of runs before, which go.
    pub former: Vec<PathBuf>,
    /// The hidden file that kept other runs away, where it is needed no more.
    pub lock: Option<PathBuf>,
    /// The folder that all paths were relative to when it was staged.
    pub folder: PathBuf,
}

impl Publication {
    /// All paths in it.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.files.iter_mut().flat_map(Whole::paths_mut).chain(&mut self.former).chain(&mut self.lock)
    }
}

/// The name under which it is staged.
pub const STAGED: &str = "files";

/// Publishes the files of an output.
pub struct Publisher {
    /// What the paths in what is staged are relative to.
    pub base: Base,
    /// Whether this process has begun to write, so that it has staged what is published itself.
    pub is_own: Arc<AtomicBool>,
}

#[async_trait]
impl Committer for Publisher {
    async fn commit(&mut self, staged: &State) -> Result<()> {
        let mut publication: Publication = staged.get(STAGED)?;
        self.base.extend(publication.paths_mut());
        let mut places = Vec::new();
        for whole in &publication.files {
            places.push(self.publish(whole, &publication)?);
            crash::point("file-published");
        }
        let is_new = |path: &&PathBuf| !places.contains(path);
        publication.former.iter().filter(is_new).try_for_each(|path| remove(path))?;
        let folders: BTreeSet<&Path> =
            places.iter().chain(&publication.former).filter_map(|path| path.parent()).collect();
        folders.into_iter().try_for_each(sync_folder)?;
        // Only now, since without them the file could not be written anew.
        for journal in publication.files.iter().flat_map(|whole| &whole.journals) {
            remove(journal)?;
            crash::point("journal-removed");
        }
        publication.lock.map_or(Ok(()), |lock| remove(&lock))
    }
}

impl Publisher {
    /// A file must be what was staged; one that another process has left, bit for bit.
    fn check(&self, whole: &Whole, path: &Path) -> Result<()> {
        if !self.is_own.load(Ordering::Relaxed) {
            return whole.check(path);
        }
        let found = fs::metadata(path).doing(|| format!("reading `{}`", path.display()))?;
        if found.len() == whole.sum.bytes { Ok(()) } else { Err(damaged(path)) }
    }

    /// Moves a file to its place, unless that has been done. Where it is then.
    fn publish(&self, whole: &Whole, publication: &Publication) -> Result<PathBuf> {
        let doing = || format!("moving `{}` to its place", whole.part.display());
        if !whole.part.exists() {
            return self.find(whole, publication);
        }
        self.check(whole, &whole.part)?;
        if let Some(mode) = whole.mode {
            fs::set_permissions(&whole.part, Permissions::from_mode(mode)).doing(doing)?;
        }
        if publication.replaces {
            fs::rename(&whole.part, &whole.path).doing(doing)?;
            return Ok(whole.path.clone());
        }
        let mut path = whole.path.clone();
        while let Err(error) = link(&whole.part, &path) {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(error).doing(doing);
            }
            if is_same(&whole.part, &path) {
                break;
            }
            let next = renumbered(&path).filter(|_| publication.makes_way);
            path = next.ok_or_else(|| Error::new(format!("`{}` exists", path.display())))?;
        }
        crash::point("file-linked");
        remove(&whole.part)?;
        Ok(path)
    }

    /// Where a file is that has been moved before.
    fn find(&self, whole: &Whole, publication: &Publication) -> Result<PathBuf> {
        if publication.folder != self.base.0 && !is_there(&whole.path) {
            return Err(left_elsewhere(&whole.part, &publication.folder));
        }
        // If it had to make way, it has another number.
        if self.check(whole, &whole.path).is_ok() || publication.makes_way {
            return Ok(whole.path.clone());
        }
        Err(Error::new(format!(
            "`{}` was to become visible, and is neither there nor at `{}`; put it back from a copy; without it, its rows are lost, and \
             `--reset` of the output goes on without them",
            whole.path.display(),
            whole.part.display()
        )))
    }
}

/// A second name for a file, which must be free. Where the file system has no links, it is moved there.
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(1) => match is_there(to) {
            true => Err(ErrorKind::AlreadyExists.into()),
            false => fs::rename(from, to),
        },
        other => other,
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some() && identity(one) == identity(other)
}
