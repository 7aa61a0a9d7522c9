//! What becomes of an output's files at a barrier: which are whole, which are gone on with, which become visible.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use millstream_core::{Barrier, Result, Then};

use super::IfExists;
use super::files::Files;
use crate::file::hidden;
use crate::file::ledger::PublicationId;
use crate::file::publish::Publication;
use crate::file::staging::Unfinished;

impl Files {
    /// What becomes of the files that are open at a barrier, and what of them is still to be made durable.
    pub(super) fn pause(&mut self, barrier: Barrier) -> Result<Vec<fs::File>> {
        // One file for all runs is whole for now when the flow stops, and goes on to grow when it does.
        let goes_on = barrier.then == Then::Stop && self.target.folder.is_none();
        let (mut unfinished, files) = self.files.pause(barrier, goes_on)?;
        if goes_on {
            unfinished.iter_mut().for_each(|file: &mut Unfinished| file.is_published = true);
            // The journals are needed to go on.
            self.files.finished.iter_mut().for_each(|whole| whole.journals.clear());
        }
        self.progress.unfinished = unfinished;
        Ok(files)
    }

    /// What is to become visible.
    pub(super) fn publication(&mut self, barrier: Barrier) -> Publication {
        self.publications += 1;
        let files = std::mem::take(&mut self.files.finished);
        // To be undone if it is not committed.
        self.files.finished = if self.files.is_durable() { Vec::new() } else { files.clone() };
        let mut publication = Publication {
            turn: PublicationId { generation: self.files.run.generation, number: self.publications },
            files,
            replaces: self.replaces(),
            makes_way: self.if_exists == IfExists::Append || self.keeps_others(),
            former: std::mem::take(&mut self.progress.former),
            lock: hidden::lock(&self.target.place()),
            ledger: self.ledger(),
            is_last: barrier.then == Then::End,
            folder: self.base.0.clone(),
        };
        self.base.shorten(publication.paths_mut());
        publication
    }

    /// The folders in which there are files that are not visible yet.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        let whole = self.files.finished.iter().map(|whole| whole.path.as_path());
        self.files
            .paths()
            .chain(whole)
            .filter_map(Path::parent)
            .chain([self.target.folder()])
            .map(Path::to_owned)
            .collect()
    }

    /// Whether files may take the place of others: those that replace, and a whole file that begins with the old one.
    fn replaces(&self) -> bool {
        match self.if_exists {
            IfExists::Replace => !self.keeps_others(),
            IfExists::Append => self.target.folder.is_none(),
            IfExists::Fail => false,
        }
    }
}
