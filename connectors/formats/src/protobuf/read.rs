//! Messages on the wire, into columns.
//!
//! Fields come in any order, those of a list may lie between others, and of those that come twice the last one counts, but for messages, which
//! are put together. So lists grow while a message is read and end with it, and messages in it are read at its end.

use std::borrow::Cow;

use super::descriptors::{Descriptors, ScalarType};
use super::json;
use super::plan::{FieldPlan, MessagePlan, Occurs, Step};
use super::wire::{Payload, fields};
use crate::records::{Budget, Column, Cursor, Record, Scalar, unzigzag};
use crate::refusal::{Read, Refusal};

/// Reads messages of known types.
pub(super) struct Reader<'r> {
    pub descriptors: &'r Descriptors,
    pub budget: &'r mut Budget,
}

/// A message in another, of which all parts have been found.
struct Inner<'a> {
    /// The number of its field among those that are read.
    field: usize,
    bytes: Cow<'a, [u8]>,
}

impl Reader<'_> {
    /// Reads the fields of a message.
    pub(super) fn message(&mut self, plan: &MessagePlan, bytes: &[u8], record: &mut Record) -> Read<()> {
        let row = record.rows();
        let mut inner: Vec<Inner> = Vec::new();
        let mut last = 0;
        fields(bytes, |number, payload| {
            let Some(index) = plan.find(number, last) else { return Ok(()) };
            last = index;
            let Some(field) = plan.fields.get(index) else { return Ok(()) };
            let within = |refusal: Box<Refusal>| refusal.within(&field.name);
            match (field.occurs, payload) {
                (Occurs::Once, payload) => {
                    let is_value = match (field.step.is_message(), payload) {
                        (true, Payload::Bytes(bytes)) => {
                            found(&mut inner, index, bytes);
                            true
                        }
                        (true, _) => false,
                        (false, payload) => {
                            let column = record.column(field.column)?;
                            if column.rows() > row {
                                column.truncate(row);
                            }
                            scalar(&field.step, payload, column).map_err(within)?
                        }
                    };
                    if is_value && field.oneof.is_some() {
                        plan.forget_others(index, record, &mut inner)?;
                    }
                    Ok(())
                }
                (Occurs::Repeated, payload) => {
                    let column = record.column(field.column)?;
                    self.item(&field.step, payload, column).map_err(within)
                }
                (Occurs::Map(key), Payload::Bytes(entry)) => {
                    let column = record.column(field.column)?;
                    self.entry(key, &field.step, entry, column).map_err(within)
                }
                (Occurs::Map(_), _) => Ok(()),
            }
        })?;
        for Inner { field, bytes } in inner {
            let Some(field) = plan.fields.get(field) else { continue };
            let column = record.column(field.column)?;
            self.value(&field.step, &bytes, column).map_err(|refusal| refusal.within(&field.name))?;
        }
        plan.fields.iter().try_for_each(|field| {
            let column = record.column(field.column)?;
            field.end(row, column).map_err(|refusal| refusal.within(&field.name))
        })
    }

    /// Reads what is an item of a list, or several of them.
    fn item(&mut self, step: &Step, payload: Payload, column: &mut Column) -> Read<()> {
        let packed = match (step.as_packed(), payload) {
            (Some(of), Payload::Bytes(bytes)) => Some((of, bytes)),
            _ => None,
        };
        if let Some((of, bytes)) = packed {
            let mut cursor = Cursor::new(bytes);
            while !cursor.is_at_end() {
                let payload = of.next(&mut cursor)?;
                scalar(step, payload, column.next_item(self.budget)?)?;
            }
            return Ok(());
        }
        match (step.is_message(), payload) {
            (true, Payload::Bytes(bytes)) => {
                let item = column.next_item(self.budget)?;
                self.value(step, bytes, item)
            }
            (true, _) => Ok(()),
            // What is of another kind is no item.
            (false, payload) if !step.takes(payload) => Ok(()),
            (false, payload) => scalar(step, payload, column.next_item(self.budget)?).map(drop),
        }
    }

    /// Reads a key and a value of a map.
    fn entry(&mut self, key_type: ScalarType, step: &Step, bytes: &[u8], column: &mut Column) -> Read<()> {
        let (mut key, mut value) = (key_type.zero(), None);
        let mut parts: Cow<[u8]> = Cow::Borrowed(&[]);
        fields(bytes, |number, payload| {
            match (number, payload) {
                (1, payload) => key = key_type.scalar(payload)?.unwrap_or(key),
                (2, Payload::Bytes(bytes)) if step.is_message() => join(&mut parts, bytes),
                (2, payload) => value = Some(payload),
                _ => {}
            }
            Ok(())
        })?;
        column.next_item(self.budget)?.push_record(|entry| {
            entry.column(0)?.push(key)?;
            let column = entry.column(1)?;
            let rows = column.rows();
            match value {
                _ if step.is_message() => return self.value(step, &parts, column),
                Some(value) => _ = scalar(step, value, column)?,
                None => {}
            }
            if column.rows() == rows { step.push_zero(column) } else { Ok(()) }
        })
    }

    /// Reads a message that is a value.
    fn value(&mut self, step: &Step, bytes: &[u8], column: &mut Column) -> Read<()> {
        match step {
            Step::Message(plan) => column.push_record(|record| self.message(plan, bytes, record)),
            Step::Timestamp => column.push(Scalar::Timestamp(moment(bytes)?.timestamp()?)),
            Step::Duration => column.push(Scalar::Integer(moment(bytes)?.duration()?)),
            Step::Wrapper(of) => {
                let mut value = None;
                fields(bytes, |number, payload| {
                    if number == 1 {
                        value = Some(payload);
                    }
                    Ok(())
                })?;
                let scalar = value.and_then(|payload| of.scalar(payload).transpose()).transpose()?;
                column.push(scalar.unwrap_or(of.zero()))
            }
            Step::Json(message) => {
                let (descriptors, budget) = (self.descriptors, &mut *self.budget);
                column.push_text(|out| json::write(descriptors, *message, bytes, out, budget, 0))
            }
            Step::Scalar(_) | Step::Enum(_) | Step::EnumNumber => Ok(()),
        }
    }
}

