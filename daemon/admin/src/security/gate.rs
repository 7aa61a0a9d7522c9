//! The gate that every request passes first: how many come, for whom they are meant, who sends them, and what browsers are told.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use chrono::Utc;
use millstream_core::{Error, Result};
use millstream_net::Rates;

use super::audit::{Audit, Event};
use super::peer::{Arrival, Peer};
use super::refusal::Refusal;
use super::requests::{Silent, bearer, check_content_type, check_host, check_site, cookie, is_safe, protect};
use super::role::{FlowPatterns, Principal, Role};
use super::sessions::{SessionCookie, Sessions, cookie_name};
use super::settings::{AdminSettings, ServeSettings};
use super::tokens::TokenStore;

/// How many times a minute, and at once, an address may say wrongly who it is, before it is no longer looked at what it says.
const FAILURES: f64 = 5.0;

/// What every request passes first.
#[derive(Debug)]
pub struct Gate {
    /// The tokens.
    pub tokens: Arc<TokenStore>,
    /// The sessions of the console.
    pub sessions: Sessions,
    /// What was done.
    pub audit: Arc<Audit>,
    hosts: Vec<String>,
    /// The roles of names in certificates.
    certificates: Vec<(String, Role)>,
    requests: Rates,
    failures: Rates,
    /// Whether bodies are taken whatever they say they are.
    takes_all_bodies: bool,
    /// What those may do who say nothing of who they are.
    everybody: Option<Role>,
}

impl Gate {
    /// The gate of a daemon with its data in a folder.
    ///
    /// # Errors
    /// If the audit log can't be opened.
    pub fn open(settings: &AdminSettings, data: &Path) -> Result<Self> {
        Ok(Self {
            tokens: Arc::new(TokenStore::new(data)),
            sessions: Sessions::default(),
            audit: Audit::open(data)?,
            hosts: settings.hosts.clone(),
            certificates: settings.tls.roles.clone().into_iter().collect(),
            requests: Rates::new(settings.rate.0, settings.rate.0 * 2.0),
            failures: Rates::new(FAILURES / 60.0, FAILURES),
            takes_all_bodies: false,
            everybody: None,
        })
    }

    /// The gate of what is served besides, with the tokens of a daemon. Sessions are none of its: no page of a browser is served. Tensors come
    /// in bodies that say nothing of what they are; a page of another site is known by `Origin`, which browsers send with all they send.
    pub fn of_serving(settings: &ServeSettings, tokens: Arc<TokenStore>, audit: Arc<Audit>) -> Self {
        Self {
            tokens,
            sessions: Sessions::default(),
            audit,
            hosts: settings.hosts.clone(),
            certificates: settings.tls.roles.clone().into_iter().collect(),
            requests: Rates::new(settings.rate.0, settings.rate.0 * 2.0),
            failures: Rates::new(FAILURES / 60.0, FAILURES),
            takes_all_bodies: true,
            everybody: settings.without_token.then_some(Role::Viewer),
        }
    }

    /// Whether those may do something who say nothing of who they are.
    pub fn lets_everybody_in(&self) -> bool {
        self.everybody.is_some()
    }

    /// Looks at the head of a request, and says who asks. `None` if it does not say.
    ///
    /// # Errors
    /// If it is refused.
    pub fn admit(&self, arrival: &Arrival, parts: &Parts) -> Result<Option<Principal>, Refusal> {
        if let Some(ip) = arrival.peer.ip() {
            self.requests.take(ip).map_err(Refusal::TooMany)?;
        }
        check_host(parts, arrival, &self.hosts)?;
        if !self.takes_all_bodies && !is_safe(&parts.method) {
            check_content_type(parts)?;
        }
        if let Some(token) = bearer(&parts.headers)? {
            return self.check_token(arrival, token).map(Some);
        }
        if let Peer::Process(process) = arrival.peer {
            return Ok(process.is_admin.then(|| everything(&format!("uid {}", process.uid), Role::Admin)));
        }
        if let Some(cookie) = cookie(&parts.headers, cookie_name(arrival.encrypted)) {
            check_site(parts, arrival, Silent::Refused)?;
            return self.of_session(cookie);
        }
        check_site(parts, arrival, Silent::Allowed)?;
        Ok(self.of_certificate(arrival).or_else(|| self.everybody.map(|role| everything("anybody", role))))
    }

    /// Begins a session with a token. What it returns is the header `Set-Cookie`.
    ///
    /// # Errors
    /// If the token is none, or over.
    pub fn sign_in(&self, arrival: &Arrival, token: &str) -> Result<(Principal, String), Refusal> {
        let principal = self.check_token(arrival, token)?;
        let id = principal.token.clone().ok_or(Refusal::NotSignedIn)?;
        let cookie = self.sessions.open(id).map_err(|error| Refusal::Unavailable(error.to_string()))?;
        Ok((principal, cookie.set(arrival.encrypted)))
    }

