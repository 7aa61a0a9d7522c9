//! Every format both ways, with everything that can be wrong with a file.
#![allow(clippy::unwrap_used)]

mod avro;
mod binary;
mod csv;
mod fields;
mod files;
mod hostile;
mod inspection;
mod json;
mod messages;
mod protobuf;
mod reading;
mod settings;
mod strict;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use millstream_core::{ColumnType, Columns, Encoding};
use millstream_testkit::{rows_as_text, table};
use serde_json::{Value, json};

use crate::json::JsonDecoder;
use crate::text::Moments;
use crate::*;

const BATCH_ROWS: [usize; 3] = [1, 7, 8192];

fn columns(text: &str) -> Columns {
    let column = |column: &str| {
        let (name, kind) = column.split_once(':').unwrap();
        (name.trim().to_owned(), ColumnType::parse(kind).unwrap())
    };
    Columns(text.split(';').map(column).collect())
}

/// What reads a format with such settings: `"csv"`, or `{ "type": "csv" }`.
fn decoder_of(format: impl Into<Value>, columns: Columns) -> Decoder {
    let format: Format<ReadFiles> = serde_json::from_value(format.into()).unwrap();
    Decoder {
        filter: None,
        format: format.read("").unwrap(),
        compression: None,
        columns,
        wanted: None,
        batch_rows: 8192,
        names: Names::Any,
        read_mode: ReadMode::Bounded,
    }
}

fn wanting(decoder: Decoder, names: &[&str]) -> Decoder {
    Decoder { wanted: Some(names.iter().map(|name| (*name).to_owned()).collect()), ..decoder }
}

/// What a reader yields: positions of good rows, the rows as one batch, bad rows.
type All = (Vec<u64>, RecordBatch, Vec<BadRow>);

fn drain(mut reader: Box<dyn BatchReader>, batch_rows: usize) -> Result<All, String> {
    let mut rows = Rows::default();
    let mut seen = 0;
    while reader.next(&mut rows).map_err(|error| error.to_string())? {
        let total = rows.len();
        assert!(total - seen <= batch_rows, "{} rows in one batch of {batch_rows}", total - seen);
        seen = total;
    }
    Ok(all(rows, reader.schema()))
}

/// What a reader yields in parts that are decoded when all have been read, the last one first.
fn drain_parts(mut reader: Box<dyn BatchReader>) -> Result<All, String> {
    let message = |error: millstream_core::Error| error.to_string();
    let (mut parts, mut last) = (Vec::new(), reader.position());
    while let Some(part) = reader.split_off().map_err(message)? {
        assert_eq!((part.before, part.after), (last, reader.position()));
        last = part.after;
        parts.push(part);
    }
    let mut decoded = Vec::new();
    for part in parts.into_iter().rev() {
        let (before, after) = (part.before.position, part.after.position);
        let rows = part.decode().map_err(message)?;
        assert_eq!(rows.len() as u64, after - before);
        decoded.push(rows);
    }
    let mut rows = Rows::default();
    for part in decoded.into_iter().rev() {
        rows.batches.extend(part.batches);
        rows.failed.extend(part.failed);
    }
    Ok(all(rows, reader.schema()))
}

fn all(rows: Rows, schema: &SchemaRef) -> All {
    let positions = rows.batches.iter().flat_map(|(start, rows)| *start..*start + rows.num_rows() as u64).collect();
    let batches: Vec<_> = rows.batches.iter().map(|(_, rows)| rows).collect();
    let all = concat_batches(schema, batches).unwrap();
    assert!(rows.failed.is_sorted_by_key(|row| row.position));
    (positions, all, rows.failed)
}

/// Gives a few bytes at a time.
struct Dripping(Cursor<Vec<u8>>);

impl Read for Dripping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(5);
        self.0.read(&mut buffer[..most])
    }
}

