//! Bytes that nobody has meant well with: what decoders are tried with, so that none panics or goes on without end.
//!
//! Each gets what is valid, the same with damages, and random bytes. In an ordinary run that takes a moment and is the same each time; with
//! [`VARIABLE`] it takes as long as that says, and begins with another seed each time.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Random;

/// The environment variable that says for how many seconds each decoder is tried. `tests/run --nightly` sets it.
const VARIABLE: &str = "MILLSTREAM_HOSTILE_SECONDS";

/// For how long each is tried without it.
const MOMENT: Duration = Duration::from_millis(500);

/// How long any one input may take, with much to spare for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many random bytes come at most.
const RANDOM: u64 = 200;

/// What a decoder is tried with.
#[derive(Debug)]
pub struct Hostile {
    valid: Vec<Vec<u8>>,
    /// Where inputs are put that do harm.
    findings: PathBuf,
    /// Among how many decoders the time is divided.
    among: u32,
}

impl Hostile {
    /// Bytes that are valid, and damages of these.
    pub fn new<B: Into<Vec<u8>>>(valid: impl IntoIterator<Item = B>) -> Self {
        let valid = valid.into_iter().map(Into::into).collect();
        Self { valid, findings: std::env::temp_dir(), among: 1 }
    }

    /// The files of a folder: such as are valid, and such as have done harm once. What does harm now is put there as well.
    ///
    /// # Panics
    /// If there are none.
    pub fn kept_in(folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref();
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "`{}` is empty", folder.display());
        let valid = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        Self { valid, findings: folder.to_owned(), among: 1 }
    }

    /// With a part of the time only, as so many decoders are tried in one test.
    #[must_use]
    pub fn among(self, decoders: usize) -> Self {
        Self { among: decoders as u32, ..self }
    }

    /// Tries a decoder.
    ///
    /// # Panics
    /// If it panics, or takes too long for an input. Which one that was is kept in a file.
    #[expect(clippy::disallowed_methods, reason = "how long it goes on is no result")]
    pub fn attack(&self, mut decode: impl FnMut(&[u8])) {
        for bytes in &self.valid {
            self.try_one(bytes, &mut decode);
        }
        let (time, mut random) = extent();
        let begin = Instant::now();
        while begin.elapsed() < time / self.among {
            let bytes = self.make(&mut random);
            self.try_one(&bytes, &mut decode);
        }
    }

    fn make(&self, random: &mut Random) -> Vec<u8> {
        if self.valid.is_empty() || random.below(4) == 0 {
            return random.bytes(RANDOM);
        }
        let mut bytes = self.valid[random.below(self.valid.len() as u64) as usize].clone();
        random.damage(&mut bytes);
        bytes
    }

    #[expect(clippy::disallowed_methods, reason = "how long it takes is no result")]
    fn try_one(&self, bytes: &[u8], decode: &mut impl FnMut(&[u8])) {
        let begin = Instant::now();
        let tried = catch_unwind(AssertUnwindSafe(|| decode(bytes)));
        let took = begin.elapsed();
        if tried.is_err() || took > PATIENCE {
            self.keep(bytes, took);
        }
        tried.unwrap_or_else(|panic| resume_unwind(panic));
        assert!(took < PATIENCE, "{} bytes took {took:?}", bytes.len());
    }

    /// Keeps an input that does harm, to be tried from now on if it is committed.
    #[expect(clippy::print_stderr, reason = "the test harness shows it")]
    fn keep(&self, bytes: &[u8], took: Duration) {
        let name = bytes.iter().fold(0_u64, |hash, byte| Random(hash ^ u64::from(*byte)).number());
        let path = self.findings.join(format!("harmful-{name:016x}"));
        fs::write(&path, bytes).unwrap();
        eprintln!("`{}` does harm, after {took:?}", path.display());
    }
}

/// For how long decoders are tried, and with what.
#[expect(clippy::disallowed_methods, reason = "another seed each time")]
#[expect(clippy::print_stderr, reason = "the test harness shows it")]
fn extent() -> (Duration, Random) {
    let Ok(seconds) = std::env::var(VARIABLE) else { return (MOMENT, Random(1)) };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    eprintln!("seed {seed}");
    (Duration::from_secs(seconds.parse().unwrap()), Random(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_harm_is_kept_and_tried_first() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("valid"), b"hello").unwrap();
        let tried = catch_unwind(|| {
            Hostile::kept_in(folder.path()).attack(|bytes| assert!(bytes.starts_with(b"hel"), "harm"));
        });
        assert!(tried.is_err());
        let kept: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
        let mut first = None;
        let again = catch_unwind(AssertUnwindSafe(|| {
            Hostile::kept_in(folder.path()).attack(|bytes| {
                first.get_or_insert_with(|| bytes.to_vec());
                assert!(bytes.starts_with(b"hel"), "harm");
            });
        }));
        assert!(again.is_err() && first.is_some_and(|first| !first.starts_with(b"hel")));
    }
}
