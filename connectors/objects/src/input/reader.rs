//! Reads one object after the other, in the order of their names, and knows which were read.
//!
//! While one is read, the next one is fetched. What was read of which object is known by the engine's positions, since each is a partition:
//! the objects before the one of the rows that were pushed last are read, those behind it are not.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use millstream_connectors::DecodeQueue;
use millstream_core::{
    Collector, Error, ErrorClass, Figures, Home, Input, PartitionChange, Parts, Positions, Progress, Report, Result,
    ResultExt as _, State, join,
};
use millstream_formats::{BadRow, BatchReader, Part, ReaderPosition, RowGroups, Rows};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::download::{Fetched, Trouble, fetch};
use super::listing::Found;
use super::seen::{News, Read, Seen};
use super::shape::ObjectShape;
use super::{Job, OnBadObject};

/// The name of the place in the state.
const PLACE: &str = "place";

/// Where an object is gone on with.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    found: Found,
    /// Where its reader goes on, and the first row that was not sent.
    start: ReaderPosition,
    position: u64,
}

/// An object that waits for its turn.
struct Wanted {
    found: Found,
    start: ReaderPosition,
    /// The position of its first row that counts.
    first: u64,
    /// Why nothing of it is read.
    bad: Option<&'static str>,
    /// Whether it is known to the replay log.
    is_added: bool,
}

impl Wanted {
    /// One that is read from its first row on.
    fn new(found: Found) -> Self {
        Self { found, start: ReaderPosition::default(), first: 0, bad: None, is_added: false }
    }
}

/// An object that was begun.
struct Object {
    found: Found,
    partition: Arc<str>,
    first: u64,
    shape: Option<ObjectShape>,
    /// Whether what is left of it is not read, since it is damaged.
    is_bad: AtomicBool,
    /// Whether it is known to the replay log.
    is_added: AtomicBool,
}

impl Object {
    fn new(wanted: Wanted, shape: Option<ObjectShape>) -> Arc<Self> {
        let Wanted { found, first, is_added, .. } = wanted;
        let (is_bad, is_added) = (AtomicBool::new(false), AtomicBool::new(is_added));
        Arc::new(Self { partition: found.name.as_str().into(), found, first, shape, is_bad, is_added })
    }
}

/// What was read, in its order.
enum Step {
    /// Rows of an object, between two places.
    Rows(Arc<Object>, ReaderPosition, ReaderPosition),
    /// All of an object.
    Ended(Arc<Object>),
    /// An object that can't be read behind a place, and why.
    Bad(Arc<Object>, ReaderPosition, String),
}

/// Where the rows are that were pushed last.
struct Pushed {
    object: Arc<Object>,
    before: ReaderPosition,
    behind: ReaderPosition,
    /// Whether they are the last of their object.
    has_ended: bool,
    /// Whether they stand for an object that can't be read.
    is_bad: bool,
}

/// An object that was begun, and is not sure to be behind all snapshots that will be taken.
struct Recent {
    object: Arc<Object>,
    /// What was known of an object of its name before.
    before: Option<Read>,
}

/// What is done in the background, and ends with the input.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The input.
pub struct ObjectsReader {
    job: Arc<Job>,
    source: Arc<str>,
    /// The objects that were read to their ends.
    seen: Seen,
    recent: VecDeque<Recent>,
    row_groups: RowGroups,
    waiting: VecDeque<Wanted>,
    fetching: Option<(Wanted, Task<Result<Fetched, Trouble>>)>,
    /// The object that is being read.
    current: Option<(Arc<Object>, Box<dyn BatchReader>)>,
    queue: DecodeQueue<Step>,
    last: Option<Pushed>,
    before_last: Option<Pushed>,
    /// Where it went on, which is kept until something has come since.
    restored: Option<(Seen, Option<Place>)>,
    listing: Option<Task<Result<Vec<Found>>>>,
    /// When objects are looked for again.
    due: Option<Instant>,
    has_listed: bool,
    /// When the newest object that was listed was changed, if older ones are to be forgotten when all were read.
    newest: Option<i64>,
    /// Whether it was said that there are no more objects for this run.
    waits: bool,
    /// Whether rows of a run before are gone through again, and objects are told instead of being looked for.
    locating: bool,
}

