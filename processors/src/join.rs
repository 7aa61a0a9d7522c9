//! The processor `join`: columns of a table for the rows of a stream.

mod on;
mod streams;
mod table;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, UInt32Builder};
use arrow::compute::{filter, filter_record_batch, is_not_null, is_null, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use millstream_core::{
    Batch, ByteSize, Collector, Duration, Error, Kind, Order, Parts, PlanContext, PortPlan, PortTime, Problem,
    Problems, Processor, ProcessorPlan, ProcessorSettings, Result, Snapshot, State, Stream, Uses, require_column,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::on::{Keys, On};
use self::streams::Streams;
use self::table::{Side, Table};
use crate::rows::BATCH_ROWS;

/// Joins a stream with a table: another stream that ends, which is read to its end first and kept in memory. With
/// `within`, it joins two streams whose rows meet if their event times are near, such as predictions with the true
/// values that come later.
///
/// Rows keep the order of `from`. A row that has several matches comes out once for each, in the order of `with`. Keys are
/// compared as they are: text by its bytes, integers of any width by value, other columns must have the same type on both
/// sides. Null matches nothing, not even null; NaN matches NaN, and -0.0 matches 0.0.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinSettings {
    /// The columns that must be equal: `["code"]`, or `{ country = "code" }` where they have other names in `with`.
    on: On,
    /// `left` (the default): all rows, with nulls where there is no match. `inner`: rows with a match. `semi`: rows with a
    /// match, once each and without new columns. `anti`: rows without a match.
    #[serde(default)]
    kind: JoinKind,
    /// The columns of `with` that are added; all but the key unless set.
    take: Option<Vec<String>>,
    /// How much of `with` may be kept in memory. A larger one stops the flow.
    #[serde(default = "max_bytes")]
    max_bytes: ByteSize,
    /// Joins two streams: rows meet if their event times are at most so far from each other, such as `"10m"`. Both
    /// inputs need `event_time`. A pair leaves when the second of the two has come; a row without a match when none can
    /// come any more. Rows behind the watermark leave by the ports `late` and `late_with`.
    within: Option<Duration>,
    /// With `within`: how many rows of each side may be kept at a time; one more leaves by the port `failed`.
    #[serde(default = "max_rows")]
    #[schemars(range(min = 1))]
    max_rows: usize,
}

fn max_rows() -> usize {
    1_000_000
}

fn max_bytes() -> ByteSize {
    ByteSize(256 << 20)
}

/// Which rows leave.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum JoinKind {
    #[default]
    Left,
    Inner,
    Semi,
    Anti,
}

impl JoinKind {
    fn adds_columns(self) -> bool {
        matches!(self, Self::Left | Self::Inner)
    }
}

impl Kind for JoinSettings {
    const NAME: &'static str = "join";
    const ALSO_CALLED: &'static [&'static str] = &["lookup", "enrich"];
    const EXAMPLE: &'static str = r#"on = { country = "code" }
take = ["continent"]"#;
    const FREE_SETTINGS: &'static [&'static str] = &["max_bytes", "max_rows"];
    const SIDE_INPUT: Option<&'static str> = Some("with");
}

impl ProcessorSettings for JoinSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let [from, with] = inputs else {
            return Err(Problem::new("a join needs `from` and `with`").into());
        };
        let mut problems = Problems::new();
        let keys = self.on.plan(&from.schema, &with.schema).map_err(|found| problems.extend(found));
        let taken = self.taken(&from.schema, &with.schema).map_err(|found| problems.extend(found));
        let (Ok(keys), Ok(taken)) = (keys, taken) else {
            return Err(problems);
        };
        let mut uses = vec![Uses::passing_on(self.on.names().map(|(left, _)| left)), self.side_uses()];
        if let Some(within) = self.within {
            let within = within.span().map_err(|problem| problem.at(["within"]))?;
            for (uses, stream) in uses.iter_mut().zip([from, with]) {
                uses.columns.iter_mut().for_each(|columns| columns.extend(stream.event_time.clone()));
                // Rows that come late are passed on.
                uses.passes_on = true;
            }
            return self.plan_streams(within, from, with, keys, taken, uses);
        }
        let side = Side::new(&with.schema, &keys.right, &taken)?;
        let schema = self.schema(&from.schema, &with.schema, &taken);
        let ports = vec![PortPlan::main(schema.clone())];
        let join = Join {
            kind: self.kind,
            left: keys.left,
            types: keys.types,
            schema,
            side,
            limit: self.max_bytes,
            table: None,
            rest: None,
        };
        Ok(ProcessorPlan { ports, uses, fails: false, build: Box::new(|| Ok(Box::new(join))) })
    }

    fn order(&self) -> Order {
        if self.within.is_some() { Order::EventTime } else { Order::Automatic }
    }
}

