use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use arrow::array::RecordBatch;
use millstream_core::{Buffer, Collector, EventTime, Home, Report, State};
use millstream_testkit::{Timing, batch, context, drive, drive_in_time, parse, rows_as_text, stream, table};

use super::*;

/// A node for rows with these columns.
fn node(settings: &str, columns: &str) -> Box<dyn Processor> {
    let stream = Stream { event_time: Some("at".into()), ..stream("from", table(columns).schema()) };
    (parse::<BufferSettings>(settings).plan(&context(), &[stream]).unwrap().build)().unwrap()
}

/// A node at work, and what it has kept last.
struct Bench {
    settings: &'static str,
    node: Box<dyn Processor>,
    out: Collector,
    state: State,
}

const COLUMNS: &str = "n:int64 p:int32?";

impl Bench {
    fn new(settings: &'static str) -> Self {
        let bench = Self { settings, node: node(settings, COLUMNS), out: Collector::new(3), state: State::default() };
        bench.opened()
    }

    fn opened(mut self) -> Self {
        self.buffer().open(&Home::Nowhere).unwrap();
        self
    }

    fn buffer(&mut self) -> &mut dyn Buffer {
        self.node.buffer().unwrap()
    }

    /// Takes rows of these numbers and priorities.
    fn take(&mut self, rows: &[(i64, i32)]) {
        let lines: String = rows.iter().map(|(n, p)| format!("\n{n} {p}")).collect();
        let Self { node, out, .. } = self;
        node.buffer().unwrap().take(0, batch(table(&format!("{COLUMNS}{lines}"))), out).unwrap();
    }

    /// Lets so many rows leave.
    fn give(&mut self, mut rows: usize) -> Vec<i64> {
        while rows > 0 {
            let Self { node, out, .. } = self;
            let given = node.buffer().unwrap().give(rows, out).unwrap();
            assert!(given <= rows);
            rows = if given == 0 { 0 } else { rows - given };
        }
        self.left(0)
    }

    /// The numbers of the rows that have left by a port.
    fn left(&mut self, port: usize) -> Vec<i64> {
        let batches: Vec<RecordBatch> = self.out.take(port).map(|batch| batch.rows).collect();
        let number = |line: &str| line.split(' ').next().unwrap().parse().unwrap();
        rows_as_text(&batches).lines().skip(1).map(number).collect()
    }

    /// How many rows and bytes wait, and how many of these are on disk.
    fn figures(&self) -> [u64; 3] {
        let Some(Report::Figures(figures)) = self.node.report() else { panic!("it reports figures") };
        [0, 1, 2].map(|place| figures.values[place].1.as_u64().unwrap())
    }

    /// Takes a snapshot. How many bytes of it are new.
    fn snapshot(&mut self) -> usize {
        let mut written = 0;
        let before: BTreeMap<String, Vec<u8>> =
            self.state.parts().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
        let write = |_: &str, bytes: Vec<u8>| {
            written += bytes.len();
            Ok(bytes)
        };
        let parts = self.node.snapshot().unwrap().state.write(|name| before.get(name).cloned(), write).unwrap();
        self.state = State::new(parts);
        written
    }

    /// Goes on with a node that is restored from the last snapshot.
    fn restart(mut self) -> Self {
        self.node = node(self.settings, COLUMNS);
        self.node.restore(&self.state).unwrap();
        self.opened()
    }
}

/// Numbers that look like random ones.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

/// What a node should do, in the simplest way.
#[derive(Default)]
struct Model {
    /// The priority and the number of each row.
    waiting: Vec<(i32, i64)>,
    next: i64,
    watermarks: Vec<(i64, EventTime)>,
}

impl Model {
    fn give(&mut self, rows: usize) -> Vec<i64> {
        let next = |waiting: &Vec<(i32, i64)>| waiting.iter().copied().max_by_key(|(p, n)| (*p, -n));
        let mut given = Vec::new();
        while given.len() < rows
            && let Some(row) = next(&self.waiting)
        {
            self.waiting.retain(|other| *other != row);
            given.push(row.1);
        }
        given
    }

