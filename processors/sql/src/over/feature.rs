//! What is added to a row: an aggregate of the rows that count, or something of the row before.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion_sql::sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments};
use millstream_core::{Problem, Problems};

use crate::accumulate::aggregate::{Aggregate, Arguments, column};
use crate::plan::{INPUT, Planner};
use crate::program::Program;
use crate::text::{Text, within};
use crate::{diagnose, parse, refuse};

/// One column that is added.
pub enum Feature {
    /// An aggregate, as in a window.
    Aggregate(Aggregate),
    /// A value of the row before.
    Lag(Before, Program),
    /// The seconds since the row before.
    TimeSince(Before),
}

/// A feature of the row before.
pub struct Before {
    field: Field,
    columns: BTreeSet<String>,
}

impl Feature {
    /// Plans a feature of rows of `schema`. Problems have their place within the text.
    pub fn new(name: &str, text: &str, schema: &SchemaRef) -> Result<Self, Problems> {
        let parsed = Text::over(text, schema)?;
        let Expr::Function(call) = parse::expression(&parsed, "an aggregate")? else {
            return Aggregate::new(name, text, schema).map(Self::Aggregate);
        };
        let columns = parsed.mentions(schema);
        match (call.name.to_string().to_lowercase().as_str(), arguments(&call.args).as_deref()) {
            ("time_since", Some([])) => {
                Ok(Self::TimeSince(Before { field: Field::new(name, DataType::Float64, true), columns }))
            }
            ("lag", Some([argument])) => {
                let program = plan(argument, schema, &parsed)?;
                let field = Field::new(name, program.schema().field(0).data_type().clone(), true);
                Ok(Self::Lag(Before { field, columns }, program))
            }
            (called @ ("time_since" | "lag"), _) => {
                let problem = Problem::new(format!("`{called}` is not called like that"));
                Err(within(problem.help("write `lag(amount)`, `time_since()`"), parsed.name(called)).into())
            }
            _ => Aggregate::new(name, text, schema).map(Self::Aggregate),
        }
    }

    /// The column.
    pub fn field(&self) -> &Field {
        match self {
            Self::Aggregate(aggregate) => &aggregate.field,
            Self::Lag(before, _) | Self::TimeSince(before) => &before.field,
        }
    }

    /// The columns that it may look at.
    pub fn columns(&self) -> &BTreeSet<String> {
        match self {
            Self::Aggregate(aggregate) => &aggregate.columns,
            Self::Lag(before, _) | Self::TimeSince(before) => &before.columns,
        }
    }

    /// Whether it looks at the event time.
    pub fn needs_time(&self) -> bool {
        matches!(self, Self::TimeSince(_))
    }

    /// What is remembered of a row.
    pub fn remembered(&self) -> DataType {
        match self {
            Self::Aggregate(aggregate) => aggregate.argument_type(),
            Self::Lag(before, _) => before.field.data_type().clone(),
            Self::TimeSince(_) => DataType::Boolean,
        }
    }

    /// Computes what is remembered of rows. The error is why at least one of them failed.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<Arguments, String> {
        match self {
            Self::Aggregate(aggregate) => aggregate.evaluate(rows),
            Self::Lag(_, program) => Ok(Arguments::new(column(program, rows)?, None)),
            Self::TimeSince(_) => Ok(Arguments::new(nothing(rows.num_rows()), None)),
        }
    }
}

/// Nothing is remembered of a row but its time.
fn nothing(rows: usize) -> ArrayRef {
    new_null_array(&DataType::Boolean, rows)
}

fn arguments(arguments: &FunctionArguments) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = arguments else { return None };
    let each = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Some(argument.clone()),
        _ => None,
    });
    each.collect()
}

fn plan(argument: &Expr, schema: &SchemaRef, text: &Text) -> Result<Program, Problems> {
    let refused = refuse::refusals(argument, text, &[INPUT]);
    if !refused.is_empty() {
        return Err(refused);
    }
    let planned = Planner::new(schema.clone(), INPUT).expression(argument.clone(), "value");
    planned.and_then(|plan| Program::new(&plan)).map_err(|error| diagnose::problems(&error, text))
}
