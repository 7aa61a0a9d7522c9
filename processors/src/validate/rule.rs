//! A rule: what is checked of a column, or a condition.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, RecordBatch, Scalar};
use arrow::compute::kernels::cmp::{gt, lt};
use arrow::compute::{is_null, not, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{
    Expression, PlanExpression, Problem, Problems, Result, canonical_floats, require_column, type_name,
};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::convert::shown;
use crate::keys::Keys;
use crate::literal::{self, Literal};
use crate::refused::Refused;

/// A rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// The column that it is about.
    column: Option<String>,
    /// Instead of a column: a condition as behind `WHERE` in an `sql` node, which is broken where it is false. A row for which it
    /// can't be computed fails.
    condition: Option<String>,
    /// Whether there has to be a value.
    #[serde(default)]
    not_null: bool,
    /// The smallest value. Times are written as texts.
    min: Option<Literal>,
    /// The largest value. NaN is larger than any.
    max: Option<Literal>,
    /// The values that there are.
    #[serde(rename = "in")]
    values: Option<Vec<Literal>>,
    /// A regular expression that matches the text somewhere, unless it says `^` and `$`.
    matches: Option<String>,
    /// How many characters a text has, bytes a binary value, items a list.
    length: Option<Length>,
    /// What is said of a row that breaks it, instead of what it has.
    reason: Option<String>,
}

/// How long a value is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Length {
    /// At least.
    min: Option<usize>,
    /// At most.
    max: Option<usize>,
}

impl Rule {
    pub(super) fn is_condition(&self) -> bool {
        self.condition.is_some()
    }

    /// What is checked, one thing after the other. Problems are placed in the rule.
    pub(super) fn plan(
        &self,
        name: &str,
        schema: &SchemaRef,
        expressions: Option<PlanExpression>,
    ) -> Result<Vec<Planned>, Problems> {
        let planned = |check: Check| Planned { name: name.to_owned(), check, reason: self.reason.clone() };
        let checks = match (&self.column, &self.condition) {
            (None, None) => Err(Problem::new("the rule is about no column").help("set `column` or `condition`").into()),
            (Some(_), Some(_)) => {
                let problem = Problem::new("a rule is about a column or is a condition, not both");
                Err(problem.help("leave one of them out").at(["condition"]).into())
            }
            (None, Some(condition)) => self.condition(name, condition, schema, expressions).map(|check| vec![check]),
            (Some(column), None) => self.checks(column, schema),
        }?;
        let mut planned: Vec<Planned> = checks.into_iter().map(planned).collect();
        // One reason is said once.
        if self.reason.is_some() && planned.len() > 1 {
            let checks = planned.into_iter().map(|planned| planned.check).collect();
            planned = vec![Planned { name: name.to_owned(), check: Check::Any(checks), reason: self.reason.clone() }];
        }
        Ok(planned)
    }

    fn condition(
        &self,
        name: &str,
        condition: &str,
        schema: &SchemaRef,
        expressions: Option<PlanExpression>,
    ) -> Result<Check, Problems> {
        let at = |problem: Problem| problem.under("condition");
        if self.not_null
            || self.min.is_some()
            || self.max.is_some()
            || self.values.is_some()
            || self.matches.is_some()
            || self.length.is_some()
        {
            return Err(Problem::new("a condition says all that the other settings do").help("leave them out").into());
        }
        let plan =
            expressions.ok_or_else(|| at(Problem::new("this program was built without a language of expressions")))?;
        let planned =
            plan(name, condition, schema).map_err(|problems| problems.into_iter().map(at).collect::<Problems>())?;
        match planned.data_type() {
            DataType::Boolean => Ok(Check::Condition(planned.into(), condition.to_owned())),
            other => {
                let problem = Problem::new(format!("a condition is `boolean`, and this is `{}`", type_name(other)));
                Err(at(problem.help("compare it with something")).into())
            }
        }
    }

