//! The processor `validate`: rows that break rules are told apart, with all their reasons.

mod rule;

use std::sync::Arc;

use arrow::array::builder::{ListBuilder, StringBuilder};
use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::or;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, Kind, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan, ProcessorSettings,
    Result, Stream, Uses,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::rule::{Planned, Rule};
use crate::refused::Refused;

/// Checks rows by rules. A row that breaks some leaves by `failed` with the reasons of all of them, or with `on_violation = "mark"`
/// passes with the reasons in a new column.
///
/// A rule is about a column, or is an SQL condition. Where its column is null, or its condition, it is not broken, as `CHECK` in
/// SQL has it; `not_null` says that there has to be a value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateSettings {
    /// The rules by their names, which reasons begin with: `{ adult = { column = "age", min = 18 } }`.
    rules: IndexMap<String, Rule>,
    /// What becomes of rows that break a rule: they `fail`, or are passed on with a `mark`.
    #[serde(default)]
    on_violation: OnViolation,
    /// With `mark`: the name of the new column, a list of reasons that is empty for good rows; `problems` unless it is set.
    column: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum OnViolation {
    #[default]
    Fail,
    Mark,
}

/// What the column with the reasons is called, unless `column` says otherwise.
const PROBLEMS: &str = "problems";

impl Kind for ValidateSettings {
    const NAME: &'static str = "validate";
    const ALSO_CALLED: &'static [&'static str] = &["check", "assert", "expect", "quality"];
    const EXAMPLE: &'static str = r#"rules.status = { column = "status", not_null = true, min = 100, max = 599 }
rules.country = { column = "country", in = ["AT", "DE", "CH"] }
rules.order = { condition = "delivered >= ordered", reason = "delivered before it was ordered" }"#;
}

impl ProcessorSettings for ValidateSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let (mut rules, mut problems) = (Vec::new(), Problems::new());
        for (name, rule) in &self.rules {
            match rule.plan(name, schema, context.expressions.map(|language| language.expression)) {
                Ok(planned) => rules.extend(planned),
                Err(found) => {
                    problems.extend(found.into_iter().map(|problem| problem.under(name.as_str()).under("rules")))
                }
            }
        }
        if self.rules.is_empty() {
            problems.push(
                Problem::new("there are no rules")
                    .help("such as `rules.adult = { column = \"age\", min = 18 }`")
                    .at(["rules"]),
            );
        }
        let marked = self.marked(schema).map_err(|problem| problems.push(problem)).unwrap_or_default();
        if !problems.is_empty() {
            return Err(problems);
        }
        let looked_at: Vec<String> = rules.iter().flat_map(|rule| rule.columns(schema)).collect();
        let ports = vec![PortPlan::main(marked.clone().unwrap_or_else(|| schema.clone()))];
        let validate = Validate { rules: rules.into(), marked, schema: schema.clone() };
        let uses = vec![Uses::passing_on(looked_at)];
        let fails = self.on_violation == OnViolation::Fail || self.rules.values().any(Rule::is_condition);
        Ok(ProcessorPlan { ports, uses, fails, build: Box::new(|| Ok(Box::new(validate))) })
    }
}

impl ValidateSettings {
    /// The columns with the one of the reasons, if there is one.
    fn marked(&self, schema: &SchemaRef) -> Result<Option<SchemaRef>, Problem> {
        if self.on_violation == OnViolation::Fail {
            return match &self.column {
                None => Ok(None),
                Some(_) => {
                    let problem = Problem::new("`column` only means something with `on_violation = \"mark\"`");
                    Err(problem.at(["column"]))
                }
            };
        }
        let name = self.column.as_deref().unwrap_or(PROBLEMS);
        if schema.field_with_name(name).is_ok() {
            let problem = Problem::new(format!("there is a column `{name}` already"));
            return Err(problem.help("choose another name").at(["column"]));
        }
        let item = Field::new("item", DataType::Utf8, false);
        let field = Arc::new(Field::new(name, DataType::List(Arc::new(item)), false));
        let fields: Vec<_> = schema.fields().iter().cloned().chain([field]).collect();
        Ok(Some(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))))
    }
}

