//! How servers are reached: the settings that input and output share, and what of it goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{Context, ContextBuilder, ErrorCode};
use async_nats::{Auth, AuthError, ConnectErrorKind, ConnectOptions, ServerAddr};
use millstream_core::{Error, Kind, PROBE_PATIENCE, PlanContext, Problem, Result, Secret, host_and_port};
use millstream_http::Tls;
use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;

/// The port of NATS.
const PORT: u16 = 4222;

/// How long servers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many messages may be on their way.
const IN_FLIGHT: usize = 4096;

/// The type of connection of nodes that take [`ConnectionSettings`].
pub const CONNECTION: Option<&str> = Some(ConnectionSettings::NAME);

/// How the servers of a NATS are reached.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ConnectionSettings {
    /// The servers, of which one that answers is enough, with ports that are not 4222: `"nats1.example.com,nats2.example.com:4223"`.
    servers: String,
    /// Who connects.
    user: Option<String>,
    /// The password, from the environment: `"${NATS_PASSWORD}"`.
    password: Option<Secret>,
    /// A token that stands for name and password.
    token: Option<Secret>,
    /// Encrypts the connection. `{}` trusts the authorities that the system trusts.
    tls: Option<Tls>,
}

impl Kind for ConnectionSettings {
    const NAME: &'static str = "nats";
    const ALSO_CALLED: &'static [&'static str] = &["jetstream"];
    const EXAMPLE: &'static str = r#"
servers = "nats1.example.com,nats2.example.com"
user = "flows"
password = "${NATS_PASSWORD}"
tls = {}
"#;

    fn check_connection(&self) -> Result<(), Problem> {
        self.addresses()?;
        if self.user.is_some() != self.password.is_some() {
            let problem = Problem::new("`user` and `password` belong together");
            return Err(problem.at([if self.user.is_some() { "user" } else { "password" }]));
        }
        if self.token.is_some() && self.user.is_some() {
            return Err(
                Problem::new("a token stands for `user` and `password`: take the one or the others").at(["token"])
            );
        }
        Ok(())
    }
}

impl ConnectionSettings {
    fn addresses(&self) -> Result<Vec<ServerAddr>, Problem> {
        let address = |server: &str| {
            let (host, port) = host_and_port(server.trim(), PORT).map_err(|problem| problem.at(["servers"]))?;
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            let wrong = |_| Problem::new(format!("`{server}` is no address of a server")).at(["servers"]);
            format!("nats://{host}:{port}").parse().map_err(wrong)
        };
        self.servers.split(',').map(address).collect()
    }

    /// The servers, as they are to be reached.
    pub fn servers(&self, context: &PlanContext) -> Result<Servers, Problem> {
        self.check_connection()?;
        let addresses = self.addresses()?;
        let name = format!("{}.{}", context.flow, context.node);
        let mut auth = Auth::new();
        auth.username.clone_from(&self.user);
        auth.password = self.password.as_ref().map(|password| password.reveal().to_owned());
        auth.token = self.token.as_ref().map(|token| token.reveal().to_owned());
        let tls = match &self.tls {
            Some(tls) => Some(tls.config(context).map_err(|problem| problem.under("tls"))?),
            None => None,
        };
        Ok(Servers { written: self.servers.clone(), addresses, name, auth, tls })
    }
}

/// Servers, and how they are reached.
#[derive(Clone)]
pub struct Servers {
    /// As they are written.
    pub written: String,
    addresses: Vec<ServerAddr>,
    name: String,
    auth: Auth,
    tls: Option<ClientConfig>,
}

impl Servers {
    /// Connects, and finds a stream.
    ///
    /// # Errors
    /// If no server answers, or there is no such stream.
    pub async fn connect(&self, stream: &str) -> Result<(Context, Stream)> {
        let context = self.context().await?;
        let found = context.get_stream(stream).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Error::new(format!(
                    "there is no stream `{stream}` at `{}`; create it, with `nats stream add {stream}`",
                    self.written
                ))
            }
            GetStreamErrorKind::InvalidStreamName | GetStreamErrorKind::EmptyName => {
                Error::new(format!("no stream can be called `{stream}`"))
            }
            _ => self.failed(&format!("asking for the stream `{stream}`"), &error),
        })?;
        Ok((context, found))
    }

    async fn context(&self) -> Result<Context> {
        let has_connected = Arc::new(AtomicBool::new(false));
        let connected = self.options(has_connected.clone()).connect(&self.addresses[..]).await;
        has_connected.store(true, Ordering::Relaxed);
        let client = connected.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Error::new(format!(
                "connecting to `{}`: the server does not take this name and password, or this token",
                self.written
            )),
            _ => self.failed("connecting", &error),
        })?;
        Ok(ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).max_ack_inflight(IN_FLIGHT).build(client))
    }

    /// A connection that breaks is not mended in silence, else messages behind those that were lost would be in the stream before them. Its
    /// client can't be told so, but it can be refused what it needs to log in again, with each server once.
    fn options(&self, has_connected: Arc<AtomicBool>) -> ConnectOptions {
        let auth = self.auth.clone();
        let log_in = move |_| {
            let auth = if has_connected.load(Ordering::Relaxed) {
                Err(AuthError::new("a broken connection is given up"))
            } else {
                Ok(auth.clone())
            };
            std::future::ready(auth)
        };
        let options = ConnectOptions::with_auth_callback(log_in)
            .name(&self.name)
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .ignore_discovered_servers()
            .max_reconnects(self.addresses.len());
        match &self.tls {
            Some(tls) => options.require_tls(true).tls_client_config(tls.clone()),
            None => options,
        }
    }

    /// What has gone wrong, which may be over in a while.
    pub fn failed(&self, doing: &str, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::transient(format!("{doing} at `{}`: {error}", self.written))
    }

    /// Connects, and says what was found.
    pub async fn look(self, stream: String) -> Result<String> {
        let late = |_| Error::transient(format!("`{}` does not answer", self.written));
        let (_, found) = timeout(PROBE_PATIENCE, self.connect(&stream)).await.map_err(late)??;
        let messages = found.cached_info().state.messages;
        Ok(format!("stream `{stream}` with {messages} messages at `{}`", self.written))
    }
}
