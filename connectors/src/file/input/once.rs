//! Files that are read once, one after the other.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{Collector, Error, Input, Parts, Positions, Progress, Result, ResultExt, State};
use millstream_formats::{BatchReader, Decoder, Mark, Names, Rows};
use serde::{Deserialize, Serialize};

use super::opened::Opened;
use super::place::Place;
use super::sources::Source;

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
    open: Option<OpenFile>,
    /// The file that was read last, where it has ended.
    last: Option<OpenFile>,
    /// The place at which the first of `left` is gone on with, and which file that was.
    resume: Option<(Place, Opened)>,
    /// The names of the files that were opened, in their order.
    opened: Vec<String>,
}

/// A file that is being read.
struct OpenFile {
    source: Source,
    /// The file itself, whatever has its name by now.
    file: File,
    opened: Opened,
    reader: Box<dyn BatchReader>,
    /// The place before the rows that were pushed last.
    before: Mark,
    /// Rows before this position were read by a run before.
    first: u64,
}

/// The state of the input: the files that were opened, and the place in the last of them.
const PLACE: &str = "place";

/// What is kept under that name.
#[derive(Serialize, Deserialize)]
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
        let opened = Vec::new();
        Self { source, decoder, finite, waits: false, left, open: None, last: None, resume: None, opened }
    }

    fn open_file(&mut self, source: Source) -> Result<OpenFile> {
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
            reader.go_to(place.mark).doing(doing)?;
            first = place.position;
        }
        self.opened.push(source.file.name.to_string());
        Ok(OpenFile { before: reader.mark(), source, file, opened, reader, first })
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

    /// How far a file has been read.
    fn place(&self, file: &OpenFile, position: u64) -> Result<Place> {
        let now = file.reader.mark();
        let mark = if now.position <= position { now } else { file.before };
        Place::new(&file.file, file.source.may_grow().then_some(now.offset), mark, position)
    }
}

#[async_trait]
impl Input for Files {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        loop {
            if let Some(open) = &mut self.open {
                let before = open.reader.mark();
                let mut rows = Rows::default();
                if open.reader.next(&mut rows)? {
                    open.before = before;
                    rows.drop_before(open.first);
                    rows.send(&self.source, &open.source.file.name, out);
                    return Ok(Progress::More);
                }
                self.last = self.open.take();
            }
            let Some(source) = self.left.pop_front() else {
                match (self.finite, self.waits) {
                    (true, _) => return Ok(Progress::End),
                    (false, false) => {
                        self.waits = true;
                        return Ok(Progress::CaughtUp);
                    }
                    (false, true) => std::future::pending().await,
                }
            };
            self.open = Some(self.open_file(source)?);
        }
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let mut parts = Parts::default();
        // Rows of the last call are all of one file: the one that is open, or that ended with it.
        let at = |file: &&OpenFile| positions.contains_key(&file.source.file.name);
        let open = self.open.as_ref().filter(at).map(|file| (file, false));
        if let Some((file, has_ended)) = open.or(self.last.as_ref().filter(at).map(|file| (file, true))) {
            let name = &file.source.file.name;
            let is_read = has_ended && file.reader.mark().position == positions[name];
            let place = || self.place(file, positions[name]).doing(|| format!("reading `{name}`"));
            let place = (!is_read).then(place).transpose()?.map(|place| (place, file.opened.clone()));
            let last = self.opened.iter().position(|opened| **opened == **name).unwrap_or_default();
            parts.put(PLACE, &Kept::new(self.opened[..=last].iter().cloned(), place, positions))?;
        } else if !positions.is_empty() {
            // Nothing has come since it went on.
            let next = self.resume.as_ref().and(self.left.front()).map(|source| source.file.name.to_string());
            let opened = self.opened.iter().cloned().chain(next);
            parts.put(PLACE, &Kept::new(opened, self.resume.clone(), positions))?;
        }
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        if !state.has(PLACE) {
            return match positions.is_empty() {
                true => Ok(()),
                false => Err(Error::new(
                    "its state does not say in which file it was, since the flow was to read its files in another way when that \
                     was kept (`follow`, `once`); change that back, or reset the input (`--reset`), which reads all its rows \
                     again, so that those which were read count twice",
                )),
            };
        }
        let (mut before, place) = state.get::<Kept>(PLACE)?.opened(positions);
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
