//! The connection `http`: its settings, and the client that they come to.

use std::collections::BTreeMap;

use millstream_core::{ByteSize, Kind, PlanContext, Problem, Rate, Step};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::{Auth, Credentials};
use crate::client::{Client, Sender, Turns};
use crate::timing::{Retry, Timeouts};
use crate::tls::Tls;

/// How a service is reached that speaks HTTP.
///
/// Redirects are not followed, and no proxy is used. Addresses that a service gives in its answers are asked only if they are its own:
/// the same scheme, host and port.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct HttpConnection {
    /// The address, which the paths of nodes are relative to: `"https://api.example.com/v1/"`.
    url: String,
    /// Headers of every request: `{ Accept = "application/json" }`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Who asks.
    auth: Option<Auth>,
    /// Whom to trust, and who we are, where the address begins with `https`.
    tls: Option<Tls>,
    /// How long the service may take.
    #[serde(default)]
    timeouts: Timeouts,
    /// When a request is sent again: where the service can't be reached, is busy (408, 425, 429) or fails (500, 502 to 504).
    #[serde(default)]
    retry: Retry,
    /// How many requests are sent at most: `"10/s"`.
    rate: Option<Rate>,
    /// How large an answer may be, also behind its compression, by default `"16MiB"`.
    #[serde(default = "max_response")]
    max_response: ByteSize,
}

fn max_response() -> ByteSize {
    ByteSize(16 << 20)
}

impl Kind for HttpConnection {
    const NAME: &'static str = "http";
    const ALSO_CALLED: &'static [&'static str] = &["https", "rest", "api"];
    const EXAMPLE: &'static str = r#"
url = "https://api.example.com/v1/"
auth = { type = "bearer", token = "${API_TOKEN}" }
rate = "10/s"
"#;

    fn check_connection(&self) -> Result<(), Problem> {
        self.timeouts.check()?;
        self.address("")?;
        self.headers()?;
        Credentials::new(self.auth.clone()).map(|_| ())
    }
}

impl HttpConnection {
    /// The address that a path of a node means.
    pub fn address(&self, path: &str) -> Result<Url, Problem> {
        let mut base = parse_url(&self.url).map_err(|problem| problem.at(["url"]))?;
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let wrong = |why: &str| Problem::new(format!("`{path}` {why}")).at(["path"]);
        let address = base.join(path.trim_start_matches('/')).map_err(|_| wrong("is no path"))?;
        if address.origin() != base.origin() {
            return Err(wrong("leads to another service").help("write what comes behind `url`"));
        }
        Ok(address)
    }

    /// Whether it is said how many requests are sent at most.
    pub fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// How many bytes an answer may have.
    pub fn largest(&self) -> usize {
        self.max_response.0
    }

    /// Makes the client. Nothing is asked yet.
    pub fn client(&self, context: &PlanContext) -> Result<Client, Problem> {
        self.check_connection()?;
        let tls = match &self.tls {
            Some(tls) => tls.config(context),
            None => Tls::default().config(context),
        };
        let tls = tls.map_err(|problem| problem.under("tls"))?;
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(self.timeouts.connect.0)
            .timeout(self.timeouts.request.0)
            .user_agent(concat!("millstream/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Problem::new(format!("there can be no client: {error}")))?;
        Ok(Client {
            sender: Sender { http, max_response: self.max_response },
            headers: self.headers()?,
            credentials: Credentials::new(self.auth.clone())?,
            retry: self.retry.clone(),
            turns: Turns::new(self.rate.map(|rate| rate.0)),
        })
    }

    fn headers(&self) -> Result<HeaderMap, Problem> {
        let header = |(name, value): (&String, &String)| {
            let wrong = |what: &str| {
                Problem::new(format!("it is no {what} of a header"))
                    .at([Step::from("headers"), Step::Name(name.clone())])
            };
            let key = HeaderName::try_from(name.as_str()).map_err(|_| wrong("name"))?;
            Ok((key, HeaderValue::from_str(value).map_err(|_| wrong("value"))?))
        };
        self.headers.iter().map(header).collect()
    }
}

/// An address of a service.
pub fn parse_url(text: &str) -> Result<Url, Problem> {
    let help = "such as `https://api.example.com/v1/`";
    // It may have a password in it.
    let url: Url = text.parse().map_err(|_| Problem::new("it is no address").help(help))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Problem::new("it is no address of a service that speaks HTTP").help(help));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let problem = Problem::new("names and passwords don't belong into an address");
        return Err(problem.help("`auth = { type = \"basic\", username = \"…\", password = { file = \"…\" } }`"));
    }
    Ok(url)
}
