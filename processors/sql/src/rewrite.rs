//! Changes to a plan's expressions, by which they compute what flows promise and DataFusion does not: where decimals meet
//! floats, how floats compare, that times have microseconds, also where they meet dates and texts, and that what is never
//! computed does not fail.

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::{Alias, BinaryExpr, Case, Cast, InList, ScalarFunction};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, Operator, lit, not};
use millstream_core::has_floats;

use crate::unnamed::{canonical, unfolded};

/// Functions whose arguments have nothing to do with each other.
const OF_UNLIKE: &[&str] = &["named_struct", "struct", "make_map", "map"];

/// Functions that never compare, so that any NaN and any zero will do. Of all others one can't know.
const INDIFFERENT: &[&str] = &[
    "abs",
    "array_element",
    "array_length",
    "cardinality",
    "ceil",
    "exp",
    "floor",
    "get_field",
    "ln",
    "log",
    "log10",
    "log2",
    "make_array",
    "named_struct",
    "power",
    "round",
    "sqrt",
    "struct",
    "trunc",
];

/// Functions that compare their arguments, or give one of them.
const OF_ALIKE: &[&str] = &["coalesce", "greatest", "ifnull", "least", "make_array", "nullif", "nvl", "nvl2"];

/// Where floats and decimals come together, decimals become floats; DataFusion would compare both as decimals of 15 digits
/// behind the point. A division of decimals gives a float, too. Where timestamps meet dates and texts, these become timestamps;
/// DataFusion would bring all to nanoseconds, which end in the year 2262. Before DataFusion makes types agree.
pub fn unlike_types_meet(plan: LogicalPlan) -> Result<LogicalPlan> {
    each_node(plan, |expr, schema| expr.transform_up(|expr| meet(expr, schema)), |expr, _| Ok(expr))
}

/// Where a list has values that are computed from columns, `IN` becomes comparisons with each. DataFusion finds out whether a list is constant by
/// computing it over no rows, over which some expressions, such as `CASE`, give a constant. Before DataFusion makes types agree.
pub fn lists_are_compared(plan: LogicalPlan) -> Result<LogicalPlan> {
    each_node(plan, |expr, _| expr.transform_up(|expr| Ok(one_by_one(expr))), |expr, _| Ok(expr))
}

fn one_by_one(expr: Expr) -> Transformed<Expr> {
    let is_computed = |value: &Expr| !matches!(value, Expr::Column(_)) && !value.column_refs().is_empty();
    match expr {
        Expr::InList(InList { expr, list, negated }) if list.iter().any(is_computed) => {
            let equal = list.into_iter().map(|value| expr.as_ref().clone().eq(value)).reduce(Expr::or);
            let equal = equal.unwrap_or_else(|| lit(false));
            Transformed::yes(if negated { not(equal) } else { equal })
        }
        other => Transformed::no(other),
    }
}

/// Lets floats have one NaN and one zero wherever they are compared and where they leave, integers wrap around alike, and
/// times leave in microseconds. After types agree.
pub fn as_flows_compute(plan: LogicalPlan) -> Result<LogicalPlan> {
    each_node(plan, |expr, schema| expr.transform_up(|expr| compute(expr, schema)), leave)
}

/// Rewrites each expression of a plan, and the columns of each projection.
fn each_node(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
    leave: impl Fn(Expr, &DFSchema) -> Result<Expr>,
) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let is_projection = matches!(node, LogicalPlan::Projection(_));
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = rewrite(expr, &schema)?.data;
            let expr = if is_projection { leave(expr, &schema)? } else { expr };
            Ok(Transformed::yes(name.restore(expr)))
        })?;
        node.map_data(LogicalPlan::recompute_schema)
    });
    Ok(rewritten?.data)
}

