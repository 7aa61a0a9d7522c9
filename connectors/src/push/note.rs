//! A note that a receiver keeps in the node's folder: small, and replaced as a whole.

use std::path::{Path, PathBuf};

use millstream_core::{Result, ResultExt as _};
use millstream_store::{Access, Files as _, LocalFiles};

/// A note.
#[derive(Clone, Debug)]
pub struct Note(PathBuf);

impl Note {
    /// The one of this name.
    pub fn new(home: &Path, name: &str) -> Self {
        Self(home.join(name))
    }

    /// What it says. Nothing if it was never written.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        let doing = || format!("reading `{}`", self.0.display());
        let is_there = LocalFiles.exists(&self.0).doing(doing)?;
        is_there.then(|| LocalFiles.read(&self.0).doing(doing)).transpose()
    }

    /// Says something else, which outlives any crash when this returns. One before that leaves what it said.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let new = self.0.with_extension("new");
        let write = || {
            if LocalFiles.exists(&new)? {
                LocalFiles.remove(&new)?;
            }
            let mut file = LocalFiles.create_new(&new, Access::Private)?;
            file.append(bytes)?;
            file.sync()?;
            LocalFiles.rename(&new, &self.0)?;
            self.0.parent().map_or(Ok(()), |folder| LocalFiles.sync_folder(folder))
        };
        write().doing(|| format!("writing `{}`", self.0.display()))
    }
}
