//! What goes wrong with MongoDB: in words, and whether it may be over in a while.

use millstream_core::ErrorClass;
use mongodb::error::{Error, ErrorKind, GridFsErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};

/// The code of a key that is there already.
const DUPLICATE: i32 = 11_000;

/// The error in words, and of the class that it has.
pub(super) fn in_words(error: &Error) -> millstream_core::Error {
    millstream_core::Error::new(words(error)).of_class(class_of(error))
}

/// Whether the same key is there already.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE)
}

/// Whether the connection was lost, so that nobody knows what the server has done.
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. })
        || error.contains_label(RETRYABLE_WRITE_ERROR)
}

/// Whether there is no such file.
pub(super) fn is_no_file(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::GridFs(GridFsErrorKind::FileNotFound { .. }))
}

/// No server answers, or the connection is lost, or it is another one now that may write.
fn class_of(error: &Error) -> ErrorClass {
    let is_away = matches!(&*error.kind, ErrorKind::ServerSelection { .. });
    if is_away || is_lost(error) { ErrorClass::Transient } else { ErrorClass::Permanent }
}

fn words(error: &Error) -> String {
    let text = match &*error.kind {
        ErrorKind::ServerSelection { message, .. } => match message.split_once("Kind: ") {
            Some((_, cause)) => format!("no server answers: {}", cause.split(", labels").next().unwrap_or(cause)),
            None => format!("no server answers: {message}"),
        },
        ErrorKind::Command(error) => format!("{} ({})", error.message, error.code_name),
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.message.clone(),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => error.message.clone(),
        kind => kind.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
