//! Rows that somebody pushes, who is told when they are durable and then forgets them: over HTTP, say.
//!
//! A push input is a [`Receiver`], which gets an [`Ingest`] when the flow begins. It hands bytes of a format to [`Ingest::take`], with
//! a key and the name of another format if the sender says so, and is told when their rows are durable ([`Ack`]), or why none was taken ([`Refused`]). All else is
//! here:
//!
//! * What is taken is a record of a log in the node's folder, which outlives any crash ([`millstream_store::Log`]).
//! * Rows that can't be read are refused at once, as long as somebody has them who can mend them.
//! * What comes again with the same key is not taken twice, and answered as the first time.
//! * The memory for what comes is limited ([`Ingest::memory`]), and so is the log: a sender may have to try again.
//! * [`PushInput`] reads the rows of the log into the flow, resumes from a checkpoint, goes through rows of a run before again,
//!   and trims what checkpoints have covered.
//! * Senders who want to know what the flow makes of their rows wait at the [`Desk`] of the input ([`PushInput::answered`]).
//!
//! The settings for all that are [`PushSettings`], which a node has among its own. Where what comes is not rows in a format but messages, of which
//! something besides their values is kept, the node says by a [`Contents`] what bytes stand for, and has [`LogSettings`] only.

mod batches;
mod contents;
mod desk;
mod formats;
mod ingest;
mod input;
mod keys;
mod memory;
mod note;
mod record;
mod refused;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{ByteSize, Columns, Duration, Intake, KeptNode, PlanContext, Problem, Report, Result};
use millstream_formats::{Format, ReadBodies};
use millstream_store::{Files, LocalFiles, verify_log};
use schemars::JsonSchema;
use serde::Deserialize;

pub use batches::{Health, MOST_BYTES, Waiting, keep, waiting};
pub use contents::{Contents, ReadRecords, rows_of};
pub use desk::{Desk, NoAnswer, Replies};
pub use formats::FormatTag;
pub use ingest::{Ack, Ingest};
pub use input::PushInput;
pub use keys::Key;
pub use memory::Share;
pub use note::Note;
pub use refused::Refused;
pub use worker::Worker;

use contents::Streams;
use formats::Decoders;
use input::Limits;
use keys::Remember;

/// The log, in the folder of the node.
const LOG: &str = "log";

/// The format of rows that come by themselves.
const ROWS: &str = "ndjson";

/// Keys that are remembered for ever, as long as there is memory for them.
const ALWAYS: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86400);
const FEW_KEYS: usize = 1 << 20;

/// What brings rows: a server, a subscription.
#[async_trait]
pub trait Receiver: Send {
    /// Begins to receive, until what is returned is dropped. Then nothing may have the `ingest` any more, so that the log is free
    /// at once.
    ///
    /// # Errors
    /// If it can't.
    async fn start(&mut self, ingest: Ingest) -> Result<Box<dyn Send>>;

    /// What gives it rows by hand, if somebody may.
    fn intake(&self) -> Option<Arc<dyn Intake>> {
        None
    }

    /// How it does, for people.
    fn report(&self) -> Option<Report> {
        None
    }
}

/// The settings of inputs whose rows are pushed.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct PushSettings {
    /// How the rows are written: `"csv"`, or `{ type = "csv", delimiter = ";" }` with settings of the format. What comes at once, such
    /// as the body of a request, is read for itself, so that each has a header of its own.
    format: Format<ReadBodies>,
    /// The columns and their types: `{ id = "utf8", amount = "float64?" }`. A value that is missing, null or of
    /// another type fails its row; with a `?` behind its type it may be missing or null.
    schema: Columns,
    #[serde(flatten)]
    log: LogSettings,
    /// For how long the key of a request is remembered, by default `"1h"`: a client must not send it again later.
    #[serde(default = "remember")]
    remember: Duration,
    /// How much memory these keys may take, by default `"64MiB"`, which is enough for 250,000 keys of 36 characters. If there
    /// are more, the oldest ones are forgotten before `remember` is over. They are part of every checkpoint.
    #[serde(default = "max_keys")]
    max_keys: ByteSize,
}

