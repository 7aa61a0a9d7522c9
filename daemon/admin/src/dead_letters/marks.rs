//! What has become of the rows of a file: lines of JSON in a hidden file beside it, each durable before anybody is told of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use millstream_core::{Result, ResultExt as _};
use millstream_host::Timestamp;
use serde::{Deserialize, Serialize};

use super::Replayed;

/// What the names of these files end with.
const ENDING: &str = "marks";

/// What has become of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was sent into its flow again.
    Replayed(Replayed),
    /// It is not told of any more.
    Dropped {
        /// When that was asked for.
        at: Timestamp,
        /// Who has.
        by: String,
    },
}

/// A row, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The row.
    pub id: String,
    /// What has become of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// The file with the marks of the rows of a file.
pub fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{ENDING}"))
}

/// The marks of the rows of a file; of a row, the last one. What a crash has torn off is none.
pub fn read(file: &Path) -> Result<BTreeMap<String, Fate>> {
    let path = beside(file);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text.doing(|| format!("reading `{}`", path.display()))?,
    };
    let marks = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(marks.map(|Mark { id, fate }| (id, fate)).collect())
}

/// Adds marks of rows of a file. They are durable when this returns.
pub fn add(file: &Path, marks: &[Mark]) -> Result<()> {
    let path = beside(file);
    let writing = || format!("writing `{}`", path.display());
    let mut options = OpenOptions::new();
    let mut opened = options.read(true).append(true).create(true).mode(0o600).open(&path).doing(writing)?;
    let mut text = if is_torn(&mut opened).doing(writing)? { "\n".to_owned() } else { String::new() };
    for mark in marks {
        text.push_str(&serde_json::to_string(mark).doing(writing)?);
        text.push('\n');
    }
    opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all()).doing(writing)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).doing(writing)
}

/// Whether the last line has no end, since a crash has torn it off.
fn is_torn(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
