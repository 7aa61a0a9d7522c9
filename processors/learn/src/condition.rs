//! The condition of `learn_when`: a boolean column, its opposite, or a column that equals a value.
//!
//! Nothing more, so that this crate needs no SQL: a longer condition is a boolean column that an `sql` node computes.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{CastOptions, cast_with_options, not};
use arrow::datatypes::{DataType, Schema};
use millstream_core::{Error, Problem, Result, require_column, type_name};
use millstream_models::encode;

/// A condition on rows.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    column: String,
    predicate: Predicate,
}

#[derive(Clone, Debug)]
enum Predicate {
    True,
    False,
    /// The value, as an array of length 1 of the column's type.
    Equals(ArrayRef),
}

impl Condition {
    /// Reads a condition on rows of these columns.
    pub fn plan(text: &str, schema: &Schema) -> Result<Self, Problem> {
        let (column, parsed) = parse(text).ok_or_else(|| too_long(text))?;
        let data_type = require_column(&column, schema)?.data_type();
        let predicate = match parsed {
            Parsed::Equals(literal) => Predicate::Equals(literal.of_type(data_type, &column)?),
            Parsed::True | Parsed::False if *data_type != DataType::Boolean => {
                let problem = format!("column `{column}` is {}, and should be boolean", type_name(data_type));
                return Err(Problem::new(problem).help(format!("compare it: `{column} = 'text'` or `{column} = 1`")));
            }
            Parsed::True => Predicate::True,
            Parsed::False => Predicate::False,
        };
        Ok(Self { column, predicate })
    }

    /// The column that the condition looks at.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// For which rows it holds. Null where the column is null.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let column = encode::column(rows, &self.column)?;
        let boolean = || column.as_boolean_opt().ok_or_else(|| Error::new(format!("`{}` isn't boolean", self.column)));
        match &self.predicate {
            Predicate::True => Ok(boolean()?.clone()),
            Predicate::False => Ok(not(boolean()?)?),
            Predicate::Equals(value) => Ok(eq(column, &Scalar::new(value.clone()))?),
        }
    }
}

fn too_long(text: &str) -> Problem {
    Problem::new(format!("`{text}` is no condition that this node knows")).help(
        "it may be `column`, `NOT column`, `column = 'text'` or `column = 1`; for anything else compute a boolean \
         column in an `sql` node and name it here",
    )
}

enum Parsed {
    True,
    False,
    Equals(Literal),
}

enum Literal {
    Text(String),
    Number(String),
}

impl Literal {
    fn of_type(&self, data_type: &DataType, column: &str) -> Result<ArrayRef, Problem> {
        let (text, fits) = match self {
            Self::Text(text) => (text, *data_type == DataType::Utf8),
            Self::Number(text) => (text, data_type.is_numeric()),
        };
        let texts = StringArray::from(vec![text.as_str()]);
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let value = fits.then(|| cast_with_options(&(Arc::new(texts) as ArrayRef), data_type, &strict).ok()).flatten();
        value.ok_or_else(|| {
            let literal = if matches!(self, Self::Text(_)) { format!("'{text}'") } else { text.clone() };
            Problem::new(format!("column `{column}` is {}, and can't equal {literal}", type_name(data_type)))
        })
    }
}

fn parse(text: &str) -> Option<(String, Parsed)> {
    let (first, rest) = name(text.trim())?;
    if first.eq_ignore_ascii_case("not") && !rest.is_empty() && !rest.starts_with('=') {
        let (column, rest) = name(rest)?;
        return rest.is_empty().then_some((column, Parsed::False));
    }
    if rest.is_empty() {
        return Some((first, Parsed::True));
    }
    let literal = literal(rest.strip_prefix('=')?.trim_start())?;
    Some((first, Parsed::Equals(literal)))
}

/// The name of a column at the start of a text, and what follows it. A name in double quotes may be anything.
fn name(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (name, rest) = quoted.split_once('"')?;
        return Some((name.to_owned(), rest.trim_start()));
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let begins = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    begins.then(|| (name.to_owned(), rest.trim_start()))
}

fn literal(text: &str) -> Option<Literal> {
    if let Some(quoted) = text.strip_prefix('\'') {
        let inner = quoted.strip_suffix('\'')?;
        let text = inner.replace("''", "\u{0}");
        return (!text.contains('\'')).then(|| Literal::Text(text.replace('\u{0}', "'")));
    }
    text.parse::<f64>().ok().map(|_| Literal::Number(text.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::table;

    use super::*;

    fn rows() -> RecordBatch {
        table(
            "part n:int64? ok:boolean? x:float64\n train 1 true 0.5\n it's 2 false 1\n null null null 2\n test 3 true 1",
        )
    }

    fn holds(condition: &str) -> Vec<Option<bool>> {
        let rows = rows();
        Condition::plan(condition, &rows.schema()).unwrap().evaluate(&rows).unwrap().iter().collect()
    }

    #[test]
    fn the_forms_that_there_are() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(holds("part = 'train'"), [yes, no, None, no]);
        assert_eq!(holds("\"part\"='it''s'"), [no, yes, None, no]);
        assert_eq!(holds("n = 3"), [no, no, None, yes]);
        assert_eq!(holds("x = 1"), [no, yes, no, yes]);
        assert_eq!(holds(" ok "), [yes, no, None, yes]);
        assert_eq!(holds("not ok"), [no, yes, None, no]);
    }

    #[test]
    fn everything_else_is_explained() {
        let problem = |condition: &str| Condition::plan(condition, &rows().schema()).unwrap_err();
        for long in ["n > 3", "ok AND ok", "part = 'a' OR ok", "", "3 = n", "part = 'a", "NOT", "a = 'x'y'"] {
            let problem = problem(long);
            let expected = problem.message.contains("no condition") || problem.message.contains("no column `NOT`");
            assert!(expected, "{long}: {}", problem.message);
        }
        assert_eq!(problem("prat = 'a'").help.unwrap(), "did you mean `part`?");
        assert_eq!(problem("n = 'a'").message, "column `n` is int64, and can't equal 'a'");
        assert_eq!(problem("n = 1.5").message, "column `n` is int64, and can't equal 1.5");
        assert_eq!(problem("part = 1").message, "column `part` is utf8, and can't equal 1");
        assert_eq!(problem("part").message, "column `part` is utf8, and should be boolean");
    }
}
