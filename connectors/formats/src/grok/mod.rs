//! Messages in which a grok pattern finds the columns: a regular expression that is made of named ones.

mod patterns;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{Problem, Result, known_names};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::fields::{FieldSettings, LineSettings};
use crate::kind::{FormatKind, Settings, Side};
use crate::message_lines::{Lines, Messages};
use crate::messages::MessageFormat;
use crate::read::Reading;
use crate::regex::{NUMBERED, Pattern, PatternTexts};
use patterns::PATTERNS;

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "grok",
    about: "Texts in which a grok pattern finds the columns, such as lines of logs.",
    endings: &[],
    example: r#"{ type = "grok", pattern = "^%{TIMESTAMP_ISO8601:at} %{LOGLEVEL:level} %{GREEDYDATA:text}$" }"#,
    is_text: true,
    can_grow: false,
    read: Some(Side::of::<ReadGrokLines>()),
    read_messages: Some(Side::of::<ReadGrok>()),
    write_files: None,
    write_streams: None,
    write_messages: None,
};

/// How long an expression may become.
const MAX_LENGTH: usize = 1 << 18;

/// How deep patterns may lie in each other.
const MAX_DEPTH: usize = 32;

/// `%{NAME:field}` is what the pattern `NAME` matches, and the column `field`; `%{NAME}` is no column, unless `NAME` has some inside. A
/// field that several branches of an alternative have is the first of them that took part in the match. Types are said by `schema`; a
/// third part, as in `%{NUMBER:bytes:int}`, is taken for what it means elsewhere, and says nothing.
///
/// There are the usual patterns: `WORD`, `NOTSPACE`, `DATA`, `GREEDYDATA`, `INT`, `NUMBER`, `IP`, `HOSTNAME`, `IPORHOST`, `HOSTPORT`, `MAC`,
/// `UUID`, `EMAILADDRESS`, `QUOTEDSTRING`, `PATH`, `URI` and its parts, `TIMESTAMP_ISO8601`, `HTTPDATE`, `SYSLOGTIMESTAMP`,
/// `DATESTAMP_RFC2822` and their parts, `LOGLEVEL`, `SYSLOGLINE`, `SYSLOGBASE`, `COMMONAPACHELOG`, `COMBINEDAPACHELOG` and others.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadGrok {
    /// The pattern: a regular expression as in the format `regex`, with patterns in it. It is searched for anywhere in the text, unless it
    /// begins with `^` and ends with `$`.
    pattern: String,
    /// More patterns, which may use others: `{ ORDER = "[A-Z]{2}-%{INT}" }`. They come before those that there are.
    #[serde(default)]
    patterns: BTreeMap<String, String>,
    #[serde(flatten)]
    fields: FieldSettings,
}

/// Each line is such a text; blank ones are skipped. Without `schema`, every field is a column of the type `utf8?`.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadGrokLines {
    /// The pattern, as in messages.
    pattern: String,
    /// More patterns, as in messages.
    #[serde(default)]
    patterns: BTreeMap<String, String>,
    #[serde(flatten)]
    lines: LineSettings,
}

impl Settings for ReadGrok {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Messages(of_grok(&self.pattern, &self.patterns, self.fields)?)))
    }
}

impl Settings for ReadGrokLines {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        let format = Arc::new(of_grok(&self.pattern, &self.patterns, self.lines.fields)?);
        Ok(Reading::Stream(Arc::new(Lines { format, encoding: self.lines.encoding })))
    }
}

fn of_grok(pattern: &str, own: &BTreeMap<String, String>, fields: FieldSettings) -> Result<PatternTexts, Problem> {
    let mut expansion = Expansion { own, regex: String::new(), fields: Vec::new() };
    let at = |why: String| Problem::new(why).at(["pattern"]);
    expansion.expand(pattern, &mut Vec::new()).map_err(at)?;
    let pattern = Pattern::new(&expansion.regex, &expansion.fields).map_err(at)?;
    Ok(PatternTexts { pattern, form: fields.form()? })
}

/// A pattern on its way to a regular expression.
struct Expansion<'a> {
    own: &'a BTreeMap<String, String>,
    regex: String,
    /// The fields, by the numbers of their groups.
    fields: Vec<String>,
}

