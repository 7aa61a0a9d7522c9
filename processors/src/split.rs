//! The processor `split`: parts of a stream, by a hash of values or by time.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, Scalar, StringArray, TimestampMicrosecondArray};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::compute::kernels::cmp::lt;
use arrow::compute::{cast, filter_record_batch, is_null};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, Kind, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan, ProcessorSettings,
    Result, Step, Stream, Uses, port_name_problem, require_column, type_name,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::hash::{hash_column, hash_columns, seed};

/// Shares may add up to this much more or less than 1.
const TOLERANCE: f64 = 1e-9;

/// Divides a stream into parts, such as `train` and `test`. Each part leaves by a port of its name (`NAME.train`), or, with
/// `column`, all rows leave by the main port with their part's name in a new column.
///
/// With `by`, a hash of the values of these columns decides: rows with equal values are always in the same part, in
/// every run and on every machine. Null is a value like others. With `before`, time decides: rows before `at` are in the
/// first of two parts, all others in the second, and rows without a time leave by `failed`.
///
/// Others can compute the part of a row. Its hash `h` starts as `seed`, or, without one, as the XXH3 hash (64 bits, seed 0) of
/// the node's name; for each column of `by` in turn, `h` becomes the XXH3 hash (64 bits) with seed `h` of a byte
/// for the type and the value, little-endian: 0 for null, 1 and a byte for booleans, 2 and 8 bytes for integers of any width (3
/// if above the largest int64), 4 and a float64 for floats (-0.0 as 0.0, one NaN), 5, 16 bytes and the scale for decimals, 6 and
/// UTF-8 for text, 7 and the bytes for binary, 8 and 8 bytes for the days of dates, 9 and 10 and 8 bytes for the microseconds of
/// times and timestamps. The row is in the first part whose share, added to those before it, is greater than
/// `floor(h / 2^11) / 2^53`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitSettings {
    /// The columns whose values decide. A column that names the row, such as `id`, gives an even split; one that names a
    /// person keeps all rows of the person together.
    by: Option<Vec<String>>,
    /// Another number gives another split by the same columns; nodes with the same one split alike. Without it, the name of the
    /// node decides, so that splits by the same columns don't depend on each other; a node that is renamed then splits
    /// otherwise, unless `renamed_from` says its former name.
    seed: Option<u64>,
    /// The parts and their shares, which add up to 1: `{ train = 0.8, test = 0.2 }`. With `before`, two names are enough:
    /// `["train", "test"]`.
    parts: Parts,
    /// Names a new column that says each row's part, instead of one port for each part.
    column: Option<String>,
    /// Splits by time instead of values.
    before: Option<Before>,
}

/// The parts, in order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Parts {
    Shares(IndexMap<String, f64>),
    Names(Vec<String>),
}

/// A split by time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Before {
    /// A column of timestamps or dates.
    column: String,
    /// The time at which the second part begins: `2026-01-01`, or `2026-01-01T12:00:00Z`; UTC without an offset.
    at: String,
}

impl Kind for SplitSettings {
    const NAME: &'static str = "split";
    const EXAMPLE: &'static str = r#"by = ["customer"]
parts = { train = 0.8, test = 0.2 }"#;
}

impl ProcessorSettings for SplitSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = inputs.first().map_or_else(|| Arc::new(Schema::empty()), |stream| stream.schema.clone());
        let mut problems = self.parts.problems(self.column.is_none());
        problems.extend(self.column_problem(&schema));
        let rule = self.rule(&schema, seed(self.seed, context)).map_err(|found| problems.extend(found));
        let (Ok(rule), true) = (rule, problems.is_empty()) else {
            return Err(problems);
        };
        let fails = matches!(rule, Rule::Before { .. });
        let exit = self.exit(&schema);
        let uses = vec![Uses::passing_on(self.columns())];
        let ports = exit.ports(&schema);
        Ok(ProcessorPlan { ports, uses, fails, build: Box::new(|| Ok(Box::new(Split { rule, exit }))) })
    }
}

