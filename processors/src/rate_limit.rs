//! The processor `rate_limit`: rows leave at a pace.

use std::time::Duration as StdDuration;

use millstream_core::{
    Batch, ByteSize, Collector, Duration, Kind, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Rate, Result, Stream, Uses, batch_bytes,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

/// Passes rows on at a pace, such as the one that a service behind it allows. Which rows leave, and in which order, does not depend on time.
///
/// What is not used of the pace is saved up for a while (`burst`). Rows that are too many wait at the nodes before this one, up to
/// the inputs, which read no faster then. Barriers stay behind their rows, so that an epoch takes as long as its rows take,
/// and a flow that is stopped first lets those leave that have been read: with a slow pace, let `[flow] epoch` have few rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitSettings {
    /// How many rows leave, such as `"1000/s"` or `"90/m"`.
    rows: Option<Rate>,
    /// How many bytes leave in a second, as rows take them in memory: `"10MiB"`.
    bytes_per_second: Option<ByteSize>,
    /// How much is saved up at most: as many rows and bytes as leave in so much time, 10 ms at least.
    #[serde(default = "default_burst")]
    burst: Duration,
}

fn default_burst() -> Duration {
    Duration(StdDuration::from_secs(1))
}

impl Kind for RateLimitSettings {
    const NAME: &'static str = "rate_limit";
    const ALSO_CALLED: &'static [&'static str] = &["throttle", "control_rate", "delay", "pace"];
    const EXAMPLE: &'static str = r#"rows = "1000/s"
burst = "100ms""#;
    const FREE_SETTINGS: &'static [&'static str] = &["rows", "bytes_per_second", "burst"];
}

impl ProcessorSettings for RateLimitSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        if self.rows.is_none() && self.bytes_per_second.is_none() {
            return Err(Problem::new("nothing says how fast rows leave")
                .help("set `rows` or `bytes_per_second`")
                .into());
        }
        if self.bytes_per_second == Some(ByteSize(0)) {
            return Err(Problem::new("no row ever leaves at 0 bytes a second").at(["bytes_per_second"]).into());
        }
        let burst = self.burst.0.as_secs_f64();
        let rows = self.rows.map(|Rate(rows)| (rows, burst));
        let bytes = self.bytes_per_second.map(|ByteSize(bytes)| (bytes as f64, burst));
        let ports = vec![PortPlan::main(inputs[0].schema.clone())];
        let uses = vec![Uses::passing_on::<&str>([])];
        let build = move || {
            let bucket = |(rate, burst)| Bucket::new(rate, burst, Instant::now());
            let node = RateLimit { rows: rows.map(bucket), bytes: bytes.map(bucket), waiting: None, pause: None };
            Ok(Box::new(node) as Box<dyn Processor>)
        };
        Ok(ProcessorPlan { ports, uses, fails: false, build: Box::new(build) })
    }
}

/// Rows leave in pieces of about so much time, so that there are neither very many of them nor long stretches without any.
const PIECE: f64 = 0.01;

/// The longest time for which the engine is told to wait at once.
const LONGEST_PAUSE: f64 = 1.0;

/// How much may leave: it grows with time, up to a limit (a token bucket).
#[derive(Debug)]
struct Bucket {
    /// How much comes in a second.
    rate: f64,
    /// How much there may be.
    most: f64,
    /// How much there is. Less than 0 if a row took more than there may be.
    level: f64,
    at: Instant,
}

impl Bucket {
    /// One that is full.
    fn new(rate: f64, burst: f64, now: Instant) -> Self {
        let most = rate * burst.max(PIECE);
        Self { rate, most, level: most, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.level, self.at) = ((self.level + elapsed * self.rate).min(self.most), now);
    }

    /// How many rows of a size may leave, and how many seconds it takes until some may: as many as come in the time of a piece, or those that
    /// are wanted. One row may always leave when the bucket is full.
    fn allows(&self, size: f64, wanted: f64) -> (f64, f64) {
        let enough = (self.rate * PIECE / size).max(1.0).min(wanted) * size;
        let enough = enough.min(self.most);
        if self.level >= enough {
            ((self.level / size).floor().max(1.0), 0.0)
        } else {
            (0.0, (enough - self.level) / self.rate)
        }
    }
}

struct RateLimit {
    rows: Option<Bucket>,
    bytes: Option<Bucket>,
    /// What has not left.
    waiting: Option<Batch>,
    pause: Option<StdDuration>,
}

