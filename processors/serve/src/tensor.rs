//! Tensors: the values of requests and answers, by name, with a shape; and their binary form, which is that of the extension
//! `binary_tensor_data`: little-endian, row by row, without padding.

use std::sync::Arc;

use arrow::array::ArrayData;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, PrimitiveArray, StringArray, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Float32Type};
use bytes::Bytes;

use crate::cells::Cells;
use crate::datatype::Datatype;
use crate::exact::exact;
use crate::refusal::Refusal;

/// A tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// How many values it has in each direction.
    pub shape: Vec<usize>,
    /// The type of its values.
    pub datatype: Datatype,
    /// The values, row by row.
    pub values: ArrayRef,
}

/// What a request says about a tensor besides its values.
#[derive(Clone, Debug)]
pub struct Head {
    /// Where it is in the request, for messages: `inputs[0]`.
    pub place: String,
    /// Its name.
    pub name: String,
    /// How many values it has in each direction.
    pub shape: Vec<usize>,
    /// The type of its values.
    pub datatype: Datatype,
    /// How many values it has.
    count: usize,
}

impl Head {
    /// Checks what a request says.
    ///
    /// # Errors
    /// If there is no such type, or the shape is none.
    pub fn new(place: String, name: String, shape: &[i64], datatype: &str) -> Result<Self, Refusal> {
        let datatype = Datatype::parse(datatype).ok_or_else(|| {
            let known: Vec<_> = Datatype::names().collect();
            Refusal::wrong(format!("`{place}.datatype` is `{datatype}`; the types are {}", known.join(", ")))
        })?;
        let no_shape = || Refusal::wrong(format!("`{place}.shape` is {shape:?}, which is none of a tensor"));
        let sizes: Option<Vec<usize>> = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
        let shape = sizes.ok_or_else(no_shape)?;
        let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size)).ok_or_else(no_shape)?;
        Ok(Self { place, name, shape, datatype, count })
    }

    /// How many bytes its values have in binary form; none where that differs.
    pub fn bytes(&self) -> Option<usize> {
        self.datatype.width().map(|width| width.saturating_mul(self.count))
    }
}

impl Tensor {
    /// Of values of JSON.
    ///
    /// # Errors
    /// If there are more or less than the shape says, or of another type.
    pub fn of_cells(head: Head, cells: Cells) -> Result<Self, Refusal> {
        let Head { place, name, shape, datatype, count } = head;
        if matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
            let message = format!("`{place}.datatype` is {datatype}, which has no form in JSON; send it in binary");
            return Err(Refusal::wrong(message));
        }
        check_count(&place, &shape, count, cells.len())?;
        let values = exact(&cells.into_column(), &datatype.column());
        let values = values.map_err(|why| Refusal::wrong(format!("`{place}.data` is no {datatype}: {why}")))?;
        Ok(Self { name, shape, datatype, values })
    }

    /// Of a column of values, of its type.
    ///
    /// # Errors
    /// If there are more or less than the shape says, or of another type.
    pub fn of_column(head: Head, column: &ArrayRef) -> Result<Self, Refusal> {
        let Head { place, name, shape, datatype, count } = head;
        check_count(&place, &shape, count, column.len())?;
        let values = exact(column, &datatype.column());
        let values = values.map_err(|why| Refusal::wrong(format!("`{place}` is no {datatype}: {why}")))?;
        Ok(Self { name, shape, datatype, values })
    }

    /// Of values in binary form.
    ///
    /// # Errors
    /// If there are more or less than the shape says, or texts that are not in UTF-8.
    pub fn of_bytes(head: Head, bytes: &Bytes) -> Result<Self, Refusal> {
        let length = head.bytes().filter(|length| *length != bytes.len());
        let Head { place, name, shape, datatype, count } = head;
        if let Some(length) = length {
            let found = bytes.len();
            let message = format!("`{place}` of shape {shape:?} and type {datatype} has {length} bytes, not {found}");
            return Err(Refusal::wrong(message));
        }
        let values = match datatype {
            Datatype::Bool => Arc::new(booleans(&place, bytes)?) as ArrayRef,
            Datatype::Bf16 => Arc::new(upper_halves(bytes)),
            Datatype::Bytes => Arc::new(texts(&place, &shape, count, bytes)?),
            _ => numbers(&place, datatype, count, bytes)?,
        };
        Ok(Self { name, shape, datatype, values })
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Its values in binary form.
    ///
    /// # Errors
    /// If one is null, and no number.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        let values = &self.values;
        if values.null_count() > 0 && !values.data_type().is_floating() {
            let row = (0..values.len()).find(|row| values.is_null(*row)).unwrap_or_default();
            let message = format!(
                "value {row} of output `{}` is null, which {} has no binary form of; ask for JSON",
                self.name, self.datatype
            );
            return Err(Refusal::wrong(message));
        }
        Ok(match values.data_type() {
            DataType::Boolean => values.as_boolean().values().iter().map(u8::from).collect(),
            DataType::Utf8 => {
                let texts = values.as_string::<i32>();
                let mut bytes = Vec::with_capacity(texts.value_data().len() + 4 * texts.len());
                for text in texts.iter().flatten() {
                    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
                bytes
            }
            DataType::Float64 => with_nan(values.as_primitive::<arrow::datatypes::Float64Type>(), f64::NAN),
            DataType::Float32 => with_nan(values.as_primitive::<Float32Type>(), f32::NAN),
            _ => {
                let data = values.to_data();
                let width = self.datatype.width().unwrap_or(1);
                let from = data.offset() * width;
                let buffer = data.buffers().first().map(Buffer::as_slice).unwrap_or_default();
                buffer.get(from..from + data.len() * width).unwrap_or_default().to_vec()
            }
        })
    }
}

