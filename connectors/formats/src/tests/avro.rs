//! Avro: what others have written, schemas that have changed, and files.

use super::*;
use crate::avro::AvroSchema;

/// What reads messages of a schema into columns, or into those that the schema has.
pub(super) fn reader(format: Value, columns: Option<&str>) -> Result<Box<dyn MessageReader>, String> {
    let format: Format<ReadMessages> = serde_json::from_value(format).unwrap();
    let context = millstream_testkit::context();
    let columns = match columns {
        Some(columns) => self::columns(columns),
        None => format.columns(&context).map_err(|problem| problem.to_string())?.unwrap(),
    };
    format.reader(&columns, &context).map_err(|problem| problem.to_string())
}

pub(super) fn decode(reader: &mut dyn MessageReader, messages: &[&[u8]]) -> (String, Vec<(u64, String)>) {
    let mut out = Rows::default();
    let messages: Vec<_> = messages.iter().copied().map(Some).collect();
    reader.decode(&messages, &mut out).unwrap();
    let (_, rows, failed) = all(out, reader.schema());
    (text_of(&rows), failed.into_iter().map(|bad| (bad.position, bad.error)).collect())
}

fn avro(schema: &Value) -> Value {
    json!({ "type": "avro", "schema": schema.to_string() })
}

fn record(fields: Value) -> Value {
    json!({ "type": "record", "name": "r", "fields": fields })
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|place| u8::from_str_radix(&text[place..place + 2], 16).unwrap()).collect()
}

#[test]
fn records_that_fastavro_has_written_are_read() {
    let cases = include_str!("../../tests/data/random_avro.ndjson");
    for (number, case) in cases.lines().enumerate() {
        let case: Value = serde_json::from_str(case).unwrap();
        let text = |key: &str| case[key].as_str().unwrap();
        let schema = AvroSchema::parse(&case["schema"].to_string()).unwrap();
        let fingerprint: String = schema.fingerprint().to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(fingerprint, text("fingerprint"), "{number}");
        let message = unhex(text("message"));
        let mut reader = reader(avro(&case["schema"]), None).unwrap();
        let mut out = Rows::default();
        reader.decode(&[Some(&message), Some(&[&message[..], b"\0"].concat())], &mut out).unwrap();
        assert_eq!(out.batches.len(), 1, "{number}: {:?}", out.failed);
        let mut row = Vec::new();
        millstream_core::write_json(&out.batches[0].1, &mut row).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&row).unwrap(), case["row"], "{number}");
        let error = "no valid Avro: there are 1 bytes behind what the schema says";
        assert_eq!(out.failed.iter().map(|bad| bad.error.as_str()).collect::<Vec<_>>(), [error]);
    }
}

#[test]
fn columns_come_from_the_schema_or_from_the_flow() {
    let schema = record(json!([
        { "name": "id", "type": "long" },
        { "name": "note", "type": ["null", "string"] },
        { "name": "tags", "type": { "type": "map", "values": "int" } },
        { "name": "mixed", "type": ["null", "int", "string"] },
    ]));
    // 7, "ab", { x: 3 }, the text "y"
    let message = [14, 2, 4, b'a', b'b', 2, 2, b'x', 6, 0, 4, 2, b'y'];
    let other = [1, 0, 0, 2, 8];
    let mut whole = reader(avro(&schema), None).unwrap();
    let (rows, failed) = decode(&mut *whole, &[&message, &other]);
    assert_eq!(
        rows,
        "id:int64 note:utf8? tags:list<{ key = utf8, value = int32 }> mixed:utf8?\n\
         7 ab \"[{key: x, value: 3}]\" \"y\"\n-1 null [] 4\n"
    );
    assert_eq!(failed, []);
    let mut some = reader(avro(&schema), Some("tags:json;id:utf8;note:utf8")).unwrap();
    let (rows, failed) = decode(&mut *some, &[&message, &other]);
    assert_eq!(rows, "tags:utf8 id:utf8 note:utf8\n{\"x\":3} 7 ab\n");
    assert_eq!(failed, [(1, "column `note` is missing or null".to_owned())]);
    let error = reader(avro(&schema), Some("id:timestamp")).map(drop).unwrap_err();
    assert_eq!(error, "column `id` is timestamp, and messages have the type long, which can't become that");
    let error = reader(avro(&schema), Some("idd:int64")).map(drop).unwrap_err();
    assert_eq!(error, "column `idd` is missing, and may not be null");
}

