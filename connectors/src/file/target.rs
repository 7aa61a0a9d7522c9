//! Where the output `file` puts its files, and which of those that are there are its own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use millstream_core::{Epoch, Result, ResultExt, Run};
use millstream_formats::{Compression, WriteFormat, WriteOptions};

use super::disk::is_there;
use super::hidden;

/// The folder that paths in the state are relative to, so that a work folder which was moved or copied goes on with its
/// own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base(pub PathBuf);

impl Base {
    /// Turns paths into what is kept. One that is not below the folder, to which a link has led, stays as it is.
    pub fn shorten<'a>(&self, paths: impl IntoIterator<Item = &'a mut PathBuf>) {
        for path in paths {
            if let Ok(below) = path.strip_prefix(&self.0) {
                *path = below.to_owned();
            }
        }
    }

    /// Turns what was kept into paths.
    pub fn extend<'a>(&self, paths: impl IntoIterator<Item = &'a mut PathBuf>) {
        paths.into_iter().for_each(|path| *path = self.0.join(&*path));
    }
}

/// Where rows go.
pub struct Target {
    /// The file, or the folder.
    pub path: PathBuf,
    /// The folder that the flow runs in.
    pub work_folder: PathBuf,
    /// How the files are written.
    pub format: WriteFormat,
    /// How they are compressed.
    pub compression: Option<Compression>,
    /// What the names of this output's files in a folder begin with.
    pub folder: Option<String>,
    /// What the names of folders below that one begin with, level by level, if there are any.
    pub levels: Vec<String>,
}

impl Target {
    /// How to write its files.
    pub fn options(&self) -> WriteOptions {
        WriteOptions { format: self.format.clone(), compression: self.compression, begins: true }
    }

    /// The folder that the files are in.
    pub fn folder(&self) -> &Path {
        match (&self.folder, self.path.parent()) {
            (None, Some(parent)) if parent != Path::new("") => parent,
            (None, _) => Path::new("."),
            (Some(_), _) => &self.path,
        }
    }

    /// What paths in the state are relative to.
    pub fn base(&self) -> Base {
        Base(self.folder().to_owned())
    }

    /// The path of file number `number`, whose first row belongs to an epoch, in a folder below that of the output.
    pub fn file(&self, folder: &Path, epoch: Epoch, number: u32) -> PathBuf {
        let Some(prefix) = &self.folder else { return self.path.clone() };
        let behind = self.compression.map_or(String::new(), |compression| format!(".{}", compression.extension()));
        self.path.join(folder).join(format!("{prefix}{:020}-{number:05}.{}{behind}", epoch.0, self.format.kind().name))
    }

    /// The path of a file, as one of them is called.
    pub fn example(&self) -> PathBuf {
        let below: PathBuf = self.levels.iter().map(|level| format!("{level}=0")).collect();
        self.file(&below, Epoch(1), 1)
    }

    /// The folder of a file below that of the output.
    pub fn folder_of(&self, file: &Path) -> PathBuf {
        let folder = file.parent().filter(|_| self.folder.is_some());
        folder.and_then(|folder| folder.strip_prefix(&self.path).ok()).unwrap_or(Path::new("")).to_owned()
    }

    /// What stands for all files: that of which the lock and the ledger have the name.
    pub fn place(&self) -> PathBuf {
        self.folder.as_ref().map_or_else(|| self.path.clone(), |prefix| self.path.join(prefix.trim_end_matches('-')))
    }

    /// The files of this output that are there, sorted by name.
    pub fn existing(&self) -> Result<Vec<PathBuf>> {
        let Some(prefix) = &self.folder else {
            return Ok(Vec::from_iter(is_there(&self.path).then(|| self.path.clone())));
        };
        let is_own =
            |path: &PathBuf| path.file_name().is_some_and(|name| number_of(prefix, &name.to_string_lossy()).is_some());
        let mut files = self.all_files()?;
        files.retain(is_own);
        files.sort();
        Ok(files)
    }

    /// The highest number of a file that is there, in a folder.
    pub fn last_number(&self) -> Result<Option<u32>> {
        let Some(prefix) = &self.folder else { return Ok(None) };
        let number = |path: &PathBuf| number_of(prefix, &path.file_name()?.to_string_lossy());
        Ok(self.existing()?.iter().filter_map(number).max())
    }

