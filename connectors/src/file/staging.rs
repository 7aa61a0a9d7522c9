//! Files that are written beside their place under a hidden name, until they are whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result, ResultExt, Run};
use millstream_formats::{FileWriter, WRITE_ROWS, WriteOptions};
use serde::{Deserialize, Serialize};

use super::disk::{create, mode_of};
use super::hashed::{Digest, Hashed, damaged, missing};
use super::hidden;
use super::journal::Journal;

/// A file that is being written.
pub struct Staged {
    /// Where it will be.
    pub path: PathBuf,
    /// Where it is until then.
    pub part: PathBuf,
    /// How many rows were written.
    pub rows: usize,
    writer: FileWriter<BufWriter<Hashed>>,
    /// How many bytes there were when the writer began.
    bytes_before: u64,
    /// The permissions that it will have.
    mode: u32,
    /// The rows once more, where the file itself can't be gone on with.
    journal: Option<Journal>,
}

/// What it takes to go on with a file that is not whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unfinished {
    /// Where it will be.
    pub path: PathBuf,
    /// When it was begun.
    pub begun: SystemTime,
    /// Where it was when this was kept. A run that goes on with it gives it a name of its own.
    part: PathBuf,
    rows: usize,
    mode: u32,
    source: Source,
    /// Whether it was whole for the run before, which was stopped, and has come to its place.
    pub is_published: bool,
}

/// From what a file is gone on with.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Source {
    Bytes(Digest),
    Journals(Vec<(PathBuf, Digest)>),
}

/// A file that is whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FinishedFile {
    /// Where it will be, or is.
    pub path: PathBuf,
    /// Where it is until it is published.
    pub part: PathBuf,
    /// Its bytes.
    #[serde(rename = "sum")]
    pub digest: Digest,
    /// The permissions that it gets.
    pub mode: u32,
    /// Journals that are needed no more when it is published.
    pub journals: Vec<PathBuf>,
}

impl Staged {
    /// Starts a file that will be at `path`. With `append_to`, its bytes come first. Only if the run keeps state can one after
    /// it go on with the file.
    pub fn start(
        path: PathBuf,
        options: WriteOptions,
        schema: &SchemaRef,
        append_to: Option<&Path>,
        run: &Run,
    ) -> Result<Self> {
        let part = hidden::part(&path, run);
        let durable = run.generation > 0;
        let mode = mode_of(&path, &part)?;
        let mut file = Hashed::new(create(&part)?, durable);
        if let Some(old) = append_to {
            let copied = File::open(old).and_then(|mut old| std::io::copy(&mut old, &mut file));
            copied.doing(|| format!("copying `{}`", old.display()))?;
        }
        let needs_journal = durable && !options.can_be_gone_on_with();
        let journal = needs_journal.then(|| Journal::start(&path, run, schema, Vec::new())).transpose()?;
        Ok(Self { journal, ..Self::over(file, path, part, &options, schema, mode)? })
    }

    /// Goes on with a file that a run before has begun. `options` are those for its beginning.
    pub fn go_on(unfinished: Unfinished, mut options: WriteOptions, schema: &SchemaRef, run: &Run) -> Result<Self> {
        let found = unfinished.locate(Some(run));
        let Unfinished { path, rows, mode, source, is_published, part: left, .. } = unfinished;
        let part = hidden::part(&path, run);
        let digest = match source {
            Source::Journals(journals) => return Self::rebuild(path, options, schema, mode, journals, run),
            Source::Bytes(digest) => digest,
        };
        let doing = || format!("resuming `{}`", path.display());
        let digest = if is_published {
            if !path.exists() {
                // Somebody has taken it away, as logs are. What comes now begins another one.
                return Self::start(path, options, schema, None, run);
            }
            digest.check(&path)?;
            let mut copy = create(&part)?;
            File::open(&path).and_then(|mut old| std::io::copy(&mut old, &mut copy)).doing(doing)?;
            // What others have added to the file since it was published stays there.
            Digest::of_file(&part)?
        } else {
            // From now on, a run that was here before can't do anything to it.
            fs::rename(found.ok_or_else(|| missing(&left))?, &part).doing(doing)?;
            digest
        };
        let file = File::options().read(true).write(true).open(&part).doing(doing)?;
        let file = Hashed::go_on(file, &part, digest)?;
        options.begins &= digest.bytes == 0;
        Ok(Self { rows, ..Self::over(file, path, part, &options, schema, mode)? })
    }

