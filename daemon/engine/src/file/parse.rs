//! TOML text to the tree of values.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::text::Text;
use super::value::{Entry, Value, ValueKind};

/// Something that is no TOML, and where.
#[derive(Debug)]
pub struct SyntaxError {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right, if that is known.
    pub help: Option<String>,
}

/// Reads a whole file. All syntax errors come at once, one for a line, since one mistake often leads to others.
pub fn parse(text: &str) -> Result<Value, Vec<SyntaxError>> {
    parse_at(text, 0)
}

/// Reads a whole file that begins at byte `offset` of the source. Places of errors are those in the text.
pub fn parse_at(text: &str, offset: usize) -> Result<Value, Vec<SyntaxError>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { offset, errors: errors.into_iter().map(SyntaxError::from).collect() };
    let root = Value { span: 0..0, kind: ValueKind::Table(reader.table(document.into_inner())) };
    reader.finish(root, text)
}

/// Reads one value that begins at byte `offset` of the source.
pub fn parse_value(text: &str, offset: usize) -> Result<Value, Vec<SyntaxError>> {
    let (value, errors) = DeValue::parse_recoverable(text);
    let mut reader = Reader { offset, errors: errors.into_iter().map(SyntaxError::from).collect() };
    let value = reader.value(value);
    reader.finish(value, text)
}

impl From<toml::de::Error> for SyntaxError {
    fn from(error: toml::de::Error) -> Self {
        let (message, help) = match error.message().split_once(", expected ") {
            Some((message, expected)) => (message, Some(format!("expected {expected}"))),
            None => (error.message(), None),
        };
        Self { span: error.span().unwrap_or(0..0), message: message.to_owned(), help }
    }
}

/// In a test, rows that are expected of a node stand in the way of those that are expected of its ports.
fn advise_main_port(error: &mut SyntaxError, text: &str) {
    let line = text.get(..error.span.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
    let written = text.get(error.span.clone()).unwrap_or_default();
    let is_expected = line.trim_start().starts_with("expect.") || written.starts_with("expect.");
    let has_ports = error.message == "duplicate key" && text.contains(&format!("expect.{written}."));
    if is_expected && (has_ports || error.message.contains("dotted key")) {
        error.help = Some("the main port has a name, too: `expect.NODE.main`, beside `expect.NODE.PORT`".to_owned());
    }
}

struct Reader {
    /// Where the text begins in the source.
    offset: usize,
    errors: Vec<SyntaxError>,
}

impl Reader {
    fn finish(mut self, value: Value, text: &str) -> Result<Value, Vec<SyntaxError>> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        self.errors.iter_mut().for_each(|error| advise_main_port(error, text));
        let line = |error: &SyntaxError| text.bytes().take(error.span.start).filter(|byte| *byte == b'\n').count();
        self.errors.sort_by_key(|error| error.span.start);
        self.errors.dedup_by_key(|error| line(error));
        Err(self.errors)
    }

    fn value(&mut self, value: Spanned<DeValue<'_>>) -> Value {
        let span = value.span();
        let kind = match value.into_inner() {
            DeValue::String(text) => ValueKind::String(Text::from(text.as_ref())),
            DeValue::Integer(integer) => self.integer(&integer, &span),
            DeValue::Float(float) => self.float(float.as_str(), &span),
            DeValue::Boolean(boolean) => ValueKind::Boolean(boolean),
            DeValue::Datetime(datetime) => ValueKind::Datetime(datetime.to_string()),
            DeValue::Array(items) => ValueKind::Array(items.into_iter().map(|item| self.value(item)).collect()),
            DeValue::Table(table) => ValueKind::Table(self.table(table)),
        };
        Value { span: self.shifted(span), kind }
    }

    fn table(&mut self, table: DeTable<'_>) -> Vec<Entry> {
        let entries = table.into_iter().map(|(key, value)| Entry {
            key_span: self.shifted(key.span()),
            key: key.into_inner().into_owned(),
            value: self.value(value),
        });
        let mut entries: Vec<_> = entries.collect();
        // A table whose header comes after those of its children is put in anew, at the end.
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }

    fn integer(&mut self, integer: &DeInteger<'_>, span: &Range<usize>) -> ValueKind {
        let number = i64::from_str_radix(integer.as_str(), integer.radix());
        self.number(number.map(ValueKind::Integer).ok(), span)
    }

    fn float(&mut self, text: &str, span: &Range<usize>) -> ValueKind {
        let finite_as_written = |number: &f64| number.is_finite() || text.contains(['n', 'i']);
        let number = text.parse().ok().filter(finite_as_written);
        self.number(number.map(ValueKind::Float), span)
    }

    fn number(&mut self, number: Option<ValueKind>, span: &Range<usize>) -> ValueKind {
        number.unwrap_or_else(|| {
            let message = "the number is too large".to_owned();
            self.errors.push(SyntaxError { span: span.clone(), message, help: None });
            ValueKind::Unknown
        })
    }

    fn shifted(&self, span: Range<usize>) -> Range<usize> {
        span.start + self.offset..span.end + self.offset
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_main_port_is_advised_where_another_is_expected() {
        for text in ["expect.a = []\nexpect.a.failed = []\n", "expect.a.failed = []\nexpect.a = []\n"] {
            let errors = parse(&format!("[[test]]\nname = 'x'\n{text}")).unwrap_err();
            assert!(errors[0].help.as_ref().is_some_and(|help| help.contains("`expect.NODE.main`")), "{errors:?}");
        }
    }

    #[test]
    fn values_keep_their_order_and_places() {
        let text = "b = 0x10\na = [1.5, true]\n[t]\nd = 2026-01-02\n[t.sub]\ns = \"x\"\n";
        let root = parse(text).unwrap();
        let keys: Vec<_> = root.entries().iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "t"]);
        assert_eq!(root.get("b").unwrap().kind, ValueKind::Integer(16));
        assert_eq!(&text[root.get("a").unwrap().items()[1].span.clone()], "true");
        assert_eq!(&text[root.get("t").unwrap().span.clone()], "[t]");
        let sub = root.get("t").unwrap().entry("sub").unwrap();
        assert_eq!((&text[sub.key_span.clone()], &text[sub.value.span.clone()]), ("sub", "[t.sub]"));
    }

    #[test]
    fn a_table_behind_its_children_keeps_all() {
        let root = parse("[a.b]\nx = 1\n[c]\n[a]\ny = 2\n").unwrap();
        assert_eq!(root.get("a").unwrap().entries().len(), 2);
    }

    #[test]
    fn several_syntax_errors_come_at_once() {
        let errors = parse("a = \nb = 1\nc = [1,\n[d]\ne = \"x\n").unwrap_err();
        assert!(errors.len() >= 2, "{errors:?}");
        let errors = parse("a = 1\na = 2\nb = 99999999999999999999\nc = 1e999\n").unwrap_err();
        let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(messages, ["duplicate key", "the number is too large", "the number is too large"]);
    }

    #[test]
    fn infinite_numbers_may_be_written() {
        assert_eq!(parse_value("-inf", 0).unwrap().kind, ValueKind::Float(f64::NEG_INFINITY));
        assert!(
            matches!(parse_value("nan", 7).unwrap(), Value { span, kind: ValueKind::Float(x) } if x.is_nan() && span == (7..10))
        );
    }
}
