//! How far an output has come: a file in its home, to which it appends behind each answer.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{CommitContext, Home, Result, ResultExt as _};
use millstream_store::{Access, Files, LocalFiles, NewFile, create_durable_folder};

/// A record: the stage, how many of its rows were answered for, and a checksum.
const RECORD: usize = 24;

/// The file is begun anew when it has so many bytes.
const LARGEST: usize = if cfg!(test) { 5 * RECORD } else { 64 << 10 };

/// The last stage of which anything was sent, and how many of its rows were answered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub stage: u64,
    pub rows: u64,
}

/// The number of a stage: that of its checkpoint; without state, of its epoch.
pub fn stage_of(context: &CommitContext) -> u64 {
    if context.checkpoint > 0 { context.checkpoint } else { context.epoch.0 }
}

impl Mark {
    /// How many rows of a stage were answered for. None if all were.
    pub fn begun(self, stage: u64, rows: u64) -> Option<u64> {
        match self.stage.cmp(&stage) {
            std::cmp::Ordering::Greater => None,
            std::cmp::Ordering::Equal => (self.rows < rows).then_some(self.rows),
            std::cmp::Ordering::Less => Some(0),
        }
    }

    fn record(self) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&self.stage.to_le_bytes());
        record[8..16].copy_from_slice(&self.rows.to_le_bytes());
        let checksum = checksum(&record[..16]);
        record[16..].copy_from_slice(&checksum);
        record
    }

    /// The mark of a record, if that is whole.
    fn read(record: &[u8]) -> Option<Self> {
        let (said, sum) = record.split_at_checked(16)?;
        let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        (sum == checksum(said)).then_some(Self { stage: number(said)?, rows: number(&said[8..])? })
    }
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    *blake3::hash(bytes).as_bytes().first_chunk().unwrap_or(&[0; 8])
}

/// Keeps the mark of an output, durably where it has a home.
pub struct Marks {
    mark: Mark,
    file: Option<MarkFile>,
}

struct MarkFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    /// What is appended to, and how long it is. None if it has to be begun anew.
    open: Option<(Box<dyn NewFile>, usize)>,
}

impl Marks {
    /// The mark of an output, as it was noted last.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn open(context: &CommitContext) -> Result<Self> {
        if let Home::Folder(folder) = &context.home {
            let made = create_durable_folder(folder, Access::Private);
            made.doing(|| format!("making the folder `{}`", folder.display()))?;
        }
        Self::open_on(Arc::new(LocalFiles), context)
    }

    fn open_on(files: Arc<dyn Files>, context: &CommitContext) -> Result<Self> {
        let Some(folder) = context.home.folder() else { return Ok(Self { mark: Mark::default(), file: None }) };
        let path = folder.join(format!("sent-{}", context.incarnation));
        let records = match files.read(&path) {
            Ok(records) => records,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).doing(|| format!("reading `{}`", path.display())),
        };
        let mark = records.chunks(RECORD).map_while(Mark::read).last().unwrap_or_default();
        Ok(Self { mark, file: Some(MarkFile { files, path, open: None }) })
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Notes durably how far the output has come.
    ///
    /// # Errors
    /// If that can't be written.
    pub fn note(&mut self, mark: Mark) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.note(mark).doing(|| format!("writing to `{}`", file.path.display()))?;
        }
        self.mark = mark;
        Ok(())
    }
}

impl MarkFile {
    fn note(&mut self, mark: Mark) -> std::io::Result<()> {
        // A file that fails is given up, since nobody knows what is in it.
        match self.open.take() {
            Some((mut file, length)) if length < LARGEST => {
                file.append(&mark.record())?;
                file.sync()?;
                self.open = Some((file, length + RECORD));
            }
            _ => self.open = Some((self.begin(mark)?, RECORD)),
        }
        Ok(())
    }

    /// Puts a file with this mark in the place of the one that is there.
    fn begin(&self, mark: Mark) -> std::io::Result<Box<dyn NewFile>> {
        let new = self.path.with_extension("new");
        match self.files.remove(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.files.create_new(&new, Access::Private)?;
        file.append(&mark.record())?;
        file.sync()?;
        self.files.rename(&new, &self.path)?;
        self.files.sync_folder(self.path.parent().unwrap_or(Path::new("")))?;
        Ok(file)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_store::simulation::{Faults, Simulation};

    use super::*;

    fn context(home: &str) -> CommitContext {
        CommitContext { incarnation: "ab".into(), home: Home::Folder(home.into()), ..CommitContext::default() }
    }

    #[test]
    fn what_a_mark_says_of_a_stage() {
        let mark = Mark { stage: 7, rows: 10 };
        assert_eq!(
            [mark.begun(6, 15), mark.begun(7, 10), mark.begun(7, 15), mark.begun(8, 15)],
            [None, None, Some(10), Some(0)]
        );
    }

    #[test]
    fn what_was_noted_outlives_the_machine() {
        let folder = Path::new("/home");
        for seed in 0..300 {
            let disk = Simulation::new(seed);
            disk.create_folder(folder, Access::Private).unwrap();
            disk.sync_folder(Path::new("/")).unwrap();
            let errors = if seed % 3 == 0 { 50 } else { 0 };
            disk.set_faults(Faults { power: Some(1 + seed % 40), errors, capacity: usize::MAX });
            let (mut noted, mut tried) = (0, 0);
            if let Ok(mut marks) = Marks::open_on(Arc::new(disk.clone()), &context("/home")) {
                for rows in 1..20 {
                    tried = rows;
                    match marks.note(Mark { stage: 1, rows }) {
                        Ok(()) => noted = rows,
                        Err(_) => continue,
                    }
                }
            }
            let marks = Marks::open_on(Arc::new(disk.restarted()), &context("/home")).unwrap();
            let found = marks.mark().rows;
            assert!((noted..=tried).contains(&found), "seed {seed}: {found} of {noted} to {tried}");
        }
    }

    #[test]
    fn what_is_damaged_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let at = context(folder.path().to_str().unwrap());
        let mut marks = Marks::open(&at).unwrap();
        marks.note(Mark { stage: 1, rows: 1 }).unwrap();
        marks.note(Mark { stage: 1, rows: 2 }).unwrap();
        let path = folder.path().join("sent-ab");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[RECORD + 8] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Marks::open(&at).unwrap().mark(), Mark { stage: 1, rows: 1 });
        let other = CommitContext { incarnation: "cd".into(), ..at };
        assert_eq!(Marks::open(&other).unwrap().mark(), Mark::default());
    }
}
