//! Protobuf beside prost-reflect: the same values of the same bytes, also of such as few programs write.

use std::collections::BTreeMap;

use millstream_testkit::Random;
use prost_reflect::ReflectMessage as _;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Reflected,
};

use super::avro::{decode, reader};
use super::*;

const DESCRIPTORS: &[u8] = include_bytes!("../../tests/data/everything.binpb");

fn everything() -> MessageDescriptor {
    DescriptorPool::decode(DESCRIPTORS).unwrap().get_message_by_name("test.Everything").unwrap()
}

pub(super) fn format(message: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/everything.binpb");
    json!({ "type": "protobuf", "descriptors": path, "message": message })
}

/// A message of any fields, and not too deep.
pub(super) fn message(random: &mut Random, of: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    match of.full_name() {
        "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
            message.set_field_by_name("seconds", Reflected::I64(random.below(4_000_000_000) as i64));
            message.set_field_by_name("nanos", Reflected::I32(random.below(1_000_000_000) as i32));
            return message;
        }
        _ => {}
    }
    for field in of.fields() {
        let is_needed = field.name() == "needed";
        if !is_needed && (random.below(3) == 0 || depth == 0 && matches!(field.kind(), Kind::Message(_))) {
            continue;
        }
        message.set_field(&field, value(random, &field, depth));
    }
    message
}

fn value(random: &mut Random, field: &FieldDescriptor, depth: usize) -> Reflected {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { panic!() };
        let (key, of) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let entries = (0..random.below(4)).map(|_| {
            let key = match single(random, &key.kind(), depth) {
                Reflected::String(key) => MapKey::String(key),
                Reflected::I32(key) => MapKey::I32(key),
                Reflected::Bool(key) => MapKey::Bool(key),
                other => panic!("{other:?}"),
            };
            (key, single(random, &of.kind(), depth))
        });
        return Reflected::Map(entries.collect());
    }
    if field.is_list() {
        return Reflected::List((0..random.below(4)).map(|_| single(random, &field.kind(), depth)).collect());
    }
    single(random, &field.kind(), depth)
}

fn single(random: &mut Random, kind: &Kind, depth: usize) -> Reflected {
    let number = if random.below(2) == 0 { random.number() } else { random.below(300) };
    match kind {
        Kind::Double => Reflected::F64(number as i64 as f64 / 8.0),
        Kind::Float => Reflected::F32(number as i16 as f32 / 8.0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Reflected::I32(number as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Reflected::I64(number as i64),
        Kind::Uint32 | Kind::Fixed32 => Reflected::U32(number as u32),
        Kind::Uint64 | Kind::Fixed64 => Reflected::U64(number),
        Kind::Bool => Reflected::Bool(number % 2 == 0),
        Kind::String => {
            Reflected::String(["", "a", "Ä\n\"", "longer than eight bytes"][number as usize % 4].to_owned())
        }
        Kind::Bytes => Reflected::Bytes(number.to_le_bytes()[..number as usize % 9].to_vec().into()),
        // 5 has no name.
        Kind::Enum(_) => Reflected::EnumNumber([0, 1, -7, 5][number as usize % 4]),
        Kind::Message(of) => Reflected::Message(message(random, of, depth.saturating_sub(1))),
    }
}

/// What a field of a message becomes in NDJSON. None if it is null.
fn expected(message: &DynamicMessage, field: &FieldDescriptor) -> Option<Value> {
    if field.supports_presence() && !message.has_field(field) {
        return None;
    }
    let value = message.get_field(field);
    Some(match &*value {
        Reflected::List(items) => items.iter().map(|item| expected_of(item, &field.kind())).collect(),
        Reflected::Map(entries) => {
            let Kind::Message(entry) = field.kind() else { panic!() };
            let kind = entry.map_entry_value_field().kind();
            let entries = entries.iter().map(|(key, value)| {
                let key = match key {
                    MapKey::String(key) => json!(key),
                    MapKey::I32(key) => json!(key),
                    MapKey::Bool(key) => json!(key),
                    other => panic!("{other:?}"),
                };
                json!({ "key": key, "value": expected_of(value, &kind) })
            });
            by_key(entries.collect())
        }
        value => expected_of(value, &field.kind()),
    })
}

/// A map in the order of its keys, of each of which the last one counts.
fn by_key(entries: Vec<Value>) -> Value {
    let sorted: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry["key"].to_string(), entry)).collect();
    sorted.into_values().collect()
}

