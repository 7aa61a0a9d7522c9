//! Files that nobody but the daemon's user reads, in a folder that may belong to another user than whoever writes: root makes tokens, and
//! the daemon has to read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown, fchown};
use std::path::Path;

/// Makes a folder in one that is there, if it is not there, for the user of that one.
pub fn create_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        created => created?,
    }
    let owner = fs::metadata(parent(path))?;
    // Only root can give away what it has made, and nobody else needs to.
    let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
    sync_folder(parent(path))
}

/// Replaces a file, or makes it, at once and for good: a crash leaves the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent(path))?;
    give_to_owner(file.as_file(), path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    sync_folder(parent(path))
}

/// Opens a file to append to, and makes it if it is not there.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(path)?;
    give_to_owner(&file, path)?;
    sync_folder(parent(path))?;
    Ok(file)
}

/// Waits until no other process or thread has the lock, which ends when what is returned is dropped.
pub fn lock(path: &Path) -> io::Result<File> {
    let file = open_to_append(path)?;
    file.lock()?;
    Ok(file)
}

/// Makes durable which names are in a folder.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn give_to_owner(file: &File, path: &Path) -> io::Result<()> {
    let (owner, made) = (fs::metadata(parent(path))?, file.metadata()?);
    if (owner.uid(), owner.gid()) != (made.uid(), made.gid()) {
        let _ = fchown(file, Some(owner.uid()), Some(owner.gid()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_those_of_the_folders_owner_and_nobody_elses() {
        let data = tempfile::tempdir().unwrap();
        // Only root can give things away.
        let others = rustix::process::geteuid().is_root();
        if others {
            chown(data.path(), Some(1234), Some(2345)).unwrap();
        }
        let folder = data.path().join("admin");
        create_folder(&folder).unwrap();
        create_folder(&folder).unwrap();
        replace(&folder.join("a"), b"old").unwrap();
        replace(&folder.join("a"), b"new").unwrap();
        drop(lock(&folder.join("b")).unwrap());
        assert_eq!(fs::read(folder.join("a")).unwrap(), b"new");
        for (path, mode) in [(folder.clone(), 0o700), (folder.join("a"), 0o600), (folder.join("b"), 0o600)] {
            let found = fs::metadata(path).unwrap();
            assert_eq!(found.mode() & 0o777, mode);
            assert!(!others || (found.uid(), found.gid()) == (1234, 2345));
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing hidden is left");
    }
}
