//! Outputs: where rows leave a flow.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Barrier, Batch, Collector, Committer, Epoch, EventTime, Home, PlanContext, Probe, Problems, Report, Result, Run,
    Snapshot, State, Stream, Uses,
};

/// An output's TOML table.
pub trait OutputSettings: Send + Sync {
    /// Checks what depends on no column, which is all that can be said where a node before it is wrong.
    ///
    /// # Errors
    /// If a setting is wrong. [`OutputSettings::plan`] says the same.
    fn check(&self, _context: &PlanContext) -> Result<(), Problems> {
        Ok(())
    }

    /// Checks the settings against the columns that will arrive, without side effects.
    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems>;

    /// What looks whether the other side is there, as `check --connect` does. Asked for when the plan is good; none if there is no
    /// other side.
    fn probe(&self, _context: &PlanContext) -> Option<Probe> {
        None
    }
}

/// How often a row is delivered when the flow is killed and resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Once: rows are staged, and become visible with the commit of their epoch.
    #[default]
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

/// The input of its flow whose senders an output answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// The setting that says it.
    pub setting: &'static str,
    /// The name of the input.
    pub input: String,
}

/// A file that an output writes, which no input of its flow should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writes {
    /// The setting that says it.
    pub setting: &'static str,
    /// The file, or one of many, as it would be called.
    pub path: PathBuf,
}

/// What becomes of what was published before at the place of an output that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorOutput {
    /// What runs have left that have come to their end, or kept no state, is treated as the settings say. What belongs to another
    /// state stays.
    Ended,
    /// All of it stays: the flow has run before, and the output begins behind its rows, because it is new or was reset. What is
    /// there may be what the flow has published.
    Stays,
    /// All of it is treated as the settings say, since somebody has said that it may go.
    MayGo,
}

/// An output that has been checked and can be built.
pub struct OutputPlan {
    /// What is needed of the columns.
    pub uses: Uses,
    /// How often a row is delivered.
    pub delivery: Delivery,
    /// What no other output of the flow may write to, such as a file.
    pub exclusive: Option<Exclusive>,
    /// Whose senders its rows answer.
    pub answers: Option<Answers>,
    /// A file that it writes, if it writes files.
    pub writes: Option<Writes>,
    /// Where its rows are when they are committed, in words for people: a path.
    pub place: Option<String>,
    /// Whether the output goes on from its state when other columns arrive than when the state was kept.
    pub takes_other_columns: bool,
    /// Whether the output may refuse rows. They leave it by the port `failed`, or go where `on_error` says.
    pub fails: bool,
    /// Makes the output, without I/O.
    pub build: Box<dyn FnOnce() -> Result<Box<dyn Output>> + Send>,
}

impl OutputPlan {
    /// The plan of an output to which `place` is far away: it takes all columns, later on also others, and refuses what that place does not take.
    pub fn to_place(place: String, delivery: Delivery, output: impl Output + 'static) -> Self {
        Self {
            uses: Uses::all(),
            delivery,
            exclusive: None,
            answers: None,
            writes: None,
            place: Some(place),
            takes_other_columns: true,
            fails: true,
            build: Box::new(move || Ok(Box::new(output))),
        }
    }
}

impl fmt::Debug for OutputPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputPlan").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

/// Writes rows. The engine calls `claim` if the flow keeps state, `restore` if it is resumed or else `begin`, then `open` once, then `write` for
/// every batch, and `stage` at some barriers and at the end.
/// What was staged is made visible by the [`Committer`], or undone by `abort`.
/// One that hands its rows on when a checkpoint has decided that they count:
///
/// ```
/// use millstream_core::{Barrier, Batch, Collector, Output, Parts, Result, Snapshot};
///
/// #[derive(Default)]
/// struct Count {
///     rows: u64,
/// }
///
/// #[async_trait::async_trait]
/// impl Output for Count {
///     async fn write(&mut self, batch: Batch, _: &mut Collector) -> Result<()> {
///         self.rows += batch.len() as u64;
///         Ok(())
///     }
///
///     async fn stage(&mut self, _: Barrier) -> Result<Snapshot> {
///         let mut staged = Parts::default();
///         staged.put("rows", &std::mem::take(&mut self.rows))?;
///         Ok(Snapshot { staged, ..Snapshot::default() })
///     }
///
///     // `committer` returns what makes `staged` visible: see `Committer`.
/// }
/// ```
#[async_trait]
pub trait Output: Send {
    /// Claims what no other process may write to at the same time, as far as that is there already. Called before this process
    /// takes the flow over, so that one that can't write leaves another alone that can. Changes nothing.
    fn claim(&mut self) -> Result<()> {
        Ok(())
    }

    /// Goes on from a snapshot. Called before `open`, and before this process takes the flow over, so that one which can't go on
    /// from it leaves another alone that can. Changes nothing outside.
    fn restore(&mut self, _state: &State) -> Result<()> {
        Ok(())
    }

    /// Begins with its first row, instead of going on from a snapshot. An error if what may not go would be removed or replaced.
    /// Called before `open`, in place of `restore`, also in runs without state, whose incarnation has no name yet. Changes
    /// nothing outside.
    fn begin(&mut self, _former: PriorOutput, _run: &Run) -> Result<()> {
        Ok(())
    }

    /// Connects, creates staging files, or goes on with those of the snapshot. Unless `home` is durable, nothing that is staged
    /// has to outlive the run. `run` tells the files of this run from those of others.
    async fn open(&mut self, _home: &Home, _run: &Run) -> Result<()> {
        Ok(())
    }

    /// Takes rows. Waiting here slows the flow down, which is right.
    ///
    /// Rows that the target can't take, such as those that are too large for it, go to [`Collector::fail_row`]. They have to be found
    /// here: once a checkpoint has decided that rows count, nothing but time may keep them from becoming visible.
    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()>;

    /// Event time has come to `at`: rows with an earlier one are late from now on. Called with ever later times.
    async fn watermark(&mut self, _at: EventTime) -> Result<()> {
        Ok(())
    }

    /// How often `tick` is wanted, which is asked once, behind `open`.
    fn tick_every(&self) -> Option<Duration> {
        None
    }

    /// So much time has gone by, and no other call is under way: for connections that have to be kept alive, or rows that are to
    /// be sent although no more come.
    async fn tick(&mut self) -> Result<()> {
        Ok(())
    }

    /// The barrier of an epoch: what is written from now on belongs to the next one. Called before `stage`.
    fn barrier(&mut self, _epoch: Epoch) {}

    /// Makes durable, but not yet visible, everything that was written; says what it takes to go on from here, and to
    /// make visible what is ready.
    async fn stage(&mut self, _border: Barrier) -> Result<Snapshot> {
        Ok(Snapshot::default())
    }

    /// What makes visible what the output stages. Called once, before anything else.
    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        None
    }

    /// How the output does, for people. Asked for a few times a second, and at the end.
    fn report(&self) -> Option<Report> {
        None
    }

    /// The flow failed, and keeps no state: removes what was staged and not committed.
    async fn abort(&mut self) {}
}
