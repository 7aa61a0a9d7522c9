//! Replaces a file of a log as a whole.

use std::io;
use std::path::Path;

use crate::files::{is_missing, parent};
use crate::{Access, Files, NewFile};

/// Writes a file under a hidden name, and gives it its own when its bytes are durable, which its name need not be. Another of
/// that name is there until then.
pub fn replace(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn NewFile>> {
    let hidden = parent(path).join(".next");
    let fill = || -> io::Result<Box<dyn NewFile>> {
        // Left by a crash. Its name may be used again, but not the file.
        match files.remove(&hidden) {
            Err(error) if !is_missing(&error) => return Err(error),
            _ => {}
        }
        let mut file = files.create_new(&hidden, Access::Private)?;
        file.append(bytes)?;
        file.sync()?;
        files.rename(&hidden, path)?;
        Ok(file)
    };
    let filled = fill();
    if filled.is_err() {
        // It may be the disk that is full.
        let _ = files.remove(&hidden);
    }
    filled
}
