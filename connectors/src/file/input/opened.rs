//! Which file an input has opened, so that another one which has taken its name since is not read on.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use millstream_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How many stretches of a file are compared, from its beginning to its end, and how many bytes each has at most.
const STRETCHES: u64 = 16;
const STRETCH: u64 = 4096;

/// A file as it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    device: u64,
    inode: u64,
    bytes: u64,
    /// The hash of stretches of it.
    blake3: [u8; 32],
}

impl Opened {
    /// The file behind a descriptor.
    pub fn of(file: &File) -> Result<Self> {
        let metadata = file.metadata()?;
        let bytes = metadata.len();
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), bytes, blake3: sample(file, bytes)? })
    }

    /// Checks that a file is this one or a copy of it. Where it `may_grow`, more bytes may have come since.
    pub fn check(&self, file: &File, may_grow: bool) -> Result<()> {
        let now = file.metadata()?;
        let is_same_file = (now.dev(), now.ino()) == (self.device, self.inode);
        let differs = |how: String| {
            let what = if is_same_file { "it was changed" } else { "another file has taken its name" };
            Err(Error::new(format!(
                "{what} since it was opened ({how}), and rows of both would be mixed; put the file back as it was, or start \
                 the flow from scratch with another state folder, and other places for its outputs"
            )))
        };
        match now.len() {
            length if length < self.bytes => {
                differs(format!("it has become shorter: {length} bytes instead of {}", self.bytes))
            }
            length if length > self.bytes && !may_grow => {
                differs(format!("it has become longer: {length} bytes instead of {}", self.bytes))
            }
            _ if sample(file, self.bytes)? != self.blake3 => differs("its bytes are others".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The hash of stretches of the first bytes of a file.
fn sample(file: &File, bytes: u64) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut stretch = [0; STRETCH as usize];
    let last = bytes.saturating_sub(STRETCH);
    let mut end = 0;
    for number in 0..STRETCHES {
        // Without what the stretch before has, where they overlap.
        let start = (last / (STRETCHES - 1) * number).max(end);
        let start = if number + 1 == STRETCHES { start.max(last) } else { start };
        end = (start + STRETCH).min(bytes).max(start);
        let stretch = &mut stretch[..(end - start) as usize];
        file.read_exact_at(stretch, start)?;
        hasher.update(stretch);
    }
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_byte_of_a_small_file_and_both_ends_of_a_large_one_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for (size, places) in [
            (0, vec![]),
            (1, vec![0]),
            (10_000, (0..10_000).collect()),
            (1 << 20, vec![0, 4095, 70_000, (1 << 20) - 4096, (1 << 20) - 1]),
        ] {
            let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
            fs::write(&path, &bytes).unwrap();
            let opened = Opened::of(&File::open(&path).unwrap()).unwrap();
            opened.check(&File::open(&path).unwrap(), false).unwrap();
            for place in places {
                let mut changed = bytes.clone();
                changed[place] ^= 1;
                fs::write(&path, &changed).unwrap();
                let error = opened.check(&File::open(&path).unwrap(), true).unwrap_err().to_string();
                assert!(error.contains("its bytes are others"), "{size}, {place}: {error}");
            }
            fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
            opened.check(&File::open(&path).unwrap(), true).unwrap();
            assert!(opened.check(&File::open(&path).unwrap(), false).is_err());
        }
    }
}
