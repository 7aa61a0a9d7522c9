//! The functions that SQL may call, and those that it may not.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion_expr::planner::ExprPlanner;
use datafusion_expr::{ScalarUDF, Volatility};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;
use datafusion_functions_nested::planner::{FieldAccessPlanner, NestedFunctionPlanner};
use millstream_core::nearest;

use crate::intervals::IntervalPlanner;
use crate::json::{self, JsonPlanner};
use crate::limits::limited;
use crate::portable::portable;
use crate::random;
use crate::rounding::any_digits;
use crate::times::in_micros;

/// Functions of many rows, by the names that people try.
const AGGREGATES: &[&str] = &[
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "every",
    "first_value",
    "group_concat",
    "grouping",
    "lag",
    "last_value",
    "lead",
    "max",
    "mean",
    "median",
    "min",
    "mode",
    "nth_value",
    "ntile",
    "percent_rank",
    "percentile_cont",
    "quantile",
    "rank",
    "row_number",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var",
    "var_pop",
    "var_samp",
    "variance",
];

/// Functions that DataFusion's planner knows by itself.
const BUILT_IN: &[&str] = &["make_map", "map", "unnest", "unnest_outer"];

/// Functions that only a scan of files can answer.
const OF_FILES: &[&str] = &["file_row_index", "input_file_name"];

/// Clocks that DataFusion doesn't know, and so can't call volatile.
const CLOCKS: &[&str] = &["localtime", "localtimestamp"];

/// What a function's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// One row in, one value out, always the same.
    OfOneRow,
    /// Of many rows.
    OfManyRows,
    /// Another value at every call or in every session: clocks, random numbers.
    NotReplayable,
    /// There is none.
    Unknown,
}

/// What the name of a function stands for, in whatever case.
pub fn lookup(name: &str) -> Function {
    let name = name.to_lowercase();
    if AGGREGATES.contains(&name.as_str()) {
        return Function::OfManyRows;
    }
    if CLOCKS.contains(&name.as_str()) {
        return Function::NotReplayable;
    }
    match scalar(&name).map(|function| function.signature().volatility) {
        Some(Volatility::Immutable) => Function::OfOneRow,
        Some(Volatility::Stable | Volatility::Volatile) => Function::NotReplayable,
        None if BUILT_IN.contains(&name.as_str()) => Function::OfOneRow,
        None => Function::Unknown,
    }
}

/// The names of all functions that may be called.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    let all = SCALARS.keys().map(String::as_str);
    all.chain(BUILT_IN.iter().copied()).filter(|name| lookup(name) == Function::OfOneRow)
}

/// The help for an unknown function, where random ones may be called or not.
pub fn like(name: &str, random: bool) -> String {
    let random = random::NAMES.iter().copied().filter(|_| random);
    match nearest(name, names().chain(random)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the functions are those of DataFusion that take one row".to_owned(),
    }
}

/// A function of one row.
pub fn scalar(name: &str) -> Option<Arc<ScalarUDF>> {
    SCALARS.get(&name.to_lowercase()).cloned()
}

/// How a function is called: `round(numeric_expression[, decimal_places])`.
pub fn usage(name: &str) -> Option<String> {
    if name.starts_with("json_get") {
        return Some(format!("{name}(text, 'key', 0)"));
    }
    scalar(name)?.documentation().map(|page| page.syntax_example.clone())
}

/// What turns operators and other syntax into functions.
pub fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![
        Arc::new(IntervalPlanner),
        Arc::new(JsonPlanner),
        Arc::new(CoreFunctionPlanner::default()),
        Arc::new(NestedFunctionPlanner),
        Arc::new(FieldAccessPlanner),
        Arc::new(DatetimeFunctionPlanner),
        Arc::new(UnicodeFunctionPlanner),
    ]
}

static SCALARS: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut functions = datafusion_functions::all_default_functions();
    functions.extend(datafusion_functions_nested::all_default_nested_functions());
    functions.retain(|function| !OF_FILES.contains(&function.name()));
    functions.extend(json::functions());
    let mut named = HashMap::new();
    for function in functions.into_iter().map(portable).map(any_digits).map(limited).map(in_micros) {
        for alias in function.aliases() {
            named.insert(alias.to_lowercase(), function.clone());
        }
        named.insert(function.name().to_lowercase(), function);
    }
    named
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_known_in_any_case() {
        assert_eq!(lookup("LN"), Function::OfOneRow);
        assert_eq!(lookup("unnest"), Function::OfOneRow);
        assert_eq!(lookup("lnn"), Function::Unknown);
        assert_eq!(lookup("Count"), Function::OfManyRows);
    }

    #[test]
    fn clocks_and_dice_are_not_replayable() {
        for name in ["now", "current_timestamp", "current_date", "current_time", "today", "random", "uuid"] {
            assert_eq!(lookup(name), Function::NotReplayable, "{name}");
        }
    }

    #[test]
    fn the_only_functions_that_are_refused_are_clocks_and_dice() {
        let mut refused: Vec<_> =
            SCALARS.keys().filter(|name| lookup(name) == Function::NotReplayable).map(String::as_str).collect();
        refused.sort_unstable();
        let clocks = ["current_date", "current_time", "current_timestamp", "now", "rand", "random", "today", "uuid"];
        assert_eq!(refused, clocks);
    }
}
