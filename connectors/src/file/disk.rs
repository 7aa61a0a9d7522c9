//! What outputs do to names and folders.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use millstream_core::{Error, Result, ResultExt};
use millstream_store::{Access, create_durable_folder};

/// How many links lead to a file at most, as in the kernel.
const MAX_LINKS: usize = 40;

/// What others may do with a file, not what kind of file it is.
const MODE: u32 = 0o7777;

/// What is not whole is nobody else's to read, and a run after a crash can go on with it.
const PRIVATE: u32 = 0o600;

/// Creates a hidden file, which nobody else can read. What has the name goes: a link must not be followed, and what a run of
/// the same number has left is not needed.
pub fn create(hidden: &Path) -> Result<File> {
    remove(hidden)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(PRIVATE);
    options.open(hidden).doing(|| format!("creating `{}`", hidden.display()))
}

/// The permissions that a file will have: those of the one that it replaces, or else those that the system gives a file here,
/// of which it is asked by creating one.
pub fn mode_of(path: &Path, hidden: &Path) -> Result<u32> {
    let mode = |metadata: fs::Metadata| metadata.permissions().mode() & MODE;
    if let Ok(old) = fs::metadata(path) {
        return Ok(mode(old));
    }
    remove(hidden)?;
    let asked = File::create_new(hidden).and_then(|file| file.metadata()).map(mode);
    asked.doing(|| format!("creating `{}`", hidden.display()))
}

/// Gives a whole file the permissions that it is to have.
pub fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Whether a name is taken, if only by a link to nothing.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Where a path leads through links, though there may be nothing yet.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let mut end = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(next) = fs::read_link(&end) else { return Ok(end) };
        end = end.parent().unwrap_or(Path::new("")).join(next);
    }
    Err(Error::new(format!("`{}` is a link that leads to itself", path.display())))
}

/// Removes a file. Harmless if there is none.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).doing(|| format!("writing to `{}`", folder.display()))
}

/// Creates a folder and those above it, and makes their names durable.
pub fn create_folder(folder: &Path) -> Result<()> {
    create_durable_folder(folder, Access::Shared).doing(|| format!("making the folder `{}`", folder.display()))
}