impl<'a> Expansion<'a> {
    /// Appends what a text with patterns in it stands for. `within` names the patterns that it is a part of.
    fn expand(&mut self, text: &str, within: &mut Vec<&'a str>) -> Result<(), String> {
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("%{") {
            self.regex.push_str(before);
            let (inside, behind) = behind
                .split_once('}')
                .ok_or_else(|| format!("`%{{{behind}` has no end; patterns are written `%{{NAME:field}}`"))?;
            self.insert(inside, within)?;
            rest = behind;
        }
        self.regex.push_str(rest);
        if self.regex.len() > MAX_LENGTH {
            return Err(format!("the pattern stands for an expression of more than {MAX_LENGTH} bytes"));
        }
        Ok(())
    }

    /// Appends what stands between `%{` and `}` as a group.
    fn insert(&mut self, inside: &str, within: &mut Vec<&'a str>) -> Result<(), String> {
        let mut parts = inside.split(':');
        let (name, field) = (parts.next().unwrap_or_default(), parts.next());
        let (known, definition) = self.definition(name)?;
        if within.contains(&known) || within.len() >= MAX_DEPTH {
            return Err(format!("the pattern `{known}` is a part of itself"));
        }
        match field.filter(|field| !field.is_empty()) {
            None => self.regex.push_str("(?:"),
            Some(field) => {
                self.regex.push_str(&format!("(?<{NUMBERED}{}>", self.fields.len()));
                self.fields.push(field.to_owned());
            }
        }
        within.push(known);
        self.expand(definition, within)?;
        within.pop();
        self.regex.push(')');
        Ok(())
    }

    fn definition(&self, name: &str) -> Result<(&'a str, &'a str), String> {
        let own = self.own.get_key_value(name).map(|(name, text)| (name.as_str(), text.as_str()));
        own.or_else(|| PATTERNS.iter().find(|(known, _)| *known == name).copied()).ok_or_else(|| {
            let names = self.own.keys().map(String::as_str).chain(PATTERNS.iter().map(|(name, _)| *name));
            format!("there is no pattern `{name}`; {}", known_names(name, names))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn expand(text: &str, own: &[(&str, &str)]) -> Result<(String, Vec<String>), String> {
        let own = own.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let mut expansion = Expansion { own: &own, regex: String::new(), fields: Vec::new() };
        expansion.expand(text, &mut Vec::new())?;
        Ok((expansion.regex, expansion.fields))
    }

    #[test]
    fn every_pattern_is_an_expression() {
        for (name, _) in PATTERNS {
            let (regex, fields) = expand(&format!("^%{{{name}:whole}}$"), &[]).unwrap();
            Pattern::new(&regex, &fields).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }

    #[test]
    fn patterns_are_sorted_by_nothing_but_have_one_definition() {
        let mut names: Vec<_> = PATTERNS.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PATTERNS.len());
    }

    #[test]
    fn own_patterns_come_first_and_may_use_others() {
        let (regex, fields) = expand("%{WORD:a} %{AB:b:int}", &[("AB", "x%{WORD}"), ("WORD", "[a-z]")]).unwrap();
        assert_eq!(regex, "(?<_field_0>[a-z]) (?<_field_1>x(?:[a-z]))");
        assert_eq!(fields, ["a", "b"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!(expand("%{NUMBR:a}", &[]).unwrap_err(), "there is no pattern `NUMBR`; did you mean `NUMBER`?");
        assert!(expand("%{WORD:a", &[]).unwrap_err().contains("has no end"));
        let ring = [("A", "%{B}"), ("B", "%{A}")];
        assert_eq!(expand("%{A}", &ring).unwrap_err(), "the pattern `A` is a part of itself");
        let mut doubling: Vec<_> =
            (1..25).map(|n| (format!("P{n}"), format!("%{{P{}}}%{{P{}}}", n - 1, n - 1))).collect();
        doubling.push(("P0".to_owned(), "x".to_owned()));
        let doubling: Vec<_> = doubling.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert!(expand("%{P24}", &doubling).unwrap_err().contains("more than 262144 bytes"));
    }
}
