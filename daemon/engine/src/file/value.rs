//! The tree that a flow file is read into: values in file order, each with its place in the source.

use std::ops::Range;

use millstream_core::Step;
use serde_json::{Map, Number, Value as Json};

use super::text::Text;

/// A value, and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Bytes of the source, see [`super::source::Source`]. Of a table with a header, the header.
    pub span: Range<usize>,
    /// The value itself.
    pub kind: ValueKind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueKind {
    /// A text.
    String(Text),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date, a time or both, as it was written.
    Datetime(String),
    /// `[…]`, and `[[…]]`.
    Array(Vec<Value>),
    /// `{…}`, `[…]` as a header, and the tables that dotted keys imply.
    Table(Vec<Entry>),
    /// A text that could not be filled in from the environment, which has been said already: fits everywhere.
    Unknown,
}

/// A key of a table and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key, unquoted.
    pub key: String,
    /// Where the key is written.
    pub key_span: Range<usize>,
    /// Its value.
    pub value: Value,
}

impl Value {
    /// The entries, if it is a table.
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            ValueKind::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The elements, if it is an array.
    pub fn items(&self) -> &[Value] {
        match &self.kind {
            ValueKind::Array(items) => items,
            _ => &[],
        }
    }

    /// The entry of that key, if it is a table that has one.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of that key, if it is a table that has one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entries, to be changed, if it is a table.
    pub fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        match &mut self.kind {
            ValueKind::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value at the end of the way of `steps`, to be changed.
    pub fn at_mut(&mut self, steps: &[Step]) -> Option<&mut Self> {
        steps.iter().try_fold(self, |value, step| match (step, &mut value.kind) {
            (Step::Key(key) | Step::Name(key), ValueKind::Table(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value)
            }
            (Step::Index(index), ValueKind::Array(items)) => items.get_mut(*index),
            _ => None,
        })
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Whether all texts in it could be filled in.
    pub fn is_known(&self) -> bool {
        match &self.kind {
            ValueKind::Unknown => false,
            ValueKind::Array(items) => items.iter().all(Self::is_known),
            ValueKind::Table(entries) => entries.iter().all(|entry| entry.value.is_known()),
            _ => true,
        }
    }

    /// What the value is called in messages.
    pub fn noun(&self) -> &'static str {
        match self.kind {
            ValueKind::String(_) => "a string",
            ValueKind::Integer(_) => "a whole number",
            ValueKind::Float(_) => "a decimal number",
            ValueKind::Boolean(_) => "a boolean",
            ValueKind::Datetime(_) => "a date or time",
            ValueKind::Array(_) => "a list",
            ValueKind::Table(_) => "a table",
            ValueKind::Unknown => "an unknown value",
        }
    }

    /// Goes the way of `steps` as far as it exists. A last [`Step::Name`] leads to the key, anything else to the value.
    pub fn locate(&self, steps: &[Step]) -> Located<'_> {
        let mut value = self;
        for (index, step) in steps.iter().enumerate() {
            let next = match step {
                Step::Key(key) => value.get(key),
                Step::Index(index) => value.items().get(*index),
                Step::Name(key) => match value.entry(key) {
                    Some(entry) if index + 1 == steps.len() => return Located::Key(entry),
                    entry => entry.map(|entry| &entry.value),
                },
            };
            let Some(next) = next else { break };
            value = next;
        }
        Located::Value(value)
    }

    /// The value for serde. Dates become texts, as do the floats that JSON has no number for: `NaN`, `inf`, `-inf`.
    pub fn to_json(&self) -> Json {
        match &self.kind {
            ValueKind::String(text) => Json::from(text.as_str()),
            ValueKind::Integer(number) => Json::from(*number),
            ValueKind::Float(number) => match Number::from_f64(*number) {
                Some(number) => Json::Number(number),
                None => Json::from(number.to_string()),
            },
            ValueKind::Boolean(boolean) => Json::from(*boolean),
            ValueKind::Datetime(text) => Json::from(text.as_str()),
            ValueKind::Array(items) => items.iter().map(Self::to_json).collect(),
            ValueKind::Table(_) => Json::Object(self.to_json_table()),
            ValueKind::Unknown => Json::Null,
        }
    }

    /// The entries for serde; none if it is no table.
    pub fn to_json_table(&self) -> Map<String, Json> {
        self.entries().iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
    }
}

/// Where a way through the tree ended.
#[derive(Clone, Copy, Debug)]
pub enum Located<'a> {
    /// At a key.
    Key(&'a Entry),
    /// At a value.
    Value(&'a Value),
}

impl Located<'_> {
    /// Where it is written.
    pub fn span(&self) -> Range<usize> {
        match self {
            Self::Key(entry) => entry.key_span.clone(),
            Self::Value(value) => value.span.clone(),
        }
    }
}
