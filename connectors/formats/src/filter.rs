//! Which rows are read of sources: a condition in the settings of their format, `where`.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::{
    Bounds, Columns, Condition, Encoding, Matches, PlanContext, Problem, Problems, Result, json_row,
};

use crate::{BadRow, Rows, SiftedRows};

/// The setting.
pub(crate) const WHERE: &str = "where";

/// Which rows of a source are wanted: those that meet a condition.
#[derive(Debug)]
pub struct Filter {
    condition: Box<dyn Condition>,
    /// The columns that it looks at, in the order of the source; each may be null.
    schema: SchemaRef,
}

impl Filter {
    /// Plans a condition over rows of these columns. Problems have their places in the settings of the format.
    pub(crate) fn new(text: &str, columns: &Columns, context: &PlanContext) -> Result<Self, Problems> {
        let at = |problem: Problem| problem.under(WHERE);
        let Some(language) = context.expressions else {
            return Err(at(Problem::new("this program was built without a language of conditions")).into());
        };
        let plan = |schema: &SchemaRef| {
            let condition = (language.condition)(text, schema);
            condition.map_err(|problems| problems.into_iter().map(at).collect::<Problems>())
        };
        let field = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(true));
        let all: Vec<_> = columns.schema().fields().iter().map(field).collect();
        let condition = plan(&Arc::new(Schema::new(all.clone())))?;
        let is_used = |field: &Arc<Field>| condition.columns().contains(field.name());
        let used: Vec<_> = all.into_iter().filter(is_used).collect();
        if used.is_empty() {
            let problem = Problem::new("it is the same for every row: it looks at no column");
            return Err(at(problem.help("such as `day >= '2026-01-01'`")).into());
        }
        let schema = Arc::new(Schema::new(used));
        Ok(Self { condition: plan(&schema)?, schema })
    }

    /// Whether it looks at a column.
    pub(crate) fn uses(&self, column: &str) -> bool {
        self.schema.field_with_name(column).is_ok()
    }

    /// Whether a row may meet it, or make it fail, of whose columns no more is known than their bounds.
    pub(crate) fn may_match(&self, bounds: &dyn Fn(&str) -> Bounds) -> bool {
        self.condition.may_match(bounds)
    }

    /// Hands on the rows that meet it, of which the columns of `schema` are left. Those for which it fails are refused.
    pub(crate) fn sift(&self, read: Rows, schema: &SchemaRef, out: &mut Rows) -> Result<()> {
        out.failed.extend(read.failed);
        for (start, rows) in read.batches {
            let Matches { met, failed } = self.condition.matching(&project(&rows, &self.schema)?);
            for (row, error) in failed {
                let bad = BadRow::new(start + row as u64, error, json_row(&rows, row)?.as_bytes());
                out.failed.push(BadRow { encoding: Encoding::Json, ..bad });
            }
            out.sifted.push(SiftedRows {
                start,
                end: start + rows.num_rows() as u64,
                positions: met.values().set_indices().map(|row| start + row as u64).collect(),
                rows: filter_record_batch(&project(&rows, schema)?, &met)?,
            });
        }
        Ok(())
    }
}

/// The columns of a schema, by their names.
fn project(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| rows.schema_ref().index_of(field.name()));
    let columns = columns.map(|index| index.map(|index| rows.column(index).clone())).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
