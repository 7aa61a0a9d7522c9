//! What this crate does to files: few operations, so that tests can put a disk in their place that fails and loses power.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A file system.
///
/// What is done is visible at once, and survives a crash of the machine once it was made durable: bytes by
/// [`NewFile::sync`], names (those that came and those that went) by [`sync_folder`](Files::sync_folder).
pub trait Files: fmt::Debug + Send + Sync {
    /// Creates a file, which must not be there.
    fn create_new(&self, path: &Path, access: Access) -> io::Result<Box<dyn NewFile>>;

    /// The bytes of a file from `start`: `length` of them, or fewer where it ends.
    fn read_at(&self, path: &Path, start: u64, length: usize) -> io::Result<Vec<u8>>;

    /// All bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// How many bytes a file has.
    fn size(&self, path: &Path) -> io::Result<u64>;

    /// Whether there is a file or a folder of that name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Whether two names are those of the same file. False if one of them is not there.
    fn are_same(&self, one: &Path, other: &Path) -> io::Result<bool>;

    /// What is in a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;

    /// Gives a file one more name, which must not be there.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name; another file of that name loses it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a folder, which must not be there, in one that is there.
    fn create_folder(&self, path: &Path, access: Access) -> io::Result<()>;

    /// Makes durable which names are in a folder.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Locks a file, which is created if need be, until what is returned is dropped or the process ends. `None` if
    /// another has locked it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;
}

/// Who may read what is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody but the user of this process: it has rows of users in it.
    Private,
    /// Whom the process allows it in general, by its umask.
    Shared,
}

/// A file that is being written, from its beginning to its end.
pub trait NewFile: Send {
    /// Appends bytes. If that fails, any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what was appended. If that fails, what was appended since the last success may be lost in a crash even
    /// though a later call succeeds: the system forgets that it has not written it. Such a file must be given up.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to so many bytes, which is durable once it is synced. Nothing is appended after that.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without its folder.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn create_new(&self, path: &Path, access: Access) -> io::Result<Box<dyn NewFile>> {
        let mode = if access == Access::Private { 0o600 } else { 0o666 };
        Ok(Box::new(OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?))
    }

    fn read_at(&self, path: &Path, start: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn are_same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        let identity = |path: &Path| match fs::symlink_metadata(path) {
            Ok(file) => Ok(Some((file.dev(), file.ino()))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        };
        Ok(identity(one)?.is_some_and(|one| identity(other).is_ok_and(|other| other == Some(one))))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A name that is no text is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(Entry { name, is_folder: entry.file_type()?.is_dir() });
        }
        Ok(entries)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_folder(&self, path: &Path, access: Access) -> io::Result<()> {
        DirBuilder::new().mode(if access == Access::Private { 0o700 } else { 0o777 }).create(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let here = path.as_os_str().is_empty();
        File::open(if here { Path::new(".") } else { path })?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl NewFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// No file of that name, because it or a folder above it is missing.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The folder that a file or folder is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Creates a folder on this machine and those above it, as far as they are not there, and makes their names durable.
pub fn create_durable_folder(folder: &Path, access: Access) -> io::Result<()> {
    create_folders(&LocalFiles, folder, access, &mut BTreeSet::new())
}

/// Creates a folder and those above it, and makes their names durable, but for those in `durable`, which grows.
///
/// That goes for folders that are there, too: they may have been created by another thread, or by a process that was killed
/// before it could make them durable.
pub(crate) fn create_folders(
    files: &dyn Files,
    folder: &Path,
    access: Access,
    durable: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    let Some(above) = folder.parent() else { return Ok(()) };
    if durable.contains(folder) && files.exists(folder)? {
        return Ok(());
    }
    create_folders(files, above, access, durable)?;
    if !files.exists(folder)? {
        create_folder(files, folder, access)?;
    }
    match files.sync_folder(above) {
        // Who may not read a folder has hardly created one in it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        synced => synced?,
    }
    durable.insert(folder.to_owned());
    Ok(())
}

fn create_folder(files: &dyn Files, folder: &Path, access: Access) -> io::Result<()> {
    match files.create_folder(folder, access) {
        // Another thread was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

/// The path of a name that differs from all that are in use: of a file that is yet to get its own name.
pub(crate) fn hidden(path: &Path, number: u64) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{:08x}-{}.{number}.part", processes(), std::process::id()))
}

/// What tells the processes that this one sees from those of other machines, of other containers, and from before the machine
/// was started, whose numbers mean others: 0 where that is not known.
pub(crate) fn processes() -> u32 {
    static PROCESSES: LazyLock<u32> = LazyLock::new(|| {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        if boot.is_empty() || namespace.as_os_str().is_empty() {
            0
        } else {
            crc32fast::hash(&[&boot, namespace.as_os_str().as_encoded_bytes()].concat()).max(1)
        }
    });
    *PROCESSES
}

/// Whether a name is that of a hidden file which a process has left that this one would see, and that is no more.
pub(crate) fn is_left(hidden: &str) -> bool {
    let mut parts =
        hidden.strip_prefix('.').and_then(|rest| rest.strip_suffix(".part")).unwrap_or_default().rsplit('.');
    let Some((seen, process)) = parts.nth(1).and_then(|owner| owner.split_once('-')) else { return false };
    let is_seen = processes() != 0 && u32::from_str_radix(seen, 16) == Ok(processes());
    is_seen && process.parse::<u32>().is_ok_and(|process| !Path::new(&format!("/proc/{process}")).exists())
}