    /// Part files and journals that nobody needs any more, as far as `run` can know.
    pub fn leftovers(&self, run: &Run) -> Result<Vec<PathBuf>> {
        let is_own = |name: &str| match &self.folder {
            Some(prefix) => number_of(prefix, name).is_some(),
            None => {
                let file = self.path.file_name().unwrap_or_default().to_string_lossy();
                name.strip_prefix(&*file).is_some_and(|rest| rest.is_empty() || rest.starts_with(".rows-"))
            }
        };
        let mut files = self.all_files()?;
        files.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            hidden::owner(&name).is_some_and(|(name, owner)| is_own(name) && hidden::is_left_behind(&owner, run))
        });
        Ok(files)
    }

    /// The ledgers of other flows with state, or of other states of this one, that have not come to their end.
    pub fn other_ledgers(&self, run: &Run) -> Result<Vec<PathBuf>> {
        let place = self.place();
        let mut files = entries(self.folder())?;
        files.retain(|path| hidden::incarnation_of(path, &place).is_some_and(|other| other != run.incarnation));
        files.sort();
        Ok(files)
    }

    /// What is in the folder, and in those below it into which rows are divided.
    fn all_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder().to_owned()];
        for depth in 0..=self.levels.len() {
            let mut below = Vec::new();
            for entry in folders.iter().map(|folder| entries(folder)).collect::<Result<Vec<_>>>()?.into_iter().flatten()
            {
                let name = entry.file_name().unwrap_or_default().to_string_lossy();
                let level = self.levels.get(depth).and_then(|level| name.strip_prefix(level.as_str()));
                if level.is_some_and(|rest| rest.starts_with('=')) { below.push(entry) } else { files.push(entry) }
            }
            folders = below;
        }
        Ok(files)
    }

    /// What is wrong with what is at the path.
    pub fn is_in_the_way(&self) -> Option<String> {
        match &self.folder {
            None if self.path.is_dir() => Some(format!("`{}` is a folder", self.path.display())),
            None if self.path.exists() && !self.path.is_file() => {
                Some(format!("`{}` is no regular file", self.path.display()))
            }
            Some(_) if self.path.is_file() => Some(format!("`{}` is a file, not a folder", self.path.display())),
            _ => None,
        }
    }
}

/// What is in a folder; nothing if it is not there.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect()),
    };
    entries.doing(|| format!("reading the folder `{}`", folder.display()))
}

/// The path with the next higher number in its name, for a file in a folder.
pub fn renumbered(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let (stem, extension) = name.split_once('.')?;
    let (prefix, number) = stem.rsplit_once('-')?;
    let number: u32 = number.parse().ok()?;
    Some(path.with_file_name(format!("{prefix}-{:05}.{extension}", number.checked_add(1)?)))
}

/// The number in a name `PREFIX{20 digits}-{5 to 9 digits}.EXTENSION`. More digits are not ours.
pub fn number_of(prefix: &str, name: &str) -> Option<u32> {
    let (epoch, rest) = name.strip_prefix(prefix)?.split_once('-')?;
    let (number, _) = rest.split_once('.')?;
    let is_epoch = epoch.len() == 20 && epoch.bytes().all(|byte| byte.is_ascii_digit());
    if is_epoch && (5..10).contains(&number.len()) { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_are_known_by_their_names() {
        let number = |name| number_of("flow-out-", name);
        assert_eq!(number("flow-out-00000000000000000001-00012.csv.gz"), Some(12));
        assert_eq!(number("flow-out-00000000000000000001-123456.csv"), Some(123_456));
        assert_eq!(number("flow-out-00000000000000000001-1.csv"), None);
        assert_eq!(number("flow-out-1-00001.csv"), None);
        assert_eq!(number("flow-out-00000000000000000001-00001"), None);
        assert_eq!(number("flow-out2-00000000000000000001-00001.csv"), None);
        let next = renumbered(Path::new("a/flow-out-00000000000000000001-00099.csv.gz"));
        assert_eq!(next.as_deref(), Some(Path::new("a/flow-out-00000000000000000001-00100.csv.gz")));
    }
}
