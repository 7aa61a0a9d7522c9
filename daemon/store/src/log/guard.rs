//! Remembers how far a log is durable, so that it is noticed if rows that were acknowledged are gone.
//!
//! A guard is a file beside the segments. When a group has become durable, a claim that says so is appended, before the
//! group is acknowledged. It is not synced: after the process was killed it is whole, and after a power cut it may lack
//! claims, and proves less then. As claims are only made of what is durable already, none is ever wrong.
//!
//! It begins as a segment does, with [`MAGIC`] and a random number. These are durable before it gets its name, so that
//! what another file has left on the disk is not taken for a claim. A claim is 20 bytes: the checksum of the others, the
//! number up to which all is durable, and that with which the last segment begins.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{START, Salt};
use super::replace::replace;
use crate::files::is_missing;
use crate::{Files, NewFile};

/// What a guard begins with.
const MAGIC: [u8; 4] = *b"MSG1";

/// How long a claim is.
pub const CLAIM: usize = 20;

/// A guard of so many bytes is replaced by one that begins with the last claim.
const MAX_BYTES: usize = 64 << 10;

/// What a guard says of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// All records before this number are durable.
    pub end: u64,
    /// With this number the segment begins that was the last one then.
    pub first: u64,
}

/// Writes down claims.
pub struct Guard {
    files: Arc<dyn Files>,
    folder: PathBuf,
    /// `None` before the first claim, and when one could not be written.
    current: Option<Current>,
}

struct Current {
    salt: Salt,
    bytes: usize,
    file: Box<dyn NewFile>,
}

impl Guard {
    /// That of the log in a folder. What a former one claims holds until there is a new claim.
    pub fn new(files: Arc<dyn Files>, folder: PathBuf) -> Self {
        Self { files, folder, current: None }
    }

    /// Claims what has become durable. If that can't be written, the former claims are all that is known, which is no reason
    /// to refuse records.
    pub fn claim(&mut self, claim: Claim) {
        let written = match self.current.take() {
            Some(current) if current.bytes < MAX_BYTES => current.append(claim),
            _ => self.begin(claim),
        };
        // Behind a claim that was written in part there is no place for another.
        self.current = written.ok();
    }

    /// Begins a guard. The former one is there until the new one is durable.
    fn begin(&self, claim: Claim) -> io::Result<Current> {
        let (salt, mut bytes) = Salt::start(MAGIC);
        bytes.extend(claim.encode(salt));
        let file = replace(&*self.files, &path(&self.folder), &bytes)?;
        Ok(Current { salt, bytes: bytes.len(), file })
    }
}

impl Current {
    fn append(mut self, claim: Claim) -> io::Result<Self> {
        self.file.append(&claim.encode(self.salt))?;
        self.bytes += CLAIM;
        Ok(self)
    }
}

impl Claim {
    fn encode(self, salt: Salt) -> [u8; CLAIM] {
        let mut bytes = [0; CLAIM];
        bytes[4..12].copy_from_slice(&self.end.to_le_bytes());
        bytes[12..].copy_from_slice(&self.first.to_le_bytes());
        let checksum = salt.checksum(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], salt: Salt) -> Option<Self> {
        let (checksum, rest) = bytes.split_first_chunk()?;
        let (end, first) = rest.split_first_chunk()?;
        let claim = Self { end: u64::from_le_bytes(*end), first: u64::from_le_bytes(first.try_into().ok()?) };
        (salt.checksum(rest) == u32::from_le_bytes(*checksum)).then_some(claim)
    }
}

/// Where the guard of the log in a folder is.
pub fn path(folder: &Path) -> PathBuf {
    folder.join(".durable")
}

/// The highest claim for the log in a folder, if there is a guard that has one.
pub fn read(files: &dyn Files, folder: &Path) -> io::Result<Option<Claim>> {
    match files.read(&path(folder)) {
        Ok(bytes) => Ok(highest(&bytes)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The highest claim of a guard. A crash may have torn any of them.
fn highest(guard: &[u8]) -> Option<Claim> {
    let salt = Salt::behind(MAGIC, guard)?;
    guard[START..].chunks_exact(CLAIM).filter_map(|claim| Claim::decode(claim, salt)).max()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::simulation::{Faults, Simulation};

    const FOLDER: &str = "/";

    fn guard(files: &Simulation) -> Guard {
        Guard::new(Arc::new(files.clone()), PathBuf::from(FOLDER))
    }

    fn claim(end: u64) -> Claim {
        Claim { end, first: end / 10 }
    }

    fn found(files: &Simulation) -> Option<Claim> {
        read(files, Path::new(FOLDER)).unwrap()
    }

    #[test]
    fn the_last_claim_is_found_however_many_there_were() {
        let files = Simulation::new(1);
        assert_eq!(found(&files), None);
        let mut guard = guard(&files);
        for end in 0..10_000 {
            guard.claim(claim(end));
            if end % 100 == 0 {
                assert_eq!(found(&files), Some(claim(end)));
            }
        }
        let files = files.new_process();
        assert_eq!(found(&files), Some(claim(9999)));
        assert!(files.size(&path(Path::new(FOLDER))).unwrap() < 2 * MAX_BYTES as u64);
    }

    #[test]
    fn a_claim_that_could_not_be_written_is_made_up_for_by_the_next() {
        for seed in 0..200 {
            let files = Simulation::new(seed);
            let mut guard = guard(&files);
            guard.claim(claim(1));
            files.set_faults(Faults { errors: 500, capacity: 60, ..Faults::NONE });
            (2..20).for_each(|end| guard.claim(claim(end)));
            files.set_faults(Faults::NONE);
            assert!(found(&files) <= Some(claim(19)));
            guard.claim(claim(20));
            assert_eq!(found(&files), Some(claim(20)));
        }
    }

    #[test]
    fn whatever_is_lost_the_claims_that_are_found_were_made() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..1000 {
            let files = Simulation::new(seed);
            let mut guard = guard(&files);
            files.set_faults(Faults { errors: 50, power: Some(1 + seed % 40), ..Faults::NONE });
            (1..20).for_each(|end| guard.claim(claim(end)));
            let found = found(&files.restarted());
            assert!(found.is_none_or(|found| (1..20).any(|end| claim(end) == found)), "seed {seed}: {found:?}");
            seen.insert(found);
        }
        assert!(seen.len() > 10, "{seen:?}");
    }

    #[test]
    fn a_damaged_claim_is_none() {
        let files = Simulation::new(1);
        let mut guard = guard(&files);
        (1..4).for_each(|end| guard.claim(claim(end)));
        let path = path(Path::new(FOLDER));
        let length = START + 3 * CLAIM;
        for bit in 0..length * 8 {
            files.flip(&path, bit);
            let left = match bit / 8 {
                ..START => None,
                place if place >= length - CLAIM => Some(claim(2)),
                _ => Some(claim(3)),
            };
            assert_eq!(found(&files), left, "bit {bit}");
            files.flip(&path, bit);
        }
        for length in (0..length).rev() {
            files.cut(&path, length);
            let left = length.saturating_sub(START) / CLAIM;
            assert_eq!(found(&files), (left > 0).then(|| claim(left as u64)), "{length} bytes");
        }
    }
}
