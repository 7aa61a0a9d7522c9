//! What is looked at in the head of every request, before who asks matters: pure functions of it.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Method, Version};

use super::peer::{Arrival, Peer};
use super::refusal::Refusal;

/// The types of bodies that are taken.
const CONTENT_TYPES: [&str; 2] = ["application/json", "application/toml"];

/// What browsers are told with every answer. Nothing comes from elsewhere, nothing is sent elsewhere, no text becomes a script, and no other
/// page shows ours in a frame or holds on to its window.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// What a request without the headers `Sec-Fetch-Site` and `Origin` is taken for. All browsers of today send one of them with whatever may
/// change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// One that a program has sent, which can't be made to by a page.
    Allowed,
    /// One that must not be, since only browsers have what it says who asks with.
    Refused,
}

/// Whether a method changes nothing.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The host that a request is meant for, as one text with its port.
///
/// # Errors
/// If it says none, or two.
fn authority(parts: &Parts) -> Result<Authority, Refusal> {
    let unclear =
        |text: &str| Refusal::WrongHost(text.chars().filter(|letter| !letter.is_control()).take(100).collect());
    let in_uri = parts.uri.authority().cloned();
    let mut in_headers = parts.headers.get_all(header::HOST).iter();
    let in_header = match (in_headers.next(), in_headers.next()) {
        (None, _) => None,
        (Some(host), None) => {
            let text = host.to_str().map_err(|_| unclear(""))?;
            Some(text.parse::<Authority>().map_err(|_| unclear(text))?)
        }
        (Some(_), Some(_)) => return Err(unclear("")),
    };
    match (in_uri, in_header) {
        (Some(uri), Some(header)) if uri != header => Err(unclear(header.as_str())),
        // With a name and a password in it, it is no host.
        (_, Some(host)) | (Some(host), None) if !host.as_str().contains('@') => Ok(host),
        (Some(host), _) | (None, Some(host)) => Err(unclear(host.as_str())),
        (None, None) => Err(unclear("")),
    }
}

/// Checks that a request is meant for this daemon, so that a name of somebody else's that was made to point here (DNS rebinding) is of no use.
/// Good are names of this machine for itself, the address that the request has come to, and `hosts`. The port does not matter.
///
/// # Errors
/// If it is meant for another host.
pub fn check_host(parts: &Parts, arrival: &Arrival, hosts: &[String]) -> Result<(), Refusal> {
    let Peer::Address(_) = arrival.peer else { return Ok(()) };
    let authority = authority(parts)?;
    let host = authority.host().trim_end_matches('.');
    let is_listed = hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
    if is_listed || is_this_machine(host, arrival.local) {
        Ok(())
    } else {
        Err(Refusal::WrongHost(host.chars().take(100).collect()))
    }
}

fn is_this_machine(host: &str, local: Option<SocketAddr>) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|ip| {
        let ip = ip.to_canonical();
        ip.is_loopback() || local.is_some_and(|local| local.ip().to_canonical() == ip)
    })
}

/// Checks that a request which may change something was not sent by the page of another site, with what the browser knows of its user.
///
/// # Errors
/// If it may have been.
pub fn check_site(parts: &Parts, arrival: &Arrival, silent: Silent) -> Result<(), Refusal> {
    if is_safe(&parts.method) {
        return Ok(());
    }
    let one = |name| {
        let mut values = parts.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Refusal::CrossSite("the request says twice where it comes from")),
        }
    };
    if let Some(site) = one(HeaderName::from_static("sec-fetch-site"))? {
        return match site.as_bytes() {
            b"same-origin" | b"none" => Ok(()),
            _ => Err(Refusal::CrossSite("the page of another site has sent the request")),
        };
    }
    match (one(header::ORIGIN)?, silent) {
        (Some(origin), _) => {
            let is_ours = is_same(origin, &authority(parts)?, arrival.encrypted);
            is_ours.then_some(()).ok_or(Refusal::CrossSite("the page of another site has sent the request"))
        }
        (None, Silent::Allowed) => Ok(()),
        (None, Silent::Refused) => Err(Refusal::CrossSite("the request says neither `Sec-Fetch-Site` nor `Origin`")),
    }
}

/// Whether an origin is that of a page of ours. Where TLS ends here, a page without it is none of ours.
fn is_same(origin: &HeaderValue, host: &Authority, encrypted: bool) -> bool {
    let Some((scheme, of_page)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let scheme_fits = scheme == "https" || (scheme == "http" && !encrypted);
    scheme_fits && of_page.eq_ignore_ascii_case(host.as_str())
}

/// Checks that a body is of a type which a form on a web page can't send.
///
/// # Errors
/// If it is of another one.
pub fn check_content_type(parts: &Parts) -> Result<(), Refusal> {
    let mut types = parts.headers.get_all(header::CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(said), None) if said.to_str().is_ok_and(is_taken) => Ok(()),
        (None, _) if !has_body(parts) => Ok(()),
        _ => Err(Refusal::WrongContentType),
    }
}

fn is_taken(said: &str) -> bool {
    let mut parts = said.split(';').map(str::trim);
    let is_type = parts.next().is_some_and(|said| CONTENT_TYPES.iter().any(|taken| said.eq_ignore_ascii_case(taken)));
    is_type && parts.all(|parameter| parameter.to_ascii_lowercase().replace('"', "") == "charset=utf-8")
}

/// Whether a body comes, as far as the head says. That of HTTP/2 does not.
fn has_body(parts: &Parts) -> bool {
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let has_length = length.is_some_and(|length| length.as_bytes() != b"0");
    has_length || (parts.version < Version::HTTP_2 && parts.headers.contains_key(header::TRANSFER_ENCODING))
}

/// The text behind `Authorization: Bearer`. `None` if there is no such header.
///
/// # Errors
/// If there are several, or something else is in it.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let token = value.and_then(|value| value.split_once(' ')).and_then(|(scheme, token)| {
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    });
    let wrong = Refusal::WrongCredentials("`Authorization` has to be one header, `Bearer` and a token");
    token.map(Some).ok_or(wrong)
}

/// The value of a cookie. `None` if there is none of that name, or there are several: a page of a neighbouring host may have set one of them.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}

/// Puts into an answer what browsers are told with all of them. Whatever says nothing else of it is not kept anywhere.
pub fn protect(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
