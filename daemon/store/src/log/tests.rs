//! What crashes, errors and full disks may do to a log.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use super::guard::{self, CLAIM};
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
    all(LogReader::new(segments.clone(), number)?)
}

/// The same, read as another process would.
fn read_folder(files: &Simulation, number: u64) -> Result<Vec<Record>> {
    all(LogReader::of_folder(Arc::new(files.clone()), Path::new(FOLDER), number)?)
}

fn all(mut reader: LogReader) -> Result<Vec<Record>> {
    std::iter::from_fn(|| reader.try_next().transpose()).collect()
}

fn verify(files: &Simulation) -> Result<()> {
    verify_log(Arc::new(files.clone()), Path::new(FOLDER))
}

fn guard_path() -> PathBuf {
    guard::path(Path::new(FOLDER))
}

/// A log that is written, and what must be in it.
struct Model {
    random: Random,
    files: Simulation,
    /// What was acknowledged and is still needed.
    durable: Vec<Record>,
    /// What was written without success since the log was opened.
    failed: Vec<Record>,
    /// How many groups were refused for good.
    refused: usize,
    /// The first number that is still needed.
    needed: u64,
    written: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (random, files) = (Random::new(seed), Simulation::new(seed));
        Self { random, files, durable: Vec::new(), failed: Vec::new(), refused: 0, needed: 0, written: 0 }
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
            Err(error) if error.may_count => self.failed.append(&mut group),
            // It is not there, whatever happens.
            Err(_) => self.refused += 1,
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
        let accepted = |error: Error| {
            let error = error.to_string();
            assert!(error.contains("an error of the disk") || error.contains("the power "), "{error}");
        };
        match read_folder(&self.files, self.needed) {
            Ok(found) => self.check_more(&found),
            Err(error) => accepted(error),
        }
        verify(&self.files).unwrap_or_else(accepted);
    }

    /// What must be there was found. What there is beyond that was written at least.
    fn check_more(&self, found: &[Record]) {
        let (kept, more) = found.split_at(self.durable.len());
        assert_eq!(kept, self.durable);
        let mut end = self.end();
        for record in more {
            assert!(self.failed.contains(record) && record.number == end, "{record:?} was never appended");
            end = record.end();
        }
    }

    /// The log is opened again.
    fn reopen(&mut self) {
        let seen = self.look();
        let found = read(open(&self.files).unwrap().segments(), self.needed).unwrap();
        self.check_more(&found);
        assert!(seen.is_none_or(|seen| seen == found));
        self.durable = found;
        self.failed.clear();
    }

    /// What one who only reads finds, if the log was there at all before the crash.
    fn look(&self) -> Option<Vec<Record>> {
        if !self.files.exists(Path::new(FOLDER)).unwrap() {
            assert_eq!(self.durable, []);
            return None;
        }
        verify(&self.files).unwrap();
        Some(read_folder(&self.files, self.needed).unwrap())
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
        if self.random.below(3) == 0 {
            self.files = self.files.new_process();
            // The power may go while it is opened again, with what is not durable in it.
            if self.random.coin() {
                self.files.set_faults(Faults { power: Some(1 + self.random.below(20)), ..faults });
                drop(open(&self.files));
                self.files = self.files.restarted();
            }
        } else {
            self.files = self.files.restarted();
        }
        self.reopen();
    }
}

#[test]
fn what_is_acknowledged_is_read_after_any_crash_and_nothing_else() {
    let (mut written, mut refused) = (0, 0);
    for seed in 0..5000 {
        let lives = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            (0..5).for_each(|_| model.live());
            (model.written, model.refused)
        });
        let (more, never) = lives.unwrap_or_else(|_| panic!("seed {seed}"));
        (written, refused) = (written + more, refused + never);
    }
    assert!(written > 50_000, "only {written} groups were written");
    assert!(refused > 500, "only {refused} groups were refused");
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
        let guarded = seed % 2 == 0;
        if !guarded {
            files.remove(&guard_path()).unwrap();
        }
        let segments = segments_of(&files, &records);
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
            Ok(found) => {
                let most = found.len() >= records.len() - 4 && records.starts_with(&found);
                assert!(most && !guarded, "seed {seed}");
            }
        }
    }
    assert!(errors > 1500, "{errors}");
}

