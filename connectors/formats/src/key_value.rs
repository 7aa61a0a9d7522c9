//! Messages that are pairs of keys and values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{Columns, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::TextEncoding;
use crate::columns::refuse_nested;
use crate::fields::{Field, FieldForm, FieldReader, FieldSettings, FindFields};
use crate::kind::{FormatKind, Settings, Side};
use crate::message_lines::{LineFormat, Lines, Messages};
use crate::messages::{MessageFormat, MessageReader};
use crate::read::Reading;

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "key_value",
    about: "Pairs of keys and values, such as `level=info took=5 text=\"it is done\"`.",
    endings: &[],
    example: r#"{ type = "key_value", delimiter = ";", assignment = ":" }"#,
    is_text: true,
    can_grow: false,
    read: Some(Side::of::<ReadKeyValueLines>()),
    read_messages: Some(Side::of::<ReadKeyValue>()),
    write_files: None,
    write_streams: None,
    write_messages: None,
};

/// A column is the value of the key of its name. Other keys are ignored, and so are words that are no pair; a text without any pair fails,
/// and so does one that has the key of a column twice. A value in `"` or `'` may have delimiters in it; a `\` takes the character behind it
/// as it is. Space around keys and values is no part of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct ReadKeyValue {
    /// The character between pairs, by default a space, which stands for any space.
    delimiter: char,
    /// The character between a key and its value, by default `=`.
    assignment: char,
    #[serde(flatten)]
    fields: FieldSettings,
}

impl Default for ReadKeyValue {
    fn default() -> Self {
        Self { delimiter: ' ', assignment: '=', fields: FieldSettings::default() }
    }
}

/// Each line is such a text; blank ones are skipped. It needs a `schema`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ReadKeyValueLines {
    #[serde(flatten)]
    pairs: ReadKeyValue,
    /// How letters are written as bytes. Files that are followed are in UTF-8.
    encoding: TextEncoding,
}

impl Settings for ReadKeyValue {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Messages(self.texts()?)))
    }
}

impl Settings for ReadKeyValueLines {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        Ok(Reading::Stream(Arc::new(Lines { format: Arc::new(self.pairs.texts()?), encoding: self.encoding })))
    }
}

impl ReadKeyValue {
    fn texts(self) -> Result<PairTexts, Problem> {
        let Self { delimiter, assignment, fields } = self;
        if let Some(quote) = [delimiter, assignment].into_iter().find(|c| matches!(c, '"' | '\'' | '\\')) {
            let key = if quote == delimiter { "delimiter" } else { "assignment" };
            return Err(Problem::new(format!("`{quote}` is a quote")).help("such as `;` or `:`").at([key]));
        }
        if delimiter == assignment {
            let message = format!("`{assignment}` can't stand between pairs and inside of them");
            return Err(Problem::new(message).help("such as `:`").at(["assignment"]));
        }
        Ok(PairTexts { delimiter, assignment, form: fields.form()? })
    }
}

/// Texts that are pairs.
#[derive(Debug)]
struct PairTexts {
    delimiter: char,
    assignment: char,
    form: FieldForm,
}

impl LineFormat for PairTexts {
    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        refuse_nested(&columns.schema(), "a text")
    }

    fn columns(&self) -> Option<Columns> {
        None
    }

    fn open(&self, columns: &Columns, batch_rows: usize) -> Box<dyn MessageReader> {
        let places = columns.0.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
        let pairs = Pairs { delimiter: self.delimiter, assignment: self.assignment, places };
        Box::new(FieldReader::new(columns, self.form.clone(), batch_rows, pairs))
    }
}

/// Finds the values of keys.
struct Pairs {
    delimiter: char,
    assignment: char,
    /// Which column a key is.
    places: BTreeMap<String, usize>,
}

impl Pairs {
    fn is_between(&self, character: char) -> bool {
        character == self.delimiter || (self.delimiter == ' ' && character.is_whitespace())
    }

