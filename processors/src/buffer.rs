//! The processor `buffer`: takes rows while those behind it have no room, and gives them when they have.

mod chunk;
mod line;
mod node;
mod queue;
mod spill;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use millstream_core::{
    Buffering, ByteSize, Duration, Kind, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Result, Stream, Uses, require_column, type_name,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::node::{Limits, Waiting};

/// Goes on taking rows while those behind it are slow or down, and lets them leave when there is room. So an input need not wait: its
/// checkpoints go on, and what it acknowledges is acknowledged. (NiFi's queue on a connection.)
///
/// What does not fit into memory is on disk: in the folder of the flow's state, or else where `TMPDIR` says. What waits at a checkpoint is part of the
/// state, of which each checkpoint writes what is new. Barriers pass what waits, and rows belong to the epoch in which they leave; with models,
/// it is recorded which have left when, so that `millstream replay` does the same. Watermarks wait until the rows have left that came before them.
///
/// Rows leave in pieces that take those behind about 50 ms each, so that a barrier is not long on its way, however slow they are. Where these are down, no
/// checkpoint can be taken: what has been given to them is in none. With `[checkpoint] epochs`, inputs wait for each checkpoint, and so for what is slow; with
/// `interval`, they go on.
///
/// Where all inputs end, no result may depend on time, and all rows pass at once. Rows that wait must not be predicted by a model that learns meanwhile:
/// `predict` can't be behind this node, unless what the model learns is behind it, too, and it has no `priority`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BufferSettings {
    /// How many bytes of rows are in memory, however many wait. While rows are read from disk and written, it may be half as much again.
    #[serde(default = "default_memory")]
    memory: ByteSize,
    /// How many rows wait at most.
    #[schemars(range(min = 1))]
    max_rows: Option<usize>,
    /// How many bytes of rows wait at most, as they are in memory. With the row that reaches them, the node is full.
    #[serde(default = "default_max_bytes")]
    max_bytes: ByteSize,
    /// What becomes of rows that come when the node is full.
    #[serde(default)]
    when_full: WhenFull,
    /// Rows that have waited longer leave by the port `expired`.
    expire_after: Option<Duration>,
    /// What `expire_after` counts from.
    #[serde(default)]
    expire_by: ExpireBy,
    /// A column of integers from 0 to 63: of the rows that wait, those with the highest leave first, and of these those that came first. A smaller
    /// number counts as 0, and so does null; a larger one as 63.
    priority: Option<String>,
}

/// What becomes of rows that come when the node is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WhenFull {
    /// They wait where they come from.
    #[default]
    Wait,
    /// They are kept, and those that have waited longest leave by the port `dropped`.
    DropOldest,
    /// They leave by the port `dropped`.
    DropNewest,
}

/// What the time counts from after which rows are given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ExpireBy {
    /// When the row came, as the clock says; the time counts while the flow is down, too.
    #[default]
    Arrival,
    /// The row's event time: it is given up when it has its turn, if event time has come so far beyond. That goes for rows that need not wait, too.
    EventTime,
}

fn default_memory() -> ByteSize {
    ByteSize(64 << 20)
}

fn default_max_bytes() -> ByteSize {
    ByteSize(10 << 30)
}

impl Kind for BufferSettings {
    const NAME: &'static str = "buffer";
    const ALSO_CALLED: &'static [&'static str] = &["queue", "backlog", "spool"];
    const EXAMPLE: &'static str = r#"max_bytes = "20GiB"
when_full = "drop_oldest"
expire_after = "1d""#;
    const FREE_SETTINGS: &'static [&'static str] = &["memory", "max_rows", "max_bytes", "when_full", "expire_after"];
}

impl ProcessorSettings for BufferSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let checked = (self.priority_column(stream), self.time_column(stream), self.span());
        let (priority, event_time, expires) = match checked {
            (Ok(priority), Ok(event_time), Ok(expires)) => (priority, event_time, expires),
            (priority, time, span) => {
                return Err([priority.err(), time.err(), span.err()].into_iter().flatten().collect());
            }
        };
        let mut ports = vec![PortPlan::main(stream.schema.clone())];
        let sides = [(self.when_full != WhenFull::Wait, "dropped"), (expires.is_some(), "expired")];
        let sides = sides.into_iter().filter(|(is_wanted, _)| *is_wanted);
        ports.extend(sides.map(|(_, name)| PortPlan::side(name, stream.schema.clone())));
        let used = self.priority.iter().chain(stream.event_time.iter().filter(|_| event_time.is_some())).cloned();
        let uses = vec![Uses::passing_on(used.collect::<Vec<_>>())];
        let limits = Limits {
            rows: self.max_rows.unwrap_or(usize::MAX),
            bytes: self.max_bytes.0.max(1),
            when_full: self.when_full,
            expires,
        };
        let node = Waiting::new(&stream.schema, self.memory.0, limits, event_time, priority);
        Ok(ProcessorPlan {
            ports,
            uses,
            fails: event_time.is_some(),
            build: Box::new(|| Ok(Box::new(node) as Box<dyn Processor>)),
        })
    }

    fn buffering(&self) -> Option<Buffering> {
        Some(Buffering { keeps_order: self.priority.is_none() })
    }
}

impl BufferSettings {
    /// After how many microseconds rows are given up.
    fn span(&self) -> Result<Option<i64>, Problem> {
        self.expire_after.map(Duration::span).transpose().map_err(|problem| problem.at(["expire_after"]))
    }

    fn priority_column(&self, stream: &Stream) -> Result<Option<usize>, Problem> {
        let Some(name) = &self.priority else { return Ok(None) };
        let at = |problem: Problem| problem.at(["priority"]);
        let field = require_column(name, &stream.schema).map_err(at)?;
        if !field.data_type().is_integer() {
            let problem = Problem::new(format!("`{name}` is {}, and no integer", type_name(field.data_type())));
            return Err(at(
                problem.help("an `sql` node before this one can compute one: `CASE WHEN … THEN 9 ELSE 0 END`")
            ));
        }
        Ok(stream.schema.index_of(name).ok())
    }

    fn time_column(&self, stream: &Stream) -> Result<Option<usize>, Problem> {
        if self.expire_by == ExpireBy::Arrival {
            return Ok(None);
        }
        if self.expire_after.is_none() {
            let problem = Problem::new("nothing says when rows expire");
            return Err(problem.help("set `expire_after`, or leave `expire_by` out").at(["expire_by"]));
        }
        stream.require_event_time().map(Some)
    }
}