impl Parts {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Shares(shares) => shares.keys().map(String::as_str).collect(),
            Self::Names(names) => names.iter().map(String::as_str).collect(),
        }
    }

    fn problems(&self, are_ports: bool) -> Problems {
        let names = self.names();
        let mut problems = Problems::new();
        if names.is_empty() {
            problems.push(
                Problem::new("there are no parts").help("write `parts = { train = 0.8, test = 0.2 }`").under("parts"),
            );
        }
        for (place, name) in names.iter().enumerate() {
            let step = match self {
                Self::Shares(_) => Step::Name((*name).to_owned()),
                Self::Names(_) => Step::Index(place),
            };
            if are_ports {
                problems.extend(port_name_problem(name).map(|problem| problem.under(step.clone()).under("parts")));
            }
            if names[..place].contains(name) {
                problems.push(Problem::new(format!("there are two parts `{name}`")).under(step).under("parts"));
            }
        }
        problems
    }

    /// The upper bounds of the parts.
    fn bounds(&self) -> Result<Vec<f64>, Problems> {
        let Self::Shares(shares) = self else {
            let help = "write `parts = { train = 0.8, test = 0.2 }`";
            return Err(Problem::new("the parts have no shares").help(help).under("parts").into());
        };
        let mut problems = Problems::new();
        let mut bounds = Vec::new();
        let mut sum = 0.0;
        for (name, share) in shares {
            if !(*share > 0.0 && share.is_finite()) {
                let problem = Problem::new(format!("the share {share} is not greater than 0"));
                problems.push(problem.under(name.as_str()).under("parts"));
            }
            sum += share;
            bounds.push(sum);
        }
        if problems.is_empty() && (sum - 1.0).abs() > TOLERANCE {
            problems.push(Problem::new(format!("the shares add up to {sum} instead of 1")).under("parts"));
        }
        if problems.is_empty() { Ok(bounds) } else { Err(problems) }
    }
}

impl SplitSettings {
    fn rule(&self, schema: &Schema, seed: u64) -> Result<Rule, Problems> {
        match (&self.by, &self.before) {
            (Some(by), None) => self.hash_rule(by, schema, seed),
            (None, Some(before)) => self.time_rule(before, schema),
            (None, None) => Err(Problem::new("nothing says how to split").help("set `by` or `before`").into()),
            (Some(_), Some(_)) => {
                let problem = Problem::new("a split is by values or by time, not both");
                Err(problem.help("leave out `by` or `before`").under("before").into())
            }
        }
    }

    fn hash_rule(&self, by: &[String], schema: &Schema, seed: u64) -> Result<Rule, Problems> {
        let mut problems = Problems::new();
        let columns = hash_columns("by", by, schema).map_err(|found| problems.extend(found));
        let bounds = self.parts.bounds().map_err(|found| problems.extend(found));
        match (bounds, columns) {
            (Ok(bounds), Ok(columns)) => Ok(Rule::Hash { columns, seed, bounds }),
            _ => Err(problems),
        }
    }

    fn time_rule(&self, before: &Before, schema: &Schema) -> Result<Rule, Problems> {
        let mut problems = Problems::new();
        let parts = self.parts.names().len();
        if parts != 2 {
            problems.push(Problem::new(format!("a split by time has 2 parts, and these are {parts}")).under("parts"));
        }
        if let Err(problem) = require_column(&before.column, schema).and_then(has_time) {
            problems.push(problem.under("column").under("before"));
        }
        let at = micros(&before.at).map_err(|problem| problems.push(problem.under("at").under("before")));
        match (schema.index_of(&before.column), at, problems.is_empty()) {
            (Ok(column), Ok(at), true) => Ok(Rule::Before { column, at }),
            _ => Err(problems),
        }
    }

    fn column_problem(&self, schema: &Schema) -> Option<Problem> {
        let name = self.column.as_ref()?;
        let taken = schema.field_with_name(name).is_ok();
        taken.then(|| {
            Problem::new(format!("there is already a column `{name}`")).help("choose another name").under("column")
        })
    }

    fn columns(&self) -> Vec<&str> {
        let by = self.by.iter().flatten().map(String::as_str);
        by.chain(self.before.as_ref().map(|before| before.column.as_str())).collect()
    }