fn meet(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let types = child_types(&expr, schema)?;
    let has_floats = types.iter().any(has_floats);
    let times = types.iter().find(|of_child| matches!(of_child, DataType::Timestamp(_, _)));
    match expr {
        Expr::Case(case) => Ok(Transformed::yes(Expr::Case(case_agrees(case, schema)))),
        // `AT TIME ZONE`; types that are written out have microseconds already.
        Expr::Cast(Cast { expr, field })
            if matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) =>
        {
            Ok(Transformed::yes(cast(*expr, in_micros(field.data_type()))))
        }
        Expr::ScalarFunction(ScalarFunction { ref func, .. }) if OF_UNLIKE.contains(&func.name()) => {
            Ok(Transformed::no(expr))
        }
        Expr::BinaryExpr(BinaryExpr { op: Operator::Divide, .. }) if types.iter().all(DataType::is_numeric) => {
            floats_for_decimals(expr, schema)
        }
        Expr::BinaryExpr(_) | Expr::Between(_) | Expr::InList(_) | Expr::ScalarFunction(_) if has_floats => {
            floats_for_decimals(expr, schema)
        }
        Expr::BinaryExpr(_) | Expr::Between(_) | Expr::InList(_) | Expr::ScalarFunction(_) => match times {
            Some(times) => as_times(expr, times, schema),
            None if is_call_of(&expr, &["date_trunc"]) => {
                as_times(expr, &DataType::Timestamp(TimeUnit::Microsecond, None), schema)
            }
            None => Ok(Transformed::no(expr)),
        },
        other => Ok(Transformed::no(other)),
    }
}

/// The expression over timestamps where it has dates, or texts that stand for times.
fn as_times(expr: Expr, times: &DataType, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let with_texts = match &expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => COMPARISONS.contains(op),
        Expr::ScalarFunction(_) => is_call_of(&expr, OF_ALIKE),
        _ => true,
    };
    expr.map_children(|child| {
        Ok(match child.get_type(schema) {
            Ok(of_it) if becomes_time(&of_it, with_texts) => Transformed::yes(cast(child, in_micros(times))),
            _ => Transformed::no(child),
        })
    })
}

/// Operators that compare.
pub const COMPARISONS: &[Operator] = &[
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::IsDistinctFrom,
    Operator::IsNotDistinctFrom,
];

fn is_call_of(expr: &Expr, functions: &[&str]) -> bool {
    matches!(expr, Expr::ScalarFunction(ScalarFunction { func, .. }) if functions.contains(&func.name()))
}

fn becomes_time(data_type: &DataType, with_texts: bool) -> bool {
    *data_type == DataType::Date32 || with_texts && data_type.is_string()
}

/// The types of an expression's children, as far as they are known.
fn child_types(expr: &Expr, schema: &DFSchema) -> Result<Vec<DataType>> {
    let mut types = Vec::new();
    expr.apply_children(|child| {
        types.extend(child.get_type(schema));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(types)
}

/// The expression over floats where it has decimals; integers, DataFusion brings to floats by itself, if there is one.
fn floats_for_decimals(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.map_children(|child| {
        Ok(match child.get_type(schema).ok().and_then(|of_it| with_floats(&of_it)) {
            Some(floats) => Transformed::yes(float(child, floats)),
            None => Transformed::no(child),
        })
    })
}

fn case_agrees(case: Case, schema: &DFSchema) -> Case {
    let (when, then): (Vec<Expr>, Vec<Expr>) =
        case.when_then_expr.into_iter().map(|(when, then)| (*when, *then)).unzip();
    let has_else = case.else_expr.is_some();
    let mut results = agree(then.into_iter().chain(case.else_expr.map(|other| *other)).collect(), schema);
    let else_expr = if has_else { results.pop().map(Box::new) } else { None };
    let (expr, when) = match case.expr {
        None => (None, when),
        Some(expr) => {
            let mut compared = agree(std::iter::once(*expr).chain(when).collect(), schema);
            (Some(Box::new(compared.remove(0))), compared)
        }
    };
    let when_then_expr = when.into_iter().zip(results).map(|(when, then)| (Box::new(when), Box::new(then))).collect();
    Case { expr, when_then_expr, else_expr }
}

/// Decimals as floats, if there are floats among the expressions; dates and texts as timestamps, if there are timestamps.
fn agree(exprs: Vec<Expr>, schema: &DFSchema) -> Vec<Expr> {
    let types: Vec<Option<DataType>> = exprs.iter().map(|expr| expr.get_type(schema).ok()).collect();
    if let Some(times) = types.iter().flatten().find(|of_it| matches!(of_it, DataType::Timestamp(_, _))) {
        let as_time = |(expr, of_it): (Expr, &Option<DataType>)| match of_it {
            Some(of_it) if becomes_time(of_it, true) => cast(expr, in_micros(times)),
            _ => expr,
        };
        return exprs.into_iter().zip(&types).map(as_time).collect();
    }
    if !types.iter().flatten().any(has_floats) {
        return exprs;
    }
    let floats = types.iter().map(|of_it| of_it.as_ref().and_then(with_floats));
    exprs
        .into_iter()
        .zip(floats)
        .map(|(expr, floats)| match floats {
            Some(floats) => float(expr, floats),
            None => expr,
        })
        .collect()
}

/// The type with floats for decimals; `None` if it has no decimals.
fn with_floats(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => Some(DataType::Float64),
        DataType::List(item) => {
            let floats = with_floats(item.data_type())?;
            Some(DataType::List(Field::clone(item).with_data_type(floats).into()))
        }
        _ => None,
    }
}

/// A number as a float, of the type `floats`: the nearest one, for a literal.
fn float(expr: Expr, floats: DataType) -> Expr {
    match expr {
        Expr::Literal(
            value @ (ScalarValue::Decimal128(Some(_), _, _) | ScalarValue::Decimal256(Some(_), _, _)),
            metadata,
        ) => match value.to_string().parse() {
            Ok(nearest) => Expr::Literal(ScalarValue::Float64(Some(nearest)), metadata),
            Err(_) => cast(Expr::Literal(value, metadata), floats),
        },
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let float = |expr: Box<Expr>| Box::new(float(*expr, floats.clone()));
            Expr::Case(Case {
                expr,
                when_then_expr: when_then_expr.into_iter().map(|(when, then)| (when, float(then))).collect(),
                else_expr: else_expr.map(float),
            })
        }
        expr => cast(expr, floats),
    }
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), data_type))
}

