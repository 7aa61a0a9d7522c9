//! The processor `sql`: a query over one stream, row by row.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::vec::IntoIter;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_sql::sqlparser::ast::{Select, SelectItem, Statement, Visit, Visitor};
use millstream_core::{
    Batch, Canonical, Collector, Error, Kind, MAX_BATCH_BYTES, PlanContext, PortPlan, PortTime, Problem, Problems,
    Processor, ProcessorPlan, ProcessorSettings, Result, Stream, Uses, batch_bytes,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::accumulate::BATCH_ROWS;
use crate::halve::{Half, Halves, together};
use crate::plan::{Planner, on_deep_stack};
use crate::program::{Execution, Program};
use crate::text::{Text, within};
use crate::{diagnose, origin, parse, refuse, words};

/// A query over one stream, row by row: columns, `WHERE`, `CASE`, `WITH`, queries in `FROM`, functions of one row, and
/// `unnest` for lists. What needs several rows is refused, with the name of the node that does it: `join`, `aggregate` and
/// `window` for GROUP BY, `over` for OVER, `sort` for ORDER BY, `dedup` for DISTINCT, `limit`. Clocks and random numbers are refused, since a repeated
/// run must give the same rows.
///
/// The stream is called `input`, or by the name of the node that it comes from. Names of columns match as written,
/// keywords and functions in any case. The functions are those of DataFusion. Rows keep their order.
///
/// An expression without a name is called by its text: `SELECT amount + 1` gives the column `"amount + 1"`.
/// A row for which an expression fails, as `1 / 0` or `CAST('abc' AS int)` does, leaves by `failed`; `TRY_CAST` gives null
/// instead. Integers that overflow do not fail: they wrap around. A number with a point is a decimal, and a float where it meets
/// floats. [SQL.md](../flows/SQL.md) has these rules, and what differs from DuckDB.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlSettings {
    /// The query: `SELECT … FROM input WHERE …`.
    query: String,
}

impl Kind for SqlSettings {
    const NAME: &'static str = "sql";
    const ALSO_CALLED: &'static [&'static str] =
        &["filter", "map", "select", "project", "query", "where", "transform", "cast", "explode"];
    const EXAMPLE: &'static str =
        r#"query = "SELECT *, ln(amount + 1) AS log_amount FROM input WHERE amount IS NOT NULL""#;
}

impl ProcessorSettings for SqlSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let planned = on_deep_stack(|| inputs.iter().map(|stream| plan(&self.query, stream)).next());
        let planned = planned.ok().flatten().unwrap_or_else(|| Err(Problem::new("this query can't be planned").into()));
        let planned = planned
            .map_err(|problems| problems.into_iter().map(|problem| problem.under("query")).collect::<Vec<_>>())?;
        Ok(ProcessorPlan {
            ports: vec![PortPlan::main(planned.canonical.schema().clone()).with_event_time(planned.time.clone())],
            uses: vec![planned.uses.clone()],
            fails: true,
            build: Box::new(|| Ok(Box::new(planned.build(MAX_BATCH_BYTES)))),
        })
    }
}

struct Planned {
    program: Program,
    canonical: Canonical,
    uses: Uses,
    /// Whether the event time is still the one of the input.
    time: PortTime,
}

impl Planned {
    fn build(self, bytes: usize) -> Sql {
        Sql { program: Arc::new(self.program), canonical: self.canonical, bytes, rest: None }
    }
}

fn plan(query: &str, stream: &Stream) -> Result<Planned, Problems> {
    let text = Text::over(query, &stream.schema)?;
    let syntax = parse::query(&text).map_err(|problem| text.advising_quotes(problem, &stream.schema))?;
    let planner = Planner::new(stream.schema.clone(), &stream.node);
    let refused = refuse::refusals(&syntax, &text, &planner.names);
    if !refused.is_empty() {
        return Err(refused);
    }
    let uses = uses(&syntax, &text, &stream.schema);
    let plan = planner.query(syntax).map_err(|error| diagnose::problems(&error, &text))?;
    let is_kept = stream.event_time.as_ref().is_none_or(|time| origin::passes_on(&plan, time));
    let time = if is_kept { PortTime::Inherited } else { PortTime::Recomputed };
    let mut program = Program::new(&plan).map_err(|error| diagnose::problems(&error, &text))?;
    let canonical = output(program.schema(), &text)?;
    program.produces(canonical.schema());
    Ok(Planned { program, canonical, uses, time })
}

/// The columns that leave, in canonical types.
fn output(schema: &Schema, text: &Text) -> Result<Canonical, Problem> {
    let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            return Err(diagnose::duplicate(name, text));
        }
    }
    Canonical::new(schema).map_err(|why| {
        let problem = Problem::new(words::sentence(&why)).help("give it another type by CAST");
        within(problem, text.mentioned_in(&why))
    })
}

