//! What a node pushes rows to.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};

use crate::{Batch, Encoding, FailedRow, Origin, Result, json_row};

/// Takes the rows that a node produces, port by port, and those that it refuses.
///
/// The engine sends them on when the node's call returns, in the order in which they were pushed.
#[derive(Debug, Default)]
pub struct Collector {
    /// How many ports there are.
    ports: usize,
    pushed: Vec<(usize, Batch)>,
    /// Whether batches without rows count: they say where refused rows stand among others.
    keeps_empty: bool,
    failed: Vec<FailedRow>,
    partitions: Vec<PartitionChange>,
}

/// What an input whose partitions come mixed finds out about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionChange {
    /// Rows of it may come: event time waits for them. A partition that was never added counts from its first row on. No two
    /// have the same name. The locator is whatever the input needs to find its rows once more, long afterwards.
    Added {
        /// Its name.
        partition: Arc<str>,
        /// By which [`Input::locate`](crate::Input::locate) finds it.
        locator: String,
    },
    /// No more rows of it come.
    Gone(Arc<str>),
}

impl Collector {
    /// For a node with so many output ports.
    pub fn new(ports: usize) -> Self {
        Self { ports, ..Self::default() }
    }

    /// For an input: a batch without rows is kept, so that it is known when the rows were refused that it had.
    pub fn of_input(ports: usize) -> Self {
        Self { keeps_empty: true, ..Self::new(ports) }
    }

    /// Sends rows out by output port `port`: the index in the plan's ports. A batch without rows is dropped; inputs push
    /// those whose rows were all refused.
    pub fn push(&mut self, port: usize, batch: Batch) {
        debug_assert!(port < self.ports, "there is no port {port}");
        if self.keeps_empty || !batch.is_empty() {
            self.pushed.push((port, batch));
        }
    }

    /// Refuses one row.
    pub fn fail(&mut self, row: FailedRow) {
        self.failed.push(row);
    }

    /// Refuses row number `row` of a batch.
    pub fn fail_row(&mut self, batch: &Batch, row: usize, error: impl Into<String>) -> Result<()> {
        let text = json_row(&batch.rows, row)?;
        let Origin { source, partition, .. } = &batch.origin;
        self.fail(FailedRow {
            error: error.into(),
            source: source.clone(),
            partition: partition.clone(),
            position: None,
            line: None,
            row: text,
            encoding: Encoding::Json,
        });
        Ok(())
    }

    /// Refuses the rows that `refused` marks, each with the error that `why` gives, and returns the others.
    pub fn fail_rows(
        &mut self,
        batch: &Batch,
        refused: &BooleanArray,
        why: impl Fn(usize) -> String,
    ) -> Result<RecordBatch> {
        debug_assert_eq!(refused.null_count(), 0);
        for row in refused.values().set_indices() {
            self.fail_row(batch, row, why(row))?;
        }
        Ok(filter_record_batch(&batch.rows, &not(refused)?)?)
    }

    /// Inputs: says that a partition is there, or gone. It counts before the rows that are pushed in the same call.
    pub fn change_partition(&mut self, change: PartitionChange) {
        self.partitions.push(change);
    }

    /// Whether anything was pushed to `port` that has not been taken out. For the engine.
    pub fn has(&self, port: usize) -> bool {
        self.pushed.iter().any(|(of, _)| *of == port)
    }

    /// The batches that were pushed, each with its port, which are taken out. For the engine.
    pub fn take_all(&mut self) -> std::vec::Drain<'_, (usize, Batch)> {
        self.pushed.drain(..)
    }

    /// The batches that were pushed to `port`, which are taken out. For tests.
    pub fn take(&mut self, port: usize) -> std::vec::IntoIter<Batch> {
        let taken: Vec<Batch> = self.pushed.extract_if(.., |(of, _)| *of == port).map(|(_, batch)| batch).collect();
        taken.into_iter()
    }

    /// The rows that were refused, which are taken out. For the engine, and for tests.
    pub fn take_failed(&mut self) -> Vec<FailedRow> {
        std::mem::take(&mut self.failed)
    }

    /// The partitions that are new or gone, in order, which are taken out. For the engine, and for tests.
    pub fn take_partitions(&mut self) -> Vec<PartitionChange> {
        std::mem::take(&mut self.partitions)
    }
}
