//! Bytes to batches and back: CSV, NDJSON, JSON, Parquet and Arrow IPC, the text formats also compressed.
//!
//! * [`FileKind`] and [`Format`], [`Compression`]: what a file's name says about its bytes.
//! * [`inspect`]: the columns of a file, from its metadata or from a sample of its rows.
//! * [`ReadOptions`] opens a [`BatchReader`], which yields [`Rows`]: batches in canonical types and, of the text
//!   formats, the rows that could not be read. A bad row costs only itself.
//! * [`JsonDecoder`]: JSON documents that arrive one by one, such as messages.
//! * [`WriteOptions`] opens a [`BatchWriter`]; [`encode_csv`], [`encode_ndjson`] and [`encode_json`] are for streams without an end.

mod csv;
mod encoding;
mod format;
mod header;
mod infer;
mod inspect;
mod ipc;
mod json;
mod parquet;
mod pieces;
mod pretty;
mod read;
mod records;
mod rows;
mod split;
mod text;
mod window;
mod write;

pub use csv::{CsvOptions, check_header, csv_header};
pub use encoding::TextEncoding;
pub use format::{Compression, FileKind, Format};
pub use inspect::{Found, InspectOptions, inspect};
pub use json::JsonDecoder;
pub use pretty::encode_json;
pub use read::{BatchReader, Mark, Pace, ReadOptions};
pub use rows::{BadRow, Rows};
pub use split::CellLimit;
pub use text::{MomentFormat, Moments, Timezone, parse_timezone};
pub use window::{MAX_ROW_BYTES, decompress, ends_with_line_break};
pub use write::{BatchWriter, WRITE_ROWS, WriteOptions, encode_csv, encode_ndjson, nested_column};

#[cfg(test)]
mod tests;
