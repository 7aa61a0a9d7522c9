//! The event time of an input: how far it has come, partition by partition, and the watermark that follows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::compute::max;
use arrow::datatypes::TimestampMicrosecondType;
use millstream_core::{EventTime, PartitionChange, Watermark};
use tokio::time::Instant;

use super::advance::Advance;
use crate::checkpoint::WatermarkState;
use crate::plan::{PlannedTime, TimeColumn};

/// Watches the rows of an input pass, and says when its watermark moves.
#[derive(Debug)]
pub struct WatermarkGenerator {
    time: PlannedTime,
    partitions: Vec<Partition>,
    /// Since when a partition is waited for where there is none; `None` when that has taken too long.
    empty: Option<Instant>,
    /// What was said last.
    said: Option<Watermark>,
    /// Whether other inputs have to come as far as the watermark, instead of as far as the latest row.
    is_predicted: bool,
    /// How far it has come for the inputs that wait for it: the rows that follow are no earlier. The lowest time before the
    /// first row.
    come: EventTime,
    /// The watermark may come so far, since the next row does.
    next: EventTime,
}

/// The part of a source whose rows are in order, more or less.
#[derive(Debug)]
struct Partition {
    name: Arc<str>,
    /// None until it has had a row.
    latest: Option<EventTime>,
    /// Since the watermark was moved last.
    rows: usize,
    seen: Instant,
    idle: bool,
}

impl WatermarkGenerator {
    pub fn new(time: PlannedTime) -> Self {
        let (is_predicted, come, next) = (false, EventTime::MIN, EventTime::MIN);
        let empty = Some(Instant::now());
        Self { time, partitions: Vec::new(), empty, said: None, is_predicted, come, next }
    }

    /// The clock of an input whose rows are predicted by what is learned from others, if that is so.
    pub fn predicted(self, is_predicted: bool) -> Self {
        Self { is_predicted, ..self }
    }

    /// How far it has come.
    pub fn state(&self) -> WatermarkState {
        let partition = |known: &Partition| (known.name.to_string(), known.latest, known.rows, known.idle);
        let come = Some(self.come).filter(|come| *come > EventTime::MIN);
        WatermarkState { partitions: self.partitions.iter().map(partition).collect(), said: self.said, come }
    }

    /// Goes on from there.
    pub fn restore(&mut self, state: &WatermarkState) {
        let seen = Instant::now();
        let partition = |(name, latest, rows, idle): &(String, Option<EventTime>, usize, bool)| Partition {
            name: name.as_str().into(),
            latest: *latest,
            // A `watermark_rows` that was lowered meanwhile is due at once.
            rows: (*rows).min(self.time.watermark_rows - 1),
            seen,
            idle: *idle,
        };
        self.partitions = state.partitions.iter().map(partition).collect();
        self.said = state.said;
        self.come = state.come.unwrap_or(EventTime::MIN);
    }

    /// Where the event time is in the rows that leave by a port.
    pub fn column(&self, port: usize) -> &TimeColumn {
        &self.time.columns[port]
    }

    /// After how many more rows of a partition the watermark moves.
    pub fn rows_left(&self, partition: &Arc<str>) -> usize {
        let rows = self.partitions.iter().find(|known| known.name == *partition).map_or(0, |known| known.rows);
        self.time.watermark_rows - rows
    }

    /// Takes in rows of a partition that leave by a port, none of which has a null for its time.
    pub fn pass(&mut self, partition: &Arc<str>, port: usize, rows: &RecordBatch) {
        let times = rows.column(self.time.columns[port].index).as_primitive::<TimestampMicrosecondType>();
        let Some(latest) = max(times) else { return };
        self.come = self.advance_of(partition).with(latest);
        let seen = Instant::now();
        if let Some(known) = self.partitions.iter_mut().find(|known| known.name == *partition) {
            known.latest = known.latest.max(Some(latest));
            known.rows += times.len();
            (known.seen, known.idle) = (seen, false);
            return;
        }
        if !self.time.interleaved {
            self.partitions.clear();
        }
        let name = partition.clone();
        self.partitions.push(Partition { name, latest: Some(latest), rows: times.len(), seen, idle: false });
    }

