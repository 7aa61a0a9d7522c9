//! Leaves out what is secret: the values that flows say are, and what looks as if it were.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value as Json;

use crate::terminal::without_secrets;

/// What stands in the place of what was left out.
const LEFT_OUT: &str = "***";

/// The names of settings that are secret.
const NAMES: &str =
    "passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|authorization";

/// What looks like a secret, and what is left of it.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let value = r#""""(?s:.*?)"""|'''(?s:.*?)'''|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\s,;{}\[\]"'][^\s,;}\]"']*"#;
    let setting = format!(r#"(?i)((?:{NAMES})[a-z0-9_.-]*["']?\s*[:=]\s*)(?:{value})"#);
    let patterns = [
        // Keys in PEM.
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", "***"),
        // Passwords in addresses.
        (r"(://[^/\s:@]*:)[^/\s@]+@", "${1}***@"),
        // Our own tokens, and what authorises requests.
        (r"\bms_[A-Za-z0-9_]{8,}", "ms_***"),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "${1} ***"),
        // What settings with such names are.
        (&setting, "${1}\"***\""),
    ];
    patterns.into_iter().filter_map(|(pattern, left)| Some((Regex::new(pattern).ok()?, left))).collect()
});

/// A text without secrets.
pub fn redacted(text: &str) -> String {
    let text = without_secrets(text).into_owned();
    PATTERNS.iter().fold(text, |text, (pattern, left)| pattern.replace_all(&text, *left).into_owned())
}

/// The same for JSON.
pub fn redacted_json(json: Json) -> Json {
    static SETTING: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("(?i){NAMES}")).ok());
    match json {
        Json::String(text) => Json::String(redacted(&text)),
        Json::Array(items) => items.into_iter().map(redacted_json).collect(),
        Json::Object(entries) => {
            let is_secret = |key: &str| SETTING.as_ref().is_none_or(|setting| setting.is_match(key));
            let entry = |(key, value): (String, Json)| match value {
                Json::String(_) if is_secret(&key) => (key, Json::from(LEFT_OUT)),
                other => (key, redacted_json(other)),
            };
            entries.into_iter().map(entry).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_left_out() {
        assert_eq!(PATTERNS.len(), 5, "all of them compile");
        for (text, expected) in [
            ("password = \"pa\\\"ss\" # mine", "password = \"***\" # mine"),
            ("secret = \"\"\"\nab\nc\"\"\"\nd", "secret = \"***\"\nd"),
            ("sasl.password = 'pass'", "sasl.password = \"***\""),
            ("password = { env = \"NAME\" }", "password = { env = \"NAME\" }"),
            ("tokens = 3", "tokens = \"***\""),
            ("url = \"mysql://me:pass@db:3306/x\"", "url = \"mysql://me:***@db:3306/x\""),
            ("ms_0123456789abcdef_x", "ms_***"),
            ("Authorization: Bearer abcdefgh.ijk", "Authorization: \"***\" ***"),
            ("with Bearer abcdefghijk", "with Bearer ***"),
            ("a\n-----BEGIN EC PRIVATE KEY-----\nx\n-----END EC PRIVATE KEY-----\nb", "a\n***\nb"),
            ("nothing = \"of it\", rows 1,234", "nothing = \"of it\", rows 1,234"),
        ] {
            assert_eq!(redacted(text), expected);
        }
        let json = json!({ "api_key": "abc", "tokens": 1, "lines": ["a ms_0123456789", { "said": "password=abc" }] });
        let expected = json!({ "api_key": "***", "tokens": 1, "lines": ["a ms_***", { "said": "password=\"***\"" }] });
        assert_eq!(redacted_json(json), expected);
    }
}