struct Validate {
    rules: Arc<[Planned]>,
    /// The columns with that of the reasons, if rows are marked.
    marked: Option<SchemaRef>,
    schema: SchemaRef,
}

/// What came of the rules for a batch.
struct Checked<'a> {
    /// The rules that some rows break, and which ones.
    broken: Vec<(&'a Planned, BooleanArray)>,
    /// The rows that break one.
    any: Option<BooleanArray>,
}

impl Checked<'_> {
    /// Why a row is bad.
    fn reasons<'b>(&'b self, batch: &'b Batch, row: usize) -> impl Iterator<Item = String> + 'b {
        self.broken.iter().filter(move |(_, rows)| rows.value(row)).map(move |(rule, _)| rule.reason(&batch.rows, row))
    }

    fn rows(&self) -> impl Iterator<Item = usize> {
        self.any.iter().flat_map(|rows| rows.values().set_indices())
    }
}

impl Validate {
    fn check(&self, batch: &Batch, refused: &mut Refused) -> Result<Checked<'_>> {
        let (mut broken, mut any) = (Vec::new(), None);
        for rule in self.rules.iter() {
            let rows = rule.broken(&batch.rows, refused)?;
            if rows.true_count() > 0 {
                any = Some(any.map_or_else(|| Ok(rows.clone()), |any| or(&any, &rows))?);
                broken.push((rule, rows));
            }
        }
        Ok(Checked { broken, any })
    }

    /// The reasons of all rows, as a column.
    fn marks(checked: &Checked<'_>, batch: &Batch) -> ArrayRef {
        let item = Field::new("item", DataType::Utf8, false);
        let mut marks = ListBuilder::with_capacity(StringBuilder::new(), batch.len()).with_field(item);
        let mut bad = checked.rows().peekable();
        for row in 0..batch.len() {
            if bad.next_if_eq(&row).is_some() {
                checked.reasons(batch, row).for_each(|reason| marks.values().append_value(reason));
            }
            marks.append(true);
        }
        Arc::new(marks.finish())
    }
}

