//! Files that are followed: read as they grow, are rotated, emptied and added.
//!
//! They are looked at now and then instead of watched: a system's notifications can be lost, and never come from network
//! file systems, so that looking would be needed beside them; and a look at a file costs a microsecond.

mod successors;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::{
    Collector, Columns, Error, Home, Input, InputPlan, PartitionChange, Parts, PlanContext, Positions, Problem,
    Problems, Progress, Result, ResultExt, State,
};
use millstream_formats::{Decoder, FileKind, ReadMode, Rows};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::place::Place;
use super::sources::Formats;
use super::tail::{Identity, Tail};
use super::{FileInput, IfGone};
use crate::file::find::{SourceFile, check_later, find_now};

/// How long to wait until files without new rows are looked at again.
const LOOK: Duration = Duration::from_millis(100);

/// How long to wait until files are searched for again.
const SEARCH: Duration = Duration::from_secs(1);

/// How long nothing has to come to a file that has lost its name until it is given up.
const LINGER: Duration = Duration::from_secs(1);

/// Plans an input that follows files.
pub fn plan(settings: &FileInput, context: &PlanContext) -> Result<InputPlan, Problems> {
    let columns = declared(settings)?;
    let folder = context.input_path("");
    let mut formats = Formats::new(settings.format.as_ref());
    let patterns = settings.each_path(|path| pattern(path, &folder, columns, &mut formats, context))?;
    check_same_format(&patterns)?;
    let first = &patterns[0].decoder;
    first.format.check_columns(columns).map_err(|problem| problem.at(["schema"]))?;
    let (schema, source, reads) = (first.schema(), context.node.as_str().into(), Some(settings.reads(context)));
    let files = Follow {
        source,
        folder,
        patterns,
        if_gone: settings.if_gone,
        given: HashSet::new(),
        files: Vec::new(),
        turn: 0,
        left: None,
        gone: Vec::new(),
        locating: false,
        searched: None,
        looked: Instant::now(),
    };
    Ok(InputPlan { reads, finite: false, interleaved: true, ..InputPlan::new(schema, move || Ok(files)) })
}

fn check_same_format(patterns: &[Pattern]) -> Result<(), Problem> {
    let name = |pattern: &Pattern| pattern.decoder.format.kind().name;
    let Some(other) = patterns.iter().find(|other| name(other) != name(&patterns[0])) else { return Ok(()) };
    let message = format!("`{}` is {}, unlike the paths before it", other.path, name(other));
    Err(Problem::new(message).at(["path"]).help("read each format with an input of its own"))
}

/// The columns, which have to be declared.
fn declared(settings: &FileInput) -> Result<&Columns, Problem> {
    let columns = settings.schema.as_ref().ok_or_else(|| {
        let problem = Problem::new("files that are followed need a `schema`").at(["follow"]);
        problem.help("declare the columns: rows that are yet to come can't be looked at")
    })?;
    match settings.compression {
        None => Ok(columns),
        Some(_) => Err(not_compressed("a compressed file can't be followed").at(["compression"])),
    }
}

fn pattern(
    path: &str,
    folder: &Path,
    columns: &Columns,
    formats: &mut Formats<'_>,
    context: &PlanContext,
) -> Result<Pattern, Problem> {
    check_later(folder, path)?;
    if FileKind::of(path).compression.is_some() {
        return Err(not_compressed(format!("`{path}` is compressed, and can't be followed")));
    }
    let format = formats.of(path)?;
    let name = format.kind().name;
    if !format.kind().is_text {
        let problem = Problem::new(format!("{name} files can't be followed: they are written as a whole"));
        return Err(problem.help("`csv` and `ndjson` can; without `follow` the file is read once"));
    }
    if !format.is_utf8() {
        let problem = Problem::new("only files in UTF-8 can be followed").at(["format", "encoding"]);
        return Err(problem.help("without `follow` the file is read once"));
    }
    let decoder = Decoder { read_mode: ReadMode::Tailing, ..format.of_all_rows(columns.clone(), context) };
    Ok(Pattern { path: path.to_owned(), decoder })
}

fn not_compressed(message: impl Into<String>) -> Problem {
    Problem::new(message).help("without `follow` it is read once")
}

/// A path or pattern, and how its files are read.
struct Pattern {
    path: String,
    decoder: Decoder,
}

