//! The types of tensors, as the Open Inference Protocol names them.

use std::fmt;

use arrow::datatypes::DataType;

/// The type of the values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// `BOOL`, one byte each.
    Bool,
    /// `UINT8`.
    Uint8,
    /// `UINT16`.
    Uint16,
    /// `UINT32`.
    Uint32,
    /// `UINT64`.
    Uint64,
    /// `INT8`.
    Int8,
    /// `INT16`.
    Int16,
    /// `INT32`.
    Int32,
    /// `INT64`.
    Int64,
    /// `FP16`.
    Fp16,
    /// `BF16`: the upper half of an `FP32`.
    Bf16,
    /// `FP32`.
    Fp32,
    /// `FP64`.
    Fp64,
    /// `BYTES`: texts.
    Bytes,
}

/// All of them: name, bytes of a value, and the type of the column that its values become.
static ALL: [(Datatype, &str, Option<usize>, DataType); 14] = [
    (Datatype::Bool, "BOOL", Some(1), DataType::Boolean),
    (Datatype::Uint8, "UINT8", Some(1), DataType::UInt8),
    (Datatype::Uint16, "UINT16", Some(2), DataType::UInt16),
    (Datatype::Uint32, "UINT32", Some(4), DataType::UInt32),
    (Datatype::Uint64, "UINT64", Some(8), DataType::UInt64),
    (Datatype::Int8, "INT8", Some(1), DataType::Int8),
    (Datatype::Int16, "INT16", Some(2), DataType::Int16),
    (Datatype::Int32, "INT32", Some(4), DataType::Int32),
    (Datatype::Int64, "INT64", Some(8), DataType::Int64),
    (Datatype::Fp16, "FP16", Some(2), DataType::Float16),
    (Datatype::Bf16, "BF16", Some(2), DataType::Float32),
    (Datatype::Fp32, "FP32", Some(4), DataType::Float32),
    (Datatype::Fp64, "FP64", Some(8), DataType::Float64),
    (Datatype::Bytes, "BYTES", None, DataType::Utf8),
];

impl Datatype {
    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known, ..)| *known == name).map(|(datatype, ..)| *datatype)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        ALL.iter().map(|(_, name, ..)| *name)
    }

    /// The one of columns of a type. Of decimals it is `FP64`, as models read them.
    pub fn of(data_type: &DataType) -> Self {
        let found = ALL.iter().find(|(.., known)| known == data_type).map(|(datatype, ..)| *datatype);
        match (found, data_type) {
            (Some(Self::Bf16), _) => Self::Fp32,
            (Some(found), _) => found,
            (None, other) if other.is_numeric() => Self::Fp64,
            (None, _) => Self::Bytes,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// How many bytes a value has; none where that differs.
    pub fn width(self) -> Option<usize> {
        self.row().2
    }

    /// The type of the column that its values become.
    pub fn column(self) -> DataType {
        self.row().3.clone()
    }

    fn row(self) -> &'static (Self, &'static str, Option<usize>, DataType) {
        // The table is in the order of the variants, as a test sees to.
        &ALL[self as usize]
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_variants() {
        for (at, (datatype, name, ..)) in ALL.iter().enumerate() {
            assert_eq!((*datatype as usize, Datatype::parse(name)), (at, Some(*datatype)));
        }
        assert_eq!(Datatype::of(&DataType::Float32), Datatype::Fp32);
        assert_eq!(Datatype::of(&DataType::Decimal128(10, 2)), Datatype::Fp64);
    }
}
