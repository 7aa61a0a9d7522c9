//! Takes connections with the certificates as they were last read, and reads them again.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use blake3::Hash;
use millstream_core::Problem;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::{CertificateNames, Clients, TlsFiles, names_of};

/// How long a client may take to begin with TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long to wait after files that did not fit each other: somebody may be about to replace the second one.
const SOON: Duration = Duration::from_secs(60);

/// TLS as a server, for any number of listeners. Connections that are there go on as they have begun when the files change.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    clients: Clients,
    protocols: Vec<&'static str>,
    current: ArcSwap<ServerConfig>,
    /// The hashes of what the files held when they were last read.
    read: Mutex<Vec<Hash>>,
}

/// A connection with TLS.
#[derive(Debug)]
pub struct Encrypted<S> {
    /// The bytes.
    pub stream: TlsStream<S>,
    /// The names of the client, if it has shown a certificate that one of the authorities vouches for.
    pub client: Option<CertificateNames>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one is not there, or does not hold what it should, at the place of its setting.
    pub fn load(files: TlsFiles, clients: Clients, protocols: &[&'static str]) -> Result<Self, Problem> {
        let read = files.hashes();
        let current = ArcSwap::from_pointee(files.config(clients, protocols)?);
        Ok(Self { files, clients, protocols: protocols.to_vec(), current, read: Mutex::new(read) })
    }

    /// Reads the files again, if they have changed, and says whether they have. What they hold is used for connections from now on.
    ///
    /// # Errors
    /// If they do not hold what they should; then nothing changes.
    pub fn reload(&self) -> Result<bool, Problem> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let hashes = self.files.hashes();
        if hashes == *read {
            return Ok(false);
        }
        self.current.store(Arc::new(self.files.config(self.clients, &self.protocols)?));
        *read = hashes;
        Ok(true)
    }

    /// Reads the files again, if they have changed, and logs what has become of that. False if they do not hold what they should.
    pub fn refresh(&self) -> bool {
        match self.reload() {
            Ok(true) => tracing::info!("the certificate `{}` was read again", self.files.certificate.display()),
            Ok(false) => {}
            Err(problem) => {
                tracing::error!("{problem}; connections go on to be taken with the files as they were");
                return false;
            }
        }
        true
    }

    /// Reads the files again and again, for as long as it is awaited.
    pub async fn keep_fresh(&self, every: Duration) -> Infallible {
        let mut pause = every;
        loop {
            sleep(pause).await;
            pause = if self.refresh() { every } else { every.min(SOON) };
        }
    }

    /// Begins with TLS on a connection.
    ///
    /// # Errors
    /// If the client can't, does not want to, or takes more than 10 seconds.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<Encrypted<S>> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let certificates = stream.get_ref().1.peer_certificates();
        let client = certificates.and_then(<[_]>::first).map(names_of);
        Ok(Encrypted { stream, client })
    }
}

impl TlsFiles {
    /// The hashes of what the files hold. That one can't be read is said by [`TlsFiles::config`].
    fn hashes(&self) -> Vec<Hash> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        files.into_iter().flatten().map(|file| blake3::hash(&std::fs::read(file).unwrap_or_default())).collect()
    }
}
