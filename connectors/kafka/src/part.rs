//! The parts of a message that are messages of a format themselves.

use millstream_core::{Problem, Step};

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagePart {
    /// The value.
    Value,
    /// The key.
    Key,
}

impl MessagePart {
    /// What it is called in subjects of registries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Key => "key",
        }
    }

    /// The setting that declares the columns of the part.
    pub fn schema_setting(self) -> &'static str {
        match self {
            Self::Value => "schema",
            Self::Key => "key_schema",
        }
    }

    /// Places a problem where the settings of the part are: formats place theirs at `format` and `schema`.
    pub fn place(self, mut problem: Problem) -> Problem {
        if let (Self::Key, Some(Step::Key(first))) = (self, problem.at.first_mut()) {
            match first.as_str() {
                "format" => *first = "key_format".to_owned(),
                "schema" => *first = "key_schema".to_owned(),
                _ => {}
            }
        }
        problem
    }
}
