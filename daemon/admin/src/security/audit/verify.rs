//! Whether nobody has changed, added or removed a line of the audit log.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use chrono::{DateTime, Utc};
use millstream_core::{Error, Result, ResultExt as _};
use serde::Serialize;

use super::entry::{LONGEST_LINE, Link, link_to};
use super::files::LogFile;

/// What an audit log is, all of whose lines follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many entries it has.
    pub entries: u64,
    /// The first one. It has another number than 1 where older files were removed.
    pub first: Option<u64>,
    /// The last one.
    pub last: Option<u64>,
    /// When that was written.
    pub until: Option<DateTime<Utc>>,
    /// The hash of the last line. Whoever keeps it elsewhere knows later that nothing before was changed, not even all of it.
    pub head: String,
    /// Whether a line is behind it that is not whole: one that a crash has cut off, which was never acknowledged.
    pub torn: bool,
}

/// Checks that every line of a log follows the one before: a folder of files, or one of these. With `head`, one of the lines has to have
/// that hash.
///
/// # Errors
/// If a file can't be read, or for the first line that does not follow.
pub fn verify(path: &Path, head: Option<&str>) -> Result<Verified> {
    let files = if path.is_dir() {
        LogFile::all(path)?.into_iter().map(|file| file.path).collect()
    } else {
        vec![path.to_owned()]
    };
    if files.is_empty() {
        return Err(Error::new(format!("there is no audit log in `{}`", path.display())));
    }
    let mut chain = Chain { wanted: head, ..Chain::default() };
    for file in &files {
        if chain.verified.torn {
            return Err(Error::new(format!("`{}`: the file before ends within a line", file.display())));
        }
        chain.follow(file)?;
    }
    match head {
        Some(head) if !chain.found => {
            Err(Error::new(format!("no line has the hash `{head}`: lines were changed or removed")))
        }
        _ => Ok(chain.verified),
    }
}

/// How far a chain has been followed.
#[derive(Default)]
struct Chain<'a> {
    verified: Verified,
    wanted: Option<&'a str>,
    found: bool,
}

impl Default for Verified {
    fn default() -> Self {
        Self { entries: 0, first: None, last: None, until: None, head: ZEROS.to_owned(), torn: false }
    }
}

/// What the very first line says of the one before.
pub const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Chain<'_> {
    fn follow(&mut self, path: &Path) -> Result<()> {
        let reading = || format!("reading `{}`", path.display());
        let mut file = BufReader::new(File::open(path).doing(reading)?);
        for number in 1_u64.. {
            let line = next_line(&mut file).doing(reading)?;
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    self.add(line).map_err(|why| Error::new(format!("{}:{number}: {why}", path.display())))?
                }
                None if line.is_empty() => break,
                None if line.len() > LONGEST_LINE => {
                    return Err(Error::new(format!("{}:{number}: the line is too long", path.display())));
                }
                None => {
                    self.verified.torn = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let link: Link = serde_json::from_slice(line).map_err(|error| format!("the line is no entry: {error}"))?;
        let verified = &mut self.verified;
        match verified.last {
            Some(last) if last.checked_add(1) != Some(link.seq) => {
                return Err(format!("entry {} comes behind entry {last}: lines were removed or added", link.seq));
            }
            Some(last) if link.prev != verified.head => {
                return Err(format!("entry {} does not follow entry {last}, which was changed", link.seq));
            }
            None if link.seq == 1 && link.prev != ZEROS => {
                return Err("entry 1 is not the first: what it follows was removed".to_owned());
            }
            _ => {}
        }
        let (first, entries) = (verified.first.or(Some(link.seq)), verified.entries + 1);
        let head = link_to(line).to_hex().as_str().to_owned();
        self.found |= self.wanted == Some(&*head);
        *verified = Verified { entries, first, last: Some(link.seq), until: Some(link.at), head, torn: false };
        Ok(())
    }
}

/// A line with its break, or what there is of one; no more than a line may have, so that a file without breaks does not fill the memory.
fn next_line(file: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    file.by_ref().take(LONGEST_LINE as u64 + 2).read_until(b'\n', &mut line)?;
    Ok(line)
}