/// Reads bytes in batches of any size, at once and dripping, which must all be the same.
fn read(bytes: &[u8], decoder: &Decoder) -> All {
    let mut results = Vec::new();
    for batch_rows in BATCH_ROWS {
        for read_mode in [ReadMode::Bounded, ReadMode::Streaming] {
            let decoder = Decoder { batch_rows, read_mode, ..decoder.clone() };
            let source = Cursor::new(bytes.to_vec());
            results.push(drain(decoder.read(source.clone()).unwrap(), batch_rows).unwrap());
            results.push(drain(decoder.read(Dripping(source)).unwrap(), batch_rows).unwrap());
        }
        let decoder = Decoder { batch_rows, ..decoder.clone() };
        results.push(drain_parts(decoder.read(Cursor::new(bytes.to_vec())).unwrap()).unwrap());
    }
    let first = results.remove(0);
    results.iter().for_each(|other| assert_eq!(*other, first));
    first
}

/// Has the bytes that were appended so far.
#[derive(Clone, Default)]
struct Growing(Arc<Mutex<VecDeque<u8>>>);

impl Growing {
    fn append(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend(bytes);
    }
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

fn text_of(rows: &RecordBatch) -> String {
    rows_as_text([rows])
}

fn bad(rows: &[BadRow]) -> Vec<(u64, &str, &str)> {
    rows.iter().map(|row| (row.position, row.row.as_str(), row.error.as_str())).collect()
}

fn csv(columns: &str) -> Decoder {
    decoder_of("csv", self::columns(columns))
}

fn ndjson(columns: &str) -> Decoder {
    decoder_of("ndjson", self::columns(columns))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// How the format is read that the name of a file says.
fn format_of(name: impl AsRef<Path>) -> ReadFormat {
    let FileKind { format, ending, .. } = FileKind::of(name);
    Format::<ReadFiles>::named(format.unwrap().name).unwrap().read(&ending).unwrap()
}

fn inspect(path: &Path) -> millstream_core::Result<Found> {
    format_of(path).inspect(path, FileKind::of(path).compression, 10_000)
}

/// Reads a file as its name and its bytes say.
fn read_file(path: &Path, wanted: Option<&[&str]>) -> Result<All, String> {
    let found = inspect(path).map_err(|error| error.to_string())?;
    let mut results = Vec::new();
    for batch_rows in BATCH_ROWS {
        let decoder = Decoder {
            format: format_of(path),
            compression: FileKind::of(path).compression,
            wanted: wanted.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>()),
            batch_rows,
            ..decoder_of("csv", found.columns.clone())
        };
        let open = || decoder.open(path).map_err(|error| error.to_string());
        results.push(drain(open()?, batch_rows)?);
        results.push(drain_parts(open()?)?);
    }
    assert!(results.iter().all(|result| *result == results[0]));
    Ok(results.remove(0))
}

/// How the files are written that have such a name.
fn write_options(name: &str) -> WriteOptions {
    let FileKind { format, compression, ending } = FileKind::of(name);
    let format = Format::<WriteFiles>::named(format.unwrap().name).unwrap().write(&ending).unwrap();
    WriteOptions { format, compression, begins: true }
}

fn write(name: &str, rows: &RecordBatch, cut: usize) -> Vec<u8> {
    let mut writer = write_options(name).open(Vec::new(), &rows.schema()).unwrap();
    for start in (0..rows.num_rows()).step_by(cut) {
        writer.write(&rows.slice(start, cut.min(rows.num_rows() - start))).unwrap();
    }
    writer.finish().unwrap()
}

fn sample() -> RecordBatch {
    table(
        "id:int64? amount:float64? name:utf8? at:timestamp? ok:boolean?
         1 2.5 Ada 2026-01-31T12:00:00Z true
         2 null say\"hi\" 2026-01-31T12:00:00.000001Z false
         3 -1e-7 ä null null
         null 4.0 x,y 1969-12-31T23:59:59Z true",
    )
}

/// A Parquet or Arrow file that another program might have written.
fn foreign(folder: &Folder, name: &str, rows: &RecordBatch) -> PathBuf {
    let mut bytes = Vec::new();
    if name.ends_with("parquet") {
        let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
    } else {
        let options = arrow::ipc::writer::IpcWriteOptions::default();
        let options = options.try_with_compression(Some(arrow::ipc::CompressionType::ZSTD)).unwrap();
        let schema = rows.schema();
        let mut writer = arrow::ipc::writer::FileWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
        writer.write(rows).unwrap();
        writer.finish().unwrap();
    }
    folder.file(name, bytes)
}
