//! Values of environment variables and secrets that are in a flow: whatever is said shows `${NAME}` in their place.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use serde_json::Value as Json;

use super::value::{Value, ValueKind};

/// The variables whose values are not to be read anywhere.
///
/// A text is compared with a value letter by letter, behind all escapes and without quotes, white space and the difference
/// between large and small letters, so that it does not matter through how many hands a value has gone before it is in a message.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<Secret>);

/// The value of a variable, and its name. That of a secret in a file is `file:PATH`, of a credential `credential:NAME`, and of one in the
/// flow itself the setting's.
#[derive(Clone)]
struct Secret {
    name: String,
    value: Vec<char>,
    /// The stretches of the value by which it is found.
    pieces: HashSet<Box<[char]>>,
}

/// The fewest letters that are hidden wherever they are. Shorter values, such as `1` and `us`, are parts of too many words; they
/// are hidden where the text is said to be wrong that they are in.
pub const SHORTEST: usize = 4;

/// The fewest letters of a value that is hidden inside a word.
const INSIDE_WORDS: usize = 6;

/// So many letters in a row of a longer value are hidden where not all of it is said.
const PIECE: usize = 12;

/// The fewest letters of a part that is hidden where a text is wrong: the token of a query, for example.
const SHORTEST_PART: usize = 3;

/// How many quotes there may be in a value.
const MOST_QUOTES: usize = 16;

impl Secrets {
    /// The variables in the texts of a tree.
    pub(super) fn of(value: &Value) -> Self {
        let mut secrets = Self::default();
        secrets.add_all(value);
        secrets
    }

    fn add_all(&mut self, value: &Value) {
        match &value.kind {
            ValueKind::String(text) => text.variables().for_each(|(name, value)| self.add(name, &value)),
            ValueKind::Array(items) => items.iter().for_each(|item| self.add_all(item)),
            ValueKind::Table(entries) => entries.iter().for_each(|entry| self.add_all(&entry.value)),
            _ => {}
        }
    }

    /// Adds those of another flow.
    pub fn extend(&mut self, others: &Self) {
        for other in &others.0 {
            self.insert(other.clone());
        }
    }

    /// No variable.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds a variable.
    pub fn add(&mut self, name: &str, value: &str) {
        let value: Vec<char> = letters(value).into_iter().map(|letter| letter.letter).collect();
        if value.is_empty() {
            return;
        }
        let pieces = value.windows(value.len().min(PIECE)).map(Box::from).collect();
        self.insert(Secret { name: name.to_owned(), value, pieces });
    }

    fn insert(&mut self, secret: Secret) {
        if self.0.iter().any(|known| known.name == secret.name && known.value == secret.value) {
            return;
        }
        self.0.push(secret);
        // A value may be a part of another one.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.value.len()));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with names in place of values.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.hide_from(text, SHORTEST)
    }

    /// Hides the values in all texts of a JSON document, keys among them.
    pub fn hide_json(&self, json: Json) -> Json {
        match json {
            Json::String(text) => Json::String(self.hide(&text).into_owned()),
            Json::Array(items) => items.into_iter().map(|item| self.hide_json(item)).collect(),
            Json::Object(entries) => {
                let hidden = |(key, value): (String, Json)| (self.hide(&key).into_owned(), self.hide_json(value));
                entries.into_iter().map(hidden).collect()
            }
            other => other,
        }
    }

    /// What is said of a text that has the values in it: of these, what is said in quotes may be a part.
    pub fn hide_all(&self, text: &str) -> String {
        let text = self.hide_from(text, 1);
        let mut hidden = String::new();
        let mut rest = &*text;
        while let Some((before, quoted, after)) = self.next_quoted(rest) {
            hidden.push_str(before);
            hidden.push_str(&quoted);
            rest = after;
        }
        hidden + rest
    }

