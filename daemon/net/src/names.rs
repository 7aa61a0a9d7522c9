//! By which names a certificate knows a client.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::der::{Any, Decode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// The names that a certificate says its holder has: host names, e-mail addresses and URIs. The common name counts only in a certificate
/// without alternative names, since whoever vouches for these need not have looked at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames(Vec<String>);

impl CertificateNames {
    /// Whether the holder has a name. The case of letters does not matter.
    pub fn contain(&self, name: &str) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// The first name, by which the holder is told from others.
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }
}

impl<'a> FromIterator<&'a str> for CertificateNames {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        // A name with a NUL or a line break in it may be read as another one somewhere.
        let is_name = |name: &&str| !name.is_empty() && !name.chars().any(char::is_control);
        Self(names.into_iter().filter(is_name).map(str::to_owned).collect())
    }
}

/// The names of a certificate. None if it can't be read, or has none that is a text.
pub fn names_of(certificate: &CertificateDer<'_>) -> CertificateNames {
    let names = Certificate::from_der(certificate).map_or_else(
        |_| Vec::new(),
        |certificate| match certificate.tbs_certificate.get::<SubjectAltName>() {
            Ok(Some((_, names))) => texts(names),
            Ok(None) => common_name(&certificate.tbs_certificate.subject).into_iter().collect(),
            Err(_) => Vec::new(),
        },
    );
    names.iter().map(String::as_str).collect()
}

fn texts(names: SubjectAltName) -> Vec<String> {
    let text = |name| match name {
        GeneralName::DnsName(text) | GeneralName::Rfc822Name(text) | GeneralName::UniformResourceIdentifier(text) => {
            Some(text.as_str().to_owned())
        }
        _ => None,
    };
    names.0.into_iter().filter_map(text).collect()
}

/// The common name, if there is exactly one.
fn common_name(subject: &Name) -> Option<String> {
    let parts = subject.0.iter().flat_map(|part| part.0.iter());
    let mut names = parts.filter(|part| part.oid == CN);
    match (names.next(), names.next()) {
        (Some(name), None) => text_of(&name.value),
        _ => None,
    }
}

fn text_of(value: &Any) -> Option<String> {
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    utf8.or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned())).ok()
}
