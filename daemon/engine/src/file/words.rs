//! How the check speaks of types: "expected a whole number, found a string".

use serde_json::{Map, Value as Json};

use super::value::{Value, ValueKind};

/// Whether a value is of one of the types (a name or a list of names) of a schema.
pub fn fits(value: &Value, types: &Json) -> bool {
    let fits = |name: &str| match (&value.kind, name) {
        // Dates reach serde as texts.
        (ValueKind::String(_) | ValueKind::Datetime(_), "string") => true,
        (ValueKind::Integer(_), "integer" | "number") => true,
        (ValueKind::Float(number), "number") => number.is_finite(),
        (ValueKind::Boolean(_), "boolean") => true,
        (ValueKind::Array(_), "array") => true,
        (ValueKind::Table(_), "object") => true,
        (ValueKind::Unknown, _) => true,
        _ => false,
    };
    names(types).any(fits)
}

/// The types of a schema in words.
pub fn expected(types: &Json) -> String {
    let nouns: Vec<_> = names(types).filter(|name| *name != "null").map(noun_of_type).collect();
    join_or(&nouns)
}

/// A type's name in a JSON schema, in words.
pub fn noun_of_type(name: &str) -> &str {
    match name {
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

/// "a, b or c".
pub fn join_or<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// What could have been meant by a value of the wrong type.
pub fn type_help(value: &Value, types: &Json, facets: &[&Map<String, Json>]) -> Option<String> {
    let wanted = |name: &str| names(types).any(|wanted| wanted == name);
    match &value.kind {
        ValueKind::Float(number) if wanted("integer") && number.fract() == 0.0 && number.abs() < 1e15 => {
            Some(format!("write `{number:.0}`"))
        }
        ValueKind::Float(number) if wanted("number") && !number.is_finite() => Some("it must be finite".to_owned()),
        ValueKind::String(text) if wanted("array") => Some(format!("write `[{}]`", Json::from(text.as_str()))),
        ValueKind::String(text) if wanted("integer") || wanted("number") => {
            let number = text.as_str().parse::<f64>().is_ok();
            number.then(|| format!("write `{}` without quotes", text.as_str()))
        }
        ValueKind::String(text) if wanted("boolean") && ["true", "false"].contains(&text.as_str()) => {
            Some(format!("write `{}` without quotes", text.as_str()))
        }
        _ => facets.iter().find_map(|facet| example(facet)).map(|example| format!("such as `{example}`")),
    }
}

/// What is wrong with a number outside the range of a schema.
pub fn range_problem(number: f64, written: &str, schema: &Map<String, Json>) -> Option<String> {
    let limit = |key: &str| schema.get(key).filter(|limit| limit.is_number());
    let outside = |key: &str, wrong: fn(f64, f64) -> bool| {
        limit(key).filter(|limit| limit.as_f64().is_some_and(|limit| wrong(number, limit)))
    };
    let problem = |words: &str, limit: &Json| format!("expected {words} {}, found {written}", number_text(limit));
    outside("minimum", |number, limit| number < limit)
        .map(|limit| problem("at least", limit))
        .or_else(|| outside("maximum", |number, limit| number > limit).map(|limit| problem("at most", limit)))
        .or_else(|| {
            outside("exclusiveMinimum", |number, limit| number <= limit).map(|limit| problem("more than", limit))
        })
        .or_else(|| {
            outside("exclusiveMaximum", |number, limit| number >= limit).map(|limit| problem("less than", limit))
        })
}

/// A value as it could be written for a setting, in TOML.
pub fn sample(schema: &Json, root: &Json) -> String {
    let Some(facet) = schema.as_object() else { return "…".to_owned() };
    if let Some(example) = example(facet).or_else(|| facet.get("const").map(Json::to_string)) {
        return example;
    }
    let target = facet.get("$ref").and_then(Json::as_str).and_then(|target| root.pointer(target.strip_prefix('#')?));
    let variant = ["anyOf", "oneOf"].into_iter().find_map(|key| facet.get(key)?.get(0));
    if let Some(schema) = target.or(variant) {
        return sample(schema, root);
    }
    let first_type = facet.get("type").and_then(|types| names(types).next());
    let sample = match first_type {
        Some("string") => "\"…\"",
        Some("array") => "[…]",
        Some("object") => "{ … }",
        Some("boolean") => "true",
        _ => "…",
    };
    sample.to_owned()
}

fn example(facet: &Map<String, Json>) -> Option<String> {
    facet.get("examples")?.get(0).map(Json::to_string)
}

fn names(types: &Json) -> impl Iterator<Item = &str> {
    let several = types.as_array().map_or(&[][..], Vec::as_slice);
    types.as_str().into_iter().chain(several.iter().filter_map(Json::as_str))
}

/// A value as TOML writes it.
pub fn toml_text(value: &Json) -> String {
    match value {
        Json::Object(entries) => {
            let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key} = {}", toml_text(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Limits are floats in schemas even where the setting is a whole number.
fn number_text(limit: &Json) -> String {
    limit.as_f64().map_or_else(|| limit.to_string(), |limit| limit.to_string())
}