/// The bytes of floats. What is null is NaN.
fn with_nan<T: arrow::datatypes::ArrowPrimitiveType>(values: &PrimitiveArray<T>, nan: T::Native) -> Vec<u8> {
    if values.null_count() == 0 {
        return values.values().inner().as_slice().to_vec();
    }
    let filled: Vec<T::Native> = values.iter().map(|value| value.unwrap_or(nan)).collect();
    Buffer::from_vec(filled).as_slice().to_vec()
}

fn check_count(place: &str, shape: &[usize], count: usize, found: usize) -> Result<(), Refusal> {
    if count == found {
        return Ok(());
    }
    Err(Refusal::wrong(format!("`{place}` of shape {shape:?} has {count} values, not {found}")))
}

fn booleans(place: &str, bytes: &Bytes) -> Result<BooleanArray, Refusal> {
    match bytes.iter().position(|byte| *byte > 1) {
        None => Ok(bytes.iter().map(|byte| Some(*byte == 1)).collect()),
        Some(at) => Err(Refusal::wrong(format!("value {at} of `{place}` is {}, which is no BOOL: 0 or 1", bytes[at]))),
    }
}

/// Floats of which only the upper half was sent.
fn upper_halves(bytes: &Bytes) -> PrimitiveArray<Float32Type> {
    let halves = bytes.chunks_exact(2).map(|half| f32::from_le_bytes([0, 0, half[0], half[1]]));
    halves.map(Some).collect()
}

