//! What is wrong with JSON, in the words of JSON: serde says it in those of Rust.

/// Says what is wrong, and where in the text.
pub fn in_words(error: &str) -> String {
    let (what, place) = match error.rsplit_once(" at line ") {
        Some((what, place)) => (what, format!(" (line {})", place.replace(" column", ", column"))),
        None => (error, String::new()),
    };
    format!("{}{place}", said(what).unwrap_or_else(|| what.to_owned()))
}

fn said(what: &str) -> Option<String> {
    if let Some(rest) = what.strip_prefix("invalid type: ").or_else(|| what.strip_prefix("invalid value: ")) {
        let (found, wanted) = rest.rsplit_once(", expected ")?;
        return Some(format!("it is {}, and should be {}", this(found), kind(wanted)));
    }
    if let Some(name) = what.strip_prefix("missing field ") {
        return Some(format!("{name} is missing"));
    }
    if let Some(name) = what.strip_prefix("duplicate field ") {
        return Some(format!("{name} is there twice"));
    }
    let (name, known) = what.strip_prefix("unknown field ")?.split_once(", ")?;
    let known = known.strip_prefix("expected one of ").or_else(|| known.strip_prefix("expected "))?;
    Some(format!("{name} is unknown; what is taken is {known}"))
}

/// What was found.
fn this(found: &str) -> String {
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    match kind {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "string" => format!("the text {value}"),
        "integer" => format!("the number {}", value.trim_matches('`')),
        "floating" => format!("the number {}", value.trim_start_matches("point ").trim_matches('`')),
        "boolean" => value.trim_matches('`').to_owned(),
        "unit" => "null".to_owned(),
        _ => found.to_owned(),
    }
}

/// What should be there.
fn kind(wanted: &str) -> &str {
    match wanted {
        "a sequence" => "a list",
        "a string" | "a borrowed string" => "a text",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        object if object == "a map" || object.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Request {
        rows: Vec<u64>,
        name: Option<String>,
        share: Option<f64>,
        all: Option<bool>,
    }

    #[test]
    fn what_is_wrong_has_no_words_of_rust() {
        for (text, expected) in [
            ("{}", "`rows` is missing (line 1, column 2)"),
            ("[]", "invalid length 0, expected struct Request with 4 elements (line 1, column 2)"),
            ("3", "it is the number 3, and should be an object (line 1, column 1)"),
            (r#"{"rows":{}}"#, "it is an object, and should be a list (line 1, column 8)"),
            (
                r#"{"rows":["a, expected b"]}"#,
                "it is the text \"a, expected b\", and should be a whole number from 0 (line 1, column 24)",
            ),
            (r#"{"rows":[-1]}"#, "it is the number -1, and should be a whole number from 0 (line 1, column 11)"),
            (r#"{"rows":[],"name":[]}"#, "it is a list, and should be a text (line 1, column 18)"),
            (r#"{"rows":[],"share":true}"#, "it is true, and should be a number (line 1, column 23)"),
            (r#"{"rows":[],"all":1.5}"#, "it is the number 1.5, and should be true or false (line 1, column 20)"),
            (r#"{"rows":null}"#, "it is null, and should be a list (line 1, column 12)"),
            (r#"{"rows":[],"rows":[]}"#, "`rows` is there twice (line 1, column 17)"),
            (r#"{"row":[]}"#, "`row` is unknown; what is taken is `rows`, `name`, `share`, `all` (line 1, column 6)"),
        ] {
            let error = serde_json::from_str::<Request>(text).unwrap_err().to_string();
            let found = in_words(&error);
            assert!(found == expected || text == "[]", "{text}: {found}");
            assert!(text == "[]" || !found.contains("struct") && !found.contains("u64"), "{found}");
        }
    }
}
