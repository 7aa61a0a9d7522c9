//! What is in the folder of a log: looked at without changing anything, before it is written on and by those who only read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use millstream_core::{Error, Result, ResultExt};

use super::guard::{self, Claim};
use super::record::{START, Salt, whole};
use super::segments::{number_of, path};
use crate::Files;
use crate::files::is_missing;

/// The segments of a log.
pub struct Found {
    /// By the number of their first record, how many bytes of records they have. There is the last one at least.
    pub by_number: BTreeMap<u64, u64>,
    pub last: Last,
}

impl Found {
    /// Looks at the log in a folder, which another may write on meanwhile.
    ///
    /// # Errors
    /// If the last segment is damaged, or records are missing that were durable once.
    pub fn look(files: &dyn Files, folder: &Path) -> Result<Self> {
        let doing = || format!("opening the log `{}`", folder.display());
        // Before the segments: what is claimed later may not be in what is seen of them.
        let claim = guard::read(files, folder).doing(doing)?;
        let mut by_number = list(files, folder).doing(doing)?;
        if by_number.is_empty() && claim.as_ref().is_some_and(|claim| claim.end > 0) {
            // A folder is not listed at one moment: the last segment may have been followed by another, and trimmed.
            by_number = list(files, folder).doing(doing)?;
        }
        let last = loop {
            let Some((first, _)) = by_number.last_key_value() else { break Last::new() };
            let path = path(folder, *first);
            match files.read(&path) {
                // Meanwhile it was followed by another, and trimmed.
                Err(error) if is_missing(&error) => by_number = list(files, folder).doing(doing)?,
                read => break Last::of(read.doing(|| format!("reading `{}`", path.display()))?, &path, *first)?,
            }
        };
        if let Some(words) = claim.and_then(|claim| missing(claim, &by_number, &last, folder)) {
            return Err(Error::new(format!("{words} (so says `{}`)", guard::path(folder).display())));
        }
        by_number.insert(last.first, (last.bytes.len() - START) as u64);
        Ok(Self { by_number, last })
    }
}

/// The segments in a folder, by the numbers of their first records, and their bytes.
pub fn list(files: &dyn Files, folder: &Path) -> io::Result<BTreeMap<u64, u64>> {
    'listed: loop {
        let mut by_number = BTreeMap::new();
        for first in files.list(folder)?.into_iter().filter_map(|entry| number_of(&entry.name)) {
            match files.size(&path(folder, first)) {
                // It was trimmed meanwhile, and others may have come that were not listed yet.
                Err(error) if is_missing(&error) => continue 'listed,
                size => _ = by_number.insert(first, size?.saturating_sub(START as u64)),
            }
        }
        return Ok(by_number);
    }
}

/// What is whole of the last segment.
pub struct Last {
    pub first: u64,
    pub salt: Salt,
    pub bytes: Vec<u8>,
    pub end: u64,
    /// Whether something follows that is not whole.
    pub is_torn: bool,
}

impl Last {
    /// Of a log without segments.
    fn new() -> Self {
        let (salt, bytes) = Salt::start_segment();
        Self { first: 0, salt, bytes, end: 0, is_torn: false }
    }

    fn of(mut bytes: Vec<u8>, path: &Path, first: u64) -> Result<Self> {
        let Some(salt) = Salt::of(&bytes) else { return Err(damaged(path, 0)) };
        let whole = whole(&bytes, first, salt);
        if whole.damaged {
            return Err(damaged(path, whole.bytes as u64));
        }
        let is_torn = whole.bytes < bytes.len();
        bytes.truncate(whole.bytes);
        Ok(Self { first, salt, bytes, end: whole.end, is_torn })
    }
}

/// What was durable is no longer as it was written.
pub fn damaged(path: &Path, place: u64) -> Error {
    Error::new(format!("`{}` is damaged at byte {place}: rows that were acknowledged are lost", path.display()))
}

/// Says which of the records that are claimed to be durable are not in the segments, if it is so.
fn missing(claim: Claim, by_number: &BTreeMap<u64, u64>, last: &Last, folder: &Path) -> Option<String> {
    let Claim { end, first } = claim;
    let name = |first| path(folder, first).display().to_string();
    if by_number.is_empty() && end > 0 {
        let folder = folder.display();
        return Some(format!(
            "all segments of the log `{folder}` are missing: rows up to {} were acknowledged",
            end - 1
        ));
    }
    // Every segment behind it begins with `end` at least.
    if last.first < first && first < end {
        let rows = acknowledged(first, end);
        return Some(format!("`{}` is missing: {rows}, and are no longer in the log", name(first)));
    }
    let (name, place, rows) =
        (name(last.first), last.bytes.len(), (last.end < end).then(|| acknowledged(last.end, end))?);
    Some(format!("`{name}` is damaged at byte {place}: {rows}, and are no longer in it"))
}

/// Says that the rows before `end` were acknowledged.
pub fn acknowledged(start: u64, end: u64) -> String {
    format!("rows {start} to {} were acknowledged", end - 1)
}