impl MessagePlan {
    /// The place of a field, which mostly is the one at or behind the last.
    #[inline]
    fn find(&self, number: u32, last: usize) -> Option<usize> {
        let is = |index: usize| self.fields.get(index).is_some_and(|field| field.number == number);
        if is(last) {
            return Some(last);
        }
        if is(last + 1) {
            return Some(last + 1);
        }
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }

    /// Of several fields of which one has a value, forgets those of the others.
    fn forget_others(&self, index: usize, record: &mut Record, inner: &mut Vec<Inner>) -> Read<()> {
        let (row, of) = (record.rows(), self.fields.get(index).and_then(|field| field.oneof));
        for (other, field) in
            self.fields.iter().enumerate().filter(|(other, field)| *other != index && field.oneof == of)
        {
            inner.retain(|inner| inner.field != other);
            let column = record.column(field.column)?;
            if column.rows() > row {
                column.truncate(row);
            }
        }
        Ok(())
    }
}

impl FieldPlan {
    /// The message is whole: a list ends, and what has no value gets the one that stands for that.
    fn end(&self, row: usize, column: &mut Column) -> Read<()> {
        match self.occurs {
            Occurs::Repeated | Occurs::Map(_) => column.end_list(),
            Occurs::Once if column.rows() > row => Ok(()),
            Occurs::Once if self.presence => column.miss(),
            Occurs::Once => self.step.push_zero(column),
        }
    }
}