impl Processor for Validate {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let mut refused = Refused::default();
        let checked = self.check(&batch, &mut refused)?;
        let mut columns = batch.rows.columns().to_vec();
        if self.marked.is_some() {
            columns.push(Self::marks(&checked, &batch));
        } else {
            checked.rows().for_each(|row| {
                refused.add(row, || checked.reasons(&batch, row).collect::<Vec<_>>().join("; "));
            });
        }
        let rows = refused.sift(&batch, self.marked.as_ref().unwrap_or(&self.schema), columns, out)?;
        out.push(0, batch.with_rows(rows));
        Ok(())
    }

    fn lane(&self) -> Option<Box<dyn Processor>> {
        let (rules, marked, schema) = (self.rules.clone(), self.marked.clone(), self.schema.clone());
        Some(Box::new(Self { rules, marked, schema }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{context, drive, parse, stream, table};

    use super::*;

    fn validated(settings: &str, rows: &str) -> (String, Vec<String>) {
        let settings: ValidateSettings = parse(settings);
        let rows = table(rows);
        let whole = drive(&settings, &[("from", rows.clone())], 8192);
        for batch_rows in [1, 2] {
            let other = drive(&settings, &[("from", rows.clone())], batch_rows);
            assert_eq!((other.text("main"), &other.failed), (whole.text("main"), &whole.failed));
        }
        (whole.text("main"), whole.failed.into_iter().map(|row| row.error).collect())
    }

    #[test]
    fn rows_fail_with_all_their_reasons() {
        let settings = "rules.adult = { column = 'age', not_null = true, min = 18, max = 120 }\n\
                        rules.country = { column = 'country', in = ['AT', 'DE'] }\n\
                        rules.code = { column = 'code', matches = '^[a-z]+$', length = { min = 2, max = 4 }, reason = 'no code' }";
        let rows =
            "age:int64? country:utf8? code:utf8?\n 20 AT abc\n 17 DE ab\n null FR a\n 121 null ABCDE\n 18 AT null";
        let (text, failed) = validated(settings, rows);
        assert_eq!(text, "age:int64? country:utf8? code:utf8?\n20 AT abc\n18 AT null\n");
        let expected = [
            "adult: `age` is 17, less than 18",
            "adult: `age` is null; country: `country` is `FR`, which is none of 2 values; code: no code",
            "adult: `age` is 121, more than 120; code: no code",
        ];
        assert_eq!(failed, expected);
    }

    #[test]
    fn rows_are_marked() {
        let settings = "on_violation = 'mark'\nrules.n = { column = 'n', min = 0, max = 1.5 }\nrules.x = { column = 'n', in = [0, 1, -1] }";
        let rows = "n:float64?\n 1\n -0.0\n 2\n NaN\n null\n -1";
        let expected = "n:float64? problems:list<utf8>\n1.0 []\n-0.0 []\n\
                        2.0 \"[n: `n` is 2.0, more than 1.5, x: `n` is `2.0`, which is none of 3 values]\"\n\
                        NaN \"[n: `n` is NaN, more than 1.5, x: `n` is `NaN`, which is none of 3 values]\"\n\
                        null []\n-1.0 \"[n: `n` is -1.0, less than 0]\"\n";
        assert_eq!(validated(settings, rows), (expected.to_owned(), vec![]));
    }

    #[test]
    fn texts_times_and_lengths_have_limits() {
        let settings = "rules.at = { column = 'at', min = '2026-01-01T00:00:00Z' }\nrules.t = { column = 't', length = { max = 2 } }";
        let rows = "at:timestamp t:utf8\n 2026-01-01T00:00:00Z öä\n 2025-12-31T23:59:59Z öäü";
        let (text, failed) = validated(settings, rows);
        assert_eq!(text, "at:timestamp t:utf8\n2026-01-01T00:00:00Z öä\n");
        let at = "at: `at` is 2025-12-31T23:59:59Z, less than 2026-01-01T00:00:00Z";
        assert_eq!(failed, [format!("{at}; t: `t` has a length of 3, more than 2")]);
    }

    #[test]
    fn what_cannot_be_is_found_while_it_is_planned() {
        let streams = [stream("from", table("a:int64 b:utf8\n").schema())];
        let problem = |settings: &str| {
            let problems = parse::<ValidateSettings>(settings).plan(&context(), &streams).unwrap_err();
            problems[0].message.clone()
        };
        assert_eq!(problem("rules = {}"), "there are no rules");
        assert_eq!(problem("rules.x = { column = 'c', min = 1 }"), "there is no column `c`");
        assert_eq!(problem("rules.x = { column = 'a' }"), "the rule says nothing");
        assert_eq!(problem("rules.x = { min = 1 }"), "the rule is about no column");
        assert_eq!(problem("rules.x = { column = 'a', min = 'x' }"), "`x` is not an `int64`, as `a` is");
        assert_eq!(problem("rules.x = { column = 'a', matches = 'x' }"), "`a` is int64, not a text");
        assert_eq!(problem("rules.x = { column = 'b', matches = '(' }"), "the pattern can't be used: unclosed group");
        assert_eq!(problem("rules.x = { column = 'a', length = { min = 1 } }"), "`a` is int64, which has no length");
        assert_eq!(
            problem("column = 'p'\nrules.x = { column = 'a', min = 1 }"),
            "`column` only means something with `on_violation = \"mark\"`"
        );
        assert_eq!(
            problem("rules.x = { condition = 'a > 1' }"),
            "this program was built without a language of expressions"
        );
    }
}
