//! Encryption: who we are, and whom we listen to.

use std::sync::Arc;

use millstream_core::{PlanContext, Problem};
use millstream_http::{certificates, unreadable};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::Deserialize;

/// Encryption, as a server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// A file with the certificate by which clients know the flow, in PEM, with those that vouch for it behind it.
    certificate: String,
    /// A file with its key, in PEM, without a password.
    key: String,
    /// A file with the certificates of the authorities that vouch for clients, in PEM. With it, only clients with such a certificate are
    /// listened to.
    client_ca: Option<String>,
}

impl ServerTls {
    /// What rustls is to do. Files are read; their paths are those of inputs. Places of problems begin at the settings.
    pub fn config(&self, context: &PlanContext) -> Result<ServerConfig, Problem> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Problem::new(error.to_string()))?;
        let config = match &self.client_ca {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let path = context.input_path(ca);
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client_ca", &path)? {
                    roots.add(certificate).map_err(|error| unreadable("client_ca", &path, &error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                let wrong =
                    |error: rustls::server::VerifierBuilderError| unreadable("client_ca", &path, &error.to_string());
                config.with_client_cert_verifier(verifier.map_err(wrong)?)
            }
        };
        let certificates = certificates("certificate", &context.input_path(&self.certificate))?;
        let path = context.input_path(&self.key);
        let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| unreadable("key", &path, &error.to_string()))?;
        let config = config.with_single_cert(certificates, key);
        config.map_err(|error| Problem::new(format!("the certificate and its key: {error}")).at(["certificate"]))
    }
}
