//! What crashes, errors and full disks may do to a log.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use super::segments::path;
use super::*;
use crate::LocalFiles;
use crate::simulation::{Faults, Random, Simulation};

const OPTIONS: LogOptions = LogOptions { segment_bytes: 400, max_bytes: u64::MAX };
const FOLDER: &str = "/home/log";

fn open(files: &Simulation) -> Result<Writer> {
    Writer::open(Arc::new(files.clone()), Path::new(FOLDER), OPTIONS)
}

/// All records from `number` on that are durable.
fn read(segments: &Arc<Segments>, number: u64) -> Result<Vec<Record>> {
    let mut reader = LogReader::new(segments.clone(), number)?;
    std::iter::from_fn(|| reader.try_next().transpose()).collect()
}

/// A log that is written, and what must be in it.
struct Model {
    random: Random,
    files: Simulation,
    /// What was acknowledged and is still needed.
    durable: Vec<Record>,
    /// What was written without success since the log was opened.
    failed: Vec<Record>,
    /// The first number that is still needed.
    needed: u64,
    written: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (random, files) = (Random::new(seed), Simulation::new(seed));
        Self { random, files, durable: Vec::new(), failed: Vec::new(), needed: 0, written: 0 }
    }

    fn end(&self) -> u64 {
        self.durable.last().map_or(self.needed, Record::end)
    }

    fn faults(&mut self) -> Faults {
        let random = &mut self.random;
        let capacity = if random.below(4) == 0 { 1500 } else { usize::MAX };
        let errors = [0, 10, 100][random.below(3) as usize];
        Faults { capacity, errors, power: random.coin().then(|| 1 + random.below(80)) }
    }

    /// Writes a group.
    fn write(&mut self, writer: &mut Writer) {
        let mut end = self.end();
        let mut group = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let payload = self.random.number().to_le_bytes().repeat(self.random.below(20) as usize);
            group.push(Record { number: end, rows: 1 + self.random.below(3) as u32, payload });
            end = group[group.len() - 1].end();
        }
        let entries: Vec<_> =
            group.iter().map(|record| Entry { payload: record.payload.clone(), rows: record.rows }).collect();
        match writer.write(&entries) {
            Ok(number) => {
                assert_eq!(number, self.end());
                self.durable.append(&mut group);
                self.written += 1;
            }
            Err(_) => self.failed.append(&mut group),
        }
        assert_eq!(writer.segments().end(), self.end());
    }

    /// A checkpoint covers some of the records. One of them may be covered in part.
    fn trim(&mut self, writer: &Writer) {
        let number = self.needed + self.random.below(self.end() - self.needed + 1);
        // Should it fail, it is done the next time.
        let _ = writer.segments().trim(number);
        self.needed = number;
        self.durable.retain(|record| record.end() > number);
    }

    /// What is needed is read while the log is written.
    fn check_running(&self, writer: &Writer) {
        // The disk may refuse to read.
        if let Ok(found) = read(writer.segments(), self.needed) {
            assert_eq!(found, self.durable);
        }
    }

    /// The log is opened again. What is found beyond what must be there was written at least.
    fn reopen(&mut self) {
        let found = read(open(&self.files).unwrap().segments(), self.needed).unwrap();
        let (kept, more) = found.split_at(self.durable.len());
        assert_eq!(kept, self.durable);
        let mut end = self.end();
        for record in more {
            assert!(self.failed.contains(record) && record.number == end, "{record:?} was never appended");
            end = record.end();
        }
        self.durable = found;
        self.failed.clear();
    }

    fn live(&mut self) {
        let faults = self.faults();
        // Now and then things go wrong while it is opened.
        let early = self.random.below(3) == 0;
        if early {
            self.files.set_faults(faults);
        }
        if let Ok(mut writer) = open(&self.files) {
            self.files.set_faults(faults);
            for _ in 0..self.random.below(20) {
                match self.random.below(6) {
                    0 => self.trim(&writer),
                    1 => self.check_running(&writer),
                    _ => self.write(&mut writer),
                }
            }
        }
        let killed = self.random.below(3) == 0;
        self.files = if killed { self.files.new_process() } else { self.files.restarted() };
        self.reopen();
    }
}

#[test]
fn what_is_acknowledged_is_read_after_any_crash_and_nothing_else() {
    let mut written = 0;
    for seed in 0..5000 {
        let lives = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            (0..5).for_each(|_| model.live());
            model.written
        });
        written += lives.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(written > 50_000, "only {written} groups were written");
}

