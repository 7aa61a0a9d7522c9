//! The few encodings that nodes see: each type of the flow language has exactly one in Arrow.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::{Result, ResultExt, types::timestamp};

/// Brings batches of one schema to canonical types: planned once, free of cost where nothing has to change.
#[derive(Clone, Debug)]
pub struct Canonical {
    schema: SchemaRef,
    /// The columns that have to be cast.
    casts: Vec<usize>,
}

impl Canonical {
    /// How to bring batches of `from` to canonical types. The error names the column that has none.
    pub fn new(from: &Schema) -> Result<Self, String> {
        let mut casts = Vec::new();
        let mut fields = Vec::with_capacity(from.fields().len());
        for (index, field) in from.fields().iter().enumerate() {
            let to = canonical_type(field.data_type()).ok_or_else(|| {
                format!("column `{}` has the type {}, which flows can't carry", field.name(), field.data_type())
            })?;
            if to != *field.data_type() {
                casts.push(index);
            }
            fields.push(Field::new(field.name(), to, field.is_nullable()));
        }
        Ok(Self { schema: Arc::new(Schema::new_with_metadata(fields, from.metadata().clone())), casts })
    }

    /// How to bring batches of `from` to other columns of the same names, which take the values of these. None if they are the
    /// same.
    pub fn between(from: &Schema, to: SchemaRef) -> Option<Self> {
        let fields = from.fields().iter().zip(to.fields()).enumerate();
        let casts =
            fields.filter(|(_, (from, to))| from.data_type() != to.data_type()).map(|(index, _)| index).collect();
        (from.fields() != to.fields()).then_some(Self { schema: to, casts })
    }

    /// The schema to which batches are brought.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows in canonical types. Only columns of another encoding are copied.
    pub fn apply(&self, rows: RecordBatch) -> Result<RecordBatch> {
        if Arc::ptr_eq(rows.schema_ref(), &self.schema) {
            return Ok(rows);
        }
        let count = rows.num_rows();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for &index in &self.casts {
            let field = self.schema.field(index);
            columns[index] = cast(&columns[index], field.data_type())
                .doing(|| format!("bringing column `{}` to {}", field.name(), crate::type_name(field.data_type())))?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// The encoding that stands for a type in flows, or `None` for a type that flows can't carry.
fn canonical_type(data_type: &DataType) -> Option<DataType> {
    let canonical = match data_type {
        DataType::Null | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Timestamp(_, _) => timestamp(),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(precision, scale) if *precision <= DECIMAL128_MAX_PRECISION => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => canonical_type(value)?,
        DataType::RunEndEncoded(_, value) => canonical_type(value.data_type())?,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new("item", canonical_type(item.data_type())?, item.is_nullable())))
        }
        DataType::Struct(fields) => {
            let canonical = fields
                .iter()
                .map(|field| Some(Field::new(field.name(), canonical_type(field.data_type())?, field.is_nullable())));
            DataType::Struct(canonical.collect::<Option<Fields>>()?)
        }
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(_, _) => data_type.clone(),
        _ => return None,
    };
    Some(canonical)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, DictionaryArray, StringViewArray, TimestampSecondArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn other_encodings_become_canonical() {
        let columns: [(&str, ArrayRef); 3] = [
            ("view", Arc::new(StringViewArray::from(vec!["a", "b"]))),
            ("dictionary", Arc::new(DictionaryArray::<Int32Type>::from_iter(["x", "x"]))),
            ("at", Arc::new(TimestampSecondArray::from(vec![1, 2]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).expect("equal lengths");
        let canonical = Canonical::new(&rows.schema()).expect("all have a canonical type");
        let rows = canonical.apply(rows).expect("casts");
        let types: Vec<_> = rows.columns().iter().map(|column| crate::type_name(column.data_type())).collect();
        assert_eq!(types, ["utf8", "utf8", "timestamp"]);
    }

    #[test]
    fn a_type_that_flows_can_not_carry_is_named() {
        let schema = Schema::new(vec![Field::new("span", DataType::Duration(TimeUnit::Second), true)]);
        let error = Canonical::new(&schema).expect_err("durations have no canonical type");
        assert!(error.starts_with("column `span` has the type Duration(s)"), "{error}");
    }
}
