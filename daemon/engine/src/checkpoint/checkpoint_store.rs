//! The checkpoints of one flow in a store: manifests, blobs, and marks of what has become visible.
//!
//! ```text
//! FLOW/manifests/00000000000000000007.json          the decision; the highest number counts
//! FLOW/blobs/00000000000000000007-BLAKE3            what is too large for the manifest, by the number that wrote it first
//! FLOW/replay_log/00000000000000000007.json         what time has decided in a live flow that makes models
//! FLOW/replay_log/00000000000000000007-BLAKE3       what its nodes were told that ask others, where that is large
//! FLOW/commits/00000000000000000007                 everything that manifests up to 7 have decided is visible
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::{Epoch, Error, Result, ResultExt, State};
use millstream_store::{Store, crash};

use super::manifest::{ADVICE, Manifest, NodeEntry, Piece, PieceKey, hash};
use super::pieces::Pieces;
use super::replay_log::ReplayLog;
use crate::quarantine::Quarantine;

/// What is at most this large has its bytes in the manifest.
const INLINE_BYTES: usize = 4096;

/// The checkpoints of one flow.
#[derive(Clone)]
pub struct CheckpointStore {
    store: Arc<dyn Store>,
    flow: String,
    /// For messages: what the user calls the place.
    location: String,
}

impl CheckpointStore {
    /// The checkpoints of `flow` in a store; `location` is what messages call it.
    pub fn new(store: Arc<dyn Store>, flow: &str, location: impl Into<String>) -> Self {
        Self { store, flow: flow.to_owned(), location: location.into() }
    }

