//! Committers: what is visible, stage by stage, however late and often each is committed.

use std::path::Path;

use millstream_core::{Committer, PendingCommit, State};
use tokio::runtime::Builder;

use super::folder::Folder;
use crate::late::{commit_late_and_look, stages};

/// Checks that nothing is visible before it is committed, and that commits that are late, repeated and out of order change nothing.
/// Returns what is visible in the end.
///
/// `stage` has a node stage something in a folder, again and again, and `committer` makes what commits it there.
pub(super) fn check_committer(
    name: &str,
    stage: impl Fn(&Folder) -> Vec<State>,
    committer: impl Fn(&Folder) -> Box<dyn Committer>,
    visible: impl Fn(&Path) -> Vec<String>,
) -> Vec<String> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let folder = Folder::new();
    let staged = stages_in(&folder, stage(&folder));
    assert!(!staged.is_empty(), "{name}: nothing is staged");
    assert!(visible(folder.path()).is_empty(), "{name}: something is visible before it is committed");
    let mut seen = Vec::new();
    for stage in &staged {
        runtime.block_on(committer(&folder).commit(stage)).unwrap_or_else(|error| panic!("{name}: {error}"));
        seen.push(visible(folder.path()));
    }
    let last = seen.last().cloned().unwrap_or_default();
    assert!(!last.is_empty(), "{name}: nothing is visible when all is committed");
    let late = Folder::new();
    let staged = stages_in(&late, stage(&late));
    assert_eq!(staged.len(), seen.len(), "{name}: other stages");
    let look = |newest: usize| assert_eq!(visible(late.path()), seen[newest], "{name}: visible behind stage {newest}");
    let committed = runtime.block_on(commit_late_and_look(&staged, || committer(&late), look));
    committed.unwrap_or_else(|error| panic!("{name}: a late commit: {error}"));
    last
}

/// Stages of a node whose home is in a folder.
fn stages_in(folder: &Folder, staged: Vec<State>) -> Vec<PendingCommit> {
    let mut stages = stages(staged);
    stages.iter_mut().for_each(|stage| stage.context.home = folder.durable());
    stages
}