    fn come(&self) -> Option<EventTime> {
        let oldest = self.waiting.iter().map(|(_, n)| *n).min().unwrap_or(i64::MAX);
        self.watermarks.iter().filter(|(number, _)| *number <= oldest).map(|(_, at)| *at).max()
    }
}

#[test]
fn rows_leave_by_priority_and_age_from_memory_disk_and_states() {
    let cases = [("memory = '1kB'\npriority = 'p'", 1000), ("memory = '3kB'", 3000), ("priority = 'p'", 64 << 20)];
    for (seed, (settings, memory)) in cases.into_iter().enumerate() {
        let (mut draw, mut model, mut bench) = (Draw(seed as u64 + 1), Model::default(), Bench::new(settings));
        let (mut on_disk, mut most) = (0, 0);
        for step in 0..600 {
            match draw.below(8) {
                0..3 => {
                    let rows: Vec<_> = (0..draw.below(40)).map(|_| draw.below(5) as i32).collect();
                    let rows: Vec<_> = (model.next..).zip(rows).collect();
                    model.next += rows.len() as i64;
                    let has_priority = settings.contains("priority");
                    model.waiting.extend(rows.iter().map(|(n, p)| (if has_priority { *p } else { 0 }, *n)));
                    bench.take(&rows);
                }
                3 | 4 => {
                    let rows = draw.below(60) as usize;
                    assert_eq!(bench.give(rows), model.give(rows), "step {step} of {settings}");
                }
                5 => {
                    let (at, Bench { node, out, .. }) = (step, &mut bench);
                    let come = node.watermark(at, out).unwrap();
                    model.watermarks.push((model.next, at));
                    assert_eq!(come, model.come().unwrap_or(EventTime::MIN));
                }
                6 => _ = bench.snapshot(),
                _ => {
                    bench.snapshot();
                    bench = bench.restart();
                }
            }
            assert_eq!(bench.buffer().waiting(), model.waiting.len());
            assert_eq!(bench.buffer().come(), model.come(), "step {step} of {settings}");
            most = most.max(model.waiting.len());
            let [_, bytes, spilled] = bench.figures();
            assert!(bytes - spilled <= memory * 3 / 2, "{} of {memory} bytes are in memory", bytes - spilled);
            on_disk = on_disk.max(spilled);
        }
        assert_eq!(bench.give(usize::MAX), model.give(usize::MAX));
        assert!(most > 200 && on_disk > 100, "{most} rows have waited, {on_disk} bytes were on disk");
    }
}

#[test]
fn rows_that_wait_let_go_of_the_batch_that_they_came_in() {
    let lines: String = (0..1000).map(|n| format!("\n{n} 0")).collect();
    let rows = table(&format!("{COLUMNS}{lines}"));
    let numbers = rows.column(0).to_data().buffers()[0].clone();
    let mut bench = Bench::new("");
    let alone = numbers.strong_count();
    let Bench { node, out, .. } = &mut bench;
    node.buffer().unwrap().take(0, batch(rows.slice(500, 3)), out).unwrap();
    assert_eq!(numbers.strong_count(), alone);
    assert_eq!(bench.give(3), [500, 501, 502]);
}

#[test]
fn a_snapshot_costs_what_has_come() {
    let mut bench = Bench::new("");
    let rows = |from: i64, count: i64| -> Vec<(i64, i32)> { (from..from + count).map(|n| (n * 7919, 0)).collect() };
    (0..40).for_each(|part| bench.take(&rows(part * 10_000, 10_000)));
    let all = bench.snapshot();
    assert!(all > 2_000_000, "{all} bytes");
    let (mut written, mut chunks) = (0, 0);
    for part in 0..100 {
        bench.take(&rows(part * 100, 100));
        written += bench.snapshot();
        chunks = chunks.max(bench.state.parts().count());
        bench.give(20);
    }
    // Ten thousand rows of some 20 bytes, and each of them a few times.
    assert!(written < 10 * all / 40, "{written} bytes, after {all}");
    assert!(chunks < 20, "{chunks} chunks");
    // What has left since the last snapshot leaves again.
    let mut bench = bench.restart();
    assert_eq!(bench.give(usize::MAX).len(), 400_000 + 100 * 80 + 20);
}

