//! Bodies that nobody has meant well with: they are refused, or so many rows as was promised to who sent them.

use millstream_formats::{Format, ReadBodies, Rows, WriteFiles, WriteOptions};
use millstream_testkit::{Hostile, context, table};
use serde_json::json;

use crate::push::contents::{Contents, Streams};
use crate::push::formats::Decoders;

/// A body in a format.
fn body(format: &str) -> Vec<u8> {
    let rows = table("a:int64? b:utf8?\n1 x\nnull y\n3 null");
    let format = Format::<WriteFiles>::named(format).unwrap().write("").unwrap();
    let options = WriteOptions { format, compression: None, begins: true };
    let mut writer = options.open(Vec::new(), &rows.schema()).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap()
}

/// How many rows are read of a body that is a record of the log.
fn read(streams: &Streams, format: &str, bytes: &[u8], rows: usize) -> usize {
    let mut reader = streams.reader();
    reader.begin(streams.format(format).unwrap(), bytes, rows).unwrap();
    let (mut out, mut read) = (Rows::default(), 0);
    while reader.next(&mut out).unwrap() {
        assert_eq!(out.failed.len(), 0, "none of these was taken");
        read += std::mem::take(&mut out).len();
    }
    read
}

fn bodies(format: &str) {
    let own: Format<ReadBodies> = serde_json::from_value(json!("ndjson")).unwrap();
    let columns = serde_json::from_value(json!({ "a": "int64?", "b": "utf8?" })).unwrap();
    let streams = Streams::new(Decoders::new(&own, &columns, &context()).unwrap());
    let tag = || streams.format(format).unwrap();
    Hostile::new([body(format)]).attack(|bytes| {
        if let Ok(rows) = streams.count(tag(), bytes.to_vec()) {
            assert_eq!(read(&streams, format, bytes, rows), rows);
        }
    });
}

#[test]
fn bodies_of_csv() {
    bodies("csv");
}

#[test]
fn bodies_of_ndjson() {
    bodies("ndjson");
}

#[test]
fn bodies_of_json() {
    bodies("json");
}

#[test]
fn bodies_of_arrow() {
    bodies("arrow");
}

#[test]
fn bodies_of_avro() {
    bodies("avro");
}
