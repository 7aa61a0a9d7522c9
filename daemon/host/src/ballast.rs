//! A file that takes room on the disk, to be given up when nothing else is left: what must be written then has it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use millstream_core::{Result, ResultExt as _};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// A file that takes room.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// Of so many bytes, at that place; none if they are 0.
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }

    /// How many bytes it has when it is there.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        self.path.metadata().is_ok_and(|found| found.len() == self.bytes)
    }

    /// Takes the room.
    ///
    /// # Errors
    /// If there is none, or the file can't be written. What there was of it is given up.
    pub fn take(&self) -> Result<()> {
        let taken = if self.bytes == 0 { self.remove() } else { self.write() };
        let taken = taken.inspect_err(|_| _ = self.remove());
        taken.doing(|| format!("taking room on the disk by `{}`", self.path.display()))
    }

    /// Gives the room up.
    ///
    /// # Errors
    /// If the file can't be removed.
    pub fn give_up(&self) -> Result<()> {
        self.remove().doing(|| format!("removing `{}`", self.path.display()))
    }

    fn write(&self) -> io::Result<()> {
        self.make_folder()?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, self.bytes),
            taken => Ok(taken?),
        }
    }

    /// Makes the folder, unless others have written there before.
    fn make_folder(&self) -> io::Result<()> {
        let Some(folder) = self.path.parent() else { return Ok(()) };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Writes bytes that can't be left out, as zeros might be.
fn fill(mut file: File, mut bytes: u64) -> io::Result<()> {
    let block = vec![0xaa; 1 << 16];
    while bytes > 0 {
        let length = bytes.min(block.len() as u64);
        file.write_all(&block[..length as usize])?;
        bytes -= length;
    }
    file.sync_data()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_takes_room_until_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host/ballast");
        let ballast = Ballast::new(path.clone(), 1 << 20);
        assert!(!ballast.is_there());
        for _ in 0..2 {
            ballast.take().unwrap();
            assert!(ballast.is_there());
            assert!(path.metadata().unwrap().blocks() * 512 >= 1 << 20, "it has holes");
        }
        assert!(!Ballast::new(path.clone(), 2 << 20).is_there(), "another size");
        for _ in 0..2 {
            ballast.give_up().unwrap();
            assert!(!path.exists());
        }
        Ballast::new(path.clone(), 0).take().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn it_says_where_it_can_not_be() {
        let error = Ballast::new("/not/there/ballast".into(), 1).take().unwrap_err().to_string();
        assert!(error.starts_with("taking room on the disk by `/not/there/ballast`: "), "{error}");
    }
}
