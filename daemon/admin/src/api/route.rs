//! A line of the table of routes: who may use it, what it takes and gives, and who answers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{RawPathParams, Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use futures::FutureExt as _;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::PREFIX;
use crate::Admin;
use crate::problem::{Code, Problem, ProblemCode};
use crate::security::{Arrival, Ending, Event, Gate, Principal, Role, require};

/// What answers a route, apart from who may use it.
type Answering = MethodRouter<Arc<Admin>>;

/// Describes a type.
pub type Describe = fn(&mut SchemaGenerator) -> Schema;

/// A line of the table.
#[derive(Clone)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for what differs.
    pub path: String,
    /// By which generated clients know it.
    pub name: &'static str,
    /// What it is for, in a sentence.
    pub summary: &'static str,
    /// Who may use it. None if everybody may, also without a token.
    pub role: Option<Role>,
    /// Whether what is done is written down.
    pub audited: bool,
    /// What it takes behind `?`.
    pub query: Option<fn() -> Schema>,
    /// The headers that say something to it.
    pub headers: Vec<&'static Header>,
    /// The body that it takes.
    pub request: Option<Body>,
    /// The good answers.
    pub answers: Vec<Answer>,
    answering: Answering,
}

/// A header of requests.
pub struct Header {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// Such as.
    pub example: &'static str,
}

/// A body.
#[derive(Clone, Copy)]
pub struct Body {
    /// Its type.
    pub content_type: &'static str,
    /// What is in it; a text if nothing describes it.
    pub describe: Option<Describe>,
}

/// A good answer.
#[derive(Clone, Copy)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// When it is given.
    pub meaning: &'static str,
    /// What is in it.
    pub body: Option<Body>,
}

impl Body {
    /// JSON.
    pub fn json<T: JsonSchema>() -> Self {
        Self { content_type: "application/json", describe: Some(|generator| generator.subschema_for::<T>()) }
    }

    /// A text.
    pub const fn text(content_type: &'static str) -> Self {
        Self { content_type, describe: None }
    }
}

/// What begins a line of the table, one for each method.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident $method:ident)*) => {
        $(
            $(#[$doc])*
            pub fn $name<H, T>(path: &str, name: &'static str, summary: &'static str, handler: H) -> Self
            where
                H: Handler<T, Arc<Admin>>,
                T: 'static,
            {
                Self::new(Method::$method, path, name, summary, on(MethodFilter::$method, handler))
            }
        )*
    };
}

impl Route {
    methods! {
        /// A route of the API that looks at something.
        get GET
        /// A route of the API that does something.
        post POST
        /// A route of the API that puts something in its place.
        put PUT
        /// A route of the API that changes a part of something.
        patch PATCH
        /// A route of the API that takes something away.
        delete DELETE
    }

    fn new(method: Method, path: &str, name: &'static str, summary: &'static str, answering: Answering) -> Self {
        let looks = method == Method::GET;
        Self {
            method,
            path: format!("{PREFIX}{path}"),
            name,
            summary,
            role: Some(if looks { Role::Viewer } else { Role::Operator }),
            audited: !looks,
            query: None,
            headers: Vec::new(),
            request: None,
            answers: Vec::new(),
            answering,
        }
    }

    /// Of that role are those who may use it.
    pub fn role(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
    }

    /// Everybody may use it.
    pub fn open(self) -> Self {
        Self { role: None, ..self }
    }

    /// It changes nothing, although its method says so.
    pub fn not_audited(self) -> Self {
        Self { audited: false, ..self }
    }

    /// It is not below the prefix of the API.
    pub fn outside(self) -> Self {
        Self { path: self.path.strip_prefix(PREFIX).unwrap_or_default().to_owned(), ..self }
    }

    /// What it takes behind `?`.
    pub fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(|| SchemaGenerator::default().into_root_schema_for::<T>()), ..self }
    }

    /// The headers that say something to it.
    pub fn headers(self, headers: &[&'static Header]) -> Self {
        Self { headers: headers.to_vec(), ..self }
    }

    /// The body that it takes.
    pub fn takes(self, body: Body) -> Self {
        Self { request: Some(body), ..self }
    }

    /// A good answer with a JSON body.
    pub fn gives<T: JsonSchema>(self, status: StatusCode, meaning: &'static str) -> Self {
        self.gives_body(status, meaning, Some(Body::json::<T>()))
    }

    /// A good answer.
    pub fn gives_body(mut self, status: StatusCode, meaning: &'static str, body: Option<Body>) -> Self {
        self.answers.push(Answer { status, meaning, body });
        self
    }

    /// What answers it, for those who may use it.
    pub fn answering(self, admin: Arc<Admin>) -> Answering {
        let (gate, role, audited) = (admin.gate.clone(), self.role, self.audited);
        self.answering.layer(from_fn_with_state(Rules { gate, role, audited }, permit))
    }
}

/// Who may use a route, and whether that is written down.
#[derive(Clone)]
pub struct Rules {
    /// Where it is written down.
    pub gate: Arc<Gate>,
    /// Of which role those are at least who may use it. None if everybody may.
    pub role: Option<Role>,
    /// Whether it is written down.
    pub audited: bool,
}

/// Lets those use a route who may, and has it written down before they have their answer.
pub async fn permit(State(rules): State<Rules>, parameters: RawPathParams, request: Request, next: Next) -> Response {
    let flow = parameters.iter().find(|(name, _)| *name == "flow").map(|(_, flow)| flow.to_owned());
    let principal = request.extensions().get::<Principal>().cloned();
    if let Some(role) = rules.role
        && let Err(refusal) = require(principal.as_ref(), role, flow.as_deref())
    {
        return Problem::from(refusal).into_response();
    }
    if !rules.audited {
        return next.run(request).await;
    }
    write_down(&rules.gate, principal.as_ref(), flow, request, next).await
}

/// Answers a request between the two lines of the audit log that tell of it.
async fn write_down(
    gate: &Gate,
    principal: Option<&Principal>,
    flow: Option<String>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let Some(arrival) = parts.extensions.get::<Arc<Arrival>>().cloned() else {
        return Problem::new(&Code::UNAVAILABLE, "it is not known how the request came").into_response();
    };
    let event = Event { target: flow, ..Event::of(&arrival, principal, &parts) };
    let begun = match gate.audit.begin(event).await {
        Ok(begun) => begun,
        Err(error) => {
            let why = format!("what is not written down is not done, and it can't be: {error}");
            return Problem::new(&Code::NOT_WRITTEN_DOWN, why).into_response();
        }
    };
    let response = next.run(Request::from_parts(parts, body)).await;
    let ending = match response.extensions().get::<Arc<ProblemCode>>() {
        Some(problem) => Ending::Failed(problem.0.to_owned()),
        None => Ending::Done,
    };
    if let Err(error) = begun.end(ending, None).await {
        tracing::error!("the end of a request is missing in the audit log: {error}");
    }
    response
}

/// A panic is a defect of ours, and an answer to one request.
pub async fn catch_panics(request: Request, next: Next) -> Response {
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        Problem::new(&Code::INTERNAL, "a defect of the daemon: it panicked over this request").into_response()
    })
}
