//! From text to syntax: one query, or one condition.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArguments, Ident, ObjectNamePart, Select, SelectItem, Statement, Subscript,
    Value, VisitMut, VisitorMut,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Token;
use millstream_core::{Problem, nearest};

use crate::functions;
use crate::text::{Text, within};
use crate::words::sentence;

/// How deeply brackets and queries may stand in each other.
const DEEPEST: usize = 50;

/// Reads one query. Expressions without a name get their own text as one.
pub fn query(text: &Text) -> Result<Statement, Problem> {
    let statements = parser(text).parse_statements().map_err(|error| problem(error, text))?;
    let mut statements = statements.into_iter();
    let mut first = statements.next().ok_or_else(|| Problem::new("the query is empty"))?;
    if statements.next().is_some() {
        let problem = Problem::new("there is more than one statement").help("write one query");
        return Err(within(problem, text.only_symbol(";")));
    }
    if !matches!(first, Statement::Query(_)) {
        let word = first.to_string().split_whitespace().next().unwrap_or_default().to_uppercase();
        let problem = Problem::new(format!("`{word}` is no query")).help("a query starts with SELECT or WITH");
        return Err(within(problem, text.phrase(&[&word])));
    }
    let _ = first.visit(&mut NameColumns { text });
    let _ = first.visit(&mut NameExpressions);
    Ok(first)
}

/// Reads one expression, such as `amount > 10`. `what` says what it is, for people: "a condition".
pub fn expression(text: &Text, what: &str) -> Result<Expr, Problem> {
    let mut parser = parser(text);
    let mut expression = parser.parse_expr().map_err(|error| problem(error, text))?;
    let _ = expression.visit(&mut NameColumns { text });
    let next = parser.next_token();
    match next.token {
        Token::EOF => Ok(expression),
        other => {
            let problem = Problem::new(format!("`{other}` can't follow {what}"));
            Err(within(problem, text.place(next.span)))
        }
    }
}

fn parser<'a>(text: &Text) -> Parser<'a> {
    Parser::new(&GenericDialect {}).with_recursion_limit(DEEPEST).with_tokens_with_locations(text.tokens())
}

fn problem(error: ParserError, text: &Text) -> Problem {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => return Problem::new("brackets stand too deeply in each other"),
    };
    let place = text.told(&message).or_else(|| message.contains("EOF").then(|| text.end()));
    let message = message.split(" at Line: ").next().unwrap_or_default();
    if let Some(found) = message.strip_prefix("Expected: an SQL statement, found: ") {
        return within(no_query(found), place);
    }
    let message = match message.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: ")) {
        Some((expected, "EOF")) => format!("expected {expected} at the end"),
        Some((expected, found)) => format!("expected {expected} instead of `{found}`"),
        None => sentence(message),
    };
    within(Problem::new(message), place)
}

/// A text that does not begin as a query does.
fn no_query(found: &str) -> Problem {
    let help = match nearest(found, ["SELECT", "WITH"]) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "a query starts with SELECT or WITH".to_owned(),
    };
    Problem::new(format!("expected an SQL statement instead of `{found}`")).help(help)
}

/// Lets the words that the parser takes for calls without brackets, such as `user` and `current_date`, be columns: if there is a
/// column of that name, or no such function.
struct NameColumns<'a> {
    text: &'a Text<'a>,
}

impl VisitorMut for NameColumns<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(Function { name, args: FunctionArguments::None, .. }) = expr
            && let [ObjectNamePart::Identifier(word)] = name.0.as_slice()
            && (self.text.has_column(&word.value) || functions::lookup(&word.value) == functions::Function::Unknown)
        {
            *expr = Expr::Identifier(word.clone());
        }
        ControlFlow::Continue(())
    }
}

/// Gives every selected expression a name that people expect: `s.a` and `s['a']` are called `a`, and what is computed
/// is called by its text, where DataFusion would say `input.amount + Int64(1)`.
struct NameExpressions;

impl VisitorMut for NameExpressions {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Some(name) = name(expr)
            {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::new(name) };
            }
        }
        ControlFlow::Continue(())
    }
}

fn name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(_) => None,
        Expr::CompoundIdentifier(path) => path.last().map(|last| last.value.clone()),
        Expr::CompoundFieldAccess { access_chain, .. } => {
            access_chain.last().and_then(field_name).or_else(|| Some(expr.to_string()))
        }
        Expr::Nested(inner) => name(inner),
        _ => Some(expr.to_string()),
    }
}

fn field_name(access: &AccessExpr) -> Option<String> {
    match access {
        AccessExpr::Dot(Expr::Identifier(field)) => Some(field.value.clone()),
        AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) }) => match &value.value {
            Value::SingleQuotedString(field) => Some(field.clone()),
            _ => None,
        },
        _ => None,
    }
}
