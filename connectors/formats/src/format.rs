//! The formats there are, and what a file's name says about them.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

/// How bytes stand for rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "FormatName")]
#[schemars(with = "FormatName")]
pub enum Format {
    /// Comma-separated values, RFC 4180.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, the file format.
    Arrow,
}

/// The words that settings have for the formats.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Format")]
enum FormatName {
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// Another name for `ndjson`.
    Json,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC files, also known as Feather 2.
    Arrow,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Csv => Self::Csv,
            FormatName::Ndjson | FormatName::Json => Self::Ndjson,
            FormatName::Parquet => Self::Parquet,
            FormatName::Arrow => Self::Arrow,
        }
    }
}

impl Format {
    /// The word in settings, which is also the extension of the files that Millstream names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Whether the bytes are text, which can be compressed as a whole and appended to.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Ndjson)
    }
}

/// How the bytes of a text format are packed. Parquet and Arrow files compress inside.
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
    /// The extension behind the format's.
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
            "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
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
        assert_eq!(kind("b.json.bz2"), (Some(Format::Ndjson), Some(Compression::Bzip2), false));
        assert_eq!(kind("b.parquet"), (Some(Format::Parquet), None, false));
        assert_eq!(kind("b.arrow"), (Some(Format::Arrow), None, false));
        assert_eq!(kind("gz"), (None, None, false));
        assert_eq!(kind("folder.csv/data"), (None, None, false));
    }

    #[test]
    fn json_is_another_name_for_ndjson() {
        let format: Format = serde_json::from_str("\"json\"").expect("a format");
        assert_eq!(format, Format::Ndjson);
        assert!(serde_json::from_str::<Format>("\"xml\"").is_err());
    }
}
