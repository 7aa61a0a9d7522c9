//! What nodes and flows may be called.

use millstream_core::{Problem, Problems, Role, Step};

use super::node::RENAMED_FROM;
use super::value::{Entry, Value};

/// The names of flows and nodes, as a regular expression.
pub const NAME_PATTERN: &str = "^[a-z][a-z0-9_]*$";

/// What is said about other names.
pub const NAME_HELP: &str = "names begin with a small letter, followed by small letters, digits and `_`";

/// Whether a flow or node may be called so.
pub fn is_name(name: &str) -> bool {
    let word = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    word && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// All nodes, in file order.
pub fn nodes(root: &Value) -> Vec<(Role, &Entry)> {
    let of = |role: Role| root.get(role.name()).map_or(&[][..], Value::entries).iter().map(move |entry| (role, entry));
    let mut nodes: Vec<_> = Role::ALL.into_iter().flat_map(of).collect();
    nodes.sort_by_key(|(_, entry)| entry.key_span.start);
    nodes
}

/// What is wrong with the names of the nodes. Places begin at the root.
pub fn check_names(nodes: &[(Role, &Entry)]) -> Problems {
    let mut problems = Problems::new();
    for (index, (role, entry)) in nodes.iter().enumerate() {
        let name = &entry.key;
        let place = [Step::from(role.name()), Step::Name(name.clone())];
        if !is_name(name) {
            problems.push(Problem::new(format!("`{name}` is not a name for a node")).help(NAME_HELP).at(place));
        } else if let Some((other, _)) = nodes[..index].iter().find(|(_, other)| other.key == *name) {
            let message = format!("`{name}` is also the name of an {other}").replace(" an p", " a p");
            problems.push(Problem::new(message).help("each node has a name of its own").at(place));
        }
    }
    problems.extend(check_former_names(nodes));
    problems
}

/// What is wrong with what nodes were called before: a state goes to one node, and stays with one that still has its name.
fn check_former_names(nodes: &[(Role, &Entry)]) -> Problems {
    let former = |entry: &Entry| Some(entry.value.get(RENAMED_FROM)?.as_str()?.to_owned());
    let mut problems = Problems::new();
    for (index, (role, entry)) in nodes.iter().enumerate() {
        let Some(name) = former(entry) else { continue };
        let there = nodes.iter().find(|(_, other)| other.key == name);
        let taken = nodes[..index].iter().find(|(_, other)| former(other).as_deref() == Some(name.as_str()));
        let message = match (there, taken) {
            (Some(_), _) => format!("`{name}` is still a node of this flow, and keeps its state"),
            (None, Some((_, other))) => format!("`{}` was called `{name}` already", other.key),
            (None, None) => continue,
        };
        let help = match there.and_then(|(_, other)| former(other)) {
            None => "name a node that was renamed, and is gone".to_owned(),
            Some(_) => format!(
                "where the name `{name}` passes from one node to another, first run the flow with a new name for the one, and \
                 leave `{RENAMED_FROM}` out when that has been done"
            ),
        };
        let at = [role.name(), entry.key.as_str(), RENAMED_FROM];
        problems.push(Problem::new(message).help(help).at(at));
    }
    problems
}

/// What is missing for the nodes to be a flow.
pub fn check_flow_is_whole(nodes: &[(Role, &Entry)]) -> Problems {
    let has = |input: bool| nodes.iter().any(|(role, _)| (*role == Role::Input) == input);
    let mut problems = Problems::new();
    if !has(true) {
        problems.push(Problem::new("the flow has no input").help("add a table `[input.NAME]`"));
    }
    if !has(false) {
        let help = "add a table `[processor.NAME]` or `[output.NAME]`";
        problems.push(Problem::new("the flow has neither a processor nor an output").help(help));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_small_letters_digits_and_underscores() {
        assert!(["a", "card_fraud", "a1", "x_"].into_iter().all(is_name));
        assert!(["", "A", "1a", "_a", "a-b", "a.b", "ä", "a b"].into_iter().all(|name| !is_name(name)));
    }
}
