//! The reference of all nodes, connections and formats, out of their settings' JSON schemas, and of the API, out of its routes: `list` and `docs`.

mod api;
mod formats;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use millstream_core::{ConnectionKind, NodeKind, NodeTypes, Role, known_names};
use millstream_engine::file::{connection_schema, editor_schema, flow_schema, node_schema, toml_text};
use millstream_formats::FORMATS;
use serde_json::{Map, Value};

use crate::exit::{CommandError, Exit, Outcome};
use crate::terminal::say;

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleArgument {
    /// Where rows enter.
    Input,
    /// What transforms rows.
    Processor,
    /// Where rows leave.
    Output,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Input => Self::Input,
            RoleArgument::Processor => Self::Processor,
            RoleArgument::Output => Self::Output,
        }
    }
}

/// What `docs` takes.
#[derive(Clone, Debug, Args)]
pub struct DocsArguments {
    /// The type of node or connection, such as `sql`, or the format, such as `csv`. Without it, one line each.
    pub node: Option<String>,
    /// Only nodes of this role.
    #[arg(long, value_enum)]
    pub role: Option<RoleArgument>,
    /// Print the pages of all nodes, as Markdown.
    #[arg(long, conflicts_with = "node")]
    pub all: bool,
    /// Print the page of the tables `[flow]` and `[checkpoint]`, as Markdown.
    #[arg(long, conflicts_with_all = ["node", "all"])]
    pub flow: bool,
    /// Print the page of the formats, as Markdown.
    #[arg(long, conflicts_with_all = ["node", "all", "flow"])]
    pub formats: bool,
    /// Print the page of the connections, as Markdown.
    #[arg(long, conflicts_with_all = ["node", "all", "flow", "formats"])]
    pub connections: bool,
    /// Print the page of the API of a daemon, as Markdown.
    #[arg(long, conflicts_with_all = ["node", "all", "flow", "formats", "connections"])]
    pub api: bool,
    /// Print the JSON schema of flow files, for editors.
    #[arg(long, conflicts_with_all = ["node", "all", "flow", "formats", "connections", "api"])]
    pub schema: bool,
}

/// `millstream list`
pub fn list() -> Outcome {
    let registry = crate::nodes::registry();
    let width = registry.kinds().iter().map(|kind| kind.name.len()).max().unwrap_or(0);
    for role in Role::ALL {
        say!("{role}s");
        for kind in registry.kinds().iter().filter(|kind| kind.role == role) {
            say!("  {:<width$}  {}", kind.name, first_sentence(kind.docs()));
        }
    }
    say!("connections");
    registry.connections().iter().for_each(|kind| say!("  {:<width$}  {}", kind.name, first_sentence(kind.docs())));
    say!("formats");
    FORMATS.iter().for_each(|kind| say!("  {:<width$}  {}", kind.name, first_sentence(kind.about)));
    Ok(Exit::Done)
}

/// `millstream docs`
pub fn docs(arguments: DocsArguments) -> Outcome {
    let registry = crate::nodes::registry();
    let role = arguments.role.map(Role::from);
    if arguments.schema {
        say!("{:#}", editor_schema(&registry));
        return Ok(Exit::Done);
    }
    if arguments.api {
        say!("{}", api::page().trim_end());
        return Ok(Exit::Done);
    }
    if arguments.flow {
        say!("{}", flow_page(&registry).trim_end());
        return Ok(Exit::Done);
    }
    if arguments.formats {
        say!("{}", formats::pages().trim_end());
        return Ok(Exit::Done);
    }
    if arguments.connections {
        say!("{}", connection_pages(&registry).trim_end());
        return Ok(Exit::Done);
    }
    if arguments.all {
        for role in role.map_or(Role::ALL.to_vec(), |role| vec![role]) {
            say!("{}", pages(&registry, role).trim_end());
        }
        return Ok(Exit::Done);
    }
    match &arguments.node {
        Some(name) => docs_of(name, role, &registry),
        None => list(),
    }
}