    /// The numbers of all manifests, ascending.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        let prefix = self.key("manifests/");
        let number = |key: &String| key.strip_prefix(&prefix)?.strip_suffix(".json")?.parse().ok();
        Ok(self.store.list(&prefix)?.iter().filter_map(number).collect())
    }

    /// The newest manifest and its checksum, if there is one.
    ///
    /// # Errors
    /// If it is damaged, or missing although what it had staged has become visible. Going on from an older one would
    /// repeat what is visible, so nobody does that silently.
    pub fn latest(&self) -> Result<Option<(Manifest, String)>> {
        // In this order, since the flow may be running: its manifests come before their marks.
        let committed = self.committed()?;
        let number = self.numbers()?.pop();
        if committed > number {
            let (committed, location) = (committed.unwrap_or_default(), &self.location);
            return Err(Error::new(format!(
                "checkpoint {committed} of flow `{}` in `{location}` is missing: `{}` was removed or damaged after its rows had \
                 become visible; {ADVICE}",
                self.flow,
                self.manifest_key(committed)
            )));
        }
        let Some(number) = number else { return Ok(None) };
        match self.manifest(number) {
            // That owner has also removed this one.
            Err(_) if self.numbers()?.pop() > Some(number) => self.latest(),
            found => found.map(Some),
        }
    }

    /// A manifest and its checksum.
    pub fn manifest(&self, number: u64) -> Result<(Manifest, String)> {
        let bytes = self.store.get(&self.manifest_key(number))?;
        self.read(number, bytes)
    }

    fn read(&self, number: u64, bytes: Option<Vec<u8>>) -> Result<(Manifest, String)> {
        let doing = || format!("reading `{}` in `{}`", self.manifest_key(number), self.location);
        let bytes = bytes.ok_or_else(|| Error::new(format!("{}: there is none; {ADVICE}", doing())))?;
        let (manifest, checksum) = Manifest::from_bytes(&bytes).doing(doing)?;
        if (manifest.number, &manifest.flow) != (number, &self.flow) {
            return Err(Error::new(format!("{}: it is that of another checkpoint", doing())));
        }
        Ok((manifest, checksum))
    }

    /// Writes a manifest. Returns its checksum; none if it does not count, because somebody else owns the flow now.
    pub fn put(&self, manifest: &Manifest) -> Result<Option<String>> {
        let (bytes, checksum) = manifest.to_bytes()?;
        let is_new = self.store.put_new(&self.manifest_key(manifest.number), &bytes)?;
        // Who owns the flow may have written one of this number long ago, and removed it since, but not its newest.
        let is_newest = is_new && self.numbers()?.last() == Some(&manifest.number);
        Ok(is_newest.then_some(checksum))
    }

    /// Keeps the bytes of a part for checkpoint `number`. What has not changed since `before` is not written again.
    pub fn keep(&self, number: u64, bytes: &[u8], before: Option<&Piece>) -> Result<Piece> {
        if bytes.len() <= INLINE_BYTES {
            return Ok(Piece::inline(bytes));
        }
        let blake3 = hash(bytes);
        match before {
            Some(Piece::Blob(key)) if key.blake3 == blake3 => Ok(Piece::Blob(key.clone())),
            _ => self.put_blob("blobs", number, bytes, blake3),
        }
    }

    fn put_blob(&self, folder: &str, number: u64, bytes: &[u8], blake3: String) -> Result<Piece> {
        // With the number in it, so that a former owner of the flow never removes what this one refers to.
        let blob = format!("{folder}/{number:020}-{blake3}");
        self.store.put_new(&self.key(&blob), bytes)?;
        crash::point("blob-written");
        Ok(Piece::Blob(PieceKey { blob, bytes: bytes.len() as u64, blake3 }))
    }

    /// Keeps what a node was told before checkpoint `number`, for as long as what time has decided.
    pub fn keep_answers(&self, number: u64, answers: &State) -> Result<BTreeMap<String, Piece>> {
        let keep = |bytes: &[u8]| match bytes.len() {
            ..=INLINE_BYTES => Ok(Piece::inline(bytes)),
            _ => self.put_blob("replay_log", number, bytes, hash(bytes)),
        };
        answers.parts().map(|(name, bytes)| Ok((name.to_owned(), keep(bytes)?))).collect()
    }

    /// Writes down what time has decided before checkpoint `number`.
    pub fn put_replay_log(&self, number: u64, replay_log: &ReplayLog) -> Result<()> {
        let key = self.replay_log_key(number);
        if self.store.put_new(&key, &replay_log.to_bytes()?)? {
            Ok(())
        } else {
            Err(Error::new(format!("`{key}` in `{}` is there already", self.location)))
        }
    }

    /// What time has decided between checkpoint `from`, or the beginning of the flow, and checkpoint `until`.
    ///
    /// # Errors
    /// If some of it is missing or damaged.
    pub fn replay_log(&self, from: Option<u64>, until: u64) -> Result<ReplayLog> {
        Ok(self.replay_logs(from, &[until])?.pop().unwrap_or_default())
    }

    /// The same, one for each of the stretches that end at the checkpoints `ends`.
    ///
    /// # Errors
    /// If some of it is missing or damaged.
    pub fn replay_logs(&self, from: Option<u64>, ends: &[u64]) -> Result<Vec<ReplayLog>> {
        // Those of the newest manifest lead back to all before; what no manifest leads to has not come to count.
        let newest = self.latest()?.and_then(|(manifest, _)| manifest.replay_log);
        let (mut pieces, mut next) = (Vec::new(), newest);
        while let Some(number) = next.filter(|number| Some(*number) > from) {
            let key = self.replay_log_key(number);
            let doing = || format!("reading `{key}` in `{}`", self.location);
            let bytes = self.store.get(&key)?.ok_or_else(|| {
                let why =
                    "there is none; `[checkpoint] replay_log = \"kept\"` removes what no checkpoint that is kept needs";
                Error::new(format!("{}: {why}", doing()))
            })?;
            let piece = ReplayLog::from_bytes(&bytes).doing(doing)?;
            next = piece.previous;
            pieces.push((number, piece));
        }
        let mut replay_logs: Vec<_> = ends.iter().map(|_| ReplayLog::default()).collect();
        for (number, piece) in pieces.into_iter().rev() {
            let stretch = ends.partition_point(|end| *end < number);
            // Those behind the last are of no interest.
            if let Some(replay_log) = replay_logs.get_mut(stretch) {
                replay_log.append(piece);
            }
        }
        Ok(replay_logs)
    }

    /// The rows that nodes did without up to a checkpoint.
    pub fn quarantine(&self, until: u64) -> Result<Quarantine> {
        let mut rows = self.latest()?.map(|(manifest, _)| manifest.set_aside).unwrap_or_default();
        rows.retain(|row| row.checkpoint <= until);
        Ok(Quarantine { rows, suspects: None })
    }

    /// Reads the parts of a state.
    pub fn state(&self, pieces: &BTreeMap<String, Piece>) -> Result<State> {
        let read = |(name, piece): (&String, &Piece)| Ok((name.clone(), self.bytes(piece)?));
        Ok(State::new(pieces.iter().map(read).collect::<Result<Vec<_>>>()?))
    }

    /// Pieces of a state that are read when a node asks for them, so that never all of them are in memory as bytes.
    pub fn pieces(&self, pieces: &BTreeMap<String, Piece>) -> Pieces {
        Pieces::elsewhere(pieces.iter().map(|(name, piece)| {
            let (store, piece) = (self.clone(), piece.clone());
            (name.clone(), move || store.bytes(&piece))
        }))
    }

    /// Reads everything that a manifest refers to.
    ///
    /// # Errors
    /// If something of it is missing or damaged.
    pub fn verify(&self, manifest: &Manifest) -> Result<()> {
        let mut pieces = manifest.nodes.values().flat_map(NodeEntry::pieces);
        pieces.try_for_each(|piece| self.bytes(piece).map(|_| ()))
    }

    fn bytes(&self, piece: &Piece) -> Result<Vec<u8>> {
        let key = match piece {
            Piece::Inline { .. } => return Ok(piece.inline_bytes()?.unwrap_or_default()),
            Piece::Blob(key) => key,
        };
        let doing = || format!("reading `{}` in `{}`", self.key(&key.blob), self.location);
        let bytes = self.store.get(&self.key(&key.blob))?;
        let bytes = bytes.ok_or_else(|| Error::new(format!("{}: there is none; {ADVICE}", doing())))?;
        if bytes.len() as u64 != key.bytes || hash(&bytes) != key.blake3 {
            return Err(Error::new(format!("{}: it is damaged: its checksum is another one; {ADVICE}", doing())));
        }
        Ok(bytes)
    }

    /// Marks that everything that manifests up to this one have decided is visible.
    pub fn mark_committed(&self, number: u64) -> Result<()> {
        self.store.put_new(&self.key(&format!("commits/{number:020}")), b"").map(|_| ())
    }

    /// The last manifest of which, and of all before, everything is visible.
    pub fn committed(&self) -> Result<Option<u64>> {
        let prefix = self.key("commits/");
        let number = |key: &String| key.strip_prefix(&prefix)?.parse().ok();
        Ok(self.store.list(&prefix)?.iter().filter_map(number).max())
    }

    /// Removes all but the last `keep` manifests up to number `latest`, and what only those referred to.
    ///
    /// Nothing if that one is not the newest: then somebody else owns the flow, and may need any of it. Returns the barrier of
    /// the oldest one that is kept; that before the first row, if it is not known.
    ///
    /// Where one that is kept is damaged, nothing else goes than manifests, since it may yet be put back from a copy.
    pub fn collect(&self, latest: u64, keep: usize) -> Result<Epoch> {
        let numbers = self.numbers()?;
        if numbers.last() != Some(&latest) {
            return Ok(Epoch::default());
        }
        let (old, kept) = numbers.split_at(numbers.len().saturating_sub(keep.max(1)));
        let (mut needed, mut oldest, mut is_damaged) = (BTreeSet::new(), None, false);
        for number in kept {
            let bytes = self.store.get(&self.manifest_key(*number))?;
            match self.read(*number, bytes) {
                Ok((manifest, _)) => {
                    oldest.get_or_insert(manifest.epoch);
                    needed.extend(blobs(&manifest));
                }
                Err(_) => is_damaged = true,
            }
        }
        for number in old {
            self.store.delete(&self.manifest_key(*number))?;
            crash::point("manifest-removed");
        }
        if is_damaged {
            return Ok(Epoch::default());
        }
        for key in self.store.list(&self.key("blobs/"))? {
            let is_needed = key.strip_prefix(&self.key("")).is_some_and(|blob| needed.contains(blob));
            // One of a higher number belongs to a checkpoint that is being written.
            if !is_needed && number_in(&key).is_some_and(|number| number <= latest) {
                self.store.delete(&key)?;
                crash::point("blob-removed");
            }
        }
        // The last mark stays, however far behind it may be.
        let mut marks = self.store.list(&self.key("commits/"))?;
        marks.sort_unstable();
        marks.pop();
        for key in marks {
            self.store.delete(&key)?;
        }
        Ok(oldest.unwrap_or_default())
    }

    /// Removes what time has decided before the oldest checkpoint that is kept: nobody can go on from there any more.
    pub fn trim_replay_logs(&self) -> Result<()> {
        let Some(oldest) = self.numbers()?.first().copied() else { return Ok(()) };
        for key in self.store.list(&self.key("replay_log/"))? {
            if number_in(&key).is_some_and(|number| number <= oldest) {
                self.store.delete(&key)?;
            }
        }
        Ok(())
    }

    /// The store that it is in.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The checkpoints of another flow in the same place.
    pub fn of(&self, flow: &str) -> Self {
        Self { flow: flow.to_owned(), ..self.clone() }
    }

    /// What messages call the place.
    pub fn location(&self) -> &str {
        &self.location
    }

    fn manifest_key(&self, number: u64) -> String {
        self.key(&format!("manifests/{number:020}.json"))
    }

    fn replay_log_key(&self, number: u64) -> String {
        self.key(&format!("replay_log/{number:020}.json"))
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.flow)
    }
}

