//! What platforms for functions ask of one: whether it is well, whether it can take a request, and to leave without losing one.
//!
//! The paths and the status codes are those of OpenFaaS' of-watchdog. Knative asks for less: a port that takes HTTP/1.1 and HTTP/2, and a quiet end.

mod forward;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics;
use crate::server::Listening;

pub use forward::forward;

/// What listens for requests: a gateway sends all of them.
pub const FUNCTION: Listening = Listening { door: "function", what: "the function", connections: 4096, of_one: 4096 };

/// What listens for those who ask for metrics.
pub const METRICS: Listening = Listening { door: "metrics", what: "metrics", connections: 16, of_one: 16 };

/// The methods of requests that are counted by their names.
const METHODS: [&str; 5] = ["DELETE", "GET", "PATCH", "POST", "PUT"];

/// A function while it runs.
#[derive(Debug)]
pub struct Function {
    /// How many requests it answers at a time, if there is a limit.
    limit: Option<usize>,
    in_flight: watch::Sender<usize>,
    is_leaving: AtomicBool,
    counts: Mutex<Answered>,
}

/// What was answered.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// How many requests, by method and status.
    pub requests: BTreeMap<(&'static str, u16), u64>,
    /// How long they took together.
    pub took: Duration,
}

/// A request that is being answered.
#[derive(Debug)]
struct Flight<'a>(&'a Function);

impl Function {
    /// One that answers so many requests at a time.
    pub fn new(limit: Option<usize>) -> Arc<Self> {
        let in_flight = watch::Sender::new(0);
        Arc::new(Self { limit, in_flight, is_leaving: AtomicBool::new(false), counts: Mutex::default() })
    }

    /// It is about to end, and says so to whoever looks; it still answers.
    pub fn is_about_to_end(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Waits until no request is being answered.
    pub async fn idle(&self) {
        // Whoever could tell is here.
        let _ = self.in_flight.subscribe().wait_for(|requests| *requests == 0).await;
    }

    /// How many requests are being answered.
    pub fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// What was answered so far.
    pub fn answered(&self) -> Answered {
        self.counts().clone()
    }

    fn begin(&self) -> Option<Flight<'_>> {
        let has_room = |requests: &mut usize| {
            let has_room = self.limit.is_none_or(|limit| *requests < limit);
            *requests += usize::from(has_room);
            has_room
        };
        self.in_flight.send_if_modified(has_room).then(|| Flight(self))
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.in_flight() >= limit)
    }

    fn has_answered(&self, method: &Method, status: StatusCode, took: Duration) {
        // Anybody can make up methods.
        let method = METHODS.into_iter().find(|known| method.as_str() == *known).unwrap_or("OTHER");
        let mut counts = self.counts();
        *counts.requests.entry((method, status.as_u16())).or_default() += 1;
        counts.took += took;
    }

    fn counts(&self) -> MutexGuard<'_, Answered> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|requests| *requests -= 1);
    }
}

/// What answers all requests to a function: those to itself by `inner`.
pub fn router(function: Arc<Function>, inner: Router) -> Router {
    Router::new()
        .route("/_/health", get(health))
        .route("/_/ready", get(ready))
        .with_state(function.clone())
        .fallback_service(inner.layer(from_fn_with_state(function, count)))
}

/// What answers those who ask for metrics.
pub fn metrics_router(function: Arc<Function>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(function)
}

async fn metrics(State(function): State<Arc<Function>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text_of_function(&function)).into_response()
}

async fn health(State(function): State<Arc<Function>>) -> (StatusCode, &'static str) {
    if function.is_leaving.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "about to end\n")
    } else {
        (StatusCode::OK, "OK\n")
    }
}

async fn ready(State(function): State<Arc<Function>>) -> (StatusCode, &'static str) {
    if function.is_full() { FULL } else { health(State(function)).await }
}

/// What is said to a request for which there is no room.
const FULL: (StatusCode, &str) =
    (StatusCode::TOO_MANY_REQUESTS, "as many requests are being answered as may be at a time\n");

/// Has a request answered if there is room for it, and counts it. Those that only look, as probes do, take no room.
async fn count(State(function): State<Arc<Function>>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let Some(_flight) = function.begin() else {
        return ([(header::RETRY_AFTER, "1")], FULL).into_response();
    };
    let (method, begun) = (request.method().clone(), Instant::now());
    let mut answer = next.run(request).await;
    let took = begun.elapsed();
    function.has_answered(&method, answer.status(), took);
    if let Ok(seconds) = HeaderValue::from_str(&format!("{:.6}", took.as_secs_f64())) {
        answer.headers_mut().insert("x-duration-seconds", seconds);
    }
    answer
}