impl JoinSettings {
    /// The plan for two streams.
    fn plan_streams(
        &self,
        within: i64,
        from: &Stream,
        with: &Stream,
        keys: Keys,
        taken: Vec<usize>,
        uses: Vec<Uses>,
    ) -> Result<ProcessorPlan, Problems> {
        let mut problems = Problems::new();
        let [left, right] =
            [from, with].map(|stream| stream.require_event_time().map_err(|problem| problems.push(problem)));
        let (Ok(left), Ok(right)) = (left, right) else { return Err(problems) };
        let schema = self.schema(&from.schema, &with.schema, &taken);
        let ports = vec![
            PortPlan::main(schema.clone()),
            PortPlan::side("late", from.schema.clone()),
            PortPlan::side("late_with", with.schema.clone()).with_event_time(PortTime::None),
        ];
        let all = (0..from.schema.fields().len()).collect();
        let sides = [(keys.left, left, all), (keys.right, right, taken)];
        let streams = Streams::new(self.kind, within, self.max_rows, schema, keys.types, sides);
        let streams = streams.map_err(|error| Problem::new(error.to_string()))?;
        Ok(ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(streams))) })
    }

    /// The columns of `with` that are added.
    fn taken(&self, from: &Schema, with: &Schema) -> Result<Vec<usize>, Problems> {
        let Some(names) = &self.take else {
            return if self.kind.adds_columns() { self.all_but_keys(from, with) } else { Ok(Vec::new()) };
        };
        if !self.kind.adds_columns() {
            let problem = Problem::new("this kind of join adds no columns")
                .help("leave out `take`, or join by `left` or `inner`");
            return Err(problem.under("take").into());
        }
        let mut taken = Vec::new();
        let mut problems = Problems::new();
        for (place, name) in names.iter().enumerate() {
            let problem = match require_column(name, with) {
                Err(problem) => Some(problem),
                Ok(_) if names[..place].contains(name) => Some(Problem::new(format!("`{name}` is taken twice"))),
                Ok(_) => collision(name, from),
            };
            problems.extend(problem.map(|problem| problem.under(place).under("take")));
            taken.extend(with.index_of(name).ok());
        }
        if problems.is_empty() { Ok(taken) } else { Err(problems) }
    }

    fn all_but_keys(&self, from: &Schema, with: &Schema) -> Result<Vec<usize>, Problems> {
        let is_key = |name: &str| self.on.names().any(|(_, right)| right == name);
        let fields = with.fields().iter().enumerate().filter(|(_, field)| !is_key(field.name()));
        let taken: Vec<usize> = fields.map(|(column, _)| column).collect();
        let problems: Problems =
            taken.iter().filter_map(|&column| collision(with.field(column).name(), from)).collect();
        if problems.is_empty() { Ok(taken) } else { Err(problems) }
    }

    fn side_uses(&self) -> Uses {
        let keys = self.on.names().map(|(_, right)| right);
        match &self.take {
            Some(take) => Uses::only(keys.chain(take.iter().map(String::as_str))),
            None if self.kind.adds_columns() => Uses::passing_on(keys),
            None => Uses::only(keys),
        }
    }

    fn schema(&self, from: &Schema, with: &Schema, taken: &[usize]) -> SchemaRef {
        let added = taken.iter().map(|&column| {
            let field = with.field(column);
            Arc::new(field.clone().with_nullable(field.is_nullable() || self.kind == JoinKind::Left))
        });
        let fields = from.fields().iter().cloned().chain(added).collect::<Vec<_>>();
        Arc::new(Schema::new_with_metadata(fields, from.metadata().clone()))
    }
}

fn collision(name: &str, from: &Schema) -> Option<Problem> {
    from.field_with_name(name).ok()?;
    let problem = Problem::new(format!("both `from` and `with` have a column `{name}`"));
    Some(problem.help("leave it out of `take`, or rename it in an `sql` node before"))
}

struct Join {
    kind: JoinKind,
    left: Vec<usize>,
    types: Vec<DataType>,
    schema: SchemaRef,
    side: Side,
    limit: ByteSize,
    table: Option<Table>,
    /// Rows that have come and are still to leave.
    rest: Option<Rest>,
}