/// A log of several segments, of groups of two records.
fn some_log(seed: u64) -> (Simulation, Vec<Record>) {
    let mut model = Model::new(seed);
    let mut writer = open(&model.files).unwrap();
    for _ in 0..10 {
        model.write(&mut writer);
    }
    drop(writer);
    (model.files.new_process(), model.durable)
}

#[test]
fn damage_is_an_error_that_names_the_place() {
    let mut random = Random::new(1);
    let mut errors = 0;
    for seed in 0..2000 {
        let (files, records) = some_log(seed);
        let segments: Vec<PathBuf> = records
            .iter()
            .map(|record| path(Path::new(FOLDER), record.number))
            .filter(|path| files.exists(path).unwrap())
            .collect();
        assert!(segments.len() > 1);
        let segment = &segments[random.below(segments.len() as u64) as usize];
        let place = random.below(files.size(segment).unwrap());
        files.damage(segment, place as usize);
        match open(&files).and_then(|writer| read(writer.segments(), 0)) {
            Err(error) => {
                errors += 1;
                assert!(error.to_string().contains(&format!("`{}` is damaged at byte ", segment.display())), "{error}");
            }
            // Of the last group nothing tells whether it was ever durable.
            Ok(found) => assert!(found.len() >= records.len() - 4 && records.starts_with(&found), "seed {seed}"),
        }
    }
    assert!(errors > 1500, "{errors}");
}

#[test]
fn a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room() {
    let files = Simulation::new(1);
    let mut writer = open(&files).unwrap();
    let group = || vec![Entry { payload: vec![7; 100], rows: 2 }];
    assert_eq!(writer.write(&group()).unwrap(), 0);
    files.set_faults(Faults { capacity: 150, ..Faults::NONE });
    for _ in 0..3 {
        let error = writer.write(&group()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
    assert_eq!(read(writer.segments(), 0).unwrap().len(), 1);
    files.set_faults(Faults::NONE);
    assert_eq!(writer.write(&group()).unwrap(), 2);
    let found = read(writer.segments(), 0).unwrap();
    assert_eq!(found.iter().map(|record| record.number).collect::<Vec<_>>(), [0, 2]);
}

fn local(folder: &Path, options: LogOptions) -> Result<Log> {
    Log::open(Arc::new(LocalFiles), folder, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_append_while_one_reads_and_trims() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("a/log");
    let options = LogOptions { segment_bytes: 2000, max_bytes: 1 << 20 };
    let log = Arc::new(local(&home, options).unwrap());
    let append = |task: u64| {
        let log = log.clone();
        async move {
            for turn in 0..50 {
                let payload = (task * 1000 + turn).to_le_bytes().to_vec();
                log.append(payload, 1 + (turn % 3) as u32).await.unwrap();
            }
        }
    };
    let tasks: Vec<_> = (0..8).map(|task| tokio::spawn(append(task))).collect();
    let mut reader = log.read(0).unwrap();
    let (mut seen, mut number) = (std::collections::BTreeSet::new(), 0);
    for turn in 0..400 {
        let record = reader.next().await.unwrap();
        assert_eq!(record.number, number);
        number = record.end();
        assert!(seen.insert(record.payload));
        if turn % 50 == 0 {
            log.trim(number).unwrap();
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((seen.len(), log.end(), reader.try_next().unwrap()), (400, number, None));
    assert!(log.bytes() < 5000, "{}", log.bytes());
    assert!(local(&home, options).unwrap_err().to_string().starts_with("another run is using the log `"));
    drop(log);
    let log = local(&home, options).unwrap();
    assert_eq!((log.end(), log.append(vec![1], 1).await.unwrap()), (number, number));
    assert!(log.read(0).unwrap_err().to_string().contains("record 0 is no longer in the log"));
    assert!(log.read(number + 2).unwrap_err().to_string().contains("it was removed or replaced"));
}

#[tokio::test]
async fn a_full_log_refuses_until_it_is_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let log = local(folder.path(), LogOptions { segment_bytes: 1000, max_bytes: 5000 }).unwrap();
    while let Ok(number) = log.append(vec![0; 500], 1).await {
        assert!(number < 10);
    }
    assert_eq!(log.end(), 9);
    let error = log.append(vec![0; 500], 1).await.unwrap_err().to_string();
    assert_eq!(error, "the log is full: it holds 4752 of 5000 bytes");
    log.trim(5).unwrap();
    assert_eq!(log.append(vec![0; 500], 1).await.unwrap(), 9);
    assert_eq!(log.read(5).unwrap().next().await.unwrap().number, 5);
}
