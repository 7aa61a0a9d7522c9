//! What is wrong with a flow file, as people read it.

use std::fmt;

use unicode_width::UnicodeWidthChar;

/// One thing that is wrong, and where. Displayed as lines of text without a line break at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as it was named, or `--set PATH=VALUE` where the wrong value came from the command line.
    pub path: String,
    /// The place in the file; `None` for a file as a whole and for the command line.
    pub place: Option<Place>,
    /// What is wrong, with the node that it is about.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// Whether it only follows from another one.
    pub follows: bool,
}

/// A stretch of one line of a flow file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters are marked. None where the line is not shown, since it may hold a secret.
    pub length: usize,
    /// The line itself, without its line break.
    pub source_line: String,
}

/// All that is wrong with a flow, file by file in their order, then of the command line, then what only follows from it.
/// Displayed one below the other, without a line break at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many things are wrong.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    /// Adds others at their places in the order; what is there already is not said twice.
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, others: T) {
        self.0.extend(others);
        self.0.sort_by(|one, other| one.order().cmp(&other.order()));
        // Those that are the same stand at one place.
        let mut first = 0;
        for one in std::mem::take(&mut self.0) {
            if self.0.last().is_some_and(|last| last.order() != one.order()) {
                first = self.0.len();
            }
            if !self.0[first..].contains(&one) {
                self.0.push(one);
            }
        }
    }
}

impl Diagnostic {
    /// Where it stands among others.
    fn order(&self) -> impl Ord {
        let place = self.place.as_ref().map(|place| (self.path.as_str(), place.line, place.column));
        (self.follows, place.is_none(), place)
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<T: IntoIterator<Item = Diagnostic>>(others: T) -> Self {
        let mut diagnostics = Self::default();
        diagnostics.extend(others);
        diagnostics
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let line_break = if index > 0 { "\n" } else { "" };
            write!(f, "{line_break}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic {
    /// The same without the text of its line, which may hold a secret.
    pub fn without_line(mut self) -> Self {
        if let Some(place) = &mut self.place {
            (place.length, place.source_line) = (0, String::new());
        }
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, place, message, help, .. } = self;
        match place {
            Some(Place { line, column, .. }) => write!(f, "{path}:{line}:{column}: {message}")?,
            None => write!(f, "{path}: {message}")?,
        }
        match (place, help) {
            (Some(place), _) if place.length > 0 => {
                writeln!(f)?;
                place.show(f, help.as_deref())
            }
            (_, Some(help)) => write!(f, "; {help}"),
            (_, None) => Ok(()),
        }
    }
}

impl Place {
    /// The line with the place marked, and the help behind the mark.
    fn show(&self, f: &mut fmt::Formatter<'_>, help: Option<&str>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let mut characters = self.source_line.chars().map(shown);
        let indent: usize = characters.by_ref().take(self.column - 1).map(|(_, width)| width).sum();
        let marked: usize = characters.take(self.length).map(|(_, width)| width).sum();
        let line: String = self.source_line.chars().map(|character| shown(character).0).collect();
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", line.trim_end())?;
        write!(f, "{margin} | {}{}", " ".repeat(indent), "^".repeat(marked.max(1)))?;
        match help {
            Some(help) => write!(f, " {help}"),
            None => Ok(()),
        }
    }
}

/// How a character is shown, and the columns that it takes on a terminal. Control characters would do mischief there.
fn shown(character: char) -> (String, usize) {
    match (character, character.width()) {
        ('\t', _) => ("    ".to_owned(), 4),
        (_, Some(width)) => (character.to_string(), width),
        (_, None) => (char::REPLACEMENT_CHARACTER.to_string(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic(source_line: &str, line: usize, column: usize, length: usize) -> Diagnostic {
        let place = Place { line, column, length, source_line: source_line.to_owned() };
        Diagnostic {
            path: "flows/fraud.toml".to_owned(),
            place: Some(place),
            message: "processor `score`: there is no column `amuont`".to_owned(),
            help: Some("did you mean `amount`?".to_owned()),
            follows: false,
        }
    }

    #[test]
    fn a_diagnostic_shows_its_place() {
        let expected = "\
flows/fraud.toml:14:13: processor `score`: there is no column `amuont`
   |
14 | features = [\"amuont\"]
   |             ^^^^^^^^ did you mean `amount`?";
        assert_eq!(diagnostic("features = [\"amuont\"]", 14, 13, 8).to_string(), expected);
    }

    #[test]
    fn marks_stand_below_wide_characters_and_tabs() {
        let text = diagnostic("\tkey = \"列名\"\u{1b}", 5, 9, 4).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2], "5 |     key = \"列名\"\u{fffd}");
        assert_eq!(lines[3], "  |            ^^^^^^ did you mean `amount`?");
    }

    #[test]
    fn a_place_behind_the_end_is_marked_once() {
        assert!(diagnostic("a", 1, 2, 9).to_string().ends_with("\n  |  ^ did you mean `amount`?"));
        assert!(diagnostic("", 1, 1, 1).to_string().ends_with("\n1 | \n  | ^ did you mean `amount`?"));
    }

    #[test]
    fn diagnostics_are_in_the_order_of_the_file_and_said_once() {
        let nowhere = Diagnostic { place: None, help: None, ..diagnostic("", 1, 1, 1) };
        let follows = Diagnostic { follows: true, ..diagnostic("c", 1, 1, 1) };
        let two = || diagnostic("a", 2, 1, 1);
        let all: Diagnostics = [nowhere, follows, diagnostic("b", 10, 1, 1), two(), two()].into_iter().collect();
        let lines: Vec<_> = all.iter().map(|one| one.place.as_ref().map(|place| place.line)).collect();
        assert_eq!(lines, [Some(2), Some(10), None, Some(1)]);
    }
}