    /// Ends a file that a run before has begun, with the columns that it had then; `schema` has those of now.
    pub fn end(unfinished: Unfinished, options: WriteOptions, schema: &SchemaRef, run: &Run) -> Result<FinishedFile> {
        let kept = match &unfinished.source {
            Source::Journals(journals) => journals.first().map(|(path, _)| Journal::schema(path)).transpose()?,
            Source::Bytes(_) => None,
        };
        Self::go_on(unfinished, options, kept.as_ref().unwrap_or(schema), run)?.finish()
    }

    /// Writes the file from the start, from its rows.
    fn rebuild(
        path: PathBuf,
        options: WriteOptions,
        schema: &SchemaRef,
        mode: u32,
        journals: Vec<(PathBuf, Digest)>,
        run: &Run,
    ) -> Result<Self> {
        let part = hidden::part(&path, run);
        let mut staged = Self::over(Hashed::new(create(&part)?, true), path, part, &options, schema, mode)?;
        for (journal, digest) in &journals {
            for rows in Journal::read(journal, *digest, schema)? {
                let mut rows = rows?;
                while rows.num_rows() > 0 {
                    let written = staged.write(&rows, usize::MAX)?;
                    rows = rows.slice(written, rows.num_rows() - written);
                }
            }
        }
        staged.journal = Some(Journal::start(&staged.path, run, schema, journals)?);
        Ok(staged)
    }

    fn over(
        file: Hashed,
        path: PathBuf,
        part: PathBuf,
        options: &WriteOptions,
        schema: &SchemaRef,
        mode: u32,
    ) -> Result<Self> {
        let bytes_before = file.digest().bytes;
        let writer = options.open(BufWriter::with_capacity(1 << 18, file), schema);
        let writer = writer.doing(|| format!("writing `{}`", path.display()))?;
        Ok(Self { path, part, rows: 0, writer, bytes_before, mode, journal: None })
    }

    /// Writes the first of these rows, at most `most` and only as far as [`Staged::bytes`] stands still. Returns how
    /// many.
    pub fn write(&mut self, rows: &RecordBatch, most: usize) -> Result<usize> {
        let until_block_ends = WRITE_ROWS - self.rows % WRITE_ROWS;
        let count = rows.num_rows().min(most).min(until_block_ends);
        let rows = rows.slice(0, count);
        self.writer.write(&rows).doing(|| format!("writing `{}`", self.path.display()))?;
        if let Some(journal) = &mut self.journal {
            journal.write(&rows)?;
        }
        self.rows += count;
        Ok(count)
    }

    /// How many bytes the rows have come to, without those of the last few. It moves on after every [`WRITE_ROWS`] rows,
    /// also where checkpoints are taken in between.
    pub fn bytes(&mut self) -> Result<u64> {
        if self.rows.is_multiple_of(WRITE_ROWS) {
            self.writer.pause()?;
            return Ok(self.bytes_before + self.writer.bytes());
        }
        Ok(0)
    }

    /// Writes down everything, and says how to go on with it once the file that is returned, too, is made durable.
    pub fn pause(&mut self, begun: SystemTime) -> Result<(Unfinished, File)> {
        let doing = || format!("writing `{}`", self.path.display());
        let (source, file) = match (&mut self.journal, self.writer.pause().doing(doing)?) {
            (Some(journal), _) => {
                let (journals, file) = journal.pause()?;
                (Source::Journals(journals), file)
            }
            (None, Some(sink)) => {
                sink.flush().doing(doing)?;
                (Source::Bytes(sink.get_ref().digest()), sink.get_ref().file().doing(doing)?)
            }
            (None, None) => return Err(Error::new(format!("{}: it can't be gone on with", doing()))),
        };
        let (path, part, rows, mode) = (self.path.clone(), self.part.clone(), self.rows, self.mode);
        Ok((Unfinished { path, begun, part, rows, mode, source, is_published: false }, file))
    }

