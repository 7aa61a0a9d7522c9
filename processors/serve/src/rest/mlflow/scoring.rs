//! The protocol of MLflow's scoring servers, which know one model and no name of it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{Access, Route, Serving, body, said_of, table};
use super::{Failure, text};
use crate::refusal::Refusal;
use crate::served::Served;

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/ping", Access::Open, "Whether the server answers.", ping),
        Route::get("/health", Access::Open, "Whether the server answers.", ping),
        Route::get("/version", Access::Open, "The version of the program.", version),
        Route::post("/invocations", Access::Predict, "Predicts rows by the only model that is served.", invocations)
            .taking::<Request>(),
    ]
}

async fn ping() -> Response {
    text(StatusCode::OK, "\n".to_owned())
}

async fn version() -> Response {
    text(StatusCode::OK, env!("CARGO_PKG_VERSION").to_owned())
}

/// Rows that are to be predicted, in one of several forms.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    dataframe_split: Option<Split>,
    dataframe_records: Option<Vec<Value>>,
    instances: Option<Value>,
    inputs: Option<Value>,
    /// Our models have no parameters.
    #[serde(default)]
    params: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Split {
    columns: Vec<String>,
    data: Vec<Vec<Value>>,
}

/// A form of rows.
enum Rows {
    Split(Split),
    List(&'static str, Vec<Value>),
    Columns(&'static str, Map<String, Value>),
}

impl Request {
    fn rows(self) -> Result<Rows, Refusal> {
        const FORMS: &str = "`dataframe_split`, `dataframe_records`, `instances` or `inputs`";
        if self.params.as_ref().is_some_and(|params| !params.is_empty()) {
            return Err(Refusal::wrong("`params` has to be empty, since the model has none"));
        }
        let list = |place, value| match value {
            Value::Array(rows) => Ok(Rows::List(place, rows)),
            Value::Object(columns) => Ok(Rows::Columns(place, columns)),
            _ => Err(Refusal::wrong(format!("`{place}` is neither a list of rows nor an object of columns"))),
        };
        let forms = [
            self.dataframe_split.map(|split| Ok(Rows::Split(split))),
            self.dataframe_records.map(|rows| Ok(Rows::List("dataframe_records", rows))),
            self.instances.map(|value| list("instances", value)),
            self.inputs.map(|value| list("inputs", value)),
        ];
        let mut forms = forms.into_iter().flatten();
        match (forms.next(), forms.next()) {
            (Some(rows), None) => rows,
            _ => Err(Refusal::wrong(format!("the body has to have exactly one of {FORMS}"))),
        }
    }
}

impl Rows {
    fn batch(&self, served: &Served) -> Result<arrow::array::RecordBatch, Refusal> {
        match self {
            Self::Split(split) => table::of_split(served, "dataframe_split", &split.columns, &split.data),
            Self::List(place, rows) => table::of_rows(served, place, rows),
            Self::Columns(place, columns) => table::of_columns(served, place, columns),
        }
    }
}

async fn invocations(
    State(serving): State<Arc<Serving>>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Failure> {
    check_type(&headers)?;
    let names = serving.repository.names();
    let [model] = &names[..] else {
        let served = names.join(", ");
        let message = format!(
            "`/invocations` is for one model, and these are served: {served}; `/v1/models/NAME:predict` names one"
        );
        return Err(Refusal::wrong(message).into());
    };
    let (bytes, _share) = body::read(&headers, body, &serving).await?;
    let served = serving.choose(model, None, &headers).await?;
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::wrong("the body is a list; name its form, such as `{\"instances\": [...]}`").into());
    }
    let rows = body::json::<Request>(&bytes)?.rows()?;
    let predictions = served.answer(
        |served| rows.batch(served),
        |served, tensors, ids| Ok((said_of(served, ids), table::values(served, &tensors))),
    );
    let (said, predictions) = predictions.await?;
    Ok((said, Json(json!({ "predictions": predictions }))))
}

/// JSON is taken, in UTF-8.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let said = headers.get(header::CONTENT_TYPE).map(|said| said.to_str().unwrap_or_default().to_ascii_lowercase());
    let said = said.unwrap_or_else(|| "none".to_owned());
    let mut parts = said.split(';').map(str::trim);
    let is_json = parts.next() == Some("application/json");
    if is_json && parts.all(|parameter| parameter.replace('"', "") == "charset=utf-8") {
        return Ok(());
    }
    Err(Refusal::unsupported(format!("`Content-Type` is `{said}`; what is taken is `application/json`, in UTF-8")))
}
