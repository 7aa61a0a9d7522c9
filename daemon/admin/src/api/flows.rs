//! Flows: what there is, what is wanted of them, and their texts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream_core::ResultExt as _;
use millstream_engine::outline::Outline;
use millstream_engine::stats::StatsSnapshot;
use millstream_host::{
    Applied, Change, Expected, Flow, FlowDiff, FlowSource, HostError, Operation, Owner, Revision, State as FlowState,
    Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::operations::answer;
use super::parameters::{
    Asked, Caller, FlowText, IF_MATCH, IF_NONE_MATCH, Limit, Number, OperationRequest, PREFER, Path, Query,
    RollbackRequest, Seconds, StopRequest, Who, asked_by, expected, wait,
};
use super::route::{Body, Route};
use super::views::{ChangeView, FlowView, Page};
use crate::Admin;
use crate::problem::{Code, Problem};

/// The type of a flow.
pub const TOML: &str = "application/toml";

pub fn routes() -> Vec<Route> {
    let done = "It has come to its end within the time of `Prefer: wait=`.";
    let begun = "It is under way; `Location` says where to look.";
    let act = |route: Route| {
        let route = if route.request.is_none() { route.takes(Body::json::<OperationRequest>()) } else { route };
        let route = route.headers(&[&PREFER]);
        route.gives::<Operation>(StatusCode::OK, done).gives::<Operation>(StatusCode::ACCEPTED, begun)
    };
    vec![
        Route::get("/flows", "listFlows", "All flows, by name.", list)
            .query::<ListQuery>()
            .gives::<Page<FlowView>>(StatusCode::OK, "The flows."),
        Route::get("/flows/{flow}", "getFlow", "A flow.", get).gives::<FlowView>(StatusCode::OK, "The flow."),
        Route::put("/flows/{flow}", "putFlow", "Lets a flow be as a text says, or says what that would do.", put)
            .query::<PutQuery>()
            .headers(&[&IF_MATCH, &IF_NONE_MATCH, &PREFER])
            .takes(Body::text(TOML))
            .gives::<ChangeView>(StatusCode::OK, "The flow is changed, or this is what would be done.")
            .gives::<ChangeView>(StatusCode::CREATED, "The flow is new."),
        act(Route::delete(
            "/flows/{flow}",
            "deleteFlow",
            "Takes a flow away when it has stopped. Its state stays.",
            delete,
        )),
        Route::get("/flows/{flow}/source", "getFlowSource", "The text that is wanted.", source).gives_body(
            StatusCode::OK,
            "The text.",
            Some(Body::text(TOML)),
        ),
        Route::get("/flows/{flow}/graph", "getFlowGraph", "The nodes of a flow, their columns, and the edges.", graph)
            .gives::<Outline>(StatusCode::OK, "The graph of the text that runs."),
        Route::get("/flows/{flow}/stats", "getFlowStats", "What a flow counts.", stats)
            .gives::<StatsSnapshot>(StatusCode::OK, "The counters now."),
        Route::get("/flows/{flow}/revisions", "listRevisions", "The texts of a flow, the newest first.", revisions)
            .gives::<Page<RevisionView>>(StatusCode::OK, "The texts."),
        Route::get("/flows/{flow}/revisions/{revision}", "getRevision", "A text of a flow.", revision).gives_body(
            StatusCode::OK,
            "The text.",
            Some(Body::text(TOML)),
        ),
        Route::get("/flows/{flow}/revisions/{revision}/diff", "diffRevision", "In what two texts differ.", diff)
            .query::<DiffQuery>()
            .gives::<DiffView>(StatusCode::OK, "The differences."),
        act(Route::post("/flows/{flow}/start", "startFlow", "Lets a flow run.", start)),
        act(Route::post("/flows/{flow}/stop", "stopFlow", "Lets a flow stop at a checkpoint.", stop)
            .takes(Body::json::<StopRequest>())),
        act(Route::post(
            "/flows/{flow}/drain",
            "drainFlow",
            "Lets a flow stop when all that it has read is out and visible.",
            drain,
        )),
        Route::post(
            "/flows/{flow}/pause",
            "pauseFlow",
            "Holds the inputs of a flow; what they have read goes on.",
            pause,
        )
        .gives::<FlowView>(StatusCode::OK, "The flow."),
        Route::post("/flows/{flow}/resume", "resumeFlow", "Lets the inputs of a flow go on that was paused.", resume)
            .gives::<FlowView>(StatusCode::OK, "The flow."),
        act(Route::post("/flows/{flow}/checkpoint", "takeCheckpoint", "Lets a flow take a checkpoint.", checkpoint)),
        act(Route::post("/flows/{flow}/rollback", "rollBackFlow", "Lets a flow run from an earlier text.", roll_back)
            .takes(Body::json::<RollbackRequest>())),
    ]
}

/// Which flows are listed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    /// Only those that are doing this.
    state: Option<FlowState>,
    /// Only those whose names contain this.
    q: Option<String>,
    /// How many at most. By default 100.
    limit: Option<Limit>,
    /// Only those behind this name.
    cursor: Option<String>,
}