impl std::fmt::Debug for CheckpointStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointStore")
            .field("flow", &self.flow)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// The blobs that a manifest refers to.
fn blobs(manifest: &Manifest) -> impl Iterator<Item = String> {
    manifest.nodes.values().flat_map(NodeEntry::pieces).filter_map(|piece| match piece {
        Piece::Blob(key) => Some(key.blob.clone()),
        Piece::Inline { .. } => None,
    })
}

/// The number of the checkpoint that has written a blob, or what time has decided.
fn number_in(key: &str) -> Option<u64> {
    key.rsplit('/').next()?.split_once(['-', '.'])?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use millstream_core::Epoch;
    use millstream_store::LocalStore;

    use super::*;

    fn manifest(number: u64, model: &Piece) -> Manifest {
        let state = [("model".to_owned(), model.clone())].into();
        Manifest {
            flow: "fraud".into(),
            incarnation: "0123456789abcdef".into(),
            number,
            generation: number,
            owner: "process 1 on here".into(),
            created: "2026-11-24T00:00:00Z".into(),
            parent: None,
            fingerprint: BTreeMap::new(),
            revision: None,
            epoch: Epoch(number),
            then: "continue".into(),
            replay_log: None,
            nodes: [("learner".to_owned(), NodeEntry { state, ..NodeEntry::default() })].into(),
            resets: BTreeMap::new(),
            set_aside: Vec::new(),
            revisions: Vec::new(),
        }
    }

    #[test]
    fn a_former_owner_removes_nothing_that_its_successor_needs() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint_store = CheckpointStore::new(Arc::new(LocalStore::new(folder.path())), "fraud", "state");
        let model = checkpoint_store.keep(1, &[7; 2 * INLINE_BYTES], None).expect("it is written");
        checkpoint_store.put(&manifest(1, &model)).expect("it is written");
        // The owner falls asleep here, and its successor removes the owner's manifest when it has one of its own.
        checkpoint_store.put(&manifest(2, &model)).expect("it is written");
        checkpoint_store.collect(2, 1).expect("it can be removed");
        assert_eq!(checkpoint_store.numbers().expect("they are listed"), [2]);
        checkpoint_store.collect(1, 1).expect("nothing is removed");
        let (last, _) = checkpoint_store.latest().expect("it is read").expect("there is one");
        checkpoint_store.verify(&last).expect("its blob is there");
    }
}
