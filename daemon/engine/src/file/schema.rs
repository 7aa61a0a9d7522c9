//! The JSON schemas of nodes and of whole files: what is checked, documented, and offered by editors.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::{ConnectionKind, NodeKind, NodeTypes, Role};
use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value as Json, json};

use super::connections::CONNECTION;
use super::names::NAME_PATTERN;
use super::node::{InputCommon, OutputCommon, ProcessorCommon, RequestSettings};
use super::reference::FROM;
use super::settings::{CheckpointSettings, FlowSettings, LimitSettings};
use super::value::Value;

/// The key of a constant in a schema, which has other words for it that are no good.
pub const ALSO_CALLED: &str = "x-also-called";

/// The key of what this program was built without, in the schema of flow files: types of nodes, each with the feature that brings it.
pub const LACKING: &str = "x-lacking";

/// The JSON schema of a node's table: `type`, the engine's settings, and its own.
pub fn node_schema(kind: &NodeKind, registry: &NodeTypes) -> Json {
    let mut schema = kind.schema.as_object().cloned().unwrap_or_default();
    schema.insert("title".to_owned(), json!(kind.name));
    let mut common = engine_schema(kind);
    rebase(&mut common, "#/$defs/engine");
    let mut properties = take_object(&mut common, "properties");
    let own = kind.schema.get("properties").and_then(Json::as_object);
    let connection = registry.connection_of(kind);
    properties.extend(connection.map(|connection| (CONNECTION.to_owned(), name_of(connection))));
    properties.extend(own.cloned().unwrap_or_default());
    schema.insert("properties".to_owned(), properties.into());
    let is_lent = |key: &Json| connection.is_some_and(|connection| connection.settings().any(|lent| key == lent));
    let (lent, required): (Vec<_>, Vec<_>) = required(&common).chain(required(&kind.schema)).partition(is_lent);
    schema.insert("required".to_owned(), required.into());
    if !lent.is_empty() {
        // What the connection does not say, the node has to.
        schema.insert("if".to_owned(), json!({ "required": [CONNECTION] }));
        schema.insert("else".to_owned(), json!({ "required": lent }));
    }
    let definitions = take_object(&mut common, "$defs");
    if !definitions.is_empty() {
        let own = schema.entry("$defs").or_insert_with(|| json!({}));
        own["engine"] = json!({ "$defs": definitions });
    }
    Json::Object(schema)
}

/// The setting by which a node names a connection.
fn name_of(connection: &ConnectionKind) -> Json {
    let (kind, settings): (_, Vec<_>) =
        (connection.name, connection.settings().map(|name| format!("`{name}`")).collect());
    let settings = settings.join(", ");
    let description = format!(
        "The [connection](../connectors/CONNECTIONS.md#connection-{kind}) of type `{kind}` from which the node takes what it does not say \
         itself of {settings}."
    );
    json!({ "description": description, "type": "string" })
}

/// The JSON schema of a connection's table: `type` and its settings.
pub fn connection_schema(kind: &ConnectionKind) -> Json {
    let mut schema = kind.schema.as_object().cloned().unwrap_or_default();
    schema.insert("title".to_owned(), json!(kind.name));
    let mut properties = Map::new();
    properties.insert("type".to_owned(), type_named("The type of the connection.", kind.name, kind.also_called));
    properties.extend(kind.schema.get("properties").and_then(Json::as_object).cloned().unwrap_or_default());
    schema.insert("properties".to_owned(), properties.into());
    let required = std::iter::once(json!("type")).chain(required(&kind.schema)).collect();
    schema.insert("required".to_owned(), required);
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.into()
}

/// The JSON schema (draft 2020-12) of a whole flow file.
pub fn flow_schema(registry: &NodeTypes) -> Json {
    schema_with(registry, |_| true)
}

/// The same for editors: a node has to be as its `type` says, rather than as one of all that there are, so that validators point at
/// the setting that is wrong and not at the whole node.
pub fn editor_schema(registry: &NodeTypes) -> Json {
    let mut schema = flow_schema(registry);
    for table in Role::ALL.iter().map(|role| role.name()).chain([CONNECTION]) {
        let entry = format!("/properties/{table}/additionalProperties");
        let by_type = schema.pointer(&entry).map(|one_of| by_type(one_of, &schema));
        if let (Some(entry), Some(by_type)) = (schema.pointer_mut(&entry), by_type) {
            *entry = by_type;
        }
    }
    schema
}