/// The input.
struct Follow {
    source: Arc<str>,
    folder: PathBuf,
    patterns: Vec<Pattern>,
    if_gone: IfGone,
    /// The partitions that there were, no two of which may have the same name.
    given: HashSet<Arc<str>>,
    files: Vec<Followed>,
    /// The file that was read last.
    turn: usize,
    /// A file that has been given up with the last call: its last rows may not have been sent yet.
    left: Option<Followed>,
    /// Partitions of which no more rows come, which was not said yet.
    gone: Vec<Arc<str>>,
    /// Whether rows of a run before are gone through again, so that no other files count than those of then.
    locating: bool,
    /// When files were searched for last, and when it was looked whether they should be.
    searched: Option<Instant>,
    looked: Instant,
}

/// A file that is followed.
struct Followed {
    /// The partition of its rows: the path at which it was found, with a number if another one has had that.
    partition: Arc<str>,
    /// The path at which it is found now, as the user writes it.
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

/// A followed file at a checkpoint, or before its first row.
#[derive(Debug, Serialize, Deserialize)]
struct FollowedState {
    partition: String,
    name: String,
    pattern: usize,
    identity: Identity,
    place: Place,
}

/// The state of the input: the files, and the partitions of which no more rows come.
const FILES: &str = "files";
const GONE: &str = "gone";

impl Followed {
    /// Whether it has lost its name, and nothing has come since for long enough. To be asked when all of it is read.
    fn is_left(&self) -> bool {
        self.moved.as_ref().is_some_and(|(since, _)| self.tail.changed().max(*since).elapsed() >= LINGER)
    }

    /// Where it is read, if the row with this position is the next.
    fn state(&self, position: u64) -> Result<FollowedState> {
        let place = self.tail.place(position).doing(|| format!("reading `{}`", self.name))?;
        Ok(self.at(place))
    }

    /// What it takes to find it and its first row.
    fn locator(&self) -> Result<String> {
        let place = self.tail.first_place().doing(|| format!("reading `{}`", self.name))?;
        serde_json::to_string(&self.at(place)).doing(|| "writing the locator of a file")
    }

    fn at(&self, place: Place) -> FollowedState {
        let (partition, name) = (self.partition.to_string(), self.name.to_string());
        FollowedState { partition, name, pattern: self.pattern, identity: self.tail.identity(), place }
    }

    /// Whether its path leads to something else by now, or nowhere, which is not known yet.
    fn has_lost_its_name(&self) -> bool {
        let there = self.path.metadata().ok().map(|metadata| Identity::of(&metadata));
        self.moved.is_none() && there != Some(self.tail.identity())
    }
}

#[async_trait]
impl Input for Follow {
    async fn open(&mut self, home: &Home) -> Result<()> {
        self.locating = matches!(home, Home::Replay(_));
        if self.locating {
            self.part_from_names();
        }
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        self.gone.drain(..).for_each(|partition| out.change_partition(PartitionChange::Gone(partition)));
        loop {
            if self.is_search_due() {
                self.search(out)?;
            }
            if self.read(out)? {
                return Ok(Progress::More);
            }
            if self.locating && self.files.iter().all(|file| file.moved.is_none()) {
                return Ok(Progress::End);
            }
            sleep(LOOK).await;
        }
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let mut files = Vec::with_capacity(self.files.len());
        for (index, file) in self.files.iter().enumerate() {
            // Only of the file that was read last can there be rows that the engine has not sent yet.
            let sent = positions.get(&file.partition).filter(|_| index == self.turn && self.left.is_none());
            files.push(file.state(sent.copied().unwrap_or(file.read))?);
        }
        let mut gone: Vec<String> = self.gone.iter().map(ToString::to_string).collect();
        if let Some(left) = &self.left
            && let Some(sent) = positions.get(&left.partition).filter(|sent| **sent < left.read)
        {
            files.push(left.state(*sent)?);
            gone.retain(|partition| **partition != *left.partition);
        }
        let mut parts = Parts::default();
        parts.put(FILES, &files)?;
        parts.put(GONE, &gone)?;
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        self.given = positions.keys().cloned().collect();
        let files: Vec<FollowedState> = if state.has(FILES) { state.get(FILES)? } else { Vec::new() };
        let gone: Vec<String> = if state.has(GONE) { state.get(GONE)? } else { Vec::new() };
        self.gone = gone.into_iter().map(Arc::from).collect();
        let found = self.find()?;
        for file in files {
            self.given.insert(file.partition.as_str().into());
            let may_be_gone = file.place.is_lost() || file.place.is_of_nothing() || self.if_gone == IfGone::GoOn;
            let (partition, name) = (Arc::from(file.partition.as_str()), file.name.clone());
            if self.go_on(file, &found)? {
                continue;
            }
            if may_be_gone {
                self.gone.push(partition);
            } else {
                return Err(is_gone(&name, positions.get(&partition).copied().unwrap_or_default()));
            }
        }
        Ok(())
    }

