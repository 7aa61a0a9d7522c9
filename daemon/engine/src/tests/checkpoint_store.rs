//! What is kept of the checkpoints of a flow, and what is removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::Epoch;

use super::crash::MemoryStore;
use crate::checkpoint::{CheckpointStore, Manifest, NodeEntry, Piece, ReplayLog};

/// So large that it gets a blob.
fn large(fill: u8) -> Vec<u8> {
    vec![fill; 5000]
}

struct Flow {
    store: Arc<MemoryStore>,
    checkpoint_store: CheckpointStore,
}

impl Flow {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let checkpoint_store = CheckpointStore::new(store.clone(), "flow", "memory");
        Self { store, checkpoint_store }
    }

    /// Writes a checkpoint of one node, whose state is large.
    fn write(&self, number: u64, fill: u8, before: Option<&Piece>) -> Piece {
        let piece = self.checkpoint_store.keep(number, &large(fill), before).unwrap();
        let state = [("weights".to_owned(), piece.clone())].into();
        let nodes = [("node".to_owned(), NodeEntry { state, ..NodeEntry::default() })].into();
        assert!(self.checkpoint_store.put(&manifest(number, nodes)).unwrap().is_some());
        piece
    }

    /// The keys of a folder, without what they have in common.
    fn keys(&self, folder: &str) -> Vec<String> {
        let prefix = format!("flow/{folder}/000000000000000");
        let keys = self.store.keys.lock().unwrap();
        let names = keys.keys().filter_map(|key| key.strip_prefix(&prefix));
        names.map(|name| name.chars().take(5).collect()).collect()
    }
}

fn manifest(number: u64, nodes: BTreeMap<String, NodeEntry>) -> Manifest {
    Manifest {
        flow: "flow".into(),
        incarnation: "0123456789abcdef".into(),
        number,
        generation: 1,
        owner: "process 1 on here".into(),
        created: "2026-11-24T00:00:00Z".into(),
        parent: None,
        fingerprint: BTreeMap::new(),
        revision: None,
        epoch: Epoch(number),
        then: "continue".into(),
        replay_log: None,
        nodes,
        resets: BTreeMap::new(),
        set_aside: Vec::new(),
        revisions: Vec::new(),
    }
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let flow = Flow::new();
    let first = flow.write(1, 7, None);
    assert_eq!(flow.checkpoint_store.keep(2, &large(7), Some(&first)).unwrap(), first);
    assert_ne!(flow.checkpoint_store.keep(2, &large(8), Some(&first)).unwrap(), first);
    assert_ne!(
        flow.checkpoint_store.keep(2, &large(7), None).unwrap(),
        first,
        "it may be that of a run that had been taken over"
    );
    assert!(matches!(flow.checkpoint_store.keep(3, b"small", Some(&first)).unwrap(), Piece::Inline { .. }));
    assert_eq!(flow.keys("blobs"), ["00001", "00002", "00002"]);
}

#[test]
fn what_kept_manifests_refer_to_stays_and_nothing_else_does() {
    let flow = Flow::new();
    let first = flow.write(1, 1, None);
    let second = flow.write(2, 2, None);
    flow.write(3, 2, Some(&second));
    flow.write(4, 4, None);
    flow.checkpoint_store.keep(4, &large(5), None).unwrap();
    flow.checkpoint_store.keep(5, &large(6), None).unwrap();
    (1..=4).for_each(|number| flow.checkpoint_store.mark_committed(number).unwrap());
    flow.checkpoint_store.collect(4, 2).unwrap();
    assert_eq!(flow.keys("manifests"), ["00003", "00004"]);
    assert_eq!(flow.keys("commits"), ["00004"]);
    let stays = "2 is older than the manifests and needed, 4 has lost one that nobody needs, 5 is being written";
    assert_eq!(flow.keys("blobs"), ["00002", "00004", "00005"], "{stays}");
    assert!(flow.checkpoint_store.verify(&flow.checkpoint_store.manifest(3).unwrap().0).is_ok());
    let lost = manifest(
        9,
        [("node".to_owned(), NodeEntry { state: [("w".into(), first)].into(), ..NodeEntry::default() })].into(),
    );
    let error = flow.checkpoint_store.verify(&lost).unwrap_err().to_string();
    assert!(error.contains(": there is none; put it back"), "{error}");
}

