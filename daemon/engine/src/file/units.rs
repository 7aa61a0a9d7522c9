//! Texts with a syntax of their own, which JSON schemas say nothing about: `"64MiB"`, `"5s"`, `"1%"`, `"float64?"`.

use millstream_core::{ByteSize, ColumnType, Duration, Share};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

/// What is wrong with a text of a type.
type Check = fn(&str) -> Option<String>;

/// The types of settings that are written as texts with a unit, by their schemas.
pub struct UnitTypes(Vec<(Json, Check)>);

impl UnitTypes {
    pub fn new() -> Self {
        Self(vec![unit::<ByteSize>(), unit::<ColumnType>(), unit::<Duration>(), unit::<Share>()])
    }

    /// What is wrong with a text, if the schema is that of a type with a unit.
    pub fn check(&self, schema: &Map<String, Json>, text: &str) -> Option<String> {
        let (_, check) = self.0.iter().find(|(known, _)| known.as_object() == Some(schema))?;
        check(text)
    }
}

fn unit<T: JsonSchema + DeserializeOwned>() -> (Json, Check) {
    let schema = T::json_schema(&mut SchemaGenerator::default()).to_value();
    (schema, |text| serde_json::from_value::<T>(Json::from(text)).err().map(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;

    use super::*;

    #[test]
    fn units_are_known_by_their_schema() {
        let schema = schema_for!(Vec<Duration>).to_value();
        let schema = schema["$defs"]["Duration"].as_object().expect("a definition");
        let units = UnitTypes::new();
        assert_eq!(units.check(schema, "5s"), None);
        let message = units.check(schema, "5 sec").expect("there is no such unit");
        assert!(message.starts_with("`5 sec` is not a number with a unit"), "{message}");
        assert_eq!(units.check(&Map::new(), "5 sec"), None);
    }
}
