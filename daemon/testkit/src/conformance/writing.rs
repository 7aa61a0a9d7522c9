//! Writes to an output as the engine does, and commits what it stages.

use std::ops::Range;

use arrow::array::RecordBatch;
use millstream_core::{
    Barrier, Collector, CommitContext, Committer, Epoch, Home, Output, PendingCommit, PriorOutput, Run, State, Then,
};

use super::folder::Folder;
use super::outputs::Case;
use crate::drive::batch;

/// The rows of each epoch, of which one has none. The last goes on to the last row.
pub(super) const EPOCHS: [Range<usize>; 5] = [0..5, 5..5, 5..12, 12..20, 20..usize::MAX];

/// Where a run goes on.
pub(super) struct Stopped {
    pub state: State,
    /// How many epochs lie before it.
    pub epochs: usize,
    /// The stages that may not be visible.
    pub pending: Vec<PendingCommit>,
}

/// An output that is being written to.
pub(super) struct Writing<'a> {
    case: &'a Case<'a>,
    rows: &'a RecordBatch,
    batch_rows: usize,
    output: Box<dyn Output>,
    committer: Option<Box<dyn Committer>>,
    run: Run,
    home: Home,
    epochs: usize,
    state: State,
    staged: Vec<PendingCommit>,
}

impl<'a> Writing<'a> {
    /// A run without state.
    pub(super) async fn stateless(
        case: &'a Case<'_>,
        folder: &Folder,
        rows: &'a RecordBatch,
        batch_rows: usize,
    ) -> Self {
        let run = Run { incarnation: "0123456789abcdef".into(), generation: 0 };
        let mut writing = Self::built(case, folder, rows, batch_rows, run);
        let begun =
            folder.unchanged("beginning with an output", || writing.output.begin(PriorOutput::Ended, &Run::default()));
        begun.unwrap();
        writing.output.open(&Home::Nowhere, &writing.run).await.unwrap();
        writing
    }

    /// The first run of a flow with state.
    pub(super) async fn begun(case: &'a Case<'_>, folder: &Folder, batch_rows: usize) -> Self {
        let run = Run { incarnation: "fedcba9876543210".into(), generation: 1 };
        let mut writing = Self::built(case, folder, case.rows, batch_rows, run);
        folder.unchanged("claiming an output", || writing.output.claim()).unwrap();
        let begun =
            folder.unchanged("beginning with an output", || writing.output.begin(PriorOutput::Ended, &writing.run));
        begun.unwrap();
        let context = writing.context(0, folder.durable());
        if let Some(committer) = &mut writing.committer {
            committer.recover(&[], &context).await.unwrap();
        }
        writing.open(folder).await;
        writing
    }

    /// A run that goes on.
    pub(super) async fn resumed(case: &'a Case<'_>, folder: &Folder, batch_rows: usize, stopped: Stopped) -> Self {
        let Stopped { state, epochs, pending } = stopped;
        let run = Run { incarnation: "fedcba9876543210".into(), generation: 100 };
        let mut writing = Self::built(case, folder, case.rows, batch_rows, run);
        folder.unchanged("claiming an output", || writing.output.claim()).unwrap();
        folder.unchanged("restoring an output", || writing.output.restore(&state)).unwrap();
        let context = writing.context(epochs, folder.durable());
        if let Some(committer) = &mut writing.committer {
            committer.recover(&pending, &context).await.unwrap();
        }
        writing.epochs = epochs;
        writing.open(folder).await;
        writing
    }

    fn built(case: &'a Case<'_>, folder: &Folder, rows: &'a RecordBatch, batch_rows: usize, run: Run) -> Self {
        let plan = case.plan(folder, rows);
        let mut output = folder.unchanged("building an output", || (plan.build)().unwrap());
        let committer = output.committer();
        let (state, staged) = (State::default(), Vec::new());
        Self { case, rows, batch_rows, output, committer, run, home: Home::Nowhere, epochs: 0, state, staged }
    }

    async fn open(&mut self, folder: &Folder) {
        self.output.barrier(Epoch(self.epochs as u64));
        self.home = folder.durable();
        let opened = self.output.open(&self.home, &self.run).await;
        opened.unwrap_or_else(|error| panic!("{:?}: {error}", self.case.target));
    }

    /// Writes some rows.
    pub(super) async fn write(&mut self, rows: Range<usize>) {
        let end = rows.end.min(self.rows.num_rows());
        for start in (rows.start.min(end)..end).step_by(self.batch_rows) {
            let rows = self.rows.slice(start, self.batch_rows.min(end - start));
            let mut out = Collector::new(0);
            self.output.write(batch(rows), &mut out).await.unwrap();
            assert_eq!(out.take_failed(), [], "{:?}: rows were refused", self.case.target);
        }
    }

    /// Writes all rows, which are one epoch.
    pub(super) async fn write_all_and_stage(&mut self) {
        self.write(0..usize::MAX).await;
        self.stage(Then::End).await;
    }

    /// Writes the rows until so many epochs have ended, with a stage at each barrier.
    pub(super) async fn go_on(&mut self, epochs: usize, last: Then) {
        while self.epochs < epochs {
            self.write(EPOCHS[self.epochs].clone()).await;
            let is_last = self.epochs + 1 == epochs;
            self.stage(if is_last { last } else { Then::Continue }).await;
        }
    }

    async fn stage(&mut self, then: Then) {
        self.epochs += 1;
        let epoch = Epoch(self.epochs as u64);
        if then != Then::End {
            self.output.barrier(epoch);
        }
        let snapshot = self.output.stage(Barrier { epoch, then }).await.unwrap();
        self.state = snapshot.state.into_state().unwrap();
        let staged = snapshot.staged.into_state().unwrap();
        if !staged.is_empty() {
            let context = self.context(self.epochs, self.home.clone());
            self.staged.push(PendingCommit { staged, context });
        }
    }

    /// What the checkpoint behind so many epochs is.
    fn context(&self, epochs: usize, home: Home) -> CommitContext {
        CommitContext {
            flow: "test".into(),
            node: "node".into(),
            incarnation: self.run.incarnation.clone(),
            generation: self.run.generation,
            checkpoint: self.run.generation + epochs as u64,
            epoch: Epoch(epochs as u64),
            home,
        }
    }

    /// What has been staged.
    pub(super) fn stages(&self) -> Vec<PendingCommit> {
        self.staged.clone()
    }

    /// The state at the last barrier.
    pub(super) fn state(&self) -> State {
        self.state.clone()
    }

    /// Commits a stage, and perhaps writes down that it is visible.
    pub(super) async fn commit(&mut self, stage: &PendingCommit, is_written_down: bool) {
        let committer = self.committer.as_mut().unwrap();
        committer.commit(stage).await.unwrap_or_else(|error| panic!("{:?}: {error}", self.case.target));
        if is_written_down {
            committer.committed(stage).await.unwrap();
        }
    }

    /// Commits all stages, and perhaps writes down that they are visible.
    pub(super) async fn commit_all(&mut self, is_written_down: bool) {
        for stage in std::mem::take(&mut self.staged) {
            self.commit(&stage, is_written_down).await;
        }
    }

    /// The flow has failed.
    pub(super) async fn abort(mut self) {
        self.output.abort().await;
    }
}
