//! A condition over batches, in which an earlier part guards the later ones.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{and, prep_null_mask_filter};
use datafusion_common::{Result, cast::as_boolean_array};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::split_conjunction;

/// A condition. Null is not true.
#[derive(Debug)]
pub struct Predicate {
    whole: Arc<dyn PhysicalExpr>,
    /// What AND joins, in order.
    parts: Vec<Arc<dyn PhysicalExpr>>,
}

impl Predicate {
    /// A boolean expression.
    pub fn new(whole: Arc<dyn PhysicalExpr>) -> Self {
        let parts = split_conjunction(&whole).into_iter().cloned().collect();
        Self { whole, parts }
    }

    /// For which rows the condition is true; there are no nulls.
    ///
    /// Where the whole fails, it is tried again part by part, each only on the rows for which those before it are true.
    /// So `b <> 0 AND a / b > 1` fails no row, whatever batch it is in.
    pub fn mask(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        match self.whole.evaluate(rows).and_then(|value| certain(value, rows.num_rows())) {
            Err(_) if self.parts.len() > 1 => self.part_by_part(rows),
            mask => mask,
        }
    }

    fn part_by_part(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let mut mask = BooleanArray::new(BooleanBuffer::new_set(rows.num_rows()), None);
        for part in &self.parts {
            let value = part.evaluate_selection(rows, &mask)?;
            mask = and(&mask, &certain(value, rows.num_rows())?)?;
        }
        Ok(mask)
    }
}

fn certain(value: ColumnarValue, rows: usize) -> Result<BooleanArray> {
    let array = value.into_array(rows)?;
    let mask = as_boolean_array(&array)?;
    Ok(if mask.null_count() == 0 { mask.clone() } else { prep_null_mask_filter(mask) })
}
