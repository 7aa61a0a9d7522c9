//! Object stores, and the one way in which they are opened: for state, models, and the nodes that read and write objects.

mod address;
mod errors;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Error, Result, ResultExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

pub use address::{ObjectsAddress, Scheme};
pub use errors::object_error;

/// How long one request may take, where nothing else is said: a model of gigabytes is one request.
const TIMEOUT: Duration = Duration::from_secs(120);

/// For how long a request is repeated that fails, where nothing says how often: a service that is started anew does no harm.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long at most a request is repeated whose number of tries is said. Its signature holds for no longer.
const LONGEST: Duration = Duration::from_secs(280);

/// How an object store is reached, beyond its address. What is not said here, the environment says: `AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL` and others for S3, `GOOGLE_…` and `AZURE_…` for the others; or the machine has a
/// role in a cloud.
#[derive(Clone, Default)]
pub struct ObjectsOptions {
    /// The address of the service, where it is not that of the cloud.
    pub endpoint: Option<String>,
    /// The region of the bucket.
    pub region: Option<String>,
    /// Who asks: the access key of S3, or the account of Azure.
    pub key_id: Option<String>,
    /// The secret that goes with it: the secret access key of S3, the key of an account of Azure, the JSON of a service account of Google.
    pub key: Option<String>,
    /// What stands for both for a while: a session token of S3, or a shared access signature of Azure.
    pub token: Option<String>,
    /// Whether requests are not signed, for what everybody may read.
    pub anonymous: bool,
    /// Whether the service may be reached without encryption.
    pub allow_http: bool,
    /// Certificates of the authorities that are trusted besides those of the system, in PEM.
    pub ca: Option<Vec<u8>>,
    /// How long it may take to connect.
    pub connect_timeout: Option<Duration>,
    /// How long a request may take, to the last byte of its answer.
    pub request_timeout: Option<Duration>,
    /// When a request is sent again.
    pub retries: Option<Retries>,
}

/// When a request is sent again that the service did not answer, or answered with being busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often it is sent in all.
    pub attempts: usize,
    /// The pause behind the first time. The next ones are longer, and a little random.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

/// Secrets are not said.
impl fmt::Debug for ObjectsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectsOptions").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// An object store that is open. Nothing has been asked of it yet.
#[derive(Clone)]
pub struct Objects {
    /// The store, with the names that objects have in their bucket.
    pub store: Arc<dyn ObjectStore>,
    /// The same, for objects that are written in parts, which become one when somebody says so. None where that can't be done
    /// by one process after the other.
    pub multipart: Option<Arc<dyn MultipartStore>>,
    /// What the names of all objects begin with, without a `/` at either end.
    pub prefix: String,
    /// For messages: what the user calls the place.
    pub location: String,
    /// What kind of store it is.
    pub scheme: Scheme,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("location", &self.location).finish_non_exhaustive()
    }
}

impl Objects {
    /// Opens the store at an address.
    ///
    /// # Errors
    /// If the address or an option is wrong.
    pub fn open(location: &str, options: &ObjectsOptions) -> Result<Self> {
        let address = ObjectsAddress::parse(location)?;
        let opened = || match address.scheme {
            Scheme::S3 => s3(&address.bucket, options).map(with_multipart),
            Scheme::Google => google(&address.bucket, options).map(with_multipart),
            Scheme::Azure => azure(&address.bucket, options).map(with_multipart),
            Scheme::Folder => Ok((Arc::new(LocalFileSystem::new()) as Arc<dyn ObjectStore>, None)),
            Scheme::Web => web(&address, options).map(|store| (store, None)),
        };
        let location = location.trim_end_matches('/').to_owned();
        let (store, multipart) = opened().doing(|| format!("opening `{location}`"))?;
        Ok(Self { store, multipart, prefix: address.prefix, location, scheme: address.scheme })
    }

    /// The name of an object in its bucket, whose name below the address is this one.
    ///
    /// # Errors
    /// If there can be no such object.
    pub fn path(&self, name: &str) -> Result<Path> {
        let parts = [self.prefix.as_str(), name.trim_matches('/')];
        let whole = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Path::parse(whole).doing(|| format!("the name `{name}`"))
    }

    /// The name below the address of an object in the bucket. None if it is elsewhere.
    pub fn name<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let name = path.as_ref().strip_prefix(&self.prefix)?;
        if self.prefix.is_empty() { Some(name) } else { name.strip_prefix('/') }
    }
}

