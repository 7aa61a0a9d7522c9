//! The OpenAPI 3.1 document of the routes over REST, out of the table of routes.

use axum::Json;
use axum::http::Method;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::{Access, Route, routes as all_routes};

/// Where the document is.
pub const OPENAPI: &str = "/api/v1/openapi.json";

pub fn routes() -> Vec<Route> {
    vec![Route::get(OPENAPI, Access::Open, "This document.", async || Json(document()))]
}

/// The document. gRPC is not in it, nor what is the same with a slash behind.
pub fn document() -> Value {
    let mut paths = Map::new();
    let is_described = |route: &Route| !is_grpc(route.path) && (route.path == "/" || !route.path.ends_with('/'));
    for route in all_routes().iter().filter(|route| is_described(route)) {
        let path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millstream: models that are served",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "The Open Inference Protocol, KServe's first protocol, MLflow's scoring and registry, and rows as JSON.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Error": error("error"),
                "MlflowError": error("message"),
                "Problem": error("detail"),
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// Methods of gRPC lie below the name of a service, which has dots.
fn is_grpc(path: &str) -> bool {
    path.split('/').nth(1).is_some_and(|service| service.matches('.').count() > 0)
}

fn operation(route: &Route) -> Value {
    let (kind, schema) = refusal(route.path);
    let mut operation = json!({
        "operationId": name(route),
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": {
            "200": { "description": "It was done.", "content": answer(route.path) },
            "default": {
                "description": "It was not done.",
                "content": { kind: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } },
            },
        },
        "security": if route.access == Access::Open { json!([{}]) } else { json!([{ "token": [] }]) },
    });
    if let Some(role) = match route.access {
        Access::Open => None,
        Access::Predict | Access::Look => Some("viewer"),
        Access::Learn | Access::Manage => Some("operator"),
    } {
        operation["x-role"] = json!(role);
    }
    if route.method != Method::GET {
        operation["requestBody"] = json!({ "content": body(route) });
    }
    operation
}

/// `post_v2_models_model_infer`
fn name(route: &Route) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { ' ' };
    let words: String =
        format!("{} {}", route.method.as_str().to_ascii_lowercase(), route.path).chars().map(plain).collect();
    words.split_whitespace().collect::<Vec<_>>().join("_")
}

/// What differs in the path, and what stands behind `?`.
fn parameters(route: &Route) -> Vec<Value> {
    let parameter =
        |name: &str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| parameter(name.trim_start_matches('*')));
    let query = route.query.map(|describe| describe().to_value()).unwrap_or_default();
    let asked = query["properties"].as_object().cloned().unwrap_or_default();
    let in_query = asked.into_iter().map(|(name, schema)| {
        let description = schema["description"].clone();
        json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
    });
    in_path.chain(in_query).collect()
}

/// What a type is as JSON, with all that belongs to it in its place.
pub fn schema<T: JsonSchema>() -> Schema {
    let whole = |settings: &mut SchemaSettings| (settings.inline_subschemas, settings.meta_schema) = (true, None);
    SchemaSettings::draft2020_12().with(whole).into_generator().into_root_schema_for::<T>()
}

/// What is sent: what the route says, else an object.
fn body(route: &Route) -> Value {
    match &route.body {
        _ if route.method == Method::PUT => json!({ "application/octet-stream": {} }),
        Some(describe) => json!({ "application/json": { "schema": describe() } }),
        None => json!({ "application/json": { "schema": { "type": "object" } } }),
    }
}

/// What is answered: words, a file, or an object of the protocol.
fn answer(path: &str) -> Value {
    match path {
        "/ping" | "/health" | "/version" => json!({ "text/plain": { "schema": { "type": "string" } } }),
        file if file.contains("{*") => json!({ "application/octet-stream": {} }),
        _ => json!({ "application/json": {} }),
    }
}

/// What a refusal is, as the protocol of a path says it.
fn refusal(path: &str) -> (&'static str, &'static str) {
    match path {
        mlflow if mlflow == "/invocations" || mlflow.starts_with("/api/2.0/") => ("application/json", "MlflowError"),
        own if own.starts_with("/api/") => ("application/problem+json", "Problem"),
        _ => ("application/json", "Error"),
    }
}

/// An object that says in words what is wrong.
fn error(field: &str) -> Value {
    json!({ "type": "object", "required": [field], "properties": { field: { "type": "string" } } })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_over_rest_is_described_and_has_a_name_of_its_own() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let operations: Vec<_> = paths.values().flat_map(|path| path.as_object().unwrap().values()).collect();
        let names: BTreeSet<_> =
            operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(names.len(), operations.len());
        let routes = all_routes();
        let left_out = routes.iter().filter(|route| is_grpc(route.path) || route.path == "/v2/").count();
        assert_eq!(operations.len(), routes.len() - left_out);
        let infer = &document["paths"]["/v2/models/{model}/versions/{version}/infer"]["post"];
        assert_eq!(infer["operationId"], "post_v2_models_model_versions_version_infer");
        let parameters: Vec<_> = infer["parameters"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(parameters, ["model", "version"]);
        assert_eq!(infer["requestBody"]["content"]["application/json"]["schema"]["required"], json!(["inputs"]));
        assert_eq!((&infer["x-role"], &document["paths"]["/ping"]["get"]["x-role"]), (&json!("viewer"), &Value::Null));
        let upload = &document["paths"]["/api/2.0/mlflow-artifacts/artifacts/{path}"]["put"];
        assert_eq!((&upload["x-role"], &upload["parameters"][0]["name"]), (&json!("operator"), &json!("path")));
        let predict = &document["paths"]["/api/v1/models/{model}/predict"]["post"];
        assert_eq!(predict["parameters"][1]["name"], "version");
        assert!(names.iter().all(|name| !name.contains("grpc")));
    }
}
