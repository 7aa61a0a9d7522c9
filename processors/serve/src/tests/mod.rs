//! Models that are served, asked over the routes as clients ask them.

mod conformance;
mod errors;
mod grpc;
mod infer;
mod inputs;
mod learn;
mod mlflow;
mod others;
mod preprocessed;
mod repository;
mod trials;

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use millstream_models::registry::{ModelCard, ModelReference, ModelRegistry};
use millstream_models::{Class, Features, Missing, Model, Signature};
use millstream_testkit::table;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::batcher::BatchLimits;
use crate::repository::Repository;
use crate::request_log::RequestLog;
use crate::rest::{Room, Serving, routes};
use crate::trial::{Trial, Trials};

/// How large bodies may be here.
const MAX_BODY: usize = 1 << 16;

/// Payments, of which large ones from abroad are fraud.
fn payments() -> RecordBatch {
    table(
        "amount:float64 items:int64 country fraud:boolean\n 10 1 DE false\n 900 2 FR true\n 12 1 DE false\n 850 3 FR true\n 11 2 DE false\n 880 1 FR true",
    )
}

/// Flowers of three kinds, by two numbers.
fn flowers() -> RecordBatch {
    table(
        "length:float64 width:float64 kind\n 1 1 setosa\n 5 2 versicolor\n 6 9 virginica\n 1.2 1 setosa\n 5.1 2 versicolor\n 6.1 9 virginica",
    )
}

fn train(
    rows: &RecordBatch,
    estimator: Value,
    features: &[&str],
    label: &str,
    missing: Missing,
    times: usize,
) -> Model {
    let estimator = serde_json::from_value(estimator).unwrap();
    let features = Features::Listed(features.iter().map(|name| (*name).to_owned()).collect());
    let kinds = ["setosa", "versicolor", "virginica"].map(|kind| Class::Text(kind.to_owned()));
    let classes = (label == "kind").then_some(&kinds[..]);
    let signature = Signature::plan(&rows.schema(), &estimator, &features, label, classes, missing).unwrap();
    let mut model = Model::new(signature);
    (0..times).for_each(|_| _ = model.step_batch(rows).unwrap());
    model
}

/// A model of fraud that has seen the payments so often.
fn fraud(times: usize) -> Model {
    let estimator = json!({ "type": "logistic_regression", "learning_rate": 0.5 });
    train(&payments(), estimator, &["amount", "items", "country"], "fraud", Missing::Fail, times)
}

fn registry(folder: &Path) -> ModelRegistry {
    ModelRegistry::open(millstream_store::open("models", folder).unwrap(), "models")
}

fn publish(registry: &ModelRegistry, name: &str, model: &Model, id: &str) -> u64 {
    let card = ModelCard::new(name, model.signature(), model.rows());
    registry.publish(name, &model.save().unwrap(), card, id).unwrap()
}

/// Models that are served.
struct Server {
    folder: tempfile::TempDir,
    repository: Arc<Repository>,
    router: Router,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Server {
    /// Three versions of `fraud`, of which the first is the champion, and one each of `flower`, and of `lenient`, which may lack numbers.
    fn start() -> Self {
        Self::trying(Trials::new())
    }

    /// The same, with versions on trial.
    fn trying(trials: Trials) -> Self {
        Self::with(trials, None)
    }

    /// The same, with a log of requests.
    fn with(trials: Trials, log: Option<Arc<RequestLog>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        (1..=3).for_each(|times| _ = publish(&registry, "fraud", &fraud(times), &times.to_string()));
        registry.set_alias("fraud", "challenger", 2).unwrap();
        let estimator = json!({ "type": "softmax_regression", "learning_rate": 0.5 });
        let flower = train(&flowers(), estimator, &["length", "width"], "kind", Missing::Fail, 20);
        publish(&registry, "flower", &flower, "1");
        let estimator = json!({ "type": "logistic_regression" });
        let lenient = train(&payments(), estimator, &["amount"], "fraud", Missing::Mean, 1);
        publish(&registry, "lenient", &lenient, "1");
        let models = ["fraud", "flower", "lenient"].map(|name| ModelReference::parse(name).unwrap());
        let repository = Repository::open(registry, &models, BatchLimits::default()).unwrap();
        let room = Room::new(1 << 20);
        let serving = Serving { repository: repository.clone(), max_body: MAX_BODY, room, trials, log };
        let router =
            routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.answering));
        Self { folder, repository, router: router.with_state(Arc::new(serving)) }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.ask(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// JSON, and tensors in binary behind it.
    async fn post_binary(&self, path: &str, json: &Value, tensors: &[u8]) -> Answer {
        let json = json.to_string();
        let request = Request::post(path).header("inference-header-content-length", json.len());
        self.ask(request.body(Body::from([json.as_bytes(), tensors].concat())).unwrap()).await
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// What a good answer says.
    fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// What is wrong.
    fn error(&self, status: u16) -> String {
        assert_eq!(
            (self.status, &self.headers["content-type"]),
            (status, &"application/json".parse().unwrap()),
            "{self:?}"
        );
        self.json()["error"].as_str().unwrap().to_owned()
    }

    /// The JSON of an answer in binary, and what is behind it.
    fn binary(&self) -> (Value, Bytes) {
        assert_eq!(
            (self.status, &self.headers["content-type"]),
            (200, &"application/octet-stream".parse().unwrap()),
            "{self:?}"
        );
        let length: usize = self.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
        (serde_json::from_slice(&self.bytes[..length]).unwrap(), self.bytes.slice(length..))
    }
}

/// A tensor in JSON.
fn tensor(name: &str, datatype: &str, shape: &[usize], data: Value) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": shape, "data": data })
}

/// Two payments as tensors by the names of the features.
fn two_payments() -> Value {
    json!([
        tensor("country", "BYTES", &[2, 1], json!(["FR", "DE"])),
        tensor("amount", "FP64", &[2], json!([870.0, 10])),
        tensor("items", "INT32", &[2], json!([[1], [2]])),
    ])
}
