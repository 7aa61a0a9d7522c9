//! Formats: bytes to batches and back.
//!
//! * [`FORMATS`] lists them. Each is a file of this crate, with its settings, its reader and its writer.
//! * [`Format`] is the setting `format` of inputs and outputs, for one of seven purposes: [`ReadFiles`], [`ReadStreams`],
//!   [`ReadBodies`], [`ReadMessages`], [`WriteFiles`], [`WriteStreams`], [`WriteMessages`].
//! * A [`Decoder`] comes of it, which opens a [`BatchReader`] of a source. That yields [`Rows`]: batches in canonical types and, of text
//!   formats, the rows that could not be read. A bad row costs only itself. Or it splits off [`Part`]s, for several threads to decode.
//! * Or a [`MessageReader`], of messages each of which is a row; they may be [`Framed`] with the schema that they have in a registry.
//! * Or a [`WriteMessageFormat`], which opens a [`MessageWriter`].
//! * Or [`WriteOptions`], which open a [`FileWriter`]; or an [`Encoder`] for a stream without an end.
//! * [`FileKind`] and [`Compression`]: what a file's name says about its bytes.

mod avro;
mod columns;
mod compressor;
mod csv;
mod encoding;
mod fields;
mod filter;
mod grok;
mod infer;
mod ipc;
mod ipc_stream;
mod json;
mod key_value;
mod kind;
mod lines;
mod message_lines;
mod messages;
mod metadata;
mod name;
mod parquet;
mod part;
mod pieces;
mod plain_lines;
mod protobuf;
mod raw;
mod read;
mod reader;
mod records;
mod reference;
mod refusal;
mod regex;
mod registered;
mod rows;
mod setting;
mod spare;
mod table;
mod text;
mod window;
mod write;
mod xml;

pub(crate) use encoding::TextEncoding;
pub use encoding::text_of;
pub use filter::Filter;
pub use kind::FormatKind;
pub use messages::{MessageReader, MessageWriter, Payloads, SchemaChanges, WriteMessageFormat};
pub use metadata::{Metadata, MetadataColumns, headers_column, headers_type};
pub use name::{Compression, FileKind};
pub use part::Part;
pub use read::{ColumnsIn, Decoder, Found, Names, Needed, Preamble, ReadFormat, ReadMode};
pub use reader::{BatchReader, ReaderPosition, RowGroups};
pub use reference::FormatUse;
pub use registered::{Framed, ImportedSchema, RegisteredSchema, SchemaId, SchemaKind, WrittenSchema};
pub use rows::{BadRow, Rows, SiftedRows};
pub use setting::{
    Format, MessageReaders, Purpose, ReadBodies, ReadFiles, ReadMessages, ReadStreams, WriteFiles, WriteMessages,
    WriteStreams,
};
pub use text::TextValues;
pub use window::{MAX_ROW_BYTES, Seekable, decompress, ends_with_line_break};
pub use write::{Encoder, FileWriter, Header, WRITE_ROWS, WriteFormat, WriteOptions};

/// All formats, in the order in which they are shown.
#[rustfmt::skip]
pub static FORMATS: &[FormatKind] = &[
    csv::FORMAT,
    json::NDJSON,
    json::JSON,
    parquet::FORMAT,
    ipc::FORMAT,
    avro::FORMAT,
    protobuf::FORMAT,
    raw::FORMAT,
    plain_lines::FORMAT,
    regex::FORMAT,
    grok::FORMAT,
    key_value::FORMAT,
    xml::FORMAT,
    table::FORMAT,
];

#[cfg(test)]
mod tests;