#[test]
fn values_that_have_no_place_cost_their_message_only() {
    let schema = record(json!([{ "name": "n", "type": "long" }, { "name": "s", "type": "string" }]));
    let mut narrow = reader(avro(&schema), Some("n:int8;s:utf8")).unwrap();
    let (rows, failed) =
        decode(&mut *narrow, &[&[2, 2, b'a'], &[0x80, 2, 2, b'b'], &[4, 2, 0xff], &[6, 2, b'c'], &[], &[2, 9]]);
    assert_eq!(rows, "n:int8 s:utf8\n1 a\n3 c\n");
    let errors: Vec<_> = failed.iter().map(|(position, error)| (*position, error.as_str())).collect();
    assert_eq!(
        errors,
        [
            (1, "column `n`: `128` is not an `int8`"),
            (2, "column `s`: its text is no valid UTF-8"),
            (4, "no valid Avro: it ends in the midst of a value"),
            (5, "no valid Avro: -5 is no length"),
        ]
    );
}

#[test]
fn a_type_that_contains_itself_is_json() {
    let schema = record(json!([
        { "name": "value", "type": "int" },
        { "name": "next", "type": ["null", "r"] },
    ]));
    let mut list = reader(avro(&schema), None).unwrap();
    let (rows, _) = decode(&mut *list, &[&[2, 2, 4, 2, 6, 0], &[8, 0]]);
    assert_eq!(rows, "value:int32 next:utf8?\n1 {\"value\":2,\"next\":{\"value\":3,\"next\":null}}\n4 null\n");
    let deep = [2, 2].repeat(5000);
    let (_, failed) = decode(&mut *list, &[&deep]);
    assert_eq!(failed[0].1, "no valid Avro: values lie in each other more than 100 deep");
}

#[test]
fn a_single_object_names_its_schema() {
    let schema = record(json!([{ "name": "n", "type": "int" }]));
    let fingerprint = AvroSchema::parse(&schema.to_string()).unwrap().fingerprint().to_le_bytes();
    let mut format = avro(&schema);
    format["framing"] = json!("single_object");
    let mut single = reader(format, None).unwrap();
    let good = [&[0xc3, 1][..], &fingerprint, &[2]].concat();
    let (rows, failed) = decode(&mut *single, &[&good, &[0xc3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2], &[2]]);
    assert_eq!(rows, "n:int32\n1\n");
    let errors: Vec<_> = failed.iter().map(|(_, error)| error.as_str()).collect();
    assert_eq!(errors, ["no valid Avro: it is of another schema", "no valid Avro: it is no single object"]);
}

#[test]
fn messages_are_read_as_they_were_written() {
    let (rows, context) = (sample(), millstream_testkit::context());
    for framing in ["none", "single_object"] {
        let format = json!({ "type": "avro", "framing": framing });
        let writing: Format<WriteMessages> = serde_json::from_value(format.clone()).unwrap();
        let mut written = Payloads::default();
        let writing = writing.write(&rows.schema(), &context).unwrap();
        writing.open(&rows.schema()).unwrap().encode(&rows, &mut written).unwrap();
        // The schema is that of files.
        let file = write("a.avro", &rows, 9);
        let start = memchr::memmem::find(&file, b"{\"type\":\"record\"").unwrap();
        let mut schemas = serde_json::Deserializer::from_slice(&file[start..]).into_iter::<Value>();
        let mut format = format.clone();
        format["schema"] = json!(schemas.next().unwrap().unwrap().to_string());
        let mut reader = reader(format, None).unwrap();
        let messages: Vec<_> = written.iter().flatten().collect();
        assert_eq!(decode(&mut *reader, &messages), (text_of(&rows), vec![]), "{framing}");
    }
    let odd = RecordBatch::try_from_iter([("a b", rows.column(0).clone())]).unwrap();
    let writing: Format<WriteMessages> = serde_json::from_value(json!("avro")).unwrap();
    let problem = writing.write(&odd.schema(), &context).unwrap_err();
    assert_eq!(problem.message, "column `a b` can't be a field of Avro");
}

