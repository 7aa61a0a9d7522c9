//! How an output begins: beside or instead of the files that are there, or with those that the run before has begun.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use millstream_core::{Epoch, Error, PriorOutput, Result, Run};
use millstream_formats::WriteOptions;

use super::IfExists;
use super::appended::check_appendable;
use super::files::Files;
use super::kept::Progress;
use super::open_files::Beginning;
use crate::file::claim::Claim;
use crate::file::disk::{create_folder, remove};
use crate::file::hidden;
use crate::file::target::Target;

/// Why an output does not begin where nothing may be.
pub(super) fn exists(file: &Path) -> Error {
    let advice = "move it away, or set `if_exists` to `append`, or to `replace`, with which its rows are lost";
    Error::new(format!("`{}` exists; {advice}", file.display()))
}

/// What says where the next file is, and how it begins.
pub(super) struct NextFile<'a> {
    pub target: &'a Target,
    pub if_exists: IfExists,
    pub progress: &'a mut Progress,
    pub epoch: Epoch,
    pub is_divided: bool,
    pub options: WriteOptions,
    pub schema: SchemaRef,
}

impl NextFile<'_> {
    /// The next file, in a folder below that of the output. Where rows are divided, its number does not depend on those of other folders, so
    /// that it is the same however rows are cut into batches.
    pub(super) fn begin(&mut self, folder: &Path, number: u32) -> Result<Beginning> {
        let number = if self.is_divided {
            number
        } else {
            self.progress.number += 1;
            self.progress.number - 1
        };
        let path = self.target.file(folder, self.epoch, number);
        path.parent().map_or(Ok(()), create_folder)?;
        let append = self.if_exists == IfExists::Append && self.target.folder.is_none() && path.exists();
        let mut options = self.options.clone();
        if append {
            options.begins = check_appendable(&path, &self.options, &self.schema)?;
        }
        let append_to = append.then(|| path.clone());
        Ok(Beginning { path, options, append_to })
    }
}

impl Files {
    /// Whether there may be files in the folder that the flow has published, and that stay.
    pub(super) fn keeps_others(&self) -> bool {
        self.progress.keeps_published && self.target.folder.is_some()
    }

    /// Begins a flow's files, beside or instead of those that are there.
    pub(super) fn begin_files(&mut self) -> Result<()> {
        self.progress.number = 1;
        match self.if_exists {
            IfExists::Replace if !self.progress.keeps_published => self.progress.former = self.target.existing()?,
            IfExists::Append | IfExists::Replace => self.progress.number += self.target.last_number()?.unwrap_or(0),
            IfExists::Fail => {}
        }
        self.progress.former.append(&mut self.others);
        // Without rows there is an empty file, but nothing in a folder: no news from a dead letter is good news.
        if self.target.folder.is_some() {
            return Ok(());
        }
        let Self { files, target, if_exists, progress, epoch, .. } = self;
        let (options, schema) = (files.options.clone(), files.schema.clone());
        let mut begin =
            NextFile { target, if_exists: *if_exists, progress, epoch: *epoch, is_divided: false, options, schema };
        files.begin(Path::new(""), &mut |folder, number| begin.begin(folder, number))
    }

    /// Checks that nothing is lost by what is at the place of an output that begins.
    pub(super) fn check_former(&mut self, former: PriorOutput, run: &Run) -> Result<()> {
        let existing = self.target.existing()?;
        let Some(file) = existing.first() else { return Ok(()) };
        let is_single = self.target.folder.is_none();
        match self.if_exists {
            IfExists::Replace if is_single && former == PriorOutput::Stays => return Err(self.is_published(file)),
            IfExists::Append if is_single => _ = check_appendable(file, &self.files.options, &self.files.schema)?,
            IfExists::Fail => return Err(exists(file)),
            IfExists::Replace | IfExists::Append => {}
        }
        let others = self.target.other_ledgers(run)?;
        let is_harmed = match self.if_exists {
            IfExists::Replace => !self.keeps_others(),
            IfExists::Append => is_single,
            IfExists::Fail => false,
        };
        match others.first() {
            Some(ledger) if is_harmed && former != PriorOutput::MayGo => return Err(self.is_of_another(file, ledger)),
            _ if is_harmed => self.others = others,
            _ => {}
        }
        Ok(())
    }

    /// Goes on with the files that the run before has begun. Those of a folder that have other columns are whole.
    pub(super) fn go_on(&mut self) -> Result<()> {
        let is_whole = self.has_other_columns && self.target.folder.is_some();
        for unfinished in std::mem::take(&mut self.progress.unfinished) {
            self.files.go_on(self.target.folder_of(&unfinished.path), unfinished, is_whole)?;
        }
        Ok(())
    }

    /// Removes what a run left behind that was killed, except for what this one goes on with.
    pub(super) fn clean(&self) -> Result<()> {
        let needed: Vec<PathBuf> =
            self.progress.unfinished.iter().flat_map(|file| file.files(&self.files.run)).collect();
        let leftovers = self.target.leftovers(&self.files.run)?;
        leftovers.iter().filter(|path| !needed.contains(path)).try_for_each(|path| remove(path))
    }

    /// Why an output can't begin whose file may have rows that the flow has published.
    fn is_published(&self, file: &Path) -> Error {
        let is_appendable = self.target.format.kind().can_grow
            && check_appendable(file, &self.files.options, &self.files.schema).is_ok();
        Error::new(format!(
            "`{}` may have rows that the flow has published, and would lose them: the flow has run before, and this output begins \
             behind its rows; move the file away, or choose another `path`{}; `--reset NODE --remove-published` lets it be replaced",
            file.display(),
            if is_appendable { ", or set `if_exists` to `append`" } else { "" }
        ))
    }

    /// Why an output can't begin at a place where another state goes on, or one that is gone would have.
    fn is_of_another(&self, file: &Path, ledger: &Path) -> Error {
        // While it runs, it will be told so first, and stopping it is the better advice.
        if let Err(error) = Claim::of_existing(hidden::lock(&self.target.place()), &self.target.path) {
            return error;
        }
        let (file, ledger) = (file.display(), ledger.display());
        let harm = match self.if_exists {
            IfExists::Append => "and will write it anew when it goes on, without what is appended now",
            IfExists::Replace | IfExists::Fail => "and it would be replaced",
        };
        let beside = if self.target.folder.is_some() { ", or set `if_exists` to `append`" } else { "" };
        Error::new(format!(
            "`{file}` is of a run with another state, which has not come to its end (`{ledger}` is its ledger), {harm}; go on with \
             the `--state` that it belongs to, or choose another `path`{beside}; if that state is gone, or is not to be gone on \
             with, `--remove-published` begins here nevertheless, and does with what is there what `if_exists` says"
        ))
    }
}
