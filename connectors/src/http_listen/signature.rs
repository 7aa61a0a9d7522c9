//! Signatures: who has the secret has signed the body, as GitHub, Stripe and others do with what they send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use millstream_core::{Duration, Problem, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Sha256, Sha512};

/// How many signatures a header may have: senders that change their secret sign with both.
const MOST: usize = 8;

/// What is signed, and with which secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureSettings {
    /// The header with the signature, in hexadecimal digits or Base64. A word and `=` before it, such as `sha256=`, are skipped. By
    /// default `"X-Hub-Signature-256"`.
    #[serde(default = "header")]
    header: String,
    /// The secret that the sender has as well, of 16 letters at least.
    secret: Secret,
    /// What it signs with, by default `"sha256"`.
    #[serde(default)]
    algorithm: Algorithm,
    /// How far the time of a signature may be from ours, such as `"5m"`, so that nobody can send again what they have seen. The sender then says the
    /// time in seconds since 1970, and signs the time, a `.` and the body. By default only the body is signed, at any time.
    tolerance: Option<Duration>,
    /// With `tolerance`: the header with the time. By default it is `t=` in the header of the signature, as with Stripe.
    timestamp: Option<String>,
}

/// What is signed with: HMAC of RFC 2104 with this hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

fn header() -> String {
    "X-Hub-Signature-256".to_owned()
}

/// Checks signatures.
pub struct Signature {
    header: String,
    key: Key,
    time: Option<Time>,
}

enum Key {
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

/// Where the time of a signature is, and how far it may be from ours.
struct Time {
    header: Option<String>,
    tolerance: u64,
}

impl SignatureSettings {
    /// What checks signatures.
    ///
    /// # Errors
    /// If the secret can be guessed, or a setting is of no use.
    pub fn make(&self) -> Result<Signature, Problem> {
        let secret = long_enough(&self.secret).map_err(|problem| problem.at(["secret"]))?;
        if self.timestamp.is_some() && self.tolerance.is_none() {
            let problem = Problem::new("the time is not looked at").at(["timestamp"]);
            return Err(problem.help("say also how old it may be: `tolerance = \"5m\"`"));
        }
        let key = match self.algorithm {
            Algorithm::Sha256 => Hmac::new_from_slice(secret).map(Key::Sha256),
            Algorithm::Sha512 => Hmac::new_from_slice(secret).map(Key::Sha512),
        };
        let key = key.map_err(|error| Problem::new(error.to_string()).at(["secret"]))?;
        let header = self.timestamp.clone();
        let time = self.tolerance.map(|tolerance| Time { header, tolerance: tolerance.0.as_secs() });
        Ok(Signature { header: self.header.clone(), key, time })
    }
}

/// What others can't guess.
pub fn long_enough(secret: &Secret) -> Result<&[u8], Problem> {
    const FEWEST: usize = 16;
    let bytes = secret.reveal().as_bytes();
    if bytes.len() >= FEWEST {
        return Ok(bytes);
    }
    let problem = Problem::new(format!("it has less than {FEWEST} letters, and might be guessed"));
    Err(problem.help("make one with `openssl rand -hex 32`"))
}

impl Signature {
    /// What is wrong with the header of a request whatever its body is.
    pub fn check_head(&self, headers: &HeaderMap, now: u64) -> Result<(), String> {
        self.said(headers).and_then(|said| self.time(headers, said, now)).map(drop)
    }

    /// What is wrong with the signature of a request.
    pub fn check(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), String> {
        let said = self.said(headers)?;
        let time = self.time(headers, said, now)?;
        let is_signed = match &self.key {
            Key::Sha256(key) => is_signed(key, time, body, said),
            Key::Sha512(key) => is_signed(key, time, body, said),
        };
        if is_signed { Ok(()) } else { Err(format!("`{}` is not the signature of this body", self.header)) }
    }

    fn said<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, String> {
        one(headers, &self.header)?.ok_or_else(|| format!("it has to be signed, in the header `{}`", self.header))
    }

    /// The time at which was signed, if it has to be said.
    fn time<'a>(&self, headers: &'a HeaderMap, said: &'a str, now: u64) -> Result<Option<&'a str>, String> {
        let Some(Time { header, tolerance }) = &self.time else { return Ok(None) };
        let text = match header {
            Some(name) => one(headers, name)?,
            None => parts(said).find_map(|part| part.strip_prefix("t=")),
        };
        let at = text.and_then(|text| text.parse::<u64>().ok());
        let at = at.ok_or("the signature does not say its time, in seconds since 1970")?;
        if at.abs_diff(now) > *tolerance {
            return Err(format!("it was signed at {at}, which is more than {tolerance} s from now, {now}"));
        }
        Ok(text)
    }
}

/// The only value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.to_str()), second) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text)),
        _ => Err(format!("`{name}` is there twice, or no text")),
    }
}

