//! How far those have come who read a log from other processes, so that nothing is trimmed away that one of them needs.
//!
//! Each has a folder of its own beside the segments, `readers/NAME`, with a file `mark`: the two numbers of a [`Mark`] as text. Whoever writes the log
//! writes nothing there, and they write nothing else.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{Error, Result, ResultExt};

use super::replace::replace;
use crate::files::{create_folders, is_missing};
use crate::{Access, Files};

/// How far somebody has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The records before this number are not needed any more.
    pub needed: u64,
    /// Those between that and this one can be done without, if there is no room.
    pub wanted: u64,
}

/// The mark of one who reads a log. Nobody else can have it at the same time.
pub struct LogMark {
    files: Arc<dyn Files>,
    path: PathBuf,
    last: Option<Mark>,
    _lock: Box<dyn Any + Send + Sync>,
}

impl LogMark {
    /// Takes the mark of a name in the folder of a log. Nothing behind it is trimmed away from now on, and nothing at all if it is new.
    ///
    /// # Errors
    /// If another has it.
    pub fn take(files: Arc<dyn Files>, log: &Path, name: &str) -> Result<Self> {
        let folder = folder(log).join(name);
        let doing = || format!("noting in `{}` how far the log is read", folder.display());
        create_folders(&*files, &folder, Access::Private, &mut BTreeSet::new()).doing(doing)?;
        let lock = files.lock(&folder.join(".lock")).doing(doing)?;
        let taken = || Error::new(format!("another run reads the log `{}` as `{name}`", log.display()));
        let path = folder.join(FILE);
        let mut mark = Self { files, path, last: None, _lock: lock.ok_or_else(taken)? };
        mark.last = read(&*mark.files, &mark.path)?;
        if mark.last.is_none() {
            mark.set(Mark::default())?;
            mark.files.sync_folder(&folder).doing(doing)?;
        }
        Ok(mark)
    }

    /// Notes how far it has come.
    ///
    /// # Errors
    /// If it can't be written. The former one holds then.
    pub fn set(&mut self, mark: Mark) -> Result<()> {
        if self.last != Some(mark) {
            let text = format!("{} {}\n", mark.needed, mark.wanted);
            replace(&*self.files, &self.path, text.as_bytes())
                .doing(|| format!("writing `{}`", self.path.display()))?;
            self.last = Some(mark);
        }
        Ok(())
    }
}

/// How far all who read a log have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogMarks {
    /// By their names.
    pub by_name: Vec<(String, Mark)>,
}

impl LogMarks {
    /// Those in the folder of a log.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn read(files: &dyn Files, log: &Path) -> Result<Self> {
        let folder = folder(log);
        let entries = match files.list(&folder) {
            Err(error) if is_missing(&error) => return Ok(Self::default()),
            entries => entries.doing(|| format!("reading `{}`", folder.display()))?,
        };
        let names = entries.into_iter().filter(|entry| entry.is_folder).map(|entry| entry.name);
        // Of one that has begun just now nothing is known: it may need all there is.
        let mark = |name: String| Ok((name.clone(), read(files, &folder.join(&name).join(FILE))?.unwrap_or_default()));
        names.map(mark).collect::<Result<_>>().map(|by_name| Self { by_name })
    }

    /// How far all have come. Nobody is no one that has.
    pub fn least(&self) -> Option<Mark> {
        let needed = self.by_name.iter().map(|(_, mark)| mark.needed).min()?;
        let wanted = self.by_name.iter().map(|(_, mark)| mark.wanted).min()?;
        Some(Mark { needed, wanted })
    }
}

/// The file with the mark.
const FILE: &str = "mark";

fn folder(log: &Path) -> PathBuf {
    log.join("readers")
}

/// A mark. What is none is that of one who needs everything.
fn read(files: &dyn Files, path: &Path) -> Result<Option<Mark>> {
    let bytes = match files.read(path) {
        Err(error) if is_missing(&error) => return Ok(None),
        bytes => bytes.doing(|| format!("reading `{}`", path.display()))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse().ok());
    let mark = numbers.next().zip(numbers.next()).map(|(needed, wanted)| Mark { needed, wanted });
    Ok(Some(mark.unwrap_or_default()))
}
