//! What goes wrong while a flow runs.

use std::error::Error as StdError;
use std::{fmt, io};

/// The result of anything that a node does while its flow runs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is, and so what helps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorClass {
    /// The other side's, and it may be over in a while: a connection is lost, a service is busy. Trying again helps.
    Transient,
    /// That of a setting, a permission or a place: only a person can help.
    #[default]
    Permanent,
    /// A row's: it can be left out.
    Data,
    /// Ours.
    Bug,
}

/// What was being done, and the cause. Printed as one line, outermost first.
///
/// The causes are kept, and so is the class: an error that says what was being done is of the class of its cause.
#[derive(Debug)]
pub struct Error {
    message: String,
    class: ErrorClass,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error in words: what is wrong, and what would be right.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), class: ErrorClass::default(), source: None }
    }

    /// An error that may be over when the same is tried again.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(message).of_class(ErrorClass::Transient)
    }

    /// An error whose cause is another one. `doing` is what was being done: "reading `a.csv`".
    pub fn caused_by(doing: impl Into<String>, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = cause.into();
        Self { message: doing.into(), class: class_of(&*source), source: Some(source) }
    }

    /// The same error, of another class.
    pub fn of_class(self, class: ErrorClass) -> Self {
        Self { class, ..self }
    }

    /// Whose fault it is.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// The cause, whose own causes can be asked for in turn. [`StdError::source`] does not give it, since the error prints its
    /// causes itself, and a reporter that goes through them would repeat them.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.source.as_deref()
    }
}

/// The class of an error by the causes that it may have.
fn class_of(error: &(dyn StdError + 'static)) -> ErrorClass {
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.class;
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return class_of_io(error);
    }
    error.source().map_or(ErrorClass::default(), class_of)
}

fn class_of_io(error: &io::Error) -> ErrorClass {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, NotConnected, TimedOut, WouldBlock,
    };
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted
        | NetworkDown | NetworkUnreachable | NotConnected | TimedOut | WouldBlock => ErrorClass::Transient,
        _ => error.get_ref().map_or(ErrorClass::default(), |inner| class_of(inner)),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(cause) if self.message.is_empty() => write!(f, "{cause}"),
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {}

impl From<arrow::error::ArrowError> for Error {
    fn from(cause: arrow::error::ArrowError) -> Self {
        Self::caused_by("", cause)
    }
}

impl From<io::Error> for Error {
    fn from(cause: io::Error) -> Self {
        Self::caused_by("", cause)
    }
}

/// Says what was being done when something failed.
pub trait ResultExt<T> {
    /// Wraps the error: `file.sync().doing(|| format!("writing `{path}`"))`.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> ResultExt<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::caused_by(what(), cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens")
    }

    #[test]
    fn an_error_is_of_the_class_of_its_cause() {
        let lost = Err::<(), _>(refused()).doing(|| "sending rows").doing(|| "committing").expect_err("an error");
        assert_eq!(lost.class(), ErrorClass::Transient);
        assert_eq!(lost.to_string(), "committing: sending rows: nobody listens");
        let asked = lost.cause().and_then(|cause| cause.downcast_ref::<Error>()).and_then(Error::cause);
        assert!(asked.is_some_and(|cause| cause.is::<io::Error>()));
        assert_eq!(Error::from(refused()).class(), ErrorClass::Transient);
        assert_eq!(Error::from(refused()).to_string(), "nobody listens");
    }

    #[test]
    fn an_error_is_permanent_unless_it_is_known_to_be_another() {
        assert_eq!(Error::new("there is no table `a`").class(), ErrorClass::Permanent);
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::PermissionDenied)).class(), ErrorClass::Permanent);
        let row =
            Err::<(), _>(Error::new("null").of_class(ErrorClass::Data)).doing(|| "inserting").expect_err("an error");
        assert_eq!(row.class(), ErrorClass::Data);
        let wrapped = io::Error::other(Error::transient("busy"));
        assert_eq!(Error::from(wrapped).class(), ErrorClass::Transient);
    }
}
