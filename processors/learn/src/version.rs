//! Versions of a model as they travel on the edge from `train` to `predict`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{Error, Result};
use millstream_models::Signature;

/// The key of the schema's metadata under which the model's signature stands.
const SIGNATURE: &str = "millstream.model";

/// The key under which it says that there is only one version, at the end of the flow.
const ONLY_AT_THE_END: &str = "millstream.only_at_the_end";

/// The columns of a version.
pub(super) fn schema(signature: &Signature, only_at_the_end: bool) -> SchemaRef {
    let fields = vec![
        Field::new("model", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("sha256", DataType::Utf8, false),
        Field::new("bytes", DataType::Binary, false),
    ];
    let mut metadata = HashMap::from([(SIGNATURE.to_owned(), signature.to_json())]);
    if only_at_the_end {
        metadata.insert(ONLY_AT_THE_END.to_owned(), String::new());
    }
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// The signature of the model whose versions have these columns.
pub(super) fn signature(schema: &Schema) -> Result<Signature> {
    let text = schema.metadata().get(SIGNATURE);
    Signature::from_json(text.ok_or_else(|| Error::new("what arrives on the port `model` is no model"))?)
}

/// Whether the only version comes when the flow ends.
pub(super) fn is_only_at_the_end(schema: &Schema) -> bool {
    schema.metadata().contains_key(ONLY_AT_THE_END)
}

/// A version as a batch of one row.
pub(super) fn batch(schema: &SchemaRef, model: &str, rows: u64, sha256: &str, bytes: &[u8]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![model])),
        Arc::new(UInt64Array::from(vec![rows])),
        Arc::new(StringArray::from(vec![sha256])),
        Arc::new(BinaryArray::from(vec![bytes])),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// The file of the last version in a batch, or `None` if there is no row.
pub(super) fn last(rows: &RecordBatch) -> Result<Option<&[u8]>> {
    let Some(last) = rows.num_rows().checked_sub(1) else { return Ok(None) };
    let bytes = rows.column_by_name("bytes").and_then(|column| column.as_binary_opt::<i32>());
    let bytes = bytes.ok_or_else(|| Error::new("what arrives on the port `model` is no model"))?;
    Ok(Some(bytes.value(last)))
}
