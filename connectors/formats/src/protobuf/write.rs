//! Rows become messages on the wire, field by field in the order of their numbers, so that the same rows are the same bytes.
//!
//! What is decided by types is decided once a batch: each column has what appends its value in a row.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use millstream_core::{Error, Problem, type_name, with_article};

use super::descriptors::ScalarType;
use super::plan::{FieldPlan, MessagePlan, Occurs, Step};
use super::read::Moment;
use super::wire::{FIXED32, FIXED64, GROUP, GROUP_END, LENGTH_DELIMITED, VARINT};
use crate::messages::{MessageWriter, Payloads};
use crate::records::{put_varint, put_zigzag};
use crate::refusal::{Read, Refusal};

/// Appends what a row has.
type Put<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Read<()> + 'a>;

/// Writes rows as messages of one type.
pub(super) struct RowWriter(pub MessagePlan);

impl MessageWriter for RowWriter {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Payloads) -> Result<(), Error> {
        let message = message(&self.0, rows.columns(), "").map_err(|problem| Error::new(problem.message))?;
        (0..rows.num_rows()).for_each(|row| out.try_push_with(|bytes| message(row, bytes)));
        Ok(())
    }
}

/// Appends the fields of a message. Its plan has the places of columns.
pub(super) fn message<'a>(plan: &'a MessagePlan, columns: &'a [ArrayRef], path: &str) -> Result<Put<'a>, Problem> {
    if let Some(field) = plan.missing.first() {
        let field = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        return Err(Problem::new(format!("the field `{field}` is required, and there is no such column")));
    }
    let mut fields = Vec::with_capacity(plan.fields.len());
    for of in &plan.fields {
        let path = if path.is_empty() { of.name.clone() } else { format!("{path}.{}", of.name) };
        fields.push((of, field(of, &columns[of.column], &path)?));
    }
    let oneofs = oneofs(plan, columns);
    Ok(Box::new(move |row, out| {
        oneofs.iter().try_for_each(|of| check_oneof(of, row))?;
        fields.iter().try_for_each(|(of, put)| put(row, out).map_err(|refusal| refusal.within(&of.name)))
    }))
}

/// The fields of which one at most may have a value, with their columns.
type OneOf<'a> = Vec<(&'a str, &'a ArrayRef)>;

fn oneofs<'a>(plan: &'a MessagePlan, columns: &'a [ArrayRef]) -> Vec<OneOf<'a>> {
    let mut numbers: Vec<_> = plan.fields.iter().filter_map(|field| field.oneof).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let members = |number: u32| {
        let fields = plan.fields.iter().filter(move |field| field.oneof == Some(number));
        fields.map(|field| (field.name.as_str(), &columns[field.column])).collect::<OneOf>()
    };
    numbers.into_iter().map(members).filter(|members| members.len() > 1).collect()
}

fn check_oneof(of: &OneOf, row: usize) -> Read<()> {
    let mut found = of.iter().filter(|(_, column)| column.is_valid(row));
    match (found.next(), found.next()) {
        (Some((first, _)), Some((second, _))) => {
            Err(Refusal::value(format!(": of `{first}` and `{second}` only one may have a value")).within(second))
        }
        _ => Ok(()),
    }
}

/// Appends a field, with its number.
fn field<'a>(of: &'a FieldPlan, column: &'a ArrayRef, path: &str) -> Result<Put<'a>, Problem> {
    match of.occurs {
        Occurs::Once => once(of, column, path),
        Occurs::Repeated => repeated(of, column, path),
        Occurs::Map(key) => map(of, key, column, path),
    }
}

fn once<'a>(of: &'a FieldPlan, column: &'a ArrayRef, path: &str) -> Result<Put<'a>, Problem> {
    let put = numbered(of, column, path)?;
    let tag_bytes = tag_bytes(of.number);
    Ok(Box::new(move |row, out| {
        if column.is_null(row) {
            return if of.required { Err(Refusal::value(" is null, and the field is required")) } else { Ok(()) };
        }
        let start = out.len();
        put(row, out)?;
        // What has no presence is 0 or empty if it is not there. On the wire, those are zeros and nothing else.
        if !of.presence && out[start + tag_bytes..].iter().all(|byte| *byte == 0) {
            out.truncate(start);
        }
        Ok(())
    }))
}

