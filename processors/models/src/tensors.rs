//! Tensors by name, as a safetensors file: the same tensors are the same bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{ArrowNativeType, ToByteSlice};
use millstream_core::{Error, Result, ResultExt};
use safetensors::tensor::{Dtype, SafeTensors, View};

/// Tensors, and a text that says what they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tensors {
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    /// The elements, little endian.
    data: Vec<u8>,
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// The one key of the file's metadata: with several, their order would not be fixed.
const KEY: &str = "millstream";

impl Tensors {
    /// The file. `about` becomes its metadata.
    pub fn write(&self, about: &str) -> Result<Vec<u8>> {
        let metadata = HashMap::from([(KEY.to_owned(), about.to_owned())]);
        safetensors::serialize(self.tensors.iter(), Some(metadata)).doing(|| "writing the model as safetensors")
    }

    /// The tensors and the metadata of a file.
    pub fn read(bytes: &[u8]) -> Result<(Self, String)> {
        let doing = || "reading the model, a safetensors file";
        let (_, header) = SafeTensors::read_metadata(bytes).doing(doing)?;
        let about = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).cloned();
        let about = about.ok_or_else(|| Error::new("the file is no model of Millstream: it doesn't say what it is"))?;
        let file = SafeTensors::deserialize(bytes).doing(doing)?;
        let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
            let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), data: view.data().to_vec() };
            (name.to_owned(), tensor)
        };
        Ok((Self { tensors: file.iter().map(tensor).collect() }, about))
    }

    pub fn put_f64(&mut self, name: &str, shape: &[usize], values: &[f64]) {
        self.put(name, Dtype::F64, shape, [values]);
    }

    pub fn put_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.put(name, Dtype::F32, shape, [values]);
    }

    /// Values that come in rows.
    pub fn put_rows<'a>(&mut self, name: &str, shape: &[usize], rows: impl IntoIterator<Item = &'a [f32]>) {
        self.put(name, Dtype::F32, shape, rows);
    }

    pub fn put_u32(&mut self, name: &str, shape: &[usize], values: &[u32]) {
        self.put(name, Dtype::U32, shape, [values]);
    }

    pub fn put_u64(&mut self, name: &str, values: &[u64]) {
        self.put(name, Dtype::U64, &[values.len()], [values]);
    }

    pub fn put_u8(&mut self, name: &str, values: &[u8]) {
        self.put(name, Dtype::U8, &[values.len()], [values]);
    }

    /// A tensor of that name is overwritten, and its memory used again.
    fn put<'a, T: ArrowNativeType>(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        rows: impl IntoIterator<Item = &'a [T]>,
    ) {
        // Arrow's arrays need such machines, too.
        const { assert!(cfg!(target_endian = "little"), "bytes of numbers are copied as they are") };
        let empty = || Tensor { dtype, shape: Vec::new(), data: Vec::new() };
        let tensor = self.tensors.entry(name.to_owned()).or_insert_with(empty);
        (tensor.dtype, tensor.shape) = (dtype, shape.to_vec());
        tensor.data.clear();
        tensor.data.reserve_exact(size_of::<T>() * shape.iter().product::<usize>());
        rows.into_iter().for_each(|row| tensor.data.extend_from_slice(row.to_byte_slice()));
        debug_assert_eq!(tensor.data.len(), size_of::<T>() * shape.iter().product::<usize>());
    }

    /// Adds others, whose names then begin like this.
    pub fn put_under(&mut self, prefix: &str, others: Self) {
        self.tensors.extend(others.tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }

    /// Those whose names begin like this, with what is left of their names.
    pub fn under(&self, prefix: &str) -> Self {
        let own = self.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
        Self { tensors: own.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect() }
    }

    /// How many elements each has.
    #[cfg(test)]
    pub fn sizes(&self) -> impl Iterator<Item = (&str, usize)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.iter().product()))
    }

    /// The name of a tensor with a number in it that is infinite or none.
    pub fn not_finite(&self) -> Option<&str> {
        let is_finite = |tensor: &Tensor| match tensor.dtype {
            Dtype::F64 => tensor.data.as_chunks::<8>().0.iter().all(|value| f64::from_le_bytes(*value).is_finite()),
            Dtype::F32 => tensor.data.as_chunks::<4>().0.iter().all(|value| f32::from_le_bytes(*value).is_finite()),
            _ => true,
        };
        self.tensors.iter().find(|(_, tensor)| !is_finite(tensor)).map(|(name, _)| name.as_str())
    }

    /// The largest absolute value of the tensors of fractional numbers whose names begin like this.
    pub fn largest(&self, prefix: &str) -> f64 {
        let of_tensor = |tensor: &Tensor| match tensor.dtype {
            Dtype::F64 => largest(tensor.data.as_chunks::<8>().0.iter().map(|value| f64::from_le_bytes(*value))),
            Dtype::F32 => largest(tensor.data.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value).into())),
            _ => 0.0,
        };
        largest(self.tensors.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, tensor)| of_tensor(tensor)))
    }

    /// The values of a tensor that must have this shape.
    pub fn f64s(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let data = self.shaped(name, Dtype::F64, shape)?;
        Ok(data.as_chunks::<8>().0.iter().copied().map(f64::from_le_bytes).collect())
    }

    /// The values of a tensor that must have this shape.
    pub fn f32s(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let data = self.shaped(name, Dtype::F32, shape)?;
        Ok(data.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect())
    }

    /// The values of a tensor that must have this shape.
    pub fn u32s(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        let data = self.shaped(name, Dtype::U32, shape)?;
        Ok(data.as_chunks::<4>().0.iter().copied().map(u32::from_le_bytes).collect())
    }

    /// How many rows a tensor has.
    pub fn rows(&self, name: &str) -> Result<usize> {
        let tensor = self.tensors.get(name).and_then(|tensor| tensor.shape.first());
        tensor.copied().ok_or_else(|| Error::new(format!("the model has no tensor `{name}` with rows")))
    }

    pub fn u64s(&self, name: &str) -> Result<Vec<u64>> {
        let data = &self.tensor(name, Dtype::U64)?.data;
        Ok(data.as_chunks::<8>().0.iter().copied().map(u64::from_le_bytes).collect())
    }

    pub fn u8s(&self, name: &str) -> Result<&[u8]> {
        Ok(&self.tensor(name, Dtype::U8)?.data)
    }

    fn shaped(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8]> {
        let tensor = self.tensor(name, dtype)?;
        if tensor.shape == shape {
            Ok(&tensor.data)
        } else {
            Err(Error::new(format!("the tensor `{name}` of the model is {:?} and not {shape:?}", tensor.shape)))
        }
    }

    fn tensor(&self, name: &str, dtype: Dtype) -> Result<&Tensor> {
        let tensor = self.tensors.get(name).filter(|tensor| tensor.dtype == dtype);
        tensor.ok_or_else(|| Error::new(format!("the model has no tensor `{name}` of type {dtype:?}")))
    }
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |largest, value| value.abs().max(largest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tensors_read_back_bit_by_bit() {
        let mut tensors = Tensors::default();
        tensors.put_f64("b.weights", &[2, 2], &[1.0, -0.0, f64::MIN_POSITIVE, 1e300]);
        tensors.put_u64("a.ends", &[1, u64::MAX]);
        tensors.put_u8("a.values", "größe".as_bytes());
        tensors.put_rows("c.rows", &[2, 1], [&[0.5, -1.5][..1], &[f32::MAX]]);
        let bytes = tensors.write("{}").unwrap();
        assert_eq!(Tensors::read(&bytes).unwrap(), (tensors.clone(), "{}".to_owned()));
        assert_eq!(tensors.write("{}").unwrap(), bytes);
        let values = tensors.f64s("b.weights", &[2, 2]).unwrap();
        assert_eq!(
            values.into_iter().map(f64::to_bits).collect::<Vec<_>>(),
            [1.0, -0.0, f64::MIN_POSITIVE, 1e300].map(f64::to_bits)
        );
        assert_eq!(tensors.f32s("c.rows", &[2, 1]).unwrap(), [0.5, f32::MAX]);
    }

    #[test]
    fn what_is_overwritten_leaves_nothing() {
        let mut tensors = Tensors::default();
        tensors.put_f64("a", &[3], &[1.0, 2.0, 3.0]);
        tensors.put_f64("a", &[1, 2], &[4.0, 5.0]);
        let mut fresh = Tensors::default();
        fresh.put_f64("a", &[1, 2], &[4.0, 5.0]);
        assert_eq!(tensors, fresh);
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert!(Tensors::read(b"rubbish").unwrap_err().to_string().starts_with("reading the model"));
        let foreign = safetensors::serialize(BTreeMap::<String, &Tensor>::new(), None).unwrap();
        assert!(Tensors::read(&foreign).unwrap_err().to_string().contains("no model of Millstream"));
        let tensors = Tensors::default();
        assert_eq!(tensors.f64s("w", &[1]).unwrap_err().to_string(), "the model has no tensor `w` of type F64");
    }
}
