//! The step that makes a row of each item of a list.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, UInt32Array, UInt32Builder};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::{NullHandling, Result, plan_err};
use datafusion_expr::logical_plan::Unnest as UnnestPlan;

use crate::program::{batch, plain_list};

/// Makes a row of each item. Several lists go side by side; null stands where one is shorter.
#[derive(Debug)]
pub struct Unnest {
    /// The columns that are lists, and the type to bring them to.
    lists: Vec<(usize, DataType)>,
    /// For each output, the column that it comes from.
    sources: Vec<usize>,
    /// How many rows come from an empty or missing list: 1 for `unnest_outer`.
    least: usize,
    schema: SchemaRef,
}

impl Unnest {
    /// Compiles DataFusion's plan of it.
    pub fn new(plan: &UnnestPlan) -> Result<Self> {
        if !plan.struct_type_columns.is_empty() {
            return plan_err!("unnest takes lists apart; the fields of a structure are selected by `s.a, s.b`");
        }
        if plan.list_type_columns.iter().any(|(_, list)| list.depth > 1) {
            return plan_err!("lists within lists are unnested one level per query: nest the queries in FROM");
        }
        let input = plan.input.schema();
        let lists =
            plan.list_type_columns.iter().map(|(column, _)| match plain_list(input.field(*column).data_type()) {
                Some(list) => Ok((*column, list)),
                None => plan_err!("unnest takes lists"),
            });
        Ok(Self {
            lists: lists.collect::<Result<_>>()?,
            sources: plan.dependency_indices.clone(),
            least: usize::from(plan.options.null_handling == NullHandling::PreserveAndExpandEmpty),
            schema: Arc::new(plan.schema.as_arrow().clone()),
        })
    }

    /// The rows, one for each item.
    pub fn run(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        self.unnest(rows)
            .map_err(|error| error.to_string())
            .and_then(|(columns, count)| batch(&self.schema, columns, count))
    }

    fn unnest(&self, rows: &RecordBatch) -> Result<(Vec<ArrayRef>, usize), ArrowError> {
        let lists = self.lists.iter().map(|(column, list)| Ok(cast(rows.column(*column), list)?.as_list().clone()));
        let lists: Vec<ListArray> = lists.collect::<Result<_, ArrowError>>()?;
        let lengths: Vec<usize> = (0..rows.num_rows()).map(|row| self.items(&lists, row)).collect();
        let repeated = repeat(&lengths);
        let columns =
            self.sources.iter().map(|source| match self.lists.iter().position(|(column, _)| column == source) {
                Some(list) => take(lists[list].values(), &positions(&lists[list], &lengths), None),
                None => take(rows.column(*source), &repeated, None),
            });
        Ok((columns.collect::<Result<_, _>>()?, repeated.len()))
    }

    /// How many rows come from a row: as many as its longest list has items.
    fn items(&self, lists: &[ListArray], row: usize) -> usize {
        lists.iter().map(|list| length(list, row)).fold(self.least, usize::max)
    }
}

fn length(list: &ListArray, row: usize) -> usize {
    if list.is_null(row) { 0 } else { list.value_length(row) as usize }
}

/// Each row's number as often as rows come from it.
fn repeat(lengths: &[usize]) -> UInt32Array {
    let rows = lengths.iter().enumerate();
    UInt32Array::from_iter_values(rows.flat_map(|(row, &length)| std::iter::repeat_n(row as u32, length)))
}

/// Where each item stands in the list's values; null behind the end of a list that is shorter than others.
fn positions(list: &ListArray, lengths: &[usize]) -> UInt32Array {
    let mut positions = UInt32Builder::with_capacity(lengths.iter().sum());
    for (row, &wanted) in lengths.iter().enumerate() {
        let start = list.value_offsets()[row] as u32;
        let there = length(list, row);
        (0..there as u32).for_each(|item| positions.append_value(start + item));
        positions.append_nulls(wanted - there);
    }
    positions.finish()
}
