//! An input whose rows have event times and come from several partitions.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::tests::crash;

/// Numbers with event times that are out of order by less than 50 seconds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// The first number.
    #[serde(default)]
    start: i64,
    /// How many, in all partitions together.
    rows: u64,
    /// How many partitions.
    #[serde(default = "one")]
    partitions: u64,
    /// Takes rows of the partitions in turn, and says which are there and which are gone.
    #[serde(default)]
    mixed: bool,
    /// Refuses every number that this divides.
    refuse: Option<i64>,
    /// Gives no event time to every number that this divides.
    timeless: Option<i64>,
    /// Does not say that it will end.
    #[serde(default)]
    live: bool,
    /// Whether it says that each run stops behind what is there.
    #[serde(default)]
    pauses: bool,
    /// Waits so many milliseconds before every batch.
    #[serde(default)]
    pause: u64,
    /// The columns that it leaves out.
    #[serde(default)]
    left_out: Vec<String>,
}

fn one() -> u64 {
    1
}

/// When the event of a number happened.
pub fn second(n: i64) -> i64 {
    (n % 1000) * 10 + (n * 7919) % 50
}

/// Of a mixed input, so many rows of a partition come before the next one's turn.
const TURN: u64 = 7;

impl Kind for Events {
    const NAME: &'static str = "events";
    const FREE_SETTINGS: &'static [&'static str] = &["pause"];
    const EXAMPLE: &'static str = "rows = 3";
}

impl InputSettings for Events {
    fn pauses(&self) -> bool {
        self.pauses
    }

    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let is_wanted = |name: &str| context.columns.as_ref().is_none_or(|wanted| wanted.contains(name));
        let header = if is_wanted("at") { "n:int64 at:timestamp?" } else { "n:int64" };
        let reading = Reading {
            settings: self.clone(),
            places: places(self),
            next: 0,
            gone: BTreeSet::new(),
            ready: Instant::now(),
            batch_rows: context.batch_rows,
            source: context.node.as_str().into(),
            flow: context.flow.clone(),
            schema: millstream_testkit::schema(header),
        };
        Ok(InputPlan {
            finite: !self.live,
            interleaved: self.mixed,
            rows: Some(self.rows),
            left_out: self
                .left_out
                .iter()
                .map(|name| LeftOut { name: name.clone(), data_type: "Duration(s)".into() })
                .collect(),
            ..InputPlan::new(reading.schema.clone(), move || Ok(reading))
        })
    }
}

/// The partition and position of every row, in the order in which they come.
fn places(settings: &Events) -> Vec<(u64, u64)> {
    // The first partitions have more rows than the last, so that they end one after the other.
    let rows = |partition: u64| {
        settings.rows * 2 * (settings.partitions - partition) / (settings.partitions * (settings.partitions + 1))
    };
    let mut places: Vec<(u64, u64)> = (0..settings.partitions)
        .flat_map(|partition| (0..rows(partition)).map(move |position| (partition, position)))
        .collect();
    if settings.mixed {
        places.sort_by_key(|(partition, position)| (position / TURN, *partition, *position));
    }
    places
}

struct Reading {
    settings: Events,
    places: Vec<(u64, u64)>,
    /// The next place.
    next: usize,
    /// The partitions that are known to be gone.
    gone: BTreeSet<u64>,
    /// When the next batch is there.
    ready: Instant,
    batch_rows: usize,
    source: Arc<str>,
    flow: String,
    schema: SchemaRef,
}

fn partition_name(partition: u64) -> Arc<str> {
    format!("p{partition}").into()
}

impl Reading {
    fn number(&self, (partition, position): (u64, u64)) -> i64 {
        self.settings.start + (partition * 1000 + position) as i64
    }

    fn is_over(&self, partition: u64) -> bool {
        self.places[self.next..].iter().all(|(other, _)| *other != partition)
    }

    /// Says which partitions are there, and which have become none.
    fn change_partitions(&mut self, out: &mut Collector) {
        for partition in (0..self.settings.partitions).filter(|_| self.settings.mixed) {
            if self.next == 0 && !self.gone.contains(&partition) {
                let (partition, locator) = (partition_name(partition), String::new());
                out.change_partition(PartitionChange::Added { partition, locator });
            }
            if self.is_over(partition) && self.gone.insert(partition) {
                out.change_partition(PartitionChange::Gone(partition_name(partition)));
            }
        }
    }

    /// The places of the next batch: not past the last row of a partition, so that it is gone right behind that.
    fn batch(&self) -> Range<usize> {
        let rest = &self.places[self.next..];
        let ends_partition = |place: &usize| rest[place + 1..].iter().all(|(other, _)| *other != rest[*place].0);
        let longest = rest.len().min(self.batch_rows);
        let end = (0..longest).find(ends_partition).map_or(longest, |last| last + 1);
        self.next..self.next + end
    }

    fn is_refused(&self, place: (u64, u64)) -> bool {
        self.settings.refuse.is_some_and(|by| self.number(place) % by == 0)
    }

    /// Pushes rows that follow each other in a partition.
    fn push(&self, places: &[(u64, u64)], out: &mut Collector) -> Result<()> {
        let (partition, first) = places[0];
        let kept = || places.iter().filter(|place| !self.is_refused(**place)).map(|place| self.number(*place));
        let is_timeless = |n: i64| self.settings.timeless.is_some_and(|by| n % by == 0);
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(kept()));
        let times: TimestampMicrosecondArray =
            kept().map(|n| (!is_timeless(n)).then(|| second(n) * 1_000_000)).collect();
        let columns = [numbers, Arc::new(times.with_timezone("UTC"))].into_iter().take(self.schema.fields().len());
        let rows = RecordBatch::try_new(self.schema.clone(), columns.collect())?;
        let end = first + places.len() as u64;
        out.push(0, Batch::new(rows, Origin::new(self.source.clone(), partition_name(partition), first, end)));
        for place in places.iter().filter(|place| self.is_refused(**place)) {
            out.fail(FailedRow {
                error: "refused".into(),
                source: self.source.clone(),
                partition: partition_name(partition),
                position: Some(place.1),
                line: None,
                row: self.number(*place).to_string(),
                encoding: Encoding::Text,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Input for Reading {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        // What it finds out counts, also if it is cancelled then.
        self.change_partitions(out);
        tokio::time::sleep_until(self.ready).await;
        tokio::task::yield_now().await;
        // Not anew whenever this is cancelled.
        self.ready = Instant::now() + Duration::from_millis(self.settings.pause);
        crash::step(&self.flow)?;
        let batch = self.batch();
        for run in self.places[batch.clone()].chunk_by(|a, b| a.0 == b.0) {
            self.push(run, out)?;
        }
        self.next = batch.end;
        Ok(if self.next == self.places.len() { Progress::End } else { Progress::More })
    }

    fn snapshot(&mut self, _: &Positions) -> Result<Parts> {
        let mut parts = Parts::default();
        parts.put("gone", &self.gone)?;
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        self.gone = state.get("gone")?;
        let next = |partition: u64| positions.get(&partition_name(partition)).copied().unwrap_or_default();
        // Of later partitions, rows may have been sent before the refused ones of an earlier one.
        self.places.retain(|(partition, position)| !self.gone.contains(partition) && *position >= next(*partition));
        Ok(())
    }
}
