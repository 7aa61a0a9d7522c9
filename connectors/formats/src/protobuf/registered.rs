//! Types that a registry has: each file as the base64 of its descriptor, as it is asked for by `format=serialized`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::RegisteredSchema;
use crate::records::put_varint;

/// The types that every registry knows, and says nothing of, by their names in `google.protobuf`. Messages of them are read by their names.
const WELL_KNOWN: &[&str] = &[
    "Timestamp",
    "Duration",
    "DoubleValue",
    "FloatValue",
    "Int64Value",
    "UInt64Value",
    "Int32Value",
    "UInt32Value",
    "BoolValue",
    "StringValue",
    "BytesValue",
    "Value",
    "Struct",
    "ListValue",
];

/// What files and sets of them call their parts.
const FILE: u64 = 1;
const NAME: u64 = 1;
const PACKAGE: u64 = 2;
const MESSAGE: u64 = 4;

/// A set of descriptors of a schema and those that it names.
pub(super) fn descriptors(schema: &RegisteredSchema) -> Result<Vec<u8>, String> {
    let mut set = Vec::new();
    put(FILE, &well_known(), &mut set);
    for text in schema.references.iter().chain([&schema.schema]) {
        let file = STANDARD.decode(text.trim()).map_err(|_| {
            "the registry gives types as text and not as descriptors; name a file with them as `descriptors` of the format".to_owned()
        })?;
        put(FILE, &file, &mut set);
    }
    Ok(set)
}

/// A file of the types that every registry knows.
fn well_known() -> Vec<u8> {
    let mut file = Vec::new();
    put(PACKAGE, b"google.protobuf", &mut file);
    for name in WELL_KNOWN {
        let mut message = Vec::new();
        put(NAME, name.as_bytes(), &mut message);
        put(MESSAGE, &message, &mut file);
    }
    file
}

/// Appends a field of bytes.
fn put(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::plan::WellKnown;
    use super::*;

    #[test]
    fn what_is_known_by_its_name_is_there() {
        for name in WELL_KNOWN {
            assert!(WellKnown::of(&format!("google.protobuf.{name}")).is_some(), "{name}");
        }
    }
}
