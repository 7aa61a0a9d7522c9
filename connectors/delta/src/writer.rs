//! Writes rows to data files, and makes those a part of the table that a checkpoint has decided on.
//!
//! Data files are written and uploaded as the output `objects` does it. Until the log names them nobody sees them, so that it is no matter
//! when they begin to be there.

use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{
    Barrier, Batch, Collector, CommitContext, Committer, Epoch, Home, Output, PendingCommit, PriorOutput, Result, Run,
    Snapshot, State,
};
use millstream_objects::{ObjectsCommitter, ObjectsWriter};
use millstream_store::crash;

use crate::table::{Mark, Table};

/// The output.
pub struct DeltaWriter {
    files: ObjectsWriter,
    table: Arc<Table>,
}

/// Makes data files a part of the table.
struct DeltaCommitter {
    files: ObjectsCommitter,
    table: Arc<Table>,
}

impl DeltaWriter {
    /// An output that has not begun.
    pub fn new(files: ObjectsWriter, table: Table) -> Self {
        Self { files, table: Arc::new(table) }
    }
}

#[async_trait]
impl Output for DeltaWriter {
    fn begin(&mut self, former: PriorOutput, run: &Run) -> Result<()> {
        // Rows are added to those that are there.
        self.files.begin(former, run)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.files.restore(state)
    }

    async fn open(&mut self, home: &Home, run: &Run) -> Result<()> {
        self.table.open().await?;
        self.files.open(home, run).await
    }

    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()> {
        self.files.write(batch, out).await
    }

    fn barrier(&mut self, epoch: Epoch) {
        self.files.barrier(epoch);
    }

    async fn stage(&mut self, barrier: Barrier) -> Result<Snapshot> {
        self.files.stage(barrier).await
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(DeltaCommitter { files: self.files.committer_of_objects(), table: self.table.clone() }))
    }

    async fn abort(&mut self) {
        self.files.abort().await;
    }
}

#[async_trait]
impl Committer for DeltaCommitter {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        if ObjectsCommitter::objects(&pending.staged)?.is_empty() {
            return Ok(());
        }
        let mark = Mark::of(&pending.context);
        let snapshot = self.table.open().await?;
        if self.table.has(snapshot, mark.clone()).await? {
            return Ok(());
        }
        let mut files = Vec::new();
        for (object, bytes) in self.files.put_all(pending).await? {
            files.push(self.table.data_file(object, bytes).await?);
        }
        crash::point("delta-uploaded");
        self.table.append(mark, files).await?;
        crash::point("delta-committed");
        Ok(())
    }

    async fn recover(&mut self, pending: &[PendingCommit], _: &CommitContext) -> Result<()> {
        self.files.keep(pending)?;
        for one in pending {
            self.commit(one).await?;
        }
        Ok(())
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        self.files.committed(pending).await
    }
}
