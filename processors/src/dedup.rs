//! The processor `dedup`: each key once.

mod seen;

use arrow::array::BooleanArray;
use arrow::array::cast::AsArray;
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::TimestampMicrosecondType;
use millstream_core::{
    Batch, Collector, Duration, EventTime, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor,
    ProcessorPlan, ProcessorSettings, Result, Snapshot, State, Stream, Uses, refuse_timeless,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::seen::Seen;
use crate::keys::Keys;

/// Lets the first row of each key pass; the others leave by the port `repeated`.
///
/// With `within`, a row is a duplicate only if its event time is less than that away from the one of a row that passed,
/// in whichever order they come, and keys are forgotten once the watermark has come so far. Rows behind the watermark, of
/// which nobody knows any more whether they are duplicates, leave by the port `late`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupSettings {
    /// The columns that together name what a row is about.
    #[schemars(length(min = 1))]
    keys: Vec<String>,
    /// How long a key is remembered, such as `"1h"`; for ever without it. Needs `event_time` at the input.
    within: Option<Duration>,
    /// How many keys may be remembered at a time; a row with another one leaves by `failed`. With `within`, as many further
    /// rows may have passed with keys that are remembered.
    #[serde(default = "default_max_keys")]
    #[schemars(range(min = 1))]
    max_keys: usize,
}

fn default_max_keys() -> usize {
    10_000_000
}

impl Kind for DedupSettings {
    const NAME: &'static str = "dedup";
    const ALSO_CALLED: &'static [&'static str] = &["distinct", "deduplicate", "drop_duplicates", "unique"];
    const EXAMPLE: &'static str = r#"keys = ["id"]
within = "1h""#;
    const FREE_SETTINGS: &'static [&'static str] = &["max_keys"];
}

impl ProcessorSettings for DedupSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let keys = Keys::plan("keys", &self.keys, &stream.schema)?;
        let span = match self.within {
            None => None,
            Some(within) => match within.span().map_err(|problem| problem.at(["within"]))? {
                0 => return Err(Problem::new("a span can't be 0").at(["within"]).into()),
                span => Some((stream.require_event_time()?, span)),
            },
        };
        let side = |name: &str| PortPlan::side(name, stream.schema.clone());
        let late = span.map(|_| side("late"));
        let ports = [PortPlan::main(stream.schema.clone()), side("repeated")].into_iter().chain(late).collect();
        let time = stream.event_time.iter().filter(|_| span.is_some());
        let uses = vec![Uses::passing_on(self.keys.iter().chain(time).cloned())];
        let dedup = Dedup { keys, span, max_keys: self.max_keys, seen: Seen::default(), watermark: EventTime::MIN };
        Ok(ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(dedup))) })
    }
}

struct Dedup {
    keys: Keys,
    /// The column of the event time, and how long keys are remembered.
    span: Option<(usize, i64)>,
    max_keys: usize,
    seen: Seen,
    watermark: EventTime,
}

/// The output port of late rows.
const LATE_PORT: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passes,
    Repeated,
    Full,
}

impl Dedup {
    fn outcome(&mut self, key: &[u8], time: EventTime) -> Outcome {
        let hash = self.seen.hash(key);
        let is_full = match (self.seen.latest(hash, key), self.span) {
            (Some(_), None) => return Outcome::Repeated,
            (Some(latest), Some((_, span))) if self.seen.is_near(latest, time, span) => return Outcome::Repeated,
            (Some(_), Some(_)) => self.seen.earlier_rows() >= self.max_keys,
            (None, _) => self.seen.keys() >= self.max_keys,
        };
        if is_full {
            return Outcome::Full;
        }
        self.seen.add(hash, key, time, self.span.is_some());
        Outcome::Passes
    }

    /// The rows that come in time; the others leave.
    fn in_time(&self, batch: Batch, out: &mut Collector) -> Result<Batch> {
        let Some((time, _)) = self.span else { return Ok(batch) };
        let batch = refuse_timeless(batch, time, out)?;
        let times = batch.rows.column(time).as_primitive::<TimestampMicrosecondType>().values();
        let late: BooleanArray = times.iter().map(|time| Some(*time < self.watermark)).collect();
        if late.true_count() == 0 {
            return Ok(batch);
        }
        out.push(LATE_PORT, batch.with_rows(filter_record_batch(&batch.rows, &late)?));
        Ok(batch.with_rows(filter_record_batch(&batch.rows, &not(&late)?)?))
    }
}

