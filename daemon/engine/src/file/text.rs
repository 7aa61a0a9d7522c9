//! Texts, and where each of their characters is written: behind quotes, escapes and `${NAME}`.

use std::ops::Range;

use millstream_core::TextPlace;

/// A text as the flow uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    value: String,
    /// The parts that came from the environment, from left to right.
    filled: Vec<Filled>,
}

/// A part of a text that was filled in, in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filled {
    /// `${NAME}` in the text as it was written.
    written: Range<usize>,
    /// What came for it, in the text as it is used.
    used: Range<usize>,
    /// The variable whose value that is.
    variable: Option<String>,
}

impl From<&str> for Text {
    fn from(value: &str) -> Self {
        Self { value: value.to_owned(), filled: Vec::new() }
    }
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// Adds characters that stand in the file as they are.
    pub fn push_written(&mut self, written: &str) {
        self.value.push_str(written);
    }

    /// Adds characters that stand for `written`, a stretch of the text in the file.
    pub fn push_filled(&mut self, written: Range<usize>, used: &str) {
        self.push(written, used, None);
    }

    /// Adds the value of a variable, which stands for `written`.
    pub fn push_variable(&mut self, written: Range<usize>, name: &str, value: &str) {
        self.push(written, value, Some(name.to_owned()));
    }

    fn push(&mut self, written: Range<usize>, used: &str, variable: Option<String>) {
        let start = self.value.chars().count();
        self.value.push_str(used);
        self.filled.push(Filled { written, used: start..start + used.chars().count(), variable });
    }

    /// The variables that were filled in, and their values.
    pub fn variables(&self) -> impl Iterator<Item = (&str, String)> {
        self.filled.iter().filter_map(|Filled { used, variable, .. }| {
            Some((variable.as_deref()?, self.value.chars().skip(used.start).take(used.len()).collect()))
        })
    }

    /// Whether a place has anything of a variable in it.
    pub fn is_filled(&self, place: TextPlace) -> bool {
        let Some(start) = self.index_of(place) else { return true };
        let place = start..start.saturating_add(place.length.max(1));
        let meets = |used: &Range<usize>| used.start < place.end && place.start < used.end;
        self.filled.iter().any(|filled| filled.variable.is_some() && meets(&filled.used))
    }

    /// Which bytes of `literal`, the text in the file with its quotes, a place within the text is. `None` if there is
    /// no such place.
    pub fn span_in_literal(&self, place: TextPlace, literal: &str) -> Option<Range<usize>> {
        let start = self.index_of(place)?;
        let last = start.saturating_add(place.length.saturating_sub(1));
        let written = self.written(start).start..self.written(last).end;
        span_in_literal(literal, written)
    }

    /// The number of the character at which a place begins.
    fn index_of(&self, place: TextPlace) -> Option<usize> {
        let lines = self.value.split('\n').map(|line| line.chars().count());
        let before: usize = lines.clone().take(place.line.checked_sub(1)?).map(|characters| characters + 1).sum();
        let characters = lines.into_iter().nth(place.line - 1)?;
        let column = place.column.checked_sub(1)?;
        (column <= characters).then_some(before + column)
    }

    /// The characters in the file that stand for character number `index`.
    fn written(&self, index: usize) -> Range<usize> {
        let mut shifted = index;
        for Filled { written, used, .. } in self.filled.iter().rev() {
            if used.contains(&index) {
                return written.clone();
            }
            if used.end <= index {
                shifted = written.end + (index - used.end);
                break;
            }
        }
        shifted..shifted.saturating_add(1)
    }
}

/// Which bytes of a text with its quotes the characters `range` of the text are. Behind the last one is the quote.
pub fn span_in_literal(literal: &str, range: Range<usize>) -> Option<Range<usize>> {
    let spans = character_spans(literal)?;
    let behind = spans.last().map_or_else(|| opening(literal), |last| last.end);
    let start = spans.get(range.start).map_or(behind, |span| span.start);
    let end = spans.get(range.end.checked_sub(1)?).map_or(behind, |span| span.end);
    Some(start..end.max(start))
}

/// The quotes that a TOML string begins and ends with.
fn quotes(literal: &str) -> Option<&'static str> {
    ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quotes| literal.len() >= 2 * quotes.len() && literal.starts_with(quotes) && literal.ends_with(quotes))
}

/// How many bytes come before the first character: the quotes, and a line break right behind three of them.
fn opening(literal: &str) -> usize {
    let quotes = quotes(literal).map_or(0, str::len);
    let rest = &literal[quotes..];
    let newline = if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    quotes + if quotes == 3 { newline } else { 0 }
}

/// For each character of a TOML string, the bytes of its literal that stand for it. `None` if it is no TOML string.
fn character_spans(literal: &str) -> Option<Vec<Range<usize>>> {
    let quotes = quotes(literal)?;
    let body = opening(literal).min(literal.len() - quotes.len())..literal.len() - quotes.len();
    let mut spans = Vec::new();
    let mut at = body.start;
    while at < body.end {
        let rest = &literal[at..body.end];
        let (length, characters) = if quotes.starts_with('"') {
            escaped_length(rest)
        } else {
            (rest.chars().next().map_or(1, char::len_utf8), 1)
        };
        spans.extend(std::iter::repeat_n(at..at + length, characters));
        at += length;
    }
    Some(spans)
}

