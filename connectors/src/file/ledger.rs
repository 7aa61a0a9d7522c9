//! What an output of a flow with state has published, in a hidden file beside its place: so that a file which somebody has taken
//! away since counts as published, and a run that comes too late changes nothing.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use millstream_core::{Result, ResultExt};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::hashed::damaged;

/// Which publication of an output it is: later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Turn {
    /// The generation of the run that has staged it.
    pub generation: u64,
    /// The how manieth of that run.
    pub number: u64,
}

/// How far publications have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The last one that was begun. Those before are visible.
    pub turn: Turn,
    /// How many of its files have their place, or are about to: one of them that is not at its hidden name has come there.
    pub files: usize,
}

/// The file in which that is written down.
pub struct Ledger {
    path: PathBuf,
    file: File,
}

impl Ledger {
    /// Begins a ledger, unless there is one.
    pub fn create(path: &Path) -> Result<()> {
        let doing = || format!("creating `{}`", path.display());
        match options().create_new(true).open(path) {
            Ok(file) => {
                let ledger = Self { path: path.to_owned(), file };
                ledger.note(Published::default())?;
                ledger.sync()
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error).doing(doing),
        }
    }

    /// Opens a ledger, if there is one.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match options().open(path) {
            Ok(file) => Ok(Some(Self { path: path.to_owned(), file })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("reading `{}`", path.display())),
        }
    }

    /// What is written down.
    pub fn read(&self) -> Result<Published> {
        let mut text = String::new();
        (&self.file).read_to_string(&mut text).doing(|| format!("reading `{}`", self.path.display()))?;
        let numbers: Vec<u64> = text.split_whitespace().map_while(|number| number.parse().ok()).collect();
        match numbers[..] {
            [generation, number, files] => Ok(Published { turn: Turn { generation, number }, files: files as usize }),
            _ => Err(damaged(&self.path)),
        }
    }

    /// Writes down how far publications have come, at once for all processes, in the place of what was there.
    pub fn note(&self, published: Published) -> Result<()> {
        let Published { turn, files } = published;
        let text = format!("{:020} {:020} {files:010}\n", turn.generation, turn.number);
        self.file.write_all_at(text.as_bytes(), 0).doing(|| format!("writing `{}`", self.path.display()))
    }

    /// Makes it durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().doing(|| format!("writing `{}`", self.path.display()))
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".a.ledger");
        assert!(Ledger::open(&path).unwrap().is_none());
        Ledger::create(&path).unwrap();
        let read = || Ledger::open(&path).unwrap().unwrap().read().unwrap();
        assert_eq!(read(), Published::default());
        let published = Published { turn: Turn { generation: 7, number: u64::MAX }, files: 3 };
        Ledger::open(&path).unwrap().unwrap().note(published).unwrap();
        Ledger::create(&path).unwrap();
        assert_eq!(read(), published, "it is begun once");
        assert!(Turn { generation: 8, number: 1 } > published.turn);
        std::fs::write(&path, "7 x").unwrap();
        assert!(Ledger::open(&path).unwrap().unwrap().read().is_err());
    }
}
