//! Who connects to brokers: the setting `sasl`, and what it comes to.

use std::sync::Arc;

use millstream_core::{PlanContext, Problem, Secret};
use millstream_http::{ClientCredentials, Tls};
use rdkafka::config::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::require_tls;
use crate::tokens::Tokens;

/// Who connects.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// How that is proved: by a name and a password, `"PLAIN"`, `"SCRAM-SHA-256"` or `"SCRAM-SHA-512"`; or by a token that a server gives for a name and
    /// a secret, `"OAUTHBEARER"`.
    mechanism: Mechanism,
    /// The name.
    username: Option<String>,
    /// The password, such as `"${KAFKA_PASSWORD}"` or `{ file = "/run/secrets/kafka" }`.
    password: Option<Secret>,
    /// With `OAUTHBEARER`: the address of the server that gives tokens (the grant `client_credentials` of OAuth 2). Another one is asked for when
    /// 60 % of the time of the last one are over.
    token_url: Option<String>,
    /// The name for which it gives them.
    client_id: Option<String>,
    /// The secret.
    client_secret: Option<Secret>,
    /// What is asked for, as the server calls it.
    scope: Option<String>,
    /// Whom to trust where `token_url` begins with `https`. By default, the authorities that the system trusts.
    token_tls: Option<Tls>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    Scram256,
    #[serde(rename = "SCRAM-SHA-512")]
    Scram512,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram256 => "SCRAM-SHA-256",
            Self::Scram512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

impl Sasl {
    /// Configures a client. Returns where its tokens come from, if it needs some. Problems are placed in the setting.
    pub fn configure(&self, config: &mut ClientConfig, context: &PlanContext) -> Result<Option<Arc<Tokens>>, Problem> {
        let name = self.mechanism.name();
        if self.mechanism != Mechanism::Plain {
            require_tls(&format!("the mechanism `{name}`")).map_err(|problem| problem.at(["mechanism"]))?;
        }
        config.set("sasl.mechanism", name);
        if self.mechanism == Mechanism::OauthBearer {
            return self.tokens(context).map(|tokens| Some(Arc::new(tokens)));
        }
        let (Some(username), Some(password)) = (&self.username, &self.password) else {
            return Err(
                Problem::new(format!("`{name}` needs a name and a password")).help("set `username` and `password`")
            );
        };
        config.set("sasl.username", username).set("sasl.password", password.reveal());
        Ok(None)
    }

    fn tokens(&self, context: &PlanContext) -> Result<Tokens, Problem> {
        let (Some(token_url), Some(client_id), Some(client_secret)) =
            (&self.token_url, &self.client_id, &self.client_secret)
        else {
            let problem =
                Problem::new("`OAUTHBEARER` needs a server that gives tokens, and a name and a secret for it");
            return Err(problem.help("set `token_url`, `client_id` and `client_secret`"));
        };
        let credentials = ClientCredentials {
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            scope: self.scope.clone(),
        };
        let source = credentials.source(self.token_tls.as_ref(), context)?;
        Tokens::new(source, client_id).map_err(|error| Problem::new(error.to_string()).at(["client_id"]))
    }
}
