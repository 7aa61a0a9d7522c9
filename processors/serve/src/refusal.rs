//! Why a request is not answered by predictions.

use std::fmt;
use std::time::Duration;

use millstream_core::Error;

/// Why a request is not answered by predictions: a reason that programs can rely on, and words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Which part is wrong, and what would be right.
    pub message: String,
}

/// The reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request is wrong.
    Wrong,
    /// There is no such model, version or alias.
    NotFound,
    /// Something else is so already.
    Conflict,
    /// What is to be made is there already.
    Exists,
    /// The body is longer than is taken.
    TooLarge,
    /// The body has not come in time.
    Slow,
    /// The body is of a type or in an encoding that is not taken.
    Unsupported,
    /// More waits than can be computed soon.
    Overloaded,
    /// The registry can't be read.
    Unavailable,
    /// A defect of ours.
    Internal,
}

impl Refusal {
    /// The request is wrong.
    pub fn wrong(message: impl Into<String>) -> Self {
        Self { reason: Reason::Wrong, message: message.into() }
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { reason: Reason::NotFound, message: message.into() }
    }

    /// The body is of a type or in an encoding that is not taken.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { reason: Reason::Unsupported, message: message.into() }
    }

    /// The body is longer than is taken.
    pub fn too_large(most: usize) -> Self {
        let message = format!("the body is longer than {most} bytes, also counted without its compression");
        Self { reason: Reason::TooLarge, message }
    }

    /// The body has not come in time.
    pub fn slow(within: Duration) -> Self {
        Self { reason: Reason::Slow, message: format!("the body has not come within {within:?}") }
    }

    /// It can't be done now, and may be a little later.
    pub fn busy(message: impl Into<String>) -> Self {
        Self { reason: Reason::Overloaded, message: message.into() }
    }

    /// Something that the request has not done.
    pub fn internal(error: &Error) -> Self {
        Self { reason: Reason::Internal, message: error.to_string() }
    }
}

impl Reason {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Wrong => 400,
            Self::NotFound => 404,
            Self::Slow => 408,
            Self::Conflict | Self::Exists => 409,
            Self::TooLarge => 413,
            Self::Unsupported => 415,
            Self::Overloaded | Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// By which programs know it, as MLflow calls it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Wrong | Self::TooLarge | Self::Slow => "BAD_REQUEST",
            Self::NotFound => "RESOURCE_DOES_NOT_EXIST",
            Self::Conflict => "RESOURCE_CONFLICT",
            Self::Exists => "RESOURCE_ALREADY_EXISTS",
            Self::Unsupported => "INVALID_PARAMETER_VALUE",
            Self::Overloaded | Self::Unavailable => "TEMPORARILY_UNAVAILABLE",
            Self::Internal => "INTERNAL_ERROR",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
