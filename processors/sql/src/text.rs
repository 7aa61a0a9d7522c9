//! A text of SQL: its tokens, and where things stand in it.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Word};
use millstream_core::{Problem, TextPlace};

use crate::{functions, names};

/// Longer texts are refused, so that no text is nested deeply enough to exhaust the planner's stack.
const LONGEST: usize = 64 * 1024;

/// A text of SQL, cut into tokens.
#[derive(Debug)]
pub struct Text<'a> {
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
    /// The columns that it is about, as far as they are known.
    columns: BTreeSet<String>,
}

impl<'a> Text<'a> {
    /// Cuts a text into tokens.
    pub fn new(text: &'a str) -> Result<Self, Problem> {
        if text.len() > LONGEST {
            return Err(Problem::new(format!("SQL of {} bytes is too long; {LONGEST} are allowed", text.len())));
        }
        let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().map_err(|error| {
            Problem::new(error.message.to_lowercase()).within(point(error.location.line, error.location.column))
        })?;
        Ok(Self { text, tokens, columns: BTreeSet::new() })
    }

    /// The same text, in which bare words stand for the columns of `schema` wherever they can.
    pub fn over(text: &'a str, schema: &Schema) -> Result<Self, Problem> {
        let mut text = Self::new(text)?;
        names::name_columns(&mut text.tokens, schema);
        text.columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(text)
    }

    /// Whether a column is called like that.
    pub fn has_column(&self, name: &str) -> bool {
        self.columns.contains(name)
    }

    /// A problem with the advice to put a column in quotes, if a word of SQL stands at its place, or right before, that is a
    /// column as well.
    pub fn advising_quotes(&self, problem: Problem, schema: &Schema) -> Problem {
        let near = problem.within.map_or(&[] as &[_], |place| self.up_to(place));
        match names::doubtful(near, schema) {
            Some(word) if problem.help.is_none() => {
                let word = word.token.to_string();
                problem.help(format!("`{word}` is a word of SQL; the column is \"{word}\", in quotes"))
            }
            _ => problem,
        }
    }

    /// The last two tokens up to a place, that which stands there included, and what is between them.
    fn up_to(&self, place: TextPlace) -> &[TokenWithSpan] {
        let is_behind = |token: &&TokenWithSpan| {
            (token.span.start.line as usize, token.span.start.column as usize) > (place.line, place.column)
        };
        let before = self.tokens.iter().take_while(|token| !is_behind(token)).count();
        let is_word = |token: &TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
        let words = self.tokens[..before].iter().enumerate().filter(|(_, token)| is_word(token));
        let first = words.rev().nth(1).map_or(0, |(first, _)| first);
        &self.tokens[first..before]
    }

    /// The tokens, spaces and comments included.
    pub fn tokens(&self) -> Vec<TokenWithSpan> {
        self.tokens.clone()
    }

    /// The columns of `schema` that the text may look at: those whose names occur in it.
    pub fn mentions(&self, schema: &Schema) -> BTreeSet<String> {
        let words = self.words().map(|(word, _)| word.value.as_str());
        words.filter(|word| schema.field_with_name(word).is_ok()).map(str::to_owned).collect()
    }

    /// Where the parser or planner says that something stands.
    pub fn place(&self, span: Span) -> Option<TextPlace> {
        if span == Span::empty() || span.start.line == 0 {
            return None;
        }
        let end = if span.end.line == span.start.line { span.end.column } else { self.line_end(span.start.line) };
        let length = end.saturating_sub(span.start.column).max(1);
        Some(TextPlace { length: length as usize, ..point(span.start.line, span.start.column) })
    }

    /// The end of the text, where something is missing.
    pub fn end(&self) -> TextPlace {
        let line = self.text.lines().count().max(1) as u64;
        point(line, self.line_end(line))
    }

    /// A place that a message tells as "at Line: 2, Column: 5"; the token that begins there.
    pub fn told(&self, message: &str) -> Option<TextPlace> {
        let (_, place) = message.rsplit_once(" at Line: ")?;
        let (line, column) = place.split_once(", Column: ")?;
        let start = Location { line: line.parse().ok()?, column: column.trim().parse().ok()? };
        let token = self.tokens.iter().find(|token| token.span.start == start);
        token.map_or(Some(point(start.line, start.column)), |token| self.place(token.span))
    }

