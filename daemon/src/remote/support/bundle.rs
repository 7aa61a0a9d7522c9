//! The files of a support bundle, and the archive that they are written to.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chrono::Utc;
use flate2::Compression;
use flate2::write::GzEncoder;
use millstream_core::{Result, ResultExt as _};
use serde_json::Value as Json;
use tar::{Builder, Header};

use super::redact::{redacted, redacted_json};

/// The folder that the files are in.
const FOLDER: &str = "millstream-support";

/// The file that says what is missing.
const MISSING: &str = "missing.txt";

/// What is put together. Nothing that is known to be secret is in it.
#[derive(Default)]
pub struct Bundle {
    files: Vec<(String, Content)>,
    missing: Vec<String>,
}

/// What is in a file.
enum Content {
    Text(String),
    Json(Json),
}

impl Content {
    /// As it may be given away.
    fn redacted(&self) -> String {
        match self {
            Self::Text(text) => redacted(text),
            Self::Json(json) => format!("{:#}\n", redacted_json(json.clone())),
        }
    }
}

impl Bundle {
    /// Adds a text.
    pub fn add(&mut self, name: &str, text: String) {
        self.files.push((name.to_owned(), Content::Text(text)));
    }

    /// Adds JSON.
    pub fn add_json(&mut self, name: &str, json: Json) {
        self.files.push((name.to_owned(), Content::Json(json)));
    }

    /// Notes what is not there, and why.
    pub fn lacks(&mut self, name: &str, why: &str) {
        self.missing.push(redacted(&format!("{name}: {why}")));
    }

    /// The names of the files.
    pub fn names(&self) -> Vec<&str> {
        self.files.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// What is not there, and why.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Writes the archive to a file that was not there, for its user only. Returns its length.
    pub fn write(&self, path: &Path) -> Result<u64> {
        let doing = || format!("writing `{}`", path.display());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).doing(doing)?;
        let mut archive = Builder::new(GzEncoder::new(file, Compression::default()));
        let missing = (MISSING.to_owned(), Content::Text(self.missing.join("\n") + "\n"));
        // Only now, since all that is secret is known.
        for (name, content) in self.files.iter().chain([&missing]) {
            let text = content.redacted();
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(Utc::now().timestamp().unsigned_abs());
            archive.append_data(&mut header, format!("{FOLDER}/{name}"), text.as_bytes()).doing(doing)?;
        }
        let mut file = archive.into_inner().and_then(GzEncoder::finish).doing(doing)?;
        file.flush().doing(doing)?;
        Ok(file.metadata().doing(doing)?.len())
    }
}