/// The segments that begin with one of these records.
fn segments_of(files: &Simulation, records: &[Record]) -> Vec<PathBuf> {
    let paths = records.iter().map(|record| path(Path::new(FOLDER), record.number));
    paths.filter(|path| files.exists(path).unwrap()).collect()
}

/// The last segment, and how many bytes of it lie before the last record.
fn last(files: &Simulation, records: &[Record]) -> (PathBuf, usize, usize) {
    let segment = segments_of(files, records).pop().unwrap();
    let length = files.size(&segment).unwrap() as usize;
    let record = Entry { payload: records.last().unwrap().payload.clone(), rows: 1 };
    (segment, length - record.bytes() as usize, length)
}

/// Whoever opens the log is told the same, in these words.
fn assert_noticed(files: &Simulation, words: &str) {
    let errors = [open(files).err(), read_folder(files, 0).err(), verify(files).err()];
    for error in errors {
        let error = error.expect(words).to_string();
        assert!(error.contains(words), "{error}\n{words}");
    }
}

#[test]
fn a_flipped_bit_of_the_last_record_is_noticed() {
    for seed in 0..20 {
        let (files, records) = some_log(seed);
        let (segment, start, length) = last(&files, &records);
        let record = records.last().unwrap();
        let words = format!(
            "`{}` is damaged at byte {start}: rows {} to {} were acknowledged, and are no longer in it (so says `{}`)",
            segment.display(),
            record.number,
            record.end() - 1,
            guard_path().display()
        );
        for bit in start * 8..length * 8 {
            files.flip(&segment, bit);
            assert_noticed(&files, &words);
            files.flip(&segment, bit);
        }
        assert_eq!(read(open(&files).unwrap().segments(), 0).unwrap(), records);
    }
}

#[test]
fn wherever_the_last_segment_is_cut_it_is_noticed() {
    for seed in 0..20 {
        let (files, records) = some_log(seed);
        let (segment, _, length) = last(&files, &records);
        for length in (0..length).rev() {
            files.cut(&segment, length);
            assert_noticed(&files, &format!("`{}` is damaged at byte ", segment.display()));
        }
    }
}

#[test]
fn a_segment_that_was_removed_is_noticed_unless_it_was_the_first() {
    for seed in 0..200 {
        let (files, records) = some_log(seed);
        let segments = segments_of(&files, &records);
        let gone = 1 + seed as usize % (segments.len() - 1);
        let first = |segment: Option<&PathBuf>| {
            let number = segment.map(|segment| segment.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap());
            number.unwrap_or(records.last().unwrap().end())
        };
        let (start, end) = (first(Some(&segments[gone])), first(segments.get(gone + 1)));
        files.remove(&segments[gone]).unwrap();
        let who = if gone + 1 == segments.len() {
            format!("`{}` is missing", segments[gone].display())
        } else {
            format!("a segment behind `{}` is missing", segments[gone - 1].display())
        };
        let rows = format!("rows {start} to {} were acknowledged", end - 1);
        assert_noticed(&files, &format!("{who}: {rows}, and are no longer in the log"));
        segments.iter().for_each(|segment| _ = files.remove(segment));
        assert_noticed(&files, "all segments of the log `/home/log` are missing: rows up to ");
    }
}

#[test]
fn without_the_first_segments_a_log_has_been_trimmed() {
    for seed in 0..200 {
        let (files, records) = some_log(seed);
        let segments = segments_of(&files, &records);
        for segment in &segments[..segments.len() - 1] {
            files.remove(segment).unwrap();
            verify(&files).unwrap();
            let error = read_folder(&files, 0).unwrap_err().to_string();
            assert!(error.contains("record 0 is no longer in the log `/home/log`"), "{error}");
        }
        let writer = open(&files).unwrap();
        assert_eq!(writer.segments().end(), records.last().unwrap().end());
    }
}