    fn locate(&mut self, partition: &Arc<str>, locator: &str) -> Result<()> {
        let file: FollowedState = serde_json::from_str(locator).doing(|| format!("looking for `{partition}`"))?;
        let name = file.name.clone();
        let is_there = self.go_on(file, &self.find()?)?;
        self.part_from_names();
        if is_there {
            Ok(())
        } else {
            Err(Error::new(format!(
                "the file that was `{name}` when rows of partition `{partition}` were read is there no more: put it back into \
                 its folder, by any name"
            )))
        }
    }
}

impl Follow {
    /// Resumes a file where it was read before. Returns false if it is there no more, or no longer what it was.
    fn go_on(&mut self, file: FollowedState, found: &[(Identity, SourceFile, usize)]) -> Result<bool> {
        let Some(decoder) = self.patterns.get(file.pattern).map(|pattern| &pattern.decoder) else { return Ok(false) };
        let (name, read): (Arc<str>, u64) = (file.name.as_str().into(), file.place.position);
        let doing = || format!("resuming `{name}`");
        for path in self.candidates(&file, found) {
            let Some(tail) = Tail::open_at(&path, decoder, file.place.clone()).doing(doing)? else { continue };
            let (partition, pattern) = (file.partition.as_str().into(), file.pattern);
            self.files.push(Followed { partition, name, path, tail, pattern, read, moved: None });
            return Ok(true);
        }
        Ok(false)
    }

    /// Files that have another name by now have come to their end, also if their last row has no line break.
    fn part_from_names(&mut self) {
        for file in self.files.iter_mut().filter(|file| file.path != self.folder.join(&*file.name)) {
            file.moved.get_or_insert((Instant::now(), None));
        }
    }

    /// Where a file may be by now: by what it is; or by what is in it, after it was copied or decompressed.
    fn candidates(&self, file: &FollowedState, found: &[(Identity, SourceFile, usize)]) -> Vec<PathBuf> {
        let own = self.folder.join(&file.name);
        let mut beside = files_beside(&own);
        beside.sort_by_key(|(path, _)| (*path != own, path.clone()));
        let all = found.iter().map(|(identity, file, _)| (file.path.clone(), *identity)).chain(beside);
        // One that is mistaken for a file that waits for its turn is read from its beginning, as it would have been anyway.
        let is_telling = file.place.is_telling() || !self.locating && file.place.is_unread();
        let (mut same, mut others) = (Vec::new(), Vec::new());
        for (path, identity) in all {
            let is_known = self.files.iter().any(|known| known.tail.identity() == identity);
            if identity == file.identity {
                same.push(path);
            } else if is_telling && !is_known {
                others.push(path);
            }
        }
        same.extend(others);
        same
    }

    /// A name for the rows of a file that is found at this path.
    fn partition(&mut self, name: &Arc<str>) -> Arc<str> {
        let numbered = (2..).map(|number: u64| Arc::from(format!("{name}#{number}")));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        let partition = names.find(|name| !self.given.contains(name)).unwrap_or_else(|| name.clone());
        self.given.insert(partition.clone());
        partition
    }

    /// Whether files must be searched for: now and then, and as soon as one has lost its name, so that its successor is
    /// opened before it loses its own.
    fn is_search_due(&mut self) -> bool {
        if self.locating {
            return false;
        }
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
            let has_rows = file.tail.next(&mut rows).doing(named)?;
            if file.tail.take_emptied() {
                self.begin_anew(out)?;
            }
            let file = &mut self.files[self.turn];
            let partition = file.partition.clone();
            if has_rows {
                file.read = file.tail.read();
            } else if file.is_left() {
                self.leave(&mut rows).doing(named)?;
            } else {
                continue;
            }
            rows.send(&self.source, &partition, out);
            return Ok(true);
        }
        Ok(false)
    }