/// Takes note of a message in another, or of more of it.
fn found<'a>(inner: &mut Vec<Inner<'a>>, field: usize, bytes: &'a [u8]) {
    match inner.iter_mut().find(|inner| inner.field == field) {
        Some(inner) => join(&mut inner.bytes, bytes),
        None => inner.push(Inner { field, bytes: Cow::Borrowed(bytes) }),
    }
}

/// Two messages one behind the other are both of them together.
fn join<'a>(first: &mut Cow<'a, [u8]>, more: &'a [u8]) {
    if first.is_empty() {
        *first = Cow::Borrowed(more);
    } else {
        first.to_mut().extend_from_slice(more);
    }
}

/// Appends a value that is no message. False if it is of another kind on the wire, and so no value.
#[inline]
fn scalar(step: &Step, payload: Payload, column: &mut Column) -> Read<bool> {
    match (step, payload) {
        (Step::Scalar(of), payload) => match of.scalar(payload)? {
            Some(value) => column.push(value)?,
            None => return Ok(false),
        },
        (Step::Enum(names), Payload::Varint(number)) => match names.value(number as i32) {
            Some(name) => column.push(Scalar::Text(name))?,
            None => column.push(Scalar::Integer((number as i32).into()))?,
        },
        (Step::EnumNumber, Payload::Varint(number)) => column.push(Scalar::Integer((number as i32).into()))?,
        _ => return Ok(false),
    }
    Ok(true)
}

impl Step {
    /// The value that stands for none.
    fn push_zero(&self, column: &mut Column) -> Read<()> {
        match self {
            Self::Scalar(of) => column.push(of.zero()),
            Self::Enum(names) => match names.value(0) {
                Some(name) => column.push(Scalar::Text(name)),
                None => column.push(Scalar::Integer(0)),
            },
            Self::EnumNumber => column.push(Scalar::Integer(0)),
            _ => column.miss(),
        }
    }

    /// How items are written one behind the other, if they can be.
    fn as_packed(&self) -> Option<ScalarType> {
        match self {
            Self::Scalar(ScalarType::String | ScalarType::Bytes) => None,
            Self::Scalar(of) => Some(*of),
            Self::Enum(_) | Self::EnumNumber => Some(ScalarType::Int32),
            _ => None,
        }
    }

    /// Whether a value that is no message can be written so.
    fn takes(&self, payload: Payload) -> bool {
        match self {
            Self::Scalar(of) => of.takes(payload),
            _ => matches!(payload, Payload::Varint(_)),
        }
    }
}

impl ScalarType {
    fn takes(self, payload: Payload) -> bool {
        match self {
            Self::Double | Self::Fixed64 | Self::SFixed64 => matches!(payload, Payload::Fixed64(_)),
            Self::Float | Self::Fixed32 | Self::SFixed32 => matches!(payload, Payload::Fixed32(_)),
            Self::String | Self::Bytes => matches!(payload, Payload::Bytes(_)),
            _ => matches!(payload, Payload::Varint(_)),
        }
    }