    /// The first place where these words follow each other, as in `["GROUP", "BY"]`.
    pub fn phrase(&self, phrase: &[&str]) -> Option<TextPlace> {
        self.phrase_behind(phrase, Location { line: 0, column: 0 })
    }

    /// The first place behind `start` where these words follow each other.
    pub fn phrase_behind(&self, phrase: &[&str], start: Location) -> Option<TextPlace> {
        let words: Vec<_> = self.words().filter(|(_, span)| span.start >= start).collect();
        let is_here =
            |window: &&[(&Word, Span)]| window.iter().zip(phrase).all(|((word, _), wanted)| is_keyword(word, wanted));
        let window = words.windows(phrase.len()).find(is_here)?;
        let (first, last) = (window.first()?, window.last()?);
        self.place(Span { start: first.1.start, end: last.1.end })
    }

    /// The last place where a name or function stands, in whatever case.
    pub fn name(&self, name: &str) -> Option<TextPlace> {
        let mut same = self.words().filter(|(word, _)| word.value.eq_ignore_ascii_case(name));
        same.next_back().and_then(|(_, span)| self.place(span))
    }

    /// Where a symbol such as `+` stands, if there is only one.
    pub fn only_symbol(&self, symbol: &str) -> Option<TextPlace> {
        let mut same = self.tokens.iter().filter(|token| token.token.to_string() == symbol);
        match (same.next(), same.next()) {
            (Some(only), None) => self.place(only.span),
            _ => None,
        }
    }

    /// The first name or text in quotes that a message mentions.
    pub fn mentioned_in(&self, message: &str) -> Option<TextPlace> {
        let is_mentioned = |token: &&TokenWithSpan| match &token.token {
            Token::Word(word) if is_plain(word) => contains_word(message, &word.value),
            Token::SingleQuotedString(text) => message.contains(&format!("'{text}'")),
            _ => false,
        };
        self.tokens.iter().find(is_mentioned).and_then(|token| self.place(token.span))
    }

    fn words(&self) -> impl DoubleEndedIterator<Item = (&Word, Span)> {
        self.tokens.iter().filter_map(|token| match &token.token {
            Token::Word(word) => Some((word, token.span)),
            _ => None,
        })
    }

    fn line_end(&self, line: u64) -> u64 {
        let text = self.text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default();
        text.chars().count() as u64 + 1
    }
}

/// Puts a problem at its place, where that is known.
pub fn within(problem: Problem, place: Option<TextPlace>) -> Problem {
    Problem { within: place.or(problem.within), ..problem }
}

/// Not a keyword, unless that is also a function.
fn is_plain(word: &Word) -> bool {
    word.keyword == Keyword::NoKeyword || functions::lookup(&word.value) != functions::Function::Unknown
}

fn contains_word(message: &str, wanted: &str) -> bool {
    message.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == wanted)
}

fn is_keyword(word: &Word, wanted: &str) -> bool {
    word.keyword != Keyword::NoKeyword && word.value.eq_ignore_ascii_case(wanted)
}

fn point(line: u64, column: u64) -> TextPlace {
    TextPlace { line: line as usize, column: column as usize, length: 1 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize, length: usize) -> Option<TextPlace> {
        Some(TextPlace { line, column, length })
    }

    #[test]
    fn places_count_characters() {
        let text = Text::new("SELECT 'é🙂', amount\nFROM input GROUP\n BY amount").unwrap();
        assert_eq!(text.name("AMOUNT"), at(3, 5, 6));
        assert_eq!(text.phrase(&["from"]), at(2, 1, 4));
        assert_eq!(text.phrase(&["GROUP", "BY"]), at(2, 12, 5));
        assert_eq!(text.told("expected x at Line: 1, Column: 14"), at(1, 14, 6));
        assert_eq!(Some(text.end()), at(3, 11, 1));
    }

    #[test]
    fn a_quoted_name_is_no_keyword() {
        let text = Text::new("SELECT \"limit\" FROM input").unwrap();
        assert_eq!(text.phrase(&["LIMIT"]), None);
        assert_eq!(text.name("limit"), at(1, 8, 7));
    }

    #[test]
    fn an_open_quote_has_a_place() {
        let problem = Text::new("SELECT 'abc").unwrap_err();
        assert_eq!(problem.within, at(1, 8, 1));
        assert_eq!(problem.message, "unterminated string literal");
    }
}