fn compute(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::Negative(inner) if inner.get_type(schema).is_ok_and(|of_it| of_it.is_signed_integer()) => {
            let zero = cast(lit(0_i64), inner.get_type(schema)?);
            Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(zero), Operator::Minus, inner)))
        }
        // Arithmetic takes any NaN and any zero.
        Expr::BinaryExpr(BinaryExpr { op, .. }) if op.is_numerical_operators() || op.is_logic_operator() => {
            Transformed::no(expr)
        }
        Expr::BinaryExpr(_) | Expr::Between(_) | Expr::InList(_) => compared(expr, schema)?,
        Expr::Case(case) => Transformed::yes(Expr::Case(case_computes(case, schema)?)),
        Expr::ScalarFunction(ScalarFunction { ref func, .. }) if func.short_circuits() => {
            Transformed::yes(not_folded(expr)?)
        }
        Expr::ScalarFunction(ScalarFunction { ref func, .. }) if INDIFFERENT.contains(&func.name()) => {
            Transformed::no(expr)
        }
        Expr::ScalarFunction(_) => compared(expr, schema)?,
        other => Transformed::no(other),
    })
}

/// The expression over children with one NaN and one zero.
fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.map_children(|child| {
        Ok(if child.get_type(schema).is_ok_and(|of_it| has_floats(&of_it)) {
            Transformed::yes(canonical(child))
        } else {
            Transformed::no(child)
        })
    })
}

/// `CASE x WHEN …` compares; in any `CASE`, what is not computed must not fail.
fn case_computes(case: Case, schema: &DFSchema) -> Result<Case> {
    let compares = case.expr.is_some();
    let canonical = |expr: Box<Expr>| {
        if compares && expr.get_type(schema).is_ok_and(|of_it| has_floats(&of_it)) {
            Box::new(canonical(*expr))
        } else {
            expr
        }
    };
    let not_folded = |expr: Box<Expr>| Ok::<_, datafusion_common::DataFusionError>(Box::new(not_folded(*expr)?));
    let pairs =
        case.when_then_expr.into_iter().map(|(when, then)| Ok((canonical(not_folded(when)?), not_folded(then)?)));
    Ok(Case {
        expr: case.expr.map(canonical),
        when_then_expr: pairs.collect::<Result<_>>()?,
        else_expr: case.else_expr.map(not_folded).transpose()?,
    })
}

/// Keeps DataFusion from computing casts of constants that fail while it plans.
fn not_folded(expr: Expr) -> Result<Expr> {
    let kept = expr.transform_down(|expr| {
        Ok(match expr {
            Expr::Cast(Cast { expr: inner, field })
                if matches!(inner.as_ref(), Expr::Literal(value, _) if value.cast_to(field.data_type()).is_err()) =>
            {
                let kept = Expr::Cast(Cast { expr: Box::new(unfolded(*inner)), field });
                Transformed::new(kept, true, TreeNodeRecursion::Jump)
            }
            other => Transformed::no(other),
        })
    });
    Ok(kept?.data)
}

