//! A tree as tensors, and back: its nodes here, and its leaves by what is known of them.

use millstream_core::{Error, Result};

use super::test::Test;
use super::{Branch, Counted, Known, Layout, Leaf, Node, Tree};
use crate::tensors::Tensors;

/// What stands for the feature of a node that is a leaf.
const LEAF: u32 = u32::MAX;

pub(super) fn damaged(what: &str) -> Error {
    Error::new(format!("the tree of the model is damaged: {what}"))
}

impl<K: Known> Tree<K> {
    /// Writes the tree, whose tensors' names begin like this.
    pub fn save(&self, name: &str, tensors: &mut Tensors) {
        self.save_nodes(name, tensors);
        let leaves = self.nodes.iter().filter_map(|node| match node {
            Node::Leaf(leaf) => Some(leaf),
            Node::Branch(_) => None,
        });
        K::save(&leaves.collect::<Vec<_>>(), &self.plan, name, tensors);
    }

    fn test_slots(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().flat_map(|node| match node {
            Node::Branch(Branch { test: Test::Category { slots, .. }, .. }) => slots.clone(),
            _ => Vec::new(),
        })
    }

    fn save_nodes(&self, name: &str, tensors: &mut Tensors) {
        let (mut features, mut points, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut heaviest, mut lengths) = (Vec::new(), Vec::new());
        let Layout { shape, categories, .. } = &self.plan.layout;
        for node in &self.nodes {
            let (feature, point, length) = match node {
                Node::Leaf(_) => (LEAF, 0.0, 0),
                Node::Branch(Branch { test: Test::Number { feature, at }, .. }) => (*feature, *at, 0),
                Node::Branch(Branch { test: Test::Category { first, slots, .. }, .. }) => {
                    let category = categories.iter().position(|(known, _)| known == first).unwrap_or(0);
                    ((shape.numbers + category) as u32, 0.0, slots.len() as u32)
                }
            };
            let (first, heavy) = match node {
                Node::Leaf(_) => (0, 0),
                Node::Branch(branch) => (branch.first, branch.heaviest),
            };
            features.push(feature);
            points.push(point);
            firsts.push(first);
            heaviest.push(heavy);
            lengths.push(length);
        }
        let nodes = self.nodes.len();
        tensors.put_f64(&format!("{name}.points"), &[nodes], &points);
        for (list, values) in
            [("features", features), ("first_children", firsts), ("heaviest", heaviest), ("test_lengths", lengths)]
        {
            tensors.put_u32(&format!("{name}.{list}"), &[nodes], &values);
        }
        let slots: Vec<_> = self.test_slots().collect();
        tensors.put_u32(&format!("{name}.test_slots"), &[slots.len()], &slots);
        tensors.put_u64(&format!("{name}.sizes"), &[nodes as u64, slots.len() as u64]);
    }

