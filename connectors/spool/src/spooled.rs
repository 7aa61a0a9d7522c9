//! The committer's half of the spool: what was staged is read in parts, each of which fits into one transaction.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::IntoIter;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use millstream_core::{CommitContext, Error, Home, PendingCommit, Result, ResultExt, State, batch_bytes};
use millstream_store::{Files, LocalFiles, crash};

use crate::Unnamed;
use crate::segment::{Place, Segment, staged_name};
use crate::spool::{PIECE_ROWS, name_before, remove};

/// How much a part has at most, but for a row that is larger. Transactions must not take for ever, and targets keep them in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLimits {
    /// Rows.
    pub rows: u64,
    /// Bytes of Arrow, in memory.
    pub bytes: u64,
}

impl Default for PartLimits {
    fn default() -> Self {
        Self { rows: 250_000, bytes: 64 << 20 }
    }
}

/// What an output has staged.
pub struct Spooled {
    segments: Vec<Segment>,
    files: Arc<dyn Files>,
    folder: Option<PathBuf>,
    staged: State,
    unnamed: Unnamed,
}

impl Spooled {
    /// What the list of segments is called in the stage.
    pub(crate) const NAME: &'static str = "spool";

    /// What is in a stage.
    ///
    /// # Errors
    /// If that can't be read.
    pub fn of(pending: &PendingCommit, unnamed: &Unnamed) -> Result<Self> {
        Self::of_on(Arc::new(LocalFiles), pending, unnamed)
    }

    pub(crate) fn of_on(files: Arc<dyn Files>, pending: &PendingCommit, unnamed: &Unnamed) -> Result<Self> {
        let staged = pending.staged.clone();
        let segments = if staged.has(Self::NAME) { staged.get(Self::NAME)? } else { Vec::new() };
        let folder = pending.context.home.folder().map(PathBuf::from);
        Ok(Self { segments, files, folder, staged, unnamed: unnamed.clone() })
    }

    /// Checks that all of a stage is there, without a change to it. `home` is the node's own folder, if the state is in a local one.
    ///
    /// # Errors
    /// If anything is missing or damaged.
    pub fn verify(staged: &State, home: Option<&Path>) -> Result<()> {
        let home = home.map_or(Home::Elsewhere, |home| Home::Folder(home.to_owned()));
        let context = CommitContext { home, ..CommitContext::default() };
        let spooled = Self::of(&PendingCommit { staged: staged.clone(), context }, &Unnamed::default())?;
        spooled.segments.iter().try_for_each(|segment| spooled.open(segment).map(drop))
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.segments.iter().map(|segment| segment.rows).sum()
    }

    /// The rows behind the first so many, in parts.
    pub fn parts(&self, skip: u64, limits: PartLimits) -> PartReader<'_> {
        PartReader {
            spooled: self,
            segments: self.segments.clone().into_iter(),
            open: None,
            ahead: None,
            skip,
            until: 0,
            limits,
            rows: 0,
            bytes: 0,
        }
    }

    /// Removes it, when the target has it and nobody will ask for it again; and what the same run has staged before, which the target had before, and
    /// which a process that was killed may have left. Harmless if that was done before.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove(&self) -> Result<()> {
        for segment in &self.segments {
            match &segment.place {
                Place::File(name) => self.remove_up_to(name)?,
                Place::Unnamed(number) => self.unnamed.remove(*number),
                Place::Staged(_) => {}
            }
            crash::point("spool-removed");
        }
        Ok(())
    }

    fn remove_up_to(&self, name: &str) -> Result<()> {
        let mut next = Some(name.to_owned());
        while let Some(now) = next {
            let path = self.path(&now)?;
            let was_there = remove(&*self.files, &path).doing(|| format!("removing `{}`", path.display()))?;
            next = name_before(&now).filter(|_| was_there || now == name);
        }
        Ok(())
    }

    /// The batches of a segment.
    fn open(&self, segment: &Segment) -> Result<StreamReader<Cursor<Vec<u8>>>> {
        let (what, bytes) = match &segment.place {
            Place::File(name) => {
                let path = self.path(name)?;
                let what = format!("`{}`", path.display());
                let bytes = self.files.read(&path).map_err(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => segment.unusable(&what, "is missing"),
                    _ => Error::caused_by(format!("reading {what}"), error),
                })?;
                (what, bytes)
            }
            // The copy is let go with its bytes, which would stay in memory otherwise.
            Place::Staged(number) => {
                let name = staged_name(*number);
                let bytes = self.staged.clone().bytes(&name)?.to_vec();
                (format!("`{name}` of the state"), bytes)
            }
            Place::Unnamed(number) => ("a temporary file".to_owned(), self.unnamed.read(*number, segment.bytes)?),
        };
        segment.decode(bytes)?.ok_or_else(|| segment.unusable(&what, "is damaged"))
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.as_ref().ok_or_else(|| {
            Error::new(format!(
                "`{name}`, in which rows were staged, lies in the local folder of the state, and the state is elsewhere now; run the \
                 flow with the state that it had"
            ))
        })?;
        Ok(folder.join(name))
    }
}