fn expected_of(value: &Reflected, kind: &Kind) -> Value {
    match (value, kind) {
        (Reflected::Bool(value), _) => json!(value),
        (Reflected::I32(value), _) => json!(value),
        (Reflected::I64(value), _) => json!(value),
        (Reflected::U32(value), _) => json!(value),
        (Reflected::U64(value), _) => json!(value),
        // As the shortest text that is this number.
        (Reflected::F32(value), _) => serde_json::from_str(&format!("{value:?}")).unwrap_or_default(),
        (Reflected::F64(value), _) => json!(value),
        (Reflected::String(value), _) => json!(value),
        (Reflected::Bytes(value), _) => json!(value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        (Reflected::EnumNumber(number), Kind::Enum(names)) => match names.get_value(*number) {
            Some(name) => json!(name.name()),
            None => json!(number.to_string()),
        },
        (Reflected::Message(message), _) => object(message),
        other => panic!("{other:?}"),
    }
}

fn object(message: &DynamicMessage) -> Value {
    let part = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
            let micros =
                part("seconds").as_i64().unwrap() * 1_000_000 + i64::from(part("nanos").as_i32().unwrap()) / 1000;
            if message.descriptor().name() == "Duration" {
                return json!(micros);
            }
            let mut text = Vec::new();
            millstream_core::write_timestamp(
                micros.div_euclid(1_000_000),
                micros.rem_euclid(1_000_000) * 1000,
                &mut text,
            );
            return json!(String::from_utf8(text).unwrap());
        }
        "google.protobuf.Int64Value" | "google.protobuf.StringValue" => {
            let value = message.descriptor().get_field(1).unwrap();
            return expected_of(&message.get_field(&value), &value.kind());
        }
        _ => {}
    }
    let fields = message.descriptor().fields().collect::<Vec<_>>();
    let fields = fields.iter().filter_map(|field| Some((field.name().to_owned(), expected(message, field)?)));
    Value::Object(fields.collect())
}

/// The fields that become JSON are compared apart.
const JSON: [&str; 2] = ["object", "tree"];

fn without_json(mut value: Value) -> Value {
    JSON.iter().for_each(|name| _ = value.as_object_mut().unwrap().shift_remove(*name));
    value
}

/// Maps in the order of their keys.
fn sorted(mut row: Value) -> Value {
    for name in ["counts", "by_number", "by_bool"] {
        let entries = row[name].as_array().cloned().unwrap_or_default();
        row[name] = by_key(entries);
    }
    row
}

fn rows(out: Rows) -> Vec<Value> {
    let mut text = Vec::new();
    out.batches.iter().for_each(|(_, rows)| millstream_core::write_json(rows, &mut text).unwrap());
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Decodes a message as prost-reflect does, if it can, and compares.
fn compare(reader: &mut dyn MessageReader, of: &MessageDescriptor, bytes: &[u8]) -> bool {
    let mut out = Rows::default();
    reader.decode(&[Some(bytes)], &mut out).unwrap();
    let Ok(reflected) = DynamicMessage::decode(of.clone(), bytes) else { return false };
    let ours = rows(out);
    if let [row] = ours.as_slice() {
        assert_eq!(sorted(without_json(row.clone())), sorted(without_json(object(&reflected))), "{bytes:02x?}");
    }
    ours.len() == 1
}

#[test]
fn the_same_is_read_as_by_prost_reflect() {
    let (of, mut random) = (everything(), Random(7));
    let mut reader = reader(format("test.Everything"), None).unwrap();
    for _ in 0..300 {
        let bytes = message(&mut random, &of, 3).encode_to_vec();
        assert!(compare(&mut *reader, &of, &bytes), "{bytes:02x?}");
    }
}

#[test]
fn messages_one_behind_the_other_are_one() {
    let (of, mut random) = (everything(), Random(8));
    let mut reader = reader(format("test.Everything"), None).unwrap();
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..3).flat_map(|_| message(&mut random, &of, 2).encode_to_vec()).collect();
        assert!(compare(&mut *reader, &of, &bytes), "{bytes:02x?}");
    }
}

