//! Schemas as programs take them that generate clients from an OpenAPI document: they know less than JSON Schema has.

use schemars::Schema;
use schemars::transform::{ReplaceBoolSchemas, Transform, transform_subschemas};
use serde_json::{Value, json};

/// Makes schemas plain, with the same meaning.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        // What may be anything is `{}`, not `true`.
        let mut anything = ReplaceBoolSchemas::default();
        anything.skip_additional_properties = true;
        anything.transform(schema);
        list_words(schema);
    }
}

/// One of several words, each with what it means, is a list of words; what they mean is said of all.
fn list_words(schema: &mut Schema) {
    transform_subschemas(&mut list_words, schema);
    let Some((words, meanings)) = schema.get("oneOf").and_then(Value::as_array).and_then(|words| read_words(words))
    else {
        return;
    };
    let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let about = format!("{about}\n\n{}", meanings.concat());
    schema.remove("oneOf");
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), json!(words));
    schema.insert("description".to_owned(), json!(about.trim()));
}

/// The words that alternatives are, and what they mean. None if one of them is no word.
fn read_words(alternatives: &[Value]) -> Option<(Vec<String>, Vec<String>)> {
    let words = alternatives.iter().map(|word| word["const"].as_str().map(str::to_owned)).collect::<Option<_>>()?;
    let meaning = |word: &Value| Some(format!("- `{}`: {}\n", word["const"].as_str()?, word["description"].as_str()?));
    Some((words, alternatives.iter().filter_map(meaning).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_listed_and_anything_is_an_object() {
        let word = |word: &str| json!({ "type": "string", "const": word, "description": format!("It is {word}.") });
        let mixed = json!({ "oneOf": [word("a"), { "type": "object" }] });
        let mut schema = schemars::json_schema!({
            "properties": {
                "state": { "description": "How it is.", "oneOf": [word("up"), word("down")] },
                "any": true,
                "mixed": mixed.clone(),
            },
            "additionalProperties": false,
        });
        Plain.transform(&mut schema);
        let state = json!({
            "description": "How it is.\n\n- `up`: It is up.\n- `down`: It is down.",
            "type": "string",
            "enum": ["up", "down"],
        });
        let expected =
            json!({ "properties": { "state": state, "any": {}, "mixed": mixed }, "additionalProperties": false });
        assert_eq!(schema.to_value(), expected);
    }
}
