//! KServe's first protocol.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::v2::Failure;
use super::{Access, Route, Serving, body, said_of, table};
use crate::refusal::Refusal;

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/", Access::Open, "Whether the server answers.", alive),
        Route::get("/v1/models", Access::Predict, "The models that are served.", models),
        Route::get("/v1/models/{model}", Access::Predict, "Whether a model is served.", ready),
        // `{model}:predict` is no pattern of the router's: what is behind the colon is looked at here.
        Route::post("/v1/models/{model}", Access::Predict, "Predicts rows: `/v1/models/NAME:predict`.", predict)
            .taking::<Request>(),
    ]
}

async fn alive() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

async fn models(State(serving): State<Arc<Serving>>) -> Json<Value> {
    Json(json!({ "models": serving.repository.names() }))
}

async fn ready(State(serving): State<Arc<Serving>>, Path(model): Path<String>) -> Result<Json<Value>, Failure> {
    serving.repository.resolve(&model, None).await?;
    Ok(Json(json!({ "name": model, "ready": true })))
}

/// Rows that are to be predicted.
#[derive(Debug, Deserialize, JsonSchema)]
struct Request {
    /// Objects by the names of the features, or lists in their order.
    instances: Vec<Value>,
}

async fn predict(
    State(serving): State<Arc<Serving>>,
    Path(verb): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Failure> {
    let model = verb.strip_suffix(":predict");
    let model = model.ok_or_else(|| Refusal::not_found("what a model can do here is `/v1/models/NAME:predict`"))?;
    let (bytes, _share) = body::read(&headers, body, &serving).await?;
    let served = serving.choose(model, None, &headers).await?;
    let request: Request = body::json(&bytes)?;
    let predictions = served.answer(
        |served| table::of_rows(served, "instances", &request.instances),
        |served, tensors, ids| Ok((said_of(served, ids), table::values(served, &tensors))),
    );
    let (said, predictions) = predictions.await?;
    Ok((said, Json(json!({ "predictions": predictions }))))
}
