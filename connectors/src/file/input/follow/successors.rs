//! Files that came and lost their name in their turn before anybody looked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use millstream_core::{Collector, Result, ResultExt};
use tokio::time::Instant;

use super::{Follow, Followed, files_beside};
use crate::file::find::SourceFile;
use crate::file::input::rotated::is_rotated;
use crate::file::input::tail::{Identity, Tail, created};

impl Follow {
    /// Follows the files that have come after this one under its name, and are called otherwise by now.
    pub(super) fn add_successors(
        &mut self,
        index: usize,
        matching: &HashMap<Identity, &SourceFile>,
        out: &mut Collector,
    ) -> Result<()> {
        let Followed { name, tail, pattern, .. } = &self.files[index];
        let (name, pattern, first) = (name.clone(), *pattern, tail.first_place()?);
        for path in self.successors(index, matching)? {
            let tail = Tail::open(&path, &self.patterns[pattern].decoder);
            let Some(tail) = tail.doing(|| format!("reading `{}`", path.display()))? else { continue };
            // The rows of a copy would come twice.
            let is_copy = first.is_telling() && tail.has(&first);
            if !is_copy {
                self.add(name.clone(), path, tail, pattern, Some((Instant::now(), None)), out)?;
            }
        }
        Ok(())
    }

    /// The files beside one that were created after it and have a name that a rotation gives, in the order in which they were.
    fn successors(&self, index: usize, matching: &HashMap<Identity, &SourceFile>) -> Result<Vec<PathBuf>> {
        let Followed { name, path, tail, .. } = &self.files[index];
        let since = tail.created()?;
        let live = Path::new(&**name).file_name().unwrap_or_default().to_string_lossy();
        let is_named_so = |path: &Path| path.file_name().is_some_and(|name| is_rotated(&live, &name.to_string_lossy()));
        let is_known = |identity: &Identity| {
            matching.contains_key(identity) || self.files.iter().any(|known| known.tail.identity() == *identity)
        };
        let beside = files_beside(path).into_iter();
        let unknown = beside.filter(|(path, identity)| is_named_so(path) && !is_known(identity));
        // Some may have gone meanwhile.
        let timed = unknown.filter_map(|(path, _)| Some((created(&path.metadata().ok()?), path)));
        let mut later: Vec<_> = timed.filter(|(time, _)| *time > since).collect();
        later.sort();
        Ok(later.into_iter().map(|(_, path)| path).collect())
    }
}