impl Processor for Join {
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        if port == 1 {
            return self.side.keep(&batch.rows, self.limit);
        }
        let Some(table) = &self.table else {
            return Err(Error::new("rows arrived before `with` was read"));
        };
        let keys: Vec<ArrayRef> = self.left.iter().map(|&column| batch.rows.column(column).clone()).collect();
        let matches = table.lookup.find(&keys)?;
        match self.kind {
            JoinKind::Semi => out.push(0, batch.with_rows(filter_record_batch(&batch.rows, &is_not_null(&matches)?)?)),
            JoinKind::Anti => out.push(0, batch.with_rows(filter_record_batch(&batch.rows, &is_null(&matches)?)?)),
            JoinKind::Left if table.lookup.is_unique() => {
                out.push(0, batch.with_rows(self.joined(batch.rows.columns().to_vec(), &matches, table)?));
            }
            JoinKind::Inner if table.lookup.is_unique() => {
                let matched = is_not_null(&matches)?;
                let rows = filter_record_batch(&batch.rows, &matched)?;
                let matches: UInt32Array = filter(&matches, &matched)?.to_data().into();
                out.push(0, batch.with_rows(self.joined(rows.columns().to_vec(), &matches, table)?));
            }
            JoinKind::Left | JoinKind::Inner => {
                self.rest = Some(Rest::new(batch, matches));
                self.advance(out)?;
            }
        }
        Ok(())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let is_more = self.rest.is_some();
        self.advance(out)?;
        Ok(is_more)
    }

    fn ended(&mut self, port: usize, _: &mut Collector) -> Result<()> {
        if port == 1 {
            self.table = Some(self.side.table(&self.types, self.limit)?);
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        self.side.save(&mut parts, self.limit)?;
        Ok(Snapshot::of(parts))
    }

    /// If `with` had ended, `ended` is called again, and makes the table.
    fn restore(&mut self, state: &State) -> Result<()> {
        self.side.load(state)
    }
}

