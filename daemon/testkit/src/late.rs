//! Commits at their worst: repeated, late, and out of order.

use millstream_core::{CommitContext, Committer, Epoch, Home, PendingCommit, Result, State};

/// Stages as a flow would have them committed one after the other.
pub fn stages(staged: impl IntoIterator<Item = State>) -> Vec<PendingCommit> {
    let stage = |(index, staged): (usize, State)| {
        let number = index as u64 + 1;
        let context = CommitContext {
            flow: "test".into(),
            node: "node".into(),
            incarnation: "0123456789abcdef".into(),
            generation: 1,
            checkpoint: number + 1,
            epoch: Epoch(number),
            home: Home::Nowhere,
        };
        PendingCommit { staged, context }
    };
    staged.into_iter().enumerate().map(stage).collect()
}

/// Commits stages in their order, and behind each of them all those before once more, from the newest to the oldest and back, each
/// by a committer of its own, as a process would that was thought dead; then recovers from all of them. None may fail or have an effect.
///
/// # Errors
/// If a commit fails.
pub async fn commit_late(stages: &[PendingCommit], committer: impl Fn() -> Box<dyn Committer>) -> Result<()> {
    commit_late_and_look(stages, committer, |_| {}).await
}

/// The same, and looks at what is visible each time that one more stage has been committed, and those before it once more.
pub(crate) async fn commit_late_and_look(
    stages: &[PendingCommit],
    committer: impl Fn() -> Box<dyn Committer>,
    look: impl Fn(usize),
) -> Result<()> {
    for newest in 0..stages.len() {
        for stage in std::iter::once(newest).chain((0..=newest).rev()).chain(0..=newest) {
            committer().commit(&stages[stage]).await?;
            look(newest);
        }
        committer().recover(&stages[..=newest], &stages[newest].context).await?;
        look(newest);
    }
    Ok(())
}
