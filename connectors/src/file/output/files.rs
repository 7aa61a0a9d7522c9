//! The files that an output writes: begun, paused at checkpoints, gone on with, handed over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{Batch, Border, Committer, Epoch, Error, Home, Output, Result, ResultExt, Snapshot, State, Then};
use millstream_formats::{Format, WriteOptions, csv_header, ends_with_line_break};
use millstream_store::{Access, crash, create_durable_folder};

use super::IfExists;
use super::kept::{PROGRESS, Progress};
use crate::file::claim::Claim;
use crate::file::publish::{Publication, Publisher, STAGED};
use crate::file::staging::{Staged, Unfinished, Whole, part, remove, resolve, sync_folder};
use crate::file::target::{Base, Target, number_of};

/// When a file of a folder is whole.
pub struct Limits {
    /// It has at most so many rows.
    pub rows: usize,
    /// It is ended when it has so many bytes.
    pub bytes: u64,
    /// It is ended at the first checkpoint after this time.
    pub time: Option<Duration>,
}

/// The output itself.
pub struct Files {
    target: Target,
    /// What paths in the state are relative to.
    base: Base,
    options: WriteOptions,
    schema: SchemaRef,
    if_exists: IfExists,
    limits: Limits,
    /// What outlives the run.
    progress: Progress,
    /// Keeps other runs away, from the start to the end.
    claim: Option<Claim>,
    open: Option<Staged>,
    /// When `open` was begun.
    since: Instant,
    /// The files that are whole, and not handed over yet.
    finished: Vec<Whole>,
    /// The epoch that rows belong to now.
    epoch: Epoch,
    /// Whether a run after a crash goes on with what this one has begun.
    durable: bool,
    /// Whether this process has begun to write.
    is_own: Arc<AtomicBool>,
}

impl Files {
    /// Files with these columns.
    pub fn new(target: Target, schema: SchemaRef, if_exists: IfExists, limits: Limits) -> Self {
        Self {
            options: target.options(),
            base: target.base(),
            target,
            schema,
            if_exists,
            limits,
            progress: Progress::default(),
            claim: None,
            open: None,
            since: Instant::now(),
            finished: Vec::new(),
            epoch: Epoch::default().next(),
            durable: false,
            is_own: Arc::default(),
        }
    }

    /// Begins the next file.
    fn start(&mut self) -> Result<()> {
        let path = self.target.file(self.epoch, self.progress.number);
        self.progress.number += 1;
        let append = self.if_exists == IfExists::Append && self.target.folder.is_none() && path.exists();
        let mut options = self.options;
        if append {
            options.header = self.check_appendable(&path)?;
        }
        let old = append.then(|| path.clone());
        self.open = Some(Staged::start(path, options, &self.schema, old.as_deref(), self.durable)?);
        self.since = Instant::now();
        Ok(())
    }

    /// Whether the old file still needs a header. An error if it has other columns or ends within a line.
    fn check_appendable(&self, path: &Path) -> Result<bool> {
        let WriteOptions { format, compression, delimiter, .. } = self.options;
        let doing = || format!("appending to `{}`", path.display());
        if !ends_with_line_break(path, compression).doing(doing)? {
            return Err(Error::new(format!("{}: its last line has no line break", doing())));
        }
        if format != Format::Csv {
            return Ok(false);
        }
        let Some(names) = csv_header(path, compression, delimiter).doing(doing)? else { return Ok(true) };
        let columns = self.schema.fields().iter().map(|field| field.name());
        match columns.eq(&names) {
            true => Ok(false),
            false => Err(Error::new(format!("{}: its columns are `{}`", doing(), names.join("`, `")))),
        }
    }

    /// Ends the file that is open.
    fn finish(&mut self) -> Result<()> {
        if let Some(staged) = self.open.take() {
            let path = staged.path.clone();
            match staged.finish() {
                Ok(whole) => self.finished.push(whole),
                Err(error) => return remove(&part(&path)).and(Err(error)),
            }
        }
        Ok(())
    }

    /// Whether files may take the place of others: those that replace, and a whole file that begins with the old one.
    fn replaces(&self) -> bool {
        match self.if_exists {
            IfExists::Replace => true,
            IfExists::Append => self.target.folder.is_none(),
            IfExists::Fail => false,
        }
    }

    /// Begins a flow's files, beside or instead of those that are there.
    fn begin(&mut self) -> Result<()> {
        let existing = self.target.existing();
        match (self.if_exists, existing.last()) {
            (_, None) | (IfExists::Fail, _) => {}
            (IfExists::Replace, _) => self.progress.former = existing,
            (IfExists::Append, Some(last)) => {
                let name = last.file_name().unwrap_or_default().to_string_lossy();
                let last = self.target.folder.as_ref().and_then(|prefix| number_of(prefix, &name));
                self.progress.number = last.unwrap_or(0) + 1;
            }
        }
        // Without rows there is an empty file, but nothing in a folder: no news from a dead letter is good news.
        if self.target.folder.is_none() { self.start() } else { Ok(()) }
    }

    /// Removes what a run left behind that was killed, except for what this one goes on with.
    fn clean(&self) -> Result<()> {
        let needed: Vec<PathBuf> = self.progress.unfinished.iter().flat_map(Unfinished::files).collect();
        self.target.leftovers().filter(|path| !needed.contains(path)).try_for_each(|path| remove(&path))
    }