/// Appends a value that is not null behind its number.
fn numbered<'a>(of: &'a FieldPlan, column: &'a ArrayRef, path: &str) -> Result<Put<'a>, Problem> {
    if let (true, Step::Message(plan)) = (of.is_group, &of.step) {
        let columns = column.as_struct_opt().ok_or_else(|| misfit(column, path, of.step.name()))?.columns();
        let (put, begin, end) = (message(plan, columns, path)?, tag(of.number, GROUP), tag(of.number, GROUP_END));
        return Ok(Box::new(move |row, out| {
            put_varint(begin, out);
            put(row, out)?;
            put_varint(end, out);
            Ok(())
        }));
    }
    let (put, tag) = (value(&of.step, column, path)?, tag(of.number, of.step.wire_type()));
    Ok(Box::new(move |row, out| {
        put_varint(tag, out);
        put(row, out)
    }))
}

fn repeated<'a>(of: &'a FieldPlan, column: &'a ArrayRef, path: &str) -> Result<Put<'a>, Problem> {
    let lists = column.as_list::<i32>();
    let items = lists.values();
    let path = format!("{path}[]");
    let range = move |row: usize| item_range(lists.value_offsets(), row, lists.is_null(row));
    if of.step.wire_type() == LENGTH_DELIMITED {
        let put = not_null(numbered(of, items, &path)?, items, "an item");
        return Ok(Box::new(move |row, out| range(row).try_for_each(|item| put(item, out))));
    }
    let put = not_null(value(&of.step, items, &path)?, items, "an item");
    let packed = tag(of.number, LENGTH_DELIMITED);
    Ok(Box::new(move |row, out| {
        let mut items = range(row);
        if items.is_empty() {
            return Ok(());
        }
        put_varint(packed, out);
        delimited(out, |out| items.try_for_each(|item| put(item, out)))
    }))
}

fn map<'a>(of: &'a FieldPlan, key: ScalarType, column: &'a ArrayRef, path: &str) -> Result<Put<'a>, Problem> {
    let lists = column.as_list::<i32>();
    let entries = lists.values().as_struct();
    let (keys, values) = (entries.column(0), entries.column(1));
    let put_key = not_null(scalar(key, keys, &format!("{path}[].key"))?, keys, "a key");
    let put_value = not_null(value(&of.step, values, &format!("{path}[].value"))?, values, "a value");
    let tag_of = tag(of.number, LENGTH_DELIMITED);
    let (key_tag, value_tag) = (tag(1, key.wire_type()), tag(2, of.step.wire_type()));
    Ok(Box::new(move |row, out| {
        item_range(lists.value_offsets(), row, lists.is_null(row)).try_for_each(|entry| {
            if entries.is_null(entry) {
                return Err(Refusal::value(": an entry is null, which Protobuf can't say"));
            }
            put_varint(tag_of, out);
            delimited(out, |out| {
                put_varint(key_tag, out);
                put_key(entry, out)?;
                put_varint(value_tag, out);
                put_value(entry, out)
            })
        })
    }))
}

/// The places of the items of a list.
fn item_range(offsets: &[i32], row: usize, is_null: bool) -> std::ops::Range<usize> {
    if is_null { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
}

/// Refuses what is null where there is no such thing.
fn not_null<'a>(put: Put<'a>, items: &'a ArrayRef, what: &'static str) -> Put<'a> {
    if items.null_count() == 0 {
        return put;
    }
    Box::new(move |item, out| {
        if items.is_null(item) {
            return Err(Refusal::value(format!(": {what} is null, which Protobuf can't say")));
        }
        put(item, out)
    })
}

