//! A store in a local folder: a key is a file.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_core::{Result, ResultExt};

use crate::{Store, key};

/// Keeps each key in a file of a folder.
///
/// A key is written to a hidden file beside it, which is then linked to its name: of several links to one name the
/// file system lets exactly one succeed, on network file systems too. A crash may leave a hidden file, which is
/// never listed.
#[derive(Clone, Debug)]
pub struct LocalStore {
    folder: PathBuf,
}

impl LocalStore {
    /// The store in `folder`, which is created by the first `put_new`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        key::check(key)?;
        Ok(self.folder.join(key))
    }
}

impl Store for LocalStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(key)?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error).doing(|| format!("reading `{}`", path.display())),
        }
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.path(key)?;
        create(&path, bytes).doing(|| format!("writing `{}`", path.display()))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let start = prefix.rfind('/').map_or("", |end| &prefix[..end]);
        let folder = if start.is_empty() { self.folder.clone() } else { self.path(start)? };
        let mut keys = Vec::new();
        collect(&folder, start, &mut keys).doing(|| format!("listing `{}`", folder.display()))?;
        keys.retain(|key| key.starts_with(prefix));
        keys.sort_unstable();
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(error),
        }
        .doing(|| format!("deleting `{}`", path.display()))
    }
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let Some(folder) = path.parent() else { return Err(ErrorKind::InvalidInput.into()) };
    create_folder(folder)?;
    if path.try_exists()? {
        return Ok(false);
    }
    let (hidden, file) = create_hidden(path)?;
    let linked = write_synced(file, bytes).and_then(|()| fs::hard_link(&hidden, path));
    fs::remove_file(&hidden)?;
    match linked {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// A new hidden file beside `path`, of a name that no other thread, process or machine uses.
fn create_hidden(path: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let hidden = path.with_file_name(format!(".{name}.{}.{number}.part", process::id()));
        match File::create_new(&hidden) {
            Ok(file) => return Ok((hidden, file)),
            // Left by a crash, or by a process of the same number on another machine.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_synced(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates a folder and those above it, each durably.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => sync_parent(folder),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes durable that a name appeared in its folder or left it.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn collect(folder: &Path, prefix: &str, keys: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_missing(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), &key, keys)?,
            false => keys.push(key),
        }
    }
    Ok(())
}

/// No file of that name, because it or a folder above it is missing.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().join("below/it"));
        (folder, store)
    }

    #[test]
    fn what_was_put_is_there_and_is_never_overwritten() {
        let (_folder, store) = store();
        assert_eq!(store.get("a/b").unwrap(), None);
        assert!(store.put_new("a/b", b"first").unwrap());
        assert!(!store.put_new("a/b", b"second").unwrap());
        assert_eq!(store.get("a/b").unwrap().unwrap(), b"first");
        assert!(store.put_new("a/b/c", b"below a file").is_err());
        assert_eq!(store.get("a/b/c").unwrap(), None);
    }

    #[test]
    fn of_many_that_race_for_a_key_exactly_one_wins() {
        let (_folder, store) = store();
        let start = Barrier::new(16);
        for round in 0..20 {
            let key = format!("round/{round}/decision");
            let winners: Vec<usize> = thread::scope(|scope| {
                let race = |number: usize| {
                    let (key, store, start) = (&key, &store, &start);
                    scope.spawn(move || {
                        start.wait();
                        store.put_new(key, &vec![number as u8; 10_000]).unwrap().then_some(number)
                    })
                };
                let racers: Vec<_> = (0..16).map(race).collect();
                racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
            });
            let [winner] = winners[..] else { panic!("winners: {winners:?}") };
            assert_eq!(store.get(&key).unwrap().unwrap(), vec![winner as u8; 10_000]);
        }
        assert_eq!(store.list("").unwrap().len(), 20);
    }

    #[test]
    fn keys_are_listed_sorted_by_prefix_without_hidden_files() {
        let (folder, store) = store();
        assert!(store.list("").unwrap().is_empty());
        for key in ["m/versions/2/x", "m/versions/10/x", "m/card", "other", "model"] {
            store.put_new(key, b"").unwrap();
        }
        fs::write(folder.path().join("below/it/m/.card.1.2.part"), b"left by a crash").unwrap();
        assert_eq!(store.list("").unwrap(), ["m/card", "m/versions/10/x", "m/versions/2/x", "model", "other"]);
        assert_eq!(store.list("m/versions/1").unwrap(), ["m/versions/10/x"]);
        assert_eq!(store.list("m").unwrap().len(), 4);
        assert!(store.list("nothing/here").unwrap().is_empty());
        assert!(store.list("../x/").is_err());
    }

    #[test]
    fn deleting_is_repeatable() {
        let (_folder, store) = store();
        store.put_new("a", b"1").unwrap();
        store.delete("a").unwrap();
        store.delete("a").unwrap();
        assert!(store.put_new("a", b"2").unwrap());
    }
}
