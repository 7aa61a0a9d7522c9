//! The OpenAPI 3.1 document, out of the table of routes.

use schemars::generate::SchemaSettings;
use schemars::transform::Transform as _;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::plain::Plain;
use super::route::{Answer, Body, Describe, Header, Route};
use super::routes;
use crate::problem::ProblemBody;

/// Where the types of bodies are described.
const DEFINITIONS: &str = "/components/schemas";

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = DEFINITIONS.into());
    let settings = settings.with_transform(Plain);
    // What may be left out of a request is there in an answer, and what an answer leaves out can't be asked for.
    let mut taken = settings.clone().for_deserialize().into_generator();
    let mut given = settings.for_serialize().into_generator();
    let problem = given.subschema_for::<ProblemBody>();
    let mut paths = Map::new();
    for route in routes() {
        let operation = operation(&route, &problem, &mut taken, &mut given);
        let path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    let mut schemas = taken.take_definitions(true);
    schemas.extend(given.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millstream",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "The administration of a daemon that keeps flows running.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": "__Host-millstream" },
            },
        },
    })
}

fn operation(route: &Route, problem: &Schema, taken: &mut SchemaGenerator, given: &mut SchemaGenerator) -> Value {
    let mut parameters = path_parameters(&route.path);
    parameters.extend(route.query.map(|describe| query_parameters(describe())).unwrap_or_default());
    parameters.extend(route.headers.iter().map(|header| header_parameter(header)));
    let mut responses: Map<String, Value> =
        route.answers.iter().map(|answer| (answer.status.as_u16().to_string(), response(answer, given))).collect();
    responses.insert(
        "default".to_owned(),
        json!({ "description": "It was not done.", "content": { "application/problem+json": { "schema": problem } } }),
    );
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
        "security": route.role.map_or_else(|| json!([{}]), |_| json!([{ "token": [] }, { "session": [] }])),
    });
    if let Some(role) = route.role {
        operation["x-role"] = json!(role.name());
    }
    if let Some(body) = &route.request {
        operation["requestBody"] = json!({ "content": content(body, taken) });
    }
    operation
}

/// What differs in a path.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name: &str| {
        let kind = if matches!(name, "checkpoint" | "operation" | "revision") { "integer" } else { "string" };
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
    };
    names.map(parameter).collect()
}

/// What stands behind `?`.
fn query_parameters(mut schema: Schema) -> Vec<Value> {
    Plain.transform(&mut schema);
    let properties = schema.get("properties").and_then(Value::as_object);
    let definitions = schema.get("$defs");
    let required = schema.get("required").and_then(Value::as_array);
    let parameter = |(name, described): (&String, &Value)| {
        let mut described = inlined(described, definitions);
        let description = described.as_object_mut().and_then(|schema| schema.remove("description"));
        let required = required.is_some_and(|required| required.iter().any(|known| known == name));
        json!({ "name": name, "in": "query", "required": required, "description": description, "schema": described })
    };
    properties.into_iter().flatten().map(parameter).collect()
}

/// What a header says.
fn header_parameter(header: &Header) -> Value {
    let Header { name, meaning, example } = header;
    let schema = json!({ "type": "string", "examples": [example] });
    json!({ "name": name, "in": "header", "required": false, "description": meaning, "schema": schema })
}

/// A schema with what it refers to in its place.
fn inlined(schema: &Value, definitions: Option<&Value>) -> Value {
    match schema {
        Value::Object(schema) => {
            let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/$defs/"));
            if let Some(found) = target.and_then(|name| definitions?.get(name)) {
                return inlined(found, definitions);
            }
            schema.iter().map(|(key, value)| (key.clone(), inlined(value, definitions))).collect()
        }
        Value::Array(items) => items.iter().map(|item| inlined(item, definitions)).collect(),
        other => other.clone(),
    }
}

fn response(answer: &Answer, generator: &mut SchemaGenerator) -> Value {
    let mut response = json!({ "description": answer.meaning });
    if let Some(body) = &answer.body {
        response["content"] = content(body, generator);
    }
    response
}

fn content(body: &Body, generator: &mut SchemaGenerator) -> Value {
    let described = |describe: Describe| {
        let mut schema = describe(generator);
        Plain.transform(&mut schema);
        schema.to_value()
    };
    let schema = body.describe.map_or_else(|| json!({ "type": "string" }), described);
    let mut content = Map::new();
    content.insert(body.content_type.to_owned(), json!({ "schema": schema }));
    Value::Object(content)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_has_a_name_of_its_own_and_good_answers() {
        let routes = routes();
        let names: BTreeSet<_> = routes.iter().map(|route| route.name).collect();
        assert_eq!(names.len(), routes.len());
        for route in &routes {
            assert!(!route.answers.is_empty() && route.summary.ends_with('.'), "{} {}", route.method, route.path);
        }
    }

    /// All places in the document that refer to another one.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn all_references_of_the_document_lead_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let put = &document["paths"]["/api/v1/flows/{flow}"]["put"];
        assert_eq!(put["x-role"], "operator");
        let headers = put["parameters"].as_array().unwrap().iter().filter(|parameter| parameter["in"] == "header");
        let names: Vec<_> = headers.map(|header| header["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["If-Match", "If-None-Match", "Prefer"]);
    }
}