impl ObjectsReader {
    /// An input that has not begun.
    pub fn new(job: Arc<Job>, source: Arc<str>) -> Self {
        Self {
            job,
            source,
            seen: Seen::default(),
            recent: VecDeque::new(),
            row_groups: RowGroups::default(),
            waiting: VecDeque::new(),
            fetching: None,
            current: None,
            queue: DecodeQueue::default(),
            last: None,
            before_last: None,
            restored: None,
            listing: None,
            due: None,
            has_listed: false,
            newest: None,
            waits: false,
            locating: false,
        }
    }

    /// Reads as much as the threads can decode, and has the next object fetched meanwhile.
    fn advance(&mut self) {
        while self.queue.has_room() {
            let Some((object, mut reader)) = self.current.take() else { break };
            let start = reader.position();
            let part = if self.queue.is_parallel() { reader.split_off() } else { Part::decoded(reader.as_mut()) };
            match part {
                Ok(None) => self.queue.push(Step::Ended(object), Ok(Rows::default())),
                Ok(Some(part)) => {
                    self.queue.decode(Step::Rows(object.clone(), part.before, part.after), part);
                    self.current = Some((object, reader));
                }
                Err(error) => self.queue.push(Step::Bad(object, start, error.to_string()), Ok(Rows::default())),
            }
        }
        if self.fetching.is_some() {
            return;
        }
        if let Some(wanted) = self.waiting.pop_front() {
            let (job, found, start, bad) = (self.job.clone(), wanted.found.clone(), wanted.start, wanted.bad);
            let fetched = async move {
                match bad {
                    Some(why) => Err(Trouble::Bad(why.to_owned())),
                    None => fetch(job, found, start).await,
                }
            };
            self.fetching = Some((wanted, Task(tokio::spawn(fetched.in_current_span()))));
        }
    }

    /// Goes on with an object that was fetched, or can't be.
    fn begin(&mut self, wanted: Wanted, fetched: Result<Fetched, Trouble>) -> Result<()> {
        let (shape, begun) = match fetched {
            Ok(Fetched { reader, shape }) => (Some(shape), Ok(reader)),
            Err(Trouble::Bad(why)) => (None, Err(why)),
            Err(Trouble::Error(error)) => return Err(error),
        };
        let start = wanted.start;
        let object = Object::new(wanted, shape);
        self.recent.push_back(Recent { before: self.seen.find(&object.found.name).cloned(), object: object.clone() });
        match begun {
            Ok(reader) => {
                self.row_groups.add(reader.row_groups().unwrap_or_default());
                self.current = Some((object, reader));
            }
            Err(why) => self.queue.push(Step::Bad(object, start, why), Ok(Rows::default())),
        }
        Ok(())
    }

    /// Hands out what was read. Whether that was rows.
    fn hand_out(&mut self, step: Step, rows: Result<Rows>, out: &mut Collector) -> Result<bool> {
        match step {
            Step::Rows(object, ..) if object.is_bad.load(Ordering::Relaxed) => Ok(false),
            Step::Ended(object) if object.is_bad.load(Ordering::Relaxed) => Ok(false),
            Step::Rows(object, before, behind) => {
                let rows = rows.and_then(|mut rows| {
                    rows.drop_before(object.first);
                    object.shape.as_ref().map_or_else(|| Ok(Rows::default()), |shape| shape.apply(rows))
                });
                match rows {
                    Ok(rows) => {
                        self.send(&object, rows, out);
                        self.come_to(Pushed { object, before, behind, has_ended: false, is_bad: false });
                        Ok(true)
                    }
                    Err(error) => self.refuse(object, before, &error.to_string(), out),
                }
            }
            Step::Ended(object) => {
                if let Some(last) = self.last.as_mut().filter(|last| Arc::ptr_eq(&last.object, &object)) {
                    last.has_ended = true;
                }
                self.end(&object, out);
                Ok(false)
            }
            Step::Bad(object, start, why) => self.refuse(object, start, &why, out),
        }
    }