    /// The text before the next stretch in quotes that is a part of a value, with its quote; the name of that; and what comes
    /// behind.
    fn next_quoted<'a>(&self, text: &'a str) -> Option<(&'a str, String, &'a str)> {
        for (start, quote) in text.char_indices().filter(|(_, letter)| matches!(letter, '`' | '\'' | '"')) {
            let inside = &text[start + 1..];
            // A value may have quotes in it.
            let ends = inside.match_indices(quote).take(MOST_QUOTES).map(|(end, _)| end);
            let parts = ends.filter_map(|end| Some((end, self.with_part(&inside[..end])?)));
            if let Some((end, secret)) = parts.last() {
                return Some((&text[..=start], secret.shown(), &inside[end..]));
            }
        }
        None
    }

    /// The variable whose value has `text` in it.
    fn with_part(&self, text: &str) -> Option<&Secret> {
        let part: Vec<char> = letters(text).into_iter().map(|letter| letter.letter).collect();
        let has_it = |secret: &&Secret| {
            if part.len() < SHORTEST_PART {
                secret.value == part
            } else {
                secret.value.windows(part.len()).any(|stretch| stretch == part)
            }
        };
        self.0.iter().find(has_it)
    }

    fn hide_from<'a>(&self, text: &'a str, shortest: usize) -> Cow<'a, str> {
        let secrets = self.0.iter().filter(|secret| secret.value.len() >= shortest);
        let letters = letters(text);
        let plain: Vec<char> = letters.iter().map(|letter| letter.letter).collect();
        let mut hidden: Vec<Option<&Secret>> = vec![None; plain.len()];
        for secret in secrets {
            let length = secret.value.len().min(PIECE);
            for (start, piece) in plain.windows(length).enumerate() {
                let places = start..start + length;
                let stretch = letters[start].at.start..letters[places.end - 1].at.end;
                if secret.pieces.contains(piece) && (length >= INSIDE_WORDS || is_word(text, &stretch)) {
                    hidden[places].iter_mut().for_each(|place| _ = place.get_or_insert(secret));
                }
            }
        }
        if hidden.iter().all(Option::is_none) {
            return Cow::Borrowed(text);
        }
        let mut said = String::new();
        let mut said_to = 0;
        let mut last: Option<&Secret> = None;
        for (letter, secret) in letters.iter().zip(hidden) {
            let goes_on = matches!((last, secret), (Some(last), Some(secret)) if std::ptr::eq(last, secret));
            if let Some(secret) = secret {
                if !goes_on {
                    said.push_str(&text[said_to..letter.at.start]);
                    said.push_str(&secret.shown());
                }
                said_to = letter.at.end;
            }
            last = secret;
        }
        said.push_str(&text[said_to..]);
        Cow::Owned(said)
    }
}

