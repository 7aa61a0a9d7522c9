//! What is in the log of requests: rows as they were predicted, and rows with their labels. A record is a head, and behind it a line of JSON for each row.

use millstream_core::{Error, Result, ResultExt as _};
use serde::{Deserialize, Serialize};

/// What the lines of a record are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The model.
    pub model: String,
    /// When they came, in microseconds since 1970.
    pub at: i64,
    /// Rows of which kind they are.
    pub kind: Kind,
}

/// The kinds of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Rows of a request, with what was predicted. The number of each is its id.
    Predicted {
        /// By which version.
        version: u64,
    },
    /// Such rows once more, with their labels.
    Labelled {
        /// For each, which one it is of.
        of: Vec<Labelled>,
    },
}

/// Which of the predicted rows a label is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labelled {
    /// Its number.
    pub number: u64,
    /// Which version has predicted it.
    pub version: u64,
    /// When, in microseconds since 1970.
    pub predicted_at: i64,
    /// What the label is known by, so that another one for the same row is noticed.
    pub label: u64,
}

/// A record, as the log has it.
///
/// # Errors
/// If the head is too long.
pub fn pack(head: &Head, lines: &[u8]) -> Result<Vec<u8>> {
    let head = postcard::to_allocvec(head).doing(|| "writing the log of requests")?;
    let length = u32::try_from(head.len()).doing(|| "writing the log of requests")?;
    Ok([&length.to_le_bytes()[..], &head, lines].concat())
}

/// The head and the lines of a record.
///
/// # Errors
/// If it is none of this log.
pub fn unpack(payload: &[u8]) -> Result<(Head, &[u8])> {
    let wrong = || Error::new("it is no record of a log of requests");
    let (length, rest) = payload.split_first_chunk().ok_or_else(wrong)?;
    let (head, lines) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(wrong)?;
    Ok((postcard::from_bytes(head).map_err(|_| wrong())?, lines))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::Hostile;

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_nothing_else() {
        let of = vec![Labelled { number: 7, version: 2, predicted_at: -1, label: u64::MAX }];
        let head = Head { model: "fraud".to_owned(), at: 1, kind: Kind::Labelled { of } };
        let packed = pack(&head, b"{}\n").unwrap();
        assert_eq!(unpack(&packed).unwrap(), (head, &b"{}\n"[..]));
        for length in 0..packed.len() - 3 {
            assert!(unpack(&packed[..length]).is_err(), "{length}");
        }
        Hostile::new([packed]).attack(|bytes| drop(unpack(bytes)));
    }
}