    /// What becomes of the file that is open at a border, and what of it is still to be made durable.
    fn pause(&mut self, border: Border) -> Result<Option<(Unfinished, fs::File)>> {
        let is_last = border.then != Then::Continue;
        let is_due = self.target.folder.is_some() && self.limits.time.is_some_and(|time| self.since.elapsed() >= time);
        // One file for all runs is whole for now when the flow stops, and goes on to grow when it does.
        let goes_on = border.then == Then::Stop && self.target.folder.is_none();
        let mut paused = match &mut self.open {
            Some(open) if goes_on || !(is_last || is_due) => Some(open.pause()?),
            _ => None,
        };
        if is_last || is_due {
            self.finish()?;
        }
        if let (Some((unfinished, _)), true) = (&mut paused, goes_on) {
            unfinished.is_published = true;
            // The journals are needed to go on.
            self.finished.iter_mut().for_each(|whole| whole.journals.clear());
        }
        Ok(paused)
    }
}

#[async_trait]
impl Output for Files {
    fn claim(&mut self, _: &Home) -> Result<()> {
        if self.target.folder.is_none() {
            self.target.path = resolve(&self.target.path)?;
        }
        self.claim = Claim::of_existing(self.target.lock(), &self.target.path)?;
        Ok(())
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.progress = state.get(PROGRESS)?;
        self.base.extend(self.progress.paths_mut());
        Ok(())
    }

    async fn open(&mut self, home: &Home) -> Result<()> {
        self.durable = home.is_durable();
        self.is_own.store(true, Ordering::Relaxed);
        if self.if_exists == IfExists::Fail
            && self.progress.number == 0
            && let Some(file) = self.target.existing().first()
        {
            let advice = "remove it, or set `if_exists` to `replace` or `append`";
            return Err(Error::new(format!("`{}` exists; {advice}", file.display())));
        }
        if self.target.folder.is_none() {
            self.target.path = resolve(&self.target.path)?;
        }
        // Before the lock, which would create it.
        self.progress.check_there(&self.base)?;
        let folder = self.target.folder();
        let made = create_durable_folder(folder, Access::Shared);
        made.doing(|| format!("making the folder `{}`", folder.display()))?;
        // The part file of a single file is the lock as well, and is needed by the run that goes on with it.
        let keep = self.durable && self.target.folder.is_none();
        // What the flow has made visible meanwhile may have been the file that was locked.
        self.claim = None;
        self.claim = Some(Claim::take(self.target.lock(), &self.target.path, keep)?);
        self.clean()?;
        match self.progress.unfinished.take() {
            Some(unfinished) => self.open = Some(Staged::go_on(unfinished, self.options, &self.schema)?),
            None if self.progress.number == 0 => {
                self.progress.number = 1;
                self.begin()?;
            }
            None => {}
        }
        Ok(())
    }

    async fn write(&mut self, batch: Batch) -> Result<()> {
        let mut rows = batch.rows;
        while rows.num_rows() > 0 {
            if self.open.is_none() {
                self.start()?;
            }
            let Some(open) = &mut self.open else { continue };
            let written = open.write(&rows, self.limits.rows - open.rows)?;
            if open.rows >= self.limits.rows || (self.limits.bytes < u64::MAX && open.bytes()? >= self.limits.bytes) {
                self.finish()?;
            }
            rows = rows.slice(written, rows.num_rows() - written);
        }
        Ok(())
    }

    fn border(&mut self, epoch: Epoch) {
        self.epoch = epoch.next();
    }

    async fn stage(&mut self, border: Border) -> Result<Snapshot> {
        let paused = match self.durable {
            true => self.pause(border)?,
            false => self.finish().map(|()| None)?,
        };
        let (unfinished, file) = paused.unzip();
        self.progress.unfinished = unfinished;
        crash::point("output-staged");
        let mut snapshot = Snapshot::default();
        let files = std::mem::take(&mut self.finished);
        let is_last = border.then != Then::Continue;
        if !files.is_empty() || is_last {
            let (replaces, makes_way) = (self.replaces(), self.if_exists == IfExists::Append);
            let former = std::mem::take(&mut self.progress.former);
            // To be undone if it is not committed.
            self.finished = if self.durable { Vec::new() } else { files.clone() };
            let lock = (border.then == Then::End && self.target.folder.is_some()).then(|| self.target.lock());
            let folder = self.base.0.clone();
            let mut publication = Publication { files, replaces, makes_way, former, lock, folder };
            self.base.shorten(publication.paths_mut());
            snapshot.staged.put(STAGED, &publication)?;
        }
        // A disk takes its time to make durable what came since the last checkpoint, in which rows must not wait.
        let folder = self.target.folder().to_owned();
        let mut progress = Progress { folder: self.base.0.clone(), ..self.progress.clone() };
        self.base.shorten(progress.paths_mut());
        snapshot.state.put_after(PROGRESS, progress, move || {
            file.map_or(Ok(()), |file| file.sync_all()).doing(|| format!("writing to `{}`", folder.display()))?;
            sync_folder(&folder)
        });
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(Publisher { base: self.base.clone(), is_own: self.is_own.clone() }))
    }

    async fn abort(&mut self) {
        if self.durable {
            return;
        }
        // The next run removes or overwrites what can't be removed now.
        if let Some(staged) = self.open.take() {
            let _ = remove(&part(&staged.path));
        }
        for whole in &self.finished {
            let _ = remove(&whole.part);
        }
        self.claim = None;
    }
}
