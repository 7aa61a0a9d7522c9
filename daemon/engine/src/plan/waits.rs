//! Which inputs wait for others, before they start or before they end, and cycles of that.

use std::collections::BTreeSet;

use super::NodeIndex;

/// What must have happened before an input can start or end.
#[derive(Clone, Default)]
pub struct Waits {
    /// `(a, b)`: input a starts after input b has ended.
    after: Vec<(NodeIndex, NodeIndex)>,
    /// `(a, b)`: input a can't end before input b has started, since a node aligns their barriers.
    with: Vec<(NodeIndex, NodeIndex)>,
}

impl Waits {
    /// An input starts after others have ended.
    pub fn after(&mut self, input: NodeIndex, others: &BTreeSet<NodeIndex>) {
        self.after.extend(others.iter().map(|other| (input, *other)));
    }

    /// Whether an input is known to start after another one has ended.
    pub fn is_after(&self, input: NodeIndex, other: NodeIndex) -> bool {
        self.after.contains(&(input, other))
    }

    /// An input can't end before another one has started.
    pub fn with(&mut self, input: NodeIndex, other: NodeIndex) {
        self.with.push((input, other));
    }

    /// The barriers of edges that are read together are aligned. An input that is behind another edge, too, brings that
    /// edge's barriers along itself.
    pub fn couple(&mut self, edges: &[&BTreeSet<NodeIndex>]) {
        for (index, inputs) in edges.iter().enumerate() {
            for (_, others) in edges.iter().enumerate().filter(|(other, _)| *other != index) {
                for input in inputs.difference(others) {
                    self.with.extend(others.iter().map(|other| (*input, *other)));
                }
            }
        }
    }

    /// An input waits at the same gate as one that starts after others have ended, and shows their barriers until then.
    pub fn wait_along(&mut self, input: NodeIndex, others: &BTreeSet<NodeIndex>) {
        self.after(input, others);
        self.with.retain(|(a, b)| !(*b == input && others.contains(a)));
    }

    /// Two inputs of a cycle of waiting.
    pub fn cycle(&self) -> Option<(NodeIndex, NodeIndex)> {
        // An input that starts after another has ended also waits for all that this one needs to end.
        let mut known: BTreeSet<(NodeIndex, NodeIndex)> = self.after.iter().copied().collect();
        loop {
            let mut more = BTreeSet::new();
            for (a, b) in &known {
                let ends_after = self.with.iter().filter(|(x, _)| x == b).map(|(_, y)| *y);
                let starts_after = ends_after.flat_map(|y| known.iter().filter(move |(x, _)| *x == y).map(|(_, z)| *z));
                let directly = known.iter().filter(|(x, _)| x == b).map(|(_, z)| *z);
                more.extend(starts_after.chain(directly).map(|z| (*a, z)));
            }
            let before = known.len();
            known.extend(more);
            let closes =
                |(a, b): &&(NodeIndex, NodeIndex)| a == b || known.contains(&(*b, *a)) || self.with.contains(&(*b, *a));
            if let Some(cycle) = known.iter().find(closes) {
                return Some(*cycle);
            }
            if known.len() == before {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_wait_for_each_other_are_found() {
        let waits = Waits { after: vec![(1, 0), (2, 1)], with: Vec::new() };
        assert_eq!(waits.cycle(), None);
        let waits = Waits { after: vec![(1, 0), (0, 1)], with: Vec::new() };
        assert!(waits.cycle().is_some());
        let waits = Waits { after: vec![(1, 0), (2, 3)], with: vec![(0, 2), (3, 1)] };
        assert!(waits.cycle().is_some(), "1 starts after 0, which needs 2, which starts after 3, which needs 1");
    }
}