impl RateLimit {
    /// Lets those rows leave that may at this time. Returns whether there are others.
    fn leave(&mut self, now: Instant, out: &mut Collector) -> bool {
        self.pause = None;
        let Some(batch) = self.waiting.take().filter(|batch| !batch.is_empty()) else { return false };
        let size = (batch_bytes(&batch.rows) as f64 / batch.len() as f64).max(1.0);
        let wanted = batch.len() as f64;
        let (mut count, mut seconds) = (wanted, 0.0_f64);
        for (bucket, size) in [(&mut self.rows, 1.0), (&mut self.bytes, size)] {
            let Some(bucket) = bucket else { continue };
            bucket.fill(now);
            let (allowed, wait) = bucket.allows(size, wanted);
            (count, seconds) = (count.min(allowed), seconds.max(wait));
        }
        let count = count as usize;
        if count == 0 {
            // Not less than a clock can measure, so that time comes along.
            self.pause = Some(StdDuration::from_secs_f64(seconds.clamp(1e-6, LONGEST_PAUSE)));
            self.waiting = Some(batch);
            return true;
        }
        for (bucket, size) in [(&mut self.rows, 1.0), (&mut self.bytes, size)] {
            bucket.iter_mut().for_each(|bucket| bucket.level -= count as f64 * size);
        }
        out.push(0, batch.with_rows(batch.rows.slice(0, count)));
        let rest = batch.with_rows(batch.rows.slice(count, batch.len() - count));
        self.waiting = Some(rest).filter(|rest| !rest.is_empty());
        self.waiting.is_some()
    }
}

impl Processor for RateLimit {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.waiting = Some(batch);
        self.leave(Instant::now(), out);
        Ok(())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let is_waiting = self.waiting.is_some();
        self.leave(Instant::now(), out);
        Ok(is_waiting)
    }

    fn pause(&self) -> Option<StdDuration> {
        self.pause
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{batch, context, drive, parse, stream, table};

    use super::*;

    /// How many rows leave at once, and how many milliseconds after the first.
    fn leaves(rows: Option<(f64, f64)>, bytes: Option<(f64, f64)>, count: usize) -> Vec<(usize, u128)> {
        let lines: String = (0..count).map(|n| format!("\n {n}")).collect();
        let begin = Instant::now();
        let mut now = begin;
        let bucket = |(rate, burst)| Bucket::new(rate, burst, begin);
        let waiting = Some(batch(table(&format!("n:int64{lines}"))));
        let mut node = RateLimit { rows: rows.map(bucket), bytes: bytes.map(bucket), waiting, pause: None };
        let mut out = Collector::new(1);
        let mut left = Vec::new();
        loop {
            let has_more = node.leave(now, &mut out);
            left.extend(out.take(0).map(|batch| (batch.len(), now.duration_since(begin).as_millis())));
            now += node.pause().unwrap_or_default();
            if !has_more {
                return left;
            }
        }
    }

    #[test]
    fn a_burst_leaves_at_once_and_the_others_at_their_pace() {
        let left = leaves(Some((1000.0, 0.1)), None, 400);
        assert_eq!(left[0], (100, 0));
        assert_eq!(left.iter().map(|(rows, _)| rows).sum::<usize>(), 400);
        let (_, last) = left.last().unwrap();
        assert!((295..=305).contains(last), "{last} ms for 300 rows");
        assert!(left.len() <= 35, "{} pieces", left.len());
    }

    #[test]
    fn slow_rows_leave_one_by_one() {
        let left = leaves(Some((0.5, 0.0)), None, 3);
        assert_eq!(left.iter().map(|(rows, _)| *rows).collect::<Vec<_>>(), [1, 1, 1]);
        assert!((3990..=4100).contains(&left[2].1), "{left:?}");
    }

    #[test]
    fn bytes_have_a_pace_and_a_row_that_is_larger_than_it_leaves_all_the_same() {
        let (_, last) = *leaves(None, Some((8000.0, 0.0)), 1000).last().unwrap();
        assert!((980..=1010).contains(&last), "{last} ms for 8000 bytes");
        let left = leaves(Some((1000.0, 1.0)), Some((2.0, 0.1)), 3);
        assert!((7900..=8200).contains(&left[2].1), "{left:?}");
    }

    #[test]
    fn rows_pass_in_their_order() {
        let rows = table("n:int64\n 1\n 2\n 3");
        for batch_rows in [1, 2, 100] {
            let driven = drive(
                &parse::<RateLimitSettings>("rows = '100000/s'\nburst = '0s'"),
                &[("from", rows.clone())],
                batch_rows,
            );
            assert_eq!(driven.text("main"), "n:int64\n1\n2\n3\n");
        }
    }

    #[test]
    fn a_pace_has_to_be_said() {
        let streams = [stream("from", table("n:int64\n").schema())];
        for settings in ["", "bytes_per_second = '0B'"] {
            assert!(parse::<RateLimitSettings>(settings).plan(&context(), &streams).is_err());
        }
    }
}
