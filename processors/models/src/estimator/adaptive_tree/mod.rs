//! A Hoeffding tree that gives up what has changed (Bifet & Gavaldà, "Adaptive learning from evolving data streams", IDA 2009).
//!
//! Each node watches by ADWIN how wrong the tree is about the rows that come through it. Where that rises, an alternate begins to learn them beside
//! the node. When the errors of both differ by more than chance lets them, the one with fewer is kept. Alternates have none of their own.

mod saved;

use super::forest::Votes;
use super::tree::{Growth, Learned, Tree};
use super::{Row, Shape};
use crate::drift::adwin;
use crate::encode::Feature;
use crate::onnx::{Encoded, Graph, Value};
use millstream_core::Result;

/// When a node gets an alternate, and when that takes its place.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// When the errors of a node have risen.
    pub drift: adwin::Settings,
    /// How probable it is that the worse of both is kept.
    pub delta: f64,
    /// So many rows both must have predicted.
    pub least_rows: u64,
}

/// What a node takes beside the tree.
pub(super) const BESIDE_NODE: usize = size_of::<Watch>() + adwin::MOST_BYTES;

/// What is known of a node beside the tree.
#[derive(Clone, Debug, Default)]
struct Watch {
    /// How wrong the tree was about the rows that came through it, each from 0 to 1.
    errors: adwin::Detector,
    /// The root of what learns the same rows anew.
    alternate: Option<usize>,
}

/// Which of both is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Node,
    Alternate,
}

/// A tree, its alternates, and how well they do.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveTree<K: Votes> {
    exchange: Exchange,
    tree: Tree<K>,
    /// By node.
    watches: Vec<Watch>,
    /// How many rows the tree has predicted, and how wrong it was together.
    rows: u64,
    errors: f64,
    /// The nodes that a row came through, and those of an alternate; and what that predicts.
    path: Vec<usize>,
    beside: Vec<usize>,
    room: Vec<f64>,
}

impl<K: Votes> AdaptiveTree<K> {
    /// A tree that has learned nothing.
    pub fn new(growth: Growth, rules: K::Rules, exchange: Exchange, features: &[Feature], shape: Shape) -> Self {
        let tree = Tree::new(Growth { beside_node: BESIDE_NODE, ..growth }, rules, features, shape, None);
        let (watches, room) = (vec![Watch::default()], vec![0.0; K::outputs(shape)]);
        Self { exchange, tree, watches, rows: 0, errors: 0.0, path: Vec::new(), beside: Vec::new(), room }
    }

    /// How probable each class is for a row, or which number.
    #[inline(always)]
    pub fn predict(&self, row: Row<'_>, into: &mut [f64]) {
        self.tree.predict(row, into);
    }

    /// Adds what the tree predicts to a graph.
    pub fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        self.tree.to_onnx(graph, row)
    }

    /// Learns a row for which the tree has just predicted this.
    #[inline(always)]
    pub fn learn(&mut self, learned: &Learned<'_, K>) {
        let error = K::error(learned.predicted, learned.target);
        self.rows += 1;
        self.errors += error;
        let mut path = std::mem::take(&mut self.path);
        let leaf = self.tree.follow(0, learned.row, &mut path);
        self.watch(&path, error);
        let mut verdict = None;
        for node in &path {
            let Some(root) = self.watches[*node].alternate else { continue };
            self.learn_beside(root, learned);
            // The one that is nearest to the root decides of all below it.
            verdict = verdict.or_else(|| Some((*node, root, self.compare(*node, root)?)));
        }
        self.tree.learn_at(leaf, learned);
        self.watches.resize_with(self.tree.count_of_nodes(), Watch::default);
        if let Some((node, root, kept)) = verdict {
            self.settle(node, root, kept);
        }
        self.path = path;
    }

    /// Has an alternate learn a row, once it has predicted it.
    #[inline(always)]
    fn learn_beside(&mut self, root: usize, Learned { row, target, weight, .. }: &Learned<'_, K>) {
        let mut path = std::mem::take(&mut self.beside);
        let leaf = self.tree.follow(root, *row, &mut path);
        self.tree.predict_at(leaf, *row, &mut self.room);
        let watched = K::watched(K::error(&self.room, *target), self.errors / self.rows as f64);
        for node in &path {
            self.watches[*node].errors.rises(&self.exchange.drift, watched);
        }
        self.tree.learn_at(leaf, &Learned { row: *row, target: *target, weight: *weight, predicted: &self.room });
        self.watches.resize_with(self.tree.count_of_nodes(), Watch::default);
        self.beside = path;
    }

    /// Tells the nodes of a path how wrong the tree was, and begins an alternate where that has risen and there is none.
    #[inline(never)]
    fn watch(&mut self, path: &[usize], error: f64) {
        let watched = K::watched(error, self.errors / self.rows as f64);
        for node in path {
            let Watch { errors, alternate } = &mut self.watches[*node];
            if errors.rises(&self.exchange.drift, watched) && alternate.is_none() {
                *alternate = self.tree.add_root();
                self.watches.resize_with(self.tree.count_of_nodes(), Watch::default);
            }
        }
    }

    /// Which of a node and its alternate is better, if their errors differ by more than chance lets them. Errors are those of the last rows, as far
    /// back as they are alike. Numbers from 0 to 1 whose mean is e have a variance of e (1 - e) at most.
    #[inline(always)]
    fn compare(&self, node: usize, root: usize) -> Option<Verdict> {
        let [own, other] = [node, root].map(|number| &self.watches[number].errors);
        let looks = other.width().is_multiple_of(adwin::CLOCK.into());
        if !looks || own.width().min(other.width()) < self.exchange.least_rows {
            return None;
        }
        let (error, better) = (own.mean(), own.mean() - other.mean());
        let inverse = 1.0 / own.width() as f64 + 1.0 / other.width() as f64;
        let bound = (2.0 * error * (1.0 - error) * libm::log(2.0 / self.exchange.delta) * inverse).sqrt();
        let kept = if better > 0.0 { Verdict::Alternate } else { Verdict::Node };
        (better.abs() > bound).then_some(kept)
    }

    /// Keeps the better of a node and its alternate, and gives up what the other one leads to.
    #[inline(never)]
    fn settle(&mut self, node: usize, root: usize, kept: Verdict) {
        self.watches[node].alternate = None;
        if kept == Verdict::Alternate {
            self.tree.graft(root, node);
            self.watches.swap(root, node);
        }
        let roots = self.roots();
        let count = roots.len();
        // What was loaded leads to each node once, and so does what has grown from it.
        let Some(order) = self.tree.order(roots) else { return };
        self.tree.keep(&order, count);
        let mut numbers = vec![None; self.watches.len()];
        order.iter().enumerate().for_each(|(new, old)| numbers[*old] = Some(new));
        let mut before = std::mem::take(&mut self.watches);
        self.watches.extend(order.iter().map(|old| std::mem::take(&mut before[*old])));
        self.watches.iter_mut().for_each(|watch| watch.alternate = watch.alternate.and_then(|root| numbers[root]));
    }

    /// The root of the tree, and those of the alternates of its nodes.
    fn roots(&self) -> Vec<usize> {
        let own = self.tree.order(vec![0]).unwrap_or_default();
        std::iter::once(0).chain(own.iter().filter_map(|node| self.watches[*node].alternate)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