async fn list(State(admin): State<Arc<Admin>>, Query(query): Query<ListQuery>, who: Who) -> Json<Page<FlowView>> {
    let limit = query.limit.map_or(100, |limit| limit.0 as usize);
    let is_listed = |flow: &Flow| {
        let name = &flow.status.flow;
        who.may_see(name)
            && query.state.is_none_or(|state| flow.status.state == state)
            && query.q.as_ref().is_none_or(|part| name.contains(part.as_str()))
            && query.cursor.as_ref().is_none_or(|cursor| name > cursor)
    };
    let mut flows = admin.host.all().into_iter().filter(is_listed);
    let items: Vec<FlowView> = flows.by_ref().take(limit).map(FlowView::from).collect();
    let next = flows.next().and_then(|_| Some(items.last()?.name.clone()));
    Json(Page { items, next })
}

async fn get(State(admin): State<Arc<Admin>>, Path(flow): Path<String>) -> Result<Response, Problem> {
    let view = FlowView::from(find(&admin, &flow)?);
    let tag = tag(view.revision);
    Ok(([(header::ETAG, tag)], Json(view)).into_response())
}

pub(super) fn find(admin: &Admin, flow: &str) -> Result<Flow, Problem> {
    Ok(admin.host.flow(flow).ok_or_else(|| HostError::NoFlow(flow.to_owned()))?)
}

fn tag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// What is done with a text.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PutQuery {
    /// Only say what would be done.
    dry_run: bool,
    /// Only do what was said to be done: the `plan` of a dry run.
    plan: Option<String>,
    /// What the change is for.
    message: Option<String>,
    /// Whether a flow that is new is to run. By default it is. One that is there stays as it was wanted.
    start: Option<bool>,
    /// How many seconds the change may take. By default 60.
    deadline_s: Option<Seconds>,
    /// The nodes that start from scratch with the new text, with commas between: what they remember is lost. A change that would lose it
    /// otherwise is refused.
    reset: Option<String>,
}

async fn put(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
    Query(query): Query<PutQuery>,
    caller: Caller,
    headers: HeaderMap,
    FlowText(text): FlowText,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let source = FlowSource { path: admin.flow_path(&flow)?, text: text.into() };
    let names = query.reset.iter().flat_map(|names| names.split(',')).map(|name| name.trim().to_owned());
    let resets: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    let view = plan(&admin, &flow, &source, &resets, expected).await?;
    if query.dry_run {
        return Ok(Json(view).into_response());
    }
    if query.plan.is_some_and(|agreed| agreed != view.plan) {
        return Err(Problem::new(&Code::PLAN_STALE, Code::PLAN_STALE.meaning));
    }
    let (message, start) = (query.message, query.start.unwrap_or(true));
    let change = Change { source, owner: Owner::Api, expected, message, start, again: false, resets };
    let request = asked_by(caller, query.deadline_s);
    let Applied { revision, former, mut operation } = admin.host.apply(&flow, change, request).await?;
    settle(&mut operation, &headers).await;
    let number = operation.borrow().id;
    let view = ChangeView { revision: Some(revision), operation: Some(number), ..view };
    let status = if former.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, [(header::ETAG, tag(revision))], Json(view)).into_response())
}

