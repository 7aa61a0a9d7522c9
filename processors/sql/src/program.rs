//! A query as a few steps over batches: compiled once, run per batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{FilterBuilder, concat_batches};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, exec_err, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{ColumnarValue, Expr, Filter, LogicalPlan, Projection, TableScan};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use millstream_core::{MAX_BATCH_BYTES, survive};

use crate::choice::as_choice;
use crate::halve::OUT_OF_REACH;
use crate::plan::OPTIONS;
use crate::predicate::Predicate;
use crate::unnest::{Spread, Unnest};
use crate::words::why;

/// The steps of a query.
#[derive(Debug)]
pub struct Program {
    steps: Vec<Step>,
    schema: SchemaRef,
}

#[derive(Debug)]
enum Step {
    Filter(FilterStep),
    Project(Project),
    Unnest(Arc<Unnest>),
}

impl Program {
    /// Compiles a plan of filters, projections and unnests over one stream.
    pub fn new(plan: &LogicalPlan) -> Result<Self> {
        let mut steps = Vec::new();
        compile(plan, &mut steps)?;
        drop_unused_columns(&mut steps)?;
        Ok(Self { steps, schema: Arc::new(arrow_schema(plan.schema())) })
    }

    /// The columns that come out, not yet in canonical types.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Lets the last step make batches of `schema`, if that differs by nothing but its address.
    pub fn produces(&mut self, schema: &SchemaRef) {
        if *schema == self.schema {
            self.schema = schema.clone();
            match self.steps.last_mut() {
                Some(Step::Filter(filter)) => filter.schema = schema.clone(),
                Some(Step::Project(project)) => project.schema = schema.clone(),
                Some(Step::Unnest(_)) | None => {}
            }
        }
    }

