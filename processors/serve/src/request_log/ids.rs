//! The ids of predictions: the name of the log that has the row, and its number there.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::Arc;

use millstream_core::{Error, Result};
use millstream_store::{LocalStore, Store as _};

/// The file in the folder of a log that has its name.
pub(super) const FILE: &str = "name";

/// Gives the rows of a log their ids. The name is chosen at random when the log begins, so that no id of another log is taken for one of this.
#[derive(Clone, Debug)]
pub struct Names(Arc<str>);

/// The ids of rows that follow each other.
#[derive(Clone, Debug)]
pub struct Ids {
    names: Names,
    first: u64,
    rows: usize,
}

impl Names {
    /// Gives the log of a folder its name, if it has none.
    pub(super) fn begin(folder: &Path) -> Result<()> {
        let name = format!("{:016x}", RandomState::new().hash_one(FILE));
        LocalStore::private(folder).put_new(FILE, name.as_bytes()).map(|_| ())
    }

    /// Those of the log in a folder, which has a name.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        Self::read(folder)?.ok_or_else(|| Error::new(format!("the log `{}` has lost its name", folder.display())))
    }

    /// Those of the log in a folder, if it has begun.
    ///
    /// # Errors
    /// If its name can't be read, or is none.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let Some(name) = LocalStore::private(folder).get(FILE)? else { return Ok(None) };
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match String::from_utf8(name) {
            Ok(name) if name.len() == 16 && name.as_bytes().iter().all(is_digit) => Ok(Some(Self(name.into()))),
            _ => {
                let folder = folder.display();
                Err(Error::new(format!("the file `{FILE}` of the log `{folder}` should hold 16 hexadecimal digits")))
            }
        }
    }

    /// The name of the log.
    pub fn log(&self) -> &str {
        &self.0
    }

    /// The id of the row of a number.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.0)
    }

    /// The number of the row of an id, if it can be one of this log.
    pub(super) fn number(&self, id: &str) -> Option<u64> {
        let (log, number) = id.rsplit_once('-')?;
        let number = number.parse().ok().filter(|parsed: &u64| parsed.to_string() == number)?;
        (log == &*self.0).then_some(number)
    }

    pub(super) fn ids(&self, first: u64, rows: usize) -> Ids {
        Ids { names: self.clone(), first, rows }
    }
}

impl Ids {
    /// The id of the first row. Those of the rows behind it count on.
    pub fn first(&self) -> String {
        self.names.id(self.first)
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        (self.first..).take(self.rows).map(|number| self.names.id(number)).collect()
    }
}
