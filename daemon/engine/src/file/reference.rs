//! The names by which nodes read from others: `from = "NAME.port"`.

use std::fmt;

use millstream_core::{FAILED, NodeTypes, Problem, Problems, Role, Step, known_names};

use super::value::{Entry, Value, ValueKind};

/// The key by which a node names the nodes that it reads from.
pub const FROM: &str = "from";

/// An output port of a node, as another node or a test names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The node.
    pub node: String,
    /// The port; `None` for the main one.
    pub port: Option<String>,
    /// The way to this reference from the table that it is written in, for [`millstream_core::Problem::at`].
    pub at: Vec<Step>,
}

impl Reference {
    /// Reads `NAME` or `NAME.port`, written at `at`.
    pub fn parse(text: &str, at: Vec<Step>) -> Self {
        match text.split_once('.') {
            Some((node, port)) => Self { node: node.to_owned(), port: Some(port.to_owned()), at },
            None => Self { node: text.to_owned(), port: None, at },
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            Some(port) => write!(f, "{}.{port}", self.node),
            None => f.write_str(&self.node),
        }
    }
}

/// The references that a table has under `key`: one or a list.
pub fn references(table: &Value, key: &str) -> Vec<Reference> {
    let Some(value) = table.get(key) else { return Vec::new() };
    match &value.kind {
        ValueKind::String(text) => vec![Reference::parse(text.as_str(), vec![Step::from(key)])],
        ValueKind::Array(items) => {
            let texts = items.iter().enumerate().filter_map(|(index, item)| Some((index, item.as_str()?)));
            let read = |(index, text)| Reference::parse(text, vec![Step::from(key), Step::from(index)]);
            texts.map(read).collect()
        }
        _ => Vec::new(),
    }
}

/// For how many names that no node has it is said which may be meant. Who has more of them has one mistake behind all, and looking for the
/// nearest of thousands of names takes a while.
const ADVISED: usize = 50;

/// What is wrong with the references between nodes. Places begin at the root.
pub fn check_references(nodes: &[(Role, &Entry)], registry: &NodeTypes) -> Problems {
    let mut problems = Problems::new();
    for (role, entry) in nodes.iter().filter(|(role, _)| *role != Role::Input) {
        let kind = entry.value.get("type").and_then(Value::as_str).and_then(|name| registry.find(*role, name));
        let keys = [Some(FROM), kind.and_then(|kind| kind.side_input)].into_iter().flatten();
        for reference in keys.flat_map(|key| references(&entry.value, key)) {
            let is_known = nodes.iter().any(|(_, other)| other.key == reference.node);
            let problem = if is_known || problems.len() < ADVISED {
                check(&reference, nodes, Some(&entry.key))
            } else {
                Some(missing(&reference))
            };
            problems.extend(problem.map(|problem| problem.under(entry.key.as_str()).under(role.name())));
        }
    }
    problems
}

/// What is wrong with a reference, if anything is: its place begins at the table that it is written in. `reader` is the
/// node that reads; a test reads what arrives at outputs, too.
pub fn check(reference: &Reference, nodes: &[(Role, &Entry)], reader: Option<&str>) -> Option<Problem> {
    let name = reference.node.as_str();
    let at_place = |problem: Problem| Some(problem.at(reference.at.clone()));
    if reference.port.as_deref() == Some("") {
        return at_place(Problem::new(format!("there is no port behind `{name}.`")).help(format!("write `{name}`")));
    }
    if reader == Some(name) {
        return at_place(Problem::new(format!("`{name}` can't read from itself")));
    }
    match nodes.iter().find(|(_, entry)| entry.key == name) {
        // Rows that it refuses leave it.
        Some((Role::Output, _)) if reader.is_some() && reference.port.as_deref() != Some(FAILED) => {
            let message = format!("`{name}` is an output, from which nothing can be read");
            at_place(Problem::new(message))
        }
        Some(_) => None,
        None => {
            let readable = nodes.iter().filter(|(role, _)| reader.is_none() || *role != Role::Output);
            let known: Vec<_> =
                readable.map(|(_, entry)| entry.key.as_str()).filter(|key| reader != Some(key)).collect();
            Some(missing(reference).help(known_names(name, known)))
        }
    }
}

fn missing(reference: &Reference) -> Problem {
    Problem::new(format!("there is no node `{}`", reference.node)).at(reference.at.clone())
}
