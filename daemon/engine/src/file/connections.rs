//! Connections: tables of settings, `[connection.NAME]`, from which nodes take what they don't say themselves.

use std::path::Path;

use millstream_core::{ConnectionKind, FilesRead, NodeTypes, Problem, Problems, Role, Step, known_names};
use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::flow_file::{LoadOptions, has_problem};
use super::interpolate::interpolate;
use super::names::{NAME_HELP, is_name};
use super::parse::{SyntaxError, parse_at};
use super::source::Source;
use super::value::{Entry, Value, ValueKind};
use super::vault::Vault;
use super::walk::walk;

/// The word in front of a connection's table, and the key by which a node names it.
pub const CONNECTION: &str = "connection";

/// The connections of a flow.
pub fn connections(root: &Value) -> &[Entry] {
    root.get(CONNECTION).map_or(&[], Value::entries)
}

/// Adds the connections of the file that `[flow] connections` names, and says what is wrong with it. Where it can't be read at all,
/// its name is unknown from then on.
pub fn include(root: &mut Value, source: &mut Source, folder: &Path, options: &LoadOptions<'_>) -> Vec<Diagnostic> {
    let Some(named) = root.at_mut(&FILE.map(Step::from)) else { return Vec::new() };
    let mut name = named.clone();
    // What is wrong with it is said when the whole flow is filled in and checked.
    let _ = interpolate(&mut name, options.environment, source);
    let Some(path) = name.as_str().map(|path| folder.join(path)) else { return Vec::new() };
    match read(&path, source, &name, &options.files) {
        Ok(shared) => shared.entries().iter().flat_map(|entry| add(root, entry, source)).collect(),
        Err(wrong) => {
            named.kind = ValueKind::Unknown;
            wrong
        }
    }
}

/// The setting that names a file of connections.
const FILE: [&str; 2] = ["flow", "connections"];

fn read(path: &Path, source: &mut Source, name: &Value, files: &FilesRead) -> Result<Value, Vec<Diagnostic>> {
    let text = files.read_text(path).map_err(|error| {
        let message = format!("flow: the file of connections `{}` can't be read: {error}", path.display());
        vec![source.diagnostic(&name.span, message, None)]
    })?;
    let start = source.add_file(path.display().to_string(), text.clone());
    parse_at(&text, start).map_err(|errors| {
        let placed = |error: SyntaxError| {
            let span = error.span.start + start..error.span.end + start;
            // Of a text that can't be read it is not known what in it is secret.
            source.diagnostic(&span, error.message, error.help).without_line()
        };
        errors.into_iter().map(placed).collect()
    })
}

/// Adds a table of a file of connections.
fn add(root: &mut Value, shared: &Entry, source: &Source) -> Vec<Diagnostic> {
    if shared.key != CONNECTION {
        let message = format!("there is no `{}` in a file of connections", shared.key);
        let help = Some("it has tables `[connection.NAME]` and nothing else".to_owned());
        return vec![source.diagnostic(&shared.key_span, message, help)];
    }
    let ValueKind::Table(added) = &shared.value.kind else {
        let message = format!("expected a table, found {}", shared.value.noun());
        return vec![source.diagnostic(&shared.value.span, message, Some("write `[connection.NAME]`".to_owned()))];
    };
    let Some(all) = root.entries_mut() else { return Vec::new() };
    let Some(own) = all.iter_mut().find(|entry| entry.key == CONNECTION) else {
        all.push(shared.clone());
        return Vec::new();
    };
    let mut wrong = Vec::new();
    for entry in added {
        if own.value.entry(&entry.key).is_some() {
            let message = format!("connection `{}`: the flow has one of that name itself", entry.key);
            let help = Some("give one of them another name".to_owned());
            wrong.push(source.diagnostic(&entry.key_span, message, help));
        } else if let Some(own) = own.value.entries_mut() {
            own.push(entry.clone());
        }
    }
    wrong
}

