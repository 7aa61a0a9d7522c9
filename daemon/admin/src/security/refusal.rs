//! Why a request is refused before anybody looks at what it wants.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::role::Role;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is meant for another host, or its page comes from one.
    WrongHost(String),
    /// Another site's page has sent it.
    CrossSite(&'static str),
    /// It does not say who asks, and that has to be known.
    NotSignedIn,
    /// It says who asks in a way that does not hold.
    WrongCredentials(&'static str),
    /// Who asks may not do that.
    Forbidden(Role),
    /// Its body is of a type that is not taken.
    WrongContentType,
    /// There are too many from where it comes; another one may come after so long.
    TooMany(Duration),
    /// It can't be found out who asks, or what was done can't be written down.
    Unavailable(String),
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::WrongHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::CrossSite(_) | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotSignedIn | Self::WrongCredentials(_) => StatusCode::UNAUTHORIZED,
            Self::WrongContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// By which programs know it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongHost(_) => "wrong-host",
            Self::CrossSite(_) => "cross-site",
            Self::NotSignedIn => "not-signed-in",
            Self::WrongCredentials(_) => "wrong-credentials",
            Self::Forbidden(_) => "forbidden",
            Self::WrongContentType => "wrong-content-type",
            Self::TooMany(_) => "too-many-requests",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// What is wrong, and what would be right.
    pub fn detail(&self) -> String {
        match self {
            Self::WrongHost(host) if host.is_empty() => {
                "the request does not say for which host it is meant".to_owned()
            }
            Self::WrongHost(host) => format!(
                "`{host}` is none of this daemon's names; list it in `hosts` of `[admin]`, if people are to reach the daemon by it"
            ),
            Self::CrossSite(why) => format!("{why}; only pages of the daemon itself may change anything"),
            Self::NotSignedIn => {
                "say who asks: `Authorization: Bearer TOKEN`, with a token of `millstream token create`".to_owned()
            }
            Self::WrongCredentials(why) => (*why).to_owned(),
            Self::Forbidden(role) => format!("that takes the role `{role}`, and a token that is for what it concerns"),
            Self::WrongContentType => {
                "the body has to be `application/json` or `application/toml`, in UTF-8, and say so in `Content-Type`"
                    .to_owned()
            }
            Self::TooMany(_) => "too many requests came from this address; wait a little".to_owned(),
            Self::Unavailable(why) => why.clone(),
        }
    }

    /// Whether the same request may be granted later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::TooMany(_) | Self::Unavailable(_))
    }

    /// What the answer says in headers as well.
    pub fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Self::NotSignedIn => Some(("www-authenticate", "Bearer realm=\"millstream\"".to_owned())),
            Self::WrongCredentials(_) => {
                Some(("www-authenticate", "Bearer realm=\"millstream\", error=\"invalid_token\"".to_owned()))
            }
            // Whole seconds, and never so few that the next one comes too early.
            Self::TooMany(after) => Some(("retry-after", (after.as_secs() + 1).to_string())),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let problem = json!({
            "type": format!("/problems/{}", self.code()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.detail(),
            "code": self.code(),
            "retryable": self.is_retryable(),
        });
        let mut response = (status, problem.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.header() {
            headers.extend(HeaderValue::from_str(&value).ok().map(|value| (HeaderName::from_static(name), value)));
        }
        // For the audit log.
        response.extensions_mut().insert(self);
        response
    }
}