/// A query with `*` passes all columns on; any other needs those that it mentions.
fn uses(syntax: &Statement, text: &Text, schema: &SchemaRef) -> Uses {
    let mentioned = text.mentions(schema);
    match syntax.visit(&mut FindWildcard) {
        ControlFlow::Break(()) => Uses::passing_on(mentioned),
        ControlFlow::Continue(()) => Uses::only(mentioned),
    }
}

struct FindWildcard;

impl Visitor for FindWildcard {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let is_wildcard =
            |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        if select.projection.is_empty() || select.projection.iter().any(is_wildcard) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

struct Sql {
    program: Arc<Program>,
    canonical: Canonical,
    /// How many bytes are worked on together, if they can be worked on one after the other.
    bytes: usize,
    /// Rows that have come and are still to leave.
    rest: Option<Rest>,
}

/// What is left of a batch.
struct Rest {
    batch: Batch,
    halves: Halves,
    /// Of the rows that were run over last.
    pieces: IntoIter<RecordBatch>,
    /// A row of which more is made than is kept at once.
    large: Option<Execution>,
    /// The piece that comes next.
    held: Option<RecordBatch>,
}

/// What becomes of some rows.
enum Produced {
    Pieces(Vec<RecordBatch>),
    /// So much of one row that it is made a second time, piece by piece: it is known now that none of it fails.
    Large(Execution),
}

impl Sql {
    /// What becomes of some rows; an error if any of them can't be computed or has no place in canonical types, or if several
    /// become too much.
    fn run(&self, rows: &RecordBatch) -> Result<Produced, String> {
        let mut execution = Execution::new(rows, self.bytes);
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = self.next(&mut execution)? {
            bytes += if execution.is_over() { 0 } else { batch_bytes(&piece) };
            pieces.push(piece);
            if bytes > self.bytes {
                return self.make_later(rows, execution);
            }
        }
        Ok(Produced::Pieces(pieces))
    }

    fn make_later(&self, rows: &RecordBatch, mut execution: Execution) -> Result<Produced, String> {
        if rows.num_rows() > 1 {
            return Err("these rows become too much together".to_owned());
        }
        while self.next(&mut execution)?.is_some() {}
        Ok(Produced::Large(Execution::new(rows, self.bytes)))
    }

    fn next(&self, execution: &mut Execution) -> Result<Option<RecordBatch>, String> {
        let rows = self.program.next(execution)?.map(|rows| self.canonical.apply(rows));
        rows.transpose().map_err(|error| error.to_string())
    }

    /// The next piece of what is left of a batch.
    fn next_piece(&self, rest: &mut Rest, out: &mut Collector) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(piece) = rest.held.take().or_else(|| rest.pieces.next()) {
                return Ok(Some(piece));
            }
            if let Some(large) = &mut rest.large {
                match self.next(large).map_err(Error::new)? {
                    Some(piece) => return Ok(Some(piece)),
                    None => rest.large = None,
                }
            }
            match rest.halves.next(|rows| self.run(rows)) {
                None => return Ok(None),
                Some(Half::Bad(row, why)) => out.fail_row(&rest.batch, row, why)?,
                Some(Half::Good(_, Produced::Pieces(pieces))) => rest.pieces = pieces.into_iter(),
                Some(Half::Good(_, Produced::Large(execution))) => rest.large = Some(execution),
            }
        }
    }

    /// Pushes as much of what is left as a batch may have.
    fn advance(&mut self, out: &mut Collector) -> Result<()> {
        let Some(mut rest) = self.rest.take() else { return Ok(()) };
        let most = rest.batch.len().max(BATCH_ROWS);
        let (mut gathered, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while let Some(piece) = self.next_piece(&mut rest, out)? {
            (rows, bytes) = (rows + piece.num_rows(), bytes + batch_bytes(&piece));
            if !gathered.is_empty() && (rows > most || bytes > self.bytes) {
                rest.held = Some(piece);
                break;
            }
            gathered.push(piece);
        }
        for rows in together(gathered) {
            out.push(0, rest.batch.with_rows(rows));
        }
        self.rest = rest.held.is_some().then_some(rest);
        Ok(())
    }
}

impl Processor for Sql {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let halves = Halves::of(&batch.rows);
        self.rest = Some(Rest { batch, halves, pieces: Vec::new().into_iter(), large: None, held: None });
        self.advance(out)
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let is_more = self.rest.is_some();
        self.advance(out)?;
        Ok(is_more)
    }

    fn lane(&self) -> Option<Box<dyn Processor>> {
        let (program, canonical) = (self.program.clone(), self.canonical.clone());
        Some(Box::new(Self { program, canonical, bytes: self.bytes, rest: None }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
