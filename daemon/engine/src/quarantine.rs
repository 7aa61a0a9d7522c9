//! Rows that a node can't bear: those at which it has failed whenever they were tried are set aside, and those among which there is such a
//! row go one by one until it is found.
//!
//! Whoever restarts a flow decides that ([`Quarantine`]); every manifest keeps which rows are set aside, so that they are in every run that
//! follows, and in each that is gone through again.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::{Batch, Encoding, FailedRow, Origin, Result, json_row};
use serde::{Deserialize, Serialize};

use crate::align::Event;

/// A row at which a node has failed whenever it was tried, so that the node does without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoisonedRow {
    /// The node.
    pub node: String,
    /// The row of an input that it comes from.
    pub origin: Origin,
    /// The BLAKE3 hash of the row as it comes to the node, in hexadecimal: other rows may come from the same one.
    pub blake3: String,
    /// What the node has failed with.
    pub error: String,
    /// The number of the manifest from which on it is set aside.
    pub checkpoint: u64,
}

/// What a run is told of such rows.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    /// Those that are set aside.
    pub rows: Vec<PoisonedRow>,
    /// Rows of an input that go one by one, since a node has failed among them.
    pub suspects: Option<Origin>,
}

/// The rows that a node works on.
#[derive(Clone, Debug)]
pub struct AtWork {
    /// Where they come from.
    pub origin: Origin,
    /// The row, if it is a single one.
    row: Option<Batch>,
}

impl PoisonedRow {
    /// Gives a node another name.
    pub(crate) fn rename_node(&mut self, before: &str, now: &str) {
        if self.node == before {
            now.clone_into(&mut self.node);
        }
        if &*self.origin.source == before {
            self.origin.source = now.into();
        }
    }
}

impl Quarantine {
    /// Gives nodes the names that they have now, by their former ones.
    pub fn rename_nodes<'a>(&mut self, renames: impl Iterator<Item = (&'a str, &'a str)>) {
        for (before, now) in renames {
            self.rows.iter_mut().for_each(|row| row.rename_node(before, now));
        }
    }

    /// Whether a row is among those that are set aside.
    pub fn has(&self, row: &PoisonedRow) -> bool {
        let is_same =
            |known: &PoisonedRow| known.node == row.node && known.origin == row.origin && known.blake3 == row.blake3;
        self.rows.iter().any(is_same)
    }

    /// The rows of an input that go alone.
    pub(crate) fn alone(&self, input: &str) -> Alone {
        let set_aside = self.rows.iter().map(|row| &row.origin);
        let is_of_input = |origin: &&Origin| &*origin.source == input;
        Alone(set_aside.chain(&self.suspects).filter(is_of_input).cloned().collect())
    }

    /// What concerns a node.
    pub(crate) fn of_node(&self, node: &str) -> NodeQuarantine {
        NodeQuarantine {
            rows: self.rows.iter().filter(|row| row.node == node).cloned().collect(),
            suspects: self.suspects.clone(),
            waiting: VecDeque::new(),
        }
    }
}

impl AtWork {
    /// Of a batch.
    pub(crate) fn of(batch: &Batch) -> Self {
        let row = (batch.len() == 1 && is_single(&batch.origin)).then(|| batch.clone());
        Self { origin: batch.origin.clone(), row }
    }

    /// The row, if it is a single one, at which a node fails with that error.
    pub fn poisoned(&self, node: &str, error: &str) -> Option<PoisonedRow> {
        let blake3 = hash(self.row.as_ref()?)?;
        let (node, error, origin) = (node.to_owned(), error.to_owned(), self.origin.clone());
        Some(PoisonedRow { node, origin, blake3, error, checkpoint: 0 })
    }

    /// The rows that both derive from, if there are any.
    pub fn common(&self, other: &Self) -> Option<Origin> {
        overlap(&self.origin, &other.origin)
    }
}

/// The rows of an input that go in batches of their own, so that everything behind it can tell them from the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alone(Vec<Origin>);

impl Alone {
    /// Behind how many of the rows at these positions of a partition a batch is cut: before the first that goes alone, or behind it. None if
    /// there is none.
    pub fn cut(&self, partition: &str, positions: impl FnOnce() -> Vec<u64>) -> Option<usize> {
        if self.0.iter().all(|alone| &*alone.partition != partition) {
            return None;
        }
        let first = positions().into_iter().position(|position| self.has(partition, position))?;
        Some(first.max(1))
    }

    /// Whether a row goes alone.
    pub fn has(&self, partition: &str, position: u64) -> bool {
        self.0.iter().any(|alone| &*alone.partition == partition && (alone.start..alone.end).contains(&position))
    }
}

/// The rows that a node does without, and those that come to it one by one.
#[derive(Debug, Default)]
pub(crate) struct NodeQuarantine {
    rows: Vec<PoisonedRow>,
    suspects: Option<Origin>,
    /// What was taken, in its order.
    waiting: VecDeque<Event>,
}

