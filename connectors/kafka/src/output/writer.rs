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
use super::limits::{TopicBook, refuse, topics_of};
use super::rows::{RowEncoder, ValueFormat};

/// What is staged says by this that no other stage follows in this run.
pub const LAST: &str = "last";

/// Sends rows to topics.
pub struct KafkaOutput {
    job: Arc<Job>,
    schema: SchemaRef,
    format: ValueFormat,
    /// What the output and its committer share.
    unnamed: Unnamed,
    book: TopicBook,
    sent: Arc<Sent>,
    running: Option<Running>,
}

/// An output that has been opened.
struct Running {
    /// To know how large messages are.
    encoder: RowEncoder,
    way: Way,
}

/// Which way rows go.
enum Way {
    /// Into the spool, and to their topics when a checkpoint has decided that they count.
    Spool(Box<Spool>),
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
    pub fn new(job: Arc<Job>, schema: SchemaRef, format: ValueFormat) -> Self {
        let (unnamed, book, sent) = Default::default();
        Self { job, schema, format, unnamed, book, sent, running: None }
    }

    fn encoder(&self) -> Result<RowEncoder> {
        RowEncoder::new(&self.job.layout, &self.format, self.schema.clone())
    }

    fn way(&self, home: &Home, run: &Run) -> Result<Way> {
        // Nobody would decide that rows count.
        let is_undecided = *home == Home::Nowhere && self.job.is_live;
        if self.job.delivery == Delivery::AtLeastOnce || is_undecided {
            return Ok(Way::Direct(Direct::start(&self.job.direct, self.encoder()?, self.sent.clone())?));
        }
        Ok(Way::Spool(Box::new(Spool::open(self.schema.clone(), home, run, &self.unnamed)?)))
    }
}

#[async_trait]
impl Output for KafkaOutput {
    async fn open(&mut self, home: &Home, run: &Run) -> Result<()> {
        self.book.require(&self.job).await?;
        self.running = Some(Running { encoder: self.encoder()?, way: self.way(home, run)? });
        Ok(())
    }

    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()> {
        let topics = topics_of(&self.job, &batch.rows);
        self.book.look_up(&self.job, topics.iter().map(String::as_str)).await?;
        let Some(Running { encoder, way }) = &mut self.running else { return Err(Error::new("it is not open")) };
        let rows = refuse(&batch, &self.job, &self.book, encoder, out)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match way {
            Way::Spool(spool) => spool.write(&rows),
            Way::Direct(direct) => direct.send(rows).await,
        }
    }

    async fn stage(&mut self, barrier: Barrier) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        match self.running.as_mut().map(|running| &mut running.way) {
            Some(Way::Spool(spool)) => {
                spool.stage(&mut snapshot.staged)?;
                if barrier.then != Then::Continue && !snapshot.staged.is_empty() {
                    snapshot.staged.put(LAST, &true)?;
                }
            }
            Some(Way::Direct(direct)) => direct.flush().await?,
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
