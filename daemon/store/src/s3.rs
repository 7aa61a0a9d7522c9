//! Stores in S3, and in services that speak its protocol: `s3://BUCKET/PREFIX`.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Error, Result, ResultExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ClientConfigKey, RetryConfig};

use crate::RemoteStore;

/// How long one request may take, where `AWS_TIMEOUT` does not say it: a model of gigabytes is one request.
const TIMEOUT: &str = "120 seconds";

/// For how long a request is repeated that fails, where `AWS_MAX_ATTEMPTS` does not say how often: a service that is started
/// anew does no harm.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the store at an address, with what the environment says about the service: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
/// `AWS_REGION`, `AWS_ENDPOINT_URL` and others. Nothing is asked of the service yet.
pub(crate) fn open(location: &str) -> Result<RemoteStore> {
    let (bucket, prefix) = parse(location)?;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries()?);
    if std::env::var_os("AWS_TIMEOUT").is_none() {
        builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), TIMEOUT);
    }
    let value = |key| builder.get_config_value(&key).unwrap_or_default();
    let endpoint = value(AmazonS3ConfigKey::Endpoint);
    if endpoint.starts_with("http://") && value(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)) != "true" {
        return Err(Error::new(
            "the service in `AWS_ENDPOINT_URL` is to be reached without encryption, which needs `AWS_ALLOW_HTTP=true`",
        ));
    }
    let objects = builder.build().map_err(|error| Error::new(in_words(&error)));
    let objects = objects.doing(|| format!("opening `{location}`"))?;
    Ok(RemoteStore::new(Arc::new(objects), prefix, location.trim_end_matches('/')))
}

/// How often requests are repeated. The time between grows, and is a little random.
fn retries() -> Result<RetryConfig> {
    let retries = RetryConfig { max_retries: usize::MAX, retry_timeout: PATIENCE, ..RetryConfig::default() };
    let Ok(attempts) = std::env::var("AWS_MAX_ATTEMPTS") else { return Ok(retries) };
    let attempts: usize = attempts.parse().doing(|| "`AWS_MAX_ATTEMPTS` in the environment")?;
    Ok(RetryConfig { max_retries: attempts.saturating_sub(1), ..retries })
}

/// An error on one line: what the service says itself, if it does, and what is behind it otherwise.
pub(crate) fn in_words(error: &object_store::Error) -> String {
    let text = error.to_string();
    let said = |name: &str| Some(text.split_once(&format!("<{name}>"))?.1.split_once('<')?.0);
    if let (Some(code), Some(message)) = (said("Code"), said("Message")) {
        return format!("{message} ({code})");
    }
    // The service that tells programs on a machine in the cloud which role they have.
    if text.contains("//169.254.169.254/") {
        return "there is no `AWS_ACCESS_KEY_ID` in the environment, and this machine has no role in a cloud"
            .to_owned();
    }
    let mut cause: &dyn StdError = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let cause = cause.to_string();
    let text = if text.contains(&cause) { text } else { format!("{text}: {cause}") };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The bucket and the prefix.
fn parse(location: &str) -> Result<(&str, &str)> {
    let path = location.strip_prefix("s3://").unwrap_or(location);
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if bucket.is_empty() || !bucket.chars().all(is_name) {
        // Not repeated here: who puts a password into an address does not want to read it in a log.
        return Err(Error::new(
            "the address does not name a bucket; it should be `s3://BUCKET/PREFIX`, and passwords belong into the environment",
        ));
    }
    Ok((bucket, prefix))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        assert_eq!(parse("s3://bucket").unwrap(), ("bucket", ""));
        assert_eq!(parse("s3://my.bucket-1/a/b/").unwrap(), ("my.bucket-1", "a/b/"));
    }

    #[test]
    fn what_the_service_says_is_one_line() {
        let answer =
            "404 Not Found: <Error>\n  <Code>NoSuchBucket</Code>\n  <Message>It does not exist</Message>\n</Error>";
        let generic = |text: &str| object_store::Error::Generic { store: "S3", source: text.into() };
        assert_eq!(in_words(&generic(answer)), "It does not exist (NoSuchBucket)");
        assert_eq!(in_words(&generic("no\n  answer")), "Generic S3 error: no answer");
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for address in ["s3://key:secret@bucket/a", "s3:///secret", "s3://secret bucket", "s3://bucket?secret=1"] {
            let error = parse(address).unwrap_err().to_string();
            assert!(error.contains("passwords belong into the environment") && !error.contains("secret"), "{error}");
        }
    }
}