/// Appends a value that is not null.
fn value<'a>(step: &'a Step, column: &'a ArrayRef, path: &str) -> Result<Put<'a>, Problem> {
    let misfit = || misfit(column, path, step.name());
    Ok(match step {
        Step::Scalar(of) => scalar(*of, column, path)?,
        Step::Enum(names) => {
            let texts = column.as_string_opt::<i32>().ok_or_else(misfit)?;
            Box::new(move |row, out| {
                let text = texts.value(row);
                let unknown = || Refusal::value(format!(": `{text}` is no name of `{}`", names.name));
                put_varint(i64::from(names.number(text).ok_or_else(unknown)?) as u64, out);
                Ok(())
            })
        }
        Step::EnumNumber => integer(ScalarType::Int32, column).ok_or_else(misfit)?,
        Step::Message(plan) => {
            let columns = column.as_struct_opt().ok_or_else(misfit)?.columns();
            let put = message(plan, columns, path)?;
            Box::new(move |row, out| delimited(out, |out| put(row, out)))
        }
        Step::Timestamp => {
            let times = column.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(misfit)?.values();
            Box::new(move |row, out| {
                let (seconds, micros) = (times[row].div_euclid(1_000_000), times[row].rem_euclid(1_000_000));
                let moment = Moment { seconds, nanos: micros as i32 * 1000 };
                moment.timestamp()?;
                put_moment(moment, out)
            })
        }
        Step::Duration => {
            let micros = column.as_primitive_opt::<Int64Type>().ok_or_else(misfit)?.values();
            Box::new(move |row, out| {
                let moment =
                    Moment { seconds: micros[row] / 1_000_000, nanos: (micros[row] % 1_000_000) as i32 * 1000 };
                moment.duration()?;
                put_moment(moment, out)
            })
        }
        Step::Wrapper(of) => {
            let (put, tag) = (scalar(*of, column, path)?, tag(1, of.wire_type()));
            Box::new(move |row, out| {
                delimited(out, |out| {
                    put_varint(tag, out);
                    put(row, out)
                })
            })
        }
        Step::Json(_) => {
            let problem = format!(
                "column `{path}` is the text of a message, and messages are written of structs and values alone"
            );
            return Err(Problem::new(problem).help("leave it out, or make a struct of it"));
        }
    })
}

fn misfit(column: &ArrayRef, path: &str, field: String) -> Problem {
    let found = type_name(column.data_type());
    Problem::new(format!("column `{path}` is {found}, which can't become the field, a {field}"))
        .help("an `sql` node can cast it")
}

/// Appends a value of a type that is no message and no enum.
fn scalar<'a>(of: ScalarType, column: &'a ArrayRef, path: &str) -> Result<Put<'a>, Problem> {
    let put: Option<Put> = match (of, column.data_type()) {
        (ScalarType::Bool, DataType::Boolean) => {
            let values = column.as_boolean().values();
            Some(Box::new(move |row, out| {
                out.push(values.value(row).into());
                Ok(())
            }))
        }
        (ScalarType::String, DataType::Utf8) => {
            let texts = column.as_string::<i32>();
            Some(Box::new(move |row, out| put_bytes(texts.value(row).as_bytes(), out)))
        }
        (ScalarType::Bytes, DataType::Binary) => {
            let values = column.as_binary::<i32>();
            Some(Box::new(move |row, out| put_bytes(values.value(row), out)))
        }
        (ScalarType::Float, DataType::Float32) => {
            let values = column.as_primitive::<Float32Type>().values();
            Some(Box::new(move |row, out| fixed(values[row].to_le_bytes(), out)))
        }
        (ScalarType::Double, DataType::Float32) => {
            let values = column.as_primitive::<Float32Type>().values();
            Some(Box::new(move |row, out| fixed(f64::from(values[row]).to_le_bytes(), out)))
        }
        (ScalarType::Double, DataType::Float64) => {
            let values = column.as_primitive::<Float64Type>().values();
            Some(Box::new(move |row, out| fixed(values[row].to_le_bytes(), out)))
        }
        _ => integer(of, column),
    };
    put.ok_or_else(|| misfit(column, path, of.name()))
}

/// Appends an integer of any width. None if the column or the field is none.
fn integer(of: ScalarType, column: &ArrayRef) -> Option<Put<'_>> {
    macro_rules! integer {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>().values();
            put_integer(of, move |row| i128::from(values[row]))
        }};
    }
    match column.data_type() {
        DataType::Int8 => integer!(Int8Type),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::UInt8 => integer!(UInt8Type),
        DataType::UInt16 => integer!(UInt16Type),
        DataType::UInt32 => integer!(UInt32Type),
        DataType::UInt64 => integer!(UInt64Type),
        _ => None,
    }
}

