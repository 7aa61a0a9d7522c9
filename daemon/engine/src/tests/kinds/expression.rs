//! A language of expressions with two words: `n` is the number itself, `second` the time at which its event happened.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use millstream_core::*;

use super::events::second;
use super::values;

/// The language, which has no conditions.
pub const LANGUAGE: Language =
    Language { expression: plan, condition: |_, _| Err(Problem::new("there are no conditions").into()) };

fn plan(_: &str, text: &str, schema: &SchemaRef) -> Result<Box<dyn Expression>, Problems> {
    require_column("n", schema)?;
    let data_type = match text {
        "n" => DataType::Int64,
        "second" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => return Err(Problem::new("no such word").within(TextPlace { line: 1, column: 2, length: 1 }).into()),
    };
    Ok(Box::new(Word { data_type, columns: BTreeSet::from(["n".to_owned()]) }))
}

/// Fails for numbers that 7 divides, and is null for those that 11 divides.
#[derive(Debug)]
struct Word {
    data_type: DataType,
    columns: BTreeSet<String>,
}

impl Expression for Word {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }

    fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<Evaluated> {
        let numbers = values(rows);
        let failed = numbers.iter().enumerate().filter(|(_, n)| **n % 7 == 0);
        let failed = failed.map(|(row, _)| (row, "7 divides it".to_owned())).collect();
        let seconds = numbers.iter().map(|n| (n % 7 != 0 && n % 11 != 0).then(|| second(*n) * 1_000_000));
        let values: ArrayRef = match self.data_type {
            DataType::Int64 => Arc::new(Int64Array::from(numbers)),
            _ => Arc::new(seconds.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        };
        Ok(Evaluated { values, failed })
    }
}