/// A column on its way out of a projection.
fn leave(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::Alias(Alias { expr, relation, name, metadata }) => {
            let expr = Box::new(leave(*expr, schema)?);
            Ok(Expr::Alias(Alias { expr, relation, name, metadata }))
        }
        Expr::Column(_) | Expr::Unnest(_) => Ok(expr),
        expr => {
            let Ok(data_type) = expr.get_type(schema) else { return Ok(expr) };
            let expr = if has_floats(&data_type) { canonical(expr) } else { expr };
            Ok(match in_micros(&data_type) {
                micros if micros == data_type => expr,
                micros => cast(expr, micros),
            })
        }
    }
}

/// The type with all its timestamps in microseconds. The cast fails where one is too far away, which later nobody would notice.
fn in_micros(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::List(item) => {
            let micros = in_micros(item.data_type());
            DataType::List(Field::clone(item).with_data_type(micros).into())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, RecordBatch};
    use millstream_testkit::{drive, parse, table};

    use crate::sql::SqlSettings;

    fn run(query: &str, rows: &RecordBatch) -> String {
        let settings: SqlSettings = parse(&format!("query = '''{query}'''"));
        let driven = drive(&settings, &[("from", rows.clone())], 8192);
        assert!(driven.failed.is_empty(), "{query}: {:?}", driven.failed);
        driven.text("main")
    }

    /// Both zeros, both NaNs, and a number.
    fn odd() -> RecordBatch {
        let x: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0, -f64::NAN, f64::NAN, 2.0]));
        let y: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 2.0]));
        RecordBatch::try_from_iter([("x", x), ("y", y)]).unwrap()
    }

    #[test]
    fn there_is_one_nan_and_one_zero() {
        for (condition, expected) in [
            ("x = y", 5),
            ("x IN (y, 7, 8, 9)", 5),
            ("x IN (0, 7, 8, 9, 10)", 2),
            ("x IN (0.0, 1.5)", 2),
            ("nullif(x, y) IS NULL", 5),
            ("nullif(x, 0) IS NULL", 2),
            ("CASE x WHEN 0 THEN true ELSE false END", 2),
            ("CASE x WHEN y THEN true ELSE false END", 5),
            ("array_position([7, y], x) = 2", 5),
            ("array_has([y], x)", 5),
            ("[x] = [y]", 5),
            ("x > 1", 3),
            ("x BETWEEN 0 AND 0", 2),
            ("x NOT BETWEEN 0 AND 2", 2),
            ("greatest(x, 1) = x", 3),
            ("least(x, 1) = x", 2),
            ("x IS DISTINCT FROM y", 0),
            ("array_length(array_distinct([x, y])) = 1", 5),
            ("array_max([x, 1]) = x", 3),
            ("0.0 / CAST(0 AS double) > 1", 5),
            ("(x - x) / (x - x) > 1", 5),
            ("CAST('nan' AS double) > 1", 5),
            ("CAST('-0' AS double) IN (0, 1, 2, 3)", 5),
        ] {
            let query = format!("SELECT x FROM input WHERE {condition}");
            let rows = run(&query, &odd()).lines().count().saturating_sub(1);
            assert_eq!(rows, expected, "{condition}");
        }
    }

    #[test]
    fn what_is_computed_has_one_nan_and_what_passes_stays() {
        let settings: SqlSettings = parse("query = 'SELECT x, x * 1 AS one, x / x AS ratio FROM input'");
        let driven = drive(&settings, &[("from", odd())], 8192);
        let bits = |column: usize| -> Vec<u64> {
            let values = driven.ports["main"][0].column(column).clone();
            let values = arrow::array::cast::AsArray::as_primitive::<arrow::datatypes::Float64Type>(&values).clone();
            values.values().iter().map(|value| value.to_bits()).collect()
        };
        let nan = f64::NAN.to_bits();
        assert_eq!(bits(0)[..2], [(-0.0_f64).to_bits(), 0]);
        assert_eq!(bits(1), [0, 0, nan, nan, 2.0_f64.to_bits()]);
        assert_eq!(bits(2), [nan, nan, nan, nan, 1.0_f64.to_bits()]);
    }

    #[test]
    fn numbers_with_a_point_are_decimals() {
        let rows = table("d:decimal(12,2) n:int64 x:float64\n 0.05 3 0.1\n 19.99 7 2.5");
        for (expression, expected) in [
            ("CAST(d * 1.19 AS decimal(14,2))", "v:decimal(14,2)\n0.06\n23.79\n"),
            ("0.1 + 0.2 = 0.3", "v:boolean\ntrue\ntrue\n"),
            ("n * 0.5", "v:decimal(22,1)\n1.5\n3.5\n"),
            ("n / 4.0", "v:float64\n0.75\n1.75\n"),
            ("d / 3", "v:float64\n0.016666666666666666\n6.663333333333333\n"),
            ("x * 1.5", "v:float64\n0.15000000000000002\n3.75\n"),
            ("x = 0.1", "v:boolean\ntrue\nfalse\n"),
            ("x > 0.5", "v:boolean\nfalse\ntrue\n"),
            ("x BETWEEN 0.1 AND 0.2", "v:boolean\ntrue\nfalse\n"),
            ("x IN (0.1, 7.5)", "v:boolean\ntrue\nfalse\n"),
            ("x + d", "v:float64\n0.15000000000000002\n22.49\n"),
            ("coalesce(x, 0.0)", "v:float64\n0.1\n2.5\n"),
            ("CASE WHEN n > 3 THEN x ELSE 0.25 END", "v:float64\n0.25\n2.5\n"),
            ("coalesce(round(d, 1), 1.19) + 0.01", "v:decimal(14,2)\n0.11\n20.01\n"),
            ("greatest(x, 0.3)", "v:float64\n0.3\n2.5\n"),
            ("array_has([0.1, 7], x)", "v:boolean\ntrue\nfalse\n"),
            ("array_has([x, 7], 0.1)", "v:boolean\ntrue\nfalse\n"),
            ("array_append([x], -0.5)[2]", "v:float64\n-0.5\n-0.5\n"),
            ("1e3", "v:float64\n1000.0\n1000.0\n"),
            ("3.141592653589793238462643383279502884197169399", "v:float64\n3.141592653589793\n3.141592653589793\n"),
        ] {
            let found = run(&format!("SELECT {expression} AS v FROM input"), &rows).replace('?', "");
            assert_eq!(found, expected, "{expression}");
        }
    }

    #[test]
    fn lists_may_be_computed() {
        let rows = table("n:int64 t:utf8?\n 1 a\n 4 b\n 5 null");
        for (expression, expected) in [
            ("t IN (CASE WHEN n < 3 THEN 'x' ELSE t END, 'y')", "false true null"),
            ("t NOT IN (CASE WHEN n < 3 THEN 'x' ELSE t END, 'y')", "true false null"),
            ("t IN ('a', CASE WHEN n < 3 THEN 'x' ELSE t END)", "true true null"),
            ("n IN (coalesce(n, 7), 8)", "true true true"),
            ("n NOT IN (CASE WHEN n > 1 THEN 1 ELSE 2 END, 8, NULL)", "null null null"),
        ] {
            let found = run(&format!("SELECT {expression} AS v FROM input"), &rows);
            let values: Vec<_> = found.lines().skip(1).collect();
            assert_eq!(values.join(" "), expected, "{expression}");
        }
    }

    #[test]
    fn large_floats_are_compared_as_floats() {
        let rows = table("x:float64 d:decimal(12,2)\n 1e300 1.5\n 1.5 1.5");
        assert_eq!(run("SELECT x FROM input WHERE x > 0.5 AND x = d", &rows), "x:float64\n1.5\n");
    }

    #[test]
    fn what_is_never_computed_does_not_fail() {
        let rows = table("n:int64\n 1\n 2");
        let query = "SELECT CASE WHEN n > 5 THEN CAST('x' AS int) ELSE 7 END AS a, coalesce(n, CAST('y' AS int)) AS b FROM input";
        assert_eq!(run(query, &rows), "a:int64 b:int64\n7 1\n7 2\n");
    }

    #[test]
    fn constants_and_columns_wrap_around_alike() {
        let rows = table("n:int64\n -9223372036854775808");
        let query = "SELECT -n = -CAST('-9223372036854775808' AS bigint) AS same, n - 1 AS below FROM input";
        assert_eq!(run(query, &rows), "same:boolean below:int64\ntrue 9223372036854775807\n");
    }
}