    fn exit(&self, schema: &Schema) -> Exit {
        let names = self.parts.names().into_iter().map(str::to_owned).collect();
        match &self.column {
            None => Exit::Ports(names),
            Some(column) => {
                let field = Arc::new(Field::new(column, DataType::Utf8, false));
                let fields = schema.fields().iter().cloned().chain([field]).collect::<Vec<_>>();
                Exit::Column(names, Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
            }
        }
    }
}

fn has_time(field: &Field) -> Result<(), Problem> {
    match field.data_type() {
        DataType::Timestamp(..) | DataType::Date32 => Ok(()),
        other => {
            let problem = Problem::new(format!("`{}` is {}, not a time", field.name(), type_name(other)));
            Err(problem.help("take a column of timestamps or dates"))
        }
    }
}

/// A time in microseconds since 1970-01-01 UTC.
fn micros(text: &str) -> Result<i64, Problem> {
    let utc: Tz = "UTC".parse().map_err(|error| Problem::new(format!("{error}")))?;
    let time = string_to_datetime(&utc, text).map_err(|_| {
        Problem::new(format!("`{text}` is not a time")).help("write `2026-01-01` or `2026-01-01T12:00:00Z`")
    })?;
    Ok(time.timestamp_micros())
}

/// What decides.
#[derive(Debug)]
enum Rule {
    Hash { columns: Vec<usize>, seed: u64, bounds: Vec<f64> },
    Before { column: usize, at: i64 },
}

/// How rows leave.
#[derive(Debug)]
enum Exit {
    Ports(Vec<String>),
    Column(Vec<String>, SchemaRef),
}

impl Exit {
    fn ports(&self, schema: &SchemaRef) -> Vec<PortPlan> {
        match self {
            Self::Ports(names) => names.iter().map(|name| PortPlan::new(name, schema.clone())).collect(),
            Self::Column(_, schema) => vec![PortPlan::main(schema.clone())],
        }
    }
}

struct Split {
    rule: Rule,
    exit: Exit,
}

impl Processor for Split {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let (rows, parts) = match &self.rule {
            Rule::Hash { columns, seed, bounds } => (batch.rows.clone(), by_hash(&batch.rows, columns, *seed, bounds)),
            Rule::Before { column, at } => by_time(&batch, *column, *at, out)?,
        };
        match &self.exit {
            Exit::Ports(names) => {
                for port in 0..names.len() {
                    let leaves = BooleanArray::from_iter(parts.iter().map(|&part| Some(part == port)));
                    out.push(port, batch.with_rows(filter_record_batch(&rows, &leaves)?));
                }
            }
            Exit::Column(names, schema) => {
                let texts = StringArray::from_iter_values(parts.iter().map(|&part| names[part].as_str()));
                let mut columns = rows.columns().to_vec();
                columns.push(Arc::new(texts));
                out.push(0, batch.with_rows(RecordBatch::try_new(schema.clone(), columns)?));
            }
        }
        Ok(())
    }
}

/// The part of each row.
fn by_hash(rows: &RecordBatch, columns: &[usize], seed: u64, bounds: &[f64]) -> Vec<usize> {
    let mut hashes = vec![seed; rows.num_rows()];
    columns.iter().for_each(|&column| hash_column(&mut hashes, rows.column(column)));
    hashes.into_iter().map(|hash| part_of(hash, bounds)).collect()
}

fn part_of(hash: u64, bounds: &[f64]) -> usize {
    let share = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    // The last bound may be a little less than 1.
    bounds.iter().position(|&bound| share < bound).unwrap_or(bounds.len() - 1)
}

