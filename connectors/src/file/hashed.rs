//! Files whose bytes are hashed as they are written, so that a run that goes on with one knows that it is the same.

use std::fs::File;
use std::io::{Read, Result as IoResult, Seek, SeekFrom, Write};
use std::path::Path;

use millstream_core::{Error, Result, ResultExt};
use serde::{Deserialize, Serialize};

/// How many bytes a stretch of a file has, and their BLAKE3 hash; zeros where nobody will ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// How many bytes.
    pub bytes: u64,
    /// Their hash.
    pub blake3: [u8; 32],
}

impl Digest {
    /// Of the first bytes of a source, at most so many.
    fn of(source: impl Read, bytes: u64, hasher: &mut blake3::Hasher) -> IoResult<Self> {
        let bytes = std::io::copy(&mut source.take(bytes), hasher)?;
        Ok(Self { bytes, blake3: *hasher.finalize().as_bytes() })
    }

    /// Of all bytes of a file.
    pub fn of_file(path: &Path) -> Result<Self> {
        let doing = || format!("reading `{}`", path.display());
        Self::of(File::open(path).doing(doing)?, u64::MAX, &mut blake3::Hasher::new()).doing(doing)
    }

    /// Checks that a file begins with these bytes.
    pub fn check(self, path: &Path) -> Result<()> {
        let doing = || format!("reading `{}`", path.display());
        let found = Self::of(File::open(path).doing(doing)?, self.bytes, &mut blake3::Hasher::new()).doing(doing)?;
        if found == self { Ok(()) } else { Err(damaged(path)) }
    }
}

/// What to do about a file that is needed.
const ADVICE: &str = "put it back from a copy; without it, only `--reset` of the node helps: an output loses the rows in \
                      it, and an input is read from its first row, so that rows count twice";

/// A file that a checkpoint has left and that is gone.
pub fn missing(path: &Path) -> Error {
    Error::new(format!("`{}`, which the last checkpoint left there, is missing; {ADVICE}", path.display()))
}

/// A file that is missing, and that a checkpoint has left in another folder.
pub fn left_elsewhere(path: &Path, folder: &Path) -> Error {
    Error::new(format!(
        "`{}` is not there: the last checkpoint left it in `{}`; run the flow in the folder in which it ran before, or copy that \
         folder whole",
        path.display(),
        folder.display()
    ))
}

/// A file that is not what a checkpoint says of it.
pub fn damaged(path: &Path) -> Error {
    Error::new(format!("`{}` is damaged: it is not what the last checkpoint left there; {ADVICE}", path.display()))
}

/// A file that is being written.
pub struct Hashed {
    file: File,
    bytes: u64,
    hasher: Option<blake3::Hasher>,
}

impl Hashed {
    /// A new file. Only if it is `durable` does another process ask what was written, and is it worth to hash it.
    pub fn new(file: File, durable: bool) -> Self {
        Self { file, bytes: 0, hasher: durable.then(blake3::Hasher::new) }
    }

    /// A file that is gone on with behind its first bytes, which have to be these. What lies behind them is cut off.
    pub fn go_on(mut file: File, path: &Path, digest: Digest) -> Result<Self> {
        let doing = || format!("resuming `{}`", path.display());
        let mut hasher = blake3::Hasher::new();
        if Digest::of(&file, digest.bytes, &mut hasher).doing(doing)? != digest {
            return Err(damaged(path));
        }
        file.set_len(digest.bytes).and_then(|()| file.seek(SeekFrom::End(0))).doing(doing)?;
        Ok(Self { file, bytes: digest.bytes, hasher: Some(hasher) })
    }

    /// What has been written so far.
    pub fn digest(&self) -> Digest {
        let blake3 = self.hasher.as_ref().map(|hasher| *hasher.finalize().as_bytes());
        Digest { bytes: self.bytes, blake3: blake3.unwrap_or_default() }
    }

    /// Makes it durable.
    pub fn sync(&self) -> IoResult<()> {
        self.file.sync_all()
    }

    /// The file once more, for somebody else to make durable.
    pub fn file(&self) -> IoResult<File> {
        self.file.try_clone()
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        let written = self.file.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..written]);
        }
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> IoResult<()> {
        self.file.flush()
    }
}
