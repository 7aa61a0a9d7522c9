//! What becomes of an output's files at a barrier: which are whole, which are gone on with, which become visible.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use millstream_core::{Barrier, Result, Then};

use super::IfExists;
use super::files::{Files, Open};
use crate::file::hidden;
use crate::file::ledger::PublicationId;
use crate::file::publish::Publication;
use crate::file::staging::Unfinished;

impl Files {
    /// What becomes of the files that are open at a barrier, and what of them is still to be made durable.
    pub(super) fn pause(&mut self, barrier: Barrier) -> Result<Vec<fs::File>> {
        // One file for all runs is whole for now when the flow stops, and goes on to grow when it does.
        let goes_on = barrier.then == Then::Stop && self.target.folder.is_none();
        let whole = self.whole_at(barrier);
        let mut open: Vec<_> = self.open.iter_mut().filter(|(folder, _)| goes_on || !whole.contains(folder)).collect();
        // In this order, a run that goes on knows which was without rows for longest.
        open.sort_by_key(|(_, open)| open.used);
        let paused = open.into_iter().map(|(_, open)| open.pause()).collect::<Result<Vec<_>>>()?;
        whole.iter().try_for_each(|folder| self.finish(folder))?;
        let (mut unfinished, files): (Vec<_>, Vec<_>) = paused.into_iter().unzip();
        if goes_on {
            unfinished.iter_mut().for_each(|file: &mut Unfinished| file.is_published = true);
            // The journals are needed to go on.
            self.finished.iter_mut().for_each(|whole| whole.journals.clear());
        }
        self.progress.unfinished = unfinished;
        Ok(files)
    }

    /// The folders of the files that are whole at a barrier: of all at the last one, else of those that have been open for too long.
    fn whole_at(&self, barrier: Barrier) -> Vec<PathBuf> {
        let is_due = |open: &Open| self.limits.time.is_some_and(|time| open.age() >= time);
        let is_whole = |open: &Open| barrier.then != Then::Continue || is_due(open);
        self.open.iter().filter(|(_, open)| is_whole(open)).map(|(folder, _)| folder.clone()).collect()
    }

    /// What is to become visible.
    pub(super) fn publication(&mut self, barrier: Barrier) -> Publication {
        self.publications += 1;
        let files = std::mem::take(&mut self.finished);
        // To be undone if it is not committed.
        self.finished = if self.is_durable() { Vec::new() } else { files.clone() };
        let mut publication = Publication {
            turn: PublicationId { generation: self.run.generation, number: self.publications },
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
        let open = self.open.values().map(|open| &open.staged.path);
        let paths = open.chain(self.finished.iter().map(|whole| &whole.path));
        paths.filter_map(|path| path.parent()).chain([self.target.folder()]).map(Path::to_owned).collect()
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
