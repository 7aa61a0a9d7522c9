//! Encryption: whom to trust, and who we are.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_core::{PlanContext, Problem};
use millstream_net::{certificates, private_key, unreadable};
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;

/// Encryption.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A file with the certificates of the authorities that are trusted, in PEM. Without it, those that the system trusts.
    ca: Option<String>,
    /// A file with the certificate by which the service knows who connects, in PEM, with those that vouch for it behind it.
    certificate: Option<String>,
    /// A file with its key, in PEM, without a password.
    key: Option<String>,
}

impl Tls {
    /// What rustls is to do. Files are read; their paths are those of inputs. Places of problems begin at the settings.
    ///
    /// # Errors
    /// If a file is not there, or does not hold what it should.
    pub fn config(&self, context: &PlanContext) -> Result<ClientConfig, Problem> {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Problem::new(error.to_string()))?
            .with_root_certificates(self.roots(context)?);
        match (&self.certificate, &self.key) {
            (None, None) => Ok(config.with_no_client_auth()),
            (Some(certificate), Some(key)) => {
                let certificates = certificates("certificate", &noted(certificate, context))?;
                let key = private_key("key", &noted(key, context))?;
                let config = config.with_client_auth_cert(certificates, key);
                config
                    .map_err(|error| Problem::new(format!("the certificate and its key: {error}")).at(["certificate"]))
            }
            _ => {
                let problem = Problem::new("a certificate and its key belong together");
                Err(problem.help("set both `certificate` and `key`, or neither"))
            }
        }
    }

    fn roots(&self, context: &PlanContext) -> Result<RootCertStore, Problem> {
        let mut roots = RootCertStore::empty();
        let Some(ca) = &self.ca else {
            // Some systems have certificates that nobody can read. The others do.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        let path = noted(ca, context);
        for certificate in certificates("ca", &path)? {
            roots.add(certificate).map_err(|error| unreadable("ca", &path, &error.to_string()))?;
        }
        Ok(roots)
    }
}

/// The path of a file with which connections are made: with another one, they have to be made again.
fn noted(file: &str, context: &PlanContext) -> PathBuf {
    let path = context.input_path(file);
    context.files.note(&path);
    path
}