#[test]
fn a_message_that_was_changed_is_read_alike_or_refused() {
    let (of, mut random) = (everything(), Random(9));
    let mut reader = reader(format("test.Everything"), None).unwrap();
    let mut read = 0;
    for _ in 0..2000 {
        let mut bytes = message(&mut random, &of, 2).encode_to_vec();
        random.damage(&mut bytes);
        read += usize::from(compare(&mut *reader, &of, &bytes));
    }
    assert!(read > 100, "{read}");
}

#[test]
fn what_contains_itself_and_values_of_json_are_json() {
    let mut tree = reader(format("test.Tree"), None).unwrap();
    let bytes = [b"\x0a\x01a\x12\x07\x0a\x01b\x12\x02\x0a\x00".as_slice(), b"\x12\x00"].concat();
    let (rows, failed) = decode(&mut *tree, &[&bytes]);
    assert_eq!(failed, []);
    assert_eq!(rows, "name:utf8 children:list<utf8>\na \"[{\"name\":\"b\",\"children\":[{\"name\":\"\"}]}, {}]\"\n");
    let deep = (0..300).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut outer = vec![0x12];
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(inner);
        outer
    });
    let (_, failed) = decode(&mut *tree, &[&deep]);
    assert_eq!(failed[0].1, "no valid Protobuf: messages lie in each other more than 100 deep");
    let mut object = reader(format("google.protobuf.Value"), Some("struct_value:json?;list_value:json?")).unwrap();
    // { "a": [1.5, null, true, "x"] }
    let list =
        [b"\x0a\x09\x11".as_slice(), &1.5_f64.to_le_bytes(), b"\x0a\x02\x08\x00\x0a\x02\x20\x01\x0a\x03\x1a\x01x"]
            .concat();
    let value = [&[0x32, list.len() as u8][..], &list].concat();
    let entry = [&[0x0a, 1, b'a', 0x12, value.len() as u8][..], &value].concat();
    let structure = [&[0x0a, entry.len() as u8][..], &entry].concat();
    let bytes = [&[0x2a, structure.len() as u8][..], &structure].concat();
    let (rows, failed) = decode(&mut *object, &[&bytes]);
    assert_eq!(failed, []);
    assert_eq!(rows, "struct_value:utf8? list_value:utf8?\n{\"a\":[1.5,null,true,\"x\"]} null\n");
}

#[test]
fn columns_may_be_chosen() {
    let mut some = reader(format("test.Inner"), Some("c:list<uint64>;a:utf8;b:utf8")).unwrap();
    let (rows, failed) = decode(&mut *some, &[b"\x08\x07\x12\x01x\x1a\x02\x01\x02\x18\x03", b"\x08\x07"]);
    assert_eq!(rows, "c:list<uint64> a:utf8 b:utf8\n\"[1, 2, 3]\" 7 x\n");
    assert_eq!(failed, [(1, "column `b` is missing or null".to_owned())]);
    let problem = |columns: &str| reader(format("test.Inner"), Some(columns)).map(drop).unwrap_err();
    assert_eq!(problem("aa:int32"), "`test.Inner` has no field `aa`; there are `a`, `b`, `c`");
    assert_eq!(problem("a:binary"), "column `a` is binary, and the field is a int32, which don't go together");
    assert_eq!(
        problem("c:uint32"),
        "column `c` is uint32, and the field is a repeated uint32, which don't go together"
    );
    let error = reader(format("test.Iner"), None).map(drop).unwrap_err();
    assert!(
        error.starts_with("there is no message `test.Iner` in `") && error.ends_with("; did you mean `test.Inner`?"),
        "{error}"
    );
}

