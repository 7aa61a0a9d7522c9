//! Why pushed rows are not taken.

use millstream_core::Held;

/// Why no row was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The bytes are no UTF-8, as the format has it.
    NoText,
    /// The bytes can't be read, or one of the rows, counted from 0.
    Unreadable {
        /// The first such row.
        row: Option<u64>,
        /// What was wrong, in words.
        why: String,
    },
    /// Rows are not read in this format, and why.
    Format(String),
    /// Other bytes have come with this key.
    KeyOfOthers,
    /// What has come with this key is just being taken.
    BeingTaken,
    /// The flow reads nothing for now. It may be sent again.
    Held(Held),
    /// There is no room for it, or the disk fails. It may be sent again.
    NoRoom(String),
    /// The disk has failed in such a way that the rows may be there after a crash: only with the same key can they be sent again
    /// without counting twice.
    Unknown(String),
}
