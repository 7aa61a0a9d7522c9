//! Trees in a graph of ONNX: a tree ensemble finds the number of the leaf, and tables have what is known of each leaf.
//!
//! So leaves can predict by more than numbers of their own, and all that they compute is in 64 bits, which outputs of tree ensembles are not.

use millstream_core::{Error, Result};

use super::test::Test;
use super::{Branch, Known, Leaf, Node, Tree};
use crate::onnx::{Attribute, ElementType, Encoded, Graph, Value};

/// Tree ensembles count leaves in floats of 32 bits.
const MOST_LEAVES: usize = 1 << 24;

/// The nodes of a tree of which every branch has two children, as the operator has them: lists that belong together.
#[derive(Default)]
struct Nodes {
    features: Vec<i64>,
    modes: Vec<String>,
    values: Vec<f64>,
    if_true: Vec<i64>,
    if_false: Vec<i64>,
    /// Which of the nodes are leaves, in the order of the leaves.
    leaves: Vec<i64>,
}

/// A child of a node that is not there yet.
enum Child {
    Root,
    IfTrue(usize),
    IfFalse(usize),
}

/// What is to be put in the place of a child.
enum Place<'a> {
    Node(usize),
    /// The values of a category from this one on, and then the heaviest child.
    Values(&'a Branch, usize),
}

impl Nodes {
    fn add(&mut self, child: &Child, mode: &str, feature: usize, value: f64) -> usize {
        let number = self.features.len();
        match child {
            Child::Root => {}
            Child::IfTrue(parent) => self.if_true[*parent] = number as i64,
            Child::IfFalse(parent) => self.if_false[*parent] = number as i64,
        }
        self.features.push(feature as i64);
        self.modes.push(mode.to_owned());
        self.values.push(value);
        self.if_true.push(0);
        self.if_false.push(0);
        number
    }

    /// Adds the operator, which gives the number of the leaf of each row, in a column.
    fn into_onnx(self, graph: &mut Graph, rows: &Value) -> Value {
        let (nodes, leaves) = (self.features.len(), self.leaves.len());
        let zeros = |count: usize| Attribute::Ints(vec![0; count]);
        let attributes = [
            ("nodes_treeids", zeros(nodes)),
            ("nodes_nodeids", Attribute::Ints((0..nodes as i64).collect())),
            ("nodes_featureids", Attribute::Ints(self.features)),
            ("nodes_modes", Attribute::Texts(self.modes)),
            ("nodes_values_as_tensor", Attribute::Doubles(self.values)),
            ("nodes_truenodeids", Attribute::Ints(self.if_true)),
            ("nodes_falsenodeids", Attribute::Ints(self.if_false)),
            ("target_treeids", zeros(leaves)),
            ("target_nodeids", Attribute::Ints(self.leaves)),
            ("target_ids", zeros(leaves)),
            ("target_weights_as_tensor", Attribute::Doubles((0..leaves).map(|leaf| leaf as f64).collect())),
            ("n_targets", Attribute::Int(1)),
        ];
        graph.add_ml("TreeEnsembleRegressor", &[rows], attributes)
    }
}

impl<K: Known> Tree<K> {
    /// Adds what the tree predicts to a graph.
    pub fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let (nodes, leaves) = self.nodes_and_leaves();
        if leaves.len() > MOST_LEAVES {
            return Err(Error::new(format!("a tree has {} leaves; ONNX counts {MOST_LEAVES} at most", leaves.len())));
        }
        let rows = side_by_side(graph, row);
        let leaf = nodes.into_onnx(graph, &rows);
        let leaf = graph.squeeze(&leaf, 1);
        let leaf = graph.cast(&leaf, ElementType::Int64);
        K::to_onnx(&self.plan, &leaves, graph, row, &leaf)
    }

    /// The nodes from the root on, and the leaves in the order of their numbers.
    fn nodes_and_leaves(&self) -> (Nodes, Vec<&Leaf<K>>) {
        let (mut nodes, mut leaves) = (Nodes::default(), Vec::new());
        let mut open = vec![(Child::Root, Place::Node(0))];
        while let Some((child, place)) = open.pop() {
            let (branch, value) = match place {
                Place::Node(node) => match &self.nodes[node] {
                    Node::Branch(branch) => (branch, 0),
                    Node::Leaf(leaf) => {
                        let node = nodes.add(&child, "LEAF", 0, 0.0);
                        nodes.leaves.push(node as i64);
                        leaves.push(leaf);
                        continue;
                    }
                },
                Place::Values(branch, value) => (branch, value),
            };
            let at = |child: u32| Place::Node((branch.first + child) as usize);
            match &branch.test {
                Test::Number { feature, at: border } => {
                    let node = nodes.add(&child, "BRANCH_LEQ", *feature as usize, *border);
                    open.extend([(Child::IfFalse(node), at(1)), (Child::IfTrue(node), at(0))]);
                }
                Test::Category { first, slots, .. } => {
                    // Values of the heaviest child go where those go that are not known.
                    let value = if value == branch.heaviest as usize { value + 1 } else { value };
                    let Some(slot) = slots.get(value) else {
                        open.push((child, at(branch.heaviest)));
                        continue;
                    };
                    let layout = &self.plan.layout;
                    let category = layout.categories.iter().position(|(start, _)| start == first).unwrap_or(0);
                    let node = nodes.add(&child, "BRANCH_EQ", layout.shape.numbers + category, f64::from(slot - first));
                    open.extend([
                        (Child::IfFalse(node), Place::Values(branch, value + 1)),
                        (Child::IfTrue(node), at(value as u32)),
                    ]);
                }
            }
        }
        (nodes, leaves)
    }
}

/// The numbers of rows and then the slots of their categories, as one matrix.
fn side_by_side(graph: &mut Graph, row: &Encoded) -> Value {
    let slots: Vec<_> = row.categories.iter().map(|category| graph.cast(&category.slot, ElementType::Double)).collect();
    let columns: Vec<_> = row.numbers.iter().chain(&slots).collect();
    graph.side_by_side(&columns)
}

/// What is known of leaves, as a table in which rows look up their leaf.
pub(super) fn of_leaf(graph: &mut Graph, leaf: &Value, shape: &[usize], table: &[f64]) -> Value {
    let table = graph.doubles(shape, table);
    graph.add("Gather", &[&table, leaf])
}