#[test]
fn a_moment_that_is_none_is_refused() {
    let mut moments = reader(format("test.Everything"), Some("at:timestamp?;took:int64?")).unwrap();
    // One second and -1 nanoseconds.
    let wrong = [0x82, 0x02, 13, 8, 1, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let (_, failed) = decode(&mut *moments, &[&wrong]);
    assert_eq!(failed[0].1, "column `at`: 1 seconds and -1 nanoseconds are no timestamp");
}

#[test]
fn a_registered_message_says_which_type_of_its_file_it_is() {
    // The second type of the file.
    let mut reader = reader(format("test.Tree"), None).unwrap();
    let header = [&b"\0\0\0\0\x07"[..], &[2, 2]].concat();
    let messages = [
        Framed::of(b"\0\0\0\0\x07\x02\x02\x0a\x01a", None),
        Framed::of(b"\0\0\0\0\x07\0\x08\x01", None),
        Framed::of(b"\x0a\x01b", Some(&header)),
    ];
    let mut out = Rows::default();
    reader.decode_framed(&messages.map(Result::ok), &mut out).unwrap();
    let (positions, rows, failed) = all(out, reader.schema());
    assert_eq!((positions, rows.num_rows()), (vec![0, 2], 2));
    assert_eq!(failed[0].error, "no valid Protobuf: it is the type [0] of its file, and `message` is the type [1]");
}

/// What a registry says of the types.
fn registered() -> RegisteredSchema {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let text =
        |name: &str| STANDARD.encode(pool.get_file_by_name(name).unwrap().file_descriptor_proto().encode_to_vec());
    RegisteredSchema { schema: text("everything.proto"), references: vec![text("legacy.proto")] }
}

/// A format whose types a registry has.
fn of_registry(message: &str) -> Format<ReadMessages> {
    serde_json::from_value(json!({ "type": "protobuf", "message": message })).unwrap()
}

#[test]
fn types_of_a_registry_are_those_of_a_file() {
    let context = millstream_testkit::context();
    let (file, registry) = (format("test.Everything"), of_registry("test.Everything"));
    let file: Format<ReadMessages> = serde_json::from_value(file).unwrap();
    assert!(registry.lacks_schema(true) && !file.lacks_schema(false));
    assert_eq!(registry.columns_of(&registered(), &context).unwrap(), file.columns(&context).unwrap().unwrap());
    let problem = registry.columns(&context).unwrap_err();
    assert_eq!(problem.message, "`descriptors` is missing: a file with the types of the messages");
    let text = RegisteredSchema { schema: "syntax = \"proto3\";".to_owned(), references: Vec::new() };
    let error = registry.columns_of(&text, &context).unwrap_err().to_string();
    assert!(error.starts_with("the registry gives types as text and not as descriptors; name a file"), "{error}");
}

#[test]
fn registered_types_are_compared_with_the_columns() {
    let reader = |columns: &str, changes| {
        let columns = self::columns(columns);
        of_registry("test.Inner")
            .framed_reader(Some(&registered()), &columns, changes, &millstream_testkit::context())
            .unwrap()
    };
    let id = SchemaId::Number(7);
    let add =
        |reader: &mut dyn MessageReader| reader.add_schema(id, Some(&registered())).map_err(|error| error.to_string());
    let (all, advice) =
        ("a:int64;b:utf8?;c:list<uint32>", "; `schema_changes = \"evolve\"` goes on with such messages");
    let others = "the fields of schema 7 are others than the columns: other types: `a`";
    assert_eq!(add(&mut *reader(all, SchemaChanges::Fail)), Err(format!("{others}{advice}")));
    assert_eq!(add(&mut *reader("a:int32;b:utf8?;c:list<uint32>", SchemaChanges::Fail)), Ok(None));
    let unknown = "the fields of schema 7 are others than the columns: fields that are no columns: `b`, `c`";
    assert_eq!(add(&mut *reader("a:int32", SchemaChanges::Coerce)), Err(format!("{unknown}{advice}")));
    assert!(!reader("a:int32", SchemaChanges::Evolve).needs_schema(id));

    let mut coercing = reader(all, SchemaChanges::Coerce);
    assert!(coercing.needs_schema(id));
    assert_eq!(add(&mut *coercing), Ok(Some(others.to_owned())));
    coercing.add_schema(SchemaId::Number(8), None).unwrap();
    let messages = [b"\0\0\0\0\x07\0\x08\x05", b"\0\0\0\0\x08\0\x08\x05"].map(|message| Framed::of(message, None).ok());
    let mut out = Rows::default();
    coercing.decode_framed(&messages, &mut out).unwrap();
    let (_, rows, failed) = super::all(out, coercing.schema());
    assert_eq!(text_of(&rows), "a:int64 b:utf8? c:list<uint32>\n5 null []\n");
    assert_eq!(failed[0].error, "no valid Protobuf: schema 8: the registry does not have it");
}
