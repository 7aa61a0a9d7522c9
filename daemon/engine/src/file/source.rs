//! The texts that values come from, and the line and column of a place in them.

use std::ops::Range;

use super::diagnostic::{Diagnostic, Place};

/// The flow file, then what comes to it (its file of connections, each `--set PATH=VALUE`), as if they were one long text: a span says
/// where a value is from.
#[derive(Debug)]
pub struct Source {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    /// How diagnostics name it.
    name: String,
    /// Whether people know lines of it.
    is_file: bool,
    text: String,
    /// Where its lines begin.
    lines: Vec<usize>,
    /// The offset of its first byte.
    start: usize,
}

impl Source {
    /// A file and its text.
    pub fn new(path: String, text: String) -> Self {
        Self { parts: vec![Part::new(path, true, text, 0)] }
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &str {
        &self.parts[0].name
    }

    /// Adds a `--set`; returns the offset of its first byte.
    pub fn add_set(&mut self, set: &str) -> usize {
        self.add(format!("--set {set}"), false, set.to_owned())
    }

    /// Adds a variable of the environment; returns the offset of the first byte of its value.
    pub fn add_variable(&mut self, name: &str, value: &str) -> usize {
        self.add(name.to_owned(), false, value.to_owned())
    }

    /// Adds a file beside the flow's; returns the offset of its first byte.
    pub fn add_file(&mut self, path: String, text: String) -> usize {
        self.add(path, true, text)
    }

    fn add(&mut self, name: String, is_file: bool, text: String) -> usize {
        // One byte stays free in between, so that what is wrong at the end of one is not taken for the next part.
        let start = self.parts.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.parts.push(Part::new(name, is_file, text, start));
        start
    }

    /// The text of a span.
    pub fn text(&self, span: &Range<usize>) -> &str {
        let part = self.part(span.start);
        part.text.get(span.start - part.start..span.end.saturating_sub(part.start)).unwrap_or_default()
    }

    /// Something wrong at a span, of which the first line is marked.
    pub fn diagnostic(&self, span: &Range<usize>, message: String, help: Option<String>) -> Diagnostic {
        let part = self.part(span.start);
        let within = span.start - part.start..span.end.saturating_sub(part.start);
        let place = part.is_file.then(|| part.place(&within));
        Diagnostic { path: part.name.clone(), place, message, help, follows: false }
    }

    /// Where a span is: `PATH:LINE`, or the name of what it is in if that has no lines.
    pub fn origin(&self, span: &Range<usize>) -> String {
        let Diagnostic { path, place, .. } = self.diagnostic(span, String::new(), None);
        place.map_or(path.clone(), |place| format!("{path}:{}", place.line))
    }

    fn part(&self, offset: usize) -> &Part {
        let after = self.parts.partition_point(|part| part.start <= offset);
        &self.parts[after.saturating_sub(1)]
    }
}

impl Part {
    fn new(name: String, is_file: bool, text: String, start: usize) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Self { name, is_file, text, lines, start }
    }

    /// The first line of a span.
    fn place(&self, span: &Range<usize>) -> Place {
        let start = self.text.floor_char_boundary(span.start);
        let line = self.lines.partition_point(|line_start| *line_start <= start);
        let line_start = self.lines[line - 1];
        let line_end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        let source_line = self.text[line_start..line_end].trim_end_matches('\r');
        let end = self.text.ceil_char_boundary(span.end).min(line_start + source_line.len());
        Place {
            line,
            column: self.text[line_start..start].chars().count() + 1,
            length: self.text.get(start..end).map_or(1, |marked| marked.chars().count().max(1)),
            source_line: source_line.to_owned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place_of(text: &str, span: Range<usize>) -> (usize, usize, usize, String) {
        let place = Part::new("f.toml".into(), true, text.into(), 0).place(&span);
        (place.line, place.column, place.length, place.source_line)
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        assert_eq!(place_of("a = 1\nä = 22\n", 11..13), (2, 5, 2, "ä = 22".to_owned()));
        assert_eq!(place_of("", 0..0), (1, 1, 1, String::new()));
        assert_eq!(place_of("a\r\nb\r\n", 1..5), (1, 2, 1, "a".to_owned()));
        assert_eq!(place_of("a = 1", 5..5), (1, 6, 1, "a = 1".to_owned()));
        assert_eq!(place_of("a", 90..95), (1, 2, 1, "a".to_owned()));
    }

    #[test]
    fn a_span_of_several_lines_marks_the_first() {
        assert_eq!(place_of("a = [\n1]", 4..8), (1, 5, 1, "a = [".to_owned()));
    }

    #[test]
    fn sets_come_behind_the_file() {
        let mut source = Source::new("f.toml".into(), "a = 1".into());
        let start = source.add_set("a=22");
        let second = source.add_set("b=3");
        assert_eq!(source.text(&(start + 2..start + 4)), "22");
        assert_eq!(source.diagnostic(&(second..second + 1), "no".into(), None).path, "--set b=3");
        assert!(source.diagnostic(&(5..5), "no".into(), None).place.is_some());
        let shared = source.add_file("c.toml".into(), "[connection.a]\nb = 1".into());
        let diagnostic = source.diagnostic(&(shared + 15..shared + 16), "no".into(), None);
        assert_eq!((diagnostic.path.as_str(), diagnostic.place.unwrap().line), ("c.toml", 2));
    }
}
