//! Where things are in an answer: `$.data.items`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use millstream_core::{Error, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::value::RawValue;

/// A way into a JSON document: `$` is all of it, `$.a.b` what is under `b` in what is under `a`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('$')?;
        if rest.is_empty() {
            return Some(Self::default());
        }
        let steps: Vec<_> = rest.strip_prefix('.')?.split('.').map(str::to_owned).collect();
        steps.iter().all(|step| !step.is_empty()).then_some(Self(steps))
    }

    /// What is there; none if nothing is, or null.
    pub fn find<'a>(&self, document: &'a RawValue) -> Option<&'a RawValue> {
        let mut found = document;
        for step in &self.0 {
            let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(found.get()).ok()?;
            found = *members.get(step.as_str())?;
        }
        (found.get() != "null").then_some(found)
    }

    /// The text or number that is there, as a text.
    pub fn text(&self, document: &RawValue) -> Option<String> {
        match serde_json::from_str(self.find(document)?.get()).ok()? {
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom(format!("`{text}` is no way into a document; such as `$.data.items`"));
        Self::parse(&text).ok_or_else(wrong)
    }
}

impl JsonSchema for Pointer {
    fn schema_name() -> Cow<'static, str> {
        "Pointer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["$.data"] })
    }
}

/// The document of an answer.
pub fn document(body: &[u8]) -> Result<&RawValue> {
    serde_json::from_slice(body).map_err(|error| Error::new(format!("the answer is no JSON: {error}")))
}

/// The records at a place of a document, as they are written.
pub fn records<'a>(document: &'a RawValue, place: &Pointer) -> Result<Vec<&'a RawValue>> {
    let Some(found) = place.find(document) else { return Ok(Vec::new()) };
    if found.get().starts_with('[') {
        serde_json::from_str(found.get()).map_err(|error| Error::new(format!("the records can't be read: {error}")))
    } else {
        Ok(vec![found])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(text: &str, body: &str) -> Vec<String> {
        let place = Pointer::parse(text).unwrap();
        let document = document(body.as_bytes()).unwrap();
        records(document, &place).unwrap().into_iter().map(|record| record.get().to_owned()).collect()
    }

    #[test]
    fn records_are_found_as_they_are_written() {
        assert_eq!(found("$", "[1.10, {\"a\": 1}]"), ["1.10", "{\"a\": 1}"]);
        assert_eq!(
            found("$.data.items", r#"{ "data": { "items": [12345678901234567890123] } }"#),
            ["12345678901234567890123"]
        );
        assert_eq!(found("$.data", r#"{ "data": { "id": 1 } }"#), [r#"{ "id": 1 }"#]);
        for body in ["{}", r#"{ "data": null }"#, r#"{ "data": [] }"#] {
            assert!(found("$.data", body).is_empty(), "{body}");
        }
    }

    #[test]
    fn ways_are_names_behind_points() {
        for text in ["", "data", "$data", "$.", "$..a", "$.a."] {
            assert_eq!(Pointer::parse(text), None, "{text}");
        }
    }
}
