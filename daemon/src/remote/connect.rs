//! Where a daemon is, and the way to it: a Unix socket, or an address with TLS or without.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{Error, Result, ResultExt as _};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::RemoteArguments;
use crate::exit::CommandError;

/// The variable with the token.
const TOKEN: &str = "MILLSTREAM_TOKEN";

/// Where the package has the daemon listen.
const SOCKET: &str = "/run/millstream/admin.sock";

/// Where a daemon is.
#[derive(Clone, Debug)]
pub enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    /// An address.
    Address {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// How to know the daemon by its certificate; none without TLS.
        tls: Option<Arc<ClientConfig>>,
    },
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl RemoteArguments {
    /// Where the daemon is.
    pub(super) fn place(&self) -> Result<Place, CommandError> {
        match &self.url {
            Some(url) => self.address(url),
            None => Ok(Place::Socket(self.find_socket()?)),
        }
    }

    /// The token, without which only a Unix socket lets anybody in.
    pub(super) fn token(&self) -> Result<Option<String>, CommandError> {
        let text = match &self.token_file {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                Some(read.doing(|| format!("reading the token in `{}`", file.display()))?)
            }
            None => std::env::var(TOKEN).ok(),
        };
        Ok(text.map(|text| text.trim().to_owned()))
    }

    fn address(&self, url: &str) -> Result<Place, CommandError> {
        let wrong = || {
            let which = "the address of the daemon, `--url` or the variable MILLSTREAM_URL,";
            CommandError::Usage(format!("{which} is `{url}`, and should be `https://HOST:PORT` or `http://HOST:PORT`"))
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let authority: hyper::http::uri::Authority = rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let tls = match scheme {
            "https" => Some(Arc::new(self.tls()?)),
            "http" => None,
            _ => return Err(wrong()),
        };
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Place::Address { host: authority.host().to_owned(), port, tls })
    }

    /// By whom the daemon's certificate has to be signed.
    fn tls(&self) -> Result<ClientConfig, CommandError> {
        let mut roots = RootCertStore::empty();
        let certificates = match &self.ca {
            Some(file) => {
                let read = millstream_net::certificates("--ca", file);
                read.map_err(|problem| CommandError::Usage(problem.to_string()))?
            }
            None => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(certificates);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| Error::caused_by("preparing TLS", error))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// The Unix socket of the daemon that was meant.
    fn find_socket(&self) -> Result<PathBuf, CommandError> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        if self.config.config.is_some() {
            let settings = self.config.settings()?;
            let off =
                || CommandError::Usage("the daemon of these settings has no Unix socket; say its `--url`".to_owned());
            return settings.admin.socket(&settings.data).ok_or_else(off);
        }
        let known = [Path::new(SOCKET), Path::new("admin.sock")];
        let found = known.into_iter().find(|path| path.exists()).map(Path::to_owned);
        found.ok_or_else(|| {
            let message =
                format!("no daemon listens at `{SOCKET}` or `./admin.sock`; say `--socket`, `--config` or `--url`");
            Error::new(message).into()
        })
    }
}

impl Place {
    /// What requests say for which host they are.
    pub fn host(&self) -> String {
        match self {
            Self::Socket(_) => "localhost".to_owned(),
            Self::Address { host, port, .. } => format!("{host}:{port}"),
        }
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Box<dyn Stream>> {
        match self {
            Self::Socket(path) => {
                let connected = UnixStream::connect(path).await;
                Ok(Box::new(connected.doing(|| format!("asking the daemon at `{}`", path.display()))?))
            }
            Self::Address { host, port, tls } => {
                let doing = || format!("asking the daemon at `{host}:{port}`");
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let stream = TcpStream::connect((bare, *port)).await.doing(doing)?;
                let Some(tls) = tls else { return Ok(Box::new(stream)) };
                let name = ServerName::try_from(bare.to_owned()).doing(doing)?;
                Ok(Box::new(TlsConnector::from(tls.clone()).connect(name, stream).await.doing(doing)?))
            }
        }
    }
}
