//! How an output begins: beside or instead of the files that are there, or with those that the run before has begun.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millstream_core::{Error, PriorOutput, Result, Run};

use super::IfExists;
use super::files::{Files, Open};
use crate::file::claim::Claim;
use crate::file::disk::{create_folder, remove};
use crate::file::hidden;
use crate::file::staging::Staged;

/// Why an output does not begin where nothing may be.
pub(super) fn exists(file: &Path) -> Error {
    let advice = "move it away, or set `if_exists` to `append`, or to `replace`, with which its rows are lost";
    Error::new(format!("`{}` exists; {advice}", file.display()))
}

impl Files {
    /// Begins the next file, in a folder below that of the output.
    pub(super) fn start(&mut self, folder: &Path) -> Result<()> {
        let number = self.next_number(folder);
        let path = self.target.file(folder, self.epoch, number);
        path.parent().map_or(Ok(()), create_folder)?;
        let append = self.if_exists == IfExists::Append && self.target.folder.is_none() && path.exists();
        let mut options = self.options.clone();
        if append {
            options.begins = self.check_appendable(&path)?;
        }
        let old = append.then(|| path.clone());
        let staged = Staged::start(path, options, &self.schema, old.as_deref(), &self.run)?;
        self.open.insert(folder.to_owned(), Open::new(staged, Duration::ZERO, 0));
        Ok(())
    }

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
        if self.target.folder.is_none() { self.start(Path::new("")) } else { Ok(()) }
    }

    /// Checks that nothing is lost by what is at the place of an output that begins.
    pub(super) fn check_former(&mut self, former: PriorOutput, run: &Run) -> Result<()> {
        let existing = self.target.existing()?;
        let Some(file) = existing.first() else { return Ok(()) };
        let is_single = self.target.folder.is_none();
        match self.if_exists {
            IfExists::Replace if is_single && former == PriorOutput::Stays => return Err(self.is_published(file)),
            IfExists::Append if is_single => _ = self.check_appendable(file)?,
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
    #[expect(clippy::disallowed_methods, reason = "the ages of files are told by the clock of the machine")]
    pub(super) fn go_on(&mut self) -> Result<()> {
        for unfinished in std::mem::take(&mut self.progress.unfinished) {
            let age = SystemTime::now().duration_since(unfinished.begun).unwrap_or_default();
            let folder = self.target.folder_of(&unfinished.path);
            if self.has_other_columns && self.target.folder.is_some() {
                self.finished.push(Staged::end(unfinished, self.options.clone(), &self.schema, &self.run)?);
                continue;
            }
            let staged = Staged::go_on(unfinished, self.options.clone(), &self.schema, &self.run)?;
            self.divided += 1;
            self.open.insert(folder, Open::new(staged, age, self.divided));
        }
        Ok(())
    }

    /// Removes what a run left behind that was killed, except for what this one goes on with.
    pub(super) fn clean(&self) -> Result<()> {
        let needed: Vec<PathBuf> = self.progress.unfinished.iter().flat_map(|file| file.files(&self.run)).collect();
        let leftovers = self.target.leftovers(&self.run)?;
        leftovers.iter().filter(|path| !needed.contains(path)).try_for_each(|path| remove(path))
    }

    /// Why an output can't begin whose file may have rows that the flow has published.
    fn is_published(&self, file: &Path) -> Error {
        let is_appendable = self.target.format.kind().can_grow && self.check_appendable(file).is_ok();
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
