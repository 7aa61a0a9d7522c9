//! The protocols of MLflow.
//!
//! * `scoring`: that of its scoring servers. * `registry`: that of its registry of models, by what `asked` reads, `views` shows and `filter` picks; `making` makes
//!   models and versions of the files of `artifacts`; `runs` keeps what a notebook logs.

mod artifacts;
mod asked;
mod filter;
mod making;
mod registry;
mod runs;
mod scoring;
mod views;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Route;
use crate::refusal::{Reason, Refusal};

pub fn routes() -> Vec<Route> {
    [scoring::routes(), registry::routes(), making::routes(), artifacts::routes(), runs::routes()].concat()
}

fn text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// A refusal as MLflow says it.
pub struct Failure(Refusal);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Refusal { reason, message } = self.0;
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match reason {
            Reason::Unsupported => text(status, message),
            _ => (status, Json(json!({ "error_code": reason.code(), "message": message }))).into_response(),
        }
    }
}
