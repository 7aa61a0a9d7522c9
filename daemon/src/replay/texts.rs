//! The texts that rows are gone through with again: a file, or all that a daemon has kept of a flow.

use std::path::{Path, PathBuf};

use millstream_core::{Error, Result, ResultExt as _};
use millstream_engine::checkpoint::{ResumeOptions, RevisionStart, kept_states};
use millstream_engine::file::{Diagnostics, FlowFile};
use millstream_engine::plan::{KeptStates, Plan, PlanOptions};
use millstream_host::{FlowStore, Revision};

use super::ReplayArguments;
use crate::daemon::HOST;
use crate::exit::CommandError;
use crate::workplace::Workplace;

/// The texts of a flow.
pub struct Texts {
    pub workplace: Workplace,
    /// The one that is given, or the newest.
    pub newest: FlowFile,
    /// Where the others are, and the folder of the daemon.
    kept: Option<(FlowStore, PathBuf)>,
}

impl Texts {
    /// Those that are meant.
    pub fn open(arguments: &ReplayArguments) -> Result<Self, CommandError> {
        let here = Workplace::here()?;
        let Some(data) = &arguments.data else {
            let newest = here.load(&arguments.flow.flow, &arguments.flow.sets)?;
            return Ok(Self { workplace: here, newest, kept: None });
        };
        let folder =
            data.canonicalize().doing(|| format!("looking for the folder `{}` of a daemon", data.display()))?;
        let (workplace, store) = (Workplace { folder, ..here }, FlowStore::of_host(&data.join(HOST)));
        let name = arguments.flow.flow.to_string_lossy();
        let newest = store.revisions(&name)?.into_iter().next().ok_or_else(|| {
            Error::new(format!("the daemon of `{}` has kept no text of a flow `{name}`", data.display()))
        })?;
        let newest = read(&workplace, data, &newest)?;
        Ok(Self { workplace, newest, kept: Some((store, data.clone())) })
    }

    /// Whether there are more than one.
    pub fn are_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The plan of a text, or of the one that is given.
    pub fn plan(&self, start: Option<&RevisionStart>, kept: KeptStates) -> Result<Plan, CommandError> {
        let options = PlanOptions { kept, ..self.workplace.plan_options() };
        match (start, &self.kept) {
            (Some(start), Some(kept)) => Ok(Plan::new(&self.revision(kept, start.revision)?, &options)?),
            _ => Ok(Plan::new(&self.newest, &options)?),
        }
    }

    fn revision(&self, (store, data): &(FlowStore, PathBuf), number: u64) -> Result<FlowFile, CommandError> {
        let name = &self.newest.flow.name;
        let gone = || {
            Error::new(format!(
                "revision {number} of the flow `{name}` is not kept any more, with which some of its rows were worked on"
            ))
        };
        Ok(read(&self.workplace, data, &store.revision(name, number)?.ok_or_else(gone)?)?)
    }

    /// What nodes have kept in the newest checkpoint.
    pub fn kept(&self, location: Option<&str>) -> KeptStates {
        let kept = |location| kept_states(location, &self.newest.flow.name, &ResumeOptions::default());
        location.map(kept).unwrap_or_default()
    }
}

/// Reads a text as the daemon of the folder `data` does, wherever that is seen from.
fn read(workplace: &Workplace, data: &Path, revision: &Revision) -> Result<FlowFile, Diagnostics> {
    let path = workplace.folder.join(revision.path.strip_prefix(data).unwrap_or(&revision.path));
    FlowFile::read(&path, &revision.text, workplace.load_options(&[]))
}
