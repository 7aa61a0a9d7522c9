//! Files without a name, for runs without state: they are gone with the process, however that ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Error, Result, ResultExt};

/// The files without a name that an output and its committer share.
#[derive(Clone, Debug, Default)]
pub struct Unnamed(Arc<Mutex<BTreeMap<u64, File>>>);

impl Unnamed {
    /// Creates a file, to write to it.
    pub(crate) fn create(&self, number: u64) -> Result<File> {
        let doing = || format!("creating a file in `{}`, where `TMPDIR` says", std::env::temp_dir().display());
        let file = tempfile::tempfile().doing(doing)?;
        let kept = file.try_clone().doing(doing)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, kept);
        Ok(file)
    }

    /// Its bytes.
    pub(crate) fn read(&self, number: u64, bytes: u64) -> Result<Vec<u8>> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file =
            files.get(&number).ok_or_else(|| Error::new("rows were staged by another process, and kept nowhere"))?;
        let mut read = vec![0; usize::try_from(bytes).doing(|| "reading the spool")?];
        file.read_exact_at(&mut read, 0).doing(|| "reading the spool")?;
        Ok(read)
    }

    /// Removes it.
    pub(crate) fn remove(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}