type Opened = (Arc<dyn ObjectStore>, Option<Arc<dyn MultipartStore>>);

fn with_multipart<S: ObjectStore + MultipartStore>(store: S) -> Opened {
    let store = Arc::new(store);
    (store.clone(), Some(store))
}

/// Tells a builder what all of them have to know. They have no trait in common.
macro_rules! configured {
    ($builder:expr, $key:ident, $options:expr) => {{
        let mut builder = $builder.with_retry(retries($options)?);
        if let Some(ca) = &$options.ca {
            builder = builder.with_client_options(trusting(ca)?);
        }
        for (key, value) in client_settings($options, |key| builder.get_config_value(&$key::Client(key))) {
            builder = builder.with_config($key::Client(key), value);
        }
        builder
    }};
}

fn s3(bucket: &str, options: &ObjectsOptions) -> Result<impl ObjectStore + MultipartStore + use<>> {
    let mut builder = configured!(AmazonS3Builder::from_env(), AmazonS3ConfigKey, options).with_bucket_name(bucket);
    let settings = [
        (AmazonS3ConfigKey::Endpoint, &options.endpoint),
        (AmazonS3ConfigKey::Region, &options.region),
        (AmazonS3ConfigKey::AccessKeyId, &options.key_id),
        (AmazonS3ConfigKey::SecretAccessKey, &options.key),
        (AmazonS3ConfigKey::Token, &options.token),
    ];
    for (key, value) in settings {
        builder = value.iter().fold(builder, |builder, value| builder.with_config(key, value));
    }
    if options.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let value = |key| builder.get_config_value(&key).unwrap_or_default();
    let endpoint = value(AmazonS3ConfigKey::Endpoint);
    if endpoint.starts_with("http://") && value(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)) != "true" {
        let place = if options.endpoint.is_some() { "`endpoint`" } else { "`AWS_ENDPOINT_URL`" };
        return Err(unencrypted(
            place,
            if options.endpoint.is_some() { "allow_http = true" } else { "AWS_ALLOW_HTTP=true" },
        ));
    }
    builder.build().map_err(|error| object_error(&error))
}

fn google(bucket: &str, options: &ObjectsOptions) -> Result<impl ObjectStore + MultipartStore + use<>> {
    let mut builder =
        configured!(GoogleCloudStorageBuilder::from_env(), GoogleConfigKey, options).with_bucket_name(bucket);
    let settings = [(GoogleConfigKey::BaseUrl, &options.endpoint), (GoogleConfigKey::ServiceAccountKey, &options.key)];
    for (key, value) in settings {
        builder = value.iter().fold(builder, |builder, value| builder.with_config(key, value));
    }
    if options.anonymous {
        builder = builder.with_skip_signature(true);
    }
    check_endpoint(options)?;
    builder.build().map_err(|error| object_error(&error))
}

fn azure(container: &str, options: &ObjectsOptions) -> Result<impl ObjectStore + MultipartStore + use<>> {
    let mut builder =
        configured!(MicrosoftAzureBuilder::from_env(), AzureConfigKey, options).with_container_name(container);
    let settings = [
        (AzureConfigKey::Endpoint, &options.endpoint),
        (AzureConfigKey::AccountName, &options.key_id),
        (AzureConfigKey::AccessKey, &options.key),
        (AzureConfigKey::SasKey, &options.token),
    ];
    for (key, value) in settings {
        builder = value.iter().fold(builder, |builder, value| builder.with_config(key, value));
    }
    if options.anonymous {
        builder = builder.with_skip_signature(true);
    }
    check_endpoint(options)?;
    builder.build().map_err(|error| object_error(&error))
}

fn web(address: &ObjectsAddress, options: &ObjectsOptions) -> Result<Arc<dyn ObjectStore>> {
    if address.is_plain() && !options.allow_http {
        return Err(unencrypted("the address", "allow_http = true"));
    }
    let mut client = options.ca.as_deref().map(trusting).transpose()?.unwrap_or_default();
    for (key, value) in client_settings(options, |_| None) {
        client = client.with_config(key, value);
    }
    let builder =
        HttpBuilder::new().with_url(&address.bucket).with_client_options(client).with_retry(retries(options)?);
    Ok(Arc::new(builder.build().map_err(|error| object_error(&error))?))
}

/// Refuses an endpoint without encryption, unless that is allowed.
fn check_endpoint(options: &ObjectsOptions) -> Result<()> {
    let is_plain = options.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    if is_plain && !options.allow_http { Err(unencrypted("`endpoint`", "allow_http = true")) } else { Ok(()) }
}

