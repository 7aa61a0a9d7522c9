//! Rows that wait for the first version of a model.

use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, Origin, Parts, Result, State, batch_bytes};

/// Rows, in the batches in which they came.
#[derive(Default)]
pub(super) struct Held {
    batches: Vec<Batch>,
    bytes: usize,
}

/// The parts of the state: the batches, and the origin of each.
const ROWS: &str = "held";
const ORIGINS: &str = "origins";

impl Held {
    pub fn add(&mut self, batch: Batch) {
        self.bytes += batch_bytes(&batch.rows);
        self.batches.push(batch);
    }

    /// How many bytes they stand for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them; none is left.
    pub fn take(&mut self) -> Vec<Batch> {
        std::mem::take(self).batches
    }

    /// Adds them to a state; `schema` are their columns.
    pub fn keep(&self, schema: &SchemaRef, parts: &mut Parts) -> Result<()> {
        let origins: Vec<_> = self.batches.iter().map(|batch| &batch.origin).collect();
        parts.put(ORIGINS, &origins)?;
        let rows = self.batches.iter().map(|batch| batch.rows.clone()).collect();
        parts.put_rows(ROWS, schema.clone(), rows);
        Ok(())
    }

    /// Those of a state.
    pub fn restore(schema: &SchemaRef, state: &State) -> Result<Self> {
        let mut held = Self::default();
        let rows = state.arrived_rows(ROWS, schema, 0)?;
        let origins: Vec<Origin> = state.get(ORIGINS)?;
        if rows.len() != origins.len() {
            let (rows, origins) = (rows.len(), origins.len());
            return Err(Error::new(format!("the state is damaged: {rows} batches wait, of {origins} origins")));
        }
        rows.into_iter().zip(origins).for_each(|(rows, origin)| held.add(Batch::new(rows, origin)));
        Ok(held)
    }
}
