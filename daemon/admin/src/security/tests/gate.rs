//! Whole requests through the middleware, to a route that says who asks.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::any;
use axum::{Extension, Router};
use chrono::{TimeDelta, Utc};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::security::gate::{Gate, guard, require};
use crate::security::role::{FlowPatterns, Principal, Role};
use crate::security::settings::AdminSettings;
use crate::security::tokens::NewToken;
use crate::security::{Ending, Refusal};

/// A daemon's gate, with a route behind it for operators.
struct Daemon {
    gate: Arc<Gate>,
    router: Router,
    _data: tempfile::TempDir,
}

async fn who(principal: Option<Extension<Principal>>) -> Result<String, Refusal> {
    let principal = principal.map(|Extension(principal)| principal);
    require(principal.as_ref(), Role::Operator, Some("fraud")).map(|principal| principal.name.to_string())
}

impl Daemon {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut settings = AdminSettings::default();
        settings.tls.roles =
            [("ci.example".to_owned(), Role::Viewer), ("CD.example".to_owned(), Role::Operator)].into();
        let gate = Arc::new(Gate::open(&settings, data.path()).unwrap());
        let router = Router::new().route("/", any(who)).layer(from_fn_with_state(gate.clone(), guard));
        Self { gate, router, _data: data }
    }

    fn token(&self, name: &str, role: Role) -> String {
        let new = NewToken { name: name.to_owned(), role, flows: FlowPatterns::all(), expires: None };
        self.gate.tokens.create(new, Utc::now()).unwrap().1.reveal()
    }

    async fn ask(&self, arrival: Arrival, method: &str, headers: &str) -> Response {
        let mut parts = head(method, "/", &format!("host: localhost\n{headers}"));
        parts.extensions.insert(Arc::new(arrival));
        self.router.clone().oneshot(Request::from_parts(parts, Body::empty())).await.unwrap()
    }

    /// The status of the answer, and what it says.
    async fn answer(&self, arrival: Arrival, method: &str, headers: &str) -> (u16, String) {
        let response = self.ask(arrival, method, headers).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The code of the refusal.
    async fn refused(&self, arrival: Arrival, method: &str, headers: &str) -> (u16, String) {
        let (status, body) = self.answer(arrival, method, headers).await;
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], status, "{problem}");
        (status, problem["code"].as_str().unwrap().to_owned())
    }
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn tokens_say_who_asks() {
    let daemon = Daemon::start();
    let (operator, viewer) = (daemon.token("ops", Role::Operator), daemon.token("board", Role::Viewer));
    let bearer = |token: &str| format!("authorization: Bearer {token}");
    assert_eq!(daemon.answer(from_afar(), "GET", &bearer(&operator)).await, code(200, "ops"));
    assert_eq!(
        daemon.answer(from_afar(), "POST", &bearer(&operator)).await,
        code(200, "ops"),
        "no browser has sent it"
    );
    assert_eq!(daemon.refused(from_afar(), "GET", &bearer(&viewer)).await, code(403, "forbidden"));
    assert_eq!(daemon.refused(from_afar(), "GET", "").await, code(401, "not-signed-in"));
    assert_eq!(daemon.refused(from_afar(), "GET", &bearer("ms_abc")).await, code(401, "wrong-credentials"));
    let id = daemon.gate.tokens.list().unwrap()[0].id.clone();
    assert!(daemon.gate.revoke(&id).unwrap() && !daemon.gate.revoke(&id).unwrap());
    assert_eq!(daemon.refused(from_afar(), "GET", &bearer(&operator)).await, code(401, "wrong-credentials"));
    let response = daemon.ask(from_afar(), "GET", "").await;
    assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    assert!(response.headers().contains_key("content-security-policy"), "refusals are protected as well");
}

#[tokio::test]
async fn sessions_end_with_their_tokens_and_are_for_pages_of_the_daemon() {
    let daemon = Daemon::start();
    let token = daemon.token("ops", Role::Operator);
    let (principal, header) = daemon.gate.sign_in(&from_afar(), &token).unwrap();
    assert_eq!(&*principal.name, "ops");
    let cookie = format!("cookie: {}", header.split(';').next().unwrap());
    assert_eq!(daemon.answer(from_afar(), "GET", &cookie).await, code(200, "ops"));
    assert_eq!(daemon.refused(from_afar(), "POST", &cookie).await, code(403, "cross-site"));
    let same = format!("{cookie}\nsec-fetch-site: same-origin");
    assert_eq!(daemon.answer(from_afar(), "POST", &same).await, code(200, "ops"));
    let encrypted = Arrival { encrypted: true, ..from_afar() };
    assert_eq!(
        daemon.refused(encrypted, "GET", &cookie).await,
        code(401, "not-signed-in"),
        "it has another name there"
    );
    assert!(daemon.gate.sign_out(&from_afar(), &head("DELETE", "/", &cookie)).contains("Max-Age=0"));
    assert_eq!(daemon.refused(from_afar(), "GET", &cookie).await, code(401, "not-signed-in"));
    let (principal, header) = daemon.gate.sign_in(&from_afar(), &token).unwrap();
    let cookie = format!("cookie: {}", header.split(';').next().unwrap());
    // As `millstream token revoke` does, in another process.
    daemon.gate.tokens.revoke(&principal.token.unwrap()).unwrap();
    assert_eq!(daemon.refused(from_afar(), "GET", &cookie).await, code(401, "not-signed-in"));
    assert!(daemon.gate.sign_in(&from_afar(), &token).is_err());
}