/// The settings of the log in which rows wait.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct LogSettings {
    /// How many bytes of rows may wait until a checkpoint covers them, by default `"1GiB"`. At least four times as many as may
    /// come at once. As long as half of it is free, the rows behind the oldest checkpoint that is kept stay, so that `millstream
    /// replay` can go through them again.
    #[serde(default = "max_log")]
    max_log: ByteSize,
}

fn max_log() -> ByteSize {
    ByteSize(1 << 30)
}

fn remember() -> Duration {
    Duration(std::time::Duration::from_secs(3600))
}

fn max_keys() -> ByteSize {
    ByteSize(64 << 20)
}

/// Checks the log of a node whose rows are pushed.
///
/// # Errors
/// If it is damaged.
pub fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
    let log = kept.home.map(|home| home.join(LOG));
    log.map_or(Ok(()), |log| verify_log(Arc::new(LocalFiles), &log)).map(|()| None)
}

/// What a node says of itself.
pub struct PushNode {
    /// The type of the node.
    pub kind: &'static str,
    /// How many bytes may come at once.
    pub largest: usize,
    /// What brings the rows.
    pub receiver: Box<dyn Receiver>,
}

impl PushSettings {
    /// The input of a node. Its log is in `files`.
    pub fn input(&self, node: PushNode, context: &PlanContext, files: Arc<dyn Files>) -> Result<PushInput, Problem> {
        let contents = Arc::new(Streams::new(Decoders::new(&self.format, &self.schema, context)?));
        let remember = Remember { time: self.remember.0, bytes: self.max_keys.0 };
        self.log.remembering(node, contents, remember, context, files)
    }
}

impl LogSettings {
    /// The input of a node to which nothing comes with a key.
    ///
    /// # Errors
    /// If the log is too small.
    pub fn input(
        &self,
        node: PushNode,
        contents: Arc<dyn Contents>,
        context: &PlanContext,
    ) -> Result<PushInput, Problem> {
        self.remembering(node, contents, Remember::default(), context, Arc::new(LocalFiles))
    }

    /// The same, of a node that takes the same again from a place that does not change, and knows by keys what it has taken.
    ///
    /// # Errors
    /// If the log is too small.
    pub fn input_with_keys(
        &self,
        node: PushNode,
        contents: Arc<dyn Contents>,
        context: &PlanContext,
    ) -> Result<PushInput, Problem> {
        let remember = Remember { time: ALWAYS, bytes: FEW_KEYS };
        self.remembering(node, contents, remember, context, Arc::new(LocalFiles))
    }

    /// The input of a node to which each row comes by itself as a JSON object, with a key.
    ///
    /// # Errors
    /// If the log is too small, or JSON has no such columns.
    pub fn input_of_rows(
        &self,
        node: PushNode,
        columns: &Columns,
        context: &PlanContext,
    ) -> Result<PushInput, Problem> {
        let format = Format::named(ROWS).ok_or_else(|| Problem::new("this build reads no rows of JSON"))?;
        let contents = Arc::new(Streams::new(Decoders::new(&format, columns, context)?));
        self.input_with_keys(node, contents, context)
    }

    fn remembering(
        &self,
        node: PushNode,
        contents: Arc<dyn Contents>,
        remember: Remember,
        context: &PlanContext,
        files: Arc<dyn Files>,
    ) -> Result<PushInput, Problem> {
        if self.max_log.0 / 4 < node.largest {
            let message = format!("the log must have room for four times {} at least", ByteSize(node.largest));
            let problem = Problem::new(message).at(["max_log"]);
            return Err(problem.help("that is the most that may come at once; raise `max_log`"));
        }
        let limits = Limits { max_log: self.max_log.0 as u64, remember };
        Ok(PushInput::new(node, context.node.as_str().into(), contents, limits, files))
    }
}
