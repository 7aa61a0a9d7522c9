//! How a server is reached: the settings that all nodes share, connections made by them, and what of them goes wrong.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration as Span;

use futures::{Stream, TryStreamExt as _};
use millstream_core::{
    Duration, Error, ErrorClass, Kind, PROBE_PATIENCE, PlanContext, Problem, Result, Secret, host_and_port,
};
use millstream_http::Tls;
use millstream_spool::begin;
use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::changes::Wire;
use crate::names::Table;

/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// The type of connection of nodes that take [`ConnectionSettings`].
pub const CONNECTION: Option<&str> = Some(ConnectionSettings::NAME);

/// How a server of PostgreSQL is reached.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ConnectionSettings {
    /// The server: `"db.example.com"`, or with a port that is not 5432, `"db.example.com:5433"`.
    address: String,
    /// Who connects.
    user: String,
    /// The password, from the environment: `"${POSTGRES_PASSWORD}"`.
    password: Option<Secret>,
    /// The database.
    database: String,
    /// Encrypts the connection, and makes sure that the server is the one of `address`. `{}` trusts the authorities that the system trusts.
    tls: Option<Tls>,
    /// How long connecting may take, by default `"10s"`.
    #[serde(default = "connect_timeout")]
    connect_timeout: Duration,
}

fn connect_timeout() -> Duration {
    Duration(Span::from_secs(10))
}

/// What every connection is told first: values come in the forms that are read here, a backslash is nothing but a backslash, and who has locked
/// something and is not heard of any more does not keep it for ever.
pub const SESSION: &str = "SET TimeZone = 'GMT'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; \
                           SET extra_float_digits = 1; SET standard_conforming_strings = on; SET client_min_messages = warning; \
                           SET idle_in_transaction_session_timeout = '10min'";

impl Kind for ConnectionSettings {
    const NAME: &'static str = "postgres";
    const ALSO_CALLED: &'static [&'static str] = &["postgresql", "pg"];
    const EXAMPLE: &'static str = r#"
address = "db.example.com"
user = "millstream"
password = "${POSTGRES_PASSWORD}"
database = "shop"
"#;

    fn check_connection(&self) -> Result<(), Problem> {
        self.host_and_port().map(|_| ())
    }
}

impl ConnectionSettings {
    fn host_and_port(&self) -> Result<(&str, u16), Problem> {
        host_and_port(&self.address, PORT).map_err(|problem| problem.at(["address"]))
    }

    /// The server, as it is to be reached.
    pub fn server(&self, context: &PlanContext) -> Result<Server, Problem> {
        let (host, port) = self.host_and_port()?;
        let tls =
            self.tls.as_ref().map(|tls| tls.config(context).map_err(|problem| problem.under("tls"))).transpose()?;
        let mut options = Config::new();
        options
            .host(host)
            .port(port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name(format!("millstream {}.{}", context.flow, context.node))
            .keepalives_idle(Span::from_secs(30))
            .tcp_user_timeout(Span::from_secs(60))
            .ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if let Some(password) = &self.password {
            options.password(password.reveal());
        }
        let shared = Shared {
            login: Login {
                address: self.address.clone(),
                host: host.to_owned(),
                port,
                user: self.user.clone(),
                password: self.password.as_ref().map(|password| password.reveal().to_owned()),
                database: self.database.clone(),
                application: format!("millstream {}.{}", context.flow, context.node),
                tls: tls.clone().map(Arc::new),
            },
            options,
            tls: tls.map(MakeRustlsConnect::new),
            connect_timeout: self.connect_timeout.0.max(Span::from_millis(1)),
        };
        Ok(Server(Arc::new(shared)))
    }

    /// A table, as a flow names it.
    pub fn table(&self, written: &str) -> Result<Table, Problem> {
        Table::new(written).map_err(|problem| problem.at(["table"]))
    }
}

/// A server, and how to connect to it.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

/// Who connects, and where to.
pub struct Login {
    pub address: String,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    /// What the server calls the connection.
    pub application: String,
    pub tls: Option<Arc<ClientConfig>>,
}

struct Shared {
    login: Login,
    options: Config,
    tls: Option<MakeRustlsConnect>,
    connect_timeout: Span,
}

/// A connection to a server.
pub struct Connection {
    client: Client,
    /// What reads and writes for the client.
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::ops::Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    /// How it is called.
    pub fn address(&self) -> &str {
        &self.0.login.address
    }

