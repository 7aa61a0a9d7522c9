//! One aggregate: from `"avg(amount) FILTER (WHERE paid)"` to an accumulator and what it is fed with.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat, filter, filter_record_batch, interleave, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value,
};
use millstream_core::{Problem, Problems, Result, ResultExt, canonical_floats, known_names, type_name};

use super::accumulator::{Accumulator, Count, Rows};
use super::distinct::Distinct;
use super::ends::{End, Ends};
use super::extreme::{self, Which};
use super::moments::{Moments, Spread};
use super::quantile::Quantile;
use super::total::{self, Of};
use crate::plan::{INPUT, Planner};
use crate::program::Program;
use crate::text::{Text, within};
use crate::{diagnose, parse, refuse};

/// The functions that there are, each with its other names behind it.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("count", &[]),
    ("sum", &[]),
    ("avg", &["mean"]),
    ("min", &[]),
    ("max", &[]),
    ("stddev", &["stddev_samp"]),
    ("stddev_pop", &[]),
    ("var", &["var_samp", "variance"]),
    ("var_pop", &[]),
    ("first_value", &["first"]),
    ("last_value", &["last"]),
    ("quantile", &["approx_percentile_cont"]),
];

/// One aggregate.
pub struct Aggregate {
    /// The column that it gives.
    pub field: Field,
    /// The columns that it may look at.
    pub columns: BTreeSet<String>,
    argument: Option<Program>,
    condition: Option<Program>,
    /// Whether values are compared: floats with one NaN and one zero.
    compares: bool,
    pub accumulator: Box<dyn Accumulator>,
}

/// What an aggregate is fed with.
pub struct Arguments {
    values: ArrayRef,
    condition: Option<BooleanArray>,
}

impl Arguments {
    /// Values, and which of them count.
    pub fn new(values: ArrayRef, condition: Option<BooleanArray>) -> Self {
        Self { values, condition }
    }

    /// The values.
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    /// What several hold, one behind the other.
    pub fn concat(several: &[&Self]) -> Result<Self> {
        let values: Vec<&dyn Array> = several.iter().map(|arguments| arguments.values.as_ref()).collect();
        let conditions: Option<Vec<&dyn Array>> = several
            .iter()
            .map(|arguments| arguments.condition.as_ref().map(|condition| condition as &dyn Array))
            .collect();
        let condition = conditions.map(|conditions| concat(&conditions)).transpose()?;
        Ok(Self { values: concat(&values)?, condition: condition.map(|condition| condition.as_boolean().clone()) })
    }

    /// What several hold at some places, each the number of one of them and a row.
    pub fn gather(several: &[&Self], places: &[(usize, usize)]) -> Result<Self> {
        let values: Vec<&dyn Array> = several.iter().map(|arguments| arguments.values.as_ref()).collect();
        let conditions: Option<Vec<&dyn Array>> = several
            .iter()
            .map(|arguments| arguments.condition.as_ref().map(|condition| condition as &dyn Array))
            .collect();
        let condition = conditions.map(|conditions| interleave(&conditions, places)).transpose()?;
        Ok(Self { values: interleave(&values, places)?, condition: condition.map(|all| all.as_boolean().clone()) })
    }

    /// The values and the condition, as columns to be kept.
    pub fn into_columns(self) -> [ArrayRef; 2] {
        let rows = self.values.len();
        let condition = self.condition.map(|condition| Arc::new(condition) as ArrayRef);
        [self.values, condition.unwrap_or_else(|| new_null_array(&DataType::Boolean, rows))]
    }

    /// What was kept as columns. A condition is either there for all rows or for none.
    pub fn of_columns(columns: &[ArrayRef]) -> Self {
        let condition = columns.get(1).and_then(|column| column.as_boolean_opt()).filter(|all| all.null_count() == 0);
        Self { values: columns[0].clone(), condition: condition.cloned() }
    }

    /// That of some neighbouring rows.
    pub fn slice(&self, start: usize, length: usize) -> Self {
        let condition = self.condition.as_ref().map(|condition| condition.slice(start, length));
        Self { values: self.values.slice(start, length), condition }
    }

    /// That of the rows that `mask` marks.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        let condition = self.condition.as_ref().map(|condition| filter(condition, mask)).transpose()?;
        let condition = condition.map(|condition| condition.as_boolean().clone());
        Ok(Self { values: filter(&self.values, mask)?, condition })
    }
}

