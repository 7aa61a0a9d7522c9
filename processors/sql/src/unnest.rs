//! The step that makes a row of each item of a list.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, ListArray, RecordBatch, UInt32Array, UInt32Builder};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::{NullHandling, Result, plan_err};
use datafusion_expr::logical_plan::Unnest as UnnestPlan;
use millstream_core::widest_row;

use crate::accumulate::BATCH_ROWS;
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

    /// Which of the lists a column is.
    fn list(&self, column: usize) -> Option<usize> {
        self.lists.iter().position(|(list, _)| *list == column)
    }

    /// How many rows come from a row: as many as its longest list has items.
    fn items(&self, lists: &[ListArray], row: usize) -> usize {
        lists.iter().map(|list| length(list, row)).fold(self.least, usize::max)
    }
}

fn length(list: &ListArray, row: usize) -> usize {
    if list.is_null(row) { 0 } else { list.value_length(row) as usize }
}

/// Rows of which one is made for each item, piece by piece.
#[derive(Debug)]
pub struct Spread {
    unnest: Arc<Unnest>,
    rows: RecordBatch,
    lists: Vec<ListArray>,
    /// How many rows a piece has.
    most: usize,
    /// The row that is next, and how many of its items have been given.
    row: usize,
    given: usize,
}

impl Spread {
    /// Of these rows. Pieces have [`BATCH_ROWS`] rows at most, and about `bytes` bytes besides the items.
    pub fn new(unnest: &Arc<Unnest>, rows: RecordBatch, bytes: usize) -> Result<Self, String> {
        let lists = unnest.lists.iter().map(|(column, list)| Ok(cast(rows.column(*column), list)?.as_list().clone()));
        let lists = lists.collect::<Result<_, ArrowError>>().map_err(|error| error.to_string())?;
        let repeated = unnest.sources.iter().filter(|source| unnest.list(**source).is_none());
        let width = widest_row(repeated.map(|source| rows.column(*source)));
        let most = (bytes / width.max(1)).clamp(1, BATCH_ROWS);
        Ok(Self { unnest: unnest.clone(), rows, lists, most, row: 0, given: 0 })
    }

    /// The next piece.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, String> {
        let mut repeated: Vec<u32> = Vec::new();
        let mut positions: Vec<UInt32Builder> = self.lists.iter().map(|_| UInt32Builder::new()).collect();
        while repeated.len() < self.most && self.row < self.rows.num_rows() {
            let items = self.unnest.items(&self.lists, self.row);
            let end = items.min(self.given + self.most - repeated.len());
            repeated.resize(repeated.len() + end - self.given, self.row as u32);
            for (list, positions) in self.lists.iter().zip(&mut positions) {
                append(list, self.row, self.given..end, positions);
            }
            (self.row, self.given) = if end == items { (self.row + 1, 0) } else { (self.row, end) };
        }
        if repeated.is_empty() { Ok(None) } else { self.piece(&repeated.into(), positions).map(Some) }
    }

    fn piece(&self, repeated: &UInt32Array, positions: Vec<UInt32Builder>) -> Result<RecordBatch, String> {
        let positions: Vec<UInt32Array> = positions.into_iter().map(|mut positions| positions.finish()).collect();
        let columns = self.unnest.sources.iter().map(|source| match self.unnest.list(*source) {
            Some(list) => take(self.lists[list].values(), &positions[list], None),
            None => take(self.rows.column(*source), repeated, None),
        });
        let columns = columns.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        batch(&self.unnest.schema, columns, repeated.len())
    }
}

/// Where items stand in the list's values; null behind the end of a list that is shorter than others.
fn append(list: &ListArray, row: usize, items: Range<usize>, positions: &mut UInt32Builder) {
    let (start, there) = (list.value_offsets()[row] as usize, length(list, row));
    (items.start..items.end.min(there)).for_each(|item| positions.append_value((start + item) as u32));
    positions.append_nulls(items.end.saturating_sub(there.max(items.start)));
}