/// A table of which `type` says what else it has to be, of the definitions that it may be one of.
fn by_type(one_of: &Json, schema: &Json) -> Json {
    let definitions = one_of["oneOf"].as_array().into_iter().flatten().filter_map(|variant| variant["$ref"].as_str());
    let name = |definition: &str| schema.pointer(&format!("{}/properties/type/const", &definition[1..]));
    let named: Vec<(&Json, &str)> =
        definitions.clone().filter_map(|definition| Some((name(definition)?, definition))).collect();
    let types: Vec<&Json> = named.iter().map(|(name, _)| *name).collect();
    let rule = |(name, definition): &(&Json, &str)| {
        json!({
            "if": { "properties": { "type": { "const": name } }, "required": ["type"] },
            "then": { "$ref": definition },
        })
    };
    // Taplo's completion follows unions, but no conditions. This one takes everything, so that no validator complains of it.
    let followed = definitions.map(|definition| json!({ "$ref": definition })).chain([Json::Bool(true)]);
    json!({
        "type": "object",
        "properties": { "type": { "enum": types } },
        "required": ["type"],
        "allOf": named.iter().map(rule).collect::<Vec<_>>(),
        "anyOf": followed.collect::<Vec<_>>(),
    })
}

/// The same for the check of one file. The types that it does not use are only known by their names: making all of them would take
/// longer than anything else that happens before the first row.
pub fn file_schema(root: &Value, registry: &NodeTypes) -> Arc<Json> {
    registry.language(used_in(root, registry), |registry, used| schema_with(registry, |name| used.contains(name)))
}

/// The names of the definitions that a file needs.
fn used_in(root: &Value, registry: &NodeTypes) -> BTreeSet<String> {
    let types = |table: &str| {
        let entries = root.get(table).map_or(&[][..], Value::entries);
        entries.iter().filter_map(|entry| entry.value.get("type")?.as_str())
    };
    let kinds = Role::ALL.iter().flat_map(|role| types(role.name()).filter_map(|name| registry.find(*role, name)));
    let kinds: Vec<_> = kinds.collect();
    let lenders = kinds.iter().filter_map(|kind| registry.connection_of(kind));
    let connections = types(CONNECTION).filter_map(|name| registry.find_connection(name)).chain(lenders);
    kinds.iter().map(|kind| definition_name(kind)).chain(connections.map(connection_name)).collect()
}

/// A schema with those types of nodes and connections in full whose definitions have these names.
fn schema_with(registry: &NodeTypes, is_wanted: impl Fn(&str) -> bool) -> Json {
    let mut definitions = Map::new();
    definitions.insert("flow".to_owned(), definition("flow", schema_for!(FlowSettings).to_value()));
    definitions.insert("checkpoint".to_owned(), definition("checkpoint", schema_for!(CheckpointSettings).to_value()));
    definitions.insert("limits".to_owned(), definition("limits", schema_for!(LimitSettings).to_value()));
    for kind in registry.kinds() {
        let name = definition_name(kind);
        let whole = || definition(&name, node_schema(kind, registry));
        let schema = if is_wanted(&name) { whole() } else { named_only(kind.name, kind.also_called) };
        definitions.insert(name, schema);
    }
    for kind in registry.connections() {
        let name = connection_name(kind);
        let whole = || definition(&name, connection_schema(kind));
        let schema = if is_wanted(&name) { whole() } else { named_only(kind.name, kind.also_called) };
        definitions.insert(name, schema);
    }
    let lacking: Map<_, _> = registry.lacking().iter().map(|(name, by)| ((*name).to_owned(), json!(by))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Millstream flow",
        LACKING: lacking,
        "type": "object",
        "properties": {
            "flow": { "$ref": "#/$defs/flow" },
            "checkpoint": { "$ref": "#/$defs/checkpoint" },
            "limits": { "$ref": "#/$defs/limits" },
            "connection": connections(registry),
            "input": nodes(registry, Role::Input, "Where rows enter the flow."),
            "processor": nodes(registry, Role::Processor, "Where rows are transformed."),
            "output": nodes(registry, Role::Output, "Where rows leave the flow."),
            "test": { "type": "array", "description": "Tests of the flow.", "items": test() },
        },
        "additionalProperties": false,
        "$defs": definitions,
    })
}

