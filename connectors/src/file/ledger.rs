//! What an output of a flow with state has published, in a hidden file beside its place: so that a file which somebody has taken
//! away since counts as published, and a run that comes too late changes nothing.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use millstream_core::{Result, ResultExt};
use millstream_store::crash;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::hashed::damaged;

/// Which publication of an output it is: later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublicationId {
    /// The generation of the run that has staged it.
    pub generation: u64,
    /// The how manieth of that run.
    pub number: u64,
}

/// How far publications have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The last one that was begun. Those before are visible.
    pub turn: PublicationId,
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
                crash::point("ledger-created");
                Self { path: path.to_owned(), file }.note(Published::default())
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
        let mut bytes = Vec::new();
        (&self.file).read_to_end(&mut bytes).doing(|| format!("reading `{}`", self.path.display()))?;
        // Whoever began it was killed before the first note, or the machine went down.
        let is_empty = bytes.iter().all(|byte| *byte == 0);
        if is_empty { Ok(Published::default()) } else { parse(&bytes).ok_or_else(|| damaged(&self.path)) }
    }

    /// Writes down how far publications have come, in the place of what was there, and makes it durable.
    pub fn note(&self, published: Published) -> Result<()> {
        let written = self.file.write_all_at(text(published).as_bytes(), 0).and_then(|()| self.file.sync_data());
        written.doing(|| format!("writing `{}`", self.path.display()))
    }
}

/// The numbers, always in the same number of digits, and their checksum: a flipped digit would lose rows or publish them twice.
fn text(Published { turn, files }: Published) -> String {
    let numbers = format!("{:020} {:020} {files:010}", turn.generation, turn.number);
    format!("{numbers} {}\n", &blake3::hash(numbers.as_bytes()).to_hex()[..16])
}

fn parse(bytes: &[u8]) -> Option<Published> {
    let words: Vec<&str> = std::str::from_utf8(bytes).ok()?.split_whitespace().take(3).collect();
    let [generation, number, files] = words[..] else { return None };
    let turn = PublicationId { generation: generation.parse().ok()?, number: number.parse().ok()? };
    let published = Published { turn, files: files.parse().ok()? };
    (text(published).as_bytes() == bytes).then_some(published)
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
        let published = Published { turn: PublicationId { generation: 7, number: u64::MAX }, files: 3 };
        Ledger::open(&path).unwrap().unwrap().note(published).unwrap();
        Ledger::create(&path).unwrap();
        assert_eq!(read(), published, "it is begun once");
        assert!(PublicationId { generation: 8, number: 1 } > published.turn);
        let bytes = std::fs::read(&path).unwrap();
        for place in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert!(Ledger::open(&path).unwrap().unwrap().read().is_err(), "{place}");
        }
        for begun in [&b""[..], &[0; 9]] {
            std::fs::write(&path, begun).unwrap();
            assert_eq!(read(), Published::default(), "nothing is published before the first note");
        }
    }
}
