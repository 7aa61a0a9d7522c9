//! A folder of its own for each run, and what lies in it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use millstream_core::{Home, PlanContext};
use tempfile::TempDir;

use crate::context;

/// A folder in which a flow runs.
pub(super) struct Folder {
    folder: TempDir,
    /// Whether the rest of a source has been made.
    pub is_complete: Cell<bool>,
}

impl Folder {
    pub(super) fn new() -> Self {
        // Where there is a file system in memory, nothing waits for disks: they are put to the test elsewhere.
        let memory = Path::new("/dev/shm");
        // A name that tables, topics and streams may have, too.
        let mut name = tempfile::Builder::new();
        name.prefix("run-");
        let folder = if memory.is_dir() { name.tempdir_in(memory) } else { name.tempdir() }.unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder, is_complete: Cell::new(false) }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The node's own folder of the state.
    pub(super) fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// The same, as a run has it.
    pub(super) fn durable(&self) -> Home {
        Home::Folder(self.home())
    }

    /// Where a node stands whose flow runs here.
    pub(super) fn context(&self, batch_rows: usize) -> PlanContext {
        let folder = || self.path().to_owned();
        PlanContext { flow_folder: folder(), work_folder: folder(), batch_rows, ..context() }
    }

    /// All files and folders in it, and what is in them.
    pub(super) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut contents = BTreeMap::new();
        collect(self.path(), &mut contents);
        contents
    }

    /// Does what may change nothing here.
    pub(super) fn unchanged<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let before = self.contents();
        let done = work();
        let names = |contents: &BTreeMap<PathBuf, Vec<u8>>| contents.keys().cloned().collect::<Vec<_>>();
        let after = self.contents();
        assert_eq!(names(&after), names(&before), "{what} changes which files there are");
        assert!(after == before, "{what} changes files");
        done
    }
}

fn collect(folder: &Path, contents: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, contents);
            contents.insert(path, Vec::new());
        } else {
            let bytes = fs::read(&path).unwrap();
            contents.insert(path, bytes);
        }
    }
}
