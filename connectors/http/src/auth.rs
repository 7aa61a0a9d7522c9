//! Who asks: what is put into requests so that a service answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_core::{Error, Problem, Result, Secret};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::Sender;
use crate::oauth::{ClientCredentials, GivenToken};

/// Who asks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// A token.
    Bearer {
        /// The token.
        token: Secret,
    },
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A key in a header.
    ApiKey {
        /// The name of the header.
        #[serde(default = "api_key_header")]
        header: String,
        /// The key.
        key: Secret,
    },
    /// A token that a server gives for a name and a secret (the grant `client_credentials` of OAuth 2). It is renewed when 80 % of its
    /// time are over, and once when it is refused.
    Oauth2 {
        /// The address of the server.
        token_url: String,
        /// The name.
        client_id: String,
        /// The secret.
        client_secret: Secret,
        /// What is asked for, as the service calls it.
        scope: Option<String>,
    },
}

fn api_key_header() -> String {
    "X-API-Key".to_owned()
}

/// A token that was given.
struct Token {
    header: HeaderValue,
    /// When it is time for another one.
    renewal: Option<Instant>,
}

/// The header that says who asks.
pub struct Credentials {
    auth: Option<Auth>,
    name: HeaderName,
    token: Mutex<Option<Token>>,
}

impl Credentials {
    /// Checks the settings. Places of problems begin at the connection.
    pub fn new(auth: Option<Auth>) -> Result<Self, Problem> {
        let name = match &auth {
            Some(Auth::ApiKey { header, .. }) => HeaderName::try_from(header.as_str())
                .map_err(|_| Problem::new(format!("`{header}` is no name of a header")).at(["auth", "header"]))?,
            _ => AUTHORIZATION,
        };
        if let Some(Auth::Oauth2 { token_url, .. }) = &auth {
            crate::connection::parse_url(token_url).map_err(|problem| problem.at(["auth", "token_url"]))?;
        }
        Ok(Self { auth, name, token: Mutex::new(None) })
    }

    /// The header of a request. None if anybody may ask.
    pub async fn header(&self, sender: &Sender) -> Result<Option<(HeaderName, HeaderValue)>> {
        let value = match &self.auth {
            None => return Ok(None),
            Some(Auth::Bearer { token }) => secret_header(&format!("Bearer {}", token.reveal()))?,
            Some(Auth::Basic { username, password }) => basic(username, password)?,
            Some(Auth::ApiKey { key, .. }) => secret_header(key.reveal())?,
            Some(Auth::Oauth2 { .. }) => self.token(sender).await?,
        };
        Ok(Some((self.name.clone(), value)))
    }

    /// A token was refused. Returns whether another one may be given.
    pub async fn refused(&self) -> bool {
        matches!(self.auth, Some(Auth::Oauth2 { .. })) && self.token.lock().await.take().is_some()
    }

    /// The token that is good now.
    async fn token(&self, sender: &Sender) -> Result<HeaderValue> {
        // Whoever else needs one waits for it.
        let mut token = self.token.lock().await;
        let is_good = |token: &&Token| token.renewal.is_none_or(|renewal| Instant::now() < renewal);
        if let Some(token) = token.as_ref().filter(is_good) {
            return Ok(token.header.clone());
        }
        let new = self.renew(sender).await?;
        Ok(token.insert(new).header.clone())
    }

    async fn renew(&self, sender: &Sender) -> Result<Token> {
        let Some(Auth::Oauth2 { token_url, client_id, client_secret, scope }) = &self.auth else {
            return Err(Error::new("there is nobody to give a token"));
        };
        let credentials = ClientCredentials {
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            scope: scope.clone(),
        };
        let asked = Instant::now();
        let GivenToken { text, lasts } = credentials.ask(sender).await?;
        let renewal = lasts.and_then(|lasts| asked.checked_add(lasts.mul_f64(0.8)));
        Ok(Token { header: secret_header(&format!("Bearer {text}"))?, renewal })
    }
}

/// The header that says a name and a password.
pub fn basic(username: &str, password: &Secret) -> Result<HeaderValue> {
    secret_header(&format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.reveal()))))
}

/// A header that is not to be printed.
fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| Error::new("a secret has letters that no header can have"))?;
    value.set_sensitive(true);
    Ok(value)
}
