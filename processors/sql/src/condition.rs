//! A condition in SQL over the rows of a schema.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::Result;
use datafusion_expr::LogicalPlan;
use datafusion_physical_expr::expressions::Column;
use millstream_core::{Problem, Problems, type_name};

use crate::plan::{INPUT, Planner, on_deep_stack};
use crate::predicate::Predicate;
use crate::program::{Program, physical};
use crate::text::Text;
use crate::{diagnose, parse, refuse, words};

/// A condition such as `fraud IS NOT NULL AND amount > 10`, planned once and evaluated per batch. Null is not true.
#[derive(Debug)]
pub struct Condition {
    /// Computes what the condition needs more than once.
    before: Program,
    predicate: Predicate,
    columns: BTreeSet<String>,
}

impl Condition {
    /// Plans a condition over rows of `schema`. Problems have their place within the text.
    pub fn new(text: &str, schema: &SchemaRef) -> Result<Self, Problems> {
        let planned = on_deep_stack(|| Self::plan(text, schema));
        planned.unwrap_or_else(|error| Err(Problem::new(words::why(&error)).into()))
    }

    fn plan(text: &str, schema: &SchemaRef) -> Result<Self, Problems> {
        let text = Text::over(text, schema)?;
        let syntax =
            parse::expression(&text, "a condition").map_err(|problem| text.advising_quotes(problem, schema))?;
        let refused = refuse::refusals(&syntax, &text, &[INPUT]);
        if !refused.is_empty() {
            return Err(refused);
        }
        let planned = Planner::new(schema.clone(), INPUT).expression(syntax, "value");
        let plan = planned.map_err(|error| diagnose::problems(&error, &text))?;
        let result = plan.schema().field(0).data_type();
        if !matches!(result, DataType::Boolean | DataType::Null) {
            return Err(diagnose::not_boolean(&type_name(result)).into());
        }
        let columns = text.mentions(schema);
        Self::compile(&plan, columns).map_err(|error| diagnose::problems(&error, &text))
    }

    fn compile(plan: &LogicalPlan, columns: BTreeSet<String>) -> Result<Self> {
        let (before, predicate) = match plan {
            LogicalPlan::Projection(projection) if projection.expr.len() == 1 => {
                (Program::new(&projection.input)?, physical(&projection.expr[0], projection.input.schema())?)
            }
            column => (Program::new(column)?, Arc::new(Column::new("condition", 0)) as _),
        };
        Ok(Self { before, predicate: Predicate::new(predicate), columns })
    }

    /// The columns that it may look at.
    pub fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    /// For which rows it is true; there are no nulls. The error is why at least one of the rows failed.
    pub fn matches(&self, rows: &RecordBatch) -> Result<BooleanArray, String> {
        match self.before.run(rows)? {
            Some(rows) => self.predicate.mask(&rows).map_err(|error| words::why(&error)),
            None => Ok(BooleanArray::from(vec![false; rows.num_rows()])),
        }
    }
}