/// The rows that have a time, and the part of each.
fn by_time(batch: &Batch, column: usize, at: i64, out: &mut Collector) -> Result<(RecordBatch, Vec<usize>)> {
    let missing = is_null(batch.rows.column(column))?;
    let rows = if missing.true_count() == 0 {
        batch.rows.clone()
    } else {
        let schema = batch.rows.schema();
        let name = schema.field(column).name();
        out.fail_rows(batch, &missing, |_| format!("`{name}` is null, so the row belongs to no part"))?
    };
    let times = cast(rows.column(column), &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let border = Scalar::new(Arc::new(TimestampMicrosecondArray::from(vec![at])) as ArrayRef);
    let is_before = lt(&times, &border)?;
    Ok((rows, is_before.values().iter().map(|before| usize::from(!before)).collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{Driven, context, drive, parse, stream, table};

    use super::*;

    const USERS: &str = "user:utf8? n:int64
        ada 1\n bob 2\n cyd 3\n dan 4\n eve 5\n fay 6\n gus 7\n hal 8\n ada 9";

    fn run(settings: &str, rows: &RecordBatch) -> Driven {
        let settings: SplitSettings = parse(settings);
        let driven = drive(&settings, &[("from", rows.clone())], 8192);
        for batch_rows in [1, 7] {
            let other = drive(&settings, &[("from", rows.clone())], batch_rows);
            for port in driven.ports.keys() {
                assert_eq!(other.text(port), driven.text(port), "{port} in batches of {batch_rows}");
            }
        }
        driven
    }

    fn problems(settings: &str) -> Vec<String> {
        let schema = table("id:int64? at:timestamp? tags:list<utf8>? name:utf8?\n").schema();
        let problems = parse::<SplitSettings>(settings).plan(&context(), &[stream("from", schema)]).unwrap_err();
        problems.into_iter().map(|problem| problem.message).collect()
    }

    /// The shares of the names are, by Python's `(xxhash.xxh3_64_intdigest(b"\\x06" + name, 7) >> 11) / 2**53`: ada 0.730,
    /// bob 0.582, cyd 0.611, dan 0.849, eve 0.499, fay 0.070, gus 0.791, hal 0.098.
    #[test]
    fn parts_are_those_that_anybody_computes() {
        let settings = "by = ['user']\nseed = 7\nparts = { small = 0.25, middle = 0.45, large = 0.3 }";
        let driven = run(settings, &table(USERS));
        assert_eq!(driven.text("small"), "user:utf8? n:int64\nfay 6\nhal 8\n");
        assert_eq!(driven.text("middle"), "user:utf8? n:int64\nbob 2\ncyd 3\neve 5\n");
        assert_eq!(driven.text("large"), "user:utf8? n:int64\nada 1\ndan 4\ngus 7\nada 9\n");
    }

    #[test]
    fn a_column_can_tell_the_part() {
        let settings = "by = ['user']\nseed = 7\nparts = { train = 0.6, test = 0.4 }\ncolumn = 'part'";
        let driven = run(settings, &table("user:utf8?\n ada\n bob\n null"));
        let text = driven.text("main");
        assert!(text.starts_with("user:utf8? part:utf8\nada test\nbob train\nnull "), "{text}");
    }

    #[test]
    fn shares_are_kept() {
        let ids = (0..10_000).map(|id| format!("\n{id}")).collect::<String>();
        let driven = drive(
            &parse::<SplitSettings>("by = ['id']\nparts = { train = 0.8, test = 0.2 }"),
            &[("from", table(&format!("id:int64{ids}")))],
            1000,
        );
        let test: usize = driven.ports["test"].iter().map(RecordBatch::num_rows).sum();
        assert!((1900..2100).contains(&test), "{test}");
    }

    #[test]
    fn time_splits_at_a_border() {
        let rows = table(
            "id:int64 at:timestamp?
             1 2026-01-31T23:59:59.999999Z
             2 2026-02-01T00:00:00Z
             3 null
             4 2025-01-01T00:00:00Z",
        );
        for at in ["2026-02-01", "2026-02-01T00:00:00Z", "2026-02-01T01:00:00+01:00"] {
            let driven = run(&format!("parts = ['old', 'new']\nbefore = {{ column = 'at', at = '{at}' }}"), &rows);
            assert_eq!(driven.text("old").lines().count(), 3);
            assert!(driven.text("new").contains("2 2026-02-01T00:00:00Z"));
            assert_eq!(driven.failed.len(), 1);
            assert_eq!(driven.failed[0].error, "`at` is null, so the row belongs to no part");
        }
    }

    #[test]
    fn dates_split_too() {
        let rows = table("day:date?\n 2026-01-31\n 2026-02-01\n 1960-01-01");
        let settings =
            "parts = { old = 0.5, new = 0.5 }\nbefore = { column = 'day', at = '2026-02-01' }\ncolumn = 'part'";
        let driven = run(settings, &rows);
        assert_eq!(driven.text("main"), "day:date? part:utf8\n2026-01-31 old\n2026-02-01 new\n1960-01-01 old\n");
    }

    #[test]
    fn problems_are_told_at_once() {
        assert_eq!(problems("parts = { a = 1.0 }"), ["nothing says how to split"]);
        assert_eq!(
            problems("by = ['idd', 'tags']\nparts = { main = 0.5, B = 0.4 }"),
            [
                "no port can be called `main` here",
                "`B` is not a name for a port",
                "there is no column `idd`",
                "`tags` is list<utf8>, whose values have no hash",
                "the shares add up to 0.9 instead of 1",
            ]
        );
        assert_eq!(problems("by = ['id']\nparts = { a = 0.0, b = 1.0 }"), ["the share 0 is not greater than 0"]);
        assert_eq!(problems("by = ['id']\nparts = ['a', 'b']"), ["the parts have no shares"]);
        assert_eq!(
            problems("parts = ['a', 'a', 'b']\ncolumn = 'id'\nbefore = { column = 'name', at = 'soon' }"),
            [
                "there are two parts `a`",
                "there is already a column `id`",
                "a split by time has 2 parts, and these are 3",
                "`name` is utf8, not a time",
                "`soon` is not a time",
            ]
        );
    }

    #[test]
    fn it_looks_at_its_columns_and_passes_all_on() {
        let settings: SplitSettings = parse(SplitSettings::EXAMPLE);
        let plan = settings.plan(&context(), &[stream("from", table("customer:utf8? n:int64\n").schema())]).unwrap();
        assert_eq!(plan.uses, [Uses::passing_on(["customer"])]);
        assert_eq!(plan.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["train", "test"]);
    }
}
