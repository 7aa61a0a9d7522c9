//! From the files of a server with TLS to what rustls is to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::Problem;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::pem::{certificates, private_key, unreadable};

/// The files of a server with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate by which clients know the server, with those that vouch for it behind it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that vouch for clients. Without it, clients are not asked for certificates.
    pub client_ca: Option<PathBuf>,
}

/// What becomes of clients that have no certificate, where there are authorities that vouch for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// They are not listened to.
    NeedCertificates,
    /// They are listened to, and have to say otherwise who they are.
    MayHaveCertificates,
}

impl TlsFiles {
    /// What rustls is to do, with the protocols that it offers, such as `h2`. Places of problems are the names of the files here.
    ///
    /// # Errors
    /// If a file is not there, or does not hold what it should.
    pub fn config(&self, clients: Clients, protocols: &[&str]) -> Result<ServerConfig, Problem> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Problem::new(error.to_string()))?;
        let config = match &self.client_ca {
            None => config.with_no_client_auth(),
            Some(path) => config.with_client_cert_verifier(verifier(path, clients)?),
        };
        let certificates = certificates("certificate", &self.certificate)?;
        let mut config = config
            .with_single_cert(certificates, private_key("key", &self.key)?)
            .map_err(|error| Problem::new(format!("the certificate and its key: {error}")).at(["certificate"]))?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

fn verifier(path: &Path, clients: Clients) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", path)? {
        roots.add(certificate).map_err(|error| unreadable("client_ca", path, &error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
    let verifier = match clients {
        Clients::NeedCertificates => verifier,
        Clients::MayHaveCertificates => verifier.allow_unauthenticated(),
    };
    verifier.build().map_err(|error: VerifierBuilderError| unreadable("client_ca", path, &error.to_string()))
}