/// Waits as long as somebody is ready to wait.
async fn settle(operation: &mut watch::Receiver<Operation>, headers: &HeaderMap) {
    let ended = operation.wait_for(|operation| !operation.is_running());
    // What is not done by then is said to be under way.
    let _ = tokio::time::timeout(wait(headers), ended).await;
}

/// What a text would do to a flow.
async fn plan(
    admin: &Admin,
    flow: &str,
    source: &FlowSource,
    resets: &[String],
    expected: Expected,
) -> Result<ChangeView, Problem> {
    let outline = admin.host.check_with_resets(source.clone(), resets.to_vec()).await?;
    if outline.flow != flow {
        let named = outline.flow;
        return Err(Problem::bad_request(format!("the text is of the flow `{named}`, and the path of `{flow}`")));
    }
    let former = admin.host.flow(flow);
    let base = former.as_ref().map(|former| former.revision);
    let is_expected = match expected {
        Expected::Any => true,
        Expected::Absent => base.is_none(),
        Expected::Revision(revision) => base == Some(revision),
    };
    if !is_expected {
        return Err(HostError::Outdated { flow: flow.to_owned(), revision: base.unwrap_or_default() }.into());
    }
    let text = match base {
        Some(base) => text_of(admin, flow, base).await?.text,
        None => String::new(),
    };
    let diff = FlowDiff::between(&text, &source.text);
    let described = serde_json::json!([base, &*source.text, outline, resets]);
    let plan = format!("blake3:{}", blake3::hash(described.to_string().as_bytes()).to_hex());
    Ok(ChangeView { plan, base, revision: None, diff, warnings: outline.warnings, operation: None })
}

async fn delete(State(admin): State<Arc<Admin>>, asked: Asked) -> Result<Response, Problem> {
    let operation = admin.host.remove(&asked.flow, &Owner::Api, asked.request).await?;
    Ok(answer(operation, asked.wait).await)
}

async fn text_of(admin: &Admin, flow: &str, revision: u64) -> Result<Revision, Problem> {
    let (store, name) = (admin.host.store().clone(), flow.to_owned());
    let found =
        spawn_blocking(move || store.revision(&name, revision)).await.doing(|| "reading a text of a flow")??;
    Ok(found.ok_or(HostError::NoRevision { flow: flow.to_owned(), revision })?)
}

fn toml(text: String) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(TOML))], text).into_response()
}

async fn source(State(admin): State<Arc<Admin>>, Path(flow): Path<String>) -> Result<Response, Problem> {
    let revision = find(&admin, &flow)?.revision;
    Ok(toml(text_of(&admin, &flow, revision).await?.text))
}

async fn graph(State(admin): State<Arc<Admin>>, Path(flow): Path<String>) -> Result<Json<Outline>, Problem> {
    Ok(Json((*outline(&admin, &flow).await?).clone()))
}

/// The nodes of a flow, and the edges between them.
pub(super) async fn outline(admin: &Admin, flow: &str) -> Result<Arc<Outline>, Problem> {
    let found = find(admin, flow)?;
    if let Some(outline) = found.status.outline {
        return Ok(outline);
    }
    // It has not run yet: what it would be.
    let source = text_of(admin, flow, found.revision).await?.source();
    Ok(Arc::new(admin.host.check(source).await?))
}

async fn stats(State(admin): State<Arc<Admin>>, Path(flow): Path<String>) -> Result<Json<StatsSnapshot>, Problem> {
    let status = find(&admin, &flow)?.status;
    let never = || Problem::new(&Code::NOT_RUNNING, format!("the flow `{flow}` has not run yet"));
    Ok(Json(status.stats.ok_or_else(never)?.snapshot()))
}