/// Gives every node the settings that it has from its connection, and says what is wrong with that, and with connections beyond
/// their schema. Places begin at the root.
///
/// What a node would have from a connection that is wrong is unknown, so that nothing more is said of it.
pub fn lend(root: &mut Value, registry: &NodeTypes, schema: &Json, vault: &mut Vault<'_>) -> Problems {
    let walked = walk(&alone(root), schema);
    let of_schema = walked.problems.len();
    let missing = vault.fill(root, &walked);
    let mut problems: Problems = walked.problems.into_iter().chain(missing).collect();
    let alone = alone(root);
    for entry in connections(&alone) {
        problems.extend(check(entry, registry, &problems));
    }
    let lenders: Vec<_> =
        connections(&alone).iter().map(|entry| (entry, has_problem(&problems, &[CONNECTION, &entry.key]))).collect();
    // It is said when the whole file is held to its schema.
    problems.drain(..of_schema);
    let file = root.at_mut(&FILE.map(Step::from));
    let are_all_known = file.is_none_or(|file| file.kind != ValueKind::Unknown);
    for role in Role::ALL {
        let nodes = root.at_mut(&[role.name().into()]).and_then(Value::entries_mut);
        let wrong = nodes.into_iter().flatten().filter_map(|node| borrow(role, node, &lenders, registry));
        problems.extend(wrong.filter(|_| are_all_known));
    }
    problems
}

/// A flow that has its connections and nothing else.
fn alone(root: &Value) -> Value {
    let table = root.entry(CONNECTION).cloned();
    Value { span: 0..0, kind: ValueKind::Table(table.into_iter().collect()) }
}

/// What is wrong with a connection whose table has been held to its schema.
fn check(entry: &Entry, registry: &NodeTypes, known: &Problems) -> Option<Problem> {
    if !is_name(&entry.key) {
        let problem = Problem::new(format!("`{}` is not a name for a connection", entry.key)).help(NAME_HELP);
        return Some(problem.at([Step::from(CONNECTION), Step::Name(entry.key.clone())]));
    }
    let kind = registry.find_connection(entry.value.get("type")?.as_str()?)?;
    if has_problem(known, &[CONNECTION, &entry.key]) || !entry.value.is_known() {
        return None;
    }
    let mut table = entry.value.to_json_table();
    table.remove("type");
    let problem = kind.check(table.into()).err()?;
    Some(problem.under(entry.key.as_str()).under(CONNECTION))
}

/// A connection, and whether something is wrong with it.
type Lender<'a> = (&'a Entry, bool);

/// Gives a node what it has from its connection. Returns what is wrong with its name.
fn borrow(role: Role, node: &mut Entry, lenders: &[Lender<'_>], registry: &NodeTypes) -> Option<Problem> {
    let kind = registry.find(role, node.value.get("type")?.as_str()?)?;
    let connection = registry.connection_of(kind)?;
    let named = node.value.get(CONNECTION)?;
    let lender = named.as_str().map_or(Err(None), |name| find(name, connection, lenders));
    let lent: Vec<Entry> = match &lender {
        Ok(table) => table.entries().iter().filter(|entry| entry.key != "type").cloned().collect(),
        Err(_) => connection.settings().map(|key| unknown(key, named)).collect(),
    };
    let own = node.value.entries_mut()?;
    for entry in lent {
        if own.iter().all(|known| known.key != entry.key) {
            own.push(entry);
        }
    }
    lender.err().flatten().map(|problem| problem.at([role.name(), node.key.as_str(), CONNECTION]))
}

/// The table of the connection that a node names; the problem if that is the node's, none if it has been said.
fn find<'a>(name: &str, kind: &ConnectionKind, lenders: &[Lender<'a>]) -> Result<&'a Value, Option<Problem>> {
    let type_of = |entry: &'a Entry| entry.value.get("type").and_then(Value::as_str);
    let Some((entry, is_wrong)) = lenders.iter().find(|(entry, _)| entry.key == name) else {
        let fitting = lenders.iter().filter(|(entry, _)| type_of(entry) == Some(kind.name));
        let names: Vec<_> = fitting.map(|(entry, _)| entry.key.as_str()).collect();
        let help = match names.as_slice() {
            [] => format!("add a table `[connection.{name}]` with `type = \"{}\"`", kind.name),
            names => known_names(name, names.iter().copied()),
        };
        return Err(Some(Problem::new(format!("there is no connection `{name}`")).help(help)));
    };
    match type_of(entry) {
        _ if *is_wrong => Err(None),
        Some(other) if other != kind.name => {
            let problem = Problem::new(format!("`{name}` is a connection of type `{other}`"));
            Err(Some(problem.help(format!("name one of type `{}`", kind.name))))
        }
        _ => Ok(&entry.value),
    }
}

/// A setting that is not known, of which nothing is to be said.
fn unknown(key: &str, named: &Value) -> Entry {
    let value = Value { span: named.span.clone(), kind: ValueKind::Unknown };
    Entry { key: key.to_owned(), key_span: named.span.clone(), value }
}
