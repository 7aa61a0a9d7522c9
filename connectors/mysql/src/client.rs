//! How a server is reached: the settings that all nodes share, connections made by them, and what of them goes wrong.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Error, ErrorClass, Kind, PlanContext, Problem, Result, Secret, host_and_port};
use millstream_spool::begin;
use mysql_async::{ClientIdentity, Conn, IoError, Opts, OptsBuilder, ServerError, SslOpts};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;

use crate::names::Table;

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The port of MySQL.
const PORT: u16 = 3306;

/// The type of connection of nodes that take [`ConnectionSettings`].
pub const CONNECTION: Option<&str> = Some(ConnectionSettings::NAME);

/// How a server of MySQL or MariaDB is reached.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ConnectionSettings {
    /// The server: `"db.example.com"`, or with a port that is not 3306, `"db.example.com:3307"`.
    address: String,
    /// Who connects.
    user: String,
    /// The password, from the environment: `"${MYSQL_PASSWORD}"`.
    password: Option<Secret>,
    /// The database.
    database: String,
    /// Encrypts the connection. `{}` trusts the authorities that the system trusts.
    tls: Option<Tls>,
}

/// Encryption.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// A file with the certificates of the authorities that are trusted, in PEM, in place of those that the system trusts.
    ca: Option<String>,
    /// A file with the certificate by which the server knows who connects, in PEM.
    certificate: Option<String>,
    /// A file with its key, in PEM.
    key: Option<String>,
}

/// What every connection is told first. Times come in UTC; what does not fit into a column is an error instead of being cut; a backslash is
/// nothing but a backslash; and a 0 stays a 0 in a column that counts by itself.
const SESSION: &str = "SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,\
                       NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO', net_write_timeout = 600, net_read_timeout = 600";

impl Kind for ConnectionSettings {
    const NAME: &'static str = "mysql";
    const ALSO_CALLED: &'static [&'static str] = &["mariadb"];
    const EXAMPLE: &'static str = r#"
address = "db.example.com"
user = "millstream"
password = "${MYSQL_PASSWORD}"
database = "shop"
"#;

    fn check_connection(&self) -> Result<(), Problem> {
        self.host_and_port().map(|_| ())
    }
}

impl ConnectionSettings {
    /// The server, as it is to be reached.
    pub fn server(&self, context: &PlanContext) -> Result<Server, Problem> {
        let (host, port) = self.host_and_port()?;
        let options = OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(port)
            .user(Some(&self.user))
            .pass(self.password.as_ref().map(Secret::reveal))
            .db_name(Some(&self.database))
            // A server on this machine is reached as any other.
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .init(vec![SESSION]);
        let tls = self.tls.as_ref().map(|tls| tls.options(context)).transpose()?;
        let shared = Shared { address: self.address.clone(), options, tls };
        Ok(Server(Arc::new(shared)))
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A table, as a flow names it.
    pub fn table(&self, written: &str) -> Result<Table, Problem> {
        Table::new(written, &self.database).map_err(|problem| problem.at(["table"]))
    }

    fn host_and_port(&self) -> Result<(&str, u16), Problem> {
        host_and_port(&self.address, PORT).map_err(|problem| problem.at(["address"]))
    }
}

impl Tls {
    fn options(&self, context: &PlanContext) -> Result<TlsFiles, Problem> {
        if self.certificate.is_some() != self.key.is_some() {
            let problem = Problem::new("a certificate and its key belong together").at(["tls"]);
            return Err(problem.help("set both `certificate` and `key`, or neither"));
        }
        let file = |setting: &str, file: &Option<String>| -> Result<Option<PathBuf>, Problem> {
            let Some(file) = file else { return Ok(None) };
            let path = context.input_path(file);
            if !context.scripted && context.files.read(&path).is_err() {
                return Err(Problem::new(format!("there is no file `{}`", path.display())).at(["tls", setting]));
            }
            Ok(Some(path))
        };
        Ok(TlsFiles {
            ca: file("ca", &self.ca)?,
            identity: file("certificate", &self.certificate)?.zip(file("key", &self.key)?),
        })
    }
}

/// A server, and how to connect to it.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    address: String,
    options: OptsBuilder,
    tls: Option<TlsFiles>,
}

/// The files that encryption needs.
struct TlsFiles {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    fn options(&self) -> SslOpts {
        let roots = match &self.ca {
            Some(ca) => vec![ca.clone().into()],
            None => system_roots().into_iter().map(Into::into).collect(),
        };
        let identity =
            self.identity.clone().map(|(certificate, key)| ClientIdentity::new(certificate.into(), key.into()));
        SslOpts::default().with_disable_built_in_roots(true).with_root_certs(roots).with_client_identity(identity)
    }
}

/// The authorities that the system trusts.
fn system_roots() -> Vec<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!("certificates of the system: {error}");
    }
    found.certs.into_iter().map(|certificate| certificate.to_vec()).collect()
}

impl Server {
    /// How it is called.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Connects once.
    pub async fn connect(&self) -> Result<Conn> {
        let doing = || format!("connecting to `{}`", self.0.address);
        let tls = self.0.tls.as_ref().map(TlsFiles::options);
        let options: Opts = self.0.options.clone().ssl_opts(tls).into();
        match timeout(CONNECT, Conn::new(options)).await {
            Ok(connected) => connected.map_err(|error| failed(doing(), error)),
            Err(_) => Err(Error::transient(format!("{}: no answer within {} s", doing(), CONNECT.as_secs()))),
        }
    }

    /// Connects at the beginning of a flow, when the server is waited for for a while.
    pub async fn begin(&self) -> Result<Conn> {
        begin(|| self.connect()).await
    }
}

/// What a server says when it is busy, or about to be another one, so that the same may succeed in a while.
const TRANSIENT: &[u16] = &[
    1040, // too many connections
    1053, // shutdown in progress
    1158, 1159, 1160, 1161, // the network
    1184, // a connection was aborted
    1203, 1226, // too many of this user
    1205, // waited too long for a lock
    1213, // a deadlock
    1290, 1836, // it may only be read at the moment
    1317, 1927, 3024, // interrupted
    4031, // it had not been asked anything for long
];

/// What was asked of a server, and went wrong.
pub fn failed(doing: impl Into<String>, error: mysql_async::Error) -> Error {
    let class = class_of(&error);
    let message = match &error {
        mysql_async::Error::Server(ServerError { code, message, .. }) => format!("{message} (error {code})"),
        mysql_async::Error::Io(IoError::Io(error)) => error.to_string(),
        mysql_async::Error::Io(IoError::Tls(error)) => error.to_string(),
        mysql_async::Error::Driver(error) => error.to_string(),
        error => error.to_string(),
    };
    Error::new(format!("{}: {message}", doing.into())).of_class(class)
}

fn class_of(error: &mysql_async::Error) -> ErrorClass {
    use mysql_async::DriverError::{ConnectionClosed, PacketOutOfOrder, PoolDisconnected};
    match error {
        mysql_async::Error::Server(ServerError { code, .. }) if TRANSIENT.contains(code) => ErrorClass::Transient,
        // That a certificate is not trusted stays so.
        mysql_async::Error::Io(IoError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            ErrorClass::Permanent
        }
        mysql_async::Error::Io(IoError::Io(_)) => ErrorClass::Transient,
        mysql_async::Error::Driver(ConnectionClosed | PacketOutOfOrder | PoolDisconnected) => ErrorClass::Transient,
        _ => ErrorClass::Permanent,
    }
}