#[test]
fn what_there_is_no_room_for_leaves_by_a_port_of_its_own() {
    let rows: Vec<(i64, i32)> = (0..100).map(|n| (n, (n % 3) as i32)).collect();
    let run = |settings: &'static str, batch_rows: usize| {
        let mut bench = Bench::new(settings);
        rows.chunks(batch_rows).for_each(|rows| bench.take(rows));
        let dropped = bench.left(1);
        (dropped, bench.give(usize::MAX))
    };
    // A row has 12 bytes.
    for (settings, room) in
        [("max_rows = 30", 30), ("max_bytes = '360B'", 30), ("max_bytes = '100B'\nmax_rows = 20", 9)]
    {
        let newest: &'static str = format!("{settings}\nwhen_full = 'drop_newest'").leak();
        let oldest: &'static str = format!("{settings}\nwhen_full = 'drop_oldest'").leak();
        let by_priority: &'static str = format!("{oldest}\npriority = 'p'").leak();
        for batch_rows in [1, 7, 100] {
            let (dropped, given) = run(newest, batch_rows);
            assert!(
                given.iter().copied().eq(0..room) && dropped.iter().copied().eq(room..100),
                "{settings}: {given:?}"
            );
            let (dropped, given) = run(oldest, batch_rows);
            assert!(dropped.iter().copied().eq(0..100 - room), "{settings}: {dropped:?}");
            assert!(given.iter().copied().eq(100 - room..100), "{settings}: {given:?}");
            let (dropped, given) = run(by_priority, batch_rows);
            assert!(dropped.iter().copied().eq(0..100 - room), "{settings}: {dropped:?}");
            assert_eq!(given[0] % 3, 2, "{given:?}");
        }
    }
    let mut bench = Bench::new("max_rows = 30");
    assert!(!bench.buffer().is_full());
    bench.take(&rows);
    assert!(bench.buffer().is_full() && bench.left(1).is_empty());
}

#[test]
fn rows_that_have_waited_for_too_long_are_given_up() {
    let mut bench = Bench::new("expire_after = '0s'\npriority = 'p'");
    bench.take(&[(0, 1), (1, 0), (2, 1), (3, 0)]);
    assert_eq!(bench.buffer().patience(), Some(StdDuration::ZERO));
    let Bench { node, out, .. } = &mut bench;
    assert_eq!(node.buffer().unwrap().expire(Some(2), out).unwrap(), 2);
    assert_eq!(node.buffer().unwrap().expire(None, out).unwrap(), 2);
    assert_eq!((bench.left(1), bench.buffer().waiting()), (vec![0, 1, 2, 3], 0));
    assert_eq!(bench.buffer().patience(), None);
    // The time counts from when they came, through a restart.
    let mut bench = Bench::new("expire_after = '1h'");
    bench.take(&[(0, 1)]);
    bench.snapshot();
    let mut bench = bench.restart();
    let left = bench.buffer().patience().unwrap();
    assert!(StdDuration::from_secs(3000) < left && left <= StdDuration::from_secs(3600), "{left:?}");
    let Bench { node, out, .. } = &mut bench;
    assert_eq!(node.buffer().unwrap().expire(None, out).unwrap(), 0);
}