#[tokio::test]
async fn certificates_have_the_roles_of_their_names() {
    let daemon = Daemon::start();
    let shown =
        |names: &[&str]| Arrival { encrypted: true, certificate: Some(names.iter().copied().collect()), ..from_afar() };
    assert_eq!(daemon.answer(shown(&["cd.example"]), "PUT", "").await, code(200, "CD.example"));
    assert_eq!(daemon.answer(shown(&["ci.example", "cd.example"]), "PUT", "").await, code(200, "CD.example"));
    assert_eq!(daemon.refused(shown(&["ci.example"]), "PUT", "").await, code(403, "forbidden"));
    assert_eq!(daemon.refused(shown(&["x.example"]), "PUT", "").await, code(401, "not-signed-in"));
    let from_page = daemon.refused(shown(&["cd.example"]), "PUT", "origin: https://evil.example").await;
    assert_eq!(from_page, code(403, "cross-site"), "browsers show certificates to whoever asks");
}

#[tokio::test]
async fn processes_of_this_machine_need_no_token() {
    let daemon = Daemon::start();
    assert_eq!(daemon.answer(from_process(true), "POST", "").await, code(200, "uid 1000"));
    assert_eq!(daemon.refused(from_process(false), "POST", "").await, code(401, "not-signed-in"));
    let token = daemon.token("board", Role::Viewer);
    let less = daemon.refused(from_process(true), "POST", &format!("authorization: Bearer {token}")).await;
    assert_eq!(less, code(403, "forbidden"), "whoever shows a token is who that stands for");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_matters_before_who_asks() {
    let daemon = Daemon::start();
    let token = format!("authorization: Bearer {}", daemon.token("ops", Role::Operator));
    let form = format!("{token}\ncontent-type: text/plain");
    assert_eq!(daemon.refused(from_afar(), "POST", &form).await, code(415, "wrong-content-type"));
    assert_eq!(
        daemon.refused(from_afar(), "GET", &format!("{token}\nhost: evil.example")).await,
        code(421, "wrong-host")
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_and_wrong_tokens_have_to_wait() {
    let daemon = Daemon::start();
    let token = format!("authorization: Bearer {}", daemon.token("ops", Role::Operator));
    for _ in 0..5 {
        assert_eq!(daemon.refused(from_afar(), "GET", "authorization: Bearer x").await, code(401, "wrong-credentials"));
    }
    assert_eq!(daemon.refused(from_afar(), "GET", "authorization: Bearer x").await, code(429, "too-many-requests"));
    assert_eq!(daemon.answer(from_afar(), "GET", &token).await.0, 200, "nobody locks out those who know one");
    let mut passed = 0;
    while daemon.answer(from_afar(), "GET", &token).await.0 == 200 {
        passed += 1;
    }
    assert_eq!(passed, 100 - 7);
    let response = daemon.ask(from_afar(), "GET", &token).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(daemon.answer(from_process(true), "GET", "").await.0, 200);
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert_eq!(daemon.answer(from_afar(), "GET", &token).await.0, 200);
}

#[tokio::test]
async fn refused_attempts_are_in_the_audit_log() {
    let daemon = Daemon::start();
    let viewer = daemon.token("board", Role::Viewer);
    let token = format!("authorization: Bearer {viewer}");
    daemon.answer(from_afar(), "GET", "").await;
    daemon.answer(from_afar(), "DELETE", &token).await;
    daemon.answer(from_afar(), "GET", "authorization: Bearer wrong").await;
    let entries = daemon.gate.audit.page(None, 10).unwrap().items;
    let said: Vec<_> =
        entries.iter().map(|entry| (&*entry.event.who, &*entry.event.method, entry.result.clone())).collect();
    let refused = |why: &str| Ending::Refused(why.to_owned());
    assert_eq!(said, [("anonymous", "GET", refused("wrong-credentials")), ("board", "DELETE", refused("forbidden"))]);
    assert_eq!((entries[1].event.role, &*entries[1].event.from), (Some(Role::Viewer), "198.51.100.7:4000"));
    assert!(!format!("{entries:?}").contains(&viewer[11..]));
}

#[tokio::test]
async fn without_readable_tokens_nobody_is_let_in() {
    let daemon = Daemon::start();
    let token = daemon.token("ops", Role::Admin);
    std::fs::write(daemon._data.path().join("admin/tokens.json"), "{").unwrap();
    let refused = daemon.refused(from_afar(), "GET", &format!("authorization: Bearer {token}")).await;
    assert_eq!(refused, code(503, "unavailable"));
    assert_eq!(daemon.answer(from_process(true), "GET", "").await.0, 200);
    let expired = Some(Utc::now() - TimeDelta::days(1));
    let new = NewToken { name: "late".into(), role: Role::Viewer, flows: FlowPatterns::all(), expires: expired };
    assert!(daemon.gate.tokens.create(new, Utc::now()).is_err());
}