impl Secret {
    fn shown(&self) -> String {
        format!("${{{}}}", self.name)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Whether no letter or digit comes right before or behind a stretch.
fn is_word(text: &str, stretch: &Range<usize>) -> bool {
    let before = text[..stretch.start].chars().next_back();
    let behind = text[stretch.end..].chars().next();
    !before.is_some_and(char::is_alphanumeric) && !behind.is_some_and(char::is_alphanumeric)
}

/// A letter of a text, by which it is compared.
struct Letter {
    letter: char,
    /// The bytes that stand for it.
    at: Range<usize>,
}

/// Stands for a variable that is shown by its name. No value of the environment has this letter.
const VARIABLE: char = '\0';

/// The letters of a text behind all escapes (`\n`, `\u{e9}`, `\\`, `%20`), small, without quotes and white space.
fn letters(text: &str) -> Vec<Letter> {
    let mut letters = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some((letter, length)) = next_letter(&text[at..]) {
        let small = letter.into_iter().flat_map(char::to_lowercase);
        let counts = |letter: &char| !letter.is_whitespace() && !matches!(letter, '\'' | '"' | '`' | '\\');
        letters.extend(small.filter(counts).map(|letter| Letter { letter, at: at..at + length }));
        at += length;
    }
    letters
}

/// The first letter of a text, if it counts, and how many bytes stand for it.
fn next_letter(text: &str) -> Option<(Option<char>, usize)> {
    let first = text.chars().next()?;
    let plain = (Some(first), first.len_utf8());
    let rest = &text[first.len_utf8()..];
    Some(match first {
        '$' => variable(rest).map_or(plain, |length| (Some(VARIABLE), 1 + length)),
        '%' => percent_encoded(text).map_or(plain, |(letter, length)| (Some(letter), length)),
        '\\' => escaped(rest),
        _ => plain,
    })
}

/// The letter of `%C3%A9`, and how many bytes stand for it.
fn percent_encoded(text: &str) -> Option<(char, usize)> {
    let byte = |place: usize| u8::from_str_radix(text.get(3 * place..)?.strip_prefix('%')?.get(..2)?, 16).ok();
    let bytes: Vec<u8> = (0..4).map_while(byte).collect();
    let letter = bytes.utf8_chunks().next()?.valid().chars().next()?;
    Some((letter, 3 * letter.len_utf8()))
}

/// What comes behind a backslash. A backslash alone counts as nothing, since there may be any number of them.
fn escaped(rest: &str) -> (Option<char>, usize) {
    let digits = |range: Range<usize>| code(rest.get(range.clone())).map(|letter| (Some(letter), 1 + range.end));
    let numbered = match rest.chars().next() {
        Some('n' | 'r' | 't' | '0') => Some((None, 2)),
        Some('x') => digits(1..3),
        Some('u') if rest[1..].starts_with('{') => rest.find('}').and_then(|end| {
            let (letter, length) = digits(2..end)?;
            Some((letter, length + 1))
        }),
        Some('u') => digits(1..5),
        Some('U') => digits(1..9),
        _ => None,
    };
    numbered.unwrap_or((None, 1))
}

/// The letter of a number in hexadecimal digits.
fn code(digits: Option<&str>) -> Option<char> {
    let digits = digits.filter(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()))?;
    char::from_u32(u32::from_str_radix(digits, 16).ok()?)
}

/// The length of `{NAME}` or `{NAME:default}` at the beginning of a text.
fn variable(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('{')?;
    let end = inside.find('}')?;
    let name = inside[..end].split(':').next().unwrap_or_default();
    (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some(end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(value: &str, text: &str) -> String {
        let mut secrets = Secrets::default();
        secrets.add("KEY", value);
        secrets.hide(text).into_owned()
    }

    #[test]
    fn a_value_is_hidden_however_it_is_written() {
        let value = "it's \"so\"\n\\secret é%";
        let json = Json::from(value).to_string();
        let twice = format!("{:?}", format!("{value:?}"));
        let sql = format!("'{}'", value.replace('\'', "''"));
        let ascii = value.escape_default().to_string();
        let url = "it's%20%22so%22%0A%5Csecret%20%C3%A9%25";
        for written in [value, &json, &twice, &sql, &ascii, url, &value.to_uppercase()] {
            let said = hidden(value, &format!("reading {written}: no such file"));
            assert!(said.contains("${KEY}") && said.starts_with("reading "), "{said}");
            assert!(!said.to_lowercase().contains("secret") && !said.contains("so"), "{written}: {said}");
        }
    }

    #[test]
    fn names_stand_for_values_and_nothing_else_changes() {
        for (value, text, expected) in [
            ("hunter2", "reading `/tmp/hunter2file`: gone", "reading `/tmp/${KEY}file`: gone"),
            ("prod", "the product of `prod`", "the product of `${KEY}`"),
            ("us", "us or `us`", "us or `us`"),
            ("1", "1 of 11", "1 of 11"),
            ("", "nothing", "nothing"),
            ("hunter2", "`${KEY}` and hunter2", "`${KEY}` and ${KEY}"),
            ("hunter2", "`${PASSWORD:hunter2}` has hunter", "`${PASSWORD:hunter2}` has hunter"),
            (
                "postgres://ada:pa55word@db.example.com/flights",
                "connecting to db.example.com/flights",
                "connecting to ${KEY}",
            ),
            ("postgres://ada:pa55word@db.example.com/flights", "no password for ada", "no password for ada"),
            ("first line of it\nsecond line of it", "`second line of it`", "`${KEY}`"),
            ("größer", "GRÖSSER or GRÖßER: ä", "GRÖSSER or ${KEY}: ä"),
        ] {
            assert_eq!(hidden(value, text), expected);
        }
    }

    #[test]
    fn the_longest_value_goes_first() {
        let mut secrets = Secrets::default();
        for (name, value) in [("HOST", "example"), ("URL", "http://example/a"), ("HOST", "example")] {
            secrets.add(name, value);
        }
        assert_eq!(secrets.hide("http://example/a of example"), "${URL} of ${HOST}");
        assert_eq!(format!("{secrets:?}"), "Secrets([${URL}, ${HOST}])");
    }

    #[test]
    fn where_a_text_is_wrong_any_part_of_its_values_is_hidden() {
        let mut secrets = Secrets::default();
        secrets.add("N", "1");
        secrets.add("KEY", "sk-live-ab12");
        for (text, expected) in [
            ("expected at most 10, not 1", "expected at most 10, not ${N}"),
            ("there is no column `sk`", "there is no column `sk`"),
            ("it's no column `live`; did you mean `alive`?", "it's no column `${KEY}`; did you mean `alive`?"),
            ("invalid type: string \"1\", expected u64", "invalid type: string \"${N}\", expected u64"),
        ] {
            assert_eq!(secrets.hide_all(text), expected);
        }
    }

    #[test]
    fn json_keeps_its_numbers() {
        let mut secrets = Secrets::default();
        secrets.add("PIN", "12345678");
        let json = serde_json::json!({ "rows": 12345678, "12345678": ["of 12345678", null, true] });
        let hidden = serde_json::json!({ "rows": 12345678, "${PIN}": ["of ${PIN}", null, true] });
        assert_eq!(secrets.hide_json(json), hidden);
    }
}
