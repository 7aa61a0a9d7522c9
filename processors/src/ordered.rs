//! Rows that wait until they can leave in order.

use arrow::array::cast::AsArray;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use millstream_core::{EventTime, Parts, Result, State};

use crate::keys::Keys;
use crate::rows::evenly;

/// Keeps rows sorted, those with equal keys in the order of their arrival.
#[derive(Debug)]
pub struct Ordered {
    schema: SchemaRef,
    keys: Keys,
    /// The column of the event time, if that is the first key: then rows leave as it comes along.
    time: Option<usize>,
    /// Sorted stretches.
    stretches: Vec<RecordBatch>,
    rows: usize,
}

impl Ordered {
    /// For no rows yet.
    pub fn new(schema: SchemaRef, keys: Keys, time: Option<usize>) -> Self {
        Self { schema, keys, time, stretches: Vec::new(), rows: 0 }
    }

    /// How many rows wait.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes rows in.
    pub fn insert(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() > 0 {
            self.rows += rows.num_rows();
            self.stretches.push(self.sorted(rows)?);
        }
        Ok(())
    }

    /// The rows before a time, sorted.
    pub fn before(&mut self, at: EventTime) -> Result<Option<RecordBatch>> {
        let Some(time) = self.time else { return Ok(None) };
        let mut ready = Vec::new();
        for stretch in &mut self.stretches {
            let times = stretch.column(time).as_primitive::<TimestampMicrosecondType>().values();
            let count = times.partition_point(|time| *time < at);
            if count > 0 {
                ready.push(stretch.slice(0, count));
                *stretch = stretch.slice(count, stretch.num_rows() - count);
            }
        }
        self.stretches.retain(|stretch| stretch.num_rows() > 0);
        self.together(&ready)
    }

    /// All rows, sorted.
    pub fn all(&mut self) -> Result<Option<RecordBatch>> {
        let stretches = std::mem::take(&mut self.stretches);
        self.together(&stretches)
    }

    /// Keeps the rows that wait. They are not sorted for that, since there may be many.
    pub fn save(&self, parts: &mut Parts) {
        let (schema, stretches) = (self.schema.clone(), self.stretches.clone());
        parts.put_rows_later("rows", schema.clone(), move || evenly(schema, stretches));
    }

    /// Takes in the rows that were kept.
    pub fn load(&mut self, state: &State) -> Result<()> {
        state.arrived_rows("rows", &self.schema, 0)?.into_iter().try_for_each(|rows| self.insert(rows))
    }

    fn together(&mut self, stretches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
        let Some(first) = stretches.first() else { return Ok(None) };
        let rows = concat_batches(&first.schema(), stretches)?;
        self.rows -= rows.num_rows();
        if stretches.len() == 1 { Ok(Some(rows)) } else { self.sorted(rows).map(Some) }
    }

    fn sorted(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let keys = self.keys.of(&rows)?;
        let mut places: Vec<u32> = (0..rows.num_rows() as u32).collect();
        if places.is_sorted_by_key(|place| keys.row(*place as usize)) {
            return Ok(rows);
        }
        places.sort_by(|one, other| keys.row(*one as usize).cmp(&keys.row(*other as usize)));
        Ok(take_record_batch(&rows, &UInt32Array::from(places))?)
    }
}