    /// Ends the file and makes it durable under its hidden name.
    pub fn finish(self) -> Result<FinishedFile> {
        let doing = || format!("writing `{}`", self.path.display());
        let file = self.writer.finish().doing(doing)?.into_inner().map_err(|error| error.into_error()).doing(doing)?;
        file.sync().doing(doing)?;
        let journals = self.journal.iter().flat_map(Journal::paths).collect();
        Ok(FinishedFile { part: self.part, path: self.path, digest: file.digest(), mode: self.mode, journals })
    }
}

impl Unfinished {
    /// All paths in it.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let journals = match &mut self.source {
            Source::Bytes(_) => &mut [][..],
            Source::Journals(journals) => journals,
        };
        journals.iter_mut().map(|(path, _)| path).chain([&mut self.path, &mut self.part]).collect()
    }

    /// Where it was published, if nothing is there any more.
    pub fn taken_away(&self) -> Option<&Path> {
        (self.is_published && !self.path.exists()).then_some(&self.path)
    }

    /// Checks that the files which are needed to go on with it are there, and begin as they did. `is_visible` says whether
    /// what was staged with it is.
    pub fn check(&self, is_visible: bool) -> Result<()> {
        match &self.source {
            Source::Bytes(_) if self.is_published && !(is_visible && self.path.exists()) => Ok(()),
            Source::Bytes(digest) if self.is_published => digest.check(&self.path),
            Source::Bytes(digest) => digest.check(&self.locate(None).ok_or_else(|| missing(&self.part))?),
            Source::Journals(journals) => journals
                .iter()
                .try_for_each(|(path, digest)| if path.exists() { digest.check(path) } else { Err(missing(path)) }),
        }
    }

    /// A hidden file that is needed to go on with it, and not there.
    pub fn missing(&self, run: &Run) -> Option<PathBuf> {
        match &self.source {
            Source::Bytes(_) if self.is_published || self.locate(Some(run)).is_some() => None,
            Source::Bytes(_) => Some(self.part.clone()),
            Source::Journals(journals) => journals.iter().map(|(path, _)| path).find(|path| !path.exists()).cloned(),
        }
    }

    /// The hidden files that are needed to go on with it.
    pub fn files(&self, run: &Run) -> Vec<PathBuf> {
        match &self.source {
            // What is at a hidden name is the copy of a run that began to go on with it, and ended before its first checkpoint.
            Source::Bytes(_) if self.is_published => Vec::new(),
            Source::Bytes(_) => self.locate(Some(run)).into_iter().collect(),
            Source::Journals(journals) => journals.iter().map(|(path, _)| path.clone()).collect(),
        }
    }

    /// Where it is: under the name that was kept; or that of a later run, up to this one, which has gone on with it, and ended
    /// before its first checkpoint.
    fn locate(&self, run: Option<&Run>) -> Option<PathBuf> {
        if self.part.exists() {
            return Some(self.part.clone());
        }
        let (name, kept) = hidden::owner(self.part.file_name()?.to_str()?)?;
        let most = run.map_or(u64::MAX, |run| run.generation);
        let later = |path: PathBuf| {
            let (other, owner) = hidden::owner(path.file_name()?.to_str()?)?;
            let is_later = owner.generation > kept.generation && owner.generation <= most;
            (other == name && owner.incarnation == kept.incarnation && is_later)
                .then(|| (owner.generation, path.clone()))
        };
        let entries = fs::read_dir(self.part.parent()?).ok()?.flatten();
        entries.filter_map(|entry| later(entry.path())).max().map(|(_, path)| path)
    }
}

impl FinishedFile {
    /// All paths in it.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.path, &mut self.part].into_iter().chain(&mut self.journals)
    }

    /// Checks that a file is this one, bit for bit.
    pub fn check(&self, path: &Path) -> Result<()> {
        let found = fs::metadata(path).doing(|| format!("reading `{}`", path.display()))?;
        if found.len() == self.digest.bytes { self.digest.check(path) } else { Err(damaged(path)) }
    }
}