    /// How far it comes with rows of a partition that follow.
    pub fn advance_of(&self, partition: &Arc<str>) -> Advance {
        let (mut latest, mut others, mut lateness) = (EventTime::MIN, EventTime::MAX, 0);
        if self.is_predicted {
            let (own, mixed): (Vec<_>, Vec<_>) = self.partitions.iter().partition(|known| known.name == *partition);
            latest = own.first().and_then(|known| known.latest).unwrap_or(EventTime::MIN);
            let waited_for = mixed.iter().filter(|known| self.time.interleaved && !known.idle);
            others = waited_for.map(|known| known.latest.unwrap_or(EventTime::MIN)).min().unwrap_or(EventTime::MAX);
            lateness = self.time.lateness;
        }
        Advance { latest, others, lateness, come: self.come }
    }

    /// How far it has come for the inputs that wait for it; `None` if nobody should wait, since nothing has come for a while.
    pub fn come(&mut self) -> Option<EventTime> {
        let mut active = self.partitions.iter().filter(|known| !known.idle).peekable();
        if active.peek().is_none() && !self.is_awaited() {
            return None;
        }
        // Partitions that have fallen idle no longer hold it back.
        if self.is_predicted
            && let Some(Some(latest)) = active.map(|known| known.latest).min()
        {
            self.come = self.come.max(latest.saturating_sub(self.time.lateness));
        }
        Some(self.come)
    }

    /// Takes in how far the next row comes: so far the watermark of an input that is predicted may come before it.
    pub fn come_to(&mut self, at: EventTime) {
        self.come = at;
        if self.is_predicted {
            self.next = at;
        }
    }

    /// Takes in that a partition is there, or gone.
    pub fn change(&mut self, change: PartitionChange) {
        match change {
            PartitionChange::Gone(name) => {
                self.partitions.retain(|known| known.name != name);
                self.empty = Some(Instant::now());
            }
            PartitionChange::Added { partition: name, .. }
                if self.partitions.iter().all(|known| known.name != name) =>
            {
                let seen = Instant::now();
                self.partitions.push(Partition { name, latest: None, rows: 0, seen, idle: false });
            }
            PartitionChange::Added { .. } => {}
        }
    }

    /// The watermark now, if it has moved. The partition furthest behind counts.
    pub fn advance(&mut self) -> Option<Watermark> {
        for known in self.partitions.iter_mut().filter(|known| known.rows >= self.time.watermark_rows) {
            known.rows = 0;
        }
        let active = self.partitions.iter().filter(|known| !known.idle).map(|known| known.latest).min();
        let now = match active {
            Some(None) => return None,
            Some(Some(latest)) => Watermark::At(latest.saturating_sub(self.time.lateness).max(self.next)),
            None if self.is_awaited() => return None,
            None => Watermark::Idle,
        };
        let moved = match (self.said, now) {
            (Some(Watermark::At(said)), Watermark::At(now)) => now > said,
            (said, now) => said != Some(now),
        };
        moved.then(|| *self.said.insert(now))
    }

    /// When a partition will have been without rows for too long.
    pub fn idle_at(&self) -> Option<Instant> {
        let idle = self.time.idle?;
        let seen = self.partitions.iter().filter(|known| !known.idle).map(|known| known.seen);
        let empty = self.empty.filter(|_| self.partitions.is_empty());
        seen.chain(empty).min().map(|seen| seen + idle)
    }

    /// Whether there is no partition yet, but one is waited for.
    fn is_awaited(&self) -> bool {
        self.partitions.is_empty() && self.empty.is_some()
    }

