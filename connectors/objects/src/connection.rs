//! The connection `objects`: its settings, and the store that they come to.

use futures::StreamExt as _;
use millstream_core::{Error, Kind, PlanContext, Problem, Result, ResultExt as _, Secret};
use millstream_http::{Retry, Timeouts};
use millstream_store::{Objects, ObjectsAddress, ObjectsOptions, Retries, Scheme, object_error};
use schemars::JsonSchema;
use serde::Deserialize;

/// The type of connection of nodes that take [`ObjectsConnection`].
pub const CONNECTION: Option<&str> = Some(ObjectsConnection::NAME);

/// How an object store is reached.
///
/// What is not said here, the environment says, as it does where state and models are in such a store: `AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL` and others for S3, `GOOGLE_SERVICE_ACCOUNT` for Google,
/// `AZURE_STORAGE_ACCOUNT_NAME` and `AZURE_STORAGE_ACCOUNT_KEY` for Azure; or the machine has a role in its cloud.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ObjectsConnection {
    /// Where the objects are: `"s3://BUCKET/PREFIX"`, `"gs://BUCKET/PREFIX"`, `"az://CONTAINER/PREFIX"`, or `"file:///FOLDER"`; to read from,
    /// also `"https://HOST/PATH"`.
    url: String,
    /// The address of the service, where it is not that of the cloud: `"https://minio.example.com:9000"`. For Azure, that of the account.
    endpoint: Option<String>,
    /// S3: the region of the bucket.
    region: Option<String>,
    /// Who asks: the access key of S3, or the account of Azure.
    key_id: Option<String>,
    /// The secret that goes with it: the secret access key of S3, the key of an account of Azure, or the JSON of a service account of Google.
    key: Option<Secret>,
    /// What stands for them for a while: a session token of S3, or a shared access signature of Azure.
    token: Option<Secret>,
    /// Whether requests are sent without a signature, for what everybody may read.
    #[serde(default)]
    anonymous: bool,
    /// Whether the service may be reached without encryption, by `http://`.
    #[serde(default)]
    allow_http: bool,
    /// A file with certificates of authorities that are trusted besides those of the system, in PEM.
    ca: Option<String>,
    /// How long the service may take. A part of an object has to come within one request.
    #[serde(default)]
    timeouts: Timeouts,
    /// When a request is sent again: where the service can't be reached, is busy or fails.
    #[serde(default)]
    retry: Retry,
}

impl Kind for ObjectsConnection {
    const NAME: &'static str = "objects";
    const ALSO_CALLED: &'static [&'static str] =
        &["s3", "gcs", "gs", "azure", "az", "azure_blob", "blob", "minio", "object_store", "lake"];
    const EXAMPLE: &'static str = r#"
url = "s3://lake/events"
region = "eu-central-1"
key_id = "${LAKE_KEY_ID}"
key = "${LAKE_KEY}"
"#;

    fn check_connection(&self) -> Result<(), Problem> {
        self.timeouts.check()?;
        self.address().map(|_| ())
    }
}

impl ObjectsConnection {
    /// The address, taken apart.
    pub fn address(&self) -> Result<ObjectsAddress, Problem> {
        ObjectsAddress::parse(&self.url).map_err(|error| Problem::new(error.to_string()).at(["url"]))
    }

    /// Opens the store. Nothing is asked of it yet.
    pub fn open(&self, context: &PlanContext) -> Result<Objects, Problem> {
        self.check_connection()?;
        let ca = self.ca.as_ref().map(|file| {
            let path = context.input_path(file);
            context
                .files
                .read(&path)
                .map_err(|error| Problem::new(format!("`{}` can't be read: {error}", path.display())).at(["ca"]))
        });
        let secret = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
        let options = ObjectsOptions {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            key_id: self.key_id.clone(),
            key: secret(&self.key),
            token: secret(&self.token),
            anonymous: self.anonymous,
            allow_http: self.allow_http,
            ca: ca.transpose()?,
            connect_timeout: Some(self.timeouts.connect.0),
            request_timeout: Some(self.timeouts.request.0),
            retries: Some(Retries {
                attempts: self.retry.attempts,
                first_pause: self.retry.first_pause.0,
                longest_pause: self.retry.longest_pause.0,
            }),
        };
        Objects::open(&self.url, &options).map_err(|error| Problem::new(error.to_string()).at(["url"]))
    }

    /// The longest pause between tries.
    pub fn longest_pause(&self) -> std::time::Duration {
        self.retry.longest_pause.0
    }
}

/// Looks whether a store answers, and what of a few of its objects is asked for.
pub async fn look(objects: Objects, folders: Vec<String>, is_wanted: impl Fn(&str) -> bool) -> Result<String> {
    const MOST: usize = 1000;
    let doing = || format!("listing `{}`", objects.location);
    if objects.scheme == Scheme::Web {
        return Err(Error::new(format!("`{}` does not say what it has", objects.location)));
    }
    let (mut found, mut seen) = (0, 0);
    for folder in &folders {
        let path = objects.path(folder).doing(doing)?;
        let mut listed = objects.store.list(Some(&path));
        while let Some(object) = listed.next().await {
            let object = object.map_err(|error| object_error(&error)).doing(doing)?;
            found += usize::from(objects.name(&object.location).is_some_and(&is_wanted));
            seen += 1;
            if seen == MOST {
                return Ok(format!("{found} of the first {MOST} objects at `{}`", objects.location));
            }
        }
    }
    Ok(format!("{found} of {seen} objects at `{}`", objects.location))
}