fn texts(place: &str, shape: &[usize], count: usize, bytes: &Bytes) -> Result<StringArray, Refusal> {
    let wrong = |at: usize, why: &str| Refusal::wrong(format!("text {at} of `{place}` {why}"));
    let mut texts: Vec<&str> = Vec::with_capacity(count.min(bytes.len() / 4));
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let at = texts.len();
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(|| wrong(at, "has no length in 4 bytes"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let text = behind.get(..length);
        let text = text.ok_or_else(|| wrong(at, &format!("has {length} bytes, and {} are left", behind.len())))?;
        texts.push(std::str::from_utf8(text).map_err(|_| wrong(at, "is not in UTF-8"))?);
        rest = &behind[length..];
    }
    check_count(place, shape, count, texts.len())?;
    Ok(StringArray::from(texts))
}

/// Numbers, which are little-endian as those of this machine.
fn numbers(place: &str, datatype: Datatype, count: usize, bytes: &Bytes) -> Result<ArrayRef, Refusal> {
    const { assert!(cfg!(target_endian = "little")) };
    // Copied to where numbers may lie.
    let buffer = Buffer::from_slice_ref(&bytes[..]);
    let data = ArrayData::builder(datatype.column()).len(count).add_buffer(buffer).build();
    data.map(make_array).map_err(|error| Refusal::wrong(format!("`{place}` is no {datatype}: {error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::datatypes::{Float64Type, Int16Type};

    use super::*;

    fn head(shape: &[i64], datatype: &str) -> Head {
        Head::new("inputs[0]".to_owned(), "x".to_owned(), shape, datatype).unwrap()
    }

    fn refused(result: Result<Tensor, Refusal>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn values_come_back_from_their_binary_form() {
        for (datatype, bytes) in [
            ("BOOL", vec![0, 1]),
            ("INT16", vec![255, 255, 2, 0]),
            ("UINT64", vec![7; 16]),
            ("FP32", [1.5_f32, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect()),
            ("FP64", [1.5_f64, -0.0].iter().flat_map(|value| value.to_le_bytes()).collect()),
            ("BYTES", b"\x01\0\0\0a\0\0\0\0".to_vec()),
        ] {
            let tensor = Tensor::of_bytes(head(&[2, 1], datatype), &Bytes::from(bytes.clone())).unwrap();
            assert_eq!((tensor.values.len(), tensor.to_bytes().unwrap()), (2, bytes), "{datatype}");
        }
        let half = Tensor::of_bytes(head(&[1], "BF16"), &Bytes::from(vec![0xc0, 0x3f])).unwrap();
        assert_eq!(half.values.as_primitive::<Float32Type>().values(), &[1.5]);
        let half = Tensor::of_bytes(head(&[1], "FP16"), &Bytes::from(vec![0x00, 0x3e])).unwrap();
        let half = exact(&half.values, &DataType::Float64).unwrap();
        assert_eq!(half.as_primitive::<Float64Type>().values(), &[1.5]);
        let short = Tensor::of_bytes(head(&[2], "INT16"), &Bytes::from(vec![255, 255, 2, 0])).unwrap();
        assert_eq!(short.values.as_primitive::<Int16Type>().values(), &[-1, 2]);
    }

    #[test]
    fn wrong_lengths_and_values_are_named() {
        let of = |shape: &[i64], datatype, bytes: &[u8]| {
            refused(Tensor::of_bytes(head(shape, datatype), &Bytes::copy_from_slice(bytes)))
        };
        assert_eq!(of(&[2], "FP64", &[0; 9]), "`inputs[0]` of shape [2] and type FP64 has 16 bytes, not 9");
        assert_eq!(of(&[1], "BOOL", &[2]), "value 0 of `inputs[0]` is 2, which is no BOOL: 0 or 1");
        assert_eq!(of(&[1], "BYTES", &[9, 0, 0, 0, 65]), "text 0 of `inputs[0]` has 9 bytes, and 1 are left");
        assert_eq!(of(&[1], "BYTES", &[9, 0]), "text 0 of `inputs[0]` has no length in 4 bytes");
        assert_eq!(of(&[1], "BYTES", &[1, 0, 0, 0, 255]), "text 0 of `inputs[0]` is not in UTF-8");
        assert_eq!(of(&[2], "BYTES", &[0, 0, 0, 0]), "`inputs[0]` of shape [2] has 2 values, not 1");
        let cells = |text: &str| serde_json::from_str::<Cells>(text).unwrap();
        let of = |shape: &[i64], datatype, text| refused(Tensor::of_cells(head(shape, datatype), cells(text)));
        assert_eq!(of(&[2, 2], "FP64", "[1, 2, 3]"), "`inputs[0]` of shape [2, 2] has 4 values, not 3");
        assert_eq!(of(&[1], "INT8", "[300]"), "`inputs[0].data` is no INT8: value 0 is 300, which is no int8");
        assert!(of(&[1], "FP16", "[1]").contains("has no form in JSON"));
        let wrong = |shape: &[i64], datatype| Head::new("inputs[0]".into(), "x".into(), shape, datatype).unwrap_err();
        assert_eq!(wrong(&[-1], "FP64").message, "`inputs[0].shape` is [-1], which is none of a tensor");
        assert!(wrong(&[i64::MAX, 3], "FP64").message.contains("is none of a tensor"));
        assert!(wrong(&[1], "FP65").message.starts_with("`inputs[0].datatype` is `FP65`; the types are BOOL"));
    }
}