#[test]
fn a_damaged_guard_does_no_harm() {
    let (files, records) = some_log(1);
    let guard = guard_path();
    let unharmed = || assert_eq!(read_folder(&files, 0).unwrap(), records);
    let length = files.size(&guard).unwrap() as usize;
    for bit in 0..length * 8 {
        files.flip(&guard, bit);
        unharmed();
        files.flip(&guard, bit);
    }
    for length in (0..length).rev() {
        files.cut(&guard, length);
        unharmed();
    }
    files.remove(&guard).unwrap();
    unharmed();
    assert_eq!(read(open(&files).unwrap().segments(), 0).unwrap(), records);
}

#[test]
fn what_the_guard_does_not_know_of_may_have_been_torn() {
    for seed in 0..20 {
        let (files, records) = some_log(seed);
        let guard = guard_path();
        files.cut(&guard, files.size(&guard).unwrap() as usize - CLAIM);
        let (segment, start, length) = last(&files, &records);
        let mut torn = records.clone();
        torn.pop();
        for length in (start..length).rev() {
            files.cut(&segment, length);
            assert_eq!(read_folder(&files, 0).unwrap(), torn);
        }
        assert_eq!(read(open(&files).unwrap().segments(), 0).unwrap(), torn);
        // From now on it is known.
        let files = files.new_process();
        files.cut(&segment, start - 1);
        assert_noticed(&files, &format!("`{}` is damaged at byte ", segment.display()));
    }
}