    /// What comes from the file that is read now are other rows than before.
    fn begin_anew(&mut self, out: &mut Collector) -> Result<()> {
        let name = self.files[self.turn].name.clone();
        let partition = self.partition(&name);
        let file = &mut self.files[self.turn];
        file.read = 0;
        let before = std::mem::replace(&mut file.partition, partition.clone());
        let locator = file.locator()?;
        out.change_partition(PartitionChange::Gone(before));
        out.change_partition(PartitionChange::Added { partition, locator });
        Ok(())
    }

    /// Follows the file by its new name, or gives it up. Another one may have waited for its name.
    fn leave(&mut self, rows: &mut Rows) -> Result<()> {
        let file = &mut self.files[self.turn];
        match file.moved.take() {
            Some((_, Some(found))) => (file.name, file.path) = (found.name, found.path),
            _ => {
                file.tail.end(rows)?;
                file.read = file.tail.read();
                let left = self.files.remove(self.turn);
                // Not before its last rows.
                self.gone.push(left.partition.clone());
                self.left = Some(left);
            }
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
        let mut left_name = Vec::new();
        for (index, file) in self.files.iter_mut().enumerate() {
            let place = places.get(&file.tail.identity()).copied();
            if file.moved.is_none() && place.is_none() {
                left_name.push(index);
            }
            file.moved = match file.moved.take() {
                _ if place.is_some_and(|place| place.name == file.name) => None,
                Some((since, _)) => Some((since, place.cloned())),
                None => Some((Instant::now(), place.cloned())),
            };
        }
        for index in left_name {
            self.add_successors(index, &places, out)?;
        }
        let mut known: HashSet<Identity> = self.files.iter().map(|file| file.tail.identity()).collect();
        for (identity, SourceFile { name, path }, pattern) in found {
            if known.contains(&identity) {
                continue;
            }
            let Some(tail) =
                Tail::open(&path, &self.patterns[pattern].decoder).doing(|| format!("reading `{name}`"))?
            else {
                continue;
            };
            if known.insert(tail.identity()) {
                self.add(name, path, tail, pattern, None, out)?;
            }
        }
        Ok(())
    }

    /// Follows one more file.
    fn add(
        &mut self,
        name: Arc<str>,
        path: PathBuf,
        tail: Tail,
        pattern: usize,
        moved: Option<(Instant, Option<SourceFile>)>,
        out: &mut Collector,
    ) -> Result<()> {
        let partition = self.partition(&name);
        let file = Followed { partition, name, path, tail, pattern, read: 0, moved };
        let (partition, locator) = (file.partition.clone(), file.locator()?);
        out.change_partition(PartitionChange::Added { partition, locator });
        self.files.push(file);
        Ok(())
    }

    /// The files that match, sorted by name, and their patterns.
    fn find(&self) -> Result<Vec<(Identity, SourceFile, usize)>> {
        let mut found = Vec::new();
        for (index, Pattern { path, .. }) in self.patterns.iter().enumerate() {
            for file in find_now(&self.folder, path).doing(|| format!("searching for `{path}`"))? {
                // What a rotation has compressed has been read before.
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

/// The files in the folder of one that are not compressed, and what they are: what a rotation has renamed is not found by the
/// pattern any more.
fn files_beside(path: &Path) -> Vec<(PathBuf, Identity)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let file = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let is_packed = FileKind::of(&*entry.file_name().to_string_lossy()).compression.is_some();
        (!is_packed).then(|| (path.with_file_name(entry.file_name()), Identity::of(&metadata)))
    };
    entries.filter_map(file).collect()
}

/// Why the flow does not resume.
fn is_gone(name: &str, rows: u64) -> Error {
    Error::new(format!(
        "`{name}`, of which {rows} rows were read, is there no more: it was removed, compressed, emptied or moved to another folder, \
         and what had come to it since would be missing. Put it back into its folder, by any name; or resume without it, with \
         `if_gone = \"go_on\"`"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests;