    /// Connects once.
    pub async fn connect(&self) -> Result<Connection> {
        let doing = || format!("connecting to `{}`", self.0.login.address);
        let connected = timeout(self.0.connect_timeout, self.try_connect());
        let late =
            |_| Error::transient(format!("{}: no answer within {} s", doing(), self.0.connect_timeout.as_secs_f64()));
        connected.await.map_err(late)?.map_err(|error| failed(doing(), error))
    }

    async fn try_connect(&self) -> Result<Connection, tokio_postgres::Error> {
        let Shared { options, tls, .. } = &*self.0;
        let (client, task) = match tls {
            Some(tls) => {
                let (client, connection) = options.connect(tls.clone()).await?;
                (client, tokio::spawn(run(connection)))
            }
            None => {
                let (client, connection) = options.connect(NoTls).await?;
                (client, tokio::spawn(run(connection)))
            }
        };
        let connection = Connection { client, task };
        connection.batch_execute(SESSION).await?;
        Ok(connection)
    }

    /// Connects for the log of changes.
    pub async fn wire(&self) -> Result<Wire> {
        let login = &self.0.login;
        let late = |_| Error::transient(format!("connecting to `{}`: no answer in time", login.address));
        timeout(self.0.connect_timeout, Wire::connect(login)).await.map_err(late)?
    }

    /// Connects at the beginning of a flow, when the server is waited for for a while.
    pub async fn begin(&self) -> Result<Connection> {
        begin(|| self.connect()).await
    }

    /// Connects to look whether the server is there, and what its version is.
    pub async fn look(&self) -> Result<(Connection, String)> {
        let late = |_| Error::new(format!("`{}` does not answer", self.0.login.address));
        let connection = timeout(PROBE_PATIENCE, self.connect()).await.map_err(late)??;
        let version = connection.query_one("SELECT current_setting('server_version')", &[]).await;
        let version = version.map_err(|error| failed("asking for the version of the server", error))?;
        Ok((connection, version.get::<_, String>(0)))
    }
}

/// Reads and writes for a client, until it is dropped or the connection ends; the client is told why.
async fn run(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!("a connection to PostgreSQL has ended: {error}");
    }
}

/// The rows that a statement gives, each value as text.
pub fn rows_of(
    stream: tokio_postgres::SimpleQueryStream,
) -> impl Stream<Item = Result<SimpleQueryRow, tokio_postgres::Error>> {
    stream.try_filter_map(|message| async move {
        Ok(match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
    })
}

/// What a server says when it is busy, or about to be another one, so that the same may succeed in a while: classes of codes, and codes.
const TRANSIENT: &[&str] = &[
    "08",    // the connection
    "25006", // it may only be read, as one that has been the main server is
    "25P03", // nothing was said for long in a transaction
    "40001", "40P01", // others were in the way
    "53300", // too many connections
    "55006", "55P03", // something is locked, or somebody uses it
    "57P01", "57P02", "57P03", "57P05", // it ends, or begins
];

/// What a server says, by its code.
pub fn of_code(code: &str, message: &str, detail: Option<&str>) -> Error {
    let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
    Error::new(format!("{message}{detail} (error {code})")).of_class(class_of_code(code))
}

fn class_of_code(code: &str) -> ErrorClass {
    let is_transient = TRANSIENT.iter().any(|transient| code.starts_with(transient));
    if is_transient { ErrorClass::Transient } else { ErrorClass::Permanent }
}

/// What was asked of a server, and went wrong.
pub fn failed(doing: impl Into<String>, error: tokio_postgres::Error) -> Error {
    let class = class_of(&error);
    let message = match error.as_db_error() {
        Some(of) => {
            let detail = of.detail().map_or_else(String::new, |detail| format!(": {detail}"));
            format!("{}{detail} (error {})", of.message(), of.code().code())
        }
        None => error.source().map_or_else(|| error.to_string(), ToString::to_string),
    };
    Error::new(format!("{}: {message}", doing.into())).of_class(class)
}

fn class_of(error: &tokio_postgres::Error) -> ErrorClass {
    if let Some(code) = error.code() {
        return class_of_code(code.code());
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        // That a certificate is not trusted stays so.
        Some(error) if error.kind() == io::ErrorKind::InvalidData => ErrorClass::Permanent,
        Some(_) => ErrorClass::Transient,
        None if error.is_closed() => ErrorClass::Transient,
        None => ErrorClass::Permanent,
    }
}