#[test]
fn a_former_owner_removes_nothing_that_the_new_one_needs() {
    let flow = Flow::new();
    let piece = flow.write(1, 1, None);
    // Taken over: the state is the same at first. The new owner keeps one checkpoint.
    flow.write(2, 1, Some(&piece));
    flow.checkpoint_store.collect(2, 1).unwrap();
    assert_eq!(flow.keys("manifests"), ["00002"]);
    // The former owner only comes to its own collection now.
    flow.checkpoint_store.mark_committed(1).unwrap();
    flow.checkpoint_store.collect(1, 1).unwrap();
    let (newest, _) = flow.checkpoint_store.latest().unwrap().unwrap();
    flow.checkpoint_store.verify(&newest).unwrap();
}

#[test]
fn a_former_owner_can_not_write_a_manifest_whose_number_is_free_again() {
    let flow = Flow::new();
    flow.write(1, 1, None);
    flow.write(2, 1, None);
    flow.write(3, 1, None);
    flow.checkpoint_store.collect(3, 1).unwrap();
    assert_eq!(flow.checkpoint_store.put(&manifest(2, BTreeMap::new())).unwrap(), None, "3 is newer");
    assert_eq!(flow.checkpoint_store.latest().unwrap().unwrap().0.number, 3);
    assert_eq!(flow.checkpoint_store.put(&manifest(3, BTreeMap::new())).unwrap(), None, "3 is taken");
}

#[test]
fn a_manifest_that_is_missing_is_missed_once_its_rows_are_visible() {
    let flow = Flow::new();
    assert!(flow.checkpoint_store.latest().unwrap().is_none());
    flow.write(1, 1, None);
    flow.write(2, 1, None);
    flow.checkpoint_store.mark_committed(1).unwrap();
    let remove = |number: u64| flow.store.keys.lock().unwrap().remove(&format!("flow/manifests/{number:020}.json"));
    remove(2);
    assert_eq!(flow.checkpoint_store.latest().unwrap().unwrap().0.number, 1, "nothing of 2 was visible");
    remove(1);
    let error = flow.checkpoint_store.latest().unwrap_err().to_string();
    assert!(error.starts_with("checkpoint 1 of flow `flow` in `memory` is missing"), "{error}");
}

#[test]
fn damaged_bytes_are_refused() {
    let flow = Flow::new();
    flow.write(1, 1, None);
    let (newest, _) = flow.checkpoint_store.latest().unwrap().unwrap();
    for (key, bytes) in flow.store.keys.lock().unwrap().iter_mut() {
        if key.contains("/blobs/") {
            bytes[77] ^= 1;
        }
    }
    let error = flow.checkpoint_store.verify(&newest).unwrap_err().to_string();
    assert!(error.contains("it is damaged: its checksum is another one; put it back"), "{error}");
}

#[test]
fn an_old_manifest_that_is_damaged_is_no_obstacle_and_keeps_what_it_may_need() {
    let flow = Flow::new();
    (1..=3).for_each(|number| drop(flow.write(number, number as u8, None)));
    let damage = |bytes: &mut Vec<u8>| bytes[100] ^= 1;
    let key = format!("flow/manifests/{:020}.json", 2);
    flow.store.keys.lock().unwrap().get_mut(&key).map(damage).unwrap();
    assert_eq!(flow.checkpoint_store.collect(3, 2).unwrap(), Epoch(0));
    assert_eq!((flow.keys("manifests"), flow.keys("blobs").len()), (vec!["00002".to_owned(), "00003".to_owned()], 3));
    flow.write(4, 4, None);
    assert_eq!(flow.checkpoint_store.collect(4, 2).unwrap(), Epoch(3));
    assert_eq!((flow.keys("manifests"), flow.keys("blobs").len()), (vec!["00003".to_owned(), "00004".to_owned()], 2));
}

#[test]
fn decisions_go_with_the_checkpoints_behind_which_they_were_made() {
    let flow = Flow::new();
    for number in 1..=4 {
        let replay_log = ReplayLog { epoch: Epoch(number), previous: Some(number - 1), ..ReplayLog::default() };
        flow.checkpoint_store.put_replay_log(number, &replay_log).unwrap();
        let manifest = Manifest { replay_log: Some(number), ..manifest(number, BTreeMap::new()) };
        assert!(flow.checkpoint_store.put(&manifest).unwrap().is_some());
    }
    flow.checkpoint_store.collect(4, 2).unwrap();
    flow.checkpoint_store.trim_replay_logs().unwrap();
    assert_eq!(flow.keys("replay_log"), ["00004"], "a replay can begin behind 3");
    assert_eq!(flow.checkpoint_store.replay_log(Some(3), 4).unwrap().epoch, Epoch(4));
    let error = flow.checkpoint_store.replay_log(None, 4).unwrap_err().to_string();
    assert!(error.contains("there is none; `[checkpoint] replay_log = \"kept\"` removes"), "{error}");
}
