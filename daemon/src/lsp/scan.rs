//! A flow file while it is being written: what is where, as far as that can be seen in a text that need not be TOML yet.

use std::ops::Range;

use millstream_core::Role;
use toml_parser::Source;
use toml_parser::lexer::{Token, TokenKind};

/// The tables at the top of a flow file. A header with one of these names begins a table, whatever is unfinished before it.
const TABLES: [&str; 7] = ["flow", "checkpoint", "connection", "input", "processor", "output", "test"];

/// What is in a text.
#[derive(Debug, Default)]
pub struct Scan {
    /// The headers of tables, such as `[processor.clean]`, in their order.
    pub headers: Vec<Header>,
    /// The settings, in their order.
    pub entries: Vec<Entry>,
}

/// The header of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// Its keys.
    pub path: Vec<String>,
    /// Where it begins.
    pub start: usize,
}

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The keys that lead to it from the top. Lists are passed over.
    pub path: Vec<String>,
    /// Where the last of its keys is.
    pub key: Range<usize>,
    /// Its value, if that is a text; without quotes, as it is written.
    pub texts: Vec<String>,
}

/// Where a cursor is.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// In the header of a table, behind these keys, in the key `typed`.
    Header {
        /// The keys before.
        path: Vec<String>,
        /// The key, which may be empty.
        typed: Range<usize>,
    },
    /// In a key of the table that these keys lead to.
    Key {
        /// The keys that lead to the table.
        table: Vec<String>,
        /// The key, which may be empty.
        typed: Range<usize>,
    },
    /// In a value of the setting that these keys lead to.
    Value {
        /// The keys that lead to the setting.
        path: Vec<String>,
        /// The value, without quotes.
        typed: Range<usize>,
        /// Whether there are quotes around it.
        quoted: bool,
    },
}

impl Scan {
    /// Looks through a text.
    pub fn new(text: &str) -> Self {
        let mut scanner = Scanner::new(text);
        Source::new(text).lex().for_each(|token| scanner.take(token));
        scanner.scan
    }

    /// The nodes, in the order in which they are written: their roles and names.
    pub fn nodes(&self) -> Vec<(Role, &str)> {
        let mut nodes = Vec::new();
        let paths = self.headers.iter().map(|header| (header.start, &header.path));
        let mut paths: Vec<_> = paths.chain(self.entries.iter().map(|entry| (entry.key.start, &entry.path))).collect();
        paths.sort();
        for (_, path) in paths {
            let (Some(role), Some(name)) = (path.first().and_then(|table| role(table)), path.get(1)) else { continue };
            if !nodes.contains(&(role, name.as_str())) {
                nodes.push((role, name.as_str()));
            }
        }
        nodes
    }

    /// The texts that a setting has: one, or those of a list.
    pub fn texts(&self, path: &[&str]) -> &[String] {
        let found = self.entries.iter().find(|entry| entry.path == path);
        found.map_or(&[], |entry| &entry.texts)
    }

    /// The text that a setting is.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        self.texts(path).first().map(String::as_str)
    }

    /// What the table of those keys has already.
    pub fn keys(&self, table: &[String]) -> Vec<&str> {
        let entries = self.entries.iter().map(|entry| &entry.path);
        let paths = entries.chain(self.headers.iter().map(|header| &header.path));
        paths.filter_map(|path| path.strip_prefix(table)?.first()).map(String::as_str).collect()
    }

    /// Whether it looks like a flow at all.
    pub fn is_flow(&self) -> bool {
        let is_of_flow =
            |path: &Vec<String>| path.first().is_some_and(|table| table == "flow" || role(table).is_some());
        let mut entries = self.entries.iter().map(|entry| &entry.path).filter(|path| path.len() > 1);
        self.headers.iter().map(|header| &header.path).any(is_of_flow) || entries.any(is_of_flow)
    }
}

/// The role of the nodes in a table at the top.
pub fn role(table: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.name() == table)
}

