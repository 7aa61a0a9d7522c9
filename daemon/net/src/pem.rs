//! Certificates and keys from files in PEM.

use std::path::Path;

use millstream_core::Problem;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates in a file, at least one.
///
/// # Errors
/// If there are none, at the place of the setting.
pub fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let wrong = |error: pem::Error| unreadable(setting, path, &error.to_string());
    let certificates = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if certificates.is_empty() {
        Err(unreadable(setting, path, "it has no certificate in PEM"))
    } else {
        Ok(certificates)
    }
}

/// The key in a file.
///
/// # Errors
/// If there is none, at the place of the setting.
pub fn private_key(setting: &str, path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(setting, path, &error.to_string()))
}

/// A file that a setting names and that does not hold what it should.
pub fn unreadable(setting: &str, path: &Path, why: &str) -> Problem {
    Problem::new(format!("`{}` can't be used: {why}", path.display())).at([setting])
}
