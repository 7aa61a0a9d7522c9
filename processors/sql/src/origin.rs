//! Where a column of a query comes from.

use datafusion_expr::{Expr, LogicalPlan};

/// Whether a column that leaves a query, if there is one of that name, is the one of that name in its stream, unchanged.
pub fn passes_on(plan: &LogicalPlan, name: &str) -> bool {
    let place = plan.schema().fields().iter().position(|field| field.name() == name);
    place.is_none_or(|place| origin(plan, place).is_some_and(|origin| origin == name))
}

/// The name of the column of the stream that leaves at a place, unless it is computed.
fn origin(plan: &LogicalPlan, place: usize) -> Option<String> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan.projected_schema.field(place).name().clone()),
        LogicalPlan::Projection(projection) => {
            let Expr::Column(column) = projection.expr.get(place)?.clone().unalias() else { return None };
            origin(&projection.input, projection.input.schema().maybe_index_of_column(&column)?)
        }
        LogicalPlan::Unnest(unnest) => origin(&unnest.input, *unnest.dependency_indices.get(place)?),
        LogicalPlan::Filter(filter) => origin(&filter.input, place),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, place),
        _ => None,
    }
}
