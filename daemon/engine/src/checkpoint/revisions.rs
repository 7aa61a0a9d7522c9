//! From which of its texts a flow has run, and since when: a replay goes from one to the next where the flow has.

use std::collections::BTreeSet;

use millstream_core::Epoch;
use serde::{Deserialize, Serialize};

/// How many texts are known of a flow, the latest. A replay that begins behind the first of them can follow.
const MOST: usize = 1000;

/// Where a flow has gone on from a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionStart {
    /// The number of the text.
    pub revision: u64,
    /// The checkpoint behind which that was; 0 if the flow has begun with it.
    pub checkpoint: u64,
    /// The barrier of that checkpoint.
    pub epoch: Epoch,
    /// The nodes that have started from scratch there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resets: BTreeSet<String>,
}

/// Notes that a flow goes on from a text.
pub(super) fn note(known: &mut Vec<RevisionStart>, mut start: RevisionStart) {
    // Of a text that has come to no barrier nothing counts, but that nodes have started from scratch.
    while let Some(last) = known.pop_if(|last| last.epoch == start.epoch) {
        start.resets.extend(last.resets);
    }
    let goes_on = known.last().is_some_and(|last| last.revision == start.revision) && start.resets.is_empty();
    if !goes_on {
        known.push(start);
        known.drain(..known.len().saturating_sub(MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(revision: u64, epoch: u64, resets: &[&str]) -> RevisionStart {
        let resets = resets.iter().map(|&node| node.to_owned()).collect();
        RevisionStart { revision, checkpoint: epoch / 10, epoch: Epoch(epoch), resets }
    }

    #[test]
    fn a_text_counts_from_its_first_barrier() {
        let mut known = Vec::new();
        for noted in [start(1, 0, &[]), start(1, 40, &[]), start(2, 50, &["b"]), start(3, 50, &["c"])] {
            note(&mut known, noted);
        }
        assert_eq!(known, [start(1, 0, &[]), start(3, 50, &["b", "c"])]);
        // One that fails before its first barrier, and the one before again.
        for noted in [start(4, 70, &[]), start(3, 70, &[])] {
            note(&mut known, noted);
        }
        assert_eq!(known, [start(1, 0, &[]), start(3, 50, &["b", "c"])]);
        (0..2000).for_each(|number| note(&mut known, start(number, 100 + number, &[])));
        assert_eq!((known.len(), known[0].revision), (MOST, 1000));
    }
}