    /// Reads a tree into a new one.
    pub fn load(&mut self, name: &str, tensors: &Tensors) -> Result<()> {
        let sizes = tensors.u64s(&format!("{name}.sizes"))?;
        let [nodes, in_tests] = sizes.try_into().map_err(|_| damaged("its sizes are others"))?;
        let (nodes, in_tests) = (nodes as usize, in_tests as usize);
        let list = |list: &str| tensors.u32s(&format!("{name}.{list}"), &[nodes]);
        let points = tensors.f64s(&format!("{name}.points"), &[nodes])?;
        let (features, firsts, heaviest) = (list("features")?, list("first_children")?, list("heaviest")?);
        let places: Vec<_> = (0..nodes).filter(|node| features[*node] == LEAF).collect();
        let mut leaves: std::vec::IntoIter<Leaf<K>> = K::load(&self.plan, name, tensors, &places)?.into_iter();
        let lengths = list("test_lengths")?;
        let slots = tensors.u32s(&format!("{name}.test_slots"), &[in_tests])?;
        let mut slots = slots.as_slice();
        self.nodes.clear();
        for node in 0..nodes {
            if features[node] == LEAF {
                let leaf = leaves.next().ok_or_else(|| damaged("it has too few leaves"))?;
                self.nodes.push(Node::Leaf(leaf));
                continue;
            }
            let known = slots.split_at_checked(lengths[node] as usize);
            let (own, others) = known.ok_or_else(|| damaged("a test has too few values"))?;
            slots = others;
            let test = self.test(features[node], points[node], own)?;
            let children = test.children();
            let (first, last) = (firsts[node] as usize, firsts[node] as usize + children);
            if first <= node || last > nodes || heaviest[node] as usize >= children {
                return Err(damaged("a node has no children behind it"));
            }
            self.nodes.push(Node::Branch(Branch { test, first: firsts[node], heaviest: heaviest[node] }));
        }
        if nodes == 0 || !slots.is_empty() {
            return Err(damaged("it has parts that belong to none of its nodes"));
        }
        self.bytes = self.nodes.iter().map(|node| self.bytes_of(node)).sum();
        Ok(())
    }

    pub(super) fn bytes_of(&self, node: &Node<K>) -> usize {
        let more = match node {
            Node::Leaf(leaf) => leaf.counted.as_ref().map_or(0, |counted| counted.bytes(&self.plan)),
            Node::Branch(branch) => branch.test.bytes(),
        };
        self.node_bytes() + more
    }

    fn test(&self, feature: u32, at: f64, slots: &[u32]) -> Result<Test> {
        let Layout { shape, categories, .. } = &self.plan.layout;
        if (feature as usize) < shape.numbers {
            return Ok(Test::Number { feature, at });
        }
        let category = categories.get(feature as usize - shape.numbers);
        let (first, end) = *category.ok_or_else(|| damaged("a test is of no feature"))?;
        if slots.len() < 2 || !slots.is_sorted_by(|a, b| a < b) {
            return Err(damaged("the values of a test are out of order"));
        }
        Ok(Test::Category { first, end, slots: slots.to_vec() })
    }
}

/// Lists that belong to one leaf after the other.
pub(super) struct Lists<'a> {
    name: &'a str,
    tensors: &'a Tensors,
    leaves: usize,
}

impl<'a> Lists<'a> {
    /// Those of so many leaves of a tree of that name.
    pub fn new(name: &'a str, tensors: &'a Tensors, leaves: usize) -> Self {
        Self { name, tensors, leaves }
    }

    /// Numbers, so many for each leaf.
    pub fn of_leaves(&self, list: &str, columns: usize) -> Result<Vec<f64>> {
        self.tensors.f64s(&format!("{}.{list}", self.name), &[self.leaves, columns])
    }

    /// Numbers of whatever count, so many in a row.
    pub fn f64s(&self, list: &str, columns: usize) -> Result<Vec<f64>> {
        let name = format!("{}.{list}", self.name);
        self.tensors.f64s(&name, &[self.tensors.rows(&name)?, columns])
    }

    pub fn u32s(&self, list: &str) -> Result<Vec<u32>> {
        let name = format!("{}.{list}", self.name);
        self.tensors.u32s(&name, &[self.tensors.rows(&name)?])
    }

    /// By leaf, whether it counts what it sees.
    pub fn active(&self) -> Result<&'a [u8]> {
        let active = self.tensors.u8s(&format!("{}.active", self.name))?;
        if active.len() == self.leaves { Ok(active) } else { Err(damaged("it has another number of leaves")) }
    }
}

/// The next so many, which are no longer among the rest.
pub(super) fn take<'a, T>(rest: &mut &'a [T], count: usize) -> Result<&'a [T]> {
    let split = rest.split_at_checked(count);
    let (taken, others) = split.ok_or_else(|| damaged("what its leaves have counted ends too early"))?;
    *rest = others;
    Ok(taken)
}
