//! `${NAME}` and `${NAME:default}` in texts, filled in from the environment; `$${` stands for `${`.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::source::Source;
use super::text::{Text, span_in_literal};
use super::value::{Value, ValueKind};

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Fills in all texts of a tree, and says which variables are missing. Keys and other values stay as they are.
pub fn interpolate(value: &mut Value, environment: Environment<'_>, source: &Source) -> Vec<Diagnostic> {
    match &mut value.kind {
        ValueKind::Array(items) => items.iter_mut().flat_map(|item| interpolate(item, environment, source)).collect(),
        ValueKind::Table(entries) => {
            entries.iter_mut().flat_map(|entry| interpolate(&mut entry.value, environment, source)).collect()
        }
        ValueKind::String(text) if text.as_str().contains("${") => match fill(text.as_str(), environment) {
            Ok(filled) => {
                value.kind = ValueKind::String(filled);
                Vec::new()
            }
            Err(faults) => {
                value.kind = ValueKind::Unknown;
                faults.into_iter().map(|fault| fault.diagnostic(&value.span, source)).collect()
            }
        },
        _ => Vec::new(),
    }
}

/// What is wrong with a variable, and which characters of the text it is.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    at: Range<usize>,
    message: String,
    help: String,
}

impl Fault {
    fn diagnostic(self, value: &Range<usize>, source: &Source) -> Diagnostic {
        let within = span_in_literal(source.text(value), self.at);
        let span = within.map_or(value.clone(), |span| value.start + span.start..value.start + span.end);
        source.diagnostic(&span, self.message, Some(self.help))
    }
}

fn fill(text: &str, environment: Environment<'_>) -> Result<Text, Vec<Fault>> {
    let mut filled = Text::default();
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, variable) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_written(before);
            let at = characters(text, variable) - 1;
            filled.push_filled(at..at + 3, "${");
            rest = &variable[2..];
            continue;
        }
        filled.push_written(before);
        let length = variable.find('}').map_or(variable.len(), |end| end + 1);
        let at = characters(text, variable);
        let at = at..at + variable[..length].chars().count();
        match look_up(&variable[..length], environment) {
            Ok(Found::Variable(name, value)) => filled.push_variable(at, name, &value),
            Ok(Found::Default(value)) => filled.push_filled(at, value),
            Err((message, help)) => faults.push(Fault { at, message, help }),
        }
        rest = &variable[length..];
    }
    filled.push_written(rest);
    if faults.is_empty() { Ok(filled) } else { Err(faults) }
}

/// How many characters of `text` come before `rest`, its end.
fn characters(text: &str, rest: &str) -> usize {
    text[..text.len() - rest.len()].chars().count()
}

/// What comes for `${NAME}`.
enum Found<'a> {
    /// The value of a variable, which is not to be read anywhere.
    Variable(&'a str, String),
    /// A default, which stands in the file.
    Default(&'a str),
}

/// What comes for `${NAME}` or `${NAME:default}`, or what is wrong with it and what would be right.
fn look_up<'a>(variable: &'a str, environment: Environment<'_>) -> Result<Found<'a>, (String, String)> {
    let escape = "write `$${` for a plain `${`";
    let Some(inside) = variable.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return Err(("`${` has no `}`".to_owned(), escape.to_owned()));
    };
    let (name, default) = match inside.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_variable_name(name) {
        return Err((format!("`{name}` is not the name of an environment variable"), escape.to_owned()));
    }
    let missing = || {
        let message = format!("the environment variable `{name}` is not set");
        (message, format!("set it, or give a default: `${{{name}:default}}`"))
    };
    let value = environment(name).map(|value| Found::Variable(name, value));
    value.or(default.map(Found::Default)).ok_or_else(missing)
}

fn is_variable_name(name: &str) -> bool {
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    word && name.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Vec<String>> {
        let environment = |name: &str| match name {
            "HOST" => Some("kafka1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        match fill(text, &environment) {
            Ok(text) => Ok(text.as_str().to_owned()),
            Err(faults) => Err(faults.into_iter().map(|fault| fault.message).collect()),
        }
    }

    #[test]
    fn variables_are_filled_in_once() {
        for (written, expected) in [
            ("${HOST}:9092", "kafka1:9092"),
            ("${PORT:9092}", "9092"),
            ("${URL:http://a:1}", "http://a:1"),
            ("${HOST:other}${EMPTY}${EMPTY:x}", "kafka1"),
            ("$${HOST} costs $5 or $$", "${HOST} costs $5 or $$"),
            ("$$${HOST}", "$${HOST}"),
            ("${NESTED}", "${HOST}"),
            ("ä${PORT:}ö", "äö"),
        ] {
            assert_eq!(filled(written).as_deref(), Ok(expected), "{written}");
        }
    }

    #[test]
    fn all_that_is_missing_is_said() {
        let errors = filled("${A} ${B:b} ${C-D} ${E").unwrap_err();
        let expected = [
            "the environment variable `A` is not set",
            "`C-D` is not the name of an environment variable",
            "`${` has no `}`",
        ];
        assert_eq!(errors, expected);
    }
}
