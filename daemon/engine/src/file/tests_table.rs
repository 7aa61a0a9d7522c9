//! The tests that a flow file carries: `[[test]]`.

use millstream_core::{Problem, Problems, Role, Step, known_names};
use serde_json::{Map, Value as Json};

use super::Reference;
use super::reference::check;
use super::value::{Entry, Value, ValueKind};

/// Rows as a test writes them: tables of column names and values.
///
/// Dates are texts as they were written; the floats that JSON has no number for are the texts `NaN`, `inf` and `-inf`.
pub type Rows = Vec<Map<String, Json>>;

/// One `[[test]]`.
#[derive(Clone, Debug)]
pub struct FlowTest {
    /// What the test is about.
    pub name: String,
    /// What the inputs give instead of what they would read, by the port of an input, in file order.
    pub input: Vec<(Reference, Rows)>,
    /// What has to leave by a port, or arrive at an output, in file order.
    pub expect: Vec<(Reference, Rows)>,
    /// The number of the test in the file, from 0.
    pub(super) index: usize,
}

/// The key of the tests.
pub const TEST: &str = "test";

const INPUT: &str = "input";
const EXPECT: &str = "expect";

/// Reads test number `index`, whose table has been checked.
pub fn read(index: usize, table: &Value) -> FlowTest {
    let name = table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows_of = |key: &str| by_port(table, key).into_iter().map(|(port, value)| (port, rows(value))).collect();
    FlowTest { name, input: rows_of(INPUT), expect: rows_of(EXPECT), index }
}

/// What is wrong with the nodes that the tests name. Places begin at the root.
pub fn check_tests(root: &Value, nodes: &[(Role, &Entry)]) -> Problems {
    let tests = root.get(TEST).map_or(&[][..], Value::items).iter().enumerate();
    let problems = tests.flat_map(|(index, table)| {
        check_test(table, nodes).into_iter().map(move |problem| problem.under(index).under(TEST))
    });
    problems.collect()
}

fn check_test(table: &Value, nodes: &[(Role, &Entry)]) -> Problems {
    let inputs: Vec<_> =
        nodes.iter().filter(|(role, _)| *role == Role::Input).map(|(_, entry)| entry.key.as_str()).collect();
    let named = by_port(table, INPUT).into_iter().map(|(reference, _)| reference);
    let unknown = named.filter(|reference| !inputs.contains(&reference.node.as_str())).map(|reference| {
        let problem = Problem::new(format!("there is no input `{}`", reference.node));
        problem.help(known_names(&reference.node, inputs.iter().copied())).at(reference.at)
    });
    let expected = by_port(table, EXPECT).into_iter().filter_map(|(reference, _)| check(&reference, nodes, None));
    unknown.chain(expected).collect()
}

/// What a test says of ports: `KEY.NODE = […]`, `KEY.NODE.PORT = […]` or `KEY."NODE.PORT" = […]`.
fn by_port<'a>(table: &'a Value, key: &str) -> Vec<(Reference, &'a Value)> {
    let mut said = Vec::new();
    for node in table.get(key).map_or(&[][..], Value::entries) {
        let at = vec![Step::from(key), Step::Name(node.key.clone())];
        let ValueKind::Table(ports) = &node.value.kind else {
            said.push((Reference::parse(&node.key, at), &node.value));
            continue;
        };
        for port in ports {
            let at = vec![Step::from(key), Step::from(node.key.as_str()), Step::Name(port.key.clone())];
            said.push((Reference { node: node.key.clone(), port: Some(port.key.clone()), at }, &port.value));
        }
    }
    said
}

fn rows(value: &Value) -> Rows {
    value.items().iter().map(Value::to_json_table).collect()
}
