//! The event time of an input: a column that is there, or one that is computed.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{Canonical, InputPlan, NodeTypes, PortPlan, Problem, Problems, require_column, type_name};

use super::{DerivedTime, PlannedTime, TimeColumn};
use crate::file::EventTimeSettings;

const EVENT_TIME: &str = "event_time";
const COLUMN: &str = "column";
const EXPRESSION: &str = "expression";

/// Plans the event time of an input, all of whose ports have it.
pub fn plan_time(
    settings: &EventTimeSettings,
    plan: &InputPlan,
    registry: &NodeTypes,
) -> Result<PlannedTime, Problems> {
    if settings.idle.is_some() && plan.finite {
        let problem = Problem::new("an input that ends by itself is never idle").at([EVENT_TIME, "idle"]);
        return Err(problem.help("leave `idle` out").into());
    }
    let column = |port: &PortPlan| {
        let of_port = |problem: Problem| match plan.ports.len() {
            1 => problem,
            _ => Problem { message: format!("port `{}`: {}", port.name, problem.message), ..problem },
        };
        let column = time_column(settings, &port.schema, registry);
        column.map_err(|problems| problems.into_iter().map(of_port).collect::<Problems>())
    };
    Ok(PlannedTime {
        columns: plan.ports.iter().map(column).collect::<Result<_, _>>()?,
        lateness: settings.lateness.micros(),
        watermark_rows: settings.watermark_rows,
        idle: settings.idle.map(|idle| idle.0),
        interleaved: plan.interleaved,
    })
}

fn time_column(settings: &EventTimeSettings, schema: &SchemaRef, registry: &NodeTypes) -> Result<TimeColumn, Problems> {
    match (&settings.expression, &settings.column) {
        (Some(expression), name) => {
            let derived = derive(expression, name.as_deref(), schema, registry)?;
            Ok(TimeColumn { index: derived.schema.fields().len() - 1, derived: Some(Arc::new(derived)) })
        }
        (None, Some(column)) => Ok(TimeColumn { index: column_of(column, schema)?, derived: None }),
        (None, None) => {
            let problem = Problem::new("it does not say where the event time is").at([EVENT_TIME]);
            let help = "write `column = \"…\"`, or `expression = \"…\"` if it is to be computed";
            Err(problem.help(help).into())
        }
    }
}

impl TimeColumn {
    /// The columns that leave a port by which an input gives those of `input`.
    pub fn schema(&self, input: &SchemaRef) -> SchemaRef {
        self.derived.as_ref().map_or(input, |derived| &derived.schema).clone()
    }
}

/// The column that has the event time, which has to be there.
fn column_of(name: &str, schema: &SchemaRef) -> Result<usize, Problem> {
    let at = |problem: Problem| problem.at([EVENT_TIME, COLUMN]);
    let field = require_column(name, schema).map_err(at)?;
    if !is_time(field.data_type()) {
        let message = format!("column `{name}` is not a `timestamp`, but `{}`", type_name(field.data_type()));
        let help = "the input's `schema` can declare it as one, and `expression` can compute one of it";
        return Err(at(Problem::new(message).help(help)));
    }
    Ok(schema.index_of(name).unwrap_or_default())
}

/// What computes the event time in a column of its own.
fn derive(text: &str, name: Option<&str>, schema: &SchemaRef, registry: &NodeTypes) -> Result<DerivedTime, Problems> {
    let at = |problem: Problem| problem.under(EXPRESSION).under(EVENT_TIME);
    let Some(language) = registry.planner() else {
        return Err(at(Problem::new("this program was built without a language of expressions")).into());
    };
    let input = Canonical::new(schema)
        .map_err(|message| Problem::new(message).help("leave it out, or declare another type for it"))?;
    let named = name.unwrap_or(EVENT_TIME);
    if input.schema().field_with_name(named).is_ok() {
        let problem = Problem::new(format!("there is a column `{named}` already"));
        let problem = problem.help("say by `column` what the column of the computed times is to be called");
        return Err(problem.at([EVENT_TIME, if name.is_some() { COLUMN } else { EXPRESSION }]).into());
    }
    let expression = (language.expression)(named, text, input.schema());
    let expression = expression.map_err(|problems| problems.into_iter().map(at).collect::<Problems>())?;
    if !is_time(expression.data_type()) {
        let message = format!("an event time is a `timestamp`, and this is `{}`", type_name(expression.data_type()));
        return Err(at(Problem::new(message).help("such as `to_timestamp(seconds)`")).into());
    }
    let time = Arc::new(Field::new(named, expression.data_type().clone(), false));
    let fields: Vec<_> = input.schema().fields().iter().cloned().chain([time]).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, input.schema().metadata().clone()));
    Ok(DerivedTime { input, expression, schema })
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _))
}
