//! Rows that nodes of a flow have refused, where the flow keeps them in a folder; and what has become of them since.
//!
//! The files belong to the output that writes them, and are not changed. What has become of a row is said by a *mark* in a hidden file
//! beside its own: that it was sent again, or is dropped. A file of which all rows are dropped is removed with its marks.

mod files;
mod marks;

use std::collections::BTreeSet;
use std::path::PathBuf;

use millstream_core::Result;
use millstream_host::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::files::LetterFile;
use self::marks::{Fate, Mark};

/// A row that a node has refused.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DeadLetter {
    /// What it is known by.
    pub id: String,
    /// When the file that it is in was written.
    pub at: Timestamp,
    /// The node.
    pub node: String,
    /// Why it was refused.
    pub error: String,
    /// The input that it came from.
    pub source: Option<String>,
    /// The part of the input.
    pub partition: Option<String>,
    /// Its position there.
    pub position: Option<u64>,
    /// Its line there, if it is of a text.
    pub line: Option<u64>,
    /// The row: an object, or a text if it could not be read.
    pub row: Value,
    /// The file that it is in.
    pub file: PathBuf,
    /// That it was sent into the flow again, if it was.
    pub replayed: Option<Replayed>,
    /// The row as the file has it.
    #[serde(skip)]
    pub text: String,
}

/// That a row was sent into its flow again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// When.
    pub at: Timestamp,
    /// Who has asked for it.
    pub by: String,
    /// The input that has taken it.
    pub to: String,
    /// Whether it was mended.
    pub edited: bool,
}

/// Which rows are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these. None for all.
    pub ids: Option<BTreeSet<String>>,
    /// Only those of this node.
    pub node: Option<String>,
    /// Only those that were not sent again.
    pub waiting: bool,
}

/// The folders in which a flow keeps rows that its nodes have refused.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    folders: BTreeSet<PathBuf>,
}

/// Rows, and whether there are more.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rows, those of the newest file first.
    pub items: Vec<DeadLetter>,
    /// Whether there are more behind them.
    pub more: bool,
}

impl Filter {
    fn has(&self, letter: &DeadLetter) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && self.node.as_ref().is_none_or(|node| *node == letter.node)
            && !(self.waiting && letter.replayed.is_some())
    }

    /// Whether rows of a file may be meant.
    fn may_have(&self, file: &LetterFile) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.iter().any(|id| file.may_have(id)))
    }
}

impl DeadLetters {
    /// Those in these folders.
    pub fn new(folders: BTreeSet<PathBuf>) -> Self {
        Self { folders }
    }

    /// So many rows at most, behind the one with the id `behind` if one is named. It waits for a disk.
    ///
    /// # Errors
    /// If a folder or a file can't be read.
    pub fn find(&self, filter: &Filter, behind: Option<&str>, limit: usize) -> Result<Found> {
        let (mut items, mut is_behind) = (Vec::new(), behind.is_none());
        for file in self.files()?.iter().filter(|file| filter.may_have(file)) {
            for letter in file.letters()? {
                if !is_behind {
                    is_behind = behind == Some(letter.id.as_str());
                } else if filter.has(&letter) {
                    if items.len() == limit {
                        return Ok(Found { items, more: true });
                    }
                    items.push(letter);
                }
            }
        }
        Ok(Found { items, more: false })
    }

    /// Marks rows as sent again. It waits for a disk.
    ///
    /// # Errors
    /// If that can't be written down.
    pub fn replayed(&self, letters: &[DeadLetter], replayed: &Replayed) -> Result<()> {
        self.mark(letters, &Fate::Replayed(replayed.clone()))
    }

    /// Drops rows: they are not told of any more. How many they were. It waits for a disk.
    ///
    /// # Errors
    /// If that can't be written down.
    pub fn drop(&self, filter: &Filter, by: &str) -> Result<usize> {
        let letters = self.find(filter, None, usize::MAX)?.items;
        self.mark(&letters, &Fate::Dropped { at: Timestamp::now(), by: by.to_owned() })?;
        let paths: BTreeSet<&PathBuf> = letters.iter().map(|letter| &letter.file).collect();
        for file in self.files()?.iter().filter(|file| paths.contains(&file.path)) {
            file.remove_if_dropped()?;
        }
        Ok(letters.len())
    }

    fn mark(&self, letters: &[DeadLetter], fate: &Fate) -> Result<()> {
        for file in self.files()? {
            let of_file = letters.iter().filter(|letter| letter.file == file.path);
            let marks: Vec<Mark> = of_file.map(|letter| Mark { id: letter.id.clone(), fate: fate.clone() }).collect();
            if !marks.is_empty() {
                marks::add(&file.path, &marks)?;
            }
        }
        Ok(())
    }

    /// The files, the newest first; of one moment, by name, so that pages fit each other.
    fn files(&self) -> Result<Vec<LetterFile>> {
        let mut found = Vec::new();
        for folder in &self.folders {
            files::find(folder, &mut found)?;
        }
        found.sort_by(|one, other| (other.written, &other.path).cmp(&(one.written, &one.path)));
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
