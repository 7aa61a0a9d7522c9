//! The input `generate`: rows that are computed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use indexmap::IndexMap;
use millstream_core::{
    Batch, Canonical, Collector, Encoding, FailedRow, Home, Input, InputPlan, InputSettings, Kind, Origin, PlanContext,
    Positions, Problem, Problems, Progress, Rate, Result, State, Step, json_row,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::halve::Halves;
use crate::plan::{INPUT, Planner, on_deep_stack};
use crate::program::{Program, batch};
use crate::random::{ROW, give_streams};
use crate::refuse::{RandomFunctions, refusals_where};
use crate::text::{Text, within};
use crate::{diagnose, parse, words};

/// Computes rows: for tests, demonstrations and measurements, and wherever a flow needs a clock or a counter.
///
/// Every column is an SQL expression over `row`, the number of the row, counted from 0, and the columns above it. The
/// functions are those of `sql`, and four that draw random numbers:
///
/// - `random()`: a number from 0 to 1, without 1.
/// - `random_normal()`: a number of the normal distribution with mean 0 and standard deviation 1, so that
///   `20 + 5 * random_normal()` has mean 20 and standard deviation 5.
/// - `random_int(1, 6)`: an integer from the first to the second, both included.
/// - `random_choice('DE', 'FR', 'FR')`: one of the values; what stands there twice comes twice as often.
///
/// Each call of them has its own stream of numbers, and a number depends only on `seed`, the column's name, the place of
/// the call among those of the column, and the number of the row. So the same settings give the same rows in every run;
/// another column changes none of the others. Clocks are refused: a time is computed from the number of the row, as in
/// `timestamp '2026-01-01' + row * interval '1 second'`.
///
/// With `rows` the input ends by itself. Without it, and wherever there is a `rate`, it is live, so that a flow that is to be
/// stopped need not wait for the rows of an epoch. A row for which an expression fails leaves by `failed`, with
/// its number as its position.
///
/// Others can compute the numbers, too: call number `c` of a column, counted from 0, has the stream `s` = XXH3 (64 bits) of the
/// column's name with seed `seed`, plus `c`; its bits `b` for a row are XXH3 with seed `s` of the row's number, 8 bytes,
/// little-endian. `random()` is `floor(b / 2^11) / 2^53`; of `n` integers or values, number `floor(b * n / 2^64)` is drawn.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateInput {
    /// The columns, and the expression that each is: `{ id = "row", amount = "100 * random()" }`.
    columns: IndexMap<String, String>,
    /// How many rows there are. Without it, rows come until the flow is stopped.
    rows: Option<u64>,
    /// How many rows come in which time, such as `"1000/s"`, as rows of a live input do. Without it they come as fast as they
    /// are taken. Where the flow was too slow for a while, the input catches up.
    rate: Option<Rate>,
    /// Another number gives other random numbers.
    #[serde(default)]
    seed: u64,
}

impl Kind for GenerateInput {
    const NAME: &'static str = "generate";
    const ALSO_CALLED: &'static [&'static str] = &["random", "faker", "datagen"];
    const EXAMPLE: &'static str = r#"rows = 100000
seed = 5

[input.example.columns]
id = "row"
at = "timestamp '2026-01-01' + row * interval '1 second'"
country = "random_choice('DE', 'FR', 'US')"
amount = "exp(3 + random_normal())"
fraud = "random() < CASE WHEN amount > 100 THEN 0.2 ELSE 0.01 END"
"#;
}

impl GenerateInput {
    /// The columns that the flow uses, and those that they are computed from.
    fn needed(&self, context: &PlanContext) -> BTreeSet<String> {
        let Some(wanted) = &context.columns else { return self.columns.keys().cloned().collect() };
        let mut needed = wanted.clone();
        for (name, expression) in self.columns.iter().rev() {
            if needed.contains(name) {
                needed.extend(self.mentions(expression));
            }
        }
        needed
    }

    /// The columns that an expression may look at.
    fn mentions(&self, expression: &str) -> BTreeSet<String> {
        let names = self.columns.keys().map(|name| Field::new(name, DataType::Null, true));
        let names = Schema::new(names.collect::<Vec<_>>());
        Text::new(expression).map(|text| text.mentions(&names)).unwrap_or_default()
    }

