//! Buffers for values of one type that are no lists and no structs.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, BooleanBufferBuilder, GenericByteArray, PrimitiveArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{ByteArrayType, DataType};
use arrow::error::ArrowError;

use super::scanner::Scalar;

/// The values themselves; where there is null, any.
pub(super) trait Buffer: Send + Sync {
    /// Appends a value. Returns false, and may leave something behind, if it is none of the type.
    fn push(&mut self, value: &Scalar) -> bool;
    fn push_default(&mut self);
    fn truncate(&mut self, rows: usize);
    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError>;
}

impl Buffer for BooleanBufferBuilder {
    fn push(&mut self, value: &Scalar) -> bool {
        let Scalar::Boolean(value) = value else { return false };
        self.append(*value);
        true
    }

    fn push_default(&mut self) {
        self.append(false);
    }

    fn truncate(&mut self, rows: usize) {
        self.truncate(rows);
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(BooleanArray::new(self.finish(), nulls)))
    }
}

/// Values of a fixed width.
pub(super) struct Primitives<T: ArrowPrimitiveType, P> {
    values: Vec<T::Native>,
    parse: P,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType, P> Primitives<T, P> {
    pub(super) fn new(data_type: DataType, parse: P) -> Self {
        Self { values: Vec::new(), parse, data_type }
    }
}

impl<T: ArrowPrimitiveType, P: Fn(&Scalar) -> Option<T::Native> + Send + Sync> Buffer for Primitives<T, P> {
    fn push(&mut self, value: &Scalar) -> bool {
        let value = (self.parse)(value);
        self.values.extend(value);
        value.is_some()
    }

    fn push_default(&mut self) {
        self.values.push(T::default_value());
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let values = emptied(&mut self.values);
        let array = PrimitiveArray::<T>::try_new(values.into(), nulls)?;
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }
}

/// Texts, or other bytes.
pub(super) struct Bytes<T, A> {
    bytes: Vec<u8>,
    /// Where the values end, behind a 0.
    ends: Vec<i32>,
    append: A,
    of: PhantomData<fn() -> T>,
}

impl<T, A: Fn(&Scalar, &mut Vec<u8>) -> bool> Bytes<T, A> {
    pub(super) fn new(append: A) -> Self {
        Self { bytes: Vec::new(), ends: vec![0], append, of: PhantomData }
    }
}

impl<T, A> Buffer for Bytes<T, A>
where
    T: ByteArrayType<Offset = i32>,
    A: Fn(&Scalar, &mut Vec<u8>) -> bool + Send + Sync,
{
    fn push(&mut self, value: &Scalar) -> bool {
        let is_value = (self.append)(value, &mut self.bytes);
        // A batch has far fewer bytes.
        let end = i32::try_from(self.bytes.len()).ok().filter(|_| is_value);
        self.ends.extend(end);
        end.is_some()
    }

    fn push_default(&mut self) {
        self.ends.extend(self.ends.last().copied());
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.bytes.truncate(self.ends[rows] as usize);
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let ends = emptied(&mut self.ends);
        self.ends.push(0);
        let (ends, bytes) = (OffsetBuffer::new(ends.into()), emptied(&mut self.bytes).into());
        Ok(Arc::new(GenericByteArray::<T>::try_new(ends, bytes, nulls)?))
    }
}

/// What a buffer holds. It keeps room for as many values.
pub(super) fn emptied<V>(values: &mut Vec<V>) -> Vec<V> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}