/// How many bytes the first character of a basic string takes, and how many characters (0 or 1) they stand for.
fn escaped_length(rest: &str) -> (usize, usize) {
    let mut characters = rest.chars();
    match (characters.next(), characters.next()) {
        (Some('\\'), Some('x')) => (4.min(rest.len()), 1),
        (Some('\\'), Some('u')) => (6.min(rest.len()), 1),
        (Some('\\'), Some('U')) => (10.min(rest.len()), 1),
        (Some('\\'), Some(space)) if space.is_whitespace() => {
            // A backslash at the end of a line swallows all white space up to the next character.
            let swallowed = rest[1..].len() - rest[1..].trim_start_matches([' ', '\t', '\r', '\n']).len();
            (1 + swallowed, 0)
        }
        (Some('\\'), Some(escaped)) => (1 + escaped.len_utf8(), 1),
        (first, _) => (first.map_or(1, char::len_utf8), 1),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is marked in the literal for a place in the text that it stands for.
    fn marked(literal: &str, line: usize, column: usize, length: usize) -> String {
        let table: toml::Table = toml::from_str(&format!("a = {literal}")).unwrap();
        let text = Text::from(table["a"].as_str().unwrap());
        let span = text.span_in_literal(TextPlace { line, column, length }, literal).unwrap();
        literal[span].to_owned()
    }

    #[test]
    fn places_are_found_in_every_kind_of_string() {
        assert_eq!(marked(r#""SELECT amuont""#, 1, 8, 6), "amuont");
        assert_eq!(marked("'SELECT \\amuont'", 1, 9, 6), "amuont");
        assert_eq!(marked("\"\"\"\nSELECT\n  amuont\"\"\"", 2, 3, 6), "amuont");
        assert_eq!(marked("'''\r\nSELECT\r\n  amuont'''", 2, 3, 6), "amuont");
        assert_eq!(marked("\"\"\"SELECT amuont\"\"\"", 1, 8, 6), "amuont");
    }

    #[test]
    fn escapes_count_as_one_character() {
        assert_eq!(marked(r#""\"\u00e9\x41\U0001F600\t' amuont""#, 1, 8, 6), "amuont");
        assert_eq!(marked(r#""a\nb amuont""#, 2, 3, 6), "amuont");
        assert_eq!(marked("\"\"\"a \\\n   b amuont\"\"\"", 1, 5, 6), "amuont");
        assert_eq!(marked("\"größe amuont\"", 1, 7, 6), "amuont");
    }

    #[test]
    fn behind_the_last_character_is_the_quote() {
        let text = Text::from("ab");
        let behind = TextPlace { line: 1, column: 3, length: 1 };
        assert_eq!(text.span_in_literal(behind, "\"ab\""), Some(3..3));
        assert_eq!(Text::from("").span_in_literal(TextPlace { line: 1, column: 1, length: 1 }, "''"), Some(1..1));
    }

    #[test]
    fn places_that_do_not_exist_are_refused() {
        let text = Text::from("ab\nc");
        for (line, column) in [(0, 1), (1, 0), (1, 4), (3, 1), (usize::MAX, 1)] {
            assert_eq!(text.span_in_literal(TextPlace { line, column, length: 1 }, "\"ab\\nc\""), None);
        }
    }

    #[test]
    fn what_was_filled_in_marks_the_variable() {
        let literal = "\"a ${LONG} b ${X} amuont\"";
        let mut text = Text::default();
        text.push_written("a ");
        text.push_filled(2..9, "long value");
        text.push_written(" b ");
        text.push_filled(12..16, "");
        text.push_written(" amuont");
        let marked =
            |column, length| &literal[text.span_in_literal(TextPlace { line: 1, column, length }, literal).unwrap()];
        assert_eq!(text.as_str(), "a long value b  amuont");
        assert_eq!(marked(17, 6), "amuont");
        assert_eq!(marked(8, 5), "${LONG}");
        assert_eq!(marked(14, 1), "b");
    }

    /// Pieces of the bodies of strings: characters, escapes, line breaks that are swallowed.
    fn body() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\\n"),
            Just("\\u00e9"),
            Just("\\U0001F600"),
            Just("\\x41"),
            Just("\\\\"),
            Just("\\\""),
            Just("\\t"),
            Just("a"),
            Just("é"),
            Just("😀"),
            Just(" "),
            Just("'"),
            Just("\n"),
            Just("\r\n"),
            Just("\\\n  "),
            Just("\\ \r\n"),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn every_character_has_its_bytes(body in body()) {
            for quotes in ["\"", "'", "\"\"\"", "'''"] {
                let literal = format!("{quotes}{body}{quotes}");
                let Ok(table) = toml::from_str::<toml::Table>(&format!("a = {literal}")) else { continue };
                let decoded = table["a"].as_str().unwrap();
                let spans = character_spans(&literal).unwrap();
                prop_assert_eq!(spans.len(), decoded.chars().count(), "{}", literal);
                for (span, character) in spans.into_iter().zip(decoded.chars()) {
                    let written = &literal[span];
                    prop_assert!(written.starts_with('\\') || written == character.to_string(), "{}", literal);
                }
            }
        }
    }
}