fn put_integer<'a>(of: ScalarType, get: impl Fn(usize) -> i128 + 'a) -> Option<Put<'a>> {
    let (least, most): (i128, i128) = match of {
        ScalarType::Int32 | ScalarType::SInt32 | ScalarType::SFixed32 => (i32::MIN.into(), i32::MAX.into()),
        ScalarType::Int64 | ScalarType::SInt64 | ScalarType::SFixed64 => (i64::MIN.into(), i64::MAX.into()),
        ScalarType::UInt32 | ScalarType::Fixed32 => (0, u32::MAX.into()),
        ScalarType::UInt64 | ScalarType::Fixed64 => (0, u64::MAX.into()),
        _ => return None,
    };
    Some(Box::new(move |row, out| {
        let number = get(row);
        if !(least..=most).contains(&number) {
            return Err(Refusal::value(format!(": {number} is not {}", with_article(&of.name()))));
        }
        match of {
            ScalarType::SInt32 | ScalarType::SInt64 => put_zigzag(number as i64, out),
            ScalarType::Fixed32 | ScalarType::SFixed32 => out.extend_from_slice(&(number as u32).to_le_bytes()),
            ScalarType::Fixed64 | ScalarType::SFixed64 => out.extend_from_slice(&(number as u64).to_le_bytes()),
            _ => put_varint(number as u64, out),
        }
        Ok(())
    }))
}

/// The number of a field and how its value is written.
fn tag(number: u32, wire_type: u64) -> u64 {
    u64::from(number) << 3 | wire_type
}

/// How many bytes it has.
fn tag_bytes(number: u32) -> usize {
    let bits = u64::BITS - tag(number, 0).leading_zeros();
    bits.div_ceil(7) as usize
}

fn fixed<const N: usize>(bytes: [u8; N], out: &mut Vec<u8>) -> Read<()> {
    out.extend_from_slice(&bytes);
    Ok(())
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Read<()> {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends seconds and nanoseconds, which are left out where they are 0.
fn put_moment(Moment { seconds, nanos }: Moment, out: &mut Vec<u8>) -> Read<()> {
    delimited(out, |out| {
        for (number, part) in [(1, seconds), (2, i64::from(nanos))] {
            if part != 0 {
                put_varint(tag(number, VARINT), out);
                put_varint(part as u64, out);
            }
        }
        Ok(())
    })
}

/// Appends bytes behind their number.
fn delimited(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>) -> Read<()>) -> Read<()> {
    let start = out.len();
    // Mostly there is no more to the number.
    out.push(0);
    put(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut number = Vec::with_capacity(10);
        put_varint(length as u64, &mut number);
        out.splice(start..=start, number);
    }
    Ok(())
}

impl Step {
    /// How a value is written.
    fn wire_type(&self) -> u64 {
        match self {
            Self::Scalar(of) => of.wire_type(),
            Self::Enum(_) | Self::EnumNumber => VARINT,
            _ => LENGTH_DELIMITED,
        }
    }

    /// What a value is called in messages to people.
    fn name(&self) -> String {
        match self {
            Self::Scalar(of) => of.name(),
            Self::Enum(names) => format!("enum {}", names.name),
            Self::EnumNumber => "enum".to_owned(),
            Self::Timestamp => "Timestamp".to_owned(),
            Self::Duration => "Duration".to_owned(),
            Self::Wrapper(of) => format!("wrapper of a {}", of.name()),
            Self::Message(_) | Self::Json(_) => "message".to_owned(),
        }
    }
}

impl ScalarType {
    fn wire_type(self) -> u64 {
        match self {
            Self::Double | Self::Fixed64 | Self::SFixed64 => FIXED64,
            Self::Float | Self::Fixed32 | Self::SFixed32 => FIXED32,
            Self::String | Self::Bytes => LENGTH_DELIMITED,
            _ => VARINT,
        }
    }
}
