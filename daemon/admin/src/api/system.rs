//! The daemon itself: whether it lives and is ready, who is signed in, tokens, the audit log, and what describes the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use millstream_core::ResultExt as _;
use millstream_engine::file::Setting;
use millstream_host::{Desired, DiskSpace, MemoryLimit, Process, State as FlowState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::openapi;
use super::parameters::{JsonBody, Limit, Path, Query, Who};
use super::route::{Body, Route};
use super::views::Page;
use crate::problem::{CODES, Code, Problem};
use crate::security::{Arrival, AuditPage, FlowPatterns, NewToken, Principal, Role, Token, require};
use crate::{Admin, Reloaded};

pub fn routes() -> Vec<Route> {
    let text = Some(Body::text("text/plain; charset=utf-8"));
    vec![
        Route::get("/livez", "isAlive", "Whether the daemon answers.", livez).outside().open().gives_body(
            StatusCode::OK,
            "It does.",
            text,
        ),
        Route::get("/readyz", "isReady", "Whether all flows that are to run have begun.", readyz)
            .outside()
            .open()
            .query::<ReadyQuery>()
            .gives::<Ready>(StatusCode::OK, "It is ready.")
            .gives::<Ready>(StatusCode::SERVICE_UNAVAILABLE, "It is not; `reasons` says why."),
        Route::get("/openapi.json", "getOpenApi", "This document.", openapi_document)
            .open()
            .gives::<Value>(StatusCode::OK, "An OpenAPI 3.1 document."),
        Route::get("/problems/{code}", "getProblem", "What a kind of problem means.", problem)
            .outside()
            .open()
            .gives_body(StatusCode::OK, "What it means, and what helps.", text),
        Route::get("/system", "getSystem", "The daemon, and how it is.", system)
            .gives::<SystemView>(StatusCode::OK, "The daemon."),
        Route::get("/system/config", "getConfig", "The settings of the daemon, and where each comes from.", config)
            .role(Role::Operator)
            .gives::<Page<Setting>>(
                StatusCode::OK,
                "Those that have a value. Changes that take a restart of the daemon are not among them.",
            ),
        Route::post(
            "/system/reload",
            "reload",
            "Has the daemon look again at its flows, certificate and settings.",
            reload,
        )
        .role(Role::Admin)
        .gives::<Reloaded>(StatusCode::OK, "What has come of it."),
        Route::get("/session", "getSession", "Who asks.", session).gives::<SessionView>(StatusCode::OK, "Who asks."),
        Route::post("/session", "signIn", "Begins a session of the console with a token.", sign_in)
            .open()
            .takes(Body::json::<SignIn>())
            .gives::<SessionView>(StatusCode::OK, "A session has begun; the cookie is its key."),
        Route::delete("/session", "signOut", "Ends the session.", sign_out).open().gives_body(
            StatusCode::NO_CONTENT,
            "It has ended.",
            None,
        ),
        Route::get("/tokens", "listTokens", "The tokens, without their secrets.", tokens)
            .role(Role::Admin)
            .gives::<Page<Token>>(StatusCode::OK, "The tokens."),
        Route::post("/tokens", "createToken", "Makes a token.", create_token)
            .role(Role::Admin)
            .takes(Body::json::<NewToken>())
            .gives::<CreatedToken>(StatusCode::CREATED, "The token. Its text is told this once."),
        Route::delete("/tokens/{token}", "revokeToken", "Ends a token, and its sessions.", revoke_token)
            .role(Role::Admin)
            .gives_body(StatusCode::NO_CONTENT, "It is of no use any more.", None),
        Route::get("/audit", "listAudit", "Who has done what, the newest first.", audit)
            .role(Role::Admin)
            .query::<AuditQuery>()
            .gives::<AuditPage>(StatusCode::OK, "The entries."),
    ]
}

async fn livez() -> Response {
    plain("alive\n".to_owned())
}

fn plain(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// How strictly it is looked whether the daemon is ready.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ReadyQuery {
    /// Only look at this flow.
    flow: Option<String>,
    /// Whether a flow that has failed counts as not ready.
    strict: bool,
}

/// Whether the daemon is ready.
#[derive(Debug, Serialize, JsonSchema)]
struct Ready {
    /// Whether it is.
    ready: bool,
    /// Why not.
    reasons: Vec<String>,
}

async fn readyz(State(admin): State<Arc<Admin>>, Query(query): Query<ReadyQuery>) -> Response {
    let is_due = |state: FlowState| match state {
        FlowState::Starting | FlowState::Stopped => true,
        FlowState::Failed | FlowState::BackingOff => query.strict,
        FlowState::Running | FlowState::Stopping | FlowState::Finished => false,
    };
    let flows = admin.host.all();
    let asked = flows.iter().filter(|flow| query.flow.as_ref().is_none_or(|name| *name == flow.status.flow));
    let due = asked.filter(|flow| flow.desired == Desired::Running && is_due(flow.status.state));
    let mut reasons: Vec<String> =
        due.map(|flow| format!("flow `{}` is {}", flow.status.flow, flow.status.state)).collect();
    if admin.is_stopping() {
        reasons.push("the daemon is about to end".to_owned());
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready: reasons.is_empty(), reasons })).into_response()
}

async fn openapi_document() -> Json<Value> {
    Json(openapi::document())
}

async fn problem(Path(name): Path<String>) -> Result<Response, Problem> {
    let missing = || Problem::not_found(format!("there is no kind of problem `{name}`"));
    let Code { name, status, meaning, retryable } = CODES.iter().find(|code| code.name == name).ok_or_else(missing)?;
    let later =
        if *retryable { "The same request may be granted later." } else { "The same request is not granted later." };
    Ok(plain(format!("{name} ({status})\n\n{meaning}\n{later}\n")))
}

