//! What a format is: its name, the endings of its files, and the settings by which it is read and written.

use std::fmt;
use std::sync::Arc;

use millstream_core::{Problem, Step, known_names, parse_settings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::messages::{MessageFormat, MessageWriting};
use crate::read::Reading;
use crate::setting::keys;
use crate::write::Writing;

/// A format that there is: a constant in the format's own file.
#[derive(Debug)]
pub struct FormatKind {
    /// What settings call it. The names of files that Millstream gives end in it.
    pub name: &'static str,
    /// What it is, in a sentence or more: the beginning of its reference page.
    pub about: &'static str,
    /// What the names of its files may end in, without the point.
    pub endings: &'static [&'static str],
    /// The setting `format`, as it may be written. A test parses it.
    pub example: &'static str,
    /// Whether its bytes are text: read from the first to the last, wherever they come from, and compressed as a whole.
    pub is_text: bool,
    /// Whether more rows can be written behind a file that is whole.
    pub can_grow: bool,
    pub(crate) read: Option<Side<Reading>>,
    pub(crate) read_messages: Option<Side<Arc<dyn MessageFormat>>>,
    pub(crate) write_files: Option<Side<Arc<dyn Writing>>>,
    pub(crate) write_streams: Option<Side<Arc<dyn Writing>>>,
    pub(crate) write_messages: Option<Side<Arc<dyn MessageWriting>>>,
}

impl FormatKind {
    /// The names of all its settings.
    pub(crate) fn keys(&self) -> Vec<String> {
        let read = self.read.iter().map(Side::keys).chain(self.read_messages.iter().map(Side::keys));
        let written = self.write_files.iter().chain(&self.write_streams).map(Side::keys);
        let messages = self.write_messages.iter().map(Side::keys);
        read.chain(written).chain(messages).flatten().collect()
    }
}

impl FormatKind {
    /// Whether a setting is one of files or streams.
    pub(crate) fn has_file_key(&self, key: &String) -> bool {
        let written = self.write_files.iter().chain(&self.write_streams);
        self.read.iter().map(Side::keys).chain(written.map(Side::keys)).any(|keys| keys.contains(key))
    }
}

/// The settings of a format for one purpose. Parser, checks, JSON schema and reference page are made of one struct.
pub(crate) trait Settings: DeserializeOwned + JsonSchema {
    /// What they come to.
    type Made;

    /// Checks what the struct's types can't say. `ending` is what the file's name ends in, if it is a file. Problems are placed
    /// in the table of the settings.
    fn make(self, ending: &str) -> Result<Self::Made, Problem>;
}

/// The settings of a format for one purpose, whatever their struct.
pub(crate) struct Side<T> {
    schema: fn(&mut SchemaGenerator) -> Schema,
    make: fn(Map<String, Value>, &str) -> Result<T, Problem>,
}

impl<T> Side<T> {
    pub(crate) const fn of<S: Settings<Made = T>>() -> Self {
        Self { schema: S::json_schema, make: |table, ending| parse_settings::<S>(Value::Object(table))?.make(ending) }
    }

    /// The JSON schema of the settings.
    pub(crate) fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// What the settings in a table come to.
    pub(crate) fn make(&self, table: Map<String, Value>, ending: &str) -> Result<T, Problem> {
        (self.make)(table, ending)
    }

    fn keys(&self) -> Vec<String> {
        keys(&self.schema(&mut SchemaGenerator::default()))
    }

    /// The problem of a key that is no setting. `refused` says of some why not.
    pub(crate) fn check_keys(&self, table: &Map<String, Value>, refused: &Map<String, Value>) -> Result<(), Problem> {
        let known = self.keys();
        let Some(key) = table.keys().find(|key| !known.contains(key)) else { return Ok(()) };
        let problem = match refused.get(key).and_then(Value::as_str) {
            Some(why) => Problem::new(why),
            None => {
                let help = known_names(key, known.iter().map(String::as_str));
                Problem::new(format!("there is no setting `{key}`")).help(help)
            }
        };
        Err(problem.at([Step::Name(key.clone())]))
    }
}

impl<T> fmt::Debug for Side<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("keys", &self.keys()).finish()
    }
}
