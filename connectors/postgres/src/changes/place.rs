//! Where in the log something is, and how far a flow has come.

use std::fmt;
use std::str::FromStr;

use millstream_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A place in the log of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place(pub u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
        let place = text.split_once('/').and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)));
        place.ok_or_else(|| Error::new(format!("`{text}` is no place in the log of a server")))
    }
}

/// How far a flow has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The tables, as the flow named them when this was kept.
    pub tables: Vec<String>,
    /// The place behind the last transaction all of whose rows were taken.
    pub place: Place,
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
    /// The key of the last row that was read of the next one, as the server writes it; empty before the first one.
    pub after: Vec<String>,
    /// The numbers of the transactions that have come of the log since rows were read. A server may send one a moment before others see it.
    pub begun: Vec<u32>,
}

/// What a query of a server sees: which transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Those from here on are not seen.
    end: u32,
    /// Those before it that had not ended.
    open: Vec<u32>,
}

impl FromStr for Sight {
    type Err = Error;

    /// As `pg_current_snapshot()` says it: `10:20:10,14`. Of its numbers, which go on without an end, transactions in the log have the lower half.
    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse::<u64>().ok().map(|number| number as u32);
        let mut parts = text.splitn(3, ':').skip(1);
        let end = parts.next().and_then(number);
        let open = |text: &str| text.split(',').filter(|one| !one.is_empty()).map(number).collect::<Option<Vec<_>>>();
        let found = end.zip(parts.next().and_then(open)).map(|(end, open)| Self { end, open });
        found.ok_or_else(|| Error::new(format!("`{text}` does not say which transactions are seen")))
    }
}

impl Sight {
    /// Whether a transaction that has ended is seen.
    pub fn sees(&self, transaction: u32) -> bool {
        // They are numbered in a circle.
        (transaction.wrapping_sub(self.end) as i32) < 0 && !self.open.contains(&transaction)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_servers_do() {
        let place: Place = "16/B374D848".parse().unwrap();
        assert_eq!((place, place.to_string().as_str()), (Place(0x16_b374_d848), "16/B374D848"));
        assert!("16".parse::<Place>().is_err() && "x/y".parse::<Place>().is_err());
    }

    #[test]
    fn what_is_seen() {
        let sight: Sight = "10:20:10,14".parse().unwrap();
        assert_eq!(
            [9, 10, 11, 14, 19, 20, 21].map(|one| sight.sees(one)),
            [true, false, true, false, true, false, false]
        );
        let sight: Sight = "4294967290:4294967300:".parse().unwrap();
        assert_eq!([u32::MAX, 3, 4].map(|one| sight.sees(one)), [true, true, false]);
        assert!("10:20".parse::<Sight>().is_err() && "".parse::<Sight>().is_err());
    }
}
