//! Subtrees beside a tree: they have their roots among its nodes, as children of none, until they are grafted in the place of a node.

use std::mem::take;

use super::{Counted, Known, Node, Tree};
use crate::encode::Row;

impl<K: Known> Tree<K> {
    /// How many nodes there are, with those of subtrees beside it.
    pub fn count_of_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many bytes nodes take, and what leaves have counted.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the numbers of the nodes by which a row comes from a root to its leaf. Returns the leaf.
    #[inline(always)]
    pub fn follow(&self, root: usize, row: Row<'_>, path: &mut Vec<usize>) -> usize {
        let mut node = root;
        path.clear();
        path.push(node);
        while let Node::Branch(branch) = &self.nodes[node] {
            node = branch.child(row);
            path.push(node);
        }
        node
    }

    /// Adds a subtree beside it that has learned nothing. Returns its root, or nothing if there is no room.
    pub fn add_root(&mut self) -> Option<usize> {
        let needed = self.node_bytes() + K::Counted::most_bytes(&self.plan);
        let root = self.nodes.len();
        let has_room = self.make_room(needed, root);
        has_room.then(|| {
            self.add_leaf(K::first(self.shape()));
            root
        })
    }

    /// Puts a subtree in the place of a node, and what that led to in the place of the subtree.
    pub fn graft(&mut self, root: usize, at: usize) {
        self.nodes.swap(root, at);
    }

    /// The numbers of the nodes to which roots lead: first the roots, and children behind their parents, side by side. None if they lead to one of
    /// them twice, or to one that is not there.
    pub fn order(&self, roots: Vec<usize>) -> Option<Vec<usize>> {
        let (mut order, mut next) = (roots, 0);
        let mut met = vec![false; self.nodes.len()];
        while let Some(number) = order.get(next) {
            let node = self.nodes.get(*number)?;
            if std::mem::replace(&mut met[*number], true) {
                return None;
            }
            if let Node::Branch(branch) = node {
                order.extend(branch.children());
            }
            next += 1;
        }
        Some(order)
    }

    /// Keeps the nodes of such an order that begins with so many roots, and numbers them by it.
    pub fn keep(&mut self, order: &[usize], roots: usize) {
        let mut nodes: Vec<_> = take(&mut self.nodes).into_iter().map(Some).collect();
        let mut first = roots as u32;
        for node in order.iter().filter_map(|number| nodes[*number].take()) {
            self.nodes.push(match node {
                Node::Branch(mut branch) => {
                    branch.first = first;
                    first += branch.test.children() as u32;
                    Node::Branch(branch)
                }
                leaf => leaf,
            });
        }
        self.bytes = self.nodes.iter().map(|node| self.bytes_of(node)).sum();
    }
}