impl Aggregate {
    /// Plans an aggregate over rows of `schema`. Problems have their place within the text.
    pub fn new(name: &str, text: &str, schema: &SchemaRef) -> Result<Self, Problems> {
        let text = Text::over(text, schema)?;
        let syntax =
            parse::expression(&text, "an aggregate").map_err(|problem| text.advising_quotes(problem, schema))?;
        let call = call(syntax, &text)?;
        let mut refused = Problems::new();
        let parts = call.argument.iter().chain(&call.condition);
        parts.for_each(|part| refused.extend(refuse::refusals(part, &text, &[INPUT])));
        if !refused.is_empty() {
            return Err(refused);
        }
        let plan = |expression: &Expr| plan(expression, schema, &text);
        let argument = call.argument.as_ref().map(plan).transpose()?;
        let condition = call.condition.as_ref().map(plan).transpose()?;
        if let Some(condition) = &condition
            && !matches!(result(condition).data_type(), DataType::Boolean | DataType::Null)
        {
            return Err(diagnose::not_boolean(&type_name(result(condition).data_type())).into());
        }
        let values = argument.as_ref().map_or(DataType::Int64, |argument| result(argument).data_type().clone());
        let (data_type, accumulator) = call.accumulator(&values, &text)?;
        let field = Field::new(name, data_type, call.function != "count");
        let compares = call.distinct || ["min", "max"].contains(&call.function);
        Ok(Self { field, columns: text.mentions(schema), argument, condition, compares, accumulator })
    }

    /// The type of what it is fed with.
    pub fn argument_type(&self) -> DataType {
        self.argument.as_ref().map_or(DataType::Int64, |argument| result(argument).data_type().clone())
    }

    /// Computes what the rows feed it with. The error is why at least one of them failed.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<Arguments, String> {
        let condition = self.condition.as_ref().map(|condition| column(condition, rows)).transpose()?;
        // NULL as a condition has no boolean type.
        let none = || BooleanArray::from(vec![false; rows.num_rows()]);
        let condition = condition.map(|condition| condition.as_boolean_opt().cloned().unwrap_or_else(none));
        // Null is not true.
        let condition = condition.map(|condition| match condition.null_count() {
            0 => condition,
            _ => prep_null_mask_filter(&condition),
        });
        let values = match &self.argument {
            Some(argument) => argument_values(argument, condition.as_ref(), rows)?,
            None => Arc::new(Int64Array::from(vec![0; rows.num_rows()])),
        };
        let values = if self.compares { canonical_floats(&values) } else { values };
        Ok(Arguments { values, condition })
    }

    /// Takes rows in.
    pub fn update(&mut self, arguments: &Arguments, rows: Rows<'_>) -> Result<()> {
        let Some(condition) = &arguments.condition else { return self.accumulator.update(&arguments.values, rows) };
        let values = filter(&arguments.values, condition)?;
        let passes = |row: &usize| condition.is_valid(*row) && condition.value(*row);
        let kept: Vec<usize> = (0..rows.slots.len()).filter(passes).collect();
        let slots: Vec<u32> = kept.iter().map(|row| rows.slots[*row]).collect();
        let times: Vec<i64> = kept.iter().map(|row| rows.times[*row]).collect();
        self.accumulator.update(&values, Rows { slots: &slots, times: &times })
    }
}

/// A call, taken apart.
struct Call {
    /// The first of the function's names.
    function: &'static str,
    argument: Option<Expr>,
    distinct: bool,
    condition: Option<Expr>,
    /// The second argument of `quantile`.
    share: Option<f64>,
}

impl Call {
    /// The type of the result, and what computes it.
    fn accumulator(&self, values: &DataType, text: &Text) -> Result<(DataType, Box<dyn Accumulator>), Problem> {
        let wrong = || {
            let problem = Problem::new(format!("`{}` does not take {}", self.function, type_name(values)));
            within(problem.help("bring it to a number by CAST"), text.name(self.function))
        };
        let failed = |error: millstream_core::Error| Problem::new(error.to_string());
        let float: DataType = DataType::Float64;
        let numeric = values.is_numeric() || matches!(values, DataType::Null);
        Ok(match self.function {
            "count" if self.distinct => (DataType::Int64, Box::new(Distinct::new(values).map_err(failed)?)),
            "count" => (DataType::Int64, Box::new(Count::default())),
            "sum" | "avg" => {
                let of = if self.function == "sum" { Of::Sum } else { Of::Mean };
                let result = total::result_type(of, values).ok_or_else(wrong)?;
                (result.clone(), total::new(of, values, result))
            }
            "min" => (values.clone(), extreme::new(Which::Least, values).map_err(failed)?),
            "max" => (values.clone(), extreme::new(Which::Most, values).map_err(failed)?),
            "first_value" => (values.clone(), Box::new(Ends::new(End::First, values).map_err(failed)?)),
            "last_value" => (values.clone(), Box::new(Ends::new(End::Last, values).map_err(failed)?)),
            _ if !numeric => return Err(wrong()),
            "quantile" => (float, Box::new(Quantile::new(self.share.unwrap_or(0.5)))),
            function => {
                let spread = Spread { population: function.ends_with("_pop"), root: function.starts_with("stddev") };
                (float, Box::new(Moments::new(spread)))
            }
        })
    }
}