    /// What becomes of the rows; `None` if nothing is left. The error is why at least one row of them failed.
    pub fn run(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>, String> {
        let mut execution = Execution::new(rows, MAX_BATCH_BYTES);
        let Some(first) = self.next(&mut execution)? else { return Ok(None) };
        let mut pieces = vec![first];
        while let Some(piece) = self.next(&mut execution)? {
            pieces.push(piece);
        }
        match pieces.len() {
            1 => Ok(pieces.pop()),
            _ => concat_batches(&self.schema, &pieces).map(Some).map_err(|error| error.to_string()),
        }
    }

    /// The next piece of what becomes of the rows. None if there are no more.
    pub fn next(&self, execution: &mut Execution) -> Result<Option<RecordBatch>, String> {
        if let Some(rows) = execution.rows.take()
            && let Some(done) = self.advance(rows, 0, execution)?
        {
            return Ok(Some(done));
        }
        while let Some((step, spread)) = execution.spreads.last_mut() {
            let step = *step;
            match spread.next()? {
                None => _ = execution.spreads.pop(),
                Some(rows) => {
                    if let Some(done) = self.advance(rows, step, execution)? {
                        return Ok(Some(done));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes rows through the steps from `first` on, to the end or to where they become many.
    fn advance(
        &self,
        mut rows: RecordBatch,
        first: usize,
        execution: &mut Execution,
    ) -> Result<Option<RecordBatch>, String> {
        for (place, step) in self.steps.iter().enumerate().skip(first) {
            rows = match step {
                Step::Filter(filter) => filter.run(rows)?,
                Step::Project(project) => project.run(&rows)?,
                Step::Unnest(unnest) => {
                    execution.spreads.push((place + 1, Spread::new(unnest, rows, execution.bytes)?));
                    return Ok(None);
                }
            };
            if rows.num_rows() == 0 {
                return Ok(None);
            }
        }
        Ok(Some(rows))
    }
}

/// Rows on their way through a program, which may make many of few.
#[derive(Debug)]
pub struct Execution {
    /// Before the first step.
    rows: Option<RecordBatch>,
    /// Rows of which many are made, and the step that these come to; the last come first.
    spreads: Vec<(usize, Spread)>,
    /// About how many bytes a piece has at most.
    bytes: usize,
}

impl Execution {
    /// Rows that have come. A piece has about `bytes` bytes at most where many are made of few.
    pub fn new(rows: &RecordBatch, bytes: usize) -> Self {
        Self { rows: Some(rows.clone()), spreads: Vec::new(), bytes }
    }

    /// Whether there are no more pieces.
    pub fn is_over(&self) -> bool {
        self.rows.is_none() && self.spreads.is_empty()
    }
}

/// The physical expression for one of a plan.
pub fn physical(expr: &Expr, input: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let properties = ExecutionProps { config_options: Some(OPTIONS.clone()), ..ExecutionProps::new() };
    let expr = create_physical_expr(expr, input, &properties, &PhysicalPlanningContext::default())?;
    Ok(expr.transform_up(as_choice)?.data)
}

fn arrow_schema(schema: &DFSchema) -> Schema {
    schema.as_arrow().clone()
}

fn compile(plan: &LogicalPlan, steps: &mut Vec<Step>) -> Result<()> {
    let step = match plan {
        LogicalPlan::TableScan(scan) => match Project::of_scan(scan) {
            Some(project) => Step::Project(project),
            None => return Ok(()),
        },
        LogicalPlan::SubqueryAlias(alias) => return compile(&alias.input, steps),
        LogicalPlan::Filter(filter) => {
            compile(&filter.input, steps)?;
            Step::Filter(FilterStep::new(filter)?)
        }
        LogicalPlan::Projection(projection) => {
            compile(&projection.input, steps)?;
            Step::Project(Project::new(projection)?)
        }
        LogicalPlan::Unnest(unnest) => {
            compile(&unnest.input, steps)?;
            Step::Unnest(Arc::new(Unnest::new(unnest)?))
        }
        _ => return plan_err!("the query does something that does not work row by row"),
    };
    steps.push(step);
    Ok(())
}

/// Where a filter is followed by a projection, lets the filter drop the columns that only it looked at.
fn drop_unused_columns(steps: &mut [Step]) -> Result<()> {
    for at in 1..steps.len() {
        let (before, behind) = steps.split_at_mut(at);
        if let (Some(Step::Filter(filter)), Some(Step::Project(project))) = (before.last_mut(), behind.first_mut()) {
            let used = project.used_columns();
            if used.len() < filter.keep.len() {
                project.renumber(&used)?;
                filter.keep_only(used)?;
            }
        }
    }
    Ok(())
}

/// Lets the rows pass for which a condition is true.
#[derive(Debug)]
struct FilterStep {
    predicate: Predicate,
    /// The columns that the next step needs.
    keep: Vec<usize>,
    schema: SchemaRef,
}

impl FilterStep {
    fn new(filter: &Filter) -> Result<Self> {
        let schema = arrow_schema(filter.input.schema());
        let predicate = Predicate::new(physical(&filter.predicate, filter.input.schema())?);
        Ok(Self { predicate, keep: (0..schema.fields().len()).collect(), schema: Arc::new(schema) })
    }

    fn keep_only(&mut self, columns: Vec<usize>) -> Result<()> {
        self.schema = Arc::new(self.schema.project(&columns)?);
        self.keep = columns;
        Ok(())
    }

    fn run(&self, rows: RecordBatch) -> Result<RecordBatch, String> {
        let mask = survive(|| self.predicate.mask(&rows)).unwrap_or_else(|| exec_err!("{OUT_OF_REACH}"));
        let mask = mask.map_err(|error| format!("in WHERE: {}", why(&error)))?;
        let passed = mask.true_count();
        let kept = self.keep.iter().map(|&column| rows.column(column));
        if passed == rows.num_rows() {
            return batch(&self.schema, kept.cloned().collect(), passed);
        }
        let filter = FilterBuilder::new(&mask).optimize().build();
        let columns = kept.map(|column| filter.filter(column)).collect::<Result<_, _>>();
        batch(&self.schema, columns.map_err(|error| error.to_string())?, passed)
    }
}

/// Computes columns.
#[derive(Debug)]
struct Project {
    outputs: Vec<Output>,
    schema: SchemaRef,
}

#[derive(Debug)]
enum Output {
    /// A column as it is.
    Column(usize),
    Computed(Arc<dyn PhysicalExpr>),
}

impl Project {
    fn new(projection: &Projection) -> Result<Self> {
        let outputs = projection.expr.iter().map(|expr| {
            let expr = physical(expr, projection.input.schema())?;
            Ok(match expr.downcast_ref::<Column>() {
                Some(column) => Output::Column(column.index()),
                None => Output::Computed(expr),
            })
        });
        Ok(Self { outputs: outputs.collect::<Result<_>>()?, schema: Arc::new(arrow_schema(&projection.schema)) })
    }

    fn of_scan(scan: &TableScan) -> Option<Self> {
        let columns = scan.projection.as_ref()?;
        let outputs = columns.iter().map(|&column| Output::Column(column)).collect();
        Some(Self { outputs, schema: Arc::new(arrow_schema(&scan.projected_schema)) })
    }

    fn used_columns(&self) -> Vec<usize> {
        let mut used: Vec<usize> = Vec::new();
        for output in &self.outputs {
            match output {
                Output::Column(column) => used.push(*column),
                Output::Computed(expr) => used.extend(collect_columns(expr).iter().map(Column::index)),
            }
        }
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Looks for column `used[n]` at place `n`.
    fn renumber(&mut self, used: &[usize]) -> Result<()> {
        let place = |column: usize| used.binary_search(&column).unwrap_or(column);
        for output in &mut self.outputs {
            *output = match output {
                Output::Column(column) => Output::Column(place(*column)),
                Output::Computed(expr) => {
                    let renumbered = expr.clone().transform_down(|expr| {
                        let moved = expr.downcast_ref::<Column>().map(|c| Column::new(c.name(), place(c.index())));
                        Ok(match moved {
                            Some(column) => Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>),
                            None => Transformed::no(expr),
                        })
                    })?;
                    Output::Computed(renumbered.data)
                }
            };
        }
        Ok(())
    }

    fn run(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        let mut columns = Vec::with_capacity(self.outputs.len());
        for (place, output) in self.outputs.iter().enumerate() {
            columns.push(match output {
                Output::Column(column) => rows.column(*column).clone(),
                Output::Computed(expr) => {
                    let computed = survive(|| expr.evaluate(rows).and_then(|value| as_array(value, rows.num_rows())));
                    let computed = computed.unwrap_or_else(|| exec_err!("{OUT_OF_REACH}"));
                    computed.map_err(|error| self.in_column(place, &why(&error)))?
                }
            });
        }
        batch(&self.schema, columns, rows.num_rows())
    }

    fn in_column(&self, place: usize, why: &str) -> String {
        match self.schema.field(place).name() {
            // The optimiser's own columns have names that nobody wrote.
            name if name.starts_with("__") => why.to_owned(),
            name => format!("computing `{name}`: {why}"),
        }
    }
}

/// The values of so many rows. An error where one for all of them, such as a long text, would take too much; whoever asked
/// tries half as many.
fn as_array(value: ColumnarValue, rows: usize) -> Result<ArrayRef> {
    match &value {
        ColumnarValue::Scalar(one) if rows > 1 && one.size().saturating_mul(rows) > MAX_BATCH_BYTES => {
            exec_err!("a value of {} bytes would stand in {rows} rows", one.size())
        }
        _ => value.into_array(rows),
    }
}

/// A batch of rows that may have no columns.
pub fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, String> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| error.to_string())
}

/// The type that unnesting a list of this type goes through.
pub fn plain_list(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(DataType::List(item.clone())),
        _ => None,
    }
}