    /// Plans the columns, each over the ones above it.
    fn plan_columns(&self, needed: &BTreeSet<String>) -> Result<Vec<Column>, Problems> {
        let mut fields = vec![Field::new(ROW, DataType::Int64, false)];
        let (mut columns, mut problems) = (Vec::new(), Problems::new());
        let mut wrong = BTreeSet::new();
        for (name, expression) in self.columns.iter().filter(|(name, _)| needed.contains(*name)) {
            // What is wrong with a column is not said again of those that use it.
            if !self.mentions(expression).is_disjoint(&wrong) {
                wrong.insert(name.clone());
                continue;
            }
            if name == ROW {
                let problem = Problem::new("`row` is the number of the row").help("give the column another name");
                problems.push(problem.at([Step::from("columns"), Step::Name(name.clone())]));
                continue;
            }
            let above = Arc::new(Schema::new(fields.clone()));
            match Column::new(name, expression, above, self.seed) {
                Ok(column) => {
                    fields.push(column.canonical.schema().field(0).clone());
                    columns.push(column);
                }
                Err(found) => {
                    problems.extend(found.into_iter().map(|problem| problem.under(name.as_str()).under("columns")));
                    wrong.insert(name.clone());
                }
            }
        }
        if problems.is_empty() { Ok(columns) } else { Err(problems) }
    }
}

impl InputSettings for GenerateInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        if self.columns.is_empty() {
            let problem = Problem::new("there are no columns").help("one that is always there is `id = \"row\"`");
            return Err(problem.at(["columns"]).into());
        }
        let planned = on_deep_stack(|| self.plan_columns(&self.needed(context)));
        let columns = planned.unwrap_or_else(|error| Err(Problem::new(words::why(&error)).into()))?;
        let wanted = |name: &str| context.columns.as_ref().is_none_or(|wanted| wanted.contains(name));
        let kept: Vec<usize> = (0..columns.len()).filter(|place| wanted(columns[*place].name())).collect();
        let fields = kept.iter().map(|place| columns[*place].canonical.schema().field(0).clone());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let generator = Generator { columns, kept, schema: schema.clone() };
        let (source, batch_rows) = (context.node.as_str().into(), context.batch_rows as u64);
        let (rows, rate) = (self.rows, self.rate);
        let build = move || {
            let throttle = rate.map(|rate| Throttle { rate, started: Instant::now(), first: 0 });
            Ok(Generate { source, generator, batch_rows, position: 0, rest: None, rows, throttle })
        };
        let finite = rows.is_some() && rate.is_none();
        Ok(InputPlan { finite, rows, ..InputPlan::new(schema, build) })
    }
}

/// A column, planned over those above it.
#[derive(Debug)]
struct Column {
    /// The number of the row, and the columns above.
    above: SchemaRef,
    program: Program,
    canonical: Canonical,
}

impl Column {
    fn new(name: &str, expression: &str, above: SchemaRef, seed: u64) -> Result<Self, Problems> {
        let text = Text::over(expression, &above)?;
        let syntax = parse::expression(&text, "an expression");
        let mut syntax = syntax.map_err(|problem| text.advising_quotes(problem, &above))?;
        let refused = refusals_where(RandomFunctions::Seeded, &syntax, &text, &[INPUT]);
        if !refused.is_empty() {
            return Err(refused);
        }
        give_streams(&mut syntax, seed, name);
        let plan = Planner::new(above.clone(), INPUT).expression(syntax, name);
        let program = plan.and_then(|plan| Program::new(&plan)).map_err(|error| diagnose::problems(&error, &text))?;
        let canonical = Canonical::new(program.schema()).map_err(|why| {
            let problem = Problem::new(words::sentence(&why)).help("give it another type by CAST");
            within(problem, None)
        })?;
        Ok(Self { above, program, canonical })
    }

    fn name(&self) -> &str {
        self.canonical.schema().field(0).name()
    }

    fn compute(&self, above: &[ArrayRef], rows: usize) -> Result<ArrayRef, String> {
        let computed = self.program.run(&batch(&self.above, above.to_vec(), rows)?)?;
        let computed = computed.ok_or_else(|| format!("`{}` has no value", self.name()))?;
        let canonical = self.canonical.apply(computed).map_err(|error| error.to_string())?;
        Ok(canonical.column(0).clone())
    }
}

/// Computes rows from their numbers.
#[derive(Debug)]
struct Generator {
    columns: Vec<Column>,
    /// The columns that leave.
    kept: Vec<usize>,
    schema: SchemaRef,
}

