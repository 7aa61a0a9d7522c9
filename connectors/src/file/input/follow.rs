//! Files that are followed: read as they grow, are rotated, emptied and added.
//!
//! They are looked at now and then instead of watched: a system's notifications can be lost, and never come from network
//! file systems, so that looking would be needed beside them; and a look at a file costs a microsecond.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::{
    Collector, Input, InputPlan, PartitionChange, Parts, PlanContext, Positions, Problem, Problems, Progress, Result,
    ResultExt, State,
};
use millstream_formats::{CsvOptions, FileKind, Format, Pace, ReadOptions, Rows};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::FileInput;
use super::place::Place;
use super::tail::{Identity, Tail};
use crate::file::find::{SourceFile, check_later, find_now};
use crate::text;

/// How long to wait until files without new rows are looked at again.
const LOOK: Duration = Duration::from_millis(100);

/// How long to wait until files are searched for again.
const SEARCH: Duration = Duration::from_secs(1);

/// How long nothing has to come to a file that has lost its name until it is given up.
const LINGER: Duration = Duration::from_secs(1);

/// Plans an input that follows files.
pub fn plan(settings: &FileInput, context: &PlanContext) -> Result<InputPlan, Problems> {
    let options = options(settings, context)?;
    let folder = context.input_path("");
    let patterns = settings.each_path(|path| pattern(settings, path, &folder, &options))?;
    if let Some(other) = patterns.iter().find(|other| other.options.format != patterns[0].options.format) {
        let message = format!("`{}` is {}, unlike the paths before it", other.path, other.options.format.name());
        let problem = Problem::new(message).at(["path"]).help("read each format with an input of its own");
        return Err(problem.into());
    }
    if patterns[0].options.format == Format::Csv {
        text::flat(&options.columns.schema()).map_err(|problem| problem.at(["schema"]))?;
    }
    let (schema, source) = (options.schema(), context.node.as_str().into());
    let files = Follow {
        source,
        folder,
        patterns,
        files: Vec::new(),
        turn: 0,
        left: None,
        gone: Vec::new(),
        searched: None,
        looked: Instant::now(),
    };
    let build = Box::new(move || Ok(Box::new(files) as Box<dyn Input>));
    Ok(InputPlan { schema, finite: false, replayable: true, interleaved: true, rows: None, build })
}

/// How files are read, but for what the path says.
fn options(settings: &FileInput, context: &PlanContext) -> Result<ReadOptions, Problem> {
    let columns = settings.schema.clone().ok_or_else(|| {
        let problem = Problem::new("files that are followed need a `schema`").at(["follow"]);
        problem.help("declare the columns: rows that are yet to come can't be looked at")
    })?;
    if settings.compression.is_some() {
        return Err(not_packed("a packed file can't be followed").at(["compression"]));
    }
    Ok(ReadOptions {
        format: Format::Csv,
        compression: None,
        columns,
        wanted: context.columns.clone(),
        batch_rows: context.batch_rows,
        timezone: text::timezone(settings.timezone.as_deref())?,
        csv: text::csv_options(settings.header, &settings.null_values),
        pace: Pace::Growing,
    })
}

fn pattern(settings: &FileInput, path: &str, folder: &Path, options: &ReadOptions) -> Result<Pattern, Problem> {
    check_later(folder, path)?;
    let kind = FileKind::of(path);
    if kind.compression.is_some() {
        return Err(not_packed(format!("`{path}` is packed, and can't be followed")));
    }
    let format = settings.format_of(path)?;
    if !format.is_text() {
        let problem = Problem::new(format!("{} files can't be followed: they are written as a whole", format.name()));
        return Err(problem.help("`csv` and `ndjson` can; without `follow` the file is read once"));
    }
    let delimiter = text::delimiter(settings.delimiter, if kind.tabs { b'\t' } else { b',' })?;
    let csv = CsvOptions { delimiter, ..options.csv.clone() };
    Ok(Pattern { path: path.to_owned(), options: ReadOptions { format, csv, ..options.clone() } })
}

fn not_packed(message: impl Into<String>) -> Problem {
    Problem::new(message).help("without `follow` it is read once")
}

/// A path or pattern, and how its files are read.
struct Pattern {
    path: String,
    options: ReadOptions,
}

