//! Rows that are predicted in pieces, so that what is predicted for thousands of classes, or what texts become, takes bounded memory.

use std::collections::VecDeque;

use millstream_core::Batch;
use millstream_models::Signature;

/// The most numbers that are computed with at once: 8 MiB of them.
const MOST_NUMBERS: usize = 1 << 20;

/// Batches whose rows are to be predicted.
#[derive(Default)]
pub(super) struct Pieces {
    batches: VecDeque<Batch>,
}

impl Pieces {
    /// Adds batches behind those that wait.
    pub fn add(&mut self, batches: impl IntoIterator<Item = Batch>) {
        self.batches.extend(batches);
    }

    /// The next rows for which a model of this signature has few enough numbers.
    pub fn next(&mut self, signature: &Signature) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        let most = (MOST_NUMBERS / signature.numbers_of_row().max(1)).max(1);
        if batch.len() <= most {
            return Some(batch);
        }
        self.batches.push_front(batch.with_rows(batch.rows.slice(most, batch.len() - most)));
        Some(batch.with_rows(batch.rows.slice(0, most)))
    }
}
