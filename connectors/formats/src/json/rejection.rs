//! Why a document is rejected.

use std::fmt;

/// What a place of a document stands for, or why the document is rejected.
pub(crate) type Read<T> = Result<T, Box<Rejection>>;

/// Why a document is rejected.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// It is no JSON.
    Json(String),
    /// What is wrong with the value at a path, such as `a.list[2]`; begins with what follows the path.
    Value { path: String, error: String },
}

impl Rejection {
    pub(crate) fn json(error: impl Into<String>) -> Box<Self> {
        Box::new(Self::Json(error.into()))
    }

    pub(crate) fn value(error: impl Into<String>) -> Box<Self> {
        Box::new(Self::Value { path: String::new(), error: error.into() })
    }

    /// Says that the value is in this field, or that item, of another.
    #[cold]
    pub(crate) fn within(mut self: Box<Self>, field: &str) -> Box<Self> {
        if let Self::Value { path, .. } = &mut *self {
            let separator = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            *path = format!("{field}{separator}{path}");
        }
        self
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Json(error) => write!(out, "no valid JSON: {error}"),
            Self::Value { path, error } => write!(out, "column `{path}`{error}"),
        }
    }
}
