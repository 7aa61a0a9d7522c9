//! What goes wrong with an object store: in words, and whether it may be over in a while.

use std::error::Error as StdError;
use std::iter::successors;

use millstream_core::{Error, ErrorClass};
use object_store::client::{HttpError, HttpErrorKind};

/// An error of an object store in words, and of the class that it has.
pub fn object_error(error: &object_store::Error) -> Error {
    Error::new(in_words(error)).of_class(class_of(error))
}

/// Whether it may be over in a while: the service can't be reached, is slow or busy, or fails itself. The client has repeated the
/// request by then.
fn class_of(error: &object_store::Error) -> ErrorClass {
    let text = error.to_string();
    // Requests that are refused for what they are have other variants: no permission, no such bucket.
    let is_transient = matches!(error, object_store::Error::Generic { .. })
        && !text.contains(ROLES)
        && (is_unreachable(error) || status(&text).is_some_and(is_over_in_a_while) || text.contains(REQUEST_TIMEOUT));
    if is_transient { ErrorClass::Transient } else { ErrorClass::Permanent }
}

/// Whether the connection is what has failed.
fn is_unreachable(error: &object_store::Error) -> bool {
    let causes = successors(Some(error as &(dyn StdError + 'static)), |error| (*error).source());
    causes.filter_map(|cause| cause.downcast_ref::<HttpError>()).any(|error| {
        use HttpErrorKind::{Connect, Interrupted, Request, Timeout};
        matches!(error.kind(), Connect | Request | Timeout | Interrupted)
    })
}

/// What a service says with status 400 to a client that has sent nothing for a while.
const REQUEST_TIMEOUT: &str = "<Code>RequestTimeout</Code>";

/// The status that the service has answered with. The client's error has it in words only, its type being private.
fn status(text: &str) -> Option<u16> {
    // Of an error within an answer that began well, there are two kinds: the service has failed, or asks for patience.
    if text.contains("Server returned error response") {
        return Some(503);
    }
    text.split_once("Server returned non-2xx status code: ")?.1.get(..3)?.parse().ok()
}

fn is_over_in_a_while(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=599)
}

/// The address of the service that tells programs on a machine in the cloud which role they have.
const ROLES: &str = "//169.254.169.254/";

/// An error on one line: what the service says itself, if it does, and what is behind it otherwise.
fn in_words(error: &object_store::Error) -> String {
    let text = error.to_string();
    let said = |name: &str| Some(text.split_once(&format!("<{name}>"))?.1.split_once('<')?.0);
    if let (Some(code), Some(message)) = (said("Code"), said("Message")) {
        return format!("{message} ({code})");
    }
    if text.contains(ROLES) {
        let variable = match error {
            object_store::Error::Generic { store: "GCS", .. } => "GOOGLE_SERVICE_ACCOUNT",
            object_store::Error::Generic { store: "MicrosoftAzure", .. } => "AZURE_STORAGE_ACCOUNT_KEY",
            _ => "AWS_ACCESS_KEY_ID",
        };
        return format!("there is no `{variable}` in the environment, and this machine has no role in a cloud");
    }
    let mut cause: &dyn StdError = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let cause = cause.to_string();
    let text = if text.contains(&cause) { text } else { format!("{text}: {cause}") };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;

    use object_store::RetryConfig;
    use object_store::aws::AmazonS3Builder;

    use super::*;
    use crate::{RemoteStore, Store as _};

    #[test]
    fn what_the_service_says_is_one_line() {
        let answer =
            "404 Not Found: <Error>\n  <Code>NoSuchBucket</Code>\n  <Message>It does not exist</Message>\n</Error>";
        let generic = |text: &str| object_store::Error::Generic { store: "S3", source: text.into() };
        assert_eq!(in_words(&generic(answer)), "It does not exist (NoSuchBucket)");
        assert_eq!(in_words(&generic("no\n  answer")), "Generic S3 error: no answer");
        for (store, variable) in [
            ("S3", "AWS_ACCESS_KEY_ID"),
            ("GCS", "GOOGLE_SERVICE_ACCOUNT"),
            ("MicrosoftAzure", "AZURE_STORAGE_ACCOUNT_KEY"),
        ] {
            let error = object_store::Error::Generic { store, source: format!("GET http:{ROLES}role").into() };
            let words = format!("there is no `{variable}` in the environment, and this machine has no role in a cloud");
            assert_eq!(in_words(&error), words);
        }
    }

    /// The class of what comes of reading an object of a service that gives this answer; none if nobody listens.
    fn class_behind(answer: Option<&str>) -> ErrorClass {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = answer.map(|answer| {
            let (listener, answer) = (listener.try_clone().unwrap(), answer.to_owned());
            thread::spawn(move || {
                let mut connection = listener.accept().unwrap().0;
                _ = connection.read(&mut [0; 4096]).unwrap();
                connection.write_all(answer.as_bytes()).unwrap();
            })
        });
        drop(listener);
        let builder = AmazonS3Builder::new().with_endpoint(address).with_allow_http(true).with_bucket_name("bucket");
        let builder = builder.with_access_key_id("key").with_secret_access_key("secret").with_region("here");
        let objects = builder.with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() }).build().unwrap();
        let class = RemoteStore::new(Arc::new(objects), "", "s3://bucket").get("a").unwrap_err().class();
        service.into_iter().for_each(|service| service.join().unwrap());
        class
    }

    #[test]
    fn what_may_be_over_in_a_while_is_transient() {
        let answer = |status: &str, code: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        };
        assert_eq!(class_behind(None), ErrorClass::Transient, "the connection is refused");
        assert_eq!(class_behind(Some("")), ErrorClass::Transient, "the connection is lost");
        for status in ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests", "408 Request Timeout"] {
            assert_eq!(class_behind(Some(&answer(status, "Busy"))), ErrorClass::Transient, "{status}");
        }
        assert_eq!(class_behind(Some(&answer("400 Bad Request", "RequestTimeout"))), ErrorClass::Transient);
        for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "405 Not Allowed", "501 Not Implemented"]
        {
            assert_eq!(class_behind(Some(&answer(status, "No"))), ErrorClass::Permanent, "{status}");
        }
    }
}
