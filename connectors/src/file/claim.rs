//! The exclusive right to write an output's files, held as a lock on a hidden file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use millstream_core::{Error, Result, ResultExt};
use rustix::fs::OFlags;

/// A lock on a hidden file. The system ends it with the process, however that ends, so what a killed run left behind
/// is no obstacle. The hidden file goes with the claim.
pub struct Claim {
    hidden: PathBuf,
    file: File,
}

impl Claim {
    /// Claims `target` if there is a hidden file already, as there is wherever another run writes. An error if that one is at
    /// work.
    pub fn of_existing(hidden: PathBuf, target: &Path) -> Result<Option<Self>> {
        match hidden.try_exists() {
            Ok(true) => Self::take(hidden, target).map(Some),
            // What is wrong with it is said when it is to be written.
            Ok(false) | Err(_) => Ok(None),
        }
    }

    /// Claims `target` by locking `hidden`. An error if another run, or another output, has done so.
    pub fn take(hidden: PathBuf, target: &Path) -> Result<Self> {
        let doing = || format!("creating `{}`", hidden.display());
        // Without truncation: until it is locked, the file may be another's. A link would lead to somebody else's file.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
        loop {
            let file = match options.open(&hidden) {
                Err(_) if hidden.is_symlink() => {
                    return Err(Error::new(format!(
                        "`{}` is a link, where a lock should be; remove it",
                        hidden.display()
                    )));
                }
                opened => opened.doing(doing)?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(format!("another run is writing `{}`", target.display())));
                }
                Err(TryLockError::Error(error)) => return Err(error).doing(doing),
            }
            // Another run may have removed the file before it was locked.
            if is_at(&file, &hidden) {
                return Ok(Self { hidden, file });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if is_at(&self.file, &self.hidden) {
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

/// The claim of an output, which lasts as long as the output, and which what publishes its files finds here.
#[derive(Clone, Default)]
pub struct Claimed(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    claim: Weak<Claim>,
    /// Whether the output has begun to write.
    is_writing: bool,
}

impl Claimed {
    /// Tells of the output's claim.
    pub fn set(&self, claim: &Arc<Claim>) {
        self.held().claim = Arc::downgrade(claim);
    }

    /// The output's claim, if it has one.
    pub fn get(&self) -> Option<Arc<Claim>> {
        self.held().claim.upgrade()
    }

    /// The output begins to write.
    pub fn start_writing(&self) {
        self.held().is_writing = true;
    }

    /// Whether the output has begun to write, so that this process has staged what is published from now on.
    pub fn is_writing(&self) -> bool {
        self.held().is_writing
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (hidden, target) = (folder.path().join(".a.lock"), Path::new("a"));
        fs::write(&hidden, "left behind by a run that was killed").unwrap();
        let claim = Claim::take(hidden.clone(), target).unwrap();
        let refused = Claim::take(hidden.clone(), target).err().unwrap();
        assert_eq!(refused.to_string(), "another run is writing `a`");
        let refused = Claim::of_existing(hidden.clone(), target).err().unwrap();
        assert_eq!(refused.to_string(), "another run is writing `a`");
        drop(claim);
        assert!(!hidden.exists());
        assert!(Claim::of_existing(hidden.clone(), target).unwrap().is_none() && !hidden.exists());
        Claim::take(hidden, target).unwrap();
    }

    #[test]
    fn what_is_no_longer_there_is_neither_locked_for_others_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let hidden = folder.path().join(".a.lock");
        let first = Claim::take(hidden.clone(), Path::new("a")).unwrap();
        fs::remove_file(&hidden).unwrap();
        let second = Claim::take(hidden.clone(), Path::new("a")).unwrap();
        drop(first);
        assert!(hidden.exists());
        drop(second);
        assert!(!hidden.exists());
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (hidden, other) = (folder.path().join(".a.lock"), folder.path().join("other"));
        for _ in 0..2 {
            std::os::unix::fs::symlink(&other, &hidden).unwrap();
            let error = Claim::take(hidden.clone(), Path::new("a")).err().unwrap().to_string();
            assert!(error.ends_with(".a.lock` is a link, where a lock should be; remove it"), "{error}");
            fs::remove_file(&hidden).unwrap();
            fs::write(&other, "another's").unwrap();
        }
    }
}
