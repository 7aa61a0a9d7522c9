//! Files that are read once, one after the other.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{
    Collector, Error, Figures, Home, Input, Parts, Positions, Progress, Report, Result, ResultExt, State,
};
use millstream_formats::{BatchReader, Decoder, Names, Part, ReaderPosition, RowGroups, Rows};
use serde::{Deserialize, Serialize};

use super::opened::Opened;
use super::place::Place;
use super::sources::Source;
use crate::decode_queue::DecodeQueue;

/// The input.
pub(super) struct Files {
    source: Arc<str>,
    /// What reads all of them, but for what each is itself.
    decoder: Decoder,
    /// Whether no later run has more files.
    finite: bool,
    /// Whether it was said that there are no more files for this run.
    waits: bool,
    /// The files that are not open yet.
    left: VecDeque<Source>,
    /// The file that is being read.
    reader: Option<(Arc<OpenFile>, Box<dyn BatchReader>)>,
    row_groups: RowGroups,
    /// What was read, in its order.
    decode_queue: DecodeQueue<Step>,
    /// Where the rows are that were pushed last, and those of the file before.
    last: Option<Pushed>,
    before_last: Option<Pushed>,
    /// The place at which the first of `left` is gone on with, and which file that was.
    resume: Option<(Place, Opened)>,
    /// The names of the files that were opened, in their order.
    opened: Vec<String>,
    /// Where it went on, which is kept until something has come since.
    restored: Option<Kept>,
}

/// A file that was opened.
struct OpenFile {
    source: Source,
    /// The file itself, whatever has its name by now.
    file: File,
    opened: Opened,
    /// Rows before this position were read by a run before.
    first: u64,
}

/// What was read.
enum Step {
    /// Rows of a file, between two places.
    Rows(Arc<OpenFile>, ReaderPosition, ReaderPosition),
    /// All of a file.
    Ended,
    /// A file that can't be read.
    Failed,
}

/// Where the rows are that were pushed last.
struct Pushed {
    file: Arc<OpenFile>,
    before: ReaderPosition,
    behind: ReaderPosition,
    /// Whether they are the last of their file.
    has_ended: bool,
}

/// The state of the input: the files that were opened, and the place in the last of them.
const PLACE: &str = "place";

/// What is kept under that name.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    /// The names of the files that were opened, in their order: the last, and those of which the positions don't tell, since they
    /// have no rows.
    opened: Vec<String>,
    /// Where the last of them is gone on with, and which file that was. None if all of it was read.
    place: Option<(Place, Opened)>,
}

impl Kept {
    fn new(opened: impl Iterator<Item = String>, place: Option<(Place, Opened)>, positions: &Positions) -> Self {
        let mut opened: Vec<String> = opened.collect();
        let last = opened.pop();
        opened.retain(|name| !positions.contains_key(name.as_str()));
        opened.extend(last);
        Self { opened, place }
    }

    /// The names of all files that were opened, the last of them behind all others, and its place.
    fn opened(self, positions: &Positions) -> (Vec<String>, Option<(Place, Opened)>) {
        let mut opened = self.opened;
        let last = opened.pop();
        let others: BTreeSet<String> =
            opened.into_iter().chain(positions.keys().map(|name| name.to_string())).collect();
        let others = others.into_iter().filter(|name| Some(name) != last.as_ref());
        (others.chain(last.clone()).collect(), self.place)
    }
}

impl Files {
    /// Reads these files, and if it is `finite`, ends with the last of them.
    pub(super) fn new(source: Arc<str>, decoder: Decoder, finite: bool, left: VecDeque<Source>) -> Self {
        Self {
            source,
            decoder,
            finite,
            waits: false,
            left,
            reader: None,
            row_groups: RowGroups::default(),
            decode_queue: DecodeQueue::default(),
            last: None,
            before_last: None,
            resume: None,
            opened: Vec::new(),
            restored: None,
        }
    }