/// The pages of the nodes and connections of that name, or that of the format.
fn docs_of(name: &str, role: Option<Role>, registry: &NodeTypes) -> Outcome {
    let kinds: Vec<_> =
        registry.kinds().iter().filter(|kind| kind.name == name && role.is_none_or(|role| kind.role == role)).collect();
    if let (true, Some(format)) = (kinds.is_empty(), FORMATS.iter().find(|format| format.name == name)) {
        say!("{}", formats::page(format).trim_end());
        return Ok(Exit::Done);
    }
    let connection = registry.find_connection(name).filter(|_| role.is_none());
    if kinds.is_empty() && connection.is_none() {
        if let Some(other) = registry.kinds().iter().find(|kind| kind.name == name) {
            let (asked, role) = (role.unwrap_or(other.role), other.role);
            let message =
                format!("there is no {asked} `{name}`; there is a {role} of that name: `millstream docs {name}`");
            return Err(CommandError::Usage(message.replace("a input", "an input").replace("a output", "an output")));
        }
        let names: BTreeSet<&str> = registry.kinds().iter().map(|kind| kind.name).collect();
        let help = known_names(name, names);
        return Err(CommandError::Usage(format!("there is no type of node `{name}`; {help}")));
    }
    connection.into_iter().for_each(|kind| say!("{}\n", connection_page(kind).trim_end()));
    kinds.iter().for_each(|kind| say!("{}", page(kind, registry).trim_end()));
    Ok(Exit::Done)
}

/// The reference pages of all nodes of a role, as Markdown.
pub fn pages(registry: &NodeTypes, role: Role) -> String {
    let title = match role {
        Role::Input => "Inputs",
        Role::Processor => "Processors",
        Role::Output => "Outputs",
    };
    let mut text =
        format!("# {title}\n\n<!-- Generated by `millstream docs --all --role {role}`; a test compares. -->\n\n");
    for kind in registry.kinds().iter().filter(|kind| kind.role == role) {
        text += &page(kind, registry);
    }
    text
}

/// The page of a type of node as Markdown, and the JSON schema of its settings.
pub fn describe(kind: &NodeKind, registry: &NodeTypes) -> (String, Value) {
    (page(kind, registry), node_schema(kind, registry))
}

/// What a type of node is for, in a sentence.
pub fn summary(kind: &NodeKind) -> String {
    first_sentence(kind.docs())
}

/// The reference pages of all connections, as Markdown.
fn connection_pages(registry: &NodeTypes) -> String {
    let head = "# Connections\n\n<!-- Generated by `millstream docs --connections`; a test compares. -->\n\n\
        A table `[connection.NAME]` says once how a service is reached; nodes with `connection = \"NAME\"` take from it what they don't say \
        themselves ([more](../flows/README.md#connections-and-secrets)).\n\n";
    registry.connections().iter().fold(head.to_owned(), |text, kind| text + &connection_page(kind))
}

fn connection_page(kind: &ConnectionKind) -> String {
    let schema = connection_schema(kind);
    let mut text = format!("## connection `{}`\n\n{}\n\n", kind.name, kind.docs().trim());
    settings(&schema, &schema, 0, &mut text);
    let _ = write!(text, "\n```toml\n[connection.example]\ntype = \"{}\"\n{}\n```\n\n", kind.name, kind.example.trim());
    text
}

/// The reference of the tables about the flow as a whole, as Markdown.
fn flow_page(registry: &NodeTypes) -> String {
    let schema = flow_schema(registry);
    let mut text =
        "# The flow as a whole\n\n<!-- Generated by `millstream docs --flow`; a test compares. -->\n\n".to_owned();
    for name in ["flow", "checkpoint", "limits"] {
        let table = schema.pointer(&format!("/properties/{name}")).unwrap_or(&Value::Null);
        let _ = write!(text, "## `[{name}]`\n\n{}\n\n", description(table, &schema));
        settings(resolve(table, &schema), &schema, 0, &mut text);
        text.push('\n');
    }
    text
}

fn page(kind: &NodeKind, registry: &NodeTypes) -> String {
    let mut schema = node_schema(kind, registry);
    // They have a page of their own.
    let lent = registry.connection_of(kind).into_iter().flat_map(ConnectionKind::settings);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        lent.for_each(|name| _ = properties.shift_remove(name));
    }
    let mut text = format!("## {} `{}`\n\n{}\n\n", kind.role, kind.name, kind.docs().trim());
    settings(&schema, &schema, 0, &mut text);
    let body = kind.example.trim();
    let has = |key: &str| body.lines().any(|line| line.split('=').next().is_some_and(|word| word.trim() == key));
    let edges = [(kind.role != Role::Input).then_some("from"), kind.side_input];
    let edges = edges.into_iter().flatten().filter(|key| !has(key));
    let edges: String = edges.zip(["rows", "others"]).map(|(key, node)| format!("{key} = \"{node}\"\n")).collect();
    let _ = write!(text, "\n```toml\n[{}.example]\ntype = \"{}\"\n{edges}{body}\n```\n\n", kind.role, kind.name);
    text
}

/// The key in the schema of a setting whose reference is a page of its own.
const PAGE: &str = "x-page";