#[test]
fn few_bytes_are_not_many_values() {
    let schema = record(json!([{ "name": "l", "type": { "type": "array", "items": "null" } }]));
    // A billion nulls in six bytes.
    let mut nulls = reader(avro(&schema), None).unwrap();
    let (_, failed) = decode(&mut *nulls, &[&[0x80, 0xa8, 0xd6, 0xb9, 0x07, 0]]);
    assert_eq!(failed[0].1, "no valid Avro: it would take more than 67108864 bytes in memory");
    let mut skipped = reader(avro(&schema), Some("other:int64?")).unwrap();
    let (_, failed) = decode(&mut *skipped, &[&[0x80, 0xa8, 0xd6, 0xb9, 0x07, 0]]);
    assert_eq!(failed.len(), 1);
}

#[test]
fn schemas_that_are_none_are_refused_in_words() {
    let problem = |schema: &str| reader(json!({ "type": "avro", "schema": schema }), None).map(drop).unwrap_err();
    assert!(problem("{").starts_with("it is no schema of Avro: it is no JSON: "));
    assert_eq!(problem("\"text\""), "it is no schema of Avro: there is no type `text`");
    assert_eq!(problem(r#"{"type": "record", "name": "r"}"#), "it is no schema of Avro: `r` has no list `fields`");
    let twice = record(json!([{ "name": "a", "type": "int" }, { "name": "a", "type": "int" }]));
    assert_eq!(problem(&twice.to_string()), "it is no schema of Avro: `r` has two fields `a`");
    assert!(reader(json!("avro"), None).map(drop).unwrap_err().starts_with("the schema of the messages is missing; "));
}

#[test]
fn files_are_compressed_in_every_way() {
    let folder = Folder::new();
    for codec in ["null", "deflate", "snappy", "zstandard", "bzip2"] {
        let format: Format<WriteFiles> = serde_json::from_value(json!({ "type": "avro", "codec": codec })).unwrap();
        let options = WriteOptions { format: format.write("").unwrap(), compression: None, begins: true };
        let rows = sample();
        let mut writer = options.open(Vec::new(), &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        let path = folder.file("a.avro", writer.finish().unwrap());
        let (_, read, failed) = read_file(&path, None).unwrap();
        assert_eq!((read, failed), (rows, vec![]), "{codec}");
        assert_eq!(inspect(&path).unwrap().rows, Some(4));
    }
}

#[test]
fn a_file_goes_on_at_any_row() {
    let folder = Folder::new();
    let ids: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..20_000));
    let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let path = folder.file("a.avro", write("a.avro", &rows, 20_000));
    let found = inspect(&path).unwrap();
    let decoder = Decoder { format: format_of(&path), ..decoder_of("csv", found.columns) };
    for start in [0, 1, 8191, 8192, 8193, 16_384, 19_999, 20_000] {
        let mut reader = decoder.open(&path).unwrap();
        reader.go_to(ReaderPosition { position: start, offset: 0 }).unwrap();
        let (positions, rows, _) = drain(reader, 8192).unwrap();
        assert_eq!(
            (positions.first().copied(), rows.num_rows() as u64),
            ((start < 20_000).then_some(start), 20_000 - start)
        );
    }
    let mut reader = decoder.open(&path).unwrap();
    let error = reader.go_to(ReaderPosition { position: 20_001, offset: 0 }).unwrap_err().to_string();
    assert!(error.contains("it has become shorter"), "{error}");
}

#[test]
fn a_value_without_a_place_costs_its_row_in_a_file() {
    let folder = Folder::new();
    let schema = record(json!([{ "name": "at", "type": { "type": "long", "logicalType": "timestamp-millis" } }]));
    let schema = schema.to_string();
    let mut file = b"Obj\x01\x02\x16avro.schema".to_vec();
    crate::avro::put_bytes(schema.as_bytes(), &mut file);
    file.extend_from_slice(b"\0");
    file.extend_from_slice(&[7; 16]);
    let mut block = vec![2];
    crate::avro::put_long(i64::MAX, &mut block);
    block.push(4);
    file.push(6);
    crate::avro::put_bytes(&block, &mut file);
    file.extend_from_slice(&[7; 16]);
    let (positions, _, failed) = read_file(&folder.file("a.avro", &file), None).unwrap();
    assert_eq!(positions, [0, 2]);
    assert_eq!(failed[0].row, format!("{{\"at\":{}}}", i64::MAX));
    assert!(failed[0].error.starts_with("column `at`: the timestamp 9223372036854775807 is out of range"));
}

/// What reads messages of schemas in a registry.
fn registered(columns: &str, own: Option<&Value>, changes: SchemaChanges) -> Box<dyn MessageReader> {
    let mut format = json!({ "type": "avro" });
    if let Some(own) = own {
        format["schema"] = json!(own.to_string());
    }
    let format: Format<ReadMessages> = serde_json::from_value(format).unwrap();
    format.framed_reader(None, &self::columns(columns), changes, &millstream_testkit::context()).unwrap()
}

fn add(reader: &mut dyn MessageReader, id: u32, schema: &Value) -> Result<Option<String>, String> {
    let schema = RegisteredSchema { schema: schema.to_string(), references: Vec::new() };
    reader.add_schema(SchemaId::Number(id), Some(&schema)).map_err(|error| error.to_string())
}

#[test]
fn schemas_of_a_registry_may_change() {
    let first = record(json!([{ "name": "id", "type": "int" }, { "name": "old", "type": "string" }]));
    let second = record(json!([
        { "name": "note", "type": ["null", "string"] },
        { "name": "id", "type": "long" },
        { "name": "more", "type": { "type": "array", "items": "r2" } },
    ]));
    let own = record(json!([
        { "name": "id", "type": "long" },
        { "name": "new", "type": "string", "aliases": ["old"], "default": "none" },
        { "name": "note", "type": ["null", "string"], "default": null },
    ]));
    let mut reader = registered("id:int64;new:utf8;note:utf8?", Some(&own), SchemaChanges::Evolve);
    assert!(reader.needs_schema(SchemaId::Number(1)));
    let note = add(&mut *reader, 1, &first).unwrap().unwrap();
    let expected = "columns that are no fields: `note`; other types: `id`";
    assert_eq!(note, format!("the fields of schema 1 are others than the columns: {expected}"));
    assert!(!reader.needs_schema(SchemaId::Number(1)));
    // It names a type of another schema.
    let others =
        vec![json!({ "type": "record", "name": "r2", "fields": [{ "name": "x", "type": "int" }] }).to_string()];
    let schema = RegisteredSchema { schema: second.to_string(), references: others };
    reader.add_schema(SchemaId::Number(2), Some(&schema)).unwrap();
    add(&mut *reader, 3, &json!("string")).unwrap();
    reader.add_schema(SchemaId::Number(4), None).unwrap();
    let messages = [
        &b"\0\0\0\0\x01\x0e\x02a"[..],
        b"\0\0\0\0\x02\x02\x02b\x10\x02\x02\0",
        b"\0\0\0\0\x01\x0c\x02c",
        b"\0\0\0\0\x03\x02d",
        b"\0\0\0\0\x04",
        b"\0\0\0\0\x01\x0c\x02c\0",
    ];
    let framed: Vec<_> = messages.iter().map(|message| Framed::of(message, None).ok()).collect();
    let mut out = Rows::default();
    reader.decode_framed(&framed, &mut out).unwrap();
    let (_, rows, failed) = all(out, reader.schema());
    assert_eq!(text_of(&rows), "id:int64 new:utf8 note:utf8?\n7 a null\n8 none b\n6 c null\n");
    let errors: Vec<_> = failed.iter().map(|bad| bad.error.as_str()).collect();
    assert_eq!(errors.len(), 3);
    assert!(errors[0].starts_with("no valid Avro: schema 3: "), "{errors:?}");
    assert_eq!(errors[1], "no valid Avro: schema 4: the registry does not have it");
    assert_eq!(errors[2], "no valid Avro: there are 1 bytes behind what the schema says");
}

#[test]
fn changes_that_are_not_wanted_end_the_flow() {
    let wider = record(json!([{ "name": "id", "type": "int" }, { "name": "more", "type": "int" }]));
    let narrower = record(json!([{ "name": "id", "type": "int" }]));
    let advice = "; `schema_changes = \"evolve\"` goes on with such messages";
    let mut strict = registered("id:int64", None, SchemaChanges::Fail);
    let expected = format!("the fields of schema 1 are others than the columns: other types: `id`{advice}");
    assert_eq!(add(&mut *strict, 1, &narrower), Err(expected));
    let mut same = registered("id:int32", None, SchemaChanges::Fail);
    assert_eq!(add(&mut *same, 1, &narrower), Ok(None));
    let mut coercing = registered("id:int64", None, SchemaChanges::Coerce);
    assert!(add(&mut *coercing, 1, &narrower).is_ok());
    let expected = format!(
        "the fields of schema 2 are others than the columns: fields that are no columns: `more`; other types: `id`{advice}"
    );
    assert_eq!(add(&mut *coercing, 2, &wider), Err(expected));
}
