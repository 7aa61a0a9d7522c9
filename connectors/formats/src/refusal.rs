//! Why a row is refused.

use std::fmt;

/// What a place of a row stands for, or why the row is refused.
pub(crate) type Read<T> = Result<T, Box<Refusal>>;

/// Why a row is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Its bytes are not what its format or its schema says.
    Malformed(String),
    /// What is wrong with the value at a path, such as `a.list[2]`; begins with what follows the path.
    Value { path: String, error: String },
}

impl Refusal {
    #[cold]
    pub(crate) fn malformed(error: impl Into<String>) -> Box<Self> {
        Box::new(Self::Malformed(error.into()))
    }

    #[cold]
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

impl Refusal {
    /// In words, of which these say what malformed bytes are not: `no valid JSON`.
    pub(crate) fn describe(&self, no_valid: &str) -> String {
        match self {
            Self::Malformed(error) => format!("{no_valid}: {error}"),
            Self::Value { .. } => self.to_string(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Malformed(error) => out.write_str(error),
            Self::Value { path, error } => write!(out, "column `{path}`{error}"),
        }
    }
}
