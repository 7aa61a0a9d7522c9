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
mod tests;
