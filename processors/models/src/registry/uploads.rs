//! Files that clients have uploaded: what versions are made of.
//!
//! ```text
//! uploads+/2f64/6d2e6f6e6e78      the parts of a path in hexadecimal, so that any name is a key, and none is that of a model
//! ```

use std::fmt::Write as _;

use millstream_core::{Error, Result};

use super::ModelRegistry;

/// What their keys begin with. No model can be called so.
const FOLDER: &str = "uploads+/";

/// How many parts a path may have, and how many bytes each.
const MOST_PARTS: usize = 16;
const LONGEST_PART: usize = 100;

impl ModelRegistry {
    /// Keeps a file under a path, in the place of the one that was there.
    ///
    /// # Errors
    /// If it is no path, or the registry can't be written.
    pub fn upload(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let key = key(path)?;
        while !self.store.put_new(&key, bytes)? {
            self.store.delete(&key)?;
        }
        Ok(())
    }

    /// An uploaded file, if there is one under this path.
    ///
    /// # Errors
    /// If it is no path, or the registry can't be read.
    pub fn uploaded(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.store.get(&key(path)?)
    }

    /// The paths of the files below a folder, as they go on behind its own.
    ///
    /// # Errors
    /// If it is no path, or the registry can't be read.
    pub fn uploads(&self, folder: &str) -> Result<Vec<String>> {
        let folder = format!("{}/", key(folder)?);
        let keys = self.store.list(&folder)?;
        Ok(keys.iter().filter_map(|key| path(key.strip_prefix(&folder)?)).collect())
    }
}

fn key(path: &str) -> Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_part = |part: &&str| part.len() <= LONGEST_PART && *part != "." && *part != "..";
    if parts.is_empty() || parts.len() > MOST_PARTS || !parts.iter().all(is_part) {
        return Err(Error::new(format!(
            "a path has 1 to {MOST_PARTS} names of up to {LONGEST_PART} bytes with `/` between them, and no `..`"
        )));
    }
    let parts: Vec<String> = parts.into_iter().map(in_hexadecimal).collect();
    Ok(format!("{FOLDER}{}", parts.join("/")))
}

fn in_hexadecimal(part: &str) -> String {
    part.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The path of a key.
fn path(key: &str) -> Option<String> {
    let part = |part: &str| {
        let pairs = part.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        String::from_utf8(bytes.collect::<Option<_>>()?).ok()
    };
    Some(key.split('/').map(part).collect::<Option<Vec<_>>>()?.join("/"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::registry;

    #[test]
    fn uploads_are_found_by_their_paths_and_are_no_models() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        for (path, bytes) in [
            ("runs/1/model.onnx", "a"),
            ("/runs/1/größe/.version.json", "b"),
            ("runs/12", "c"),
            ("runs/1/model.onnx", "d"),
        ] {
            registry.upload(path, bytes.as_bytes()).unwrap();
        }
        assert_eq!(registry.uploaded("runs//1/model.onnx").unwrap().unwrap(), b"d");
        assert_eq!(registry.uploads("runs/1").unwrap(), ["größe/.version.json", "model.onnx"]);
        assert_eq!(registry.uploaded("runs/2").unwrap(), None);
        assert!(registry.models().unwrap().is_empty());
        for wrong in ["", "/", "../x", "a/../b", "a/.", &"x".repeat(101), &"a/".repeat(17)] {
            let error = registry.upload(wrong, b"x").unwrap_err().to_string();
            assert!(error.starts_with("a path has 1 to 16 names"), "{wrong}: {error}");
        }
    }
}
