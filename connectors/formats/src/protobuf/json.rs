//! Messages on the wire, as JSON: with the names of their fields, without fields that have no value, and with numbers as numbers.

use std::collections::BTreeMap;

use millstream_core::write_time;

use super::descriptors::{Descriptors, FieldKind, FieldType, ScalarType};
use super::plan::WellKnown;
use super::read::{Moment, moment};
use super::wire::{Payload, fields, too_deep};
use crate::records::{Budget, Cursor, JsonText, MAX_DEPTH, Scalar};
use crate::refusal::Read;

/// What a value counts, besides its text.
const VALUE: usize = 32;

/// Appends the text of a message.
pub(super) fn write(
    descriptors: &Descriptors,
    message: usize,
    bytes: &[u8],
    out: &mut Vec<u8>,
    budget: &mut Budget,
    depth: usize,
) -> Read<()> {
    Writer { descriptors, budget }.message(message, bytes, out, depth)
}

struct Writer<'w> {
    descriptors: &'w Descriptors,
    budget: &'w mut Budget,
}

impl Writer<'_> {
    fn message(&mut self, message: usize, bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Read<()> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let found = self.descriptors.message_type(message);
        match WellKnown::of(&found.name) {
            Some(WellKnown::Timestamp) => {
                JsonText(out).scalar(Scalar::Timestamp(moment(bytes)?.timestamp()?));
                return Ok(());
            }
            Some(WellKnown::Duration) => return duration(moment(bytes)?, out),
            Some(WellKnown::Wrapper(of)) => {
                let mut value = of.zero();
                fields(bytes, |number, payload| {
                    if number == 1 {
                        value = of.scalar(payload)?.unwrap_or(value);
                    }
                    Ok(())
                })?;
                JsonText(out).scalar(value);
                return Ok(());
            }
            Some(WellKnown::Json) => return self.any(&found.name, bytes, out, depth),
            None => {}
        }
        let mut values: BTreeMap<usize, Vec<Payload>> = BTreeMap::new();
        fields(bytes, |number, payload| {
            let Some(index) = found.fields.iter().position(|field| field.number == number) else { return Ok(()) };
            self.budget.take(VALUE)?;
            let field = &found.fields[index];
            if field.oneof.is_some() {
                values.retain(|other, _| *other == index || found.fields[*other].oneof != field.oneof);
            }
            values.entry(index).or_default().push(payload);
            Ok(())
        })?;
        let mut is_first = true;
        JsonText(out).raw("{");
        for (index, payloads) in values {
            let field = &found.fields[index];
            JsonText(out).comma(&mut is_first);
            JsonText(out).text(&field.name);
            JsonText(out).raw(":");
            self.field(field, &payloads, out, depth)?;
        }
        JsonText(out).raw("}");
        Ok(())
    }

    /// All that a message has of a field.
    fn field(&mut self, field: &FieldType, payloads: &[Payload], out: &mut Vec<u8>, depth: usize) -> Read<()> {
        let mut is_first = true;
        if let Some([key, value]) = self.descriptors.entry(field) {
            JsonText(out).raw("{");
            for entry in payloads.iter().filter_map(|payload| payload.bytes()) {
                JsonText(out).comma(&mut is_first);
                self.entry(key, value, entry, out, depth)?;
            }
            JsonText(out).raw("}");
            return Ok(());
        }
        if field.repeated {
            JsonText(out).raw("[");
            for payload in payloads {
                self.items(field, *payload, &mut is_first, out, depth)?;
            }
            JsonText(out).raw("]");
            return Ok(());
        }
        match field.kind {
            FieldKind::Message(message) => {
                let parts: Vec<_> = payloads.iter().filter_map(|payload| payload.bytes()).collect();
                self.message(message, &parts.concat(), out, depth + 1)
            }
            _ => match payloads.last() {
                Some(payload) => self.scalar(field, *payload, out),
                None => Ok(()),
            },
        }
    }

    /// An item of a list, or several of them.
    fn items(
        &mut self,
        field: &FieldType,
        payload: Payload,
        is_first: &mut bool,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Read<()> {
        let packed = match field.kind {
            FieldKind::Message(message) => {
                JsonText(out).comma(is_first);
                return self.message(message, payload.bytes().unwrap_or_default(), out, depth + 1);
            }
            FieldKind::Scalar(ScalarType::String | ScalarType::Bytes) => None,
            FieldKind::Scalar(of) => payload.bytes().map(|bytes| (of, bytes)),
            FieldKind::Enum(_) => payload.bytes().map(|bytes| (ScalarType::Int32, bytes)),
        };
        let Some((of, bytes)) = packed else {
            JsonText(out).comma(is_first);
            return self.scalar(field, payload, out);
        };
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_at_end() {
            let payload = of.next(&mut cursor)?;
            self.budget.take(VALUE)?;
            JsonText(out).comma(is_first);
            self.scalar(field, payload, out)?;
        }
        Ok(())
    }

    fn entry(&mut self, key: &FieldType, value: &FieldType, entry: &[u8], out: &mut Vec<u8>, depth: usize) -> Read<()> {
        let FieldKind::Scalar(key_type) = key.kind else { return Ok(()) };
        let (mut name, mut payloads) = (key_type.zero(), Vec::new());
        fields(entry, |number, payload| {
            match number {
                1 => name = key_type.scalar(payload)?.unwrap_or(name),
                2 => payloads.push(payload),
                _ => {}
            }
            Ok(())
        })?;
        let mut text = Vec::new();
        name.write_text(&mut text);
        JsonText(out).text(&String::from_utf8_lossy(&text));
        JsonText(out).raw(":");
        if payloads.is_empty() {
            payloads.push(match value.kind {
                FieldKind::Message(_) => Payload::Bytes(&[]),
                FieldKind::Enum(_) => Payload::Varint(0),
                FieldKind::Scalar(of) => {
                    JsonText(out).scalar(of.zero());
                    return Ok(());
                }
            });
        }
        self.field(value, &payloads, out, depth)
    }

    /// A value that is no message; null if it is of another kind on the wire.
    fn scalar(&mut self, field: &FieldType, payload: Payload, out: &mut Vec<u8>) -> Read<()> {
        match (field.kind, payload) {
            (FieldKind::Scalar(of), payload) => match of.scalar(payload)? {
                Some(value) => JsonText(out).scalar(value),
                None => JsonText(out).raw("null"),
            },
            (FieldKind::Enum(names), Payload::Varint(number)) => {
                match self.descriptors.enum_type(names).value(number as i32) {
                    Some(name) => JsonText(out).text(name),
                    None => JsonText(out).scalar(Scalar::Integer((number as i32).into())),
                }
            }
            _ => JsonText(out).raw("null"),
        }
        Ok(())
    }

    /// A value of JSON that is written as messages: `Struct`, `ListValue` or `Value`.
    fn any(&mut self, name: &str, bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Read<()> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        match name {
            "google.protobuf.Struct" => self.object(bytes, out, depth),
            "google.protobuf.ListValue" => {
                let mut is_first = true;
                JsonText(out).raw("[");
                fields(bytes, |number, payload| match (number, payload) {
                    (1, Payload::Bytes(value)) => {
                        self.budget.take(VALUE)?;
                        JsonText(out).comma(&mut is_first);
                        self.any("", value, out, depth + 1)
                    }
                    _ => Ok(()),
                })?;
                JsonText(out).raw("]");
                Ok(())
            }
            _ => {
                let mut last = None;
                fields(bytes, |number, payload| {
                    last = Some((number, payload));
                    Ok(())
                })?;
                match last {
                    Some((2, payload)) => {
                        JsonText(out).scalar(ScalarType::Double.scalar(payload)?.unwrap_or(Scalar::Double(0.0)))
                    }
                    Some((3, payload)) => {
                        JsonText(out).scalar(ScalarType::String.scalar(payload)?.unwrap_or(Scalar::Text("")))
                    }
                    Some((4, payload)) => {
                        JsonText(out).scalar(ScalarType::Bool.scalar(payload)?.unwrap_or(Scalar::Boolean(false)))
                    }
                    Some((5, Payload::Bytes(value))) => {
                        return self.any("google.protobuf.Struct", value, out, depth + 1);
                    }
                    Some((6, Payload::Bytes(value))) => {
                        return self.any("google.protobuf.ListValue", value, out, depth + 1);
                    }
                    _ => JsonText(out).raw("null"),
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Read<()> {
        let mut is_first = true;
        JsonText(out).raw("{");
        fields(bytes, |number, payload| {
            let (1, Payload::Bytes(entry)) = (number, payload) else { return Ok(()) };
            self.budget.take(VALUE)?;
            let (mut key, mut value) = ("", &[][..]);
            fields(entry, |number, payload| {
                match (number, payload) {
                    (1, payload) => {
                        if let Some(Scalar::Text(text)) = ScalarType::String.scalar(payload)? {
                            key = text;
                        }
                    }
                    (2, Payload::Bytes(bytes)) => value = bytes,
                    _ => {}
                }
                Ok(())
            })?;
            JsonText(out).comma(&mut is_first);
            JsonText(out).text(key);
            JsonText(out).raw(":");
            self.any("", value, out, depth + 1)
        })?;
        JsonText(out).raw("}");
        Ok(())
    }
}

impl<'a> Payload<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Seconds with what is behind the point: `"1.5s"`.
fn duration(moment: Moment, out: &mut Vec<u8>) -> Read<()> {
    moment.duration()?;
    let sign = if moment.seconds < 0 || moment.nanos < 0 { "-" } else { "" };
    let mut fraction = Vec::new();
    // The fraction of a time of day is written as those of durations are.
    write_time(i64::from(moment.nanos.unsigned_abs()), &mut fraction);
    let fraction = String::from_utf8_lossy(fraction.get("00:00:00".len()..).unwrap_or_default());
    JsonText(out).text(&format!("{sign}{}{fraction}s", moment.seconds.unsigned_abs()));
    Ok(())
}
