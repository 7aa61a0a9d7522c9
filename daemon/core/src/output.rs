//! Outputs: where rows leave a flow.

use std::fmt;

use async_trait::async_trait;

use crate::{Batch, PlanContext, Problems, Result, Stream, Uses};

/// An output's TOML table.
pub trait OutputSettings: Send + Sync {
    /// Checks the settings against the columns that will arrive, without side effects.
    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems>;
}

/// How often a row is delivered when the flow is killed and resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Once: rows are staged, and become visible with the commit of their epoch.
    ExactlyOnce,
    /// Once or more: rows are visible as soon as they are written.
    AtLeastOnce,
}

/// What an output needs for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusive {
    /// The setting that says it.
    pub setting: &'static str,
    /// What it is; equal texts mean the same thing.
    pub what: String,
}

/// An output that has been checked and can be built.
pub struct OutputPlan {
    /// What is needed of the columns.
    pub uses: Uses,
    /// How often a row is delivered.
    pub delivery: Delivery,
    /// What no other output of the flow may write to, such as a file.
    pub exclusive: Option<Exclusive>,
    /// Makes the output, without I/O.
    pub build: Box<dyn FnOnce() -> Result<Box<dyn Output>> + Send>,
}

impl fmt::Debug for OutputPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputPlan").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

/// Writes rows. The engine calls `open` once, `write` for every batch, `prepare` when all rows have been written,
/// and then either `commit` or `abort`.
#[async_trait]
pub trait Output: Send {
    /// Connects, creates staging files.
    async fn open(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes rows. Waiting here slows the flow down, which is right.
    async fn write(&mut self, batch: Batch) -> Result<()>;

    /// Makes durable, but not yet visible, everything that was written.
    async fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes visible what was prepared. Idempotent, since it is repeated after a crash.
    async fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    /// The flow failed: removes what was staged.
    async fn abort(&mut self) {}
}
