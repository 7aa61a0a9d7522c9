//! Bytes that nobody has meant well with: every decoder refuses or reads them, soon and in bounded memory.

use millstream_testkit::{Hostile, Random};
use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message as _;

use super::avro::{reader, unhex};
use super::protobuf::{format, message};
use super::*;

/// Reads a message, which is one row or one that is refused.
fn read_message(reader: &mut dyn MessageReader, bytes: &[u8]) {
    let mut out = Rows::default();
    reader.decode(&[Some(bytes)], &mut out).unwrap();
    assert_eq!(out.len(), 1);
}

/// The schemas and messages that a library of Avro has made, at random.
fn random_avro() -> Vec<Value> {
    let lines = include_str!("../../tests/data/random_avro.ndjson").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn messages_of_avro() {
    let cases = random_avro();
    for case in &cases {
        let format = json!({ "type": "avro", "schema": case["schema"].to_string() });
        let mut reader = reader(format, None).unwrap();
        let valid = unhex(case["message"].as_str().unwrap());
        Hostile::new([valid]).among(cases.len()).attack(|bytes| read_message(&mut *reader, bytes));
    }
}

#[test]
fn messages_of_protobuf() {
    let pool = DescriptorPool::decode(&include_bytes!("../../tests/data/everything.binpb")[..]).unwrap();
    let of = pool.get_message_by_name("test.Everything").unwrap();
    let valid = (0..50).map(|seed| message(&mut Random(seed), &of, 3).encode_to_vec());
    let mut reader = reader(format("test.Everything"), None).unwrap();
    Hostile::new(valid).attack(|bytes| read_message(&mut *reader, bytes));
}

fn text_messages(format: Value, valid: &[&str]) {
    let format: Format<ReadMessages> = serde_json::from_value(format).unwrap();
    let columns = columns("a:int64?;b:utf8?;c:timestamp?;d:float64?");
    let mut reader = format.reader(&columns, &millstream_testkit::context()).unwrap();
    Hostile::new(valid.iter().copied()).attack(|bytes| read_message(&mut *reader, bytes));
}

#[test]
fn messages_of_json() {
    let object = r#"{"a": 12, "b": "x\u00e4\n", "c": "2026-01-31T12:00:00Z", "d": 1.5e10, "e": [{"f": [1, null]}]}"#;
    text_messages(json!("json"), &[object, r#" {"b": {"x": 1}, "a": "7"} "#]);
}

#[test]
fn messages_of_csv() {
    text_messages(json!("csv"), &["12,\"x\"\"y\nz\",2026-01-31T12:00:00Z,1.5", "1,2,,3\r\n"]);
}

#[test]
fn messages_of_xml() {
    let element = r#"<?xml version="1.0"?><r a="12"><b>x &amp; &#228;<![CDATA[<y>]]></b><c>2026-01-31T12:00:00Z</c><d>1.5</d></r>"#;
    text_messages(json!("xml"), &[element, "<r><a>1</a><a>2</a></r>"]);
}

#[test]
fn messages_of_keys_and_values() {
    text_messages(json!("key_value"), &[r#"a=12 b="x \" y" c=2026-01-31T12:00:00Z d=1.5"#, "a=1 a=2 b="]);
}

#[test]
fn messages_that_name_their_schemas() {
    let format: Format<ReadMessages> = serde_json::from_value(json!("avro")).unwrap();
    let columns = columns("id:int64;name:utf8?");
    let context = millstream_testkit::context();
    let mut reader = format.framed_reader(None, &columns, SchemaChanges::Evolve, &context).unwrap();
    let fields = r#"[{ "name": "id", "type": "int" }, { "name": "name", "type": ["null", "string"] }]"#;
    let schema = format!(r#"{{ "type": "record", "name": "r", "fields": {fields} }}"#);
    let schema = RegisteredSchema { schema, references: Vec::new() };
    reader.add_schema(SchemaId::Number(7), Some(&schema)).unwrap();
    Hostile::new([&b"\0\0\0\0\x07\x0e\x02\x02a"[..], b"\0\0\0\0\x08\x0e"]).attack(|bytes| {
        let mut out = Rows::default();
        reader.decode_framed(&[Framed::of(bytes, None).ok()], &mut out).unwrap();
        let _ = Framed::of(b"whole", Some(bytes)).map(|framed| framed.schema.to_string());
        assert_eq!(out.len(), 1);
    });
}

/// What a registry answers, and may name as schemas.
#[test]
fn schemas_of_a_registry() {
    let format: Format<ReadMessages> = serde_json::from_value(json!("avro")).unwrap();
    let context = millstream_testkit::context();
    let own = columns("id:int64;name:utf8?");
    let cases = random_avro();
    Hostile::new(cases.iter().map(|case| case["schema"].to_string())).attack(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let mut reader = format.framed_reader(None, &own, SchemaChanges::Evolve, &context).unwrap();
        let schema = RegisteredSchema { schema: text.to_owned(), references: vec![text.to_owned()] };
        reader.add_schema(SchemaId::Number(1), Some(&schema)).unwrap();
    });
}

/// Reads files of a format, which are whole or damaged.
fn files(name: &str) {
    let folder = Folder::new();
    let valid = write(name, &sample(), 9);
    Hostile::new([valid]).attack(|bytes| {
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
fn files_of_avro() {
    files("a.avro");
}

#[test]
fn files_of_parquet() {
    files("a.parquet");
}

#[test]
fn files_of_arrow() {
    files("a.arrow");
}
