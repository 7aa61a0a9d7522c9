//! A condition in SQL over the rows of a schema.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use millstream_core::{Bounds, Matches, Problem, Problems, type_name};

use crate::halve::{Halved, halve};
use crate::outlook::Outlook;
use crate::plan::{INPUT, Planner, on_deep_stack};
use crate::predicate::Predicate;
use crate::program::{Program, physical};
use crate::text::Text;
use crate::{diagnose, parse, refuse, words};

/// Plans a condition. See [`millstream_core::PlanCondition`].
pub fn plan(text: &str, schema: &SchemaRef) -> Result<Box<dyn millstream_core::Condition>, Problems> {
    Ok(Box::new(Condition::new(text, schema)?))
}

/// A condition such as `fraud IS NOT NULL AND amount > 10`, planned once and evaluated per batch. Null is not true.
#[derive(Debug)]
pub struct Condition {
    /// Computes what the condition needs more than once.
    before: Program,
    predicate: Predicate,
    outlook: Outlook,
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
            column => {
                let before = Program::new(column)?;
                let column = Column::new(before.schema().field(0).name(), 0);
                (before, Arc::new(column) as _)
            }
        };
        let (whole, schema) = whole(plan)?.unwrap_or_else(|| (predicate.clone(), before.schema().clone()));
        let outlook = Outlook::new(&whole, &schema, &columns);
        Ok(Self { before, predicate: Predicate::new(predicate), outlook, columns })
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

/// The condition over columns of the input alone, in which what is computed before is put back. None if nothing is.
fn whole(plan: &LogicalPlan) -> Result<Option<(Arc<dyn PhysicalExpr>, SchemaRef)>> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(None) };
    let LogicalPlan::Projection(before) = projection.input.as_ref() else { return Ok(None) };
    let [condition] = &projection.expr[..] else { return Ok(None) };
    let computed: HashMap<_, _> = before.schema.columns().into_iter().zip(&before.expr).collect();
    let condition = condition.clone().transform_down(|expr| {
        let is_computed = match &expr {
            Expr::Column(column) => computed.get(column),
            _ => None,
        };
        Ok(match is_computed {
            Some(computed) => Transformed::new((*computed).clone().unalias(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })?;
    let input = before.input.schema();
    Ok(Some((physical(&condition.data, input)?, Arc::new(input.as_arrow().clone()))))
}

impl millstream_core::Condition for Condition {
    fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    fn matching(&self, rows: &RecordBatch) -> Matches {
        let Halved { good, bad } = halve(rows, |rows| self.matches(rows));
        let mut met = BooleanBufferBuilder::new(rows.num_rows());
        for (start, matches) in good {
            met.append_n(start - met.len(), false);
            met.append_buffer(matches.values());
        }
        met.append_n(rows.num_rows() - met.len(), false);
        Matches { met: BooleanArray::new(met.finish(), None), failed: bad }
    }

    fn may_match(&self, bounds: &dyn Fn(&str) -> Bounds) -> bool {
        self.outlook.may_match(bounds)
    }
}
