//! What a file's name says about its bytes.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::FORMATS;
use crate::kind::FormatKind;

/// How the bytes of a text format are compressed. Parquet and Arrow files compress inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip, `.gz`.
    Gzip,
    /// Zstandard, `.zst`.
    Zstd,
    /// bzip2, `.bz2`.
    Bzip2,
}

impl Compression {
    /// The extension of a compressed file, which follows that of the format.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Zstd => "zst",
            Self::Bzip2 => "bz2",
        }
    }

    fn of(extension: &str) -> Option<Self> {
        [Self::Gzip, Self::Zstd, Self::Bzip2].into_iter().find(|compression| compression.extension() == extension)
    }
}

/// What a file's name says about its bytes.
#[derive(Clone, Debug)]
pub struct FileKind {
    /// The format, if the extension is a known one.
    pub format: Option<&'static FormatKind>,
    /// The compression, if the last extension is a known one.
    pub compression: Option<Compression>,
    /// The extension that stands for the format, in small letters.
    pub ending: String,
}

impl FileKind {
    /// Reads the extensions of a path: that of a format, such as `a.csv`, with `.gz`, `.zst` or `.bz2` behind it. Capital letters
    /// count as small ones.
    pub fn of(path: impl AsRef<Path>) -> Self {
        let name = path.as_ref().file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
        let name = name.unwrap_or_default();
        let (stem, last) = name.rsplit_once('.').unwrap_or((&name, ""));
        let compression = Compression::of(last);
        let ending = match compression {
            Some(_) => stem.rsplit_once('.').map_or("", |(_, extension)| extension),
            None => last,
        };
        let format = FORMATS.iter().find(|kind| kind.endings.contains(&ending));
        Self { format, compression, ending: ending.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_format_and_compression() {
        let kind = |name| {
            let FileKind { format, compression, ending } = FileKind::of(name);
            (format.map(|format| format.name), compression, ending == "tsv")
        };
        assert_eq!(kind("a/b.csv"), (Some("csv"), None, false));
        assert_eq!(kind("b.TSV.gz"), (Some("csv"), Some(Compression::Gzip), true));
        assert_eq!(kind("b.2024.jsonl.zst"), (Some("ndjson"), Some(Compression::Zstd), false));
        assert_eq!(kind("b.json.bz2"), (Some("json"), Some(Compression::Bzip2), false));
        assert_eq!(kind("b.parquet"), (Some("parquet"), None, false));
        assert_eq!(kind("b.arrow"), (Some("arrow"), None, false));
        assert_eq!(kind("gz"), (None, None, false));
        assert_eq!(kind("folder.csv/data"), (None, None, false));
    }
}
