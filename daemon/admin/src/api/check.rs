//! Flows that are only looked at, and what they can be made of.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use millstream_engine::outline::Outline;
use millstream_host::FlowSource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::flows::TOML;
use super::parameters::{FlowText, Path, Query};
use super::route::{Body, Route};
use super::views::Page;
use crate::Admin;
use crate::problem::Problem;
use crate::security::Role;

pub fn routes() -> Vec<Route> {
    vec![
        // A check reads the files and variables that a flow names, as running it would.
        Route::post("/check", "checkFlow", "Checks a flow, as `millstream check` does. Nothing is changed.", check)
            .role(Role::Operator)
            .not_audited()
            .query::<CheckQuery>()
            .takes(Body::text(TOML))
            .gives::<Outline>(StatusCode::OK, "Nothing is wrong with it."),
        Route::get("/node_types", "listNodeTypes", "The types of nodes that flows are made of.", list)
            .gives::<Page<NodeType>>(StatusCode::OK, "The types."),
        Route::get("/node_types/{type}", "getNodeType", "A type of node.", get)
            .gives::<NodeType>(StatusCode::OK, "The type, with its page and the JSON schema of its settings."),
    ]
}

/// A type of node. In lists it is without its pages.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodeType {
    /// What `type` says.
    pub name: String,
    /// What it can be: `input`, `processor`, `output`.
    pub roles: Vec<String>,
    /// What it is for, in a sentence.
    pub summary: String,
    /// Its pages of the reference, in Markdown, by role.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub docs: Vec<String>,
    /// The JSON schemas of its settings, by role.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<Value>,
}

/// As what a flow is checked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct CheckQuery {
    /// The name of the flow, if the text has none.
    name: Option<String>,
}

async fn check(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<CheckQuery>,
    FlowText(text): FlowText,
) -> Result<Json<Outline>, Problem> {
    let path = admin.flow_path(query.name.as_deref().unwrap_or("flow"))?;
    Ok(Json(admin.host.check(FlowSource { path, text: text.into() }).await?))
}

async fn list(State(admin): State<Arc<Admin>>) -> Json<Page<NodeType>> {
    let short = |known: &NodeType| NodeType { docs: Vec::new(), schemas: Vec::new(), ..known.clone() };
    Json(Page { items: admin.node_types().iter().map(short).collect(), next: None })
}

async fn get(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Result<Json<NodeType>, Problem> {
    let found = admin.node_types().iter().find(|known| known.name == name).cloned();
    found.map(Json).ok_or_else(|| Problem::not_found(format!("there is no type of node `{name}`")))
}
