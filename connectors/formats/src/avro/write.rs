//! Rows in Avro's binary encoding, and the schema that they have.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use millstream_core::{Error, Problem, Result, type_name};
use serde_json::{Value, json};

pub(crate) use crate::records::put_zigzag as put_long;

/// The name of records that are rows of a flow, if nothing else is said.
pub(super) const ROW: &str = "row";

/// The schema of rows: as JSON. `name` is that of the record, with its namespace if it has one. Null is the first type of columns that may
/// be null.
pub(super) fn schema_of(name: &str, schema: &Schema) -> Value {
    let (namespace, name) = name.rsplit_once('.').map_or((None, name), |(namespace, name)| (Some(namespace), name));
    let mut whole = record(name, schema.fields().iter().map(|field| &**field));
    if let Some(namespace) = namespace {
        whole["namespace"] = namespace.into();
    }
    whole
}

/// Checks that a record can be called so.
pub(super) fn check_record(name: &str) -> Result<(), Problem> {
    if name.split('.').all(is_name) {
        return Ok(());
    }
    let problem = Problem::new(format!("no record of Avro can be called `{name}`"));
    Err(problem.help("names are letters without accents, digits and `_`, a letter first, such as `shop.Payment`"))
}

/// Whether Avro takes something for a name.
fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn record<'a>(name: &str, fields: impl Iterator<Item = &'a Field>) -> Value {
    let field = |field: &Field| {
        let kind = nullable(field.data_type(), field.is_nullable(), &format!("{name}_{}", field.name()));
        let mut field_of = json!({ "name": field.name(), "type": kind });
        if field.is_nullable() {
            field_of["default"] = Value::Null;
        }
        field_of
    };
    json!({ "type": "record", "name": name, "fields": fields.map(field).collect::<Vec<_>>() })
}

/// `path` is what a type is called that needs a name.
fn nullable(data_type: &DataType, nullable: bool, path: &str) -> Value {
    let kind = match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => json!("int"),
        DataType::Int64 | DataType::UInt32 => json!("long"),
        DataType::UInt64 => decimal(20, 0),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Decimal128(precision, scale) => decimal(*precision, *scale),
        DataType::Binary => json!("bytes"),
        DataType::Date32 => json!({ "type": "int", "logicalType": "date" }),
        DataType::Time64(_) => json!({ "type": "long", "logicalType": "time-micros" }),
        DataType::Timestamp(_, _) => json!({ "type": "long", "logicalType": "timestamp-micros" }),
        DataType::List(item) => {
            json!({ "type": "array", "items": self::nullable(item.data_type(), item.is_nullable(), &format!("{path}_item")) })
        }
        DataType::Struct(fields) => record(path, fields.iter().map(|field| &**field)),
        // Flows carry no others but texts.
        _ => json!("string"),
    };
    if nullable { json!(["null", kind]) } else { kind }
}

fn decimal(precision: u8, scale: i8) -> Value {
    json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
}

/// Refuses columns that no record can have.
pub(super) fn check_names(fields: &Fields) -> Result<(), Problem> {
    for field in fields {
        let name = field.name();
        if !is_name(name) {
            let problem = Problem::new(format!("column `{name}` can't be a field of Avro"));
            return Err(problem
                .help("its names are letters without accents, digits and `_`, a letter first; `sql` renames columns"));
        }
        match field.data_type() {
            DataType::Struct(fields) => check_names(fields)?,
            DataType::List(item) => check_item(item)?,
            _ => {}
        }
    }
    Ok(())
}

/// The items of lists have no name in Avro.
fn check_item(item: &Field) -> Result<(), Problem> {
    match item.data_type() {
        DataType::Struct(fields) => check_names(fields),
        DataType::List(item) => check_item(item),
        _ => Ok(()),
    }
}

/// Appends bytes behind their number.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// Appends the value of a row.
type Put<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// Appends the rows of a batch, one by one: see [`Self::put`].
pub(super) struct RowWriter<'a> {
    columns: Vec<Put<'a>>,
}

impl<'a> RowWriter<'a> {
    pub(super) fn new(rows: &'a RecordBatch) -> Result<Self> {
        let schema = rows.schema_ref();
        let columns = rows.columns().iter().zip(schema.fields()).map(|(array, field)| put(array, field.is_nullable()));
        Ok(Self { columns: columns.collect::<Result<_>>()? })
    }

    /// Appends a row.
    pub(super) fn put(&self, row: usize, out: &mut Vec<u8>) {
        self.columns.iter().for_each(|column| column(row, out));
    }
}

fn put(array: &ArrayRef, nullable: bool) -> Result<Put<'_>> {
    let value = put_value(array)?;
    if !nullable {
        return Ok(value);
    }
    Ok(Box::new(move |row, out| {
        let is_null = array.is_null(row);
        put_long(i64::from(!is_null), out);
        if !is_null {
            value(row, out);
        }
    }))
}

fn put_value(array: &ArrayRef) -> Result<Put<'_>> {
    macro_rules! long {
        ($type:ty) => {{
            let values = array.as_primitive::<$type>().values();
            Box::new(move |row, out| put_long(values[row].into(), out))
        }};
    }
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().values();
            Box::new(move |row, out| out.push(values.value(row).into()))
        }
        DataType::Int8 => long!(Int8Type),
        DataType::Int16 => long!(Int16Type),
        DataType::Int32 => long!(Int32Type),
        DataType::Int64 => long!(Int64Type),
        DataType::UInt8 => long!(UInt8Type),
        DataType::UInt16 => long!(UInt16Type),
        DataType::UInt32 => long!(UInt32Type),
        DataType::Date32 => long!(Date32Type),
        DataType::Time64(_) => long!(Time64MicrosecondType),
        DataType::Timestamp(_, _) => long!(TimestampMicrosecondType),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>().values();
            Box::new(move |row, out| put_decimal(values[row].into(), out))
        }
        DataType::Decimal128(_, _) => {
            let values = array.as_primitive::<Decimal128Type>().values();
            Box::new(move |row, out| put_decimal(values[row], out))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            Box::new(move |row, out| out.extend_from_slice(&values[row].to_le_bytes()))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            Box::new(move |row, out| out.extend_from_slice(&values[row].to_le_bytes()))
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            Box::new(move |row, out| put_bytes(values.value(row).as_bytes(), out))
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            Box::new(move |row, out| put_bytes(values.value(row), out))
        }
        DataType::List(item) => {
            let (lists, item) = (array.as_list::<i32>(), put(array.as_list::<i32>().values(), item.is_nullable())?);
            Box::new(move |row, out| {
                let (start, end) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                if start < end {
                    put_long((end - start) as i64, out);
                    (start..end).for_each(|row| item(row, out));
                }
                put_long(0, out);
            })
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().zip(fields);
            let columns = columns.map(|(array, field)| put(array, field.is_nullable())).collect::<Result<Vec<_>>>()?;
            Box::new(move |row, out| columns.iter().for_each(|column| column(row, out)))
        }
        other => return Err(Error::new(format!("Avro has no type for {}", type_name(other)))),
    })
}

/// Appends the digits of a decimal, in base 256 with the high ones first, and as few as there can be.
fn put_decimal(number: i128, out: &mut Vec<u8>) {
    let digits = number.to_be_bytes();
    let fill = if number < 0 { 0xff } else { 0 };
    let first = digits.iter().position(|digit| *digit != fill).unwrap_or(digits.len() - 1);
    // The first bit is the sign.
    let has_sign = digits[first] >> 7 == fill >> 7;
    put_bytes(&digits[if has_sign { first } else { first - 1 }..], out);
}