    /// An object that can't be read behind a place: ends the flow, or leaves by the port `failed`.
    fn refuse(&mut self, object: Arc<Object>, start: ReaderPosition, why: &str, out: &mut Collector) -> Result<bool> {
        let name = &object.found.name;
        if self.job.on_bad_object == OnBadObject::Stop {
            return Err(Error::new(format!(
                "`{name}` at `{}` can't be read: {why}; put it right, or let it be left out with `on_bad_object = \"fail\"`",
                self.job.objects.location
            )));
        }
        object.is_bad.store(true, Ordering::Relaxed);
        self.current.take_if(|(current, _)| Arc::ptr_eq(current, &object));
        let position = start.position.max(object.first);
        let row = BadRow::new(position, format!("the object can't be read: {why}"), name.as_bytes());
        self.send(&object, Rows { failed: vec![row], ..Rows::default() }, out);
        let behind = ReaderPosition { position: position + 1, ..start };
        self.come_to(Pushed { object: object.clone(), before: start, behind, has_ended: true, is_bad: true });
        self.end(&object, out);
        Ok(true)
    }

    fn send(&self, object: &Object, rows: Rows, out: &mut Collector) {
        if self.job.interval.is_some() && !object.is_added.swap(true, Ordering::Relaxed) {
            let locator = serde_json::to_string(&object.found).unwrap_or_default();
            out.change_partition(PartitionChange::Added { partition: object.partition.clone(), locator });
        }
        rows.send(&self.source, &object.partition, out);
    }

    fn end(&mut self, object: &Arc<Object>, out: &mut Collector) {
        let last = self.last.as_ref().filter(|last| Arc::ptr_eq(&last.object, object));
        let rows = last.map_or(object.first, |last| last.behind.position.max(object.first));
        self.seen.insert(object.found.clone(), rows);
        if self.job.interval.is_some() && object.is_added.load(Ordering::Relaxed) {
            out.change_partition(PartitionChange::Gone(object.partition.clone()));
        }
    }

    fn come_to(&mut self, pushed: Pushed) {
        let is_same = self.last.as_ref().is_some_and(|last| Arc::ptr_eq(&last.object, &pushed.object));
        let last = self.last.replace(pushed);
        if is_same {
            return;
        }
        self.before_last = last;
        // No snapshot will be of rows before those.
        let of = self.before_last.as_ref().map(|before| before.object.clone());
        while let (Some(of), Some(first)) = (&of, self.recent.front()) {
            if Arc::ptr_eq(of, &first.object) {
                break;
            }
            self.recent.pop_front();
        }
    }

