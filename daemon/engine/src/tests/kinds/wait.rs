//! A processor that keeps rows while there is no room behind it.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::{kept, one_port, pairs, rows_of};
use crate::tests::sabotage::Sabotage;

/// Keeps rows while there is no room behind it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// How many rows wait at most.
    most: Option<usize>,
    /// Lets the oldest of those that are too many leave by `dropped`, instead of taking no more.
    #[serde(default)]
    drops: bool,
    /// After so many milliseconds, rows leave by `expired`.
    expires: Option<u64>,
    /// Multiples of this number leave first.
    first: Option<i64>,
}

impl Kind for Wait {
    const NAME: &'static str = "wait";
    const EXAMPLE: &'static str = "";
}

impl ProcessorSettings for Wait {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let node = Waiting {
            flow: context.flow.clone(),
            schema: schema.clone(),
            most: self.most.unwrap_or(usize::MAX),
            drops: self.drops,
            expires: self.expires.map(Duration::from_millis),
            first: self.first,
            rows: VecDeque::new(),
            next: 0,
            watermarks: VecDeque::new(),
            come: None,
        };
        let ports = vec![
            PortPlan::main(schema.clone()),
            PortPlan::side("dropped", schema.clone()),
            PortPlan::side("expired", schema.clone()),
        ];
        Ok(ProcessorPlan { ports, ..one_port(inputs, node) })
    }

    fn buffering(&self) -> Option<Buffering> {
        Some(Buffering { keeps_order: self.first.is_none() })
    }
}

/// A row that waits: its number among all that came, and since when.
struct Row {
    value: (i64, EventTime),
    number: u64,
    since: Instant,
}

struct Waiting {
    flow: String,
    schema: SchemaRef,
    most: usize,
    drops: bool,
    expires: Option<Duration>,
    first: Option<i64>,
    rows: VecDeque<Row>,
    next: u64,
    /// Watermarks that have come, and how many rows had come before.
    watermarks: VecDeque<(u64, EventTime)>,
    come: Option<EventTime>,
}

const DROPPED: usize = 1;
const EXPIRED: usize = 2;

/// What is kept of a row, with how many milliseconds it has waited.
type Kept = ((i64, EventTime), u64, u64);

impl Waiting {
    fn push(&self, port: usize, values: &[(i64, EventTime)], out: &mut Collector) {
        let origin = Origin::new("wait", "", 0, values.len() as u64);
        out.push(port, Batch::new(rows_of(&self.schema, values), origin));
    }

    /// Lets rows leave one by one, until `rows` have left or event time has come along.
    fn leave(
        &mut self,
        rows: usize,
        port: usize,
        out: &mut Collector,
        place: impl Fn(&Self) -> Option<usize>,
    ) -> usize {
        let (mut values, come) = (Vec::new(), self.come);
        while values.len() < rows
            && self.come == come
            && let Some(row) = place(self).and_then(|place| self.rows.remove(place))
        {
            values.push(row.value);
            self.move_time();
        }
        self.push(port, &values, out);
        values.len()
    }

    fn move_time(&mut self) {
        let oldest = self.rows.front().map_or(u64::MAX, |row| row.number);
        while let Some((_, at)) = self.watermarks.pop_front_if(|(before, _)| *before <= oldest) {
            self.come = Some(at);
        }
    }

    fn is_first(&self, row: &Row) -> bool {
        self.first.is_some_and(|of| row.value.0 % of == 0)
    }
}

impl Processor for Waiting {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        assert!(self.rows.is_empty(), "rows pass others that wait");
        out.push(0, batch);
        Ok(())
    }

    fn buffer(&mut self) -> Option<&mut dyn Buffer> {
        Some(self)
    }

    fn watermark(&mut self, at: EventTime, _: &mut Collector) -> Result<EventTime> {
        self.watermarks.push_back((self.next, at));
        self.move_time();
        Ok(self.come.unwrap_or(EventTime::MIN))
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let is_sabotaged = Sabotage::ForgottenRows.is_on(&self.flow);
        let rows = self.rows.iter().filter(|_| !is_sabotaged);
        let rows: Vec<Kept> = rows.map(|row| (row.value, row.number, row.since.elapsed().as_millis() as u64)).collect();
        kept(&(rows, self.next, &self.watermarks, self.come))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let rows: Vec<Kept>;
        (rows, self.next, self.watermarks, self.come) = state.get("value")?;
        let row = |(value, number, waited): Kept| {
            let now = Instant::now();
            Row { value, number, since: now.checked_sub(Duration::from_millis(waited)).unwrap_or(now) }
        };
        self.rows = rows.into_iter().map(row).collect();
        Ok(())
    }
}

impl Buffer for Waiting {
    fn take(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        for value in pairs(&batch.rows) {
            self.rows.push_back(Row { value, number: self.next, since: Instant::now() });
            self.next += 1;
        }
        let most = if self.drops { self.most } else { usize::MAX };
        let dropped: Vec<_> = self.rows.drain(..self.rows.len().saturating_sub(most)).map(|row| row.value).collect();
        self.push(DROPPED, &dropped, out);
        self.move_time();
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.rows.len()
    }

    fn is_full(&self) -> bool {
        !self.drops && self.rows.len() >= self.most
    }

    fn give(&mut self, rows: usize, out: &mut Collector) -> Result<usize> {
        let next = |node: &Self| Some(node.rows.iter().position(|row| node.is_first(row)).unwrap_or(0));
        Ok(self.leave(rows, 0, out, next))
    }

    fn come(&self) -> Option<EventTime> {
        self.come
    }

    fn patience(&self) -> Option<Duration> {
        self.expires.zip(self.rows.front()).map(|(expires, row)| expires.saturating_sub(row.since.elapsed()))
    }

    fn expire(&mut self, rows: Option<usize>, out: &mut Collector) -> Result<usize> {
        let Some(rows) = rows else {
            let is_over = |node: &Self| node.patience().is_some_and(|left| left.is_zero());
            return Ok(self.leave(usize::MAX, EXPIRED, out, |node| is_over(node).then_some(0)));
        };
        Ok(self.leave(rows, EXPIRED, out, |_| Some(0)))
    }
}