#[test]
fn rows_are_given_up_whose_event_time_is_long_ago() {
    let rows = table(
        "at:timestamp n:int64
         1970-01-01T00:00:10Z 1
         1970-01-01T00:00:30Z 2
         1970-01-01T00:00:14Z 3
         1970-01-01T00:00:16Z 4",
    );
    let settings = "expire_after = '10s'\nexpire_by = 'event_time'";
    let timing = Timing { lateness: 5_000_000, watermark_rows: 1, epoch_rows: 100, batch_rows: 100 };
    let driven = drive_in_time(&parse::<BufferSettings>(settings), &rows, timing);
    let numbers = |text: String| text.lines().skip(1).map(|line| line[21..].to_owned()).collect::<Vec<_>>();
    // Event time has come to 25 s.
    assert_eq!(numbers(driven.text("main")), ["1", "2", "4"]);
    assert_eq!(numbers(driven.text("expired")), ["3"]);
    // The same goes for rows that wait, by the time at which they leave.
    let mut waiting = node(settings, "at:timestamp n:int64");
    let mut out = Collector::new(2);
    waiting.buffer().unwrap().take(0, batch(rows), &mut out).unwrap();
    waiting.watermark(25_000_000, &mut out).unwrap();
    assert_eq!(waiting.buffer().unwrap().give(4, &mut out).unwrap(), 4);
    let mut text = |port: usize| rows_as_text(out.take(port).map(|batch| batch.rows).collect::<Vec<_>>().iter());
    let (main, expired) = (text(0), text(1));
    assert_eq!((numbers(main), numbers(expired)), (vec!["2".into(), "4".into()], vec!["1".into(), "3".into()]));
}

#[test]
fn rows_pass_where_nothing_waits() {
    let rows = table("n:int64 p:int32?\n 1 5\n 2 null\n 3 99\n 4 -1");
    for batch_rows in [1, 3, 100] {
        let driven = drive(&parse::<BufferSettings>("priority = 'p'"), &[("from", rows.clone())], batch_rows);
        assert_eq!(driven.text("main"), "n:int64 p:int32?\n1 5\n2 null\n3 99\n4 -1\n");
    }
    let mut bench = Bench::new("priority = 'p'");
    let Bench { node, out, .. } = &mut bench;
    node.buffer().unwrap().take(0, batch(rows), out).unwrap();
    assert_eq!(bench.give(4), [3, 1, 2, 4], "from 0 to 63, and null is 0");
}

#[test]
fn rows_that_wait_take_on_new_columns() {
    let mut bench = Bench::new("");
    bench.take(&[(1, 2), (3, 4)]);
    bench.snapshot();
    let mut wider = node("", "n:int64 p:int32? q:utf8?");
    wider.restore(&bench.state).unwrap();
    let mut out = Collector::new(1);
    assert_eq!(wider.buffer().unwrap().give(2, &mut out).unwrap(), 2);
    let rows: Vec<RecordBatch> = out.take(0).map(|batch| batch.rows).collect();
    assert_eq!(rows_as_text(&rows), "n:int64 p:int32? q:utf8?\n1 2 null\n3 4 null\n");
    let error = node("", "n:utf8 p:int32?").restore(&bench.state).unwrap_err().to_string();
    assert!(error.contains("`n` was `int64` in the 2 rows that wait"), "{error}");
    let parts = bench.state.parts().filter(|(name, _)| *name != "rows.0");
    let damaged = State::new(parts.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())));
    let error = node("", COLUMNS).restore(&damaged).unwrap_err().to_string();
    assert!(error.contains("`rows.0` is missing"), "{error}");
}

#[test]
fn what_is_wrong_with_the_settings_is_said() {
    let problems = |settings: &str| {
        let stream = stream("from", table("n:int64 t:utf8\n").schema());
        parse::<BufferSettings>(settings).plan(&context(), &[stream]).unwrap_err()
    };
    for (settings, message) in [
        ("priority = 'm'", "there is no column `m`"),
        ("priority = 't'", "`t` is utf8, and no integer"),
        ("expire_by = 'event_time'", "nothing says when rows expire"),
        ("expire_by = 'event_time'\nexpire_after = '1s'", "have no event time"),
    ] {
        let problems = format!("{:?}", problems(settings));
        assert!(problems.contains(message), "{problems}");
    }
}