impl Processor for Dedup {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let batch = self.in_time(batch, out)?;
        let keys = self.keys.of(&batch.rows)?;
        let times = self.span.map(|(time, _)| batch.rows.column(time).as_primitive::<TimestampMicrosecondType>());
        let time = |row: usize| times.map_or(0, |times| times.value(row));
        let outcomes: Vec<Outcome> =
            (0..batch.len()).map(|row| self.outcome(keys.row(row).data(), time(row))).collect();
        for (port, outcome) in [Outcome::Passes, Outcome::Repeated].into_iter().enumerate() {
            let mask: BooleanArray = outcomes.iter().map(|of_row| Some(*of_row == outcome)).collect();
            match mask.true_count() {
                0 => {}
                all if all == batch.len() => out.push(port, batch.clone()),
                _ => out.push(port, batch.with_rows(filter_record_batch(&batch.rows, &mask)?)),
            }
        }
        for row in (0..batch.len()).filter(|row| outcomes[*row] == Outcome::Full) {
            out.fail_row(&batch, row, format!("{} keys are remembered already (`max_keys`)", self.max_keys))?;
        }
        Ok(())
    }

    fn watermark(&mut self, at: EventTime, _: &mut Collector) -> Result<EventTime> {
        let Some((_, span)) = self.span else { return Ok(at) };
        self.watermark = at;
        self.seen.forget(at, span);
        Ok(at)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        if self.span.is_some() {
            parts.put("watermark", &self.watermark)?;
        }
        self.seen.save(&self.keys, &mut parts)?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        if self.span.is_some() {
            self.watermark = state.get("watermark")?;
        }
        self.seen.load(&self.keys, state, self.span.is_some())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{Timing, drive, drive_in_time, parse, table};

    use super::*;

    #[test]
    fn the_first_row_of_a_key_passes() {
        let rows = table("k:utf8? n:int64\n a 1\n b 2\n a 3\n null 4\n null 5\n b 6");
        for batch_rows in [1, 2, 100] {
            let driven = drive(&parse::<DedupSettings>("keys = ['k']"), &[("from", rows.clone())], batch_rows);
            assert_eq!(driven.text("main"), "k:utf8? n:int64\na 1\nb 2\nnull 4\n");
            assert_eq!(driven.text("repeated"), "k:utf8? n:int64\na 3\nnull 5\nb 6\n");
        }
    }

    #[test]
    fn a_key_is_remembered_for_a_span() {
        let rows = table(
            "at:timestamp k:int64
             1970-01-01T00:00:00Z 1
             1970-01-01T00:00:09Z 1
             1970-01-01T00:00:10Z 1
             1970-01-01T00:00:19Z 1
             1970-01-01T00:01:00Z 2
             1970-01-01T00:01:01Z 1",
        );
        let settings: DedupSettings = parse("keys = ['k']\nwithin = '10s'\nmax_keys = 1");
        for batch_rows in [1, 100] {
            let timing = Timing { lateness: 0, watermark_rows: 1, epoch_rows: 100, batch_rows };
            let driven = drive_in_time(&settings, &rows, timing);
            let expected =
                "at:timestamp k:int64\n1970-01-01T00:00:00Z 1\n1970-01-01T00:00:10Z 1\n1970-01-01T00:01:01Z 1\n";
            assert_eq!(driven.text("main"), expected);
            assert!(driven.failed[0].error.contains("max_keys"), "only one key is remembered");
        }
    }

    /// Rows of one key at these seconds, and the numbers of those that leave by each port.
    fn at_seconds(seconds: &[i64], lateness: i64, watermark_rows: usize) -> [Vec<usize>; 3] {
        let lines = seconds
            .iter()
            .enumerate()
            .map(|(row, second)| format!("\n 1970-01-01T00:{:02}:{:02}Z 1 {row}", second / 60, second % 60));
        let rows = table(&format!("at:timestamp k:int64 row:int64{}", lines.collect::<String>()));
        let settings: DedupSettings = parse("keys = ['k']\nwithin = '10s'");
        let ports = [1, 3, 100].map(|batch_rows| {
            let timing = Timing { lateness: lateness * 1_000_000, watermark_rows, epoch_rows: 1000, batch_rows };
            let driven = drive_in_time(&settings, &rows, timing);
            ["main", "repeated", "late"].map(|port| {
                let text = driven.text(port);
                text.lines().skip(1).map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
            })
        });
        assert!(ports.iter().all(|other: &[Vec<usize>; 3]| *other == ports[0]), "{ports:?}");
        let [one, ..] = ports;
        one
    }

    #[test]
    fn rows_out_of_order_are_compared_with_all_that_passed() {
        assert_eq!(at_seconds(&[100, 80, 80, 81], 60, 100), [vec![0, 1], vec![2, 3], vec![]]);
        assert_eq!(at_seconds(&[100, 80, 90, 89, 91, 110], 60, 100), [vec![0, 1, 2, 5], vec![3, 4], vec![]]);
    }

    #[test]
    fn what_is_behind_the_watermark_is_late() {
        assert_eq!(at_seconds(&[100, 94, 95, 120, 100, 109, 131], 5, 1), [vec![0, 3, 6], vec![2], vec![1, 4, 5]]);
    }

    #[test]
    fn as_if_all_rows_were_remembered() {
        let mut number = 1_u64;
        let mut random = |below: u64| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((number >> 33) % below) as i64
        };
        for _ in 0..30 {
            let (lateness, watermark_rows) = (random(60), 1 + random(5) as usize);
            let seconds: Vec<i64> = (0..60).map(|row| row * 4 + random(50)).collect();
            let (mut watermark, mut expected) = (i64::MIN, [vec![], vec![], vec![]]);
            for (row, second) in seconds.iter().enumerate() {
                let passed = |other: &usize| (seconds[*other] - second).abs() < 10;
                let port = if *second < watermark { 2 } else { usize::from(expected[0].iter().any(passed)) };
                expected[port].push(row);
                if (row + 1) % watermark_rows == 0 {
                    watermark = seconds[..=row].iter().max().unwrap() - lateness;
                }
            }
            assert_eq!(at_seconds(&seconds, lateness, watermark_rows), expected, "{seconds:?}");
        }
    }
}