fn parts(said: &str) -> impl Iterator<Item = &str> {
    said.split(',').map(str::trim)
}

/// Whether one of the signatures is that of a body. What is compared takes the same time wherever they differ.
fn is_signed<M: Mac + Clone>(key: &M, time: Option<&str>, body: &[u8], said: &str) -> bool {
    let mut mac = key.clone();
    if let Some(time) = time {
        mac.update(time.as_bytes());
        mac.update(b".");
    }
    mac.update(body);
    let texts = parts(said).take(MOST).flat_map(|part| [Some(part), part.split_once('=').map(|(_, text)| text)]);
    let mut signatures = texts.flatten().filter_map(|text| decode(text, M::output_size()));
    signatures.any(|signature| mac.clone().verify_slice(&signature).is_ok())
}

/// So many bytes in hexadecimal digits or Base64.
fn decode(text: &str, bytes: usize) -> Option<Vec<u8>> {
    let decoded = if text.len() == 2 * bytes {
        let digit = |letter: &u8| char::from(*letter).to_digit(16).map(|digit| digit as u8);
        text.as_bytes().chunks_exact(2).map(|pair| Some((digit(&pair[0])? << 4) | digit(&pair[1])?)).collect()
    } else {
        STANDARD.decode(text).ok()
    };
    decoded.filter(|decoded: &Vec<u8>| decoded.len() == bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    const NOW: u64 = 1_700_000_000;

    fn check(settings: &str, headers: &[(&str, &str)], body: &str) -> Result<(), String> {
        let settings: SignatureSettings = toml::from_str(settings).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        settings.make().unwrap().check(&map, body.as_bytes(), NOW)
    }

    /// The example of GitHub's documentation.
    #[test]
    fn as_github_signs() {
        let settings = "secret = \"It's a Secret to Everybody\"";
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let header = [("x-hub-signature-256", signature)];
        assert_eq!(check(settings, &header, "Hello, World!"), Ok(()));
        let other = check(settings, &header, "Hello, World?").unwrap_err();
        assert_eq!(other, "`X-Hub-Signature-256` is not the signature of this body");
        assert!(check(settings, &[], "Hello, World!").unwrap_err().contains("has to be signed"));
        assert!(check(settings, &[header[0], header[0]], "Hello, World!").unwrap_err().contains("twice"));
        let base64 = "header = 'X-Shop'\nsecret = \"It's a Secret to Everybody\"";
        let signature = "dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc=";
        assert_eq!(check(base64, &[("x-shop", signature)], "Hello, World!"), Ok(()));
        assert!(check(base64, &[("x-shop", &signature[..20])], "Hello, World!").is_err());
    }

    /// Made by `printf %s 1700000000.'{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    const AT_NOW: &str = "9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23";

    #[test]
    fn a_time_that_is_signed_ends_replays() {
        let stripe = "header = 'Stripe-Signature'\nsecret = '0123456789abcdef'\ntolerance = '5m'";
        let body = "{\"a\":1}";
        let signed = |time: u64| format!("t={time},v1={},v1={AT_NOW},v0=00", "0".repeat(64));
        assert_eq!(check(stripe, &[("stripe-signature", &signed(NOW))], body), Ok(()));
        let moved = check(stripe, &[("stripe-signature", &signed(NOW + 1))], body).unwrap_err();
        assert!(moved.contains("is not the signature"), "the time is signed, too: {moved}");
        for late in [NOW - 301, NOW + 301] {
            let refused = check(stripe, &[("stripe-signature", &signed(late))], body).unwrap_err();
            assert!(refused.contains("more than 300 s from now"), "{refused}");
        }
        let silent = check(stripe, &[("stripe-signature", AT_NOW)], body).unwrap_err();
        assert!(silent.contains("does not say its time"), "{silent}");
        let apart = format!("{stripe}\ntimestamp = 'X-Time'");
        let headers = [("stripe-signature", AT_NOW), ("x-time", "1700000000")];
        assert_eq!(check(&apart, &headers, body), Ok(()));
        // Who signs bodies only can't be made to sign a time by a body that begins with one.
        let plain = "header = 'Stripe-Signature'\nsecret = '0123456789abcdef'";
        assert!(check(plain, &[("stripe-signature", &signed(NOW))], body).is_err());
    }

    #[test]
    fn settings_that_are_wrong() {
        let place = |text: &str| toml::from_str::<SignatureSettings>(text).unwrap().make().map(drop).unwrap_err().at;
        assert_eq!(place("secret = 'short'"), ["secret".into()]);
        assert_eq!(place("secret = '0123456789abcdef'\ntimestamp = 'X-Time'"), ["timestamp".into()]);
    }
}
