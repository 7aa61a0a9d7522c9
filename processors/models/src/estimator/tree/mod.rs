//! A Hoeffding tree (Domingos & Hulten, "Mining high-speed data streams", KDD 2000): a decision tree that grows while rows come.
//!
//! Each leaf counts what it sees. When the best way to split it is better than the second best by more than chance lets it be, as Hoeffding's
//! bound says, it is split. Leaves predict their most frequent class, or by naive Bayes, whichever has been right more often (Gama, Rocha &
//! Medas, "Accurate decision trees for mining high-speed data streams", KDD 2003).
//!
//! What is known of leaves has a bound in bytes. Where a split would exceed it, the leaves with the fewest wrong rows forget what they have
//! counted, and are leaves for good.

mod leaf;
mod numbers;
mod saved;
mod split;
mod subspace;
mod values;

use crate::encode::{Feature, Row};
use crate::estimator::Shape;
use leaf::{Leaf, Statistics};
use split::{Split, Test};
pub(super) use subspace::Subspaces;

/// How a tree grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    /// A leaf is looked at after so much more weight.
    pub grace: f64,
    /// How probable it is that a split is not the best.
    pub delta: f64,
    /// Splits whose merits differ by less are equally good.
    pub tie: f64,
    /// A leaf whose most frequent class has a larger share is not split.
    pub most_share: f64,
    /// So many points of each number are tried.
    pub points: u32,
    pub leaves: LeafPrediction,
    /// How many bytes the tree may take.
    pub max_bytes: usize,
}

/// What leaves predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafPrediction {
    Majority,
    NaiveBayes,
    /// Whichever was right more often.
    Adaptive,
}

/// What rows look like.
#[derive(Clone, Debug)]
struct Layout {
    shape: Shape,
    /// By category, its first slot, and the one behind its last.
    categories: Vec<(u32, u32)>,
    /// From what the features of leaves are drawn, if those don't look at all.
    subspaces: Option<Subspaces>,
}

impl Layout {
    fn new(features: &[Feature], shape: Shape, subspaces: Option<Subspaces>) -> Self {
        let mut first = 0;
        let mut categories = Vec::new();
        for slots in features.iter().map(|feature| feature.encoder.slots()).filter(|slots| *slots > 0) {
            categories.push((first, first + slots));
            first += slots;
        }
        Self { shape, categories, subspaces }
    }
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

/// A node that sends rows on. Its children lie one behind the other.
#[derive(Clone, Debug)]
struct Branch {
    test: Test,
    first: u32,
    /// Where rows go of which the test knows nothing: the child that had the most rows when it was made.
    heaviest: u32,
}

impl Branch {
    #[inline(always)]
    fn child(&self, row: Row<'_>) -> usize {
        (self.first + self.test.child(row).unwrap_or(self.heaviest)) as usize
    }
}

/// A tree, and all that is known of its leaves.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    growth: Growth,
    layout: Layout,
    nodes: Vec<Node>,
    /// How many bytes nodes and statistics take.
    bytes: usize,
}

/// What a node takes beside its statistics.
fn node_bytes(classes: usize) -> usize {
    size_of::<Node>() + size_of::<f64>() * classes
}

impl Tree {
    /// A tree that has learned nothing. Its leaves look at subspaces, if such are given.
    pub fn new(growth: Growth, features: &[Feature], shape: Shape, subspaces: Option<Subspaces>) -> Self {
        let layout = Layout::new(features, shape, subspaces);
        let mut tree = Self { growth, layout, nodes: Vec::new(), bytes: 0 };
        tree.add_leaf(vec![0.0; shape.classes]);
        tree
    }

    pub fn classes(&self) -> usize {
        self.layout.shape.classes
    }

    /// Adds a leaf with these masses of classes, which counts what it sees if there is room for that.
    fn add_leaf(&mut self, masses: Vec<f64>) {
        let mut leaf = Leaf::new(masses);
        self.bytes += node_bytes(self.classes());
        if self.bytes + Statistics::most_bytes(&self.layout) <= self.growth.max_bytes {
            let statistics = Statistics::new(&self.layout, self.nodes.len());
            self.bytes += statistics.bytes(&self.layout);
            leaf.statistics = Some(Box::new(statistics));
        }
        self.nodes.push(Node::Leaf(leaf));
    }