/// Where a cursor is that stands before byte `offset`. None in comments, and where nothing can be said.
pub fn place(text: &str, offset: usize) -> Option<Place> {
    let mut scanner = Scanner::new(text);
    let mut touched = offset..offset;
    let mut quotes = None;
    for token in Source::new(text).lex() {
        let span = token.span().start()..token.span().end();
        if span.start >= offset {
            break;
        }
        if offset <= span.end {
            match token.kind() {
                TokenKind::Comment => return None,
                kind if kind.encoding().is_some() => {
                    let inside = inside_quotes(text, &span);
                    if (inside.start..=inside.end).contains(&offset) {
                        (touched, quotes) = (inside, Some(span));
                        break;
                    }
                }
                TokenKind::Atom => {
                    touched = span;
                    break;
                }
                _ => {}
            }
        }
        scanner.take(token);
    }
    scanner.place(touched, quotes.is_some())
}

/// A string without its quotes, the last of which may not be there yet.
fn inside_quotes(text: &str, span: &Range<usize>) -> Range<usize> {
    let written = &text[span.clone()];
    let quotes =
        ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| written.starts_with(quotes)).unwrap_or_default();
    let start = span.start + quotes.len();
    let is_closed = written.len() >= 2 * quotes.len() && written.ends_with(quotes);
    start..if is_closed { span.end - quotes.len() } else { span.end }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The keys of a header.
    Header,
    /// A key.
    Key,
    /// A value.
    Value,
    /// A comma, a closing bracket or another line.
    Nothing,
}

/// A list or table in brackets that is not closed yet, and the keys that lead to it.
#[derive(Debug)]
enum Open {
    List(Vec<String>),
    Table(Vec<String>),
}