/// The settings that the engine adds to a node.
fn engine_schema(kind: &NodeKind) -> Json {
    let mut schema = match kind.role {
        Role::Input => of::<InputCommon>(),
        Role::Processor => of::<ProcessorCommon>(),
        Role::Output => of::<OutputCommon>(),
    };
    let mut properties = Map::new();
    if kind.role != Role::Input {
        properties.insert(FROM.to_owned(), from());
    }
    if let Some(side) = kind.side_input {
        let description = "The node, or its port `NODE.PORT`, whose rows are read to their end before those of `from`.";
        properties.insert(side.to_owned(), json!({ "description": description, "type": "string" }));
    }
    schema["required"] = ["type"].into_iter().chain(properties.keys().map(String::as_str)).collect();
    let type_of_node = type_named("The type of the node.", kind.name, kind.also_called);
    properties.shift_insert(0, "type".to_owned(), type_of_node);
    properties.extend(take_object(&mut schema, "properties"));
    if kind.asks {
        properties.extend(take_object(&mut of::<RequestSettings>(), "properties"));
    }
    schema["properties"] = properties.into();
    schema
}

/// The setting `type` of a node or connection.
fn type_named(description: &str, name: &str, also_called: &[&str]) -> Json {
    let mut schema = json!({ "description": description, "const": name });
    if !also_called.is_empty() {
        schema[ALSO_CALLED] = json!(also_called);
    }
    schema
}

fn from() -> Json {
    json!({
        "description": "The node whose rows come in, or its port `NODE.PORT`, or a list of them.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }],
    })
}

fn of<T: JsonSchema>() -> Json {
    schema_for!(T).to_value()
}

fn nodes(registry: &NodeTypes, role: Role, description: &str) -> Json {
    let kinds = registry.kinds().iter().filter(|kind| kind.role == role);
    tables_of(kinds.map(definition_name), description)
}

fn connections(registry: &NodeTypes) -> Json {
    tables_of(registry.connections().iter().map(connection_name), "How services are reached that nodes have in common.")
}

/// Tables by name, each of one of the definitions.
fn tables_of(definitions: impl Iterator<Item = String>, description: &str) -> Json {
    let variants: Vec<_> = definitions.map(|name| json!({ "$ref": format!("#/$defs/{name}") })).collect();
    json!({
        "type": "object",
        "description": description,
        "propertyNames": { "pattern": NAME_PATTERN },
        "additionalProperties": { "oneOf": variants },
    })
}

fn test() -> Json {
    let rows = json!({ "type": "array", "items": { "type": "object", "additionalProperties": true } });
    let ports = json!({ "type": "object", "additionalProperties": rows });
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "description": "What the test is about." },
            "input": {
                "type": "object",
                "description": "What the inputs give, by their names, or by their ports where they have several.",
                "additionalProperties": { "anyOf": [rows, ports] },
            },
            "expect": {
                "type": "object",
                "description": "The rows that leave by a node's main port, or by ports of it, or arrive at an output.",
                "additionalProperties": { "anyOf": [rows, ports] },
            },
        },
        "additionalProperties": false,
        "required": ["name", "expect"],
    })
}

fn definition_name(kind: &NodeKind) -> String {
    format!("{}.{}", kind.role, kind.name)
}

fn connection_name(kind: &ConnectionKind) -> String {
    format!("{CONNECTION}.{}", kind.name)
}

/// What is known of a type that nothing of a file is of.
fn named_only(name: &str, also_called: &[&str]) -> Json {
    json!({ "type": "object", "properties": { "type": type_named("The type.", name, also_called) } })
}

/// A schema of its own as a part of a larger one.
fn definition(name: &str, mut schema: Json) -> Json {
    rebase(&mut schema, &format!("#/$defs/{name}"));
    if let Some(schema) = schema.as_object_mut() {
        schema.shift_remove("$schema");
    }
    schema
}

