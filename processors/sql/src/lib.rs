//! The nodes that speak SQL: DataFusion plans a query once, and its expressions run over every batch.
//!
//! * [`Condition`]: a boolean expression over the rows of a schema.
//! * The input `generate` and the processors `sql`, `route`, `window`, `over` and `aggregate`, which [`register`] adds to the list of nodes.

mod accumulate;
mod aggregate;
mod changed;
mod choice;
mod condition;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod diagnose;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod duckdb;
mod expression;
mod functions;
mod generate;
mod halve;
mod hidden;
mod intervals;
mod json;
mod limits;
mod literals;
mod names;
mod origin;
mod outlook;
mod over;
mod parse;
mod plan;
mod portable;
mod predicate;
mod program;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod pruning;
mod random;
mod refuse;
mod rewrite;
mod rounding;
mod route;
mod sql;
mod text;
mod times;
mod unnamed;
mod unnest;
mod window;
mod words;

use millstream_core::{Language, NodeTypes};

pub use condition::Condition;

/// Adds the nodes of this crate, and the language of expressions.
pub fn register(registry: &mut NodeTypes) {
    registry.input::<generate::GenerateInput>();
    registry.processor::<sql::SqlSettings>().processor::<route::RouteSettings>().processor::<window::WindowSettings>();
    registry.processor::<over::OverSettings>().processor::<aggregate::AggregateSettings>();
    registry.expressions(Language { expression: expression::plan, condition: condition::plan });
}