impl Generator {
    fn compute(&self, numbers: &RecordBatch) -> Result<RecordBatch, String> {
        let rows = numbers.num_rows();
        let mut columns = vec![numbers.column(0).clone()];
        for column in &self.columns {
            columns.push(column.compute(&columns, rows)?);
        }
        let kept = self.kept.iter().map(|place| columns[place + 1].clone());
        batch(&self.schema, kept.collect(), rows)
    }
}

/// There is only one.
const PARTITION: &str = "";

struct Generate {
    source: Arc<str>,
    generator: Generator,
    batch_rows: u64,
    /// The number of the next row that is not under way.
    position: u64,
    /// What is left of the rows that are under way.
    rest: Option<Rest>,
    /// How many rows there are.
    rows: Option<u64>,
    throttle: Option<Throttle>,
}

/// Rows of which some have left. Where one fails they are computed in pieces, which leave one by one, so that they are never all
/// in memory.
struct Rest {
    /// The number of the first one.
    start: u64,
    numbers: RecordBatch,
    halves: Halves,
}

#[async_trait]
impl Input for Generate {
    async fn open(&mut self, _: &Home) -> Result<()> {
        if let Some(throttle) = &mut self.throttle {
            (throttle.started, throttle.first) = (Instant::now(), self.position);
        }
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        if self.rest.is_some() {
            self.advance(out)?;
            return Ok(Progress::More);
        }
        let left = self.rows.map_or(u64::MAX, |rows| rows.saturating_sub(self.position));
        if left == 0 {
            return Ok(Progress::End);
        }
        let due = match &self.throttle {
            Some(throttle) => throttle.due(self.position).await,
            None => u64::MAX,
        };
        self.generate(left.min(due).min(self.batch_rows), out)?;
        Ok(Progress::More)
    }

    fn restore(&mut self, positions: &Positions, _: &State) -> Result<()> {
        self.position = positions.get(PARTITION).copied().unwrap_or(0);
        Ok(())
    }
}

impl Generate {
    fn generate(&mut self, rows: u64, out: &mut Collector) -> Result<()> {
        let start = self.position;
        self.position += rows;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(start as i64..self.position as i64));
        let numbers = RecordBatch::try_from_iter([(ROW, numbers)])?;
        self.rest = Some(Rest { start, halves: Halves::of(&numbers), numbers });
        self.advance(out)
    }

    /// Pushes the next rows that do not fail, and refuses those before them that do.
    fn advance(&mut self, out: &mut Collector) -> Result<()> {
        let Some(Rest { start, numbers, halves }) = &mut self.rest else { return Ok(()) };
        let partition = Arc::<str>::from(PARTITION);
        let fail = |row: usize, error: String| {
            out.fail(FailedRow {
                error,
                source: self.source.clone(),
                partition: partition.clone(),
                position: Some(*start + row as u64),
                line: None,
                row: json_row(numbers, row)?,
                encoding: Encoding::Json,
            });
            Ok(())
        };
        let good = halves.next_good(|numbers| self.generator.compute(numbers), fail)?;
        let is_over = good.is_none() || halves.is_over();
        if let Some((first, rows)) = good {
            let (start, count) = (*start + first as u64, rows.num_rows() as u64);
            let origin = Origin::new(self.source.clone(), partition.clone(), start, start + count);
            out.push(0, Batch::new(rows, origin));
        }
        if is_over {
            self.rest = None;
        }
        Ok(())
    }
}

/// Lets rows come at a rate.
struct Throttle {
    rate: Rate,
    started: Instant,
    /// The number of the first row since then.
    first: u64,
}

impl Throttle {
    /// Rows that are due in a tick come together at its end, so that a high rate is not a batch for every few rows.
    const TICK: Duration = Duration::from_millis(10);

    /// Waits until rows from number `position` on are due, and says how many.
    async fn due(&self, position: u64) -> u64 {
        let before = position - self.first;
        let rows_in = |ticks: u64| (ticks as f64 * Self::TICK.as_secs_f64() * self.rate.0) as u64;
        loop {
            let elapsed = self.started.elapsed();
            let ticks = (elapsed.as_millis() / Self::TICK.as_millis()) as u64;
            let due = rows_in(ticks);
            if due > before {
                return due - before;
            }
            let next = ((before + 1) as f64 / self.rate.0 / Self::TICK.as_secs_f64()) as u64;
            let next = Self::TICK.as_millis() as u64 * next.max(ticks + 1).min(1 << 40);
            sleep(Duration::from_millis(next).saturating_sub(elapsed)).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
