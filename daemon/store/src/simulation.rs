//! A file system in memory for tests, as bad as real ones may be: its disk fills up, its operations fail, and when the power
//! goes it loses any part of what was not made durable. All of it follows from a seed.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::parent;
use crate::{Access, Entry, Files, NewFile};

/// A crash keeps or loses the bytes of a file in blocks of this size.
const BLOCK: usize = 64;

/// A simulated file system. Its clones are the same one.
#[derive(Clone)]
pub struct Simulation {
    disk: Arc<Mutex<Disk>>,
    /// How many times the machine had been started when this handle was made. Those of before can do nothing any more.
    start: u32,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// How many bytes there is room for.
    pub capacity: usize,
    /// How many of 1000 operations fail.
    pub errors: u64,
    /// The power goes during the operation of this number, counted from now.
    pub power: Option<u64>,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self { capacity: usize::MAX, errors: 0, power: None };
}

struct Disk {
    random: Random,
    faults: Faults,
    start: u32,
    inodes: Vec<Inode>,
    /// What is visible.
    names: BTreeMap<PathBuf, Name>,
    /// What a crash leaves of those names that have changed since their folder was made durable: any one of these.
    pending: BTreeMap<PathBuf, Vec<Option<Name>>>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Folder,
    /// By the number of its inode.
    File(usize),
}

#[derive(Default)]
struct Inode {
    bytes: Vec<u8>,
    /// Which bytes are durable.
    durable: Vec<bool>,
    /// Up to here it was tried to make them durable. What lies before and is not durable stays so.
    tried: usize,
    /// What was cut off, and may come back until that is durable.
    cut_off: Vec<u8>,
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// One of two.
    pub fn coin(&mut self) -> bool {
        self.number() & 1 == 1
    }
}

