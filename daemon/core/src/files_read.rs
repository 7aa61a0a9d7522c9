//! The files that a flow is planned from, so that it can be noticed when one of them is another one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use twox_hash::XxHash3_64;

/// The files that were read while a flow was read and planned, besides its own text, and what was in them: a lock file, connections, secrets,
/// the certificates of a client, schemas of messages. Data is none of it, as the rows of an input, nor is what is looked at again while a flow
/// runs.
///
/// Who reads such a file does so by [`FilesRead::read`]. Clones share what is noted.
///
/// ```
/// use millstream_core::FilesRead;
///
/// let folder = tempfile::tempdir()?;
/// let (files, lock) = (FilesRead::default(), folder.path().join("f.lock"));
/// assert!(files.read(&lock).is_err() && !files.have_changed());
/// std::fs::write(&lock, "version = 1")?;
/// assert!(files.have_changed());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct FilesRead(Arc<Mutex<BTreeMap<PathBuf, Option<Fingerprint>>>>);

/// By which it is noticed that a file has other bytes.
type Fingerprint = u64;

impl FilesRead {
    /// What is in a file.
    ///
    /// # Errors
    /// If it can't be read, or is no file, such as a folder or a device. That is noted, too: it may be mended.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let read = read(path);
        let fingerprint = read.as_deref().ok().map(XxHash3_64::oneshot);
        // Of a file that is read twice, the first time counts: if it has changed in between, it has changed.
        self.noted().entry(path.to_owned()).or_insert(fingerprint);
        read
    }

    /// The text in a file.
    ///
    /// # Errors
    /// As of [`FilesRead::read`], and if it is no text.
    pub fn read_text(&self, path: &Path) -> io::Result<String> {
        text(self.read(path)?)
    }

    /// Notes a file that is read elsewhere, such as in a library.
    pub fn note(&self, path: &Path) {
        // What is wrong with it is said there.
        let _ = self.read(path);
    }

    /// The files, also those that were not there.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.noted().keys().cloned().collect()
    }

    /// Whether something else is in one of the files now, one is gone, or one is there that was not. Reads them all.
    pub fn have_changed(&self) -> bool {
        let noted = self.noted().clone();
        noted.iter().any(|(path, before)| read(path).ok().map(|bytes| XxHash3_64::oneshot(&bytes)) != *before)
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Option<Fingerprint>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names alone: what is in a file may be a secret.
impl fmt::Debug for FilesRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.noted().keys()).finish()
    }
}

/// The text in a file that people write.
///
/// # Errors
/// If it can't be read, is no file, such as a pipe, is no text, or is longer than 16 MiB.
pub fn read_text(path: &Path) -> io::Result<String> {
    text(read(path)?)
}

/// How long a file may be.
const LONGEST: u64 = 16 << 20;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Of what is no file, reading may never begin, or never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "it is longer than 16 MiB"));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no text in UTF-8"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn another_content_is_noticed_and_the_same_again_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let files = FilesRead::default();
        std::fs::write(&a, "1").unwrap();
        assert_eq!(files.read_text(&a).unwrap(), "1");
        assert_eq!(files.read(&b).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(files.read(folder.path()).unwrap_err().to_string(), "it is no file");
        assert_eq!(files.paths(), [folder.path().to_owned(), a.clone(), b.clone()]);
        for (path, text) in [(&a, "2"), (&b, "")] {
            std::fs::write(path, text).unwrap();
            assert!(files.have_changed(), "{}", path.display());
            if path == &a { std::fs::write(path, "1") } else { std::fs::remove_file(path) }.unwrap();
            assert!(!files.have_changed(), "{}", path.display());
        }
        // What has changed before it was read again is noticed, too.
        std::fs::write(&a, "2").unwrap();
        assert_eq!(files.clone().read(&a).unwrap(), b"2");
        assert!(files.have_changed());
        std::fs::write(&a, [0xff]).unwrap();
        assert_eq!(files.read_text(&a).unwrap_err().to_string(), "it is no text in UTF-8");
    }
}
