//! Bytes that nobody has meant well with: every decoder refuses or reads them, soon and in bounded memory.
//!
//! Each is given random bytes, and what is valid with damages. The same seed gives the same; the nightly run takes another seed each time,
//! and prints it.
#![allow(clippy::disallowed_methods, reason = "how long it goes on is no result")]
#![allow(clippy::print_stdout, reason = "the test harness shows it")]

use std::time::{Duration, Instant};

use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message as _;

use super::avro::{reader, unhex};
use super::protobuf::{format, message};
use super::random::Random;
use super::*;

/// How long any one input may take, with much to spare for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Decodes what `make` makes until the time is over.
fn decode_for(time: Duration, seed: u64, mut make: impl FnMut(&mut Random) -> Vec<u8>, mut decode: impl FnMut(&[u8])) {
    let (start, mut random) = (Instant::now(), Random(seed));
    while start.elapsed() < time {
        let before = random.0;
        let bytes = make(&mut random);
        let begin = Instant::now();
        decode(&bytes);
        assert!(begin.elapsed() < PATIENCE, "{} bytes of seed {before} took {:?}", bytes.len(), begin.elapsed());
    }
}

/// Random bytes, or something valid with damages.
fn damaged(valid: &[Vec<u8>]) -> impl FnMut(&mut Random) -> Vec<u8> + '_ {
    move |random: &mut Random| {
        if random.below(4) == 0 {
            return random.bytes(200);
        }
        let mut bytes = valid[random.below(valid.len() as u64) as usize].clone();
        random.damage(&mut bytes);
        bytes
    }
}

/// Reads a message, which is one row or one that is refused.
fn read_message(reader: &mut dyn MessageReader, bytes: &[u8]) {
    let mut out = Rows::default();
    reader.decode(&[Some(bytes)], &mut out).unwrap();
    assert_eq!(out.len(), 1);
}

fn avro_messages(time: Duration, seed: u64) {
    let cases: Vec<Value> = include_str!("../../tests/data/random_avro.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut readers: Vec<_> = cases
        .iter()
        .map(|case| {
            let format = json!({ "type": "avro", "schema": case["schema"].to_string() });
            (reader(format, None).unwrap(), vec![unhex(case["message"].as_str().unwrap())])
        })
        .collect();
    let share = time / readers.len() as u32;
    for (reader, valid) in &mut readers {
        decode_for(share, seed, damaged(valid), |bytes| read_message(&mut **reader, bytes));
    }
}

fn protobuf_messages(time: Duration, seed: u64) {
    let pool = DescriptorPool::decode(&include_bytes!("../../tests/data/everything.binpb")[..]).unwrap();
    let of = pool.get_message_by_name("test.Everything").unwrap();
    let valid: Vec<_> = (0..50).map(|seed| message(&mut Random(seed), &of, 3).encode_to_vec()).collect();
    let mut reader = reader(format("test.Everything"), None).unwrap();
    decode_for(time, seed, damaged(&valid), |bytes| read_message(&mut *reader, bytes));
}

fn text_messages(time: Duration, seed: u64, format: &str, valid: &[&str]) {
    let format: Format<ReadMessages> = serde_json::from_value(json!(format)).unwrap();
    let columns = columns("a:int64?;b:utf8?;c:timestamp?;d:float64?");
    let mut reader = format.reader(&columns, &millstream_testkit::context()).unwrap();
    let valid: Vec<_> = valid.iter().map(|text| text.as_bytes().to_vec()).collect();
    decode_for(time, seed, damaged(&valid), |bytes| read_message(&mut *reader, bytes));
}

const JSON: &[&str] = &[
    r#"{"a": 12, "b": "x\u00e4\n", "c": "2026-01-31T12:00:00Z", "d": 1.5e10, "e": [{"f": [1, null]}]}"#,
    r#" {"b": {"x": 1}, "a": "7"} "#,
];

const CSV: &[&str] = &["12,\"x\"\"y\nz\",2026-01-31T12:00:00Z,1.5", "1,2,,3\r\n"];

/// Reads files of a format, which are whole or damaged.
fn files(time: Duration, seed: u64, name: &str) {
    let folder = Folder::new();
    let valid = [write(name, &sample(), 9)];
    decode_for(time, seed, damaged(&valid), |bytes| {
        let path = folder.file(name, bytes);
        let Ok(found) = inspect(&path) else { return };
        let decoder = Decoder { format: format_of(&path), ..decoder_of("csv", found.columns) };
        let Ok(mut reader) = decoder.open(&path) else { return };
        let mut rows = Rows::default();
        while reader.next(&mut rows).is_ok_and(|more| more) && rows.len() < 1 << 20 {
            rows = Rows::default();
        }
    });
}

#[test]
fn messages_of_avro() {
    avro_messages(Duration::from_secs(1), 1);
}

#[test]
fn messages_of_protobuf() {
    protobuf_messages(Duration::from_secs(1), 1);
}

#[test]
fn files_of_avro() {
    files(Duration::from_secs(1), 1, "a.avro");
}

/// Another seed each time.
fn nightly() -> (Duration, u64) {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    (Duration::from_secs(60), seed)
}

#[test]
#[ignore = "takes a minute"]
fn nightly_avro_messages() {
    let (time, seed) = nightly();
    avro_messages(time, seed);
}

#[test]
#[ignore = "takes a minute"]
fn nightly_protobuf_messages() {
    let (time, seed) = nightly();
    protobuf_messages(time, seed);
}

#[test]
#[ignore = "takes a minute"]
fn nightly_json_messages() {
    let (time, seed) = nightly();
    text_messages(time, seed, "json", JSON);
}

#[test]
#[ignore = "takes a minute"]
fn nightly_csv_messages() {
    let (time, seed) = nightly();
    text_messages(time, seed, "csv", CSV);
}

#[test]
#[ignore = "takes a minute"]
fn nightly_avro_files() {
    let (time, seed) = nightly();
    files(time, seed, "a.avro");
}

#[test]
#[ignore = "takes a minute"]
fn nightly_parquet_files() {
    let (time, seed) = nightly();
    files(time, seed, "a.parquet");
}

#[test]
#[ignore = "takes a minute"]
fn nightly_arrow_files() {
    let (time, seed) = nightly();
    files(time, seed, "a.arrow");
}
