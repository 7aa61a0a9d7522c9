//! Who may send rows: whoever shows a token, and has signed what it sends, as far as the settings want that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use blake3::Hash;
use hyper::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};
use millstream_core::{Problem, Secret, Step};
use millstream_net::Rates;

use super::request::Refusal;
use super::signature::{Signature, SignatureSettings, long_enough};

/// How many times a minute, and at once, an address may say wrongly who it is, before it is told to come later.
const FAILURES: f64 = 5.0;

/// Who may send rows.
pub struct Access {
    /// The hashes of the tokens, which are compared in a time that says nothing about them.
    tokens: Vec<Hash>,
    signature: Option<Signature>,
    failures: Rates,
}

impl Access {
    /// Lets those in who have one of the tokens, and sign as it is said.
    ///
    /// # Errors
    /// If a secret can be guessed, or a setting is of no use.
    pub fn new(tokens: &BTreeMap<String, Secret>, signature: Option<&SignatureSettings>) -> Result<Self, Problem> {
        let hash = |(name, token): (&String, &Secret)| {
            let bytes =
                long_enough(token).map_err(|problem| problem.at([Step::from("tokens"), name.as_str().into()]))?;
            Ok(blake3::hash(bytes))
        };
        let signature = signature.map(|settings| settings.make().map_err(|problem| problem.under("signature")));
        Ok(Self {
            tokens: tokens.iter().map(hash).collect::<Result<_, Problem>>()?,
            signature: signature.transpose()?,
            failures: Rates::new(FAILURES / 60.0, FAILURES),
        })
    }

    /// Looks at the head of a request, before anything of its body is read.
    ///
    /// # Errors
    /// If its sender may not send rows, whatever the body is.
    pub fn check_head(&self, from: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        if !self.tokens.is_empty() && !self.is_known(headers) {
            let why = "it has to show a token that holds: `Authorization: Bearer TOKEN`";
            let refusal = Refusal::new(StatusCode::UNAUTHORIZED, why).with_header(WWW_AUTHENTICATE, "Bearer");
            return Err(self.failed(from, refusal));
        }
        self.check_signature(from, |signature| signature.check_head(headers, now()))
    }

    /// Looks at the signature of a body, as it has come.
    ///
    /// # Errors
    /// If it is not that of the body.
    pub fn check_body(&self, from: IpAddr, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
        self.check_signature(from, |signature| signature.check(headers, body, now()))
    }

    fn check_signature(&self, from: IpAddr, check: impl Fn(&Signature) -> Result<(), String>) -> Result<(), Refusal> {
        let checked = self.signature.as_ref().map_or(Ok(()), check);
        checked.map_err(|why| self.failed(from, Refusal::new(StatusCode::FORBIDDEN, why)))
    }

    /// Whether a request shows one of the tokens. How long that takes says nothing about which one it is like.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else { return false };
        let shown = blake3::hash(token.trim().as_bytes());
        scheme.eq_ignore_ascii_case("bearer") & self.tokens.iter().fold(false, |known, token| known | (*token == shown))
    }

    /// Whoever knows a secret is let in however often others at the address have failed, so that nobody can lock others out.
    fn failed(&self, from: IpAddr, refusal: Refusal) -> Refusal {
        self.failures.take(from).map_or_else(
            |after| {
                let why = "this address was wrong too often about who it is";
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, why).again_after(after)
            },
            |()| refusal,
        )
    }
}

#[expect(clippy::disallowed_methods, reason = "it decides who is let in, before there is a row")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
