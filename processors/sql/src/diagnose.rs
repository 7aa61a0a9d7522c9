//! What DataFusion found wrong with a text, as problems with a place and a help.

use datafusion_common::{Column, DataFusionError, SchemaError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span};
use millstream_core::{Problem, Problems, TextPlace, known_names};

use crate::functions;
use crate::text::{Text, within};
use crate::words::{flow_types, root, sentence};

/// Everything that DataFusion found wrong with a text.
pub fn problems(error: &DataFusionError, text: &Text) -> Problems {
    error.iter().map(|error| within(problem(error, text), place(error, text))).collect()
}

/// Two columns of one name.
pub fn duplicate(name: &str, text: &Text) -> Problem {
    let problem = Problem::new(format!("two columns are called `{name}`"));
    within(problem.help("give one of them another name by AS"), text.name(name))
}

/// A condition that is none.
pub fn not_boolean(data_type: &str) -> Problem {
    Problem::new(format!("a condition must be boolean, and this is {}", flow_types(data_type)))
        .help("compare it with something, such as `amount > 0`")
}

/// The place that DataFusion knows.
fn place(error: &DataFusionError, text: &Text) -> Option<TextPlace> {
    let span = error.diagnostic()?.span?;
    let location = |place: datafusion_common::Location| Location { line: place.line, column: place.column };
    text.place(Span { start: location(span.start), end: location(span.end) })
}

/// The problem, at the best place that its message tells.
fn problem(error: &DataFusionError, text: &Text) -> Problem {
    if let DataFusionError::SchemaError(error, _) = error.find_root() {
        return schema_problem(error, text);
    }
    let message = root(error);
    known_problem(&message, text)
        .unwrap_or_else(|| within(Problem::new(sentence(&message)), text.mentioned_in(&message)))
}

fn schema_problem(error: &SchemaError, text: &Text) -> Problem {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let name = match &field.relation {
                Some(relation) => format!("{}.{}", relation.table(), field.name),
                None => field.name.clone(),
            };
            let help = known_names(&field.name, valid_fields.iter().map(Column::name));
            within(Problem::no_column(&name).help(help), text.name(&field.name))
        }
        SchemaError::AmbiguousReference { field } => duplicate(&field.name, text),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            duplicate(name, text)
        }
    }
}

/// The messages that are frequent, and hard to understand as they are.
fn known_problem(message: &str, text: &Text) -> Option<Problem> {
    if let Some((_, call)) = message.split_once("argument types '") {
        return Some(wrong_arguments(call.split('\'').next()?, text));
    }
    if let Some(rest) = message.strip_prefix("Projections require unique expression names but the expression \"") {
        let first = rest.split("\" at position").next()?;
        let name = first.rsplit(" AS ").next()?.rsplit('.').next()?;
        return Some(duplicate(name, text));
    }
    if let Some((_, rest)) = message.split_once("non-boolean predicate") {
        let (_, data_type) = rest.split_once(" returning ")?;
        return Some(within(not_boolean(data_type), text.phrase(&["WHERE"])));
    }
    if let Some(rest) = message.strip_prefix("Cannot coerce arithmetic expression ") {
        let operation = flow_types(rest.strip_suffix(" to valid types").unwrap_or(rest));
        let place = operation.split(' ').nth(1).and_then(|operator| text.only_symbol(operator));
        let problem =
            Problem::new(format!("{operation} can't be computed")).help("bring one of them to another type by CAST");
        return Some(within(problem, place));
    }
    if message.starts_with("Unnest should be rewritten") {
        let problem = Problem::new("unnest can only stand behind SELECT").help("filter in a query around it");
        return Some(within(problem, text.name("unnest")));
    }
    None
}

/// How a function of JSON is mostly written.
fn json_operator(function: &str) -> Option<&'static str> {
    match function {
        "json_get" => Some("->"),
        "json_get_text" => Some("->>"),
        _ => None,
    }
}

/// A call, such as `ln(Utf8)`, of a function that does not take such arguments.
fn wrong_arguments(call: &str, text: &Text) -> Problem {
    let (name, types) = call.split_once('(').unwrap_or((call, ")"));
    if let Some(operator) = json_operator(name).filter(|_| types.starts_with("Struct(") || types.starts_with("List(")) {
        let what = if types.starts_with("List(") { "list" } else { "struct" };
        let problem = Problem::new(format!("`{operator}` and `{name}` take a text that is JSON, and this is a {what}"));
        let problem = problem.help("a field of a struct is `column.field`, and the first item of a list `column[1]`");
        return within(problem, text.name(name).or_else(|| text.only_symbol(operator)));
    }
    let problem = match types {
        ")" => Problem::new(format!("`{name}` needs arguments")),
        types => Problem::new(format!("`{name}` does not take ({}", flow_types(types))),
    };
    let usage = functions::usage(name).map(|usage| format!("it is called as `{usage}`"));
    within(Problem { help: usage, ..problem }, text.name(name))
}
