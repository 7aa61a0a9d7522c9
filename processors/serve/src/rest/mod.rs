//! The protocols: one table of routes, each with who may use it.
//!
//! * `v2`: the Open Inference Protocol, with the extensions of Triton for tensors in binary, statistics and the repository of models.
//! * `v1`: KServe's first protocol. * `mlflow`: those of MLflow's scoring servers and of its registry. * `plain`: rows as JSON objects, in and out. * `openapi`: what programs can read of the table.

pub(crate) mod body;
mod mlflow;
mod openapi;
mod plain;
mod room;
mod table;
mod v1;
mod v2;
mod words;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use axum::response::AppendHeaders;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema};

use crate::grpc;
use crate::refusal::Refusal;
use crate::repository::Repository;
use crate::request_log::{Ids, RequestLog};
use crate::served::Served;
use crate::trial::{Chosen, Trials};

pub use openapi::{OPENAPI, document};
pub use plain::predicting;
pub use room::Room;
pub(crate) use room::Share;

/// What the Open Inference Protocol is served with besides itself.
pub(crate) const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_repository", "statistics", "classification"];

/// The route whose body is a stream of messages, which need not end: each message has its time to come, and not all together.
pub const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// The header that says which version has answered, where a protocol has no other place for it.
const VERSION: &str = "model-version";

/// The header with the id of the first row that was predicted, where a protocol has no other place for it. The ids of those behind it count on.
const PREDICTION: &str = "prediction-id";

/// The same among the parameters of an answer of the Open Inference Protocol.
pub(crate) const PREDICTION_PARAMETER: &str = "prediction_id";

/// What requests are answered with.
#[derive(Debug)]
pub struct Serving {
    /// The models.
    pub repository: Arc<Repository>,
    /// How many bytes a body may have, also without its compression.
    pub max_body: usize,
    /// The memory for all bodies.
    pub room: Room,
    /// Versions on trial.
    pub trials: Trials,
    /// Where it is noted what was predicted, and what became of it.
    pub log: Option<Arc<RequestLog>>,
}

impl Serving {
    /// What answers a request for predictions.
    pub(crate) async fn choose(
        &self,
        model: &str,
        version: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Chosen, Refusal> {
        let chosen = Chosen::of(&self.repository, &self.trials, model, version, headers).await?;
        Ok(chosen.with_log(self.log.clone()))
    }
}

/// What the header says of rows that were predicted.
fn said_of(served: &Served, ids: Option<Ids>) -> AppendHeaders<Vec<(&'static str, String)>> {
    let id = ids.map(|ids| (PREDICTION, ids.first()));
    AppendHeaders([(VERSION, served.version.to_string())].into_iter().chain(id).collect())
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for what differs.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What it is for, in a sentence.
    pub summary: &'static str,
    /// What is taken as the body, where that is described.
    pub body: Option<fn() -> Schema>,
    /// What may stand behind `?`, where that is described.
    pub query: Option<fn() -> Schema>,
    /// What answers it.
    pub answering: MethodRouter<Arc<Serving>>,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Those who may have rows predicted, and look at the models that are served.
    Predict,
    /// Those who may say what became of predictions, from which models learn, and what runs have found: often, so that it is not written down each time.
    Learn,
    /// Those who may look into the registry: at models that are not served, and their files.
    Look,
    /// Those who may say which models are served.
    Manage,
}

/// All routes.
pub fn routes() -> Vec<Route> {
    [v2::routes(), grpc::routes(), v1::routes(), mlflow::routes(), plain::routes(), openapi::routes()].concat()
}

/// The page of all routes.
pub fn page() -> String {
    let mut page = "# Routes of models that are served\n\nMade from the table of routes in `processors/serve/src/rest`: a test compares, and \
        `MILLSTREAM_UPDATE=1 cargo test -p millstream-serve` writes it anew. What they are for is in [SERVING.md](SERVING.md).\n\n\
        | route | who may | |\n|---|---|---|\n"
        .to_owned();
    for Route { method, path, access, summary, .. } in routes() {
        let access = match access {
            Access::Open => "everybody",
            Access::Predict => "viewers",
            Access::Look => "viewers with a token",
            Access::Learn | Access::Manage => "operators",
        };
        let _ = writeln!(page, "| `{method} {path}` | {access} | {summary} |");
    }
    page
}

impl Route {
    fn get<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: axum::handler::Handler<T, Arc<Serving>>,
        T: 'static,
    {
        Self::new(Method::GET, path, access, summary, handler)
    }

    pub(crate) fn post<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: axum::handler::Handler<T, Arc<Serving>>,
        T: 'static,
    {
        Self::new(Method::POST, path, access, summary, handler)
    }

    /// Of any method that there is a route of.
    fn new<H, T>(method: Method, path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: axum::handler::Handler<T, Arc<Serving>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        Self { method, path, access, summary, body: None, query: None, answering: on(filter, handler) }
    }

    /// The same, which takes this as its body.
    fn taking<T: JsonSchema>(self) -> Self {
        Self { body: Some(openapi::schema::<T>), ..self }
    }

    /// The same, which takes this behind `?`.
    fn asking<T: JsonSchema>(self) -> Self {
        Self { query: Some(openapi::schema::<T>), ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_of_routes_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ROUTES.md");
        if std::env::var_os("MILLSTREAM_UPDATE").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page());
        assert!(routes().iter().all(|route| route.summary.ends_with('.')));
    }
}