/// A text of a flow, without the text.
#[derive(Debug, Serialize, JsonSchema)]
struct RevisionView {
    /// Its number.
    number: u64,
    /// Since when it is there.
    at: Timestamp,
    /// Who has written it.
    author: String,
    /// What for.
    message: Option<String>,
}

async fn revisions(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
) -> Result<Json<Page<RevisionView>>, Problem> {
    let (store, name) = (admin.host.store().clone(), flow.clone());
    let kept = spawn_blocking(move || store.revisions(&name)).await.doing(|| "reading the texts of a flow")??;
    if kept.is_empty() {
        return Err(HostError::NoFlow(flow).into());
    }
    let seen = |Revision { number, at, author, message, .. }| RevisionView { number, at, author, message };
    Ok(Json(Page { items: kept.into_iter().map(seen).collect(), next: None }))
}

async fn revision(
    State(admin): State<Arc<Admin>>,
    Path((flow, revision)): Path<(String, u64)>,
) -> Result<Response, Problem> {
    Ok(toml(text_of(&admin, &flow, revision).await?.text))
}

/// With what a text is compared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct DiffQuery {
    /// The other text. By default the one before.
    from: Option<Number>,
}

/// In what two texts differ.
#[derive(Debug, Serialize, JsonSchema)]
struct DiffView {
    /// Line by line, as a unified diff.
    text: String,
    /// Node by node.
    #[serde(flatten)]
    diff: FlowDiff,
}

async fn diff(
    State(admin): State<Arc<Admin>>,
    Path((flow, revision)): Path<(String, u64)>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<DiffView>, Problem> {
    let now = text_of(&admin, &flow, revision).await?.text;
    let from = query.from.map_or(revision.saturating_sub(1), |from| from.0);
    let before = if from == 0 { String::new() } else { text_of(&admin, &flow, from).await?.text };
    let (old, new) = (format!("{flow} {from}"), format!("{flow} {revision}"));
    let text = TextDiff::from_lines(&before, &now).unified_diff().header(&old, &new).to_string();
    Ok(Json(DiffView { text, diff: FlowDiff::between(&before, &now) }))
}

async fn start(State(admin): State<Arc<Admin>>, asked: Asked) -> Result<Response, Problem> {
    let operation = admin.host.start(&asked.flow, asked.request).await?;
    Ok(answer(operation, asked.wait).await)
}

async fn stop(State(admin): State<Arc<Admin>>, asked: Asked<StopRequest>) -> Result<Response, Problem> {
    let operation = admin.host.stop(&asked.flow, asked.details.force, asked.request).await?;
    Ok(answer(operation, asked.wait).await)
}

async fn drain(State(admin): State<Arc<Admin>>, asked: Asked) -> Result<Response, Problem> {
    let operation = admin.host.drain(&asked.flow, asked.request).await?;
    Ok(answer(operation, asked.wait).await)
}

async fn pause(State(admin): State<Arc<Admin>>, Path(flow): Path<String>) -> Result<Json<FlowView>, Problem> {
    admin.host.pause(&flow);
    Ok(Json(find(&admin, &flow)?.into()))
}

async fn resume(State(admin): State<Arc<Admin>>, Path(flow): Path<String>) -> Result<Json<FlowView>, Problem> {
    admin.host.unpause(&flow);
    Ok(Json(find(&admin, &flow)?.into()))
}

async fn checkpoint(State(admin): State<Arc<Admin>>, asked: Asked) -> Result<Response, Problem> {
    let operation = admin.host.checkpoint(&asked.flow, asked.request).await?;
    Ok(answer(operation, asked.wait).await)
}

async fn roll_back(State(admin): State<Arc<Admin>>, asked: Asked<RollbackRequest>) -> Result<Response, Problem> {
    let applied = admin.host.roll_back(&asked.flow, asked.details.to.0, asked.request).await?;
    Ok(answer(applied.operation, asked.wait).await)
}
