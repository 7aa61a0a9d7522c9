//! The exclusive right to write an output's files, held as a lock on a hidden file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use millstream_core::{Error, Result, ResultExt};

/// A lock on a hidden file. The system ends it with the process, however that ends, so what a killed run left behind
/// is no obstacle. The hidden file goes with the claim, if it was not moved to its place.
pub struct Claim {
    hidden: PathBuf,
    file: File,
    /// Whether the hidden file stays, because its bytes are needed.
    keep: bool,
}

impl Claim {
    /// Claims `target` if there is a hidden file already, as there is wherever another run writes. An error if that one is at
    /// work.
    pub fn of_existing(hidden: PathBuf, target: &Path) -> Result<Option<Self>> {
        match hidden.try_exists() {
            Ok(true) => Self::take(hidden, target, true).map(Some),
            // What is wrong with it is said when it is to be written.
            Ok(false) | Err(_) => Ok(None),
        }
    }

    /// Claims `target` by locking `hidden`. An error if another run, or another output, has done so.
    pub fn take(hidden: PathBuf, target: &Path, keep: bool) -> Result<Self> {
        let doing = || format!("creating `{}`", hidden.display());
        loop {
            // Without truncation: until it is locked, the file may be another's.
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&hidden).doing(doing)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(format!("another run is writing `{}`", target.display())));
                }
                Err(TryLockError::Error(error)) => return Err(error).doing(doing),
            }
            // Another run may have published or removed the file before it was locked.
            if is_at(&file, &hidden) {
                return Ok(Self { hidden, file, keep });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.keep && is_at(&self.file, &self.hidden) {
            // The next run takes over what can't be removed now.
            let _ = fs::remove_file(&self.hidden);
        }
    }
}

/// Whether a path still leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(path)) => identity(file) == identity(path),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (hidden, target) = (folder.path().join(".a.part"), Path::new("a"));
        fs::write(&hidden, "left behind by a run that was killed").unwrap();
        let claim = Claim::take(hidden.clone(), target, false).unwrap();
        let refused = Claim::take(hidden.clone(), target, false).err().unwrap();
        assert_eq!(refused.to_string(), "another run is writing `a`");
        let refused = Claim::of_existing(hidden.clone(), target).err().unwrap();
        assert_eq!(refused.to_string(), "another run is writing `a`");
        drop(claim);
        assert!(!hidden.exists());
        assert!(Claim::of_existing(hidden.clone(), target).unwrap().is_none() && !hidden.exists());
        Claim::take(hidden, target, false).unwrap();
    }

    #[test]
    fn what_was_published_is_neither_locked_for_others_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (hidden, target) = (folder.path().join(".a.part"), folder.path().join("a"));
        let first = Claim::take(hidden.clone(), &target, false).unwrap();
        fs::rename(&hidden, &target).unwrap();
        let second = Claim::take(hidden.clone(), &target, false).unwrap();
        drop(first);
        assert!(target.exists() && hidden.exists());
        drop(second);
        assert!(target.exists() && !hidden.exists());
    }
}
