//! The output itself: refuses what topics do not take, and spools the rest, or sends it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{
    Barrier, Batch, Collector, Committer, Delivery, Error, Figures, Home, Output, Report, Result, Run, Snapshot, Then,
};
use millstream_spool::{Spool, Unnamed};
use serde_json::json;

use super::Job;
use super::committer::KafkaCommitter;
use super::direct::Direct;
use super::limits::{Taken, TopicBook, refuse, topics_of};
use super::rows::{Prefixes, RowEncoder, RowFormat};
use crate::part::MessagePart;

/// What the messages of what is staged begin with, if with anything.
pub const PREFIXES: &str = "prefixes";

/// Sends rows to topics.
pub struct KafkaOutput {
    job: Arc<Job>,
    schema: SchemaRef,
    format: RowFormat,
    /// What the output and its committer share.
    unnamed: Unnamed,
    book: TopicBook,
    sent: Arc<Sent>,
    running: Option<Running>,
}

/// An output that has been opened.
struct Running {
    prefixes: Prefixes,
    encoder: RowEncoder,
    way: Way,
}

/// Which way rows go.
enum Way {
    /// Into the spool, and to their topics when a checkpoint has decided that they count; of their columns those that have a part in messages.
    Spool(Box<Spool>, Vec<usize>),
    /// To their topics as they come.
    Direct(Direct),
}

/// What has been sent, for people.
#[derive(Default)]
pub struct Sent {
    rows: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Sent {
    /// Counts rows.
    pub fn add(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Notes what is wrong with the connections now.
    pub fn note_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl KafkaOutput {
    pub fn new(job: Arc<Job>, schema: SchemaRef, format: RowFormat) -> Self {
        let (unnamed, book, sent) = Default::default();
        Self { job, schema, format, unnamed, book, sent, running: None }
    }

    fn encoder(&self, prefixes: &Prefixes) -> Result<RowEncoder> {
        RowEncoder::new(&self.job.layout, &self.format, self.schema.clone(), prefixes)
    }

    fn way(&self, home: &Home, run: &Run) -> Result<Way> {
        // Nobody would decide that rows count.
        let is_undecided = *home == Home::Nowhere && self.job.is_live;
        if self.job.delivery == Delivery::AtLeastOnce || is_undecided {
            return Ok(Way::Direct(Direct::start(&self.job.direct, self.sent.clone())?));
        }
        let columns = self.job.layout.columns(&self.schema);
        let schema = Arc::new(self.schema.project(&columns)?);
        Ok(Way::Spool(Box::new(Spool::open(schema, home, run, &self.unnamed)?), columns))
    }
}

/// What messages begin with: the numbers that a registry gives their schemas.
async fn prefixes(job: &Job, format: &RowFormat, schema: &SchemaRef) -> Result<Prefixes> {
    let mut prefixes = Prefixes::default();
    let Some(registry) = &job.registry else { return Ok(prefixes) };
    let schemas = format.schemas(&job.layout, schema).map_err(|problem| Error::new(problem.message))?;
    // A column that says the topic goes with no subject of a topic.
    let topic = job.layout.fixed_topic.as_deref().unwrap_or_default();
    if let Some(schema) = &schemas.value {
        prefixes.value = schema.prefix(registry.number(topic, MessagePart::Value, schema).await?);
    }
    if let Some(schema) = &schemas.key {
        prefixes.key = schema.prefix(registry.number(topic, MessagePart::Key, schema).await?);
    }
    Ok(prefixes)
}

#[async_trait]
impl Output for KafkaOutput {
    async fn open(&mut self, home: &Home, run: &Run) -> Result<()> {
        self.book.require(&self.job).await?;
        let prefixes = prefixes(&self.job, &self.format, &self.schema).await?;
        let (encoder, way) = (self.encoder(&prefixes)?, self.way(home, run)?);
        self.running = Some(Running { prefixes, encoder, way });
        Ok(())
    }

    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()> {
        let topics = topics_of(&self.job, &batch.rows);
        self.book.look_up(&self.job, topics.iter().map(String::as_str)).await?;
        let Some(Running { encoder, way, .. }) = &mut self.running else { return Err(Error::new("it is not open")) };
        let Taken { rows, encoded } = refuse(&batch, &self.job, &self.book, encoder, out)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match way {
            Way::Spool(spool, columns) => spool.write(&rows.project(columns)?),
            Way::Direct(direct) => direct.send(encoded.map_or_else(|| encoder.encode(&rows), Ok)?).await,
        }
    }

    async fn stage(&mut self, barrier: Barrier) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        match self.running.as_mut().map(|running| (&mut running.way, &running.prefixes)) {
            Some((Way::Spool(spool, _), prefixes)) => {
                spool.stage(&mut snapshot.staged)?;
                if !snapshot.staged.is_empty() && *prefixes != Prefixes::default() {
                    snapshot.staged.put(PREFIXES, prefixes)?;
                }
            }
            // Brokers take their time, in which more rows must not wait.
            Some((Way::Direct(direct), _)) if barrier.then == Then::Continue => {
                let sent = direct.sent().await?;
                snapshot.state.do_later(|| sent.wait());
            }
            Some((Way::Direct(direct), _)) => direct.flush().await?,
            None => {}
        }
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        if self.job.delivery == Delivery::AtLeastOnce {
            return None;
        }
        let (job, format, unnamed) = (self.job.clone(), self.format.clone(), self.unnamed.clone());
        Some(Box::new(KafkaCommitter::new(job, format, unnamed, self.book.clone(), self.sent.clone())))
    }

    fn report(&self) -> Option<Report> {
        let mut values = vec![("sent", json!(self.sent.rows.load(Ordering::Relaxed)))];
        let trouble = self.sent.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        values.extend(trouble.map(|trouble| ("trouble", json!(trouble))));
        Some(Report::Figures(Figures { title: "topic of Kafka".to_owned(), values }))
    }

    async fn abort(&mut self) {
        self.running = None;
    }
}