/// Lets the references of a schema lead to `root`, where the schema will stand.
fn rebase(schema: &mut Json, root: &str) {
    match schema {
        Json::Object(members) => {
            for (key, member) in members {
                match member {
                    Json::String(target) if key == "$ref" && target.starts_with('#') => {
                        target.replace_range(..1, root);
                    }
                    member => rebase(member, root),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| rebase(item, root)),
        _ => {}
    }
}

fn take_object(schema: &mut Json, key: &str) -> Map<String, Json> {
    match schema.get_mut(key).map(Json::take) {
        Some(Json::Object(members)) => members,
        _ => Map::new(),
    }
}

fn required(schema: &Json) -> impl Iterator<Item = Json> {
    schema.get("required").and_then(Json::as_array).cloned().unwrap_or_default().into_iter()
}

#[cfg(test)]
mod tests {
    use super::super::kinds_for_tests::registry;
    use super::*;

    /// All references of a schema.
    fn references<'s>(schema: &'s Json, found: &mut Vec<&'s str>) {
        match schema {
            Json::Object(members) => {
                found.extend(members.get("$ref").and_then(Json::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Json::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    fn assert_references_lead_somewhere(schema: &Json) {
        let mut found = Vec::new();
        references(schema, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference within the schema");
            assert!(schema.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn a_node_has_the_settings_of_the_engine_first() {
        let registry = registry();
        let join = registry.find(Role::Processor, "join").expect("is registered");
        let schema = node_schema(join, &registry);
        let properties: Vec<_> =
            schema["properties"].as_object().expect("a struct").keys().map(String::as_str).collect();
        assert_eq!(properties, ["type", "from", "with", "on_error", "max_failed", "renamed_from", "on"]);
        assert_eq!(schema["required"], json!(["type", "from", "with", "on"]));
        assert_eq!(schema["properties"]["type"]["const"], "join");
        assert_references_lead_somewhere(&schema);
    }

    #[test]
    fn references_of_the_whole_schema_lead_somewhere() {
        let schema = flow_schema(&registry());
        assert_references_lead_somewhere(&schema);
        assert_eq!(schema["properties"]["input"]["additionalProperties"]["oneOf"][0]["$ref"], "#/$defs/input.rows");
        assert_eq!(schema["$defs"]["flow"]["properties"]["epoch"]["description"], "Where epochs end.");
    }

    #[test]
    fn for_editors_the_type_of_a_node_says_what_else_it_has_to_be() {
        let schema = editor_schema(&registry());
        assert_references_lead_somewhere(&schema);
        let input = &schema["properties"]["input"]["additionalProperties"];
        assert_eq!(input["oneOf"], Json::Null);
        assert_eq!(input["properties"]["type"]["enum"][0], "rows");
        assert_eq!(input["allOf"][0]["if"]["properties"]["type"]["const"], "rows");
        assert_eq!(input["allOf"][0]["then"]["$ref"], "#/$defs/input.rows");
        let count = |list: &Json| list.as_array().map(Vec::len);
        assert_eq!(count(&input["allOf"]), count(&input["properties"]["type"]["enum"]));
        assert_eq!(input["anyOf"][0]["$ref"], "#/$defs/input.rows");
        assert_eq!(input["anyOf"].as_array().and_then(|one| one.last()), Some(&Json::Bool(true)));
    }

    #[test]
    fn a_file_needs_the_types_that_it_uses() {
        let registry = registry();
        let root = super::super::parse::parse("input.a.type = 'rows'\noutput.b.type = 'nothing'").expect("TOML");
        let schema = file_schema(&root, &registry);
        assert_references_lead_somewhere(&schema);
        assert_eq!(schema["$defs"]["input.rows"], flow_schema(&registry)["$defs"]["input.rows"]);
        let join = schema["$defs"]["processor.join"]["properties"].as_object().expect("a struct");
        assert_eq!(join.keys().collect::<Vec<_>>(), ["type"]);
        assert!(Arc::ptr_eq(&schema, &file_schema(&root, &registry)), "it is made once");
    }

    #[test]
    fn defaults_are_shown() {
        let schema = flow_schema(&registry());
        let shown = |pointer: &str| schema.pointer(&format!("{pointer}/default")).cloned();
        assert_eq!(shown("/$defs/input.rows/properties/batch_rows"), Some(json!(8192)));
        assert_eq!(shown("/$defs/flow/properties/registry"), Some(json!("models")));
        assert_eq!(shown("/$defs/flow/$defs/EpochSettings/properties/interval"), Some(json!("1s")));
        assert_eq!(shown("/$defs/flow/$defs/EdgeSettings/properties/bytes"), Some(json!("16MiB")));
        assert_eq!(shown("/$defs/flow/properties/name"), None);
    }
}