/// The settings of a table as a list; tables within it as lists within the list.
fn settings(schema: &Value, root: &Value, depth: usize, text: &mut String) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    for (name, property) in properties.iter().filter(|(name, _)| *name != "type") {
        let described = description(property, root);
        if described.is_empty() && depth > 0 {
            // Of a table with one key, such as `{ rows = … }`: the type says it all.
            continue;
        }
        let resolved = resolve(property, root);
        let need = need(property, root, required.iter().any(|required| *required == name));
        let indent = "  ".repeat(depth);
        let described = described.replace("\n\n", "\n").replace('\n', &format!("\n{indent}  "));
        let page = resolved.get(PAGE).and_then(Value::as_str);
        let page = page.map_or(String::new(), |page| format!("; [its settings]({page})"));
        let _ = writeln!(text, "{indent}- `{name}` ({}{page}{need}): {described}", type_text(property, root));
        if page.is_empty() {
            nested(resolved, root, depth + 1, text);
        }
    }
}

/// Whether a setting has to be said, and what it is if it is not.
fn need(property: &Value, root: &Value, is_required: bool) -> String {
    match property.get("default").or_else(|| resolve(property, root).get("default")) {
        _ if is_required => "; required".to_owned(),
        Some(Value::Null) | None => String::new(),
        Some(default) => format!("; default `{}`", toml_text(default)),
    }
}

/// What a setting may be, in a few words.
pub fn kind_text(property: &Value, root: &Value, is_required: bool) -> String {
    type_text(property, root) + &need(property, root, is_required)
}

/// The tables that a value may be.
fn nested(schema: &Value, root: &Value, depth: usize, text: &mut String) {
    settings(schema, root, depth, text);
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key).filter(|inner| inner.is_object()) {
            nested(resolve(inner, root), root, depth, text);
        }
    }
    for variant in variants(schema) {
        let resolved = resolve(variant, root);
        let tag = resolved.pointer("/properties/type/const").and_then(Value::as_str);
        match tag {
            Some(tag) => {
                let described = description(variant, root).replace('\n', " ");
                let _ = writeln!(text, "{}- `type = \"{tag}\"`: {described}", "  ".repeat(depth));
                settings(resolved, root, depth + 1, text);
            }
            None => nested(resolved, root, depth, text),
        }
    }
}

/// What a value may be, if that is one of several things.
pub fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["oneOf", "anyOf"].into_iter().filter_map(|key| schema.get(key).and_then(Value::as_array));
    lists.flatten().filter(|variant| variant.get("type") != Some(&Value::from("null")))
}

/// What a value is, in words.
fn type_text(schema: &Value, root: &Value) -> String {
    let schema = resolve(schema, root);
    if let Some(value) = schema.get("const") {
        return format!("`{}`", toml_text(value));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<_> =
            values.iter().filter(|value| !value.is_null()).map(|value| format!("`{}`", toml_text(value))).collect();
        return values.join(" or ");
    }
    // What the tables may have is on their page.
    let shown = if schema.get(PAGE).is_some() { 1 } else { usize::MAX };
    let mut texts: Vec<String> = variants(schema).take(shown).map(|variant| type_text(variant, root)).collect();
    texts.extend((shown == 1).then(|| "table".to_owned()));
    if !texts.is_empty() {
        texts.dedup();
        return texts.join(" or ");
    }
    let types = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        Some(Value::String(name)) => vec![name.as_str()],
        _ => Vec::new(),
    };
    let words = types.into_iter().map(|name| match name {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "number" => "number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("list of {}", type_text(items, root)),
            None => "list".to_owned(),
        },
        _ => object_text(schema, root),
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() { "any value".to_owned() } else { words.join(" or ") }
}

/// A table with one key, such as `{ rows = … }`, is shown as such.
fn object_text(schema: &Value, root: &Value) -> String {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    if properties.len() == 1 {
        let names: Vec<_> = properties
            .iter()
            .map(|(name, inner)| format!("{name} = {}", type_text(inner, root).replace('`', "")))
            .collect();
        return format!("`{{ {} }}`", names.join(", "));
    }
    match schema.get("additionalProperties").filter(|inner| inner.is_object()) {
        Some(inner) if properties.is_empty() => format!("table of {}", type_text(inner, root)),
        _ => "table".to_owned(),
    }
}

/// What a setting is for.
pub fn description(schema: &Value, root: &Value) -> String {
    let own = schema.get("description").or_else(|| resolve(schema, root).get("description"));
    own.and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

/// Follows `$ref`, also that of the one variant that isn't null.
pub fn resolve<'v>(schema: &'v Value, root: &'v Value) -> &'v Value {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(schema, |target| resolve(target, root));
    }
    let mut others = variants(schema);
    match (others.next(), others.next()) {
        (Some(only), None) => resolve(only, root),
        _ => schema,
    }
}

fn first_sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    text.split_inclusive(". ").next().unwrap_or_default().trim().to_owned()
}
