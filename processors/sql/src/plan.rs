//! From syntax to a checked and simplified plan: DataFusion's planner over the one stream that a query may read.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, Result, TableReference, plan_err};
use datafusion_expr::logical_plan::builder::{LogicalPlanBuilder, LogicalTableSource};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion_optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{Expr as SyntaxExpr, Statement};

use crate::literals::in_flow_types;
use crate::rewrite::{as_flows_compute, lists_are_compared, unlike_types_meet};
use crate::{functions, random};

/// The name by which every query may call its stream.
pub const INPUT: &str = "input";

/// Options of DataFusion, the same at planning and running. Nothing of the machine is in them.
pub static OPTIONS: LazyLock<Arc<ConfigOptions>> = LazyLock::new(|| {
    let mut options = ConfigOptions::default();
    options.execution.target_partitions = 1;
    options.sql_parser.parse_float_as_decimal = true;
    Arc::new(options)
});

/// Plans over one stream.
pub struct Planner<'a> {
    /// The names that FROM may use; the first is [`INPUT`].
    pub names: Vec<&'a str>,
    schema: SchemaRef,
    functions: Vec<Arc<dyn ExprPlanner>>,
}

impl<'a> Planner<'a> {
    /// For a stream that comes from `node`.
    pub fn new(schema: SchemaRef, node: &'a str) -> Self {
        let names = if node == INPUT { vec![INPUT] } else { vec![INPUT, node] };
        Self { names, schema, functions: functions::planners() }
    }

    /// The plan of a query.
    pub fn query(&self, mut query: Statement) -> Result<LogicalPlan> {
        in_flow_types(&mut query);
        self.finish(self.sql().sql_statement_to_plan(query)?)
    }

    /// The plan of an expression: one column, called `name`.
    pub fn expression(&self, mut expression: SyntaxExpr, name: &str) -> Result<LogicalPlan> {
        in_flow_types(&mut expression);
        let schema = DFSchema::try_from_qualified_schema(INPUT, &self.schema)?;
        let expr = self.sql().sql_to_expr(expression, &schema, &mut PlannerContext::new())?;
        let scan = LogicalPlanBuilder::scan(INPUT, self.source(), None)?;
        self.finish(scan.project([expr.alias(name)])?.build()?)
    }

    fn sql(&self) -> SqlToRel<'_, Self> {
        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_parse_float_as_decimal(true)
            .with_map_string_types_to_utf8view(false)
            .with_collect_spans(true);
        SqlToRel::new_with_options(self, options)
    }

    /// Makes types agree and simplifies. Filters stay where they were written: a query may rely on them to keep
    /// bad rows from an expression behind.
    fn finish(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = unlike_types_meet(lists_are_compared(plan)?)?;
        let plan = Analyzer::new().execute_and_check(plan, &OPTIONS, |_, _| {})?;
        let plan = as_flows_compute(plan)?;
        let optimizer = Optimizer::with_rules(vec![
            Arc::new(SimplifyExpressions::new()),
            Arc::new(CommonSubexprEliminate::new()),
            Arc::new(OptimizeProjections::new()),
        ]);
        let context = OptimizerContext::new_with_config_options(OPTIONS.clone()).without_query_execution_start_time();
        optimizer.optimize(plan, &context.with_skip_failing_rules(false), |_, _| {})
    }

    fn source(&self) -> Arc<dyn TableSource> {
        Arc::new(LogicalTableSource::new(self.schema.clone()))
    }
}

impl ContextProvider for Planner<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if !self.names.contains(&name.to_string().as_str()) {
            return plan_err!("there is no stream `{name}` here");
        }
        Ok(self.source())
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.functions
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        // Of the two kinds of `random`, DataFusion's is refused everywhere, and ours where no rows are generated.
        random::function(name).or_else(|| functions::scalar(name))
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &OPTIONS
    }

    fn udf_names(&self) -> Vec<String> {
        functions::names().map(str::to_owned).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Runs the planner with enough stack for every text that [`crate::text::Text`] lets through, and survives its panics.
pub fn on_deep_stack<T: Send>(plan: impl FnOnce() -> T + Send) -> Result<T> {
    const STACK: usize = 128 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, plan)?;
        thread.join().map_err(|_| DataFusionError::Plan("this query can't be planned".to_owned()))
    })
}
