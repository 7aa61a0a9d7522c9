//! The formats there are, and what a file's name says about them.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

/// How bytes stand for rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values, RFC 4180.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// An array of JSON objects, or objects one behind the other, on as many lines as they take.
    Json,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, the file format.
    Arrow,
}

impl Format {
    /// The word in settings, which is also the extension of the files that Millstream names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Whether more rows can be written behind a file that is whole.
    pub fn can_grow(self) -> bool {
        matches!(self, Self::Csv | Self::Ndjson)
    }

    /// Whether the bytes are text, which can be compressed as a whole.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Ndjson | Self::Json)
    }
}

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
}

/// What a file's name says about its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileKind {
    /// The format, if the extension is a known one.
    pub format: Option<Format>,
    /// The compression, if the last extension is a known one.
    pub compression: Option<Compression>,
    /// Whether the cells are separated by tabs: `.tsv`.
    pub tabs: bool,
}

impl FileKind {
    /// Reads the extensions of a path: `a.csv`, `a.tsv`, `a.ndjson`, `a.jsonl`, `a.json`, `a.parquet`, `a.arrow`,
    /// with `.gz`, `.zst` or `.bz2` behind it. Capital letters count as small ones.
    pub fn of(path: impl AsRef<Path>) -> Self {
        let name = path.as_ref().file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
        let name = name.unwrap_or_default();
        let (stem, last) = name.rsplit_once('.').unwrap_or((&name, ""));
        let compression = match last {
            "gz" => Some(Compression::Gzip),
            "zst" => Some(Compression::Zstd),
            "bz2" => Some(Compression::Bzip2),
            _ => None,
        };
        let extension = match compression {
            Some(_) => stem.rsplit_once('.').map_or("", |(_, extension)| extension),
            None => last,
        };
        let format = match extension {
            "csv" | "tsv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            "json" => Some(Format::Json),
            "parquet" => Some(Format::Parquet),
            "arrow" => Some(Format::Arrow),
            _ => None,
        };
        Self { format, compression, tabs: extension == "tsv" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_format_and_compression() {
        let kind = |name| {
            let FileKind { format, compression, tabs } = FileKind::of(name);
            (format, compression, tabs)
        };
        assert_eq!(kind("a/b.csv"), (Some(Format::Csv), None, false));
        assert_eq!(kind("b.TSV.gz"), (Some(Format::Csv), Some(Compression::Gzip), true));
        assert_eq!(kind("b.2024.jsonl.zst"), (Some(Format::Ndjson), Some(Compression::Zstd), false));
        assert_eq!(kind("b.json.bz2"), (Some(Format::Json), Some(Compression::Bzip2), false));
        assert_eq!(kind("b.parquet"), (Some(Format::Parquet), None, false));
        assert_eq!(kind("b.arrow"), (Some(Format::Arrow), None, false));
        assert_eq!(kind("gz"), (None, None, false));
        assert_eq!(kind("folder.csv/data"), (None, None, false));
    }
}