impl Join {
    /// Rows of the stream, with the columns of their matches behind.
    fn joined(&self, mut columns: Vec<ArrayRef>, matches: &UInt32Array, table: &Table) -> Result<RecordBatch> {
        for column in &table.taken {
            columns.push(take(column, matches, None)?);
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Pushes the next piece of what has to leave once for each match.
    fn advance(&mut self, out: &mut Collector) -> Result<()> {
        let (Some(mut rest), Some(table)) = (self.rest.take(), &self.table) else { return Ok(()) };
        let mut pairs = Pairs::default();
        while pairs.rows.len() < BATCH_ROWS && !rest.is_over() {
            if rest.matched.is_some() || self.kind == JoinKind::Left {
                pairs.push(rest.row, rest.matched);
            }
            rest.advance(table);
        }
        let rows = UInt32Array::from(pairs.rows);
        let columns = rest.batch.rows.columns().iter().map(|column| take(column, &rows, None));
        let rows = self.joined(columns.collect::<Result<_, _>>()?, &pairs.matches.finish(), table)?;
        out.push(0, rest.batch.with_rows(rows));
        self.rest = (!rest.is_over()).then_some(rest);
        Ok(())
    }
}

/// What is left of a batch whose rows leave once for each of their matches.
struct Rest {
    batch: Batch,
    /// The first match of each row.
    first: UInt32Array,
    /// The row that is next, and its match that is.
    row: usize,
    matched: Option<u32>,
}

impl Rest {
    fn new(batch: Batch, first: UInt32Array) -> Self {
        let mut rest = Self { batch, first, row: 0, matched: None };
        rest.matched = rest.first_of(0);
        rest
    }

    fn first_of(&self, row: usize) -> Option<u32> {
        (row < self.first.len() && self.first.is_valid(row)).then(|| self.first.value(row))
    }

    fn is_over(&self) -> bool {
        self.row == self.first.len()
    }

    fn advance(&mut self, table: &Table) {
        self.matched = self.matched.and_then(|matched| table.lookup.next(matched));
        if self.matched.is_none() {
            self.row += 1;
            self.matched = self.first_of(self.row);
        }
    }
}

/// Rows of the stream and their matches.
#[derive(Default)]
struct Pairs {
    rows: Vec<u32>,
    matches: UInt32Builder,
}

impl Pairs {
    fn push(&mut self, row: usize, matched: Option<u32>) {
        self.rows.push(row as u32);
        self.matches.append_option(matched);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::Step;
    use millstream_testkit::{Driven, context, drive, parse, rows_as_text, stream, table};

    use super::*;

    /// What comes of a join, the same for every cut.
    fn run(settings: &str, from: &RecordBatch, with: &RecordBatch) -> Driven {
        let settings: JoinSettings = parse(settings);
        let inputs = [("from", from.clone()), ("with", with.clone())];
        let driven = drive(&settings, &inputs, 8192);
        for batch_rows in [1, 7] {
            assert_eq!(
                drive(&settings, &inputs, batch_rows).text("main"),
                driven.text("main"),
                "batches of {batch_rows}"
            );
        }
        driven
    }

    fn problems(settings: &str, from: &str, with: &str) -> Vec<(Vec<Step>, String)> {
        let streams = [stream("from", table(from).schema()), stream("with", table(with).schema())];
        let problems = parse::<JoinSettings>(settings).plan(&context(), &streams).unwrap_err();
        problems.into_iter().map(|problem| (problem.at, problem.message)).collect()
    }

    fn orders() -> RecordBatch {
        table("id:int64 country:utf8?\n 1 DE\n 2 Österreich\n 3 null\n 4 FR\n 5 DE\n 6 🇨🇭")
    }

    fn countries() -> RecordBatch {
        table(
            "code:utf8? name:utf8 area:int64?\n DE Germany 357\n null Nowhere 0\n Österreich Austria 84\n 🇨🇭 Switzerland null",
        )
    }

    #[test]
    fn every_row_of_the_stream_gets_its_match() {
        let driven = run("on = { country = 'code' }", &orders(), &countries());
        let expected = "id:int64 country:utf8? name:utf8? area:int64?\n\
            1 DE Germany 357\n2 Österreich Austria 84\n3 null null null\n4 FR null null\n5 DE Germany 357\n6 🇨🇭 Switzerland null\n";
        assert_eq!(driven.text("main"), expected);
    }

    #[test]
    fn kinds() {
        let text = |kind: &str| {
            run(&format!("on = {{ country = 'code' }}\nkind = '{kind}'"), &orders(), &countries()).text("main")
        };
        let inner = "id:int64 country:utf8? name:utf8 area:int64?\n\
            1 DE Germany 357\n2 Österreich Austria 84\n5 DE Germany 357\n6 🇨🇭 Switzerland null\n";
        assert_eq!(text("inner"), inner);
        assert_eq!(text("semi"), "id:int64 country:utf8?\n1 DE\n2 Österreich\n5 DE\n6 🇨🇭\n");
        assert_eq!(text("anti"), "id:int64 country:utf8?\n3 null\n4 FR\n");
    }

    #[test]
    fn taken_columns_come_in_the_order_of_take() {
        let settings = "on = { country = 'code' }\ntake = ['area', 'code']\nkind = 'inner'";
        let driven = run(settings, &orders().slice(0, 1), &countries());
        assert_eq!(driven.text("main"), "id:int64 country:utf8? area:int64? code:utf8?\n1 DE 357 DE\n");
    }

    #[test]
    fn several_matches_are_several_rows_in_their_order() {
        let with = table("id:int32 tag:utf8\n 2 x\n 1 a\n 2 y\n 3 c\n 2 z");
        let from = table("id:int64?\n 2\n 9\n 1\n null\n 2");
        let driven = run("on = ['id']", &from, &with);
        assert_eq!(driven.text("main"), "id:int64? tag:utf8?\n2 x\n2 y\n2 z\n9 null\n1 a\nnull null\n2 x\n2 y\n2 z\n");
        let driven = run("on = ['id']\nkind = 'semi'", &from, &with);
        assert_eq!(driven.text("main"), "id:int64?\n2\n1\n2\n");
    }

    #[test]
    fn many_matches_leave_in_batches_of_limited_size() {
        let with = table(&format!("id:int64 n:int64{}", (0..20_000).map(|n| format!("\n 1 {n}")).collect::<String>()));
        let settings: JoinSettings = parse("on = ['id']");
        let driven = drive(&settings, &[("from", table("id:int64\n 1")), ("with", with)], 8192);
        let sizes: Vec<_> = driven.ports["main"].iter().map(RecordBatch::num_rows).collect();
        assert_eq!(sizes, [8192, 8192, 3616]);
    }

    #[test]
    fn an_empty_table_matches_nothing() {
        let empty = countries().slice(0, 0);
        let left = run("on = { country = 'code' }\ntake = ['name']", &orders().slice(0, 1), &empty);
        assert_eq!(left.text("main"), "id:int64 country:utf8? name:utf8?\n1 DE null\n");
        assert!(run("on = { country = 'code' }\nkind = 'inner'", &orders(), &empty).ports.is_empty());
        let anti = run("on = { country = 'code' }\nkind = 'anti'", &orders(), &empty);
        assert_eq!(anti.text("main"), rows_as_text([&orders()]));
        assert!(run("on = { country = 'code' }", &orders().slice(0, 0), &countries()).ports.is_empty());
    }

    #[test]
    fn integers_of_all_widths_are_compared_by_value() {
        let with = table("key:uint64 name:utf8\n 18446744073709551615 largest\n 7 seven");
        let driven = run("on = { id = 'key' }", &table("id:int8?\n 7\n -1\n null"), &with);
        assert_eq!(driven.text("main"), "id:int8? name:utf8?\n7 seven\n-1 null\nnull null\n");
        let driven = run("on = { id = 'key' }", &table("id:uint64\n 18446744073709551615"), &with);
        assert_eq!(driven.text("main"), "id:uint64 name:utf8?\n18446744073709551615 largest\n");
    }

    #[test]
    fn floats_have_one_zero_and_one_nan() {
        let with = table("key:float64? name:utf8\n 0.0 zero\n NaN none\n null nothing");
        let driven = run("on = { x = 'key' }", &table("x:float64?\n -0.0\n NaN\n null\n 0.5"), &with);
        assert_eq!(driven.text("main"), "x:float64? name:utf8?\n-0.0 zero\nNaN none\nnull null\n0.5 null\n");
    }

    /// A small generator of numbers, so that a failure repeats.
    fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        }
    }

    fn random_table(header: &str, rows: u64, next: &mut impl FnMut(u64) -> u64) -> RecordBatch {
        let key = |next: &mut dyn FnMut(u64) -> u64| match next(6) {
            0 => "null".to_owned(),
            n => (n % 4).to_string(),
        };
        let line = |number| format!("\n {} {} v{number}", key(next), key(next));
        table(&format!("{header}{}", (0..rows).map(line).collect::<String>()))
    }

    /// The lines of the naive join: each row of `from` against each of `with`.
    fn naive(kind: &str, keys: usize, from: &RecordBatch, with: &RecordBatch) -> Vec<String> {
        let lines = |rows: &RecordBatch| rows_as_text([rows]).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        let key = |line: &str| line.split(' ').take(keys).map(str::to_owned).collect::<Vec<_>>();
        let (left, right) = (lines(from), lines(with));
        let mut out = Vec::new();
        for row in &left {
            let has_key = !key(row).contains(&"null".to_owned());
            let matches: Vec<_> = right.iter().filter(|other| has_key && key(other) == key(row)).collect();
            let value = |other: &String| other.split(' ').next_back().unwrap().to_owned();
            match kind {
                "semi" if !matches.is_empty() => out.push(row.clone()),
                "anti" if matches.is_empty() => out.push(row.clone()),
                "left" if matches.is_empty() => out.push(format!("{row} null")),
                "left" | "inner" => out.extend(matches.iter().map(|other| format!("{row} {}", value(other)))),
                _ => {}
            }
        }
        out
    }

    #[test]
    fn it_is_the_naive_join() {
        let types = ["int64?", "utf8?", "int16?", "decimal(5,1)?"];
        for seed in 0..60 {
            let mut next = numbers(seed);
            let data_type = if seed % 2 == 0 { types[next(2) as usize] } else { types[next(4) as usize] };
            let keys = 1 + (seed % 2) as usize;
            let (left, right) = (next(30), next(20));
            let from = random_table(&format!("a:{data_type} b:utf8? x:utf8"), left, &mut next);
            let with = random_table(&format!("a:{data_type} b:utf8? y:utf8"), right, &mut next);
            for kind in ["left", "inner", "semi", "anti"] {
                let on = ["'a'", "'a', 'b'"][keys - 1];
                let take = if ["left", "inner"].contains(&kind) { "take = ['y']" } else { "" };
                let driven = run(&format!("on = [{on}]\nkind = '{kind}'\n{take}"), &from, &with);
                let lines: Vec<_> = driven.text("main").lines().skip(1).map(str::to_owned).collect();
                assert_eq!(lines, naive(kind, keys, &from, &with), "{kind} of {data_type}, seed {seed}");
            }
        }
    }

    #[test]
    fn rows_with_many_matches_leave_in_pieces() {
        let with: String = (0..3000).map(|n| format!("\n {} {n}", n % 2)).collect();
        let from: String = (0..100).map(|n| format!("\n {} {n}", n % 3)).collect();
        let (from, with) = (table(&format!("k:int64 n:int64{from}")), table(&format!("k:int64 m:int64{with}")));
        for (kind, expected) in [("inner", 67 * 1500), ("left", 67 * 1500 + 33)] {
            let driven = run(&format!("on = ['k']\nkind = '{kind}'"), &from, &with);
            assert_eq!(driven.ports["main"].iter().map(RecordBatch::num_rows).sum::<usize>(), expected);
            assert!(driven.largest <= BATCH_ROWS, "{} rows at once", driven.largest);
        }
    }

    #[test]
    fn a_table_that_is_too_large_says_how_large_it_is() {
        let rows = (0..200_000).map(|n| format!("\n {n} 1")).collect::<String>();
        let inputs = [table("id:int64\n 1"), table(&format!("id:int64 n:int64{rows}"))];
        let streams: Vec<_> = inputs.iter().map(|rows| stream("from", rows.schema())).collect();
        let settings: JoinSettings = parse("on = ['id']\nmax_bytes = '1MiB'");
        let mut join = (settings.plan(&context(), &streams).unwrap().build)().unwrap();
        let mut out = Collector::new(1);
        join.process(1, millstream_testkit::batch(inputs[1].clone()), &mut out).unwrap();
        let error = join.ended(1, &mut out).unwrap_err().to_string();
        assert_eq!(
            error,
            "`with` has 4MiB in the columns that the join needs, and `max_bytes` is 1MiB; set it to 4MiB or more"
        );
    }

    #[test]
    fn problems_are_told_at_their_places() {
        let from = "id:int64 country:utf8? name:utf8?\n";
        let with = "code:utf8? name:utf8? n:int32 list:list<utf8>?\n";
        let told = |settings: &str| problems(settings, from, with);
        let key = |text: &str| Step::from(text);
        assert_eq!(
            told("on = ['id', 'cod']"),
            [
                (vec![key("on"), Step::Index(0)], "there is no column `id` in `with`".to_owned()),
                (vec![key("on"), Step::Index(1)], "there is no column `cod`".to_owned()),
                (vec![key("on"), Step::Index(1)], "there is no column `cod` in `with`".to_owned()),
                (vec![], "both `from` and `with` have a column `name`".to_owned()),
            ]
        );
        assert_eq!(
            told("on = { id = 'code' }\ntake = ['n', 'nn', 'n', 'name']"),
            [
                (vec![key("on"), key("id")], "`id` is int64, and `code` of `with` is utf8".to_owned()),
                (vec![key("take"), Step::Index(1)], "there is no column `nn`".to_owned()),
                (vec![key("take"), Step::Index(2)], "`n` is taken twice".to_owned()),
                (vec![key("take"), Step::Index(3)], "both `from` and `with` have a column `name`".to_owned()),
            ]
        );
        assert_eq!(told("on = []\ntake = ['n']"), [(vec![key("on")], "a join needs a key".to_owned())]);
        assert_eq!(told("on = ['name']\nkind = 'semi'\ntake = ['n']")[0].1, "this kind of join adds no columns");
    }

    #[test]
    fn only_the_columns_that_are_used_are_asked_for() {
        let uses = |settings: &str| {
            let streams = [stream("from", orders().schema()), stream("with", countries().schema())];
            parse::<JoinSettings>(settings).plan(&context(), &streams).unwrap().uses
        };
        let stream = Uses::passing_on(["country"]);
        let on = "on = { country = 'code' }";
        assert_eq!(uses(on), [stream.clone(), Uses::passing_on(["code"])]);
        assert_eq!(uses(&format!("{on}\ntake = ['name']")), [stream.clone(), Uses::only(["code", "name"])]);
        assert_eq!(uses(&format!("{on}\nkind = 'anti'")), [stream, Uses::only(["code"])]);
    }

    #[test]
    fn the_example_is_settings() {
        let _: JoinSettings = parse(JoinSettings::EXAMPLE);
    }
}
