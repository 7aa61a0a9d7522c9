//! Rows as JSON objects, in and out, and what became of them: `POST /api/v1/models/NAME/predict` and `…/learn`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use millstream_models::profile::InputFigures;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::words::in_words;
use super::{Access, Route, Serving, body, table, v2};
use crate::refusal::{Reason, Refusal};
use crate::request_log::{Learned, Sent};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/livez", Access::Open, "Whether the server answers.", v2::live),
        Route::get("/readyz", Access::Open, "Whether all models are served that are to be.", v2::ready),
        Route::post("/api/v1/models/{model}/predict", Access::Predict, "Predicts rows.", predict_by)
            .taking::<Request>()
            .asking::<Asked>(),
        Route::get(
            "/api/v1/models/{model}/inputs",
            Access::Predict,
            "How what a version was asked of late differs from what it has learned.",
            inputs,
        )
        .asking::<OfVersion>(),
        Route::post(
            "/api/v1/models/{model}/learn",
            Access::Learn,
            "Says what became of rows that were predicted, for the model to learn it.",
            learn,
        )
        .taking::<Labels>(),
    ]
}

/// Predicts rows with one model, whatever the path is.
pub fn predicting(model: String) -> MethodRouter<Arc<Serving>> {
    let handler = async move |State(serving): State<Arc<Serving>>, asked: Asking, headers: HeaderMap, body: Body| {
        predict(serving, &model, asked, headers, body).await
    };
    post(handler)
}

/// Rows that are to be predicted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Objects by the names of the features, or lists in their order. Other keys of objects are left alone.
    rows: Vec<Value>,
}

/// By which version.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// A number, an alias, or `latest`.
    version: Option<String>,
    /// Whether the answer says how what the version was asked of late differs from what it has learned.
    #[serde(default)]
    inputs: bool,
}

/// Predictions.
#[derive(Debug, Serialize)]
struct Answer {
    model: String,
    version: u64,
    predictions: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<Vec<InputFigures>>,
    /// By which `learn` knows the rows, if they are noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<String>>,
}

/// How what a version was asked of late differs from what it has learned.
#[derive(Debug, Serialize)]
struct Inputs {
    model: String,
    version: u64,
    inputs: Vec<InputFigures>,
}

/// By which version that is asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfVersion {
    /// A number, an alias, or `latest`.
    version: Option<String>,
}

/// Labels of rows that were predicted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Labels {
    /// By their ids.
    rows: Vec<Sent>,
}

/// Labels that were taken.
#[derive(Debug, Serialize)]
struct Taken {
    model: String,
    #[serde(flatten)]
    learned: Learned,
}

/// What the URL says of that.
type Asking = Result<Query<Asked>, QueryRejection>;

async fn predict_by(
    State(serving): State<Arc<Serving>>,
    Path(model): Path<String>,
    asked: Asking,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answer>, Problem> {
    predict(serving, &model, asked, headers, body).await
}

async fn predict(
    serving: Arc<Serving>,
    model: &str,
    asked: Asking,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answer>, Problem> {
    let Query(asked) = asked.map_err(|error| behind(&error))?;
    let (bytes, _share) = body::read(&headers, body, &serving).await?;
    let served = serving.choose(model, asked.version.as_deref(), &headers).await?;
    let request: Request = body::json(&bytes)?;
    let predictions = served.answer(
        |served| table::of_rows(served, "rows", &request.rows),
        |served, tensors, ids| Ok((table::records(served, &tensors), ids.map(|ids| ids.all()))),
    );
    let (predictions, ids) = predictions.await?;
    let inputs = asked.inputs.then(|| served.inputs());
    Ok(Json(Answer { model: model.to_owned(), version: served.version, predictions, inputs, ids }))
}

async fn inputs(
    State(serving): State<Arc<Serving>>,
    Path(model): Path<String>,
    asked: Result<Query<OfVersion>, QueryRejection>,
) -> Result<Json<Inputs>, Problem> {
    let Query(OfVersion { version }) = asked.map_err(|error| behind(&error))?;
    let served = serving.repository.resolve(&model, version.as_deref()).await?;
    Ok(Json(Inputs { model, version: served.version, inputs: served.inputs() }))
}

/// What is wrong with what stands behind `?`.
fn behind(error: &QueryRejection) -> Refusal {
    let text = error.body_text();
    // Behind what could not be done, and the name that it could not be done with.
    let (name, what) = text.split_once(": ").and_then(|(_, rest)| rest.split_once(": ")).unwrap_or(("?", &text));
    let what = in_words(what);
    let place = if what.starts_with('`') { String::new() } else { format!("`{name}`: ") };
    Refusal::wrong(format!("what is behind `?` is not what is taken: {place}{what}"))
}

async fn learn(
    State(serving): State<Arc<Serving>>,
    Path(model): Path<String>,
    RawQuery(asked): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Taken>, Problem> {
    if asked.is_some_and(|asked| !asked.is_empty()) {
        let message = "nothing is taken behind `?`: the id of a row says which version has predicted it";
        return Err(Refusal::wrong(message).into());
    }
    let (bytes, _share) = body::read(&headers, body, &serving).await?;
    let served = serving.repository.resolve(&model, None).await?;
    let no_log =
        || Refusal::not_found("this server keeps no log of requests (`[serve.log]`), so that predictions have no ids");
    let log = serving.log.as_ref().ok_or_else(no_log)?;
    let no_label = || Refusal::wrong(format!("model `{model}` learns from no label"));
    let label = served.label().ok_or_else(no_label)?;
    let Labels { rows } = body::json(&bytes)?;
    let learned = log.learn(&model, label, rows).await?;
    served.figures.labelled(learned.rows);
    Ok(Json(Taken { model, learned }))
}

/// A refusal as the API says it.
struct Problem(Refusal);

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Refusal { reason, message } = self.0;
        let code = match reason {
            Reason::Wrong | Reason::Slow => "bad-request",
            Reason::NotFound => "not-found",
            Reason::Conflict | Reason::Exists => "conflict",
            Reason::TooLarge => "too-large",
            Reason::Unsupported => "wrong-content-type",
            Reason::Overloaded | Reason::Unavailable => "unavailable",
            Reason::Internal => "internal",
        };
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = json!({
            "type": format!("/problems/{code}"),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": message,
            "code": code,
            "retryable": reason.status() >= 500,
        });
        let mut response = (status, Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
