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
    /// What the inputs give instead of what they would read, by the name of the input, in file order.
    pub input: Vec<(String, Rows)>,
    /// What has to leave by a port, or arrive at an output, in file order.
    pub expect: Vec<(Reference, Rows)>,
    /// The number of the test in the file, from 0.
    pub(super) index: usize,
}

/// The key of the tests.
pub const TEST: &str = "test";

/// Reads test number `index`, whose table has been checked.
pub fn read(index: usize, table: &Value) -> FlowTest {
    let name = table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let inputs = table.get("input").map_or(&[][..], Value::entries);
    FlowTest {
        name,
        input: inputs.iter().map(|entry| (entry.key.clone(), rows(&entry.value))).collect(),
        expect: expected(table).into_iter().map(|(reference, value)| (reference, rows(value))).collect(),
        index,
    }
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
    let named = table.get("input").map_or(&[][..], Value::entries).iter();
    let unknown = named.filter(|entry| !inputs.contains(&entry.key.as_str())).map(|entry| {
        let problem = Problem::new(format!("there is no input `{}`", entry.key));
        let help = known_names(&entry.key, inputs.iter().copied());
        problem.help(help).at([Step::from("input"), Step::Name(entry.key.clone())])
    });
    let expected = expected(table).into_iter().filter_map(|(reference, _)| check(&reference, nodes, None));
    unknown.chain(expected).collect()
}

/// What is expected where: `expect.NODE = […]`, `expect.NODE.PORT = […]` or `expect."NODE.PORT" = […]`.
fn expected(table: &Value) -> Vec<(Reference, &Value)> {
    let mut expected = Vec::new();
    for node in table.get("expect").map_or(&[][..], Value::entries) {
        let at = vec![Step::from("expect"), Step::Name(node.key.clone())];
        let ValueKind::Table(ports) = &node.value.kind else {
            expected.push((Reference::parse(&node.key, at), &node.value));
            continue;
        };
        for port in ports {
            let at = vec![Step::from("expect"), Step::from(node.key.as_str()), Step::Name(port.key.clone())];
            expected.push((Reference { node: node.key.clone(), port: Some(port.key.clone()), at }, &port.value));
        }
    }
    expected
}

fn rows(value: &Value) -> Rows {
    value.items().iter().map(Value::to_json_table).collect()
}