    /// The partitions that have been without rows for too long, and are still waited for.
    pub fn silent(&self) -> Vec<String> {
        let now = Instant::now();
        let is_silent = |known: &&Partition| self.time.idle.is_some_and(|idle| !known.idle && known.seen + idle <= now);
        self.partitions.iter().filter(is_silent).map(|known| known.name.to_string()).collect()
    }

    /// No longer waits for these partitions.
    pub fn fall_idle(&mut self, partitions: &[String]) {
        let is_one = |known: &&mut Partition| partitions.iter().any(|name| **name == *known.name);
        self.partitions.iter_mut().filter(is_one).for_each(|known| known.idle = true);
        self.empty = self.empty.filter(|_| !self.partitions.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millstream_testkit::table;

    use super::super::advance::Latest;
    use super::*;

    fn watermarks(interleaved: bool, idle: Option<Duration>) -> WatermarkGenerator {
        WatermarkGenerator::new(PlannedTime {
            columns: vec![TimeColumn { index: 0, derived: None }],
            lateness: 5_000_000,
            watermark_rows: 3,
            idle,
            interleaved,
        })
    }

    fn added(partition: &str) -> PartitionChange {
        PartitionChange::Added { partition: partition.into(), locator: String::new() }
    }

    fn pass(watermarks: &mut WatermarkGenerator, partition: &str, seconds: &[u32]) -> Option<Watermark> {
        let lines: String = seconds.iter().map(|second| format!("\n1970-01-01T00:00:{second:02}Z")).collect();
        watermarks.pass(&partition.into(), 0, &table(&format!("at:timestamp{lines}")));
        watermarks.advance()
    }

    fn at(second: i64) -> Option<Watermark> {
        Some(Watermark::At(second * 1_000_000))
    }

    #[test]
    fn the_watermark_is_the_latest_time_less_the_lateness() {
        let mut watermarks = watermarks(false, None);
        assert_eq!(watermarks.rows_left(&"a".into()), 3);
        assert_eq!(pass(&mut watermarks, "a", &[10, 20]), at(15));
        assert_eq!(watermarks.rows_left(&"a".into()), 1);
        assert_eq!(pass(&mut watermarks, "a", &[12]), None, "it never goes back");
        assert_eq!(watermarks.rows_left(&"a".into()), 3);
        assert_eq!(pass(&mut watermarks, "b", &[15]), None, "nor in the next partition");
        assert_eq!(pass(&mut watermarks, "b", &[21]), at(16));
    }

    #[test]
    fn of_mixed_partitions_the_one_furthest_behind_counts() {
        let mut watermarks = watermarks(true, None);
        assert_eq!(pass(&mut watermarks, "a", &[30]), at(25));
        assert_eq!(pass(&mut watermarks, "b", &[40]), None);
        assert_eq!(pass(&mut watermarks, "a", &[50]), at(35));
    }

    fn advance(watermarks: &WatermarkGenerator, partition: &str, seconds: &[u32]) -> Vec<i64> {
        let lines: String = seconds.iter().map(|second| format!("\n1970-01-01T00:00:{second:02}Z")).collect();
        let rows = table(&format!("at:timestamp{lines}"));
        let (advance, latest) = (watermarks.advance_of(&partition.into()), Latest::of(&rows, 0));
        let at: Vec<_> = latest.behind(0).iter().map(|latest| advance.with(*latest)).collect();
        for (count, at) in at.iter().enumerate() {
            assert!(advance.rows_until(latest.behind(0), *at) > count, "row {count} comes no further than {at}");
        }
        at.iter().map(|at| at / 1_000_000).collect()
    }

    #[test]
    fn an_input_that_is_learned_from_has_come_as_far_as_its_latest_row() {
        let mut watermarks = watermarks(true, None);
        assert_eq!(advance(&watermarks, "a", &[10, 8, 12]), [10, 10, 12]);
        pass(&mut watermarks, "a", &[10, 8, 12]);
        assert_eq!(advance(&watermarks, "b", &[5, 20]), [12, 20], "also where another partition is behind");
        assert_eq!(watermarks.come(), Some(12_000_000));
    }

    #[test]
    fn an_input_that_is_predicted_has_come_as_far_as_its_watermark() {
        let mut watermarks = watermarks(false, None).predicted(true);
        assert_eq!(advance(&watermarks, "a", &[10, 8, 12]), [5, 5, 7]);
        pass(&mut watermarks, "a", &[10, 8, 12]);
        assert_eq!(advance(&watermarks, "b", &[5, 20]), [7, 15], "one partition comes after the other");
        let mut restored = super::WatermarkGenerator::new(watermarks.time.clone()).predicted(true);
        restored.restore(&watermarks.state());
        assert_eq!(advance(&restored, "b", &[5, 20]), [7, 15]);
        let mut mixed = self::watermarks(true, None).predicted(true);
        mixed.change(added("b"));
        assert!(advance(&mixed, "a", &[40])[0] < 0, "`b` may have earlier rows");
        pass(&mut mixed, "b", &[20]);
        assert_eq!(advance(&mixed, "a", &[10, 40]), [15, 15], "as far as `b`");
    }

    #[test]
    fn the_watermark_comes_as_far_as_the_next_row_allows() {
        let mut watermarks = watermarks(false, None).predicted(true);
        assert_eq!(pass(&mut watermarks, "a", &[10]), at(5));
        watermarks.come_to(9_000_000);
        assert_eq!(watermarks.advance(), at(9));
        assert_eq!(pass(&mut watermarks, "a", &[12]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn partitions_that_are_there_are_waited_for_until_they_have_rows_or_are_gone() {
        let mut watermarks = watermarks(true, Some(Duration::from_secs(60)));
        for name in ["a", "b", "c", "a"] {
            watermarks.change(added(name));
        }
        assert_eq!(pass(&mut watermarks, "a", &[30]), None, "`b` and `c` may have earlier rows");
        assert_eq!(pass(&mut watermarks, "b", &[20]), None);
        watermarks.change(PartitionChange::Gone("c".into()));
        assert_eq!(watermarks.advance(), at(15));
        watermarks.change(PartitionChange::Gone("b".into()));
        assert_eq!(watermarks.advance(), at(25));
        watermarks.change(added("d"));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(pass(&mut watermarks, "a", &[40]), None);
        tokio::time::sleep_until(watermarks.idle_at().expect("d")).await;
        watermarks.fall_idle(&watermarks.silent());
        assert_eq!(watermarks.advance(), at(35), "nothing came of `d`");
    }

    #[tokio::test(start_paused = true)]
    async fn an_input_without_partitions_holds_nobody_back_either() {
        let mut watermarks = watermarks(true, Some(Duration::from_secs(60)));
        assert_eq!((watermarks.advance(), watermarks.come()), (None, Some(EventTime::MIN)));
        tokio::time::sleep_until(watermarks.idle_at().expect("the first partition")).await;
        watermarks.fall_idle(&watermarks.silent());
        assert_eq!(
            (watermarks.advance(), watermarks.come(), watermarks.idle_at()),
            (Some(Watermark::Idle), None, None)
        );
        assert_eq!(pass(&mut watermarks, "a", &[30]), at(25));
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_without_rows_holds_nobody_back() {
        let mut watermarks = watermarks(true, Some(Duration::from_secs(60)));
        pass(&mut watermarks, "a", &[30]);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(pass(&mut watermarks, "b", &[50]), None);
        tokio::time::sleep_until(watermarks.idle_at().expect("a")).await;
        watermarks.fall_idle(&watermarks.silent());
        assert_eq!(watermarks.advance(), at(45));
        tokio::time::sleep_until(watermarks.idle_at().expect("b")).await;
        watermarks.fall_idle(&watermarks.silent());
        assert_eq!((watermarks.advance(), watermarks.advance()), (Some(Watermark::Idle), None));
        assert_eq!(pass(&mut watermarks, "b", &[55]), at(50));
    }
}
