//! A Hoeffding tree (Domingos & Hulten, "Mining high-speed data streams", KDD 2000): a decision tree that grows while rows come.
//!
//! Each leaf counts what it sees. When the best way to split it is better than the second best by more than chance lets it be, as Hoeffding's
//! bound says, it is split. What leaves count, and what they predict by it, is [`Known`]: there are leaves of [`Classes`] and of [`Amounts`].
//!
//! What is known of leaves has a bound in bytes. Where a split would exceed it, the leaves with the fewest wrong rows forget what they have
//! counted, and are leaves for good.

mod amounts;
mod classes;
mod exported;
mod grafts;
mod saved;
mod subspace;
mod test;
mod values;

use std::fmt::Debug;
use std::ops::Range;

use millstream_core::Result;

use crate::encode::{Feature, Row};
use crate::estimator::Shape;
use crate::onnx::{Encoded, Graph, Value};
use crate::tensors::Tensors;
pub(super) use amounts::{AmountRules, Amounts, LeafModel};
pub(super) use classes::{ClassRules, Classes, LeafPrediction};
pub(super) use subspace::Subspaces;
use test::{Split, Test};

/// How a tree grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    /// A leaf is looked at after so much more weight.
    pub grace: f64,
    /// How probable it is that a split is not the best.
    pub delta: f64,
    /// Splits whose merits differ by less are equally good.
    pub tie: f64,
    /// How many bytes the tree may take.
    pub max_bytes: usize,
    /// How many of them others need for each node.
    pub beside_node: usize,
}

impl Growth {
    /// By how much merits that lie in such a range may differ by chance, where rows count so much.
    fn bound(&self, range: f64, weight: f64) -> f64 {
        (range * range * libm::log(1.0 / self.delta) / (2.0 * weight)).sqrt()
    }
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

/// What all leaves of a tree go by.
#[derive(Clone, Debug)]
pub(super) struct Plan<K: Known> {
    growth: Growth,
    rules: K::Rules,
    layout: Layout,
}

/// What is known of a leaf, also if it has forgotten what it has counted.
pub(super) trait Known: Clone + Debug + Send + Sync + 'static {
    /// What leaves predict by.
    type Rules: Clone + Debug + Send + Sync;
    /// What rows are learned for: the index of a class, or a number.
    type Target: Copy;
    /// What a leaf has counted.
    type Counted: Counted<Self>;

    /// That of the first leaf.
    fn first(shape: Shape) -> Self;

    /// How many bytes it takes beside its size.
    fn bytes(shape: Shape) -> usize;

    /// How many numbers a prediction has.
    fn outputs(shape: Shape) -> usize;

    /// The target as it was read.
    fn target(number: f64) -> Self::Target;

    /// How much the rows count.
    fn weight(&self) -> f64;

    /// How much is wrong with what is predicted for them.
    fn wrong(&self) -> f64;

