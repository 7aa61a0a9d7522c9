//! A flow file as a tree with its source: turns problems into diagnostics.

use std::sync::Arc;

use millstream_core::{Problem, Role, Step};

use super::connections::CONNECTION;
use super::diagnostic::Diagnostic;
use super::secrets::Secrets;
use super::source::Source;
use super::tests_table::TEST;
use super::value::{Located, Value, ValueKind};

/// The tree, the texts that its places are in, and the variables in them.
pub struct Document {
    pub source: Source,
    pub root: Value,
    pub secrets: Arc<Secrets>,
}

impl Document {
    /// A problem whose place begins at the root, at its line and column.
    pub fn diagnose(&self, mut problem: Problem) -> Diagnostic {
        problem.at = self.lender(&problem.at).unwrap_or(problem.at);
        let located = self.root.locate(&problem.at);
        let message = self.secrets_at(&located, &problem).hide_all(&problem.message);
        let message = self.secrets.hide(&format!("{}{message}", self.subject(&problem.at))).into_owned();
        problem.help = problem.help.map(|help| self.secrets.hide(&help).into_owned());
        if matches!(located, Located::Value(value) if std::ptr::eq(value, &self.root)) {
            let (path, Problem { help, follows, .. }) = (self.source.path().to_owned(), problem);
            return Diagnostic { path, place: None, message, help, follows };
        }
        let span = self.span_within(&located, &problem).unwrap_or_else(|| located.span());
        Diagnostic { follows: problem.follows, ..self.source.diagnostic(&span, message, problem.help) }
    }

    /// What may not be meant, on one line.
    pub fn note(&self, problem: Problem) -> String {
        let Diagnostic { message, help, .. } = self.diagnose(problem);
        help.map_or(message.clone(), |help| format!("{message}; {help}"))
    }

    /// Where a setting is said that a node has from its connection. None if it says it itself.
    fn lender(&self, at: &[Step]) -> Option<Vec<Step>> {
        let [Step::Key(role), Step::Key(name), Step::Key(key) | Step::Name(key), ..] = at else { return None };
        let node = self.root.get(role)?.get(name)?;
        let connection = node.get(CONNECTION)?.as_str()?;
        let lent = self.root.get(CONNECTION)?.get(connection)?.entry(key)?;
        let is_lent = node.entry(key)?.key_span == lent.key_span;
        is_lent.then(|| [CONNECTION.into(), connection.into()].into_iter().chain(at[2..].iter().cloned()).collect())
    }

    /// The bytes of the place inside a text.
    fn span_within(&self, located: &Located<'_>, problem: &Problem) -> Option<std::ops::Range<usize>> {
        let Located::Value(Value { span, kind: ValueKind::String(text) }) = located else { return None };
        let within = text.span_in_literal(problem.within?, self.source.text(span))?;
        Some(span.start + within.start..span.start + within.end)
    }

    /// The variables that what is wrong may have come from.
    fn secrets_at(&self, located: &Located<'_>, problem: &Problem) -> Secrets {
        match (located, problem.within) {
            (Located::Value(value), _) if std::ptr::eq(*value, &self.root) => Secrets::default(),
            (Located::Value(Value { kind: ValueKind::String(text), .. }), Some(place)) if !text.is_filled(place) => {
                Secrets::default()
            }
            (Located::Value(value), _) => Secrets::of(value),
            (Located::Key(_), _) => Secrets::default(),
        }
    }

    /// What the problem is about, as the beginning of its message.
    fn subject(&self, at: &[Step]) -> String {
        match at {
            [Step::Key(role), Step::Key(name), ..]
                if role == CONNECTION || Role::ALL.iter().any(|known| known.name() == role) =>
            {
                format!("{role} `{name}`: ")
            }
            [Step::Key(flow), ..] if flow == "flow" => "flow: ".to_owned(),
            [Step::Key(test), Step::Index(index), ..] if test == TEST => {
                let table = self.root.get(TEST).and_then(|tests| tests.items().get(*index));
                match table.and_then(|table| table.get("name")).and_then(Value::as_str) {
                    Some(name) => format!("test `{name}`: "),
                    None => format!("test {}: ", index + 1),
                }
            }
            _ => String::new(),
        }
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document").field("path", &self.source.path()).finish_non_exhaustive()
    }
}
