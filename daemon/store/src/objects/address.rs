//! Addresses of object stores: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, `file:///FOLDER`, `https://HOST/PATH`.

use millstream_core::{Error, Result};

/// What kind of store an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
    /// A folder of this machine.
    Folder,
    /// A web server, which can be read from and does not say what it has.
    Web,
}

/// An address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectsAddress {
    /// The kind of store.
    pub scheme: Scheme,
    /// The bucket or container; of a web server its root, `https://HOST:PORT`; empty for a folder.
    pub bucket: String,
    /// What the names of all objects begin with, without a `/` at either end.
    pub prefix: String,
}

impl ObjectsAddress {
    /// Takes an address apart.
    ///
    /// # Errors
    /// If it is none. It is not repeated then: who puts a password into an address does not want to read it in a log.
    pub fn parse(address: &str) -> Result<Self> {
        let (scheme, path) = address.split_once("://").ok_or_else(|| no_address("it has no `://`"))?;
        let scheme = match scheme {
            "s3" => Scheme::S3,
            "gs" => Scheme::Google,
            "az" => Scheme::Azure,
            "file" => Scheme::Folder,
            "http" | "https" => Scheme::Web,
            _ => return Err(no_address("nothing is known of what stands before its `://`")),
        };
        let (host, prefix) = path.split_once('/').unwrap_or((path, ""));
        let bucket = match scheme {
            Scheme::S3 | Scheme::Google | Scheme::Azure if is_bucket(host) => host.to_owned(),
            Scheme::S3 | Scheme::Google | Scheme::Azure => return Err(no_address("it does not name a bucket")),
            Scheme::Folder if host.is_empty() => String::new(),
            Scheme::Folder => return Err(no_address("a folder is written from the root on, `file:///FOLDER`")),
            Scheme::Web if is_host(host) && !path.contains(['?', '#']) => {
                address[..address.len() - path.len() + host.len()].to_owned()
            }
            Scheme::Web => return Err(no_address("it is no host and a path")),
        };
        Ok(Self { scheme, bucket, prefix: prefix.trim_matches('/').to_owned() })
    }

    /// Whether the store is reached without encryption, by its address alone.
    pub(super) fn is_plain(&self) -> bool {
        self.bucket.starts_with("http://")
    }
}

fn is_bucket(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | '$');
    !name.is_empty() && name.chars().all(is_letter)
}

fn is_host(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    !name.is_empty() && name.chars().all(is_letter)
}

fn no_address(why: &str) -> Error {
    Error::new(format!(
        "the address is none of an object store: {why}; it should be `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or \
         `az://CONTAINER/PREFIX`, and passwords belong into the environment"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        let parsed = |address| {
            let ObjectsAddress { scheme, bucket, prefix } = ObjectsAddress::parse(address).unwrap();
            (scheme, bucket, prefix)
        };
        let is = |scheme, bucket: &str, prefix: &str| (scheme, bucket.to_owned(), prefix.to_owned());
        assert_eq!(parsed("s3://bucket"), is(Scheme::S3, "bucket", ""));
        assert_eq!(parsed("s3://my.bucket-1/a/b/"), is(Scheme::S3, "my.bucket-1", "a/b"));
        assert_eq!(parsed("gs://b/a"), is(Scheme::Google, "b", "a"));
        assert_eq!(parsed("az://$web/a"), is(Scheme::Azure, "$web", "a"));
        assert_eq!(parsed("file:///var/in/"), is(Scheme::Folder, "", "var/in"));
        assert_eq!(parsed("https://host:81/a/b"), is(Scheme::Web, "https://host:81", "a/b"));
        assert!(ObjectsAddress::parse("http://host").unwrap().is_plain());
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for address in [
            "s3://key:secret@bucket/a",
            "s3:///secret",
            "s3://secret bucket",
            "s3://bucket?secret=1",
            "https://ada:secret@host/a",
            "https://host/a?secret=1",
            "secret",
            "ftp://secret",
            "file://secret/a",
        ] {
            let error = ObjectsAddress::parse(address).unwrap_err().to_string();
            assert!(error.contains("passwords belong into the environment") && !error.contains("secret"), "{error}");
        }
    }
}