    /// The value at the beginning of a text, and what is behind it.
    fn value<'m>(&self, text: &'m str) -> Result<(Cow<'m, str>, &'m str), &'static str> {
        let Some(quote) = text.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
            let (value, rest) = text.split_at(text.find(|c| self.is_between(c)).unwrap_or(text.len()));
            return Ok((Cow::Borrowed(value.trim()), rest));
        };
        let (value, rest) = quoted(&text[1..], quote).ok_or("no closing quote")?;
        let behind = rest.trim_start();
        if behind.is_empty() || rest.starts_with(|c| self.is_between(c)) || behind.starts_with(|c| self.is_between(c)) {
            Ok((value, rest))
        } else {
            Err("something behind its closing quote")
        }
    }
}

/// What stands before a closing quote, and what is behind that. None if it is not closed.
fn quoted(text: &str, quote: char) -> Option<(Cow<'_, str>, &str)> {
    let mut value = Cow::Borrowed("");
    let mut start = 0;
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        if character == quote {
            return Some((value + &text[start..place], &text[place + 1..]));
        }
        if character == '\\' {
            value += &text[start..place];
            start = characters.next()?.0;
        }
    }
    None
}

impl FindFields for Pairs {
    fn find<'m>(&mut self, message: &'m str, fields: &mut [Field<'m>]) -> Result<(), String> {
        let (mut rest, mut has_pair) = (message, false);
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == self.delimiter);
            let Some(end) = rest.find(|c| c == self.assignment || self.is_between(c)) else { break };
            let (key, behind) = rest.split_at(end);
            let Some(text) = behind.strip_prefix(self.assignment) else {
                rest = behind;
                continue;
            };
            let key = key.trim_end();
            let text = if self.delimiter == ' ' { text } else { text.trim_start() };
            let (value, behind) = self.value(text).map_err(|what| format!("the value of `{key}` has {what}"))?;
            (rest, has_pair) = (behind, true);
            if let Some(field) = self.places.get(key).and_then(|place| fields.get_mut(*place))
                && field.replace(value).is_some()
            {
                return Err(format!("the key `{key}` is there twice"));
            }
        }
        if has_pair { Ok(()) } else { Err(format!("the text has no pair such as `key{}value`", self.assignment)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(text: &str, delimiter: char, assignment: char) -> Result<Vec<Option<String>>, String> {
        let places = ["a", "b", "c"].iter().enumerate().map(|(place, key)| ((*key).to_owned(), place)).collect();
        let mut fields = vec![None; 3];
        Pairs { delimiter, assignment, places }.find(text, &mut fields)?;
        Ok(fields.into_iter().map(|field| field.map(Cow::into_owned)).collect())
    }

    #[track_caller]
    fn check(text: &str, delimiter: char, assignment: char, expected: [Option<&str>; 3]) {
        let found = find(text, delimiter, assignment).unwrap();
        assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn pairs_are_found_among_words() {
        check("started a=1 x=9 c=three ok", ' ', '=', [Some("1"), None, Some("three")]);
        check("b=\ta=x=y", ' ', '=', [Some("x=y"), Some(""), None]);
        check("a: 1 ; b : two words;c:", ';', ':', [Some("1"), Some("two words"), Some("")]);
    }

    #[test]
    fn values_in_quotes() {
        check(r#"a="x y" b='it'"#, ' ', '=', [Some("x y"), Some("it"), None]);
        check(r#"a="say \"ö\" \\" c=ü"#, ' ', '=', [Some(r#"say "ö" \"#), None, Some("ü")]);
        check(r#"a = "1;2" ; b=3"#, ';', '=', [Some("1;2"), Some("3"), None]);
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        assert_eq!(find("no pairs", ' ', '=').unwrap_err(), "the text has no pair such as `key=value`");
        assert_eq!(find("", ' ', '=').unwrap_err(), "the text has no pair such as `key=value`");
        assert_eq!(find(r#"a="x y"#, ' ', '=').unwrap_err(), "the value of `a` has no closing quote");
        assert_eq!(find(r#"a="x\"#, ' ', '=').unwrap_err(), "the value of `a` has no closing quote");
        assert_eq!(find(r#"a="x"y"#, ' ', '=').unwrap_err(), "the value of `a` has something behind its closing quote");
        assert_eq!(find("a=1 a=2", ' ', '=').unwrap_err(), "the key `a` is there twice");
        assert!(find("x=1 x=2", ' ', '=').is_ok());
    }
}