    fn predict(&self, plan: &Plan<Self>, counted: Option<&Self::Counted>, row: Row<'_>, into: &mut [f64]);

    /// Learns a row that counts so much, and for which the tree has just predicted this.
    fn learn(&mut self, plan: &Plan<Self>, counted: Option<&Self::Counted>, learned: &Learned<'_, Self>);

    /// How the leaf is to be split, if one way is so much better than the others that it is not chance.
    fn split(&self, plan: &Plan<Self>, counted: &Self::Counted) -> Option<Split<Self>>;

    /// Adds to a graph what leaves predict, where `leaf` is a vector of the numbers of the leaves that rows have come to.
    fn to_onnx(
        plan: &Plan<Self>,
        leaves: &[&Leaf<Self>],
        graph: &mut Graph,
        row: &Encoded,
        leaf: &Value,
    ) -> Result<Value>;

    /// Writes leaves, and reads as many again, which are the nodes of these numbers.
    fn save(leaves: &[&Leaf<Self>], plan: &Plan<Self>, name: &str, tensors: &mut Tensors);
    fn load(plan: &Plan<Self>, name: &str, tensors: &Tensors, nodes: &[usize]) -> Result<Vec<Leaf<Self>>>;
}

/// What a leaf has counted.
pub(super) trait Counted<K: Known>: Clone + Debug + Send + Sync {
    /// Nothing yet, for the leaf that is the node of that number.
    fn new(plan: &Plan<K>, node: usize) -> Self;

    /// How many bytes that of a new leaf takes at most.
    fn most_bytes(plan: &Plan<K>) -> usize;

    fn bytes(&self, plan: &Plan<K>) -> usize;

    /// Counts a row. Returns how many bytes more it takes, of as many as there is room for.
    fn count(&mut self, plan: &Plan<K>, learned: &Learned<'_, K>, room: usize) -> usize;
}

/// A row that is learned.
pub(super) struct Learned<'a, K: Known> {
    pub row: Row<'a>,
    pub target: K::Target,
    /// How much it counts.
    pub weight: f64,
    /// What the tree has just predicted for it.
    pub predicted: &'a [f64],
}

#[derive(Clone, Debug)]
pub(super) struct Leaf<K: Known> {
    known: K,
    /// What its rows counted when it was last looked at.
    tried: f64,
    /// None if it had to forget that.
    counted: Option<Box<K::Counted>>,
}

impl<K: Known> Leaf<K> {
    fn new(known: K) -> Self {
        Self { tried: known.weight(), known, counted: None }
    }
}

#[derive(Clone, Debug)]
enum Node<K: Known> {
    Leaf(Leaf<K>),
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

    fn children(&self) -> Range<usize> {
        self.first as usize..self.first as usize + self.test.children()
    }
}

/// A tree, and all that is known of its leaves.
#[derive(Clone, Debug)]
pub(super) struct Tree<K: Known> {
    plan: Plan<K>,
    nodes: Vec<Node<K>>,
    /// How many bytes nodes and what leaves have counted take.
    bytes: usize,
}

impl<K: Known> Tree<K> {
    /// A tree that has learned nothing. Its leaves look at subspaces, if such are given.
    pub fn new(
        growth: Growth,
        rules: K::Rules,
        features: &[Feature],
        shape: Shape,
        subspaces: Option<Subspaces>,
    ) -> Self {
        let layout = Layout::new(features, shape, subspaces);
        let mut tree = Self { plan: Plan { growth, rules, layout }, nodes: Vec::new(), bytes: 0 };
        tree.add_leaf(K::first(shape));
        tree
    }

    pub fn shape(&self) -> Shape {
        self.plan.layout.shape
    }

    /// What a node takes beside what it has counted.
    fn node_bytes(&self) -> usize {
        size_of::<Node<K>>() + K::bytes(self.shape()) + self.plan.growth.beside_node
    }

    /// Adds a leaf, which counts what it sees if there is room for that.
    fn add_leaf(&mut self, known: K) {
        let mut leaf = Leaf::new(known);
        self.bytes += self.node_bytes();
        if self.bytes + K::Counted::most_bytes(&self.plan) <= self.plan.growth.max_bytes {
            let counted = K::Counted::new(&self.plan, self.nodes.len());
            self.bytes += counted.bytes(&self.plan);
            leaf.counted = Some(Box::new(counted));
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

    /// How probable each class is for a row, or which number.
    #[inline(always)]
    pub fn predict(&self, row: Row<'_>, into: &mut [f64]) {
        self.predict_at(self.leaf_of(row), row, into);
    }

    /// The same by a leaf that the row has come to.
    #[inline(always)]
    pub fn predict_at(&self, leaf: usize, row: Row<'_>, into: &mut [f64]) {
        if let Node::Leaf(leaf) = &self.nodes[leaf] {
            leaf.known.predict(&self.plan, leaf.counted.as_deref(), row, into);
        }
    }

    /// Learns a row.
    #[inline(always)]
    pub fn learn(&mut self, learned: &Learned<'_, K>) {
        self.learn_at(self.leaf_of(learned.row), learned);
    }

    /// Has a leaf learn a row that has come to it.
    #[inline(always)]
    pub fn learn_at(&mut self, at: usize, learned: &Learned<'_, K>) {
        let Node::Leaf(leaf) = &mut self.nodes[at] else { return };
        leaf.known.learn(&self.plan, leaf.counted.as_deref(), learned);
        let Some(counted) = &mut leaf.counted else { return };
        let max_bytes = self.plan.growth.max_bytes;
        self.bytes += counted.count(&self.plan, learned, max_bytes - self.bytes.min(max_bytes));
        if leaf.known.weight() - leaf.tried >= self.plan.growth.grace {
            self.try_to_split(at);
        }
    }

    /// Looks whether a leaf is to be split, and splits it.
    #[inline(never)]
    fn try_to_split(&mut self, at: usize) {
        let Node::Leaf(leaf) = &mut self.nodes[at] else { return };
        leaf.tried = leaf.known.weight();
        let Some(counted) = &leaf.counted else { return };
        let Some(split) = leaf.known.split(&self.plan, counted) else { return };
        let given_up = counted.bytes(&self.plan);
        let of_child = self.node_bytes() + K::Counted::most_bytes(&self.plan);
        if self.make_room((split.children.len() * of_child).saturating_sub(given_up), at) {
            self.split(at, split);
        } else {
            self.forget(at);
        }
    }

    fn split(&mut self, at: usize, Split { test, children }: Split<K>) {
        let first = self.nodes.len() as u32;
        self.forget(at);
        let heavier = |best: usize, child: usize| {
            if children[child].weight() > children[best].weight() { child } else { best }
        };
        let heaviest = (0..children.len()).fold(0, heavier) as u32;
        self.bytes += test.bytes();
        children.into_iter().for_each(|known| self.add_leaf(known));
        self.nodes[at] = Node::Branch(Branch { test, first, heaviest });
    }

    /// Has the leaves with the fewest wrong rows, and the first of equals, forget what they have counted, until there is room for so many bytes,
    /// or nothing left but one leaf. Returns whether there is room.
    fn make_room(&mut self, needed: usize, except: usize) -> bool {
        while self.bytes + needed > self.plan.growth.max_bytes {
            let mut least: Option<(usize, f64)> = None;
            for (number, node) in self.nodes.iter().enumerate().filter(|(number, _)| *number != except) {
                let Node::Leaf(leaf) = node else { continue };
                let wrong = leaf.known.wrong();
                if leaf.counted.is_some() && least.is_none_or(|(_, fewest)| wrong < fewest) {
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
            self.bytes -= leaf.counted.take().map_or(0, |counted| counted.bytes(&self.plan));
        }
    }
}