    fn checks(&self, column: &str, schema: &SchemaRef) -> Result<Vec<Check>, Problems> {
        let field = require_column(column, schema).map_err(|problem| problem.at(["column"]))?;
        let place = schema.index_of(column).map_err(|error| Problem::new(error.to_string()))?;
        let mut problems = Problems::new();
        let mut checks = Vec::new();
        if self.not_null {
            checks.push(Check::NotNull(place));
        }
        let mut add = |setting: &'static str, check: Option<Result<Check, Problem>>| match check {
            None => {}
            Some(Ok(check)) => checks.push(check),
            Some(Err(problem)) => problems.push(problem.under(setting)),
        };
        let limit = |literal: &Literal| -> Result<(ArrayRef, String), Problem> {
            Ok((canonical_floats(&literal::values([literal], field)?), literal.text()))
        };
        add(
            "min",
            self.min.as_ref().map(|min| limit(min).map(|(value, text)| Check::Min(place, Scalar::new(value), text))),
        );
        add(
            "max",
            self.max.as_ref().map(|max| limit(max).map(|(value, text)| Check::Max(place, Scalar::new(value), text))),
        );
        add("in", self.values.as_ref().map(|values| values_of(place, values, field, schema)));
        add("matches", self.matches.as_ref().map(|pattern| matches(place, pattern, field)));
        add("length", self.length.map(|length| length_of(place, length, field)));
        if checks.is_empty() && problems.is_empty() {
            problems.push(
                Problem::new("the rule says nothing").help("set `not_null`, `min`, `max`, `in`, `matches` or `length`"),
            );
        }
        if problems.is_empty() { Ok(checks) } else { Err(problems) }
    }
}

fn values_of(place: usize, values: &[Literal], field: &Field, schema: &SchemaRef) -> Result<Check, Problem> {
    let first = |problems: Problems| {
        problems.into_iter().next().unwrap_or_else(|| Problem::new("the values can't be compared"))
    };
    let keys = Keys::ordered(vec![(place, Default::default())], schema).map_err(first)?;
    let rows = keys.of_values(&[literal::values(values, field)?]).map_err(|error| Problem::new(error.to_string()))?;
    let set = rows.iter().map(|row| row.data().into()).collect();
    Ok(Check::In(place, keys, Arc::new(set)))
}

fn matches(place: usize, pattern: &str, field: &Field) -> Result<Check, Problem> {
    if *field.data_type() != DataType::Utf8 {
        return Err(Problem::new(format!("`{}` is {}, not a text", field.name(), type_name(field.data_type()))));
    }
    let regex = Regex::new(pattern).map_err(|error| {
        let text = error.to_string();
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        Problem::new(format!("the pattern can't be used: {}", last.strip_prefix("error: ").unwrap_or(last)))
    })?;
    Ok(Check::Matches(place, regex))
}

fn length_of(place: usize, length: Length, field: &Field) -> Result<Check, Problem> {
    match (length, field.data_type()) {
        (Length { min: None, max: None }, _) => {
            Err(Problem::new("the length has no limit").help("such as `{ max = 10 }`"))
        }
        (_, DataType::Utf8 | DataType::Binary | DataType::List(_)) => {
            Ok(Check::Length(place, length.min.unwrap_or(0), length.max.unwrap_or(usize::MAX)))
        }
        (_, other) => Err(Problem::new(format!("`{}` is {}, which has no length", field.name(), type_name(other)))),
    }
}

/// One thing that is checked.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    name: String,
    check: Check,
    reason: Option<String>,
}

#[derive(Debug, Clone)]
enum Check {
    NotNull(usize),
    Min(usize, Scalar<ArrayRef>, String),
    Max(usize, Scalar<ArrayRef>, String),
    In(usize, Keys, Arc<BTreeSet<Box<[u8]>>>),
    Matches(usize, Regex),
    Length(usize, usize, usize),
    Condition(Arc<dyn Expression>, String),
    Any(Vec<Check>),
}

impl Planned {
    /// The columns that are looked at.
    pub(super) fn columns(&self, schema: &Schema) -> Vec<String> {
        self.check.columns(schema)
    }

    /// The rows that break the rule. Those for which that can't be told are refused.
    pub(super) fn broken(&self, rows: &RecordBatch, refused: &mut Refused) -> Result<BooleanArray> {
        self.check.broken(rows, &self.name, refused)
    }