/// Takes a call of an aggregate function apart.
fn call(expression: Expr, text: &Text) -> Result<Call, Problem> {
    let Expr::Function(call) = expression else {
        let problem = Problem::new("this is no aggregate");
        return Err(problem.help("write one call, such as `sum(amount)`; an `sql` node behind can compute with it"));
    };
    let called = call.name.to_string().to_lowercase();
    let is_called = |(name, others): &&(&'static str, &[&str])| *name == called || others.contains(&called.as_str());
    let Some((function, _)) = FUNCTIONS.iter().find(is_called) else {
        let names = FUNCTIONS.iter().map(|(name, _)| *name);
        let problem = Problem::new(format!("there is no aggregate `{called}`")).help(known_names(&called, names));
        return Err(within(problem, text.name(&called)));
    };
    let odd = |what: &str| {
        let problem = Problem::new(format!("`{what}` can't stand in an aggregate"));
        Err(within(problem, text.name(what.split(' ').next().unwrap_or_default())))
    };
    let Function { args, filter, null_treatment, over, within_group, .. } = call;
    match () {
        () if over.is_some() => return odd("OVER"),
        () if !within_group.is_empty() => return odd("WITHIN GROUP"),
        () if null_treatment.is_some() => return odd("NULLS"),
        () => {}
    }
    let FunctionArguments::List(list) = args else { return Err(usage(function, text)) };
    if !list.clauses.is_empty() {
        return odd("ORDER BY");
    }
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    if distinct && *function != "count" {
        let problem = Problem::new(format!("`{function}` does not take DISTINCT")).help("only `count` does");
        return Err(within(problem, text.name("DISTINCT")));
    }
    let mut arguments = list.args.into_iter().map(|argument| match argument {
        FunctionArg::Unnamed(argument) => Some(argument),
        FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => None,
    });
    let (first, second, third) = (arguments.next().flatten(), arguments.next().flatten(), arguments.next());
    let argument = match first {
        Some(FunctionArgExpr::Wildcard) if *function == "count" && !distinct => None,
        Some(FunctionArgExpr::Expr(argument)) => Some(argument),
        _ => return Err(usage(function, text)),
    };
    let share = second.as_ref().map(|second| share(second).ok_or_else(|| usage(function, text))).transpose()?;
    if third.is_some() || share.is_some() != (*function == "quantile") {
        return Err(usage(function, text));
    }
    Ok(Call { function, argument, distinct, condition: filter.map(|condition| *condition), share })
}

fn usage(function: &str, text: &Text) -> Problem {
    let problem = Problem::new(format!("`{function}` is not called like that"));
    let usage = match function {
        "count" => "`count(*)`, `count(amount)`, `count(DISTINCT country)`".to_owned(),
        "quantile" => "`quantile(amount, 0.9)`, with a number from 0 to 1".to_owned(),
        other => format!("`{other}(amount)`"),
    };
    within(problem.help(format!("write {usage}")), text.name(function))
}

fn share(argument: &FunctionArgExpr) -> Option<f64> {
    let FunctionArgExpr::Expr(expression) = argument else { return None };
    let number = match expression {
        Expr::Value(value) => value,
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => match expr.as_ref() {
            Expr::Value(value) => value,
            _ => return None,
        },
        _ => return None,
    };
    let Value::Number(digits, _) = &number.value else { return None };
    digits.to_string().parse().ok().filter(|share| (0.0..=1.0).contains(share))
}

fn plan(expression: &Expr, schema: &SchemaRef, text: &Text) -> Result<Program, Problems> {
    let planned = Planner::new(schema.clone(), INPUT).expression(expression.clone(), "value");
    planned.and_then(|plan| Program::new(&plan)).map_err(|error| diagnose::problems(&error, text))
}

fn result(program: &Program) -> &Field {
    program.schema().field(0)
}

/// The values of an argument. Where it fails, it is computed for the rows alone that pass the condition, which guards it; the
/// others have null.
fn argument_values(
    argument: &Program,
    condition: Option<&BooleanArray>,
    rows: &RecordBatch,
) -> Result<ArrayRef, String> {
    match (column(argument, rows), condition) {
        (Err(_), Some(condition)) => {
            let kept = filter_record_batch(rows, condition).map_err(|error| error.to_string())?;
            if kept.num_rows() == 0 {
                return Ok(new_null_array(result(argument).data_type(), rows.num_rows()));
            }
            let mut next = 0;
            let place = |passes: bool| {
                passes.then(|| {
                    next += 1;
                    next - 1
                })
            };
            let places: UInt32Array = condition.values().iter().map(place).collect();
            take(&column(argument, &kept)?, &places, None).map_err(|error| error.to_string())
        }
        (values, _) => values,
    }
}

/// The one column that a program computes.
pub fn column(program: &Program, rows: &RecordBatch) -> Result<ArrayRef, String> {
    let computed = program.run(rows)?;
    computed.map(|rows| rows.column(0).clone()).ok_or_else(|| "there are no rows".to_owned())
}

/// The results of all aggregates for some slots.
pub fn finish(aggregates: &[Aggregate], slots: &[u32]) -> Result<Vec<ArrayRef>> {
    let finish = |aggregate: &Aggregate| {
        let name = aggregate.field.name();
        let values = aggregate.accumulator.finish(slots).doing(|| format!("computing `{name}`"))?;
        Ok(canonical_floats(&values))
    };
    aggregates.iter().map(finish).collect()
}
