//! A store in a local folder: a key is a file.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Result, ResultExt};

use crate::files::{create_folders, hidden, is_left, is_missing, parent};
use crate::{Access, Files, LocalFiles, NewFile, Store, crash, key};

/// Keeps each key in a file of a folder.
///
/// A key is written to a hidden file beside it, which is then linked to its name: of several links to one name the
/// file system lets exactly one succeed, on network file systems too. A crash may leave a hidden file, which is
/// never listed.
#[derive(Clone, Debug)]
pub struct LocalStore {
    files: Arc<dyn Files>,
    folder: PathBuf,
    access: Access,
    /// The folders whose names are known to be durable.
    durable: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// The folders in which this process has looked for what others have left.
    swept: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl LocalStore {
    /// The store in `folder`, which is created by the first `put_new`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(LocalFiles), folder)
    }

    /// The store in `folder`, which nobody else may read if it is created by this one.
    pub fn private(folder: impl Into<PathBuf>) -> Self {
        Self { access: Access::Private, ..Self::new(folder) }
    }

    /// The store in a folder of another file system.
    pub fn on(files: Arc<dyn Files>, folder: impl Into<PathBuf>) -> Self {
        let (folder, access) = (folder.into(), Access::Shared);
        Self { files, folder, access, durable: Arc::default(), swept: Arc::default() }
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        key::check(key)?;
        Ok(self.folder.join(key))
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<bool> {
        self.create_folder(parent(path))?;
        if self.files.exists(path)? {
            // Whoever created it may not have made its name durable yet.
            return self.sync_parent(path).map(|()| false);
        }
        let (hidden, file) = self.create_hidden(path)?;
        let linked = self.write_and_link(file, bytes, &hidden, path);
        // If it stays, it costs space and is never listed.
        let _ = self.files.remove(&hidden);
        match linked {
            Ok(()) => self.sync_parent(path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.sync_parent(path).map(|()| false),
            Err(error) => Err(error),
        }
    }

    fn write_and_link(&self, mut file: Box<dyn NewFile>, bytes: &[u8], hidden: &Path, path: &Path) -> io::Result<()> {
        file.append(bytes)?;
        file.sync()?;
        crash::point("store-before-link");
        let linked = match self.files.hard_link(hidden, path) {
            // A network file system repeats what it has got no answer to, and then finds its own link.
            Err(error) if !self.files.are_same(hidden, path)? => Err(error),
            _ => Ok(()),
        };
        crash::point("store-after-link");
        linked
    }

    /// A new hidden file beside `path`, of a name that no other thread, process or machine uses.
    fn create_hidden(&self, path: &Path) -> io::Result<(PathBuf, Box<dyn NewFile>)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let hidden = hidden(path, NEXT.fetch_add(1, Ordering::Relaxed));
            match self.files.create_new(&hidden, self.access) {
                Ok(file) => return Ok((hidden, file)),
                // Left by a crash, or by a process of the same number on another machine.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        create_folders(&*self.files, folder, self.access, &mut durable)
    }

    /// Makes durable that a name appeared in its folder or left it.
    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        self.files.sync_folder(parent(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.files.remove(path) {
            Err(error) if !is_missing(&error) => return Err(error),
            // One that is gone may have been removed by a call that could not make that durable.
            _ => crash::point("store-delete"),
        }
        match self.sync_parent(path) {
            Err(error) if is_missing(&error) => Ok(()),
            synced => synced,
        }
    }

    /// Removes hidden files beside a key that processes have left which are no more, as far as that can be known, once in each
    /// folder. What can't be removed is no harm.
    fn sweep(&self, path: &Path) {
        if !self.swept.lock().unwrap_or_else(PoisonError::into_inner).insert(parent(path).to_owned()) {
            return;
        }
        let entries = self.files.list(parent(path)).unwrap_or_default();
        for entry in entries.into_iter().filter(|entry| is_left(&entry.name)) {
            let _ = self.files.remove(&parent(path).join(&entry.name));
        }
    }

    fn collect(&self, folder: &Path, prefix: &str, keys: &mut Vec<String>) -> io::Result<()> {
        let entries = match self.files.list(folder) {
            Err(error) if is_missing(&error) => return Ok(()),
            entries => entries?,
        };
        for entry in entries.into_iter().filter(|entry| !entry.name.starts_with('.')) {
            let key = if prefix.is_empty() { entry.name.clone() } else { format!("{prefix}/{}", entry.name) };
            if entry.is_folder { self.collect(&folder.join(&entry.name), &key, keys)? } else { keys.push(key) }
        }
        Ok(())
    }
}

impl Store for LocalStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(key)?;
        match self.files.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error).doing(|| format!("reading `{}`", path.display())),
        }
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.path(key)?;
        let created = self.create(&path, bytes).doing(|| format!("writing `{}`", path.display()));
        self.sweep(&path);
        created
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let start = prefix.rfind('/').map_or("", |end| &prefix[..end]);
        let folder = if start.is_empty() { self.folder.clone() } else { self.path(start)? };
        let mut keys = Vec::new();
        self.collect(&folder, start, &mut keys).doing(|| format!("listing `{}`", folder.display()))?;
        keys.retain(|key| key.starts_with(prefix));
        keys.sort_unstable();
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        self.remove(&path).doing(|| format!("deleting `{}`", path.display()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
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
    fn what_dead_processes_have_left_beside_a_key_goes() {
        let (folder, store) = store();
        let below = folder.path().join("below/it");
        fs::create_dir_all(&below).unwrap();
        // No process has a number as high as that.
        let seen = crate::files::processes();
        let (dead, alive) =
            (format!(".a.{seen:08x}-{}.3.part", u32::MAX), format!(".a.{seen:08x}-{}.3.part", std::process::id()));
        // Of another machine, or another container, where that number may be that of a process.
        let elsewhere = format!(".a.{:08x}-{}.3.part", seen ^ 1, u32::MAX);
        for name in [&dead, &alive, &elsewhere, ".a.part", ".b.4294967295.3.part"] {
            fs::write(below.join(name), "left").unwrap();
        }
        store.put_new("a", b"1").unwrap();
        assert!(!below.join(dead).exists());
        assert_eq!(fs::read_dir(below).unwrap().count(), 5);
    }

    #[test]
    fn what_is_private_is_for_one_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("state");
        LocalStore::private(&below).put_new("flow/manifests/1", b"rows").unwrap();
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        let folders = ["state", "state/flow", "state/flow/manifests"].map(mode);
        assert_eq!((folders, mode("state/flow/manifests/1")), ([0o700; 3], 0o600));
    }

    #[test]
    fn names_of_one_file_are_told_from_those_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let (hidden, path) = (folder.path().join(".a"), folder.path().join("a"));
        fs::write(&hidden, "1").unwrap();
        LocalFiles.hard_link(&hidden, &path).unwrap();
        assert!(LocalFiles.are_same(&hidden, &path).unwrap());
        fs::write(folder.path().join(".b"), "1").unwrap();
        assert!(!LocalFiles.are_same(&folder.path().join(".b"), &path).unwrap());
        assert!(!LocalFiles.are_same(&folder.path().join(".c"), &path).unwrap());
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

/// What a crash, errors and a full disk may do to a store, for thousands of seeds.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod model {
    use std::collections::BTreeMap;

    use super::*;
    use crate::simulation::{Faults, Random, Simulation};

    const KEYS: [&str; 4] = ["a", "m/1", "m/2", "m/n/1"];

    /// For each key, what it may be after a crash.
    type Possible = BTreeMap<&'static str, BTreeSet<Option<Vec<u8>>>>;

    fn open(files: &Simulation) -> LocalStore {
        LocalStore::on(Arc::new(files.clone()), "/below/it")
    }

    fn faults(random: &mut Random) -> Faults {
        let capacity = if random.below(4) == 0 { 1000 } else { usize::MAX };
        let errors = [0, 10, 200][random.below(3) as usize];
        Faults { capacity, errors, power: random.coin().then(|| 1 + random.below(60)) }
    }

    /// Does something with a key, and adapts what it may be. Returns whether a key was created.
    fn act(store: &LocalStore, random: &mut Random, possible: &mut Possible) -> bool {
        let key = KEYS[random.below(4) as usize];
        let possible = possible.get_mut(key).unwrap();
        if random.below(3) == 0 {
            match store.delete(key) {
                Ok(()) => *possible = [None].into(),
                Err(_) => {
                    possible.insert(None);
                }
            }
            return false;
        }
        let bytes = random.number().to_le_bytes().repeat(random.below(40) as usize);
        match store.put_new(key, &bytes) {
            Ok(true) => {
                assert!(possible.contains(&None), "an old key was overwritten");
                *possible = [Some(bytes)].into();
                return true;
            }
            Ok(false) => {
                possible.remove(&None);
            }
            Err(_) if possible.contains(&None) => {
                possible.insert(Some(bytes));
            }
            Err(_) => {}
        }
        false
    }

    fn check(store: &LocalStore, possible: &Possible) {
        for key in KEYS {
            let found = store.get(key).unwrap();
            assert!(possible[key].contains(&found), "{key}: {found:?} is none of {:?}", possible[key]);
            assert_eq!(store.list("").unwrap().iter().any(|listed| listed == key), found.is_some());
        }
    }

    /// Some lives of a machine. Returns how many keys were created.
    fn live(seed: u64) -> usize {
        let mut random = Random::new(seed);
        let mut files = Simulation::new(seed);
        let mut possible: Possible = KEYS.map(|key| (key, [None].into())).into();
        let mut created = 0;
        for _ in 0..4 {
            files.set_faults(faults(&mut random));
            let store = open(&files);
            for _ in 0..random.below(20) {
                created += usize::from(act(&store, &mut random, &mut possible));
            }
            if random.below(3) == 0 {
                files = files.new_process();
                check(&open(&files), &possible);
                continue;
            }
            files = files.restarted();
            let store = open(&files);
            check(&store, &possible);
            possible = KEYS.map(|key| (key, [store.get(key).unwrap()].into())).into();
        }
        created
    }

    #[test]
    fn a_key_is_whole_or_not_there_and_what_was_put_stays() {
        let mut created = 0;
        for seed in 0..5000 {
            let lives = std::panic::catch_unwind(|| live(seed));
            created += lives.unwrap_or_else(|_| panic!("seed {seed}"));
        }
        assert!(created > 20_000, "only {created} keys were created");
    }
}
