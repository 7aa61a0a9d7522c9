//! Tokens that a server gives for a name and a secret: the grant `client_credentials` of OAuth 2.

use std::time::Duration;

use millstream_core::{ByteSize, Error, PlanContext, Problem, Result, Secret};
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use reqwest::redirect::Policy;
use serde::Deserialize;

use crate::auth::basic;
use crate::client::{Answer, Reading, Sender};
use crate::connection::parse_url;
use crate::tls::Tls;

/// How long a server may take to be reached and to answer, for clients that ask for nothing but tokens.
const PATIENCE: Duration = Duration::from_secs(10);

/// How large the answer to such clients may be.
const MAX_ANSWER: ByteSize = ByteSize(1 << 20);

/// A name and a secret, and where tokens are given for them.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// The address of the server.
    pub token_url: String,
    /// The name.
    pub client_id: String,
    /// The secret.
    pub client_secret: Secret,
    /// What is asked for, as the service calls it.
    pub scope: Option<String>,
}

/// A token that was given.
pub struct GivenToken {
    /// The token.
    pub text: String,
    /// How long it lasts, if that was said.
    pub lasts: Option<Duration>,
}

/// What a server says of a token that it gives.
#[derive(Deserialize)]
struct Said {
    access_token: String,
    expires_in: Option<f64>,
}

impl ClientCredentials {
    /// Asks for a token.
    pub(crate) async fn ask(&self, sender: &Sender) -> Result<GivenToken> {
        let url: Url = self.token_url.parse().map_err(|_| Error::new("`token_url` is no address"))?;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.iter().map(|scope| ("scope", scope.as_str())));
        let who = basic(&self.client_id, &self.client_secret)?;
        let request = sender.http.post(url).header(AUTHORIZATION, who).form(&form);
        let answer = sender.send(request, Reading::Whole).await?;
        if answer.status.is_success() { read(&answer) } else { Err(answer.refusal("asking for a token")) }
    }

    /// What asks for tokens and for nothing else. Nothing is asked yet.
    ///
    /// # Errors
    /// If a setting is wrong, at its place.
    pub fn source(&self, tls: Option<&Tls>, context: &PlanContext) -> Result<TokenSource, Problem> {
        parse_url(&self.token_url).map_err(|problem| problem.at(["token_url"]))?;
        let tls = tls.unwrap_or(&Tls::default()).config(context).map_err(|problem| problem.under("token_tls"))?;
        Ok(TokenSource { credentials: self.clone(), tls })
    }
}

fn read(answer: &Answer) -> Result<GivenToken> {
    // What is wrong may be the token.
    let said: Said = serde_json::from_slice(&answer.body)
        .map_err(|_| Error::new("asking for a token: the answer has no `access_token`"))?;
    let lasts = said.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(GivenToken { text: said.access_token, lasts })
}

/// Asks for tokens, for clients that speak no HTTP themselves.
pub struct TokenSource {
    credentials: ClientCredentials,
    tls: rustls::ClientConfig,
}

impl TokenSource {
    /// Asks for a token. Blocks the thread, for some seconds at most, whichever it is.
    ///
    /// # Errors
    /// If the server refuses, or does not answer: that is a transient one.
    pub fn ask(&self) -> Result<GivenToken> {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.ask_once())
        };
        // A thread that runs tasks can't wait for others.
        let asked = std::thread::scope(|scope| scope.spawn(work).join());
        asked.unwrap_or_else(|_| Err(Error::new("asking for a token: the thread has panicked")))
    }

    async fn ask_once(&self) -> Result<GivenToken> {
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(self.tls.clone())
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .build()
            .map_err(|error| Error::new(format!("there can be no client: {error}")))?;
        self.credentials.ask(&Sender { http, max_response: MAX_ANSWER }).await
    }
}
