//! A tree as tensors, and back.

use millstream_core::{Error, Result};

use super::leaf::{Leaf, Statistics};
use super::numbers::SAVED_LISTS;
use super::split::Test;
use super::{Branch, Layout, Node, Tree, node_bytes};
use crate::tensors::Tensors;

/// What stands for the feature of a node that is a leaf.
const LEAF: u32 = u32::MAX;

/// The numbers of the nodes, of their leaves, of those that count what they see, and of the values in tests and in leaves; of what is known of
/// numbers, and of categories.
const SIZES: usize = 7;

fn damaged(what: &str) -> Error {
    Error::new(format!("the tree of the model is damaged: {what}"))
}

impl Tree {
    fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Leaf(leaf) => Some(leaf),
            Node::Branch(_) => None,
        })
    }

    /// Writes the tree, whose tensors' names begin like this.
    pub fn save(&self, name: &str, tensors: &mut Tensors) {
        self.save_nodes(name, tensors);
        let classes = self.classes();
        let leaves: Vec<_> = self.leaves().collect();
        let flat = |of: &dyn Fn(&Leaf) -> Vec<f64>| leaves.iter().flat_map(|leaf| of(leaf)).collect::<Vec<_>>();
        tensors.put_f64(&format!("{name}.masses"), &[leaves.len(), classes], &flat(&|leaf| leaf.masses.clone()));
        let counters = flat(&|leaf| vec![leaf.tried, leaf.right[0], leaf.right[1]]);
        tensors.put_f64(&format!("{name}.counters"), &[leaves.len(), 3], &counters);
        let active: Vec<_> = leaves.iter().map(|leaf| u8::from(leaf.statistics.is_some())).collect();
        tensors.put_u8(&format!("{name}.active"), &active);
        let statistics: Vec<_> = leaves.iter().filter_map(|leaf| leaf.statistics.as_deref()).collect();
        let counts: Vec<_> = statistics.iter().flat_map(|of| of.counts.clone()).collect();
        tensors.put_f64(&format!("{name}.counts"), &[statistics.len(), classes], &counts);
        let lists = statistics.iter().flat_map(|of| of.numbers.saved(of.count_of_numbers(&self.layout)));
        let lists: Vec<_> = lists.collect();
        tensors.put_f64(&format!("{name}.numbers"), &[lists.len()], &lists);
        let values = || statistics.iter().flat_map(|of| &of.categories);
        let lengths: Vec<_> = values().map(|values| values.slots.len() as u32).collect();
        tensors.put_u32(&format!("{name}.value_lengths"), &[lengths.len()], &lengths);
        let slots: Vec<_> = values().flat_map(|values| values.slots.clone()).collect();
        tensors.put_u32(&format!("{name}.value_slots"), &[slots.len()], &slots);
        let counts: Vec<_> = values().flat_map(|values| values.counts.clone()).collect();
        tensors.put_f64(&format!("{name}.value_counts"), &[slots.len(), classes], &counts);
        let in_tests = self.test_slots().count();
        let of_leaves = [self.nodes.len(), leaves.len(), statistics.len(), in_tests, slots.len()];
        let sizes = of_leaves.into_iter().chain([lists.len(), lengths.len()]).map(|size| size as u64);
        tensors.put_u64(&format!("{name}.sizes"), &sizes.collect::<Vec<_>>());
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
        for node in &self.nodes {
            let (feature, point, length) = match node {
                Node::Leaf(_) => (LEAF, 0.0, 0),
                Node::Branch(Branch { test: Test::Number { feature, at }, .. }) => (*feature, *at, 0),
                Node::Branch(Branch { test: Test::Category { first, slots, .. }, .. }) => {
                    let category = self.layout.categories.iter().position(|(known, _)| known == first).unwrap_or(0);
                    ((self.layout.shape.numbers + category) as u32, 0.0, slots.len() as u32)
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
    }

    /// Reads a tree into a new one.
    pub fn load(&mut self, name: &str, tensors: &Tensors) -> Result<()> {
        let sizes = tensors.u64s(&format!("{name}.sizes"))?;
        let sizes: [u64; SIZES] = sizes.try_into().map_err(|_| damaged("its sizes are others"))?;
        let [nodes, leaves, active, in_tests, in_leaves, lists, lengths] = sizes.map(|size| size as usize);
        let list = |list: &str| tensors.u32s(&format!("{name}.{list}"), &[nodes]);
        let points = tensors.f64s(&format!("{name}.points"), &[nodes])?;
        let (features, firsts, heaviest) = (list("features")?, list("first_children")?, list("heaviest")?);
        let places: Vec<_> = (0..nodes).filter(|node| features[*node] == LEAF).collect();
        if places.len() != leaves {
            return Err(damaged("it has another number of leaves"));
        }
        let mut leaves = self.load_leaves(name, tensors, &places, [active, in_leaves, lists, lengths])?.into_iter();
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
            let children = if let Test::Category { slots, .. } = &test { slots.len() } else { 2 };
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

    fn bytes_of(&self, node: &Node) -> usize {
        let more = match node {
            Node::Leaf(leaf) => leaf.statistics.as_ref().map_or(0, |statistics| statistics.bytes(&self.layout)),
            Node::Branch(branch) => branch.test.bytes(),
        };
        node_bytes(self.classes()) + more
    }

    fn test(&self, feature: u32, at: f64, slots: &[u32]) -> Result<Test> {
        let Layout { shape, categories, .. } = &self.layout;
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

    /// Reads the leaves, which are the nodes of these numbers.
    fn load_leaves(&self, name: &str, tensors: &Tensors, places: &[usize], sizes: [usize; 4]) -> Result<Vec<Leaf>> {
        let [active, values, lists, lengths] = sizes;
        let (count, classes) = (places.len(), self.classes());
        let f64s = |list: &str, shape: &[usize]| tensors.f64s(&format!("{name}.{list}"), shape);
        let u32s = |list: &str, shape: &[usize]| tensors.u32s(&format!("{name}.{list}"), shape);
        let (masses, counters) = (f64s("masses", &[count, classes])?, f64s("counters", &[count, 3])?);
        let (counts, lists) = (f64s("counts", &[active, classes])?, f64s("numbers", &[lists])?);
        let lengths = u32s("value_lengths", &[lengths])?;
        let (slots, value_counts) = (u32s("value_slots", &[values])?, f64s("value_counts", &[values, classes])?);
        let is_active = tensors.u8s(&format!("{name}.active"))?;
        if is_active.len() != count || is_active.iter().filter(|active| **active == 1).count() != active {
            return Err(damaged("its leaves have other statistics"));
        }
        let mut rest = Rest { counts: &counts, lists: &lists, lengths: &lengths, slots: &slots, values: &value_counts };
        let leaf = |(index, node): (usize, &usize)| {
            let mut leaf = Leaf::new(masses[index * classes..(index + 1) * classes].to_vec());
            (leaf.tried, leaf.right) = (counters[index * 3], [counters[index * 3 + 1], counters[index * 3 + 2]]);
            if is_active[index] == 1 {
                leaf.statistics = Some(Box::new(rest.statistics(&self.layout, *node)?));
            }
            Ok(leaf)
        };
        let leaves: Vec<_> = places.iter().enumerate().map(leaf).collect::<Result<_>>()?;
        if rest.is_empty() { Ok(leaves) } else { Err(damaged("it has parts that belong to none of its leaves")) }
    }
}

/// What is left of the statistics that are read leaf by leaf.
struct Rest<'a> {
    counts: &'a [f64],
    lists: &'a [f64],
    lengths: &'a [u32],
    slots: &'a [u32],
    values: &'a [f64],
}

impl Rest<'_> {
    /// Those of the next leaf, which is the node of that number.
    fn statistics(&mut self, layout: &Layout, node: usize) -> Result<Statistics> {
        let mut statistics = Statistics::new(layout, node);
        let (classes, numbers) = (layout.shape.classes, statistics.count_of_numbers(layout));
        statistics.counts.copy_from_slice(take(&mut self.counts, classes)?);
        let lists = take(&mut self.lists, classes * SAVED_LISTS * numbers)?;
        statistics.numbers.load(numbers, lists, &statistics.counts);
        for values in &mut statistics.categories {
            let length = take(&mut self.lengths, 1)?[0] as usize;
            values.slots = take(&mut self.slots, length)?.to_vec();
            if !values.slots.is_sorted_by(|a, b| a < b) {
                return Err(damaged("the values of a leaf are out of order"));
            }
            values.counts = take(&mut self.values, length * classes)?.to_vec();
        }
        Ok(statistics)
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty()
            && self.lists.is_empty()
            && self.lengths.is_empty()
            && self.slots.is_empty()
            && self.values.is_empty()
    }
}

/// The next so many, which are no longer among the rest.
fn take<'a, T>(rest: &mut &'a [T], count: usize) -> Result<&'a [T]> {
    let (first, others) = rest.split_at_checked(count).ok_or_else(|| damaged("its leaves have too few statistics"))?;
    *rest = others;
    Ok(first)
}
