//! The columns of JSON, from the keys of a sample of its documents.

use indexmap::IndexMap;
use millstream_core::{Columns, Error, Result};

use super::documents::Documents;
use crate::Rows;
use crate::infer::{Inferred, columns};
use crate::text::Moments;
use crate::window::Window;

/// How many columns are found at most. Where there are more keys they are data, such as ids.
const MAX_KEYS: usize = 10_000;

/// The columns of a source that has an object on each line. Lines that are none are left for the reader to reject.
pub(super) fn of_lines(mut window: Window, rows: usize, moments: &Moments) -> Result<Columns> {
    let mut keys = Keys::new(moments);
    while keys.rows < rows {
        if window.pass_long_line(0, &mut Rows::default())?.is_some() {
            keys.rows += 1;
            continue;
        }
        let Some(end) = memchr::memchr(b'\n', window.lines()).map(|end| end + 1).or_else(|| rest(&window)) else {
            if window.ended() {
                break;
            }
            window.fill()?;
            continue;
        };
        let line = window.lines()[..end].trim_ascii();
        if !line.is_empty() {
            keys.learn(line);
        }
        window.consume(end);
    }
    keys.found()
}

/// The length of a last line without a line break.
fn rest(window: &Window) -> Option<usize> {
    let length = window.lines().len();
    (window.ended() && length > 0).then_some(length)
}

/// The columns of a source whose objects take as many lines as they like.
pub(super) fn of_documents(window: Window, rows: usize, moments: &Moments) -> Result<Columns> {
    let mut documents = Documents::new(window);
    let mut keys = Keys::new(moments);
    while keys.rows < rows {
        match documents.find(1)?.first() {
            Some(object) => {
                keys.learn(documents.text(object));
                documents.consume(object.end);
            }
            None if documents.pass_long(0, &mut Rows::default())?.is_some() => keys.rows += 1,
            None => break,
        }
    }
    keys.found()
}

/// The keys of objects.
struct Keys<'a> {
    all: Inferred,
    rows: usize,
    moments: &'a Moments,
}

impl<'a> Keys<'a> {
    fn new(moments: &'a Moments) -> Self {
        Self { all: Inferred::Struct(IndexMap::new()), rows: 0, moments }
    }

    /// Lets a document count for the kinds of its keys, unless the reader would reject it.
    fn learn(&mut self, text: &[u8]) {
        self.rows += 1;
        let Ok(text) = std::str::from_utf8(text) else { return };
        if let Ok(row @ Inferred::Struct(_)) = Inferred::of_json(text, self.moments) {
            self.all = std::mem::take(&mut self.all).and(row);
        }
    }

    fn found(self) -> Result<Columns> {
        match self.all {
            Inferred::Struct(kinds) if kinds.len() > MAX_KEYS => Err(Error::new(format!(
                "its first {} rows have {} different keys, more than {MAX_KEYS} columns; declare those that are wanted",
                self.rows,
                kinds.len()
            ))),
            Inferred::Struct(kinds) => Ok(columns(kinds)),
            _ => Ok(columns([])),
        }
    }
}