    /// Reads as much as the threads can decode.
    fn read_ahead(&mut self) {
        while self.decode_queue.has_room() {
            match self.read() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.left.clear();
                    self.decode_queue.push(Step::Failed, Err(error));
                }
            }
        }
    }

    /// Reads a part of a file, or finds that it has ended, or opens the next one. Returns false if there is none.
    fn read(&mut self) -> Result<bool> {
        if let Some((file, mut reader)) = self.reader.take() {
            let part =
                if self.decode_queue.is_parallel() { reader.split_off()? } else { Part::decoded(reader.as_mut())? };
            match part {
                None => self.decode_queue.push(Step::Ended, Ok(Rows::default())),
                Some(part) => {
                    self.decode_queue.decode(Step::Rows(file.clone(), part.before, part.after), part);
                    self.reader = Some((file, reader));
                }
            }
        } else if let Some(source) = self.left.pop_front() {
            self.reader = Some(self.open_file(source)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn come_to(&mut self, pushed: Pushed) {
        let last = self.last.replace(pushed);
        if self.last.as_ref().map(Pushed::name) != last.as_ref().map(Pushed::name) {
            self.before_last = last;
        }
    }

    fn open_file(&mut self, source: Source) -> Result<(Arc<OpenFile>, Box<dyn BatchReader>)> {
        let decoder = Decoder {
            format: source.format.clone(),
            compression: source.compression,
            names: if source.has_header { Names::Header } else { Names::Any },
            ..self.decoder.clone()
        };
        let opening = || format!("reading `{}`", source.file.path.display());
        let file = File::open(&source.file.path).doing(opening)?;
        let opened = Opened::of(&file).doing(opening)?;
        let resume = self.resume.take();
        let doing = || format!("resuming `{}`", source.file.name);
        if let Some((_, before)) = &resume {
            before.check(&file, source.may_grow()).doing(doing)?;
        }
        let mut reader = decoder.open_file(file.try_clone().doing(opening)?, &source.file.path)?;
        let mut first = 0;
        if let Some((place, _)) = resume {
            place.check(&file).doing(doing)?;
            reader.go_to(place.start).doing(doing)?;
            first = place.position;
        }
        self.row_groups.add(reader.row_groups().unwrap_or_default());
        self.opened.push(source.file.name.to_string());
        Ok((Arc::new(OpenFile { source, file, opened, first }), reader))
    }

    /// Leaves out the files that have been read, but for the last of them if it has a place.
    fn leave_out(&mut self, mut read: Vec<String>, place: Option<(Place, Opened)>) -> Result<()> {
        let last = place.as_ref().and_then(|_| read.pop());
        let known: HashSet<&str> = read.iter().map(String::as_str).collect();
        self.left.retain(|source| !known.contains(&*source.file.name));
        if let Some(name) = last {
            let index = self.left.iter().position(|source| *source.file.name == *name);
            let gone = || Error::new(format!("`{name}`, which was being read, is no longer there"));
            let source = self.left.remove(index.ok_or_else(gone)?).ok_or_else(gone)?;
            self.left.push_front(source);
        }
        (self.opened, self.resume) = (read, place);
        Ok(())
    }
}

impl Pushed {
    fn name(&self) -> &Arc<str> {
        &self.file.source.file.name
    }

    /// Where the file is gone on with, if the next row is the one at this position, within the rows that were pushed last or right
    /// behind them. `None` if that is its end.
    fn place(&self, position: u64) -> Result<Option<Place>> {
        if self.has_ended && self.behind.position == position {
            return Ok(None);
        }
        let start = if self.behind.position <= position { self.behind } else { self.before };
        let read = self.file.source.may_grow().then_some(self.behind.offset);
        Place::new(&self.file.file, read, start, position).doing(|| format!("reading `{}`", self.name())).map(Some)
    }
}

#[async_trait]
impl Input for Files {
    async fn open(&mut self, _: &Home) -> Result<()> {
        self.decode_queue = DecodeQueue::of_runtime();
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        loop {
            self.read_ahead();
            let Some((step, rows)) = self.decode_queue.next().await else { break };
            let mut rows = rows?;
            match step {
                Step::Rows(file, before, behind) => {
                    rows.drop_before(file.first);
                    rows.send(&self.source, &file.source.file.name, out);
                    self.come_to(Pushed { file, before, behind, has_ended: false });
                    return Ok(Progress::More);
                }
                Step::Ended => self.last.iter_mut().for_each(|last| last.has_ended = true),
                Step::Failed => {}
            }
        }
        match (self.finite, self.waits) {
            (true, _) => Ok(Progress::End),
            (false, false) => {
                self.waits = true;
                Ok(Progress::CaughtUp)
            }
            (false, true) => std::future::pending().await,
        }
    }

    fn report(&self) -> Option<Report> {
        let values = self.row_groups.figures();
        (!values.is_empty()).then(|| Report::Figures(Figures { title: "files".to_owned(), values }))
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let mut parts = Parts::default();
        let pushed = [&self.last, &self.before_last].into_iter().flatten();
        if let Some(last) = pushed.into_iter().find(|pushed| positions.contains_key(pushed.name())) {
            let name = last.name();
            let place = last.place(positions[name])?.map(|place| (place, last.file.opened.clone()));
            let index = self.opened.iter().position(|opened| **opened == **name).unwrap_or_default();
            parts.put(PLACE, &Kept::new(self.opened[..=index].iter().cloned(), place, positions))?;
        } else if let Some(restored) = &self.restored {
            parts.put(PLACE, restored)?;
        }
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        if !state.has(PLACE) {
            return if positions.is_empty() {
                Ok(())
            } else {
                Err(Error::new(
                    "its state does not say in which file it was, since the flow was to read its files in another way when that \
                     was kept (`follow`, `once`); change that back, or reset the input (`--reset`), which reads all its rows \
                     again, so that those which were read count twice",
                ))
            };
        }
        let kept = state.get::<Kept>(PLACE)?;
        self.restored = Some(kept.clone());
        let (mut before, place) = kept.opened(positions);
        let name = before.last().cloned().unwrap_or_default();
        if !self.finite {
            return self.leave_out(before, place);
        }
        // Nothing of a file that was read is needed, whatever has its name by now.
        let found = self.left.iter().position(|source| *source.file.name == *name);
        let index = match (found, &place) {
            (Some(index), Some(_)) => index,
            (Some(index), None) => index + 1,
            (None, None) => self.left.iter().take_while(|source| *source.file.name <= *name).count(),
            (None, Some(_)) => return Err(Error::new(format!("`{name}`, which was being read, is no longer there"))),
        };
        if place.is_some() {
            before.pop();
        }
        // Files are read in their order, so those before it have ended. They may be gone by now.
        let is_new = |source: &&Source| !before.iter().any(|name| **name == *source.file.name);
        if let Some(new) = self.left.iter().take(index).find(is_new) {
            return Err(Error::new(format!(
                "`{}` is new, and its place is before `{name}`, which was being read",
                new.file.name
            )));
        }
        self.left.drain(..index);
        (self.opened, self.resume) = (before, place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_position_is_kept_is_not_named_twice() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let positions: Positions = ["b", "c", "d"].map(|name| (Arc::from(name), 7)).into();
        let kept = Kept::new(names(&["c", "empty", "b", "d"]).into_iter(), None, &positions);
        assert_eq!(kept.opened, ["empty", "d"]);
        assert_eq!(kept.opened(&positions).0, ["b", "c", "empty", "d"], "the last one is behind the others");
        let kept = Kept::new(names(&["c"]).into_iter(), None, &Positions::new());
        assert_eq!(kept.opened(&Positions::new()).0, ["c"]);
    }
}