/// Rows of a stage, part by part.
pub struct PartReader<'a> {
    spooled: &'a Spooled,
    segments: IntoIter<Segment>,
    open: Option<StreamReader<Cursor<Vec<u8>>>>,
    /// The rows that come next.
    ahead: Option<RecordBatch>,
    /// How many rows are still to be left out.
    skip: u64,
    /// How many rows of the stage lie before the end of those that were given.
    until: u64,
    limits: PartLimits,
    /// Those of the part so far.
    rows: u64,
    bytes: u64,
}

impl Iterator for PartReader<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        self.next_piece().transpose()
    }
}

/// Rows of a part.
#[derive(Debug)]
pub struct Piece {
    /// The rows.
    pub rows: RecordBatch,
    /// How many rows of the stage lie before their end.
    pub until: u64,
    /// Whether the part ends with them.
    pub ends_part: bool,
    /// Whether the stage ends with them.
    pub is_last: bool,
}

impl PartReader<'_> {
    /// How many rows of the stage lie before those that come next.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// The next rows.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        let Some(rows) = (match self.ahead.take() {
            Some(rows) => Some(rows),
            None => self.read()?,
        }) else {
            return Ok(None);
        };
        let room = usize::try_from(self.limits.rows - self.rows).unwrap_or(usize::MAX).max(1);
        let (rows, rest) = if rows.num_rows() > room {
            (rows.slice(0, room), Some(rows.slice(room, rows.num_rows() - room)))
        } else {
            (rows, None)
        };
        self.until += rows.num_rows() as u64;
        self.rows += rows.num_rows() as u64;
        self.bytes += batch_bytes(&rows) as u64;
        self.ahead = match rest {
            Some(rest) => Some(rest),
            None => self.read()?,
        };
        let is_last = self.ahead.is_none();
        let next = self.ahead.as_ref().map_or(0, |rows| batch_bytes(rows) as u64);
        let is_full = self.rows >= self.limits.rows || self.bytes + next > self.limits.bytes;
        let ends_part = is_last || is_full;
        if ends_part {
            (self.rows, self.bytes) = (0, 0);
        }
        Ok(Some(Piece { rows, until: self.until, ends_part, is_last }))
    }

    /// The next batch of which not all rows are left out.
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(rows) = self.open.as_mut().and_then(Iterator::next) {
                let rows = rows.doing(|| "reading the spool")?;
                debug_assert!(rows.num_rows() <= PIECE_ROWS);
                let skipped = self.skip.min(rows.num_rows() as u64) as usize;
                self.skip -= skipped as u64;
                self.until += skipped as u64;
                if skipped < rows.num_rows() {
                    return Ok(Some(rows.slice(skipped, rows.num_rows() - skipped)));
                }
                continue;
            }
            let Some(segment) = self.segments.next() else { return Ok(None) };
            if self.skip >= segment.rows {
                self.skip -= segment.rows;
                self.until += segment.rows;
            } else {
                self.open = Some(self.spooled.open(&segment)?);
            }
        }
    }
}