/// The input.
struct Follow {
    source: Arc<str>,
    folder: PathBuf,
    patterns: Vec<Pattern>,
    files: Vec<Followed>,
    /// The file that was read last.
    turn: usize,
    /// A file that has been given up with the last call: its last rows may not have been sent yet.
    left: Option<Followed>,
    /// Files of the run before that are there no more.
    gone: Vec<Arc<str>>,
    /// When files were searched for last, and when it was looked whether they should be.
    searched: Option<Instant>,
    looked: Instant,
}

/// A file that is followed.
struct Followed {
    /// The path at which it was found: the partition of its rows.
    name: Arc<str>,
    path: PathBuf,
    tail: Tail,
    /// The pattern that it was found by.
    pattern: usize,
    /// The position behind the rows that were read.
    read: u64,
    /// Since when it is no longer there: and where it is now, if anywhere.
    moved: Option<(Instant, Option<SourceFile>)>,
}

/// A followed file at a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct FollowedState {
    name: String,
    pattern: usize,
    identity: Identity,
    place: Place,
}

/// The state of the input: the files.
const FILES: &str = "files";

impl Followed {
    /// Whether it has lost its name, and nothing has come since for long enough. To be asked when all of it is read.
    fn is_left(&self) -> bool {
        self.moved.as_ref().is_some_and(|(since, _)| self.tail.changed().max(*since).elapsed() >= LINGER)
    }

    /// Whether its path leads to something else by now, or nowhere, which is not known yet.
    fn has_lost_its_name(&self) -> bool {
        let there = self.path.metadata().ok().map(|metadata| Identity::of(&metadata));
        self.moved.is_none() && there != Some(self.tail.identity())
    }
}

#[async_trait]
impl Input for Follow {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        self.gone.drain(..).for_each(|name| out.change_partition(PartitionChange::Gone(name)));
        loop {
            if self.is_search_due() {
                self.search(out)?;
            }
            if self.read(out)? {
                return Ok(Progress::More);
            }
            sleep(LOOK).await;
        }
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let state = |file: &Followed, position: u64| -> Result<FollowedState> {
            let place = file.tail.place(position).doing(|| format!("reading `{}`", file.name))?;
            let (name, identity) = (file.name.to_string(), file.tail.identity());
            Ok(FollowedState { name, pattern: file.pattern, identity, place })
        };
        let mut files = Vec::with_capacity(self.files.len());
        for (index, file) in self.files.iter().enumerate() {
            // Only of the file that was read last can there be rows that the engine has not sent yet.
            let sent = positions.get(&file.name).filter(|_| index == self.turn && self.left.is_none());
            files.push(state(file, sent.copied().unwrap_or(file.read))?);
        }
        if let Some(left) = &self.left
            && let Some(sent) = positions.get(&left.name).filter(|sent| **sent < left.read)
        {
            files.push(state(left, *sent)?);
        }
        let mut parts = Parts::default();
        parts.put(FILES, &files)?;
        Ok(parts)
    }

    fn restore(&mut self, _: &Positions, state: &State) -> Result<()> {
        let known: Vec<FollowedState> = if state.has(FILES) { state.get(FILES)? } else { Vec::new() };
        let found = self.find()?;
        for FollowedState { name, pattern, identity, place } in known {
            let Some(options) = self.patterns.get(pattern).map(|pattern| &pattern.options) else { continue };
            // By now it may have another name.
            let path = found.iter().find(|(other, ..)| *other == identity).map(|(_, file, _)| file.path.clone());
            let (name, read): (Arc<str>, u64) = (name.as_str().into(), place.position);
            let path = path.or_else(|| moved_to(&self.folder, &name, identity)).unwrap_or_default();
            let tail = Tail::open_at(&path, options, identity, place).doing(|| format!("going on with `{name}`"))?;
            match tail {
                Some(tail) => self.files.push(Followed { name, path, tail, pattern, read, moved: None }),
                None => self.gone.push(name),
            }
        }
        Ok(())
    }
}

impl Follow {
    /// Whether files must be searched for: now and then, and as soon as one has lost its name, so that its successor is
    /// opened before it loses its own.
    fn is_search_due(&mut self) -> bool {
        let Some(searched) = self.searched else { return true };
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        let leaving = self.files.iter().any(|file| file.moved.is_some());
        searched.elapsed() >= if leaving { LOOK } else { SEARCH } || self.files.iter().any(Followed::has_lost_its_name)
    }

