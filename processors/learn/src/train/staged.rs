//! Versions between the barrier at which they were made and the checkpoint by which they become visible.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use millstream_core::{Committer, Epoch, PendingCommit, Result, ResultExt, Snapshot, State};
use millstream_models::registry::{ModelCard, ModelRegistry};
use serde::de::DeserializeOwned;

/// A version that waits for a checkpoint.
pub(super) struct Staged {
    /// The epoch at whose barrier it was made.
    pub epoch: Epoch,
    /// The model's file.
    pub bytes: Vec<u8>,
    /// What is known about it, its `publish_id` included.
    pub card: ModelCard,
}

/// Stands for the epoch of a version that was made at the end of the flow.
pub(super) const AT_THE_END: Epoch = Epoch(u64::MAX);

/// The part that says how many versions there are. Version `N` of them, counted from 0, is `version.N` with `card.N`.
const COUNT: &str = "versions";

fn part(name: &str, index: usize) -> String {
    format!("{name}.{index}")
}

/// Hands over versions in the order in which they were made.
pub(super) fn keep(versions: Vec<Staged>, snapshot: &mut Snapshot) -> Result<()> {
    if versions.is_empty() {
        return Ok(());
    }
    snapshot.versions = versions.iter().map(|version| version.epoch).collect();
    snapshot.staged.put(COUNT, &versions.len())?;
    for (index, Staged { bytes, card, .. }) in versions.into_iter().enumerate() {
        let card = serde_json::to_vec(&card).doing(|| "keeping the card of a version")?;
        snapshot.staged.put_bytes(part("version", index), bytes);
        snapshot.staged.put_bytes(part("card", index), card);
    }
    Ok(())
}

/// Publishes the versions that a node has staged.
pub(super) struct Publisher {
    /// The model's name.
    pub name: String,
    pub registry: ModelRegistry,
    /// The number that was published last, which the node reports; 0 if there is none.
    pub last: Arc<AtomicU64>,
}

#[async_trait]
impl Committer for Publisher {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        if let Some(last) = self.registry.publish_all(&self.name, versions(&pending.staged)?)? {
            self.last.store(last, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The versions that a node of type `train` has staged, in the order in which they were made: their cards and files.
pub fn versions(staged: &State) -> Result<Vec<(ModelCard, &[u8])>> {
    let count: usize = if staged.is_empty() { 0 } else { staged.get(COUNT)? };
    let lineages = PendingCommit::lineages(staged)?;
    let version = |index: usize| {
        let card: ModelCard = json(staged, &part("card", index))?;
        let lineage = lineages.get(index).cloned().or(card.lineage);
        Ok((ModelCard { lineage, ..card }, staged.bytes(&part("version", index))?))
    };
    (0..count).map(version).collect()
}

fn json<T: DeserializeOwned>(staged: &State, name: &str) -> Result<T> {
    serde_json::from_slice(staged.bytes(name)?).doing(|| format!("reading `{name}` of what was staged"))
}
