//! The settings of nodes that listen with TLS.

use millstream_core::PlanContext;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::TlsFiles;

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
    /// Whether only clients are listened to that an authority vouches for.
    pub fn asks_clients(&self) -> bool {
        self.client_ca.is_some()
    }

    /// The files. Their paths are those of inputs.
    pub fn files(&self, context: &PlanContext) -> TlsFiles {
        TlsFiles {
            certificate: context.input_path(&self.certificate),
            key: context.input_path(&self.key),
            client_ca: self.client_ca.as_ref().map(|path| context.input_path(path)),
        }
    }
}