    /// The value. None if it is of another kind on the wire.
    #[inline]
    pub(super) fn scalar(self, payload: Payload<'_>) -> Read<Option<Scalar<'_>>> {
        Ok(Some(match (self, payload) {
            (Self::Int64, Payload::Varint(number)) => Scalar::Integer(number as i64),
            (Self::UInt64, Payload::Varint(number)) => Scalar::Unsigned(number),
            (Self::Int32, Payload::Varint(number)) => Scalar::Integer((number as i32).into()),
            (Self::UInt32, Payload::Varint(number)) => Scalar::Integer((number as u32).into()),
            (Self::SInt32, Payload::Varint(number)) => {
                Scalar::Integer((unzigzag((number as u32).into()) as i32).into())
            }
            (Self::SInt64, Payload::Varint(number)) => Scalar::Integer(unzigzag(number)),
            (Self::Bool, Payload::Varint(number)) => Scalar::Boolean(number != 0),
            (Self::Double, Payload::Fixed64(bytes)) => Scalar::Double(f64::from_le_bytes(bytes)),
            (Self::Fixed64, Payload::Fixed64(bytes)) => Scalar::Unsigned(u64::from_le_bytes(bytes)),
            (Self::SFixed64, Payload::Fixed64(bytes)) => Scalar::Integer(i64::from_le_bytes(bytes)),
            (Self::Float, Payload::Fixed32(bytes)) => Scalar::Float(f32::from_le_bytes(bytes)),
            (Self::Fixed32, Payload::Fixed32(bytes)) => Scalar::Integer(u32::from_le_bytes(bytes).into()),
            (Self::SFixed32, Payload::Fixed32(bytes)) => Scalar::Integer(i32::from_le_bytes(bytes).into()),
            (Self::Bytes, Payload::Bytes(bytes)) => Scalar::Bytes(bytes),
            (Self::String, Payload::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Scalar::Text(text),
                Err(_) => return Err(Refusal::value(": its text is no valid UTF-8")),
            },
            _ => return Ok(None),
        }))
    }

    /// The next of several values one behind the other.
    pub(super) fn next<'a>(self, cursor: &mut Cursor<'a>) -> Read<Payload<'a>> {
        match self {
            Self::Double | Self::Fixed64 | Self::SFixed64 => cursor.array().map(Payload::Fixed64),
            Self::Float | Self::Fixed32 | Self::SFixed32 => cursor.array().map(Payload::Fixed32),
            _ => cursor.varint().map(Payload::Varint),
        }
    }

    /// The value of a field that is not there.
    pub(super) fn zero(self) -> Scalar<'static> {
        match self {
            Self::Double => Scalar::Double(0.0),
            Self::Float => Scalar::Float(0.0),
            Self::Bool => Scalar::Boolean(false),
            Self::String => Scalar::Text(""),
            Self::Bytes => Scalar::Bytes(&[]),
            Self::UInt64 | Self::Fixed64 => Scalar::Unsigned(0),
            _ => Scalar::Integer(0),
        }
    }
}

/// Seconds and nanoseconds behind them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub seconds: i64,
    pub nanos: i32,
}

/// What timestamps and durations are on the wire.
pub(super) fn moment(bytes: &[u8]) -> Read<Moment> {
    let mut moment = Moment { seconds: 0, nanos: 0 };
    fields(bytes, |number, payload| {
        match (number, payload) {
            (1, Payload::Varint(seconds)) => moment.seconds = seconds as i64,
            (2, Payload::Varint(nanos)) => moment.nanos = nanos as i32,
            _ => {}
        }
        Ok(())
    })?;
    Ok(moment)
}

const MAX_NANOS: i32 = 999_999_999;

impl Moment {
    /// The microseconds since 1970.
    pub(super) fn timestamp(self) -> Read<i64> {
        // The years 1 to 9999.
        const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
        let Self { seconds, nanos } = self;
        if !SECONDS.contains(&seconds) || !(0..=MAX_NANOS).contains(&nanos) {
            return Err(Refusal::value(format!(": {seconds} seconds and {nanos} nanoseconds are no timestamp")));
        }
        Ok(seconds * 1_000_000 + i64::from(nanos) / 1000)
    }

    /// The microseconds of a stretch of time, whose parts have the same sign.
    pub(super) fn duration(self) -> Read<i64> {
        const MAX_SECONDS: i64 = 315_576_000_000;
        let Self { seconds, nanos } = self;
        let same_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
        if !(-MAX_SECONDS..=MAX_SECONDS).contains(&seconds) || !(-MAX_NANOS..=MAX_NANOS).contains(&nanos) || !same_sign
        {
            return Err(Refusal::value(format!(": {seconds} seconds and {nanos} nanoseconds are no duration")));
        }
        Ok(seconds * 1_000_000 + i64::from(nanos).div_euclid(1000))
    }
}