/// Goes through a text, token by token.
struct Scanner<'t> {
    text: &'t str,
    scan: Scan,
    /// The keys of the last header.
    header: Vec<String>,
    open: Vec<Open>,
    /// The keys that have been read, up to `=` or `]`.
    keys: Vec<(String, Range<usize>)>,
    /// Whether the last of them has a dot behind it.
    is_dotted: bool,
    next: Next,
    /// Where the line begins, as long as nothing is on it.
    line: Option<usize>,
    /// Where the header begins that is being read.
    begun: usize,
    /// The setting whose value is being read.
    entry: Option<usize>,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            scan: Scan::default(),
            header: Vec::new(),
            open: Vec::new(),
            keys: Vec::new(),
            is_dotted: false,
            next: Next::Key,
            line: Some(0),
            begun: 0,
            entry: None,
        }
    }

    fn take(&mut self, token: Token) {
        let span = token.span().start()..token.span().end();
        let first = self.line.take();
        match token.kind() {
            TokenKind::Whitespace => self.line = first,
            TokenKind::Comment | TokenKind::Eof => {}
            TokenKind::Newline => self.end_line(span.end),
            TokenKind::LeftSquareBracket => self.open_bracket(&span, first.is_some()),
            TokenKind::LeftCurlyBracket => {
                let path = self.path_of_value();
                self.open.push(Open::Table(path));
                self.expect(Next::Key);
            }
            TokenKind::RightSquareBracket if self.next == Next::Header => self.end_header(),
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                self.open.pop();
                self.expect(Next::Nothing);
            }
            TokenKind::Comma => match self.open.last() {
                Some(Open::List(_)) => self.expect(Next::Value),
                _ => self.expect(Next::Key),
            },
            TokenKind::Dot => self.is_dotted = true,
            TokenKind::Equals if self.next == Next::Key => self.end_key(),
            TokenKind::Equals => {}
            TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString => {
                let inside = inside_quotes(self.text, &span);
                self.word(inside);
            }
            TokenKind::Atom => self.word(span),
        }
    }

    /// A part of a key, or a value.
    fn word(&mut self, span: Range<usize>) {
        let word = self.text[span.clone()].to_owned();
        match self.next {
            Next::Header | Next::Key => {
                if !self.is_dotted {
                    self.keys.clear();
                }
                self.is_dotted = false;
                self.keys.push((word, span));
            }
            Next::Value => {
                if let Some(entry) = self.entry.and_then(|entry| self.scan.entries.get_mut(entry)) {
                    entry.texts.push(word);
                }
                self.next = Next::Nothing;
            }
            Next::Nothing => {}
        }
    }

    fn open_bracket(&mut self, span: &Range<usize>, is_first: bool) {
        let is_header =
            is_first && (self.open.is_empty() && self.next != Next::Value || self.is_known_header(span.start));
        if is_header {
            self.open.clear();
            self.begun = span.start;
            self.expect(Next::Header);
        } else if self.next == Next::Value {
            let path = self.path_of_value();
            self.open.push(Open::List(path));
        }
    }

    /// Whether a line can be nothing but a header, also where a bracket is open before it.
    fn is_known_header(&self, start: usize) -> bool {
        let is_at_margin = start == 0 || self.text[..start].ends_with('\n');
        let name = self.text[start..].trim_start_matches('[');
        let end = name.find(|letter: char| !letter.is_ascii_lowercase()).unwrap_or(name.len());
        is_at_margin && TABLES.contains(&&name[..end]) && name[end..].starts_with(['.', ']'])
    }

    fn end_header(&mut self) {
        // The second bracket of `]]`.
        if self.keys.is_empty() {
            return;
        }
        self.header = self.take_keys();
        self.scan.headers.push(Header { path: self.header.clone(), start: self.begun });
        self.next = Next::Nothing;
    }

    fn end_key(&mut self) {
        let key = self.keys.last().map(|(_, span)| span.clone());
        let path = [self.table(), self.take_keys()].concat();
        self.entry = key.map(|key| {
            self.scan.entries.push(Entry { path, key, texts: Vec::new() });
            self.scan.entries.len() - 1
        });
        self.next = Next::Value;
    }

    fn end_line(&mut self, end: usize) {
        self.line = Some(end);
        if self.next == Next::Header {
            // It is not closed, and is one nevertheless.
            self.end_header();
        }
        if self.open.is_empty() {
            self.expect(Next::Key);
        }
    }

    fn expect(&mut self, next: Next) {
        self.next = next;
        self.keys.clear();
        self.is_dotted = false;
    }

    fn take_keys(&mut self) -> Vec<String> {
        self.is_dotted = false;
        self.keys.drain(..).map(|(key, _)| key).collect()
    }

    /// The keys that lead to the table in which a key would be.
    fn table(&self) -> Vec<String> {
        match self.open.last() {
            Some(Open::Table(path) | Open::List(path)) => path.clone(),
            None => self.header.clone(),
        }
    }

    /// The keys that lead to what a value would be of.
    fn path_of_value(&self) -> Vec<String> {
        match self.open.last() {
            Some(Open::List(path)) => path.clone(),
            _ => self.entry.map_or_else(Vec::new, |entry| self.scan.entries[entry].path.clone()),
        }
    }

    /// What a cursor at a word, or where one would be, is in.
    fn place(self, typed: Range<usize>, quoted: bool) -> Option<Place> {
        // A word that has not come yet is another key only behind a dot.
        let is_new = self.keys.is_empty() || self.is_dotted;
        let before: Vec<String> = self.keys.iter().map(|(key, _)| key.clone()).collect();
        match self.next {
            Next::Header if is_new => Some(Place::Header { path: before, typed }),
            Next::Key if is_new => Some(Place::Key { table: [self.table(), before].concat(), typed }),
            Next::Value => Some(Place::Value { path: self.path_of_value(), typed, quoted }),
            Next::Header | Next::Key | Next::Nothing => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FLOW: &str = "flow.name = 'a'\n\n[input.rows]\ntype = \"file\"\npath = 'x' # here\n\n[processor.clean]\ntype = \
        \"sql\"\nfrom = [\"rows\", 'ro']\nquery = \"\"\"\nSELECT id\n\"\"\"\n\n[[test]]\nexpect.clean = [{ id = 1 }]\n";

    /// Where the cursor is before `|`.
    fn at(text: &str) -> Option<Place> {
        place(&text.replacen('|', "", 1), text.find('|').unwrap())
    }

    fn value(path: &[&str], typed: Range<usize>, quoted: bool) -> Option<Place> {
        Some(Place::Value { path: path.iter().map(|key| (*key).to_owned()).collect(), typed, quoted })
    }

    fn key(table: &[&str], typed: Range<usize>) -> Option<Place> {
        Some(Place::Key { table: table.iter().map(|key| (*key).to_owned()).collect(), typed })
    }

    #[test]
    fn settings_and_nodes_are_found() {
        let scan = Scan::new(FLOW);
        assert_eq!(scan.nodes(), [(Role::Input, "rows"), (Role::Processor, "clean")]);
        assert_eq!(scan.text(&["processor", "clean", "type"]), Some("sql"));
        assert_eq!(scan.texts(&["processor", "clean", "from"]), ["rows", "ro"]);
        assert_eq!(scan.keys(&["input".to_owned(), "rows".to_owned()]), ["type", "path"]);
        assert_eq!(scan.entries.last().unwrap().path, ["test", "expect", "clean", "id"]);
        assert_eq!(
            Scan::new("[input.rows\ntype = 'file'").text(&["input", "rows", "type"]),
            Some("file"),
            "not closed"
        );
        assert!(scan.is_flow() && !Scan::new("[package]\nname = 'x'").is_flow() && !Scan::new("input = 3").is_flow());
    }

    #[test]
    fn a_cursor_is_in_a_header_a_key_or_a_value() {
        assert_eq!(at("[|"), Some(Place::Header { path: vec![], typed: 1..1 }));
        assert_eq!(at("[input.ro|ws]"), Some(Place::Header { path: vec!["input".to_owned()], typed: 7..11 }));
        assert_eq!(at("[a]\nqu|"), key(&["a"], 4..6));
        assert_eq!(at("[a]\nqu |"), None);
        assert_eq!(at("[a]\n  |"), key(&["a"], 6..6));
        assert_eq!(at("[a]\nb.|"), key(&["a", "b"], 6..6));
        assert_eq!(at("[a]\nb = |"), value(&["a", "b"], 8..8, false));
        assert_eq!(at("[a]\nb = tr|ue"), value(&["a", "b"], 8..12, false));
        assert_eq!(at("[a]\nb = 'x|y'\n"), value(&["a", "b"], 9..11, true));
        assert_eq!(at("[a]\nb = '|"), value(&["a", "b"], 9..9, true));
        assert_eq!(at("[a]\nb = 'x'|\n"), None);
        assert_eq!(at("[a]\nb = 1 # x|"), None);
        assert_eq!(at("[a]\nb = { c = 1, |"), key(&["a", "b"], 17..17));
        assert_eq!(at("[a]\nb = [{ c = '|"), value(&["a", "b", "c"], 16..16, true));
        assert_eq!(at("[a]\nb = ['x', '|"), value(&["a", "b"], 15..15, true));
    }

    #[test]
    fn what_is_unfinished_ends_where_the_next_table_begins() {
        let scan = Scan::new("[input.a]\ncolumns = [\n  { b = \n[processor.c]\ntype = 'sql'\n");
        assert_eq!(scan.text(&["processor", "c", "type"]), Some("sql"));
        assert_eq!(at("[a]\nb = [1,\n[output.x]\nty|"), key(&["output", "x"], 23..25));
    }

    #[test]
    fn any_text_can_be_looked_through() {
        for end in (0..=FLOW.len()).filter(|end| FLOW.is_char_boundary(*end)) {
            Scan::new(&FLOW[..end]);
            place(FLOW, end);
        }
        for text in
            ["]]]]", "}}{{==..,,", "= = =", "\"\"\"", "'", "[[[[", "ä = '€\u{1F600}", "a.=.b", "\u{feff}[input.a]"]
        {
            Scan::new(text);
            for offset in (0..=text.len()).filter(|offset| text.is_char_boundary(*offset)) {
                place(text, offset);
            }
        }
    }
}
