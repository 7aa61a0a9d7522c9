//! Who runs a flow: at most one process for a local state, and its name in words.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use millstream_core::{Error, Result, ResultExt};
use millstream_store::{Access, create_durable_folder};

/// The lock on a flow's state. The system ends it with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the flow whose state is in `folder`.
    ///
    /// # Errors
    /// If another process has it, which is named.
    pub fn take(folder: &Path, flow: &str) -> Result<Self> {
        let path = folder.join("owner");
        let doing = || format!("locking `{}`", path.display());
        create_durable_folder(folder, Access::Private).doing(doing)?;
        // Without truncation: until it is locked, the file is another's.
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = file.doing(doing)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                return Err(Error::new(format!(
                    "flow `{flow}` is being run by {}; stop that one first; to run it beside, take another state \
                     folder, and other places for its outputs",
                    owner.trim()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error).doing(doing),
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", name()));
        written.doing(doing)?;
        Ok(Self { _file: file })
    }
}

/// A name that no other state and no other run without state has.
///
/// # Errors
/// If the system gives no random number.
pub fn draw_incarnation() -> Result<String> {
    let number = getrandom::u64().map_err(|error| Error::new(format!("getting a random number: {error}")))?;
    Ok(format!("{number:016x}"))
}

/// This process in words.
pub fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "this machine" } else { host.trim() };
    format!("process {} on {host}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Lock::take(folder.path(), "fraud").expect("it is free");
        let error = Lock::take(folder.path(), "fraud").expect_err("it is taken").to_string();
        let expected = format!("flow `fraud` is being run by {}; stop that one first", name());
        assert!(error.starts_with(&expected), "{error}");
        drop(first);
        Lock::take(folder.path(), "fraud").expect("it is free again");
    }
}