    /// Whether a file must not be read yet, because one of those that are `leaving` had the same name before it.
    fn must_wait(&self, index: usize, leaving: &[usize]) -> bool {
        let file = &self.files[index];
        let before = |other: &usize| *other < index || file.moved.is_none();
        leaving.iter().any(|other| *other != index && before(other) && self.files[*other].name == file.name)
    }

    /// Reads from the next file that has something. Returns false if none has.
    fn read(&mut self, out: &mut Collector) -> Result<bool> {
        self.left = None;
        // Mostly none, however many files there are.
        let leaving: Vec<usize> = (0..self.files.len()).filter(|index| self.files[*index].moved.is_some()).collect();
        for _ in 0..self.files.len() {
            self.turn = (self.turn + 1) % self.files.len();
            if self.must_wait(self.turn, &leaving) {
                continue;
            }
            let file = &mut self.files[self.turn];
            let name = file.name.clone();
            let named = || format!("reading `{name}`");
            let mut rows = Rows::default();
            if !file.tail.next(&mut rows).doing(named)? {
                if !file.is_left() {
                    continue;
                }
                self.leave(&mut rows, out).doing(named)?;
            } else {
                file.read = file.tail.read();
            }
            rows.send(&self.source, &name, out);
            return Ok(true);
        }
        Ok(false)
    }

    /// Follows the file by its new name, or gives it up. Another one may have waited for its name.
    fn leave(&mut self, rows: &mut Rows, out: &mut Collector) -> Result<()> {
        let file = &mut self.files[self.turn];
        let left = file.name.clone();
        out.change_partition(PartitionChange::Gone(left.clone()));
        match file.moved.take() {
            Some((_, Some(found))) => {
                out.change_partition(PartitionChange::Added(found.name.clone()));
                (file.name, file.path) = (found.name, found.path);
            }
            _ => {
                file.tail.end(rows)?;
                file.read = file.tail.read();
                self.left = Some(self.files.remove(self.turn));
            }
        }
        if self.files.iter().any(|file| file.name == left) {
            out.change_partition(PartitionChange::Added(left));
        }
        self.searched = None;
        Ok(())
    }

    /// Looks which files there are: which are new, and which are no longer where they were.
    fn search(&mut self, out: &mut Collector) -> Result<()> {
        self.searched = Some(Instant::now());
        let found = self.find()?;
        let places: HashMap<Identity, &SourceFile> =
            found.iter().rev().map(|(identity, file, _)| (*identity, file)).collect();
        for file in &mut self.files {
            let place = places.get(&file.tail.identity()).copied();
            file.moved = match file.moved.take() {
                _ if place.is_some_and(|place| place.name == file.name) => None,
                Some((since, _)) => Some((since, place.cloned())),
                None => Some((Instant::now(), place.cloned())),
            };
        }
        let mut known: HashSet<Identity> = self.files.iter().map(|file| file.tail.identity()).collect();
        let mut taken: HashSet<Arc<str>> = self.files.iter().map(|file| file.name.clone()).collect();
        for (identity, SourceFile { name, path }, pattern) in found {
            if known.contains(&identity) {
                continue;
            }
            let Some(tail) =
                Tail::open(&path, &self.patterns[pattern].options).doing(|| format!("reading `{name}`"))?
            else {
                continue;
            };
            if known.insert(tail.identity()) {
                if taken.insert(name.clone()) {
                    out.change_partition(PartitionChange::Added(name.clone()));
                }
                self.files.push(Followed { name, path, tail, pattern, read: 0, moved: None });
            }
        }
        Ok(())
    }

    /// The files that match, sorted by name, and their patterns.
    fn find(&self) -> Result<Vec<(Identity, SourceFile, usize)>> {
        let mut found = Vec::new();
        for (index, Pattern { path, .. }) in self.patterns.iter().enumerate() {
            for file in find_now(&self.folder, path).doing(|| format!("searching for `{path}`"))? {
                // What a rotation has packed has been read before.
                let is_packed = FileKind::of(&*file.name).compression.is_some();
                // It may have gone meanwhile.
                if let (false, Ok(metadata)) = (is_packed, file.path.metadata()) {
                    found.push((Identity::of(&metadata), file, index));
                }
            }
        }
        found.sort_by(|one, two| one.1.name.cmp(&two.1.name));
        Ok(found)
    }
}