/// The daemon, and how it is.
#[derive(Debug, Serialize, JsonSchema)]
struct SystemView {
    /// Its version.
    version: &'static str,
    /// Since when it runs.
    started: Timestamp,
    /// How many flows are doing what.
    flows: BTreeMap<FlowState, usize>,
    /// Memory that the daemon holds.
    memory_bytes: Option<u64>,
    /// Memory that it should not exceed: a share of what its control group, or the machine, has.
    memory_budget_bytes: Option<u64>,
    /// The disk with the data.
    disk: Option<DiskView>,
}

/// A disk.
#[derive(Debug, Serialize, JsonSchema)]
struct DiskView {
    /// The folder that is on it.
    path: PathBuf,
    /// How many bytes can still be written.
    free_bytes: u64,
    /// How many it has.
    total_bytes: u64,
}

async fn system(State(admin): State<Arc<Admin>>) -> Json<SystemView> {
    let mut flows = BTreeMap::new();
    admin.host.all().iter().for_each(|flow| *flows.entry(flow.status.state).or_default() += 1);
    let disk = admin.host.disk();
    let disk =
        disk.map(|DiskSpace { folder, free_bytes, total_bytes }| DiskView { path: folder, free_bytes, total_bytes });
    Json(SystemView {
        version: env!("CARGO_PKG_VERSION"),
        started: admin.started,
        flows,
        memory_bytes: Process::look().ok().map(|process| process.resident_bytes),
        memory_budget_bytes: MemoryLimit::find().map(|limit| limit.budget_bytes),
        disk,
    })
}

async fn config(State(admin): State<Arc<Admin>>) -> Json<Page<Setting>> {
    Json(Page { items: admin.surroundings.settings.clone(), next: None })
}

async fn reload(State(admin): State<Arc<Admin>>) -> Result<Json<Reloaded>, Problem> {
    let stopping = || Problem::new(&Code::UNAVAILABLE, "the daemon is not ready yet, or about to end");
    let (answer, told) = oneshot::channel();
    admin.surroundings.reloads.send(answer).await.map_err(|_| stopping())?;
    told.await.map(Json).map_err(|_| stopping())
}

/// Who asks, and what they may do.
#[derive(Debug, Serialize, JsonSchema)]
struct SessionView {
    /// By what they are known.
    who: String,
    /// What they may do.
    role: Role,
    /// With which flows.
    flows: FlowPatterns,
}

impl From<&Principal> for SessionView {
    fn from(principal: &Principal) -> Self {
        Self { who: principal.name.to_string(), role: principal.role, flows: principal.flows.clone() }
    }
}

async fn session(who: Who) -> Result<Json<SessionView>, Problem> {
    Ok(Json(require(who.principal(), Role::Viewer, None)?.into()))
}

/// A token to sign in with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    /// The token.
    token: String,
}

async fn sign_in(
    State(admin): State<Arc<Admin>>,
    axum::Extension(arrival): axum::Extension<Arc<Arrival>>,
    JsonBody(asked): JsonBody<SignIn>,
) -> Result<Response, Problem> {
    let (principal, cookie) = admin.gate.sign_in(&arrival, &asked.token)?;
    Ok(([(header::SET_COOKIE, cookie)], Json(SessionView::from(&principal))).into_response())
}

async fn sign_out(
    State(admin): State<Arc<Admin>>,
    axum::Extension(arrival): axum::Extension<Arc<Arrival>>,
    parts: Parts,
) -> Response {
    let cookie = admin.gate.sign_out(&arrival, &parts);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

async fn tokens(State(admin): State<Arc<Admin>>) -> Result<Json<Page<Token>>, Problem> {
    Ok(Json(Page { items: admin.gate.tokens.list()?, next: None }))
}

/// A token that was made.
#[derive(Debug, Serialize, JsonSchema)]
struct CreatedToken {
    /// What is kept of it.
    #[serde(flatten)]
    token: Token,
    /// Its text, which is told this once.
    secret: String,
}

async fn create_token(State(admin): State<Arc<Admin>>, JsonBody(new): JsonBody<NewToken>) -> Result<Response, Problem> {
    let made = spawn_blocking(move || admin.gate.tokens.create(new, Utc::now()));
    let (token, secret) = made.await.doing(|| "making a token")??;
    let created = CreatedToken { token, secret: secret.reveal() };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

async fn revoke_token(State(admin): State<Arc<Admin>>, Path(token): Path<String>) -> Result<StatusCode, Problem> {
    let id = token.clone();
    let revoked = spawn_blocking(move || admin.gate.revoke(&id)).await.doing(|| "revoking a token")??;
    let missing = || Problem::not_found(format!("there is no token `{token}`"));
    revoked.then_some(StatusCode::NO_CONTENT).ok_or_else(missing)
}

/// Which entries are listed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AuditQuery {
    /// Only those before the entry of this number.
    cursor: Option<u64>,
    /// How many at most. By default 100.
    limit: Option<Limit>,
}

async fn audit(State(admin): State<Arc<Admin>>, Query(query): Query<AuditQuery>) -> Result<Json<AuditPage>, Problem> {
    let limit = query.limit.map_or(100, |limit| limit.0 as usize);
    let page =
        spawn_blocking(move || admin.gate.audit.page(query.cursor, limit)).await.doing(|| "reading the audit log");
    Ok(Json(page??))
}