    /// The number of the leaf that a row comes to.
    #[inline(always)]
    fn leaf_of(&self, row: Row<'_>) -> usize {
        let mut node = 0;
        while let Node::Branch(branch) = &self.nodes[node] {
            node = branch.child(row);
        }
        node
    }

    /// How probable each class is for a row.
    #[inline(always)]
    pub fn predict(&self, row: Row<'_>, into: &mut [f64]) {
        if let Node::Leaf(leaf) = &self.nodes[self.leaf_of(row)] {
            leaf.predict(self.growth.leaves, &self.layout, row, into);
        }
    }

    /// Learns a row that counts so much. `predicted` is the class that was predicted for it just before.
    #[inline(always)]
    pub fn learn(&mut self, row: Row<'_>, class: usize, weight: f64, predicted: usize) {
        let at = self.leaf_of(row);
        let Node::Leaf(leaf) = &mut self.nodes[at] else { return };
        let room = self.growth.max_bytes - self.bytes.min(self.growth.max_bytes);
        self.bytes += leaf.learn(self.growth.leaves, &self.layout, row, class, weight, predicted, room);
        if leaf.statistics.is_some() && leaf.weight() - leaf.tried >= self.growth.grace {
            self.try_to_split(at);
        }
    }

    /// Looks whether a leaf is to be split, and splits it.
    #[inline(never)]
    fn try_to_split(&mut self, at: usize) {
        let Node::Leaf(leaf) = &mut self.nodes[at] else { return };
        leaf.tried = leaf.weight();
        let Some(split) = split::find(leaf, &self.growth, &self.layout) else { return };
        let given_up = leaf.statistics.as_ref().map_or(0, |statistics| statistics.bytes(&self.layout));
        let of_child = node_bytes(self.classes()) + Statistics::most_bytes(&self.layout);
        if self.make_room((split.masses.len() * of_child).saturating_sub(given_up), at) {
            self.split(at, split);
        } else {
            self.forget(at);
        }
    }

    fn split(&mut self, at: usize, Split { test, masses, .. }: Split) {
        let first = self.nodes.len() as u32;
        self.forget(at);
        let weight = |child: &usize| masses[*child].iter().sum::<f64>();
        let heavier = |best: usize, child: usize| if weight(&child) > weight(&best) { child } else { best };
        let heaviest = (0..masses.len()).fold(0, heavier) as u32;
        self.bytes += test.bytes();
        masses.into_iter().for_each(|masses| self.add_leaf(masses));
        self.nodes[at] = Node::Branch(Branch { test, first, heaviest });
    }

    /// Has the leaves with the fewest wrong rows, and the first of equals, forget what they have counted, until there is room for so many bytes,
    /// or nothing left but one leaf. Returns whether there is room.
    fn make_room(&mut self, needed: usize, except: usize) -> bool {
        while self.bytes + needed > self.growth.max_bytes {
            let mut least: Option<(usize, f64)> = None;
            for (number, node) in self.nodes.iter().enumerate().filter(|(number, _)| *number != except) {
                let Node::Leaf(leaf) = node else { continue };
                let wrong = leaf.weight() - leaf.masses.iter().copied().fold(0.0, f64::max);
                if leaf.statistics.is_some() && least.is_none_or(|(_, fewest)| wrong < fewest) {
                    least = Some((number, wrong));
                }
            }
            match least {
                Some((number, _)) => self.forget(number),
                None => return false,
            }
        }
        true
    }

    /// Has a leaf forget what it has counted.
    fn forget(&mut self, at: usize) {
        if let Node::Leaf(leaf) = &mut self.nodes[at] {
            self.bytes -= leaf.statistics.take().map_or(0, |statistics| statistics.bytes(&self.layout));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