/// Where a file is now that had a name, if it is still in the same folder: what a rotation has renamed is not found by the
/// pattern any more.
fn moved_to(folder: &Path, name: &str, identity: Identity) -> Option<PathBuf> {
    let path = folder.join(name);
    let entries = std::fs::read_dir(path.parent()?).ok()?.flatten();
    let is_it = |entry: &std::fs::DirEntry| entry.metadata().is_ok_and(|found| Identity::of(&found) == identity);
    entries.into_iter().find(is_it).map(|entry| entry.path())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::Write;

    use millstream_core::{InputSettings, Step};
    use millstream_testkit::{context, parse, rows_as_text};

    use super::*;

    /// A folder, and an input that follows files in it.
    struct Followed {
        folder: tempfile::TempDir,
        input: Box<dyn Input>,
        out: Collector,
    }

    const NUMBERS: &str = "follow = true\nschema = { n = \"int64\" }";

    impl Followed {
        fn new(settings: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { input: Self::input(settings, folder.path()), folder, out: Collector::new(1) }
        }

        fn input(settings: &str, folder: &Path) -> Box<dyn Input> {
            let context = PlanContext { flow_folder: folder.to_owned(), ..context() };
            let plan = parse::<FileInput>(settings).plan(&context).unwrap();
            assert_eq!((plan.finite, plan.interleaved), (false, true));
            (plan.build)().unwrap()
        }

        fn append(&self, name: &str, text: &str) {
            let path = self.folder.path().join(name);
            let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn rename(&self, from: &str, to: &str) {
            fs::rename(self.folder.path().join(from), self.folder.path().join(to)).unwrap();
        }

        fn empty(&self, name: &str) {
            File::create(self.folder.path().join(name)).unwrap();
        }

        /// The rows that come until nothing has come for so many seconds: partition, first position, values.
        async fn rows_in(&mut self, seconds: u64) -> Vec<(String, u64, String)> {
            let quiet = Duration::from_secs(seconds);
            while let Ok(progress) = tokio::time::timeout(quiet, self.input.next(&mut self.out)).await {
                assert_eq!(progress.unwrap(), Progress::More);
            }
            let row = |batch: millstream_core::Batch| {
                let text = rows_as_text([&batch.rows]);
                let values = text.lines().skip(1).collect::<Vec<_>>().join(" ");
                (batch.origin.partition.to_string(), batch.origin.start, values)
            };
            self.out.take(0).map(row).collect()
        }

        async fn rows(&mut self) -> Vec<(String, u64, String)> {
            self.rows_in(10).await
        }

        /// The state when rows up to these positions have been sent.
        fn snapshot(&mut self, positions: &[(&str, u64)]) -> State {
            let positions = positions.iter().map(|(name, next)| (Arc::from(*name), *next)).collect();
            self.input.snapshot(&positions).unwrap().into_state().unwrap()
        }

        /// The rows that come to a run that goes on from there.
        async fn go_on(&mut self, settings: &str, state: &State) -> Vec<(String, u64, String)> {
            self.input = Self::input(settings, self.folder.path());
            self.input.restore(&Positions::new(), state).unwrap();
            self.out = Collector::new(1);
            self.rows().await
        }
    }

    fn rows<const N: usize>(expected: [(&str, u64, &str); N]) -> Vec<(String, u64, String)> {
        expected.map(|(name, start, values)| (name.to_owned(), start, values.to_owned())).to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_read_when_its_line_break_is_there() {
        let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
        assert_eq!(followed.rows().await, []);
        followed.append("a.ndjson", "{\"n\": 1}\n{\"n\"");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "1")]));
        followed.append("a.ndjson", ": 2");
        assert_eq!(followed.rows().await, []);
        followed.append("a.ndjson", "}\nbad\n{\"n\": 4}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 1, "2"), ("a.ndjson", 3, "4")]));
        let failed = followed.out.take_failed();
        assert_eq!((&*failed[0].partition, failed[0].position, &*failed[0].row), ("a.ndjson", Some(2), "bad"));
    }

    #[tokio::test(start_paused = true)]
    async fn csv_begins_with_its_header_in_every_file() {
        let mut followed = Followed::new(&format!("path = \"*.csv\"\n{NUMBERS}"));
        followed.append("a.csv", "m,");
        assert_eq!(followed.rows().await, []);
        followed.append("a.csv", "n\nx,1\n\"y\n");
        followed.append("b.csv", "n\n7\n");
        let mut found = followed.rows().await;
        found.sort();
        assert_eq!(found, rows([("a.csv", 0, "1"), ("b.csv", 0, "7")]));
        followed.append("a.csv", "z\",2\n");
        assert_eq!(followed.rows().await, rows([("a.csv", 1, "2")]));
        followed.append("c.csv", "o\n1\n");
        let error = followed.input.next(&mut followed.out).await.unwrap_err().to_string();
        assert!(error.starts_with("reading `c.csv`: there is no column `n` in the header"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_renamed_is_read_to_its_end_before_the_new_one() {
        let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
        followed.append("a.ndjson", "{\"n\": 1}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "1")]));
        followed.rename("a.ndjson", "a.ndjson.1");
        followed.append("a.ndjson", "{\"n\": 10}\n");
        followed.append("a.ndjson.1", "{\"n\": 2}\n{\"n\": 3}");
        let expected = [("a.ndjson", 1, "2"), ("a.ndjson", 2, "3"), ("a.ndjson", 0, "10")];
        assert_eq!(followed.rows().await, rows(expected));
        followed.append("a.ndjson.1", "{\"n\": 4}\n");
        followed.append("a.ndjson", "{\"n\": 11}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 1, "11")]), "the old one was given up");
        fs::remove_file(followed.folder.path().join("a.ndjson")).unwrap();
        assert_eq!(followed.rows().await, []);
        followed.append("a.ndjson", "{\"n\": 20}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "20")]));
        let (added, gone) = (PartitionChange::Added("a.ndjson".into()), PartitionChange::Gone("a.ndjson".into()));
        let expected = [&added, &gone, &added, &gone, &added].map(Clone::clone);
        assert_eq!(followed.out.take_partitions(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_follow_each_other_quickly_are_read_in_their_order() {
        let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
        for file in 0..5 {
            followed.append("a.ndjson", &format!("{{\"n\": {file}}}\n"));
            // Not long enough for the one before to be given up.
            let quiet = Duration::from_millis(300);
            while let Ok(progress) = tokio::time::timeout(quiet, followed.input.next(&mut followed.out)).await {
                progress.unwrap();
            }
            followed.rename("a.ndjson", &format!("{file}.old"));
        }
        let found = followed.rows().await;
        let expected = [0, 1, 2, 3, 4].map(|file: u64| ("a.ndjson".to_owned(), 0, file.to_string()));
        assert_eq!(found, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_line_may_be_long() {
        let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
        followed.append("a.ndjson", &" ".repeat(20 << 20));
        assert_eq!(followed.rows().await, []);
        followed.append("a.ndjson", "{\"n\": 1}\n{\"n\": 2}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "1 2")]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_found_under_another_name_is_followed_by_it() {
        let settings = format!("path = \"a*\"\nformat = \"ndjson\"\n{NUMBERS}");
        let mut followed = Followed::new(&settings);
        followed.append("a", "{\"n\": 1}\n");
        followed.append("a.3.gz", "packed");
        assert_eq!(followed.rows().await, rows([("a", 0, "1")]));
        followed.rename("a", "a.1");
        followed.append("a", "{\"n\": 10}\n");
        assert_eq!(followed.rows().await, rows([("a", 0, "10")]), "nothing is read twice");
        followed.rename("a.1", "a.2");
        followed.rename("a", "a.1");
        followed.append("a.2", "{\"n\": 2}\n");
        assert_eq!(followed.rows_in(60).await, rows([("a.1", 1, "2")]));
        followed.append("a.2", "{\"n\": 3}\n");
        followed.append("a.1", "{\"n\": 11}\n");
        let mut found = followed.rows().await;
        found.sort();
        assert_eq!(found, rows([("a.1", 1, "11"), ("a.2", 2, "3")]));
        assert!(followed.out.take_failed().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_emptied_is_read_from_its_beginning() {
        let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
        followed.append("a.ndjson", "{\"n\": 1}\n{\"n\": 2}\n{\"n\": ");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "1 2")]));
        followed.empty("a.ndjson");
        assert_eq!(followed.rows().await, []);
        followed.append("a.ndjson", "{\"n\": 3}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "3")]));
        followed.empty("a.ndjson");
        followed.append("a.ndjson", "{\"n\": 4}\n{\"n\": 5}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "4 5")]), "it is longer than before");
        assert!(followed.out.take_failed().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_goes_on_where_another_one_was() {
        let settings = format!("path = \"a.ndjson\"\n{NUMBERS}");
        let mut followed = Followed::new(&settings);
        followed.append("a.ndjson", "{\"n\": 0}\n{\"n\": 1}\nbad\n{\"n\": 3}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "0 1"), ("a.ndjson", 3, "3")]));
        // A border lies between the rows that came last.
        let state = followed.snapshot(&[("a.ndjson", 1)]);
        assert_eq!(followed.go_on(&settings, &state).await, rows([("a.ndjson", 1, "1"), ("a.ndjson", 3, "3")]));
        assert_eq!(followed.out.take_failed()[0].position, Some(2));
        let state = followed.snapshot(&[("a.ndjson", 4)]);
        assert_eq!(followed.go_on(&settings, &state).await, []);
        // Rotated while nobody looked: what was left of it comes first.
        followed.append("a.ndjson", "{\"n\": 4}\n");
        followed.rename("a.ndjson", "a.ndjson.1");
        followed.append("a.ndjson", "{\"n\": 10}\n");
        assert_eq!(followed.go_on(&settings, &state).await, rows([("a.ndjson", 4, "4"), ("a.ndjson", 0, "10")]));
        // Emptied while nobody looked, or just before.
        let before = followed.snapshot(&[("a.ndjson", 1)]);
        followed.empty("a.ndjson");
        let behind = followed.snapshot(&[("a.ndjson", 1)]);
        followed.append("a.ndjson", "{\"n\": 20}\n{\"n\": 21}\n");
        for state in [before, behind] {
            assert_eq!(followed.go_on(&settings, &state).await, rows([("a.ndjson", 0, "20 21")]));
        }
        // Gone while nobody looked.
        let state = followed.snapshot(&[("a.ndjson", 2)]);
        fs::remove_file(followed.folder.path().join("a.ndjson")).unwrap();
        assert_eq!(followed.go_on(&settings, &state).await, []);
        assert_eq!(followed.out.take_partitions(), [PartitionChange::Gone("a.ndjson".into())]);
    }

    #[tokio::test(start_paused = true)]
    async fn long_files_are_read_in_full_batches_in_turn() {
        let mut followed = Followed::new(&format!("path = [\"b.ndjson\", \"a.ndjson\"]\n{NUMBERS}"));
        let lines: String = (0..20_000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
        followed.append("a.ndjson", &lines);
        followed.append("b.ndjson", &lines);
        let mut sizes = Vec::new();
        for _ in 0..6 {
            followed.input.next(&mut followed.out).await.unwrap();
            sizes.extend(followed.out.take(0).map(|batch| (batch.origin.partition.to_string(), batch.len())));
        }
        sizes.sort();
        let of = |name: &str| [3616, 8192, 8192].map(|rows| (name.to_owned(), rows));
        assert_eq!(sizes, [of("a.ndjson"), of("b.ndjson")].concat());
    }

    #[test]
    fn settings_that_can_not_be_followed() {
        let problem = |text: &str| {
            let problem = parse::<FileInput>(&format!("follow = true\n{text}")).plan(&context()).unwrap_err().remove(0);
            (problem.at, problem.message)
        };
        let schema = "schema = { n = \"int64\" }";
        let at = |key: &str| vec![Step::from(key)];
        let message = "files that are followed need a `schema`";
        assert_eq!(problem("path = \"a.csv\""), (at("follow"), message.into()));
        let message = "parquet files can't be followed: they are written as a whole";
        assert_eq!(problem(&format!("path = \"a.parquet\"\n{schema}")), (at("path"), message.into()));
        let message = "`a.csv.gz` is packed, and can't be followed";
        assert_eq!(problem(&format!("path = \"a.csv.gz\"\n{schema}")), (at("path"), message.into()));
        let packed = format!("path = \"a.csv\"\ncompression = \"zstd\"\n{schema}");
        assert_eq!(problem(&packed), (at("compression"), "a packed file can't be followed".into()));
        let message = "the name of `log*` does not say its format";
        assert_eq!(problem(&format!("path = \"log*\"\n{schema}")), (at("path"), message.into()));
        assert_eq!(problem(&format!("path = [\"a.csv\", \"a***b\"]\n{schema}")).0, ["path".into(), 1.into()]);
        assert_eq!(problem(&format!("path = \"src\"\nformat = \"csv\"\n{schema}")).1, "`src` is a folder");
        let message = "`b.csv` is csv, unlike the paths before it";
        assert_eq!(problem(&format!("path = [\"a.json\", \"b.csv\"]\n{schema}")), (at("path"), message.into()));
        assert_eq!(problem("path = \"a.csv\"\nschema = { n = \"list<int64>\" }").0, at("schema"));
    }
}
