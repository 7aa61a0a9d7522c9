//! Rows as lines of JSON, one behind the other: a key for each column.

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use millstream_core::{Result, ResultExt as _};
use serde::Serialize;

use crate::exact::exact;

/// Writes rows of columns, which have names. What is no number in JSON is a text: `nan`, `inf`, `-inf`.
///
/// # Errors
/// If a column has values that can't be written.
pub fn lines<'a>(columns: impl Iterator<Item = (&'a str, &'a ArrayRef)>, rows: usize) -> Result<Vec<u8>> {
    let columns = columns.map(|(name, values)| Column::new(name, values)).collect::<Result<Vec<_>>>()?;
    let mut out = Vec::with_capacity(rows * columns.len() * 24);
    for row in 0..rows {
        object(&columns, row, &mut out);
        out.push(b'\n');
    }
    Ok(out)
}

/// The line of a row once more, with another key behind the others.
pub fn with(line: &[u8], name: &str, value: &impl Serialize, out: &mut Vec<u8>) {
    let keys = line.trim_ascii_end().strip_suffix(b"}").unwrap_or(line);
    out.extend_from_slice(keys);
    if !keys.ends_with(b"{") {
        out.push(b',');
    }
    json(name, out);
    out.push(b':');
    json(value, out);
    out.extend_from_slice(b"}\n");
}

struct Column {
    /// The name and a colon, as JSON.
    key: Vec<u8>,
    values: Values,
}

enum Values {
    Boolean(BooleanArray),
    Integer(Int64Array),
    Large(UInt64Array),
    Float(Float64Array),
    Text(StringArray),
    Several(Vec<Column>),
}

impl Column {
    fn new(name: &str, values: &ArrayRef) -> Result<Self> {
        let mut key = Vec::new();
        json(name, &mut key);
        key.push(b':');
        let values = Values::of(values).doing(|| format!("writing `{name}` into the log of requests"))?;
        Ok(Self { key, values })
    }
}

impl Values {
    fn of(values: &ArrayRef) -> Result<Self> {
        Ok(match values.data_type() {
            DataType::Boolean => Self::Boolean(values.as_boolean().clone()),
            DataType::Utf8 => Self::Text(values.as_string().clone()),
            DataType::UInt64 => Self::Large(values.as_primitive::<UInt64Type>().clone()),
            other if other.is_integer() => {
                Self::Integer(cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(values.as_struct().columns());
                Self::Several(columns.map(|(field, values)| Column::new(field.name(), values)).collect::<Result<_>>()?)
            }
            _ => match exact(values, &DataType::Float64) {
                Ok(floats) => Self::Float(floats.as_primitive::<Float64Type>().clone()),
                Err(_) => Self::Text(cast(values, &DataType::Utf8)?.as_string().clone()),
            },
        })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(values) => json(&values.is_valid(row).then(|| values.value(row)), out),
            Self::Integer(values) => json(&values.is_valid(row).then(|| values.value(row)), out),
            Self::Large(values) => json(&values.is_valid(row).then(|| values.value(row)), out),
            Self::Float(values) => match values.is_valid(row).then(|| values.value(row)) {
                // As texts, which readers of JSON take for what they are.
                Some(float) if !float.is_finite() => json(&float.to_string().to_ascii_lowercase(), out),
                float => json(&float, out),
            },
            Self::Text(values) => json(&values.is_valid(row).then(|| values.value(row)), out),
            Self::Several(columns) => object(columns, row, out),
        }
    }
}

fn object(columns: &[Column], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, Column { key, values }) in columns.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        values.write(row, out);
    }
    out.push(b'}');
}

/// Memory takes whatever is written, and a value without parts has always a form.
fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StructArray;
    use millstream_testkit::table;
    use serde_json::Value;

    use super::*;

    #[test]
    fn rows_are_objects_by_their_columns() {
        let rows = table("amount:float64? items:int64 country\n 0.1 1 DE\n null 2 a\"b");
        let classes: ArrayRef = Arc::new(StructArray::from(table("yes:float64 no:float64\n 0.75 0.25\n NaN 1")));
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 0]));
        let schema = rows.schema();
        let columns = schema.fields().iter().map(|field| field.name().as_str()).zip(rows.columns());
        let columns = columns.chain([("probabilities", &classes), ("la\"rge", &large)]);
        let text = lines(columns, 2).unwrap();
        let text = String::from_utf8(text).unwrap();
        let first = r#"{"amount":0.1,"items":1,"country":"DE","probabilities":{"yes":0.75,"no":0.25},"la\"rge":18446744073709551615}"#;
        assert_eq!(text.lines().next(), Some(first));
        let second: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!((&second["amount"], &second["probabilities"]["yes"]), (&Value::Null, &Value::from("nan")));
        let mut out = Vec::new();
        with(first.as_bytes(), "fraud", &true, &mut out);
        with(b"{}\n", "n", &1, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("{},\"fraud\":true}}\n{{\"n\":1}}\n", &first[..first.len() - 1])
        );
    }
}
