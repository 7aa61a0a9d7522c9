//! How an output begins: beside or instead of the files that are there, or with those that the run before has begun.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millstream_core::{Error, Result};

use super::IfExists;
use super::files::{Files, Open};
use crate::file::disk::{create_folder, remove};
use crate::file::staging::Staged;

impl Files {
    /// Begins the next file, in a folder below that of the output.
    pub(super) fn start(&mut self, folder: &Path) -> Result<()> {
        let number = self.next_number(folder);
        let path = self.target.file(folder, self.epoch, number);
        path.parent().map_or(Ok(()), create_folder)?;
        let append = self.if_exists == IfExists::Append && self.target.folder.is_none() && path.exists();
        let mut options = self.options;
        if append {
            options.header = self.check_appendable(&path)?;
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
    pub(super) fn begin(&mut self) -> Result<()> {
        self.progress.number = 1;
        let existing = self.target.existing()?;
        let keeps = self.progress.keeps_published;
        match (self.if_exists, existing.first()) {
            (_, None) | (IfExists::Fail, _) => {}
            (IfExists::Replace, _) if !keeps => self.progress.former = existing,
            (IfExists::Replace, Some(file)) if self.target.folder.is_none() => return Err(is_published(file)),
            (IfExists::Append | IfExists::Replace, _) => {
                self.progress.number += self.target.last_number()?.unwrap_or(0)
            }
        }
        // Without rows there is an empty file, but nothing in a folder: no news from a dead letter is good news.
        if self.target.folder.is_none() { self.start(Path::new("")) } else { Ok(()) }
    }

    /// Goes on with the files that the run before has begun. Those of a folder that have other columns are whole.
    pub(super) fn go_on(&mut self) -> Result<()> {
        for unfinished in std::mem::take(&mut self.progress.unfinished) {
            let age = SystemTime::now().duration_since(unfinished.begun).unwrap_or_default();
            let folder = self.target.folder_of(&unfinished.path);
            if self.has_other_columns && self.target.folder.is_some() {
                self.finished.push(Staged::end(unfinished, self.options, &self.schema, &self.run)?);
                continue;
            }
            let staged = Staged::go_on(unfinished, self.options, &self.schema, &self.run)?;
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
}

/// Why an output can't begin whose file may have rows that the flow has published.
fn is_published(file: &Path) -> Error {
    Error::new(format!(
        "`{}` may have rows that the flow has published, and would lose them: the flow has run before, and this output begins \
         behind its rows; move the file away, or set `if_exists` to `append`; `--reset NODE --remove-published` lets it be \
         replaced",
        file.display()
    ))
}