impl NodeQuarantine {
    /// Whether there is nothing that concerns the node.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.suspects.is_none()
    }

    /// What comes next of what was taken.
    pub fn next(&mut self) -> Option<Event> {
        self.waiting.pop_front()
    }

    /// Takes a batch, which comes next: row by row, if some of them are set aside or suspected.
    pub fn take(&mut self, port: usize, batch: Batch) {
        let is_suspected = self.suspects.as_ref().is_some_and(|suspects| overlap(suspects, &batch.origin).is_some());
        let set_aside: Vec<_> = self.rows.iter().filter(|row| row.origin == batch.origin).collect();
        if !is_suspected && set_aside.is_empty() {
            self.waiting.push_back(Event::Batch(port, batch));
            return;
        }
        let rows = (0..batch.len()).map(|row| batch.with_rows(batch.rows.slice(row, 1)));
        self.waiting.extend(rows.map(|row| event(port, row, &set_aside)));
    }
}

fn event(port: usize, row: Batch, set_aside: &[&PoisonedRow]) -> Event {
    let hash = hash(&row);
    let poisoned = set_aside.iter().find(|known| Some(&known.blake3) == hash.as_ref());
    match poisoned {
        Some(poisoned) => Event::SetAside(port, row, poisoned.error.as_str().into()),
        None => Event::Batch(port, row),
    }
}

/// A single row that is set aside, as it leaves by the port `failed`.
pub(crate) fn failed_row(row: &Batch, error: &Arc<str>) -> Result<FailedRow> {
    let Origin { source, partition, start, .. } = row.origin.clone();
    Ok(FailedRow {
        error: format!("the node failed at this row whenever it was tried: {error}"),
        source,
        partition,
        position: Some(start),
        line: None,
        row: json_row(&row.rows, 0)?,
        encoding: Encoding::Json,
    })
}

fn is_single(origin: &Origin) -> bool {
    origin.end.checked_sub(origin.start) == Some(1)
}

/// A row that can't be written as JSON has none.
fn hash(row: &Batch) -> Option<String> {
    let text = json_row(&row.rows, 0).ok()?;
    Some(blake3::hash(text.as_bytes()).to_hex().to_string())
}

/// The rows that are in both stretches, if there are any.
fn overlap(one: &Origin, other: &Origin) -> Option<Origin> {
    let is_same = one.source == other.source && one.partition == other.partition;
    let (start, end) = (one.start.max(other.start), one.end.min(other.end));
    (is_same && start < end).then(|| Origin { start, end, ..one.clone() })
}

#[cfg(test)]
mod tests {
    use millstream_testkit::table;

    use super::*;

    fn origin(start: u64, end: u64) -> Origin {
        Origin::new("in", "p", start, end)
    }

    fn batch_at(text: &str, start: u64, end: u64) -> Batch {
        Batch::new(table(text), origin(start, end))
    }

    /// What comes of a batch: the rows that go on, and those that are set aside.
    fn parted(quarantine: &mut NodeQuarantine, batch: Batch) -> Vec<(usize, bool)> {
        quarantine.take(0, batch);
        let events = std::iter::from_fn(|| quarantine.next());
        let seen = events.map(|event| match event {
            Event::Batch(_, rows) => (rows.len(), true),
            Event::SetAside(_, rows, _) => (rows.len(), false),
            other => panic!("{other:?}"),
        });
        seen.collect()
    }

    #[test]
    fn batches_are_cut_before_and_behind_rows_that_go_alone() {
        let alone = Quarantine { suspects: Some(origin(7, 9)), ..Quarantine::default() }.alone("in");
        let cut = |partition: &str, positions: &[u64]| alone.cut(partition, || positions.to_vec());
        assert_eq!(cut("p", &[3, 5, 7, 8, 9]), Some(2));
        assert_eq!(cut("p", &[7, 8, 9]), Some(1));
        assert_eq!(cut("p", &[8, 9]), Some(1));
        assert_eq!(cut("p", &[9, 10]), None);
        assert_eq!(cut("other", &[7]), None);
        assert!(!Quarantine::default().alone("in").has("p", 7));
    }

    #[test]
    fn a_row_is_set_aside_by_where_it_comes_from_and_what_it_is() {
        let single = batch_at("n:int64\n7", 4, 5);
        let poisoned = AtWork::of(&single).poisoned("node", "panicked").expect("it is a single row");
        assert!(AtWork::of(&batch_at("n:int64\n7", 4, 6)).poisoned("node", "").is_none(), "which of two is it?");
        let quarantine = Quarantine { rows: vec![poisoned.clone()], suspects: None };
        assert!(quarantine.has(&poisoned) && quarantine.of_node("other").is_empty());
        let mut of_node = quarantine.of_node("node");
        assert_eq!(parted(&mut of_node, single), [(1, false)]);
        assert_eq!(parted(&mut of_node, batch_at("n:int64\n7", 5, 6)), [(1, true)]);
        assert_eq!(parted(&mut of_node, batch_at("n:int64\n6\n7\n8", 4, 5)), [(1, true), (1, false), (1, true)]);
    }

    #[test]
    fn rows_among_which_one_is_suspected_come_one_by_one() {
        let quarantine = Quarantine { suspects: Some(origin(2, 6)), ..Quarantine::default() };
        let mut of_node = quarantine.of_node("node");
        assert_eq!(parted(&mut of_node, batch_at("n:int64\n1\n2\n3", 5, 8)), [(1, true); 3]);
        assert_eq!(parted(&mut of_node, batch_at("n:int64\n1\n2\n3", 6, 9)), [(3, true)]);
    }
}
