//! The processor `join`: columns of a table for the rows of a stream.

mod on;
mod otherwise;
mod streams;
mod table;
mod with_table;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{
    ByteSize, Duration, Kind, Order, PlanContext, PortPlan, PortTime, Problem, Problems, ProcessorPlan,
    ProcessorSettings, Result, Stream, Uses, require_column,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::on::{Keys, On};
use self::streams::{Rules, Streams};
use self::table::Side;
use self::with_table::TableJoin;
use crate::literal::Literal;

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
    /// With `within`: which rows of `with` a row meets: `all` (the default), or only the `first` that comes, so that it leaves once.
    #[serde(default)]
    matches: Matches,
    /// With `within`: when pairs leave: at the `match` (the default), or at the `expiry` of the row of `from`, when none can come any more that it could
    /// meet. What is learned at the match is learned early, but at first only from what came quickly; such as clicks, which come before it is known that there is none.
    #[serde(default)]
    leave: Leave,
    /// With `within`: what stands in the added columns of a row without a match instead of null, such as `{ clicked = 0 }`.
    #[serde(default)]
    otherwise: IndexMap<String, Literal>,
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

/// Which rows of `with` a row meets.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Matches {
    #[default]
    All,
    First,
}

/// When pairs leave.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Leave {
    #[default]
    Match,
    Expiry,
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
        self.check_pairing()?;
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
        let join = TableJoin::new(self.kind, keys, schema, side, self.max_bytes);
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
        let otherwise = otherwise::values(&self.otherwise, &with.schema, &taken);
        let otherwise = otherwise.map_err(|problem| problem.under("otherwise"))?;
        let schema = self.schema(&from.schema, &with.schema, &taken);
        let ports = vec![
            PortPlan::main(schema.clone()),
            PortPlan::side("late", from.schema.clone()),
            PortPlan::side("late_with", with.schema.clone()).with_event_time(PortTime::None),
        ];
        let all = (0..from.schema.fields().len()).collect();
        let sides = [(keys.left, left, all), (keys.right, right, taken)];
        let (kind, max_rows) = (self.kind, self.max_rows);
        let (only_first, at_expiry) = (self.matches == Matches::First, self.leave == Leave::Expiry);
        let rules = Rules { kind, within, max_rows, only_first, at_expiry, otherwise };
        let streams = Streams::new(rules, schema, keys.types, sides);
        let streams = streams.map_err(|error| Problem::new(error.to_string()))?;
        Ok(ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(streams))) })
    }

    /// Says which of the settings is for other joins.
    fn check_pairing(&self) -> Result<(), Problem> {
        let said = [
            ("matches", self.matches != Matches::All, self.kind.adds_columns()),
            ("leave", self.leave != Leave::Match, self.kind.adds_columns()),
            ("otherwise", !self.otherwise.is_empty(), self.kind == JoinKind::Left),
        ];
        let odd = said.into_iter().find(|(_, is_said, fits)| *is_said && (self.within.is_none() || !fits));
        let Some((name, ..)) = odd else { return Ok(()) };
        let problem = if self.within.is_none() {
            Problem::new(format!("`{name}` is for two streams that are joined `within` some time"))
        } else if name == "otherwise" {
            Problem::new("only a `left` join has rows without a match that get columns")
        } else {
            Problem::new("this kind of join makes no pairs")
                .help(format!("leave out `{name}`, or join by `left` or `inner`"))
        };
        Err(problem.under(name))
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
            let has_null = self.kind == JoinKind::Left && !self.otherwise.contains_key(field.name());
            Arc::new(field.clone().with_nullable(field.is_nullable() || has_null))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
