//! What an output keeps in the state, and whether the files are there that it refers to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::datatypes::Schema;
use millstream_core::{Result, Run, State};
use serde::{Deserialize, Serialize};

use crate::file::disk::{is_there, remove};
use crate::file::hashed::{left_elsewhere, missing};
use crate::file::hidden;
use crate::file::ledger::Published;
use crate::file::publish::{Publication, STAGED};
use crate::file::staging::{FinishedFile, Unfinished};
use crate::file::target::{Base, entries};

/// What an output needs to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The number of the next file.
    pub number: u32,
    /// The files of runs before, which go when the first of this flow are published.
    pub former: Vec<PathBuf>,
    /// Whether what was there when it began may have been published by the flow, and stays.
    pub keeps_published: bool,
    /// The files that are not whole.
    pub unfinished: Vec<Unfinished>,
    /// Where it is written down what has been published.
    pub ledger: Option<PathBuf>,
    /// The folder that all paths were relative to when this was kept. Nothing is written there because of it.
    pub folder: PathBuf,
}

/// The name of that in the state.
pub const PROGRESS: &str = "progress";

/// The names and types of columns.
pub type Columns = Vec<(String, String)>;

/// The name in the state of the columns that the files have which are not whole.
pub const COLUMNS: &str = "columns";

/// The columns of a schema, as the state keeps them.
pub fn columns(schema: &Schema) -> Columns {
    schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
}

impl Progress {
    /// All paths in it.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let unfinished = self.unfinished.iter_mut().flat_map(Unfinished::paths_mut);
        self.former.iter_mut().chain(&mut self.ledger).chain(unfinished)
    }

    /// Removes the hidden files of a state that nobody goes on from, if they are below the work folder: those of a folder that
    /// was copied are the original's. The ledger of `place` is needed.
    pub fn remove_hidden(mut self, work_folder: &Path, place: &Path) -> Result<()> {
        let is_own = self.folder.starts_with(work_folder);
        Base(self.folder.clone()).extend(self.paths_mut());
        let Some(ledger) = self.ledger.filter(|_| is_own) else { return Ok(()) };
        let folders = self.unfinished.iter().filter_map(|file| file.path.parent()).chain(ledger.parent());
        for folder in folders.collect::<BTreeSet<_>>() {
            let files = entries(folder)?;
            files.iter().filter(|file| hidden::is_of_ledger(file, &ledger)).try_for_each(|file| remove(file))?;
        }
        if hidden::is_beside(&ledger, place) { Ok(()) } else { remove(&ledger) }
    }

    /// Checks that what was left for the next run is where that run is.
    pub fn check_there(&self, base: &Base, run: &Run) -> Result<()> {
        let hidden = self.unfinished.iter().find_map(|file| file.missing(run));
        if self.number == 0 || self.folder == base.0 {
            return hidden.map_or(Ok(()), |path| Err(missing(&path)));
        }
        // Where it ran before, files that were published are the user's to take away; elsewhere, they were never there.
        let published = self.unfinished.iter().find_map(Unfinished::taken_away).map(Path::to_owned);
        let folder = (!base.0.exists()).then(|| base.0.clone());
        hidden.or(published).or(folder).map_or(Ok(()), |path| Err(left_elsewhere(&path, &self.folder)))
    }
}

/// The files that the last checkpoint of an output `file` refers to, where the flow ran last.
#[derive(Debug)]
pub struct KeptFiles {
    progress: Progress,
    publications: Vec<Publication>,
}

impl KeptFiles {
    /// Those of an output with this state, and with these stages that may not be visible. None if there are none, or if it is no
    /// output of this kind.
    pub fn read(state: &State, staged: &[State]) -> Result<Option<Self>> {
        if !state.has(PROGRESS) {
            return Ok(None);
        }
        let mut progress: Progress = state.get(PROGRESS)?;
        let staged = staged.iter().filter(|staged| staged.has(STAGED)).map(|staged| staged.get(STAGED));
        let mut publications: Vec<Publication> = staged.collect::<Result<_>>()?;
        let base = Base(progress.folder.clone());
        base.extend(progress.paths_mut().chain(publications.iter_mut().flat_map(Publication::paths_mut)));
        let has_staged = publications.iter().any(|publication| !publication.files.is_empty());
        Ok((has_staged || !progress.unfinished.is_empty()).then_some(Self { progress, publications }))
    }

    /// The folder that they were in when the checkpoint was written.
    pub fn folder(&self) -> &Path {
        &self.progress.folder
    }

    /// Checks the files where the flow ran last. Returns what may be a surprise about that place: its folder may have been moved or
    /// copied since.
    ///
    /// # Errors
    /// If one is missing or damaged.
    pub fn verify(&self) -> Result<Option<String>> {
        let folder = self.folder();
        let place = folder.display();
        if !folder.exists() {
            return Ok(Some(format!("its files were not looked at: `{place}`, where they were, is not there")));
        }
        let is_here = std::env::current_dir().is_ok_and(|here| folder.starts_with(here));
        let elsewhere = (!is_here).then(|| format!("its files were looked at in `{place}`, where it ran last"));
        self.check().map(|()| elsewhere)
    }

    /// Checks that they are there, and begin as they did then.
    ///
    /// # Errors
    /// If one is missing or damaged.
    pub fn check(&self) -> Result<()> {
        for publication in &self.publications {
            let published = publication.published()?;
            let mut files = publication.files.iter().enumerate();
            files.try_for_each(|(index, finished)| check_whole(publication, index, finished, published))?;
        }
        self.progress.unfinished.iter().try_for_each(|file| file.check(self.publications.is_empty()))
    }
}

/// A file that is to become visible, and may have done so already.
fn check_whole(publication: &Publication, index: usize, finished: &FinishedFile, published: Published) -> Result<()> {
    if finished.part.exists() {
        return finished.check(&finished.part);
    }
    if publication.has_published(index, published) || publication.find(finished).is_some() {
        Ok(())
    } else if is_there(&finished.path) {
        finished.check(&finished.path)
    } else {
        Err(missing(&finished.part))
    }
}
