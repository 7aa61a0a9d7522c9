//! The files of the audit log: each has the number of its first entry as its name, and entries as lines.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use memchr::memrchr;
use millstream_core::{Result, ResultExt as _};

use super::entry::LONGEST_LINE;

/// How many bytes are read at once.
const CHUNK: u64 = 64 << 10;

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFile {
    /// The number of its first entry.
    pub first: u64,
    pub path: PathBuf,
}

impl LogFile {
    /// The one in a folder that begins with an entry.
    pub fn new(folder: &Path, first: u64) -> Self {
        Self { first, path: folder.join(format!("{first:016}.ndjson")) }
    }

    /// All in a folder, the oldest first. None if there is no folder.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(|| format!("listing `{}`", folder.display()))?,
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        let paths = paths.doing(|| format!("listing `{}`", folder.display()))?;
        let mut files: Vec<_> = paths.into_iter().filter_map(Self::of).collect();
        files.sort();
        Ok(files)
    }

    fn of(path: PathBuf) -> Option<Self> {
        let digits = path.file_name()?.to_str()?.strip_suffix(".ndjson")?;
        let first = (digits.len() == 16).then(|| digits.parse().ok()).flatten()?;
        Some(Self { first, path })
    }

    /// Its whole lines, from the last to the first.
    pub fn backwards(&self) -> io::Result<LinesBackwards> {
        let mut file = File::open(&self.path)?;
        let start = file.seek(SeekFrom::End(0))?;
        Ok(LinesBackwards { file, start, held: Vec::new() })
    }
}

/// The whole lines of a file, from the last to the first. What is behind the last line break was never acknowledged, and is left out.
#[derive(Debug)]
pub struct LinesBackwards {
    file: File,
    /// Where `held` begins in the file.
    start: u64,
    /// What was read and not yet given out.
    held: Vec<u8>,
}

impl LinesBackwards {
    /// The text from the beginning of the last line that was not given out, with its break if it has one. Empty at the beginning of the file.
    fn piece(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let before = self.held.len().saturating_sub(1);
            if let Some(end) = memrchr(b'\n', &self.held[..before]) {
                return Ok(self.held.split_off(end + 1));
            }
            if self.start == 0 {
                return Ok(std::mem::take(&mut self.held));
            }
            if self.held.len() > LONGEST_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let length = self.start.min(CHUNK);
        self.start -= length;
        self.file.seek(SeekFrom::Start(self.start))?;
        let mut chunk = vec![0; length as usize];
        self.file.read_exact(&mut chunk)?;
        chunk.append(&mut self.held);
        self.held = chunk;
        Ok(())
    }
}

impl Iterator for LinesBackwards {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.piece() {
                Ok(piece) if piece.is_empty() => return None,
                Ok(mut piece) if piece.ends_with(b"\n") => {
                    piece.pop();
                    return Some(Ok(piece));
                }
                Ok(_) => {}
                Err(error) => {
                    // Whoever goes on asking gets the end, and not the same error for ever.
                    (self.start, self.held) = (0, Vec::new());
                    return Some(Err(error));
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backwards(bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let folder = tempfile::tempdir().unwrap();
        let file = LogFile::new(folder.path(), 1);
        std::fs::write(&file.path, bytes).unwrap();
        file.backwards()?.collect()
    }

    #[test]
    fn a_long_file_is_read_from_its_end() {
        let lines: Vec<Vec<u8>> = (0..3000).map(|number| vec![b'a' + (number % 26) as u8; number % 97]).collect();
        let text = lines.iter().flat_map(|line| [&line[..], b"\n"].concat()).collect::<Vec<_>>();
        assert!(text.len() as u64 > 2 * CHUNK);
        let read = backwards(&[&text[..], b"torn"].concat()).unwrap();
        assert!(read.into_iter().eq(lines.into_iter().rev()));
        let long = backwards(&vec![b'a'; 1 << 20]).unwrap_err();
        assert!(long.to_string().contains("a line is too long"), "{long}");
    }

    #[test]
    fn other_files_are_none_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["0000000000000007.ndjson", "0000000000000001.ndjson", "7.ndjson", "lock", "0000000000000001.bak"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let files = LogFile::all(folder.path()).unwrap();
        assert_eq!(files, [LogFile::new(folder.path(), 1), LogFile::new(folder.path(), 7)]);
        assert!(LogFile::all(&folder.path().join("none")).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_lines(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200)) {
            let mut expected: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            expected.pop();
            expected.reverse();
            prop_assert_eq!(backwards(&bytes).unwrap(), expected);
        }
    }
}
