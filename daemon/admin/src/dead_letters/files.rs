//! Files of refused rows, as the outputs of flows write them: a JSON object a line.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use millstream_core::{Result, ResultExt as _};
use millstream_host::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::DeadLetter;
use super::marks::{self, Fate};

/// How many bytes of a line are read.
const LONGEST: u64 = 1 << 20;

/// How many digits of a hash stand in an id.
const DIGITS: usize = 12;

/// A file of refused rows.
#[derive(Clone, Debug)]
pub struct LetterFile {
    /// Where it is.
    pub path: PathBuf,
    /// When it was written.
    pub written: SystemTime,
}

/// A line of it.
#[derive(Debug, Deserialize)]
struct Line {
    node: String,
    error: String,
    source: Option<String>,
    partition: Option<String>,
    position: Option<u64>,
    line: Option<u64>,
    row: Option<String>,
}

/// Adds the files below a folder that are whole.
pub fn find(folder: &Path, files: &mut Vec<LetterFile>) -> Result<()> {
    let reading = || format!("reading the folder `{}` of refused rows", folder.display());
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).doing(reading)? {
        let entry = entry.doing(reading)?;
        let (path, is_hidden) = (entry.path(), entry.file_name().to_string_lossy().starts_with('.'));
        match entry.metadata() {
            // It has gone since.
            Err(_) => {}
            Ok(_) if is_hidden => {}
            Ok(metadata) if metadata.is_dir() => find(&path, files)?,
            Ok(metadata) => files.push(LetterFile { path, written: metadata.modified().doing(reading)? }),
        }
    }
    Ok(())
}

impl LetterFile {
    /// Whether a row of that id would be in this file.
    pub fn may_have(&self, id: &str) -> bool {
        id.starts_with(&self.name())
    }

    /// The rows that are not dropped. A line that is none of ours is left out.
    pub fn letters(&self) -> Result<Vec<DeadLetter>> {
        let mut marks = marks::read(&self.path)?;
        let mut letters = self.all()?;
        letters.retain_mut(|letter| match marks.remove(&letter.id) {
            Some(Fate::Dropped { .. }) => false,
            Some(Fate::Replayed(replayed)) => {
                letter.replayed = Some(replayed);
                true
            }
            None => true,
        });
        Ok(letters)
    }

    /// Removes the file, if all its rows are dropped.
    pub fn remove_if_dropped(&self) -> Result<()> {
        if !self.letters()?.is_empty() {
            return Ok(());
        }
        for path in [&self.path, &marks::beside(&self.path)] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).doing(|| format!("removing `{}`", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// With what the ids of its rows begin.
    fn name(&self) -> String {
        let path = self.path.to_string_lossy();
        format!("{}-", &blake3::hash(path.as_bytes()).to_hex()[..DIGITS])
    }

    fn all(&self) -> Result<Vec<DeadLetter>> {
        let reading = || format!("reading `{}`", self.path.display());
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.doing(reading)?,
        };
        let (name, mut reader) = (self.name(), BufReader::new(file));
        let (mut number, mut letters, mut text) = (0, Vec::new(), Vec::new());
        loop {
            text.clear();
            if reader.by_ref().take(LONGEST).read_until(b'\n', &mut text).doing(reading)? == 0 {
                return Ok(letters);
            }
            number += 1;
            if let Ok(line) = serde_json::from_slice::<Line>(&text) {
                // With what is in the line, so that nobody means another row by it.
                let content = blake3::hash(&text).to_hex();
                letters.push(self.letter(line, format!("{name}{number}-{}", &content[..DIGITS])));
            }
        }
    }

    fn letter(&self, line: Line, id: String) -> DeadLetter {
        let Line { node, error, source, partition, position, line, row } = line;
        let text = row.unwrap_or_default();
        let row = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        let (at, file) = (Timestamp(self.written), self.path.clone());
        DeadLetter { id, at, node, error, source, partition, position, line, row, file, replayed: None, text }
    }
}
