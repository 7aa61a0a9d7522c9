//! The Open Inference Protocol, version 2, as Triton's and KServe's clients speak it.

mod answer;
mod describe;
mod repository;
mod request;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Access, Route, Serving, body};
use crate::refusal::Refusal;
use answer::Wanted;
use request::{HEADER_LENGTH, Request, RequestJson};

pub fn routes() -> Vec<Route> {
    use Access::{Look, Manage, Open, Predict};
    vec![
        Route::get("/v2", Open, "The server, and what it can.", describe::server),
        Route::get("/v2/", Open, "The server, and what it can.", describe::server),
        Route::get("/v2/health/live", Open, "Whether the server answers.", live),
        Route::get("/v2/health/ready", Open, "Whether the models are served.", ready),
        Route::get("/v2/models", Predict, "The models that are served.", models),
        Route::get("/v2/models/stats", Predict, "What the versions have done.", describe::all_statistics),
        Route::get("/v2/models/{model}", Predict, "The columns of a model.", describe::model),
        Route::get("/v2/models/{model}/versions/{version}", Predict, "The columns of a version.", describe::version),
        Route::get("/v2/models/{model}/ready", Predict, "Whether a model is served.", model_ready),
        Route::get(
            "/v2/models/{model}/versions/{version}/ready",
            Predict,
            "Whether a version is served.",
            version_ready,
        ),
        Route::get("/v2/models/{model}/config", Predict, "A model, as Triton describes one.", describe::config),
        Route::get(
            "/v2/models/{model}/versions/{version}/config",
            Predict,
            "A version, as Triton describes one.",
            describe::version_config,
        ),
        Route::get(
            "/v2/models/{model}/stats",
            Predict,
            "What the versions of a model have done.",
            describe::statistics,
        ),
        Route::get(
            "/v2/models/{model}/versions/{version}/stats",
            Predict,
            "What a version has done.",
            describe::version_statistics,
        ),
        Route::post("/v2/models/{model}/infer", Predict, "Predicts rows.", infer).taking::<RequestJson>(),
        Route::post("/v2/models/{model}/versions/{version}/infer", Predict, "Predicts rows by a version.", infer_by)
            .taking::<RequestJson>(),
        Route::post("/v2/repository/index", Look, "The models of the registry.", repository::index),
        Route::post("/v2/repository/models/{model}/load", Manage, "Serves a model from now on.", repository::load),
        Route::post("/v2/repository/models/{model}/unload", Manage, "Serves a model no more.", repository::unload),
    ]
}

pub async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

pub async fn ready(State(serving): State<Arc<Serving>>) -> Response {
    let ready = serving.repository.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "live": true }))).into_response()
}

async fn models(State(serving): State<Arc<Serving>>) -> Json<Value> {
    Json(json!({ "models": serving.repository.names() }))
}

async fn model_ready(State(serving): State<Arc<Serving>>, Path(model): Path<String>) -> Result<Json<Value>, Failure> {
    is_ready(&serving, &model, None).await
}

async fn version_ready(
    State(serving): State<Arc<Serving>>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    is_ready(&serving, &model, Some(&version)).await
}

async fn is_ready(serving: &Serving, model: &str, version: Option<&str>) -> Result<Json<Value>, Failure> {
    serving.repository.resolve(model, version).await?;
    Ok(Json(json!({ "name": model, "ready": true })))
}

async fn infer(
    State(serving): State<Arc<Serving>>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    predict(&serving, &model, None, &headers, body).await
}

async fn infer_by(
    State(serving): State<Arc<Serving>>,
    Path((model, version)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    predict(&serving, &model, Some(&version), &headers, body).await
}

async fn predict(
    serving: &Serving,
    model: &str,
    version: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let served = serving.choose(model, version, headers).await?;
    let (bytes, _share) = body::read(headers, body, serving).await?;
    let request = Request::read(headers.get(HEADER_LENGTH), bytes, &served)?;
    let wanted = Wanted::of(&request.head, &served)?;
    let Request { head, tensors } = request;
    let id = head.id.as_deref();
    let answered = served.answer(
        |served| served.rows_of_tensors(tensors),
        |served, tensors, ids| wanted.write(served, id, ids, tensors),
    );
    Ok(answered.await?)
}

/// A refusal as the protocol says it.
#[derive(Debug)]
pub struct Failure(Refusal);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({ "error": self.0.message }))).into_response()
    }
}