fn unencrypted(place: &str, setting: &str) -> Error {
    Error::new(format!("the service in {place} is to be reached without encryption, which needs `{setting}`"))
}

/// The settings of the client that are said, or that nothing says. `known` is what the environment says.
fn client_settings(
    options: &ObjectsOptions,
    known: impl Fn(ClientConfigKey) -> Option<String>,
) -> Vec<(ClientConfigKey, String)> {
    let text = |time: Duration| format!("{}ms", time.as_millis());
    let in_environment = std::env::vars_os()
        .any(|(name, _)| matches!(name.to_str(), Some("AWS_TIMEOUT" | "GOOGLE_TIMEOUT" | "AZURE_TIMEOUT")));
    let request = options.request_timeout.or((!in_environment).then_some(TIMEOUT)).map(text);
    let is_allowed = known(ClientConfigKey::AllowHttp).as_deref() == Some("true");
    let allow_http = (options.allow_http && !is_allowed).then(|| "true".to_owned());
    let settings = [
        (ClientConfigKey::Timeout, request),
        (ClientConfigKey::ConnectTimeout, options.connect_timeout.map(text)),
        (ClientConfigKey::AllowHttp, allow_http),
    ];
    settings.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn trusting(pem: &[u8]) -> Result<ClientOptions> {
    let certificates = Certificate::from_pem_bundle(pem).map_err(|error| object_error(&error))?;
    Ok(certificates.into_iter().fold(ClientOptions::new(), ClientOptions::with_root_certificate))
}

/// How often requests are repeated. The time between grows, and is a little random.
fn retries(options: &ObjectsOptions) -> Result<RetryConfig> {
    if let Some(Retries { attempts, first_pause, longest_pause }) = options.retries {
        let backoff = BackoffConfig { init_backoff: first_pause, max_backoff: longest_pause, base: 2. };
        return Ok(RetryConfig { backoff, max_retries: attempts.saturating_sub(1), retry_timeout: LONGEST });
    }
    let retries = RetryConfig { max_retries: usize::MAX, retry_timeout: PATIENCE, ..RetryConfig::default() };
    let Ok(attempts) = std::env::var("AWS_MAX_ATTEMPTS") else { return Ok(retries) };
    let attempts: usize = attempts.parse().doing(|| "`AWS_MAX_ATTEMPTS` in the environment")?;
    Ok(RetryConfig { max_retries: attempts.saturating_sub(1), ..retries })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn options() -> ObjectsOptions {
        let (key_id, key) = (Some("id".to_owned()), Some("c2VjcmV0".to_owned()));
        ObjectsOptions { key_id, key, anonymous: true, ..ObjectsOptions::default() }
    }

    #[test]
    fn names_are_those_below_the_address() {
        for address in ["s3://bucket/below/it/", "az://bucket/below/it", "https://host/below/it"] {
            let objects = Objects::open(address, &options()).unwrap();
            let path = objects.path("a/b.csv").unwrap();
            assert_eq!((path.as_ref(), objects.name(&path)), ("below/it/a/b.csv", Some("a/b.csv")), "{address}");
            assert_eq!(objects.name(&Path::from("below/item")), None);
            assert_eq!(objects.multipart.is_some(), !address.starts_with("https"), "{address}");
            assert!(objects.path("../x").is_err());
        }
        let whole = Objects::open("s3://bucket", &options()).unwrap();
        assert_eq!(whole.name(&whole.path("a").unwrap()), Some("a"));
    }

    #[test]
    fn what_is_not_encrypted_has_to_be_allowed() {
        let plain = ObjectsOptions { endpoint: Some("http://127.0.0.1:1".to_owned()), ..options() };
        for address in ["s3://bucket", "gs://bucket", "az://bucket", "http://host/a"] {
            let error = Objects::open(address, &plain).unwrap_err().to_string();
            assert!(error.contains("needs `allow_http = true`"), "{error}");
            // Google's is a file, and not these words.
            let key = plain.key.clone().filter(|_| !address.starts_with("gs"));
            let allowed = ObjectsOptions { allow_http: true, key, ..plain.clone() };
            Objects::open(address, &allowed).unwrap();
        }
    }

    #[test]
    fn secrets_are_not_said() {
        assert!(!format!("{:?}", options()).contains("c2Vj"));
    }
}