impl Simulation {
    /// An empty disk, with the folder `/`, on which nothing goes wrong so far.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            random: Random::new(seed),
            faults: Faults::NONE,
            start: 0,
            inodes: Vec::new(),
            names: BTreeMap::from([(PathBuf::from("/"), Name::Folder)]),
            pending: BTreeMap::new(),
            locks: BTreeSet::new(),
        };
        Self { disk: Arc::new(Mutex::new(disk)), start: 0 }
    }

    /// From now on this may go wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    /// The machine is started again after its power went: what was not durable is there, gone, or there in part. What still
    /// runs on the former handles can do nothing any more.
    pub fn restarted(&self) -> Self {
        self.disk().crash();
        self.new_process()
    }

    /// The process was killed and is started again: everything that was visible is still there, durable or not.
    pub fn new_process(&self) -> Self {
        let mut disk = self.disk();
        disk.start += 1;
        disk.faults = Faults::NONE;
        disk.locks.clear();
        Self { disk: self.disk.clone(), start: disk.start }
    }

    /// Changes one byte of a file.
    pub fn damage(&self, path: &Path, place: usize) {
        let mut disk = self.disk();
        if let Some(Name::File(inode)) = disk.names.get(path).copied() {
            disk.inodes[inode].bytes[place] ^= 0x10;
        }
    }

    /// Changes one bit of a file.
    pub fn flip(&self, path: &Path, bit: usize) {
        let mut disk = self.disk();
        if let Some(Name::File(inode)) = disk.names.get(path).copied() {
            disk.inodes[inode].bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// Cuts a file to this length.
    pub fn cut(&self, path: &Path, length: usize) {
        let mut disk = self.disk();
        if let Some(Name::File(inode)) = disk.names.get(path).copied() {
            let inode = &mut disk.inodes[inode];
            inode.cut(length);
            inode.cut_off.clear();
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that changes the disk, unless it fails. What fails may have been done nevertheless.
    fn change<T>(&self, operation: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.alive()?;
        match disk.fault() {
            None => operation(&mut disk),
            Some(error) if disk.random.coin() => operation(&mut disk).and(Err(error)),
            Some(error) => Err(error),
        }
    }

    /// Looks at the disk, unless that fails.
    fn look<T>(&self, operation: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.alive()?;
        disk.fault().map_or(Ok(()), Err)?;
        operation(&mut disk)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if disk.start != self.start || disk.faults.power == Some(0) {
            return Err(io::Error::other("the power is off"));
        }
        Ok(disk)
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").finish_non_exhaustive()
    }
}

impl Disk {
    /// How the next operation fails, if it does.
    fn fault(&mut self) -> Option<io::Error> {
        if let Some(left) = &mut self.faults.power {
            *left -= 1;
            if *left == 0 {
                return Some(io::Error::other("the power went"));
            }
        }
        let fails = self.faults.errors > 0 && self.random.below(1000) < self.faults.errors;
        fails.then(|| io::Error::other("an error of the disk"))
    }

    fn used(&self) -> usize {
        let inodes: BTreeSet<usize> = self.names.values().filter_map(|name| name.inode()).collect();
        inodes.into_iter().map(|inode| self.inodes[inode].bytes.len()).sum()
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Name::File(inode)) => Ok(*inode),
            Some(Name::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// A new name, in a folder that must be there.
    fn add(&mut self, path: &Path, name: Name) -> io::Result<()> {
        match (self.names.get(path), self.names.get(parent(path))) {
            (Some(_), _) => Err(ErrorKind::AlreadyExists.into()),
            (None, Some(Name::Folder)) => {
                self.set(path, Some(name));
                Ok(())
            }
            (None, Some(Name::File(_))) => Err(ErrorKind::NotADirectory.into()),
            (None, None) => Err(ErrorKind::NotFound.into()),
        }
    }

    fn set(&mut self, path: &Path, name: Option<Name>) {
        let before = self.names.get(path).copied();
        let pending = self.pending.entry(path.to_owned()).or_insert_with(|| vec![before]);
        pending.push(name);
        match name {
            Some(name) => self.names.insert(path.to_owned(), name),
            None => self.names.remove(path),
        };
    }

    /// Appends what there is room for.
    fn append(&mut self, inode: usize, bytes: &[u8]) -> io::Result<()> {
        let room = self.faults.capacity.saturating_sub(self.used());
        let fitting = &bytes[..bytes.len().min(room)];
        let inode = &mut self.inodes[inode];
        inode.bytes.extend_from_slice(fitting);
        inode.durable.resize(inode.bytes.len(), false);
        if fitting.len() < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn crash(&mut self) {
        for (path, states) in std::mem::take(&mut self.pending) {
            let state = states[self.random.below(states.len() as u64) as usize];
            match state {
                Some(name) => self.names.insert(path, name),
                None => self.names.remove(&path),
            };
        }
        let orphan = |names: &BTreeMap<PathBuf, Name>| {
            let has_folder = |path: &Path| names.get(parent(path)) == Some(&Name::Folder);
            names.keys().find(|path| path.parent().is_some() && !has_folder(path)).cloned()
        };
        while let Some(path) = orphan(&self.names) {
            self.names.remove(&path);
        }
        for inode in &mut self.inodes {
            inode.crash(&mut self.random);
        }
    }
}

impl Name {
    fn inode(self) -> Option<usize> {
        match self {
            Self::Folder => None,
            Self::File(inode) => Some(inode),
        }
    }
}

impl Inode {
    /// Makes durable what was appended since this was tried last.
    fn sync(&mut self) {
        self.durable[self.tried..].fill(true);
        self.tried = self.bytes.len();
        self.cut_off.clear();
    }

    /// Loses what lies behind so many bytes.
    fn cut(&mut self, length: usize) {
        self.cut_off = self.bytes.split_off(length.min(self.bytes.len()));
        self.durable.truncate(length);
        self.tried = self.tried.min(length);
    }

    /// Fails to. Some of it may have been written, but nobody knows what.
    fn fail_to_sync(&mut self) {
        self.tried = self.bytes.len();
    }

    /// Loses an end of the file, and some blocks before it, but nothing that is durable.
    fn crash(&mut self, random: &mut Random) {
        let cut_off = std::mem::take(&mut self.cut_off);
        if random.coin() {
            self.bytes.extend(cut_off);
            self.durable.resize(self.bytes.len(), false);
        }
        let shortest = self.durable.iter().rposition(|durable| *durable).map_or(0, |last| last + 1);
        let lost = match random.below(3) {
            0 => 0,
            1 => self.bytes.len() - shortest,
            _ => random.below((self.bytes.len() - shortest) as u64 + 1) as usize,
        };
        self.bytes.truncate(self.bytes.len() - lost);
        self.durable.truncate(self.bytes.len());
        let whole = random.coin();
        for start in (0..self.bytes.len()).step_by(BLOCK) {
            let end = self.bytes.len().min(start + BLOCK);
            let filler = [0, 0xa5][random.below(2) as usize];
            if whole || random.coin() {
                continue;
            }
            for place in start..end {
                if !self.durable[place] {
                    self.bytes[place] = filler;
                }
            }
        }
        // What is there after a start is on the disk.
        self.durable.fill(true);
        self.tried = self.bytes.len();
    }
}

impl Files for Simulation {
    fn create_new(&self, path: &Path, _: Access) -> io::Result<Box<dyn NewFile>> {
        let inode = self.change(|disk| {
            disk.add(path, Name::File(disk.inodes.len()))?;
            disk.inodes.push(Inode::default());
            Ok(disk.inodes.len() - 1)
        })?;
        Ok(Box::new(SimulatedFile { files: self.clone(), inode }))
    }

    fn read_at(&self, path: &Path, start: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = self.read(path)?;
        let start = bytes.len().min(start as usize);
        Ok(bytes[start..bytes.len().min(start + length)].to_vec())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.look(|disk| Ok(disk.inodes[disk.inode(path)?].bytes.clone()))
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        self.look(|disk| Ok(disk.inodes[disk.inode(path)?].bytes.len() as u64))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look(|disk| Ok(disk.names.contains_key(path)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        self.look(|disk| {
            if disk.names.get(folder) != Some(&Name::Folder) {
                return Err(ErrorKind::NotFound.into());
            }
            let inside = disk.names.iter().filter(|(path, _)| path.parent() == Some(folder));
            let entry = |(path, name): (&PathBuf, &Name)| Entry {
                name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                is_folder: *name == Name::Folder,
            };
            Ok(inside.map(entry).collect())
        })
    }

    fn are_same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        self.look(|disk| Ok(disk.inode(one).ok().is_some_and(|inode| disk.inode(other).ok() == Some(inode))))
    }

    /// The answer may be lost, so that it is done again.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|disk| {
            let name = Name::File(disk.inode(from)?);
            disk.add(to, name)?;
            if disk.faults.errors > 0 && disk.random.below(10) == 0 { disk.add(to, name) } else { Ok(()) }
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|disk| {
            let inode = disk.inode(from)?;
            disk.set(from, None);
            disk.set(to, Some(Name::File(inode)));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| {
            disk.inode(path)?;
            disk.set(path, None);
            Ok(())
        })
    }

    fn create_folder(&self, path: &Path, _: Access) -> io::Result<()> {
        self.change(|disk| disk.add(path, Name::Folder))
    }

    /// What a failure leaves behind is made durable by a later success, unlike the bytes of files: the journal of a file
    /// system is written in order.
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| {
            if disk.names.get(path) != Some(&Name::Folder) {
                return Err(ErrorKind::NotFound.into());
            }
            disk.pending.retain(|name, _| name.parent() != Some(path));
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let locked = self.look(|disk| Ok(disk.locks.insert(path.to_owned())))?;
        Ok(locked.then(|| Box::new(Lock { files: self.clone(), path: path.to_owned() }) as Box<_>))
    }
}

struct Lock {
    files: Simulation,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut disk = self.files.disk();
        if disk.start == self.files.start {
            disk.locks.remove(&self.path);
        }
    }
}

struct SimulatedFile {
    files: Simulation,
    inode: usize,
}

impl NewFile for SimulatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.files.alive()?;
        let fault = disk.fault();
        let written = match fault {
            None => bytes.len(),
            Some(_) => disk.random.below(bytes.len() as u64 + 1) as usize,
        };
        disk.append(self.inode, &bytes[..written])?;
        fault.map_or(Ok(()), Err)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.files.alive()?;
        let fault = disk.fault();
        match fault {
            // Without this the power could never go between the two.
            Some(error) if disk.faults.power == Some(0) && disk.random.coin() => {
                disk.inodes[self.inode].sync();
                Err(error)
            }
            Some(error) => {
                disk.inodes[self.inode].fail_to_sync();
                Err(error)
            }
            None => {
                disk.inodes[self.inode].sync();
                Ok(())
            }
        }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.files.change(|disk| {
            disk.inodes[self.inode].cut(length as usize);
            Ok(())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What two files hold after a crash, for many seeds: one is synced, and so is its name; of the other nothing is.
    fn after_crashes(prepare: impl Fn(&Simulation)) -> BTreeSet<Option<Vec<u8>>> {
        let mut seen = BTreeSet::new();
        for seed in 0..500 {
            let files = Simulation::new(seed);
            prepare(&files);
            seen.insert(files.restarted().read(Path::new("/a")).ok());
        }
        seen
    }

    #[test]
    fn what_is_durable_survives_and_nothing_else_need_to() {
        let write = |files: &Simulation| {
            let mut file = files.create_new(Path::new("/a"), Access::Shared).unwrap();
            file.append(&[1; 100]).unwrap();
            file
        };
        let sync_name = |files: &Simulation| files.sync_folder(Path::new("/")).unwrap();
        let all = after_crashes(|files| {
            write(files).sync().unwrap();
            sync_name(files);
        });
        assert_eq!(all, BTreeSet::from([Some(vec![1; 100])]));
        let nameless = after_crashes(|files| write(files).sync().unwrap());
        assert_eq!(nameless, BTreeSet::from([None, Some(vec![1; 100])]));
        let torn = after_crashes(|files| {
            write(files);
            sync_name(files);
        });
        assert!(torn.len() > 50 && torn.contains(&Some(Vec::new())) && torn.contains(&Some(vec![1; 100])));
    }

    #[test]
    fn a_sync_that_failed_is_not_made_up_for_by_a_later_one() {
        let seen = after_crashes(|files| {
            let mut file = files.create_new(Path::new("/a"), Access::Shared).unwrap();
            files.sync_folder(Path::new("/")).unwrap();
            file.append(&[1; 100]).unwrap();
            files.set_faults(Faults { errors: 1000, ..Faults::NONE });
            file.sync().unwrap_err();
            files.set_faults(Faults::NONE);
            file.append(&[2; 100]).unwrap();
            file.sync().unwrap();
        });
        assert!(seen.len() > 1);
        assert!(seen.iter().flatten().all(|bytes| bytes[100..] == [2; 100]));
    }

    #[test]
    fn what_was_cut_off_may_come_back_until_that_is_durable() {
        let cut = |files: &Simulation| {
            let mut file = files.create_new(Path::new("/a"), Access::Shared).unwrap();
            files.sync_folder(Path::new("/")).unwrap();
            file.append(&[1; 100]).unwrap();
            file.sync().unwrap();
            file.cut(40).unwrap();
            assert_eq!(files.read(Path::new("/a")).unwrap(), [1; 40]);
            file
        };
        assert!(after_crashes(|files| drop(cut(files))).len() > 1);
        let durable = after_crashes(|files| cut(files).sync().unwrap());
        assert_eq!(durable, BTreeSet::from([Some(vec![1; 40])]));
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let files = Simulation::new(1);
        files.set_faults(Faults { capacity: 10, ..Faults::NONE });
        let mut file = files.create_new(Path::new("/a"), Access::Shared).unwrap();
        assert_eq!(file.append(&[1; 11]).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(files.read(Path::new("/a")).unwrap(), [1; 10]);
        files.remove(Path::new("/a")).unwrap();
        files.create_new(Path::new("/b"), Access::Shared).unwrap().append(&[1; 10]).unwrap();
    }
}