#[test]
fn who_only_reads_changes_nothing_and_is_told_what_is_not_there() {
    let (files, records) = some_log(1);
    let of = |folder, number| LogReader::of_folder(Arc::new(files.clone()), Path::new(folder), number);
    let names = || files.list(Path::new(FOLDER)).unwrap();
    let before = names();
    verify(&files).unwrap();
    let middle = &records[records.len() / 2];
    // From within a record on.
    assert_eq!(read_folder(&files, middle.end() - 1).unwrap(), records[records.len() / 2..]);
    assert_eq!(names(), before);
    let end = records.last().unwrap().end();
    assert_eq!(read_folder(&files, end).unwrap(), []);
    let error = of(FOLDER, end + 1).unwrap_err().to_string();
    assert!(error.contains("it was removed or replaced"), "{error}");
    let missing =
        [of("/home/other", 0).unwrap_err(), verify_log(Arc::new(files.clone()), Path::new("/x")).unwrap_err()];
    assert_eq!(missing.map(|error| error.to_string()), ["there is no log `/home/other`", "there is no log `/x`"]);
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
        assert_eq!(error.error.kind(), std::io::ErrorKind::StorageFull);
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
async fn one_reads_the_folder_while_another_writes_and_trims() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_owned();
    let log = local(&home, LogOptions { segment_bytes: 2000, max_bytes: 1 << 20 }).unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reads = thread::spawn({
        let (home, done) = (home.clone(), done.clone());
        move || read_until(&home, || done.load(std::sync::atomic::Ordering::Relaxed))
    });
    for turn in 0..1500_u32 {
        let number = log.append(turn.to_le_bytes().repeat(turn as usize % 50), 1 + turn % 3).await.unwrap();
        if turn % 40 == 0 {
            log.trim(number).unwrap();
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reads.join().unwrap() > 10);
    let mut reader = LogReader::of_folder(Arc::new(LocalFiles), &home, log.end() - 1).unwrap();
    reader.next().await.unwrap();
    assert!(reader.next().await.unwrap_err().to_string().contains("the log ends at row "));
}

/// Reads a log again and again, and returns how often. Nothing but what was trimmed may be missing.
fn read_until(home: &Path, is_done: impl Fn() -> bool) -> usize {
    let (mut reads, mut number) = (0, 0);
    while !is_done() {
        verify_log(Arc::new(LocalFiles), home).unwrap();
        match LogReader::of_folder(Arc::new(LocalFiles), home, number).and_then(all) {
            Ok(records) => {
                assert!(records.windows(2).all(|pair| pair[0].end() == pair[1].number));
                number = records.last().map_or(number, Record::end);
                reads += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("is no longer in the log"), "{error}");
                number += 1;
            }
        }
    }
    reads
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

/// Follows a log until nothing more is durable.
fn follow(files: &Simulation, number: u64) -> Result<Vec<Record>> {
    let mut follower = LogFollower::open(Arc::new(files.clone()), Path::new(FOLDER), Some(number))?;
    std::iter::from_fn(|| follower.try_next().transpose()).collect()
}

#[test]
fn who_follows_reads_what_is_durable_and_nothing_else() {
    let mut followed = 0;
    for seed in 0..400 {
        let mut model = Model::new(seed);
        let mut seen: Vec<Record> = Vec::new();
        for _ in 0..4 {
            let faults = model.faults();
            if let Ok(mut writer) = open(&model.files) {
                model.files.set_faults(faults);
                let next = seen.last().map_or(0, Record::end);
                let mut follower = LogFollower::open(Arc::new(model.files.clone()), Path::new(FOLDER), Some(next)).ok();
                for _ in 0..model.random.below(20) {
                    model.write(&mut writer);
                    // The disk may refuse to read.
                    while let Some(Ok(Some(record))) = follower.as_mut().map(LogFollower::try_next) {
                        seen.push(record);
                    }
                    assert_eq!(seen, model.durable[..seen.len()], "seed {seed}");
                }
            }
            model.files = if seed % 2 == 0 { model.files.new_process() } else { model.files.restarted() };
            model.reopen();
            assert_eq!(seen, model.durable[..seen.len()], "seed {seed}");
            let behind = follow(&model.files, seen.last().map_or(0, Record::end)).unwrap();
            seen.extend(behind);
            assert_eq!(seen, model.durable, "seed {seed}");
        }
        followed += seen.len();
    }
    assert!(followed > 10_000, "only {followed} records were followed");
}

#[tokio::test]
async fn single_records_are_found_in_any_order_while_the_log_grows() {
    let folder = tempfile::tempdir().unwrap();
    let log = local(folder.path(), LogOptions { segment_bytes: 200 << 10, max_bytes: 1 << 30 }).unwrap();
    let mut random = Random::new(7);
    let (mut numbers, mut finder) = (Vec::new(), log.finder());
    for turn in 0..3000_u32 {
        // Some are longer than what is read at once.
        let length = if turn % 300 == 7 { 100 << 10 } else { random.below(1000) as usize };
        let payload = [&turn.to_le_bytes()[..], &vec![turn as u8; length]].concat();
        numbers.push(log.append(payload, 1 + turn % 3).await.unwrap());
        let wanted = random.below(u64::from(turn) + 1) as u32;
        let number = numbers[wanted as usize] + u64::from(wanted % 3);
        let found = finder.find(number).unwrap().unwrap();
        assert_eq!((found.number, &found.payload[..4]), (numbers[wanted as usize], &wanted.to_le_bytes()[..]));
    }
    assert_eq!(finder.find(log.end()).unwrap(), None);
    log.trim(numbers[2000]).unwrap();
    assert!(log.second().is_some_and(|second| second > log.oldest()));
    assert!(finder.find(numbers[0]).unwrap_err().to_string().contains("is no longer in the log"));
    assert_eq!(finder.find(numbers[2000]).unwrap().unwrap().number, numbers[2000]);
}

#[test]
fn marks_say_how_far_all_have_come() {
    let files: Arc<dyn Files> = Arc::new(Simulation::new(1));
    let log = Path::new(FOLDER);
    assert_eq!(LogMarks::read(&*files, log).unwrap().least(), None);
    let mut one = LogMark::take(files.clone(), log, "one").unwrap();
    one.set(Mark { needed: 10, wanted: 30 }).unwrap();
    let mut other = LogMark::take(files.clone(), log, "other").unwrap();
    assert_eq!(LogMarks::read(&*files, log).unwrap().least(), Some(Mark::default()));
    other.set(Mark { needed: 20, wanted: 25 }).unwrap();
    assert_eq!(LogMarks::read(&*files, log).unwrap().least(), Some(Mark { needed: 10, wanted: 25 }));
    let taken = LogMark::take(files.clone(), log, "one").map(drop).unwrap_err().to_string();
    assert_eq!(taken, "another run reads the log `/home/log` as `one`");
    drop(one);
    LogMark::take(files.clone(), log, "one").unwrap();
    assert_eq!(LogMarks::read(&*files, log).unwrap().least(), Some(Mark { needed: 10, wanted: 25 }));
}