    /// Ends the session of a request, if it is of one. What it returns is the header `Set-Cookie`.
    pub fn sign_out(&self, arrival: &Arrival, parts: &Parts) -> String {
        if let Some(cookie) = cookie(&parts.headers, cookie_name(arrival.encrypted)) {
            self.sessions.close(cookie);
        }
        SessionCookie::clear(arrival.encrypted)
    }

    /// Ends a token and its sessions. False if there is no such token.
    ///
    /// # Errors
    /// If the file of tokens can't be written.
    pub fn revoke(&self, id: &str) -> Result<bool> {
        let revoked = self.tokens.revoke(id)?;
        self.sessions.close_all(id);
        Ok(revoked.is_some())
    }

    fn check_token(&self, arrival: &Arrival, token: &str) -> Result<Principal, Refusal> {
        let found = self.tokens.check(token, Utc::now()).map_err(|error| unavailable(&error))?;
        found.ok_or_else(|| self.failed(arrival))
    }

    /// What is said to those who say wrongly who they are. Whoever knows a token is let in however often others at the address have failed: guessing
    /// 256 bits is out of the question, and nobody should be able to lock others out.
    fn failed(&self, arrival: &Arrival) -> Refusal {
        match arrival.peer.ip().map_or(Ok(()), |ip| self.failures.take(ip)) {
            Ok(()) => Refusal::WrongCredentials("that is no token that holds: it may have expired, or was revoked"),
            Err(after) => Refusal::TooMany(after),
        }
    }

    /// A session that is over is none, so that the page to sign in can be shown.
    fn of_session(&self, cookie: &str) -> Result<Option<Principal>, Refusal> {
        let Some(token) = self.sessions.token(cookie) else { return Ok(None) };
        self.tokens.principal(&token, Utc::now()).map_err(|error| unavailable(&error))
    }

    fn of_certificate(&self, arrival: &Arrival) -> Option<Principal> {
        let names = arrival.certificate.as_ref()?;
        let known = self.certificates.iter().filter(|(name, _)| names.contain(name));
        known.max_by_key(|(_, role)| *role).map(|(name, role)| everything(name, *role))
    }

    /// Writes down that a request was refused, if somebody would want to know that.
    async fn note(&self, event: Event, status: StatusCode, why: Option<String>) {
        let matters = match status {
            // Everybody who opens the console does that.
            StatusCode::UNAUTHORIZED => why.as_deref() == Some("wrong-credentials") || !is_safe_name(&event.method),
            StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => true,
            _ => false,
        };
        if matters {
            self.audit.refused(event, why.unwrap_or_else(|| status.as_str().to_owned())).await;
        }
    }
}

/// Somebody who has to do with all flows, and has shown no token.
fn everything(name: &str, role: Role) -> Principal {
    Principal { name: name.into(), role, flows: FlowPatterns::all(), token: None }
}

fn is_safe_name(method: &str) -> bool {
    method.parse().is_ok_and(|method: Method| is_safe(&method))
}

fn unavailable(error: &Error) -> Refusal {
    tracing::error!("nobody can be let in: {error}");
    Refusal::Unavailable(
        "it can't be found out who asks, since the tokens can't be read; the daemon's log says why".to_owned(),
    )
}

/// Whether somebody may do what takes a role, to a flow or to what is no flow.
///
/// # Errors
/// If they may not, or it is not known who asks.
pub fn require<'a>(principal: Option<&'a Principal>, role: Role, flow: Option<&str>) -> Result<&'a Principal, Refusal> {
    let principal = principal.ok_or(Refusal::NotSignedIn)?;
    if principal.may(role, flow) { Ok(principal) } else { Err(Refusal::Forbidden(role)) }
}

impl Event {
    /// What a request is about to do, by who sends it and its head.
    pub fn of(arrival: &Arrival, principal: Option<&Principal>, parts: &Parts) -> Self {
        Self {
            who: principal.map_or_else(|| "anonymous".to_owned(), |principal| principal.name.to_string()),
            role: principal.map(|principal| principal.role),
            from: arrival.peer.to_string(),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            target: None,
            before: None,
            after: None,
        }
    }
}

/// The middleware. Requests have an [`Arc<Arrival>`] among their extensions; behind it, those that say who asks also have a [`Principal`].
pub async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(arrival) = parts.extensions.get::<Arc<Arrival>>().cloned() else {
        return Refusal::Unavailable("it is not known how the request came".to_owned()).into_response();
    };
    let admitted = gate.admit(&arrival, &parts);
    let event = Event::of(&arrival, admitted.as_ref().ok().and_then(Option::as_ref), &parts);
    let mut response = match admitted {
        Ok(principal) => {
            if let Some(principal) = principal {
                parts.extensions.insert(principal);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => refusal.into_response(),
    };
    let why = response.extensions().get::<Refusal>().map(|refusal| refusal.code().to_owned());
    gate.note(event, response.status(), why).await;
    protect(response.headers_mut());
    response
}