    /// Looks for objects that are new. None if there may be some by now.
    async fn look(&mut self) -> Result<Option<Progress>> {
        let is_over = self.has_listed && self.job.interval.is_none();
        match (self.locating, is_over, self.job.once) {
            (true, ..) | (_, true, false) => return Ok(Some(Progress::End)),
            (_, true, true) if self.waits => std::future::pending().await,
            (_, true, true) => {
                self.waits = true;
                return Ok(Some(Progress::CaughtUp));
            }
            (_, false, _) => {}
        }
        if let Some(due) = self.due {
            sleep_until(due).await;
        }
        let job = &self.job;
        let listing = self.listing.get_or_insert_with(|| {
            let job = job.clone();
            let all_named = job.interval.is_none() && !job.once;
            Task(tokio::spawn(async move { job.patterns.find(&job.objects, all_named).await }))
        });
        let listed = join(&mut listing.0).await;
        self.listing = None;
        self.due = job.interval.map(|interval| Instant::now() + interval);
        match listed {
            Ok(found) => {
                self.job.disturbance.note(None);
                self.has_listed = true;
                self.take(found);
                Ok(None)
            }
            // At the beginning, somebody is there to read it.
            Err(error) if error.class() == ErrorClass::Transient && self.has_listed => {
                tracing::warn!("{error}; trying again");
                self.job.disturbance.note(Some(&error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes what is new of a listing.
    fn take(&mut self, found: Vec<Found>) {
        let newest = found.iter().map(|found| found.version.modified).max();
        self.newest = newest.filter(|_| self.job.lookback.is_some()).max(self.newest);
        for found in found {
            let wanted = match self.seen.look_up(&found) {
                News::Known => continue,
                News::New => Wanted::new(found),
                News::Changed(rows) => {
                    let bad = Some("it has changed since it was read");
                    Wanted { first: rows, bad, ..Wanted::new(found) }
                }
            };
            self.waiting.push_back(wanted);
        }
    }

    /// What was read, and where it is gone on with, if rows have come to a position of those that were pushed last.
    fn at(&self, pushed: &Pushed, position: u64) -> (Seen, Option<Place>) {
        let mut seen = self.seen.clone();
        let is_done = pushed.has_ended && pushed.behind.position == position;
        let own = self.recent.iter().position(|recent| Arc::ptr_eq(&recent.object, &pushed.object));
        let Some(own) = own else { return (seen, None) };
        for recent in self.recent.iter().skip(own + usize::from(is_done)).rev() {
            seen.put_back(&recent.object.found.name, recent.before.clone());
        }
        // One that is another than it was has no place, and is found to be so again.
        if is_done || self.recent[own].before.is_some() {
            return (seen, None);
        }
        let start = if pushed.behind.position <= position && !pushed.is_bad { pushed.behind } else { pushed.before };
        (seen, Some(Place { found: pushed.object.found.clone(), start, position }))
    }
}

#[async_trait]
impl Input for ObjectsReader {
    async fn open(&mut self, home: &Home) -> Result<()> {
        self.queue = DecodeQueue::of_runtime();
        self.locating = matches!(home, Home::Replay(_)) && self.job.interval.is_some();
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        loop {
            self.advance();
            if let Some((step, rows)) = self.queue.next().await {
                if self.hand_out(step, rows, out)? {
                    return Ok(Progress::More);
                }
            } else if let Some((_, task)) = &mut self.fetching {
                let fetched = join(&mut task.0).await;
                if let Some((wanted, _)) = self.fetching.take() {
                    self.begin(wanted, fetched)?;
                }
            } else if self.waiting.is_empty()
                && self.current.is_none()
                && let Some(progress) = self.look().await?
            {
                return Ok(progress);
            }
        }
    }

    fn report(&self) -> Option<Report> {
        let values: Vec<_> = self.row_groups.figures().into_iter().chain(self.job.disturbance.figure()).collect();
        (!values.is_empty()).then(|| Report::Figures(Figures { title: "objects".to_owned(), values }))
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let mut parts = Parts::default();
        let pushed = [&self.last, &self.before_last].into_iter().flatten();
        let pushed = pushed.into_iter().find(|pushed| positions.contains_key(&pushed.object.partition));
        let (seen, place) = match (pushed, &self.restored) {
            (Some(pushed), _) => self.at(pushed, positions[&pushed.object.partition]),
            (None, Some(restored)) => restored.clone(),
            (None, None) => return Ok(parts),
        };
        // All that was listed is behind this snapshot.
        if let (None, true, Some(newest), Some(lookback)) = (
            &place,
            self.waiting.is_empty() && self.fetching.is_none() && seen == self.seen,
            self.newest,
            self.job.lookback,
        ) {
            self.newest = None;
            self.seen.forget(newest, lookback);
            self.seen.put(&mut parts)?;
        } else {
            seen.put(&mut parts)?;
        }
        parts.put(PLACE, &place)?;
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        if !state.has(PLACE) {
            return if positions.is_empty() {
                Ok(())
            } else {
                Err(Error::new("its state does not say which objects were read; another build may have written it"))
            };
        }
        let (seen, place) = (Seen::get(state)?, state.get::<Option<Place>>(PLACE)?);
        if let Some(Place { found, start, position }) = place.clone() {
            let (first, is_added) = (position, true);
            self.waiting.push_back(Wanted { start, first, is_added, ..Wanted::new(found) });
        }
        self.restored = Some((seen.clone(), place));
        self.seen = seen;
        Ok(())
    }

    fn locate(&mut self, partition: &Arc<str>, locator: &str) -> Result<()> {
        let found: Found = serde_json::from_str(locator).doing(|| format!("looking for `{partition}`"))?;
        let known: HashSet<&str> = self.waiting.iter().map(|wanted| wanted.found.name.as_str()).collect();
        if !known.contains(&**partition) {
            self.waiting.push_back(Wanted::new(found));
        }
        Ok(())
    }
}