    /// What is wrong with a row that breaks it.
    pub(super) fn reason(&self, rows: &RecordBatch, row: usize) -> String {
        match &self.reason {
            Some(reason) => format!("{}: {reason}", self.name),
            None => format!("{}: {}", self.name, self.check.complaint(rows, row)),
        }
    }
}

impl Check {
    fn columns(&self, schema: &Schema) -> Vec<String> {
        match self {
            Self::Condition(expression, _) => expression.columns().iter().cloned().collect(),
            Self::Any(checks) => checks.iter().flat_map(|check| check.columns(schema)).collect(),
            Self::NotNull(place)
            | Self::Min(place, ..)
            | Self::Max(place, ..)
            | Self::In(place, ..)
            | Self::Matches(place, _)
            | Self::Length(place, ..) => {
                vec![schema.field(*place).name().clone()]
            }
        }
    }

    fn broken(&self, rows: &RecordBatch, name: &str, refused: &mut Refused) -> Result<BooleanArray> {
        let broken = match self {
            Self::NotNull(place) => is_null(rows.column(*place))?,
            Self::Min(place, value, _) => lt(&canonical_floats(rows.column(*place)), value as &dyn Datum)?,
            Self::Max(place, value, _) => gt(&canonical_floats(rows.column(*place)), value as &dyn Datum)?,
            Self::In(place, keys, values) => {
                let column = rows.column(*place);
                let keys = keys.of(rows)?;
                keys.iter()
                    .zip(0..)
                    .map(|(key, row)| Some(column.is_valid(row) && !values.contains(key.data())))
                    .collect()
            }
            Self::Matches(place, regex) => {
                rows.column(*place).as_string::<i32>().iter().map(|text| Some(!regex.is_match(text?))).collect()
            }
            Self::Length(place, min, max) => {
                let column = rows.column(*place);
                let is_broken = |row: usize| column.is_valid(row) && !(*min..=*max).contains(&length(column, row));
                (0..rows.num_rows()).map(|row| Some(is_broken(row))).collect()
            }
            Self::Condition(expression, _) => {
                let evaluated = expression.evaluate(rows)?;
                for (row, why) in evaluated.failed {
                    refused.add(row, || format!("{name}: {why}"));
                }
                not(evaluated.values.as_boolean())?
            }
            Self::Any(checks) => {
                let mut any = BooleanArray::from(vec![false; rows.num_rows()]);
                for check in checks {
                    any = arrow::compute::or(&any, &check.broken(rows, name, refused)?)?;
                }
                any
            }
        };
        // Where it can't be told, a rule is not broken.
        Ok(if broken.null_count() > 0 { prep_null_mask_filter(&broken) } else { broken })
    }

    /// What is wrong with a row that breaks it.
    fn complaint(&self, rows: &RecordBatch, row: usize) -> String {
        let column = |place: &usize| (rows.schema_ref().field(*place).name().clone(), rows.column(*place));
        match self {
            Self::NotNull(place) => format!("`{}` is null", column(place).0),
            Self::Min(place, _, min) => {
                let (name, values) = column(place);
                format!("`{name}` is {}, less than {min}", shown(values, row))
            }
            Self::Max(place, _, max) => {
                let (name, values) = column(place);
                format!("`{name}` is {}, more than {max}", shown(values, row))
            }
            Self::In(place, _, values) => {
                let (name, column) = column(place);
                format!("`{name}` is `{}`, which is none of {} values", shown(column, row), values.len())
            }
            Self::Matches(place, regex) => {
                let (name, column) = column(place);
                format!("`{name}` is `{}`, which does not match `{regex}`", shown(column, row))
            }
            Self::Length(place, min, max) => {
                let (name, column) = column(place);
                let length = length(column, row);
                let limit = if length < *min { format!("less than {min}") } else { format!("more than {max}") };
                format!("`{name}` has a length of {length}, {limit}")
            }
            Self::Condition(_, condition) => format!("`{condition}` is false"),
            Self::Any(checks) => checks.first().map(|check| check.complaint(rows, row)).unwrap_or_default(),
        }
    }
}

fn length(column: &ArrayRef, row: usize) -> usize {
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).chars().count(),
        DataType::Binary => column.as_binary::<i32>().value(row).len(),
        _ => column.as_list::<i32>().value_length(row) as usize,
    }
}
