//! Where in a binary log something is, and how far a flow has come.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::gtids::Gtids;

/// A place in a binary log: a file, and how many bytes of it lie before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    pub position: u64,
}

impl Ord for Place {
    /// Files are numbered, and a number may have more digits than the one before.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |place: &Self| (place.file.len(), place.file.clone(), place.position);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.position)
    }
}

/// How far the transactions of a log have been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The server whose log it is; empty as long as only the transactions are known that are not to be read.
    pub server: String,
    /// The place in it.
    pub place: Place,
    /// The transactions before, as other servers know them that may take its place.
    pub gtids: Gtids,
}

/// How far a flow has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The tables, as the flow named them when this was kept.
    pub tables: Vec<String>,
    /// Behind the last transaction all of whose rows were taken.
    pub reached: Reached,
    /// How many rows of the transaction behind it were taken.
    pub rows: u64,
    /// What of the tables is to be read.
    pub snapshot: Option<SnapshotProgress>,
}

/// How far the tables have been read that there were at the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// How many of them to their end.
    pub tables: usize,
    /// The key of the last row that was read of the next one, as SQL writes it; empty before the first one.
    pub after: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_the_log() {
        let place = |file: &str, position| Place { file: file.to_owned(), position };
        assert!(place("binlog.000009", 500) < place("binlog.000010", 4));
        assert!(place("binlog.999999", 500) < place("binlog.1000000", 4));
        assert!(place("binlog.000009", 500) > place("binlog.000009", 4));
    }
}
