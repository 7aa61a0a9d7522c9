//! Versions between the barrier at which they were made and the checkpoint by which they become visible.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use millstream_core::{Committer, Epoch, Parts, PendingCommit, Result, ResultExt, State};
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

/// The part with the epochs of all versions, as `Vec<u64>`: by it the engine knows which lineage to add. Version `N` of
/// them, counted from 0, is `version.N` with `card.N`; its lineage is `lineage.N`.
const EPOCHS: &str = "epochs";

fn part(name: &str, index: usize) -> String {
    format!("{name}.{index}")
}

/// Hands over versions in the order in which they were made.
pub(super) fn keep(versions: Vec<Staged>, parts: &mut Parts) -> Result<()> {
    if versions.is_empty() {
        return Ok(());
    }
    let epochs: Vec<_> = versions.iter().map(|version| version.epoch).collect();
    parts.put(EPOCHS, &epochs)?;
    for (index, Staged { bytes, card, .. }) in versions.into_iter().enumerate() {
        parts.put_bytes(part("version", index), bytes);
        parts.put_bytes(part("card", index), serde_json::to_vec(&card).doing(|| "keeping the card of a version")?);
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
    let epochs: Vec<Epoch> = if staged.is_empty() { Vec::new() } else { staged.get(EPOCHS)? };
    let version = |index: usize| {
        let mut card: ModelCard = json(staged, &part("card", index))?;
        let lineage = part("lineage", index);
        if staged.has(&lineage) {
            card.lineage = Some(json(staged, &lineage)?);
        }
        Ok((card, staged.bytes(&part("version", index))?))
    };
    (0..epochs.len()).map(version).collect()
}

fn json<T: DeserializeOwned>(staged: &State, name: &str) -> Result<T> {
    serde_json::from_slice(staged.bytes(name)?).doing(|| format!("reading `{name}` of what was staged"))
}
