//! The file of rows that wait and do not fit into memory. It has no name, and is gone with the process: what has to outlive that is in
//! checkpoints.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_core::{Home, Result, ResultExt};
use millstream_store::{Access, create_durable_folder};

/// A file that grows at its end, and gives back to the disk what is read for the last time.
#[derive(Default)]
pub struct Spill {
    /// Where it is; in the folder for temporary files, if the node has none.
    folder: Option<PathBuf>,
    file: Option<Arc<File>>,
    end: u64,
}

/// A stretch of the file. It is given back to the disk when nobody needs it any more.
pub struct Span {
    file: Arc<File>,
    start: u64,
    bytes: usize,
}

impl Spill {
    /// In the folder of a node, if it has one. Nothing is made before it is needed.
    pub fn new(home: &Home) -> Self {
        Self { folder: home.folder().map(Into::into), ..Self::default() }
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Arc<Span>> {
        let file = self.file()?;
        file.write_all_at(bytes, self.end).doing(|| self.doing())?;
        let span = Span { file, start: self.end, bytes: bytes.len() };
        self.end += bytes.len() as u64;
        Ok(Arc::new(span))
    }

    fn file(&mut self) -> Result<Arc<File>> {
        if let Some(file) = &self.file {
            if Arc::strong_count(file) == 1 {
                // Nothing in it is needed any more.
                file.set_len(0).doing(|| self.doing())?;
                self.end = 0;
            }
            return Ok(file.clone());
        }
        let file = Arc::new(self.create().doing(|| self.doing())?);
        self.file = Some(file.clone());
        Ok(file)
    }

    fn create(&self) -> std::io::Result<File> {
        let Some(folder) = &self.folder else { return tempfile::tempfile() };
        create_durable_folder(folder, Access::Private)?;
        tempfile::tempfile_in(folder)
    }

    fn doing(&self) -> String {
        let folder = self.folder.clone().unwrap_or_else(std::env::temp_dir);
        format!("writing rows that wait to a file in `{}`", folder.display())
    }
}

impl Span {
    /// The bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        self.file.read_exact_at(&mut bytes, self.start).doing(|| "reading rows that wait")?;
        Ok(bytes)
    }
}

#[cfg(target_os = "linux")]
impl Drop for Span {
    fn drop(&mut self) {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where the file system can't do that, the space is free when nothing waits any more.
        let _ = fallocate(&*self.file, flags, self.start, self.bytes as u64);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_not_needed_any_more_takes_no_space() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(&Home::Folder(folder.path().join("node")));
        let write = |spill: &mut Spill, byte: u8| spill.write(&vec![byte; 1 << 20]).unwrap();
        let mut spans: Vec<_> = (0..8).map(|byte| write(&mut spill, byte)).collect();
        let blocks = |spill: &Spill| spill.file.as_ref().unwrap().metadata().unwrap().blocks() * 512;
        assert!(blocks(&spill) >= 8 << 20);
        spans.drain(..6);
        assert!(blocks(&spill) < 4 << 20, "{} bytes", blocks(&spill));
        assert!(spans.iter().zip(6..).all(|(span, byte)| span.read().unwrap() == vec![byte; 1 << 20]));
        spans.clear();
        let span = write(&mut spill, 9);
        assert_eq!((span.start, spill.end), (0, 1 << 20));
        assert_eq!(span.read().unwrap()[0], 9);
    }
}
