//! Files that are written beside their place under a hidden name, and moved there when they are whole.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result, ResultExt};
use millstream_formats::{BatchWriter, WRITE_ROWS, WriteOptions};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// How many links lead to a file at most, as in the kernel.
const MAX_LINKS: usize = 40;

/// What others may do with a file, not what kind of file it is.
const MODE: u32 = 0o7777;

/// A file that is being written.
pub struct Staged {
    /// Where it will be.
    pub path: PathBuf,
    writer: Box<dyn BatchWriter<BufWriter<File>>>,
    /// How many rows were written.
    pub rows: usize,
    /// Those of the file that will be replaced.
    permissions: Option<Permissions>,
}

impl Staged {
    /// Starts a file that will be at `path`. With `append_to`, its bytes come first.
    pub fn start(path: PathBuf, options: WriteOptions, schema: &SchemaRef, append_to: Option<&Path>) -> Result<Self> {
        let part = part(&path);
        let creating = || format!("creating `{}`", part.display());
        let mut file = File::create(&part).doing(creating)?;
        let permissions = fs::metadata(&path).ok().map(|old| old.permissions());
        if let Some(permissions) = &permissions {
            // What is private stays so while it is written; and a run after a crash can write it anew.
            let writable = Permissions::from_mode(permissions.mode() & MODE | 0o200);
            file.set_permissions(writable).doing(creating)?;
        }
        if let Some(old) = append_to {
            let copied = File::open(old).and_then(|mut old| std::io::copy(&mut old, &mut file));
            copied.doing(|| format!("copying `{}`", old.display()))?;
        }
        let writer = options.open(BufWriter::with_capacity(1 << 18, file), schema);
        Ok(Self { writer: writer.doing(|| format!("writing `{}`", path.display()))?, path, rows: 0, permissions })
    }

    /// Writes the first of these rows, at most `most` and only as far as [`Staged::bytes`] stands still. Returns how
    /// many.
    pub fn write(&mut self, rows: &RecordBatch, most: usize) -> Result<usize> {
        let until_block_ends = WRITE_ROWS - self.rows % WRITE_ROWS;
        let count = rows.num_rows().min(most).min(until_block_ends);
        self.writer.write(&rows.slice(0, count)).doing(|| format!("writing `{}`", self.path.display()))?;
        self.rows += count;
        Ok(count)
    }

    /// How many bytes the rows have come to, without those of the last few.
    pub fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Ends the file and makes it durable under its hidden name.
    pub fn finish(self) -> Result<Whole> {
        let doing = || format!("writing `{}`", self.path.display());
        let file = self.writer.finish().doing(doing)?.into_inner().map_err(|error| error.into_error()).doing(doing)?;
        file.sync_all().doing(doing)?;
        Ok(Whole { part: part(&self.path), path: self.path, permissions: self.permissions, is_published: false })
    }
}

/// A file that is whole, and hidden until it is published.
pub struct Whole {
    /// Where it will be, or is.
    pub path: PathBuf,
    part: PathBuf,
    permissions: Option<Permissions>,
    is_published: bool,
}

impl Whole {
    /// Moves the file to its place, if it is not there yet. Returns false if another file is in its way, which only
    /// `replace` puts away.
    pub fn publish(&mut self, replace: bool) -> Result<bool> {
        if self.is_published {
            return Ok(true);
        }
        let doing = || format!("moving `{}` to its place", self.part.display());
        if let Some(permissions) = &self.permissions {
            fs::set_permissions(&self.part, permissions.clone()).doing(doing)?;
        }
        let moved = if replace { fs::rename(&self.part, &self.path) } else { rename_new(&self.part, &self.path) };
        match moved {
            Err(error) if !replace && error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
            other => other.doing(doing)?,
        }
        self.is_published = true;
        Ok(true)
    }

    /// Removes the file, unless it was published.
    pub fn discard(&self) -> Result<()> {
        if self.is_published { Ok(()) } else { remove(&self.part) }
    }
}

/// Renames a file to a name that nothing has.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems, such as NFS, can't look and rename in one step.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if is_there(to) => Err(Errno::EXIST.into()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(from, to),
        other => Ok(other?),
    }
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

/// The hidden name of a file that is not whole yet.
pub fn part(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or(OsStr::new("file"));
    path.with_file_name(format!(".{}.part", name.to_string_lossy()))
}

/// Removes a file. Harmless if there is none.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).doing(|| format!("writing to `{}`", folder.display()))
}
