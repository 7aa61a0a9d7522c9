//! The output itself: refuses what the broker does not take, and spools the rest, or sends it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{
    Barrier, Batch, Collector, Committer, Delivery, Error, ErrorClass, Figures, Home, Output, Report, Result, Run,
    Snapshot,
};
use millstream_spool::{Pauses, Spool, Unnamed};
use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::{Layout, Messages, RowEncoder};

/// How long a broker may take to answer at the beginning of a flow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where messages go.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// What the output reports under.
    const TITLE: &'static str;

    /// Connects, and finds out what it takes.
    ///
    /// # Errors
    /// If it is not there, which is tried again for a while if that may be over, or does not take the rows.
    async fn open(&mut self) -> Result<()>;

    /// Why it does not take a message, if it doesn't.
    fn refusal(&self, to: &str, value: &[u8]) -> Option<String>;

    /// Sends messages, and waits until it has them.
    ///
    /// # Errors
    /// If it has not said that it has all of them. Those of a transient class are tried again.
    async fn send(&mut self, messages: &Messages<'_>) -> Result<()>;

    /// What sends the stages that checkpoints have decided.
    fn committer(&self, stages: Stages) -> Box<dyn Committer>;
}

/// What a committer needs of its output.
pub struct Stages {
    /// How rows become messages.
    pub layout: Layout,
    /// The columns of the rows.
    pub schema: SchemaRef,
    /// What the spools of both share.
    pub unnamed: Unnamed,
    /// What people are told.
    pub sent: Arc<Sent>,
    /// The name of the run, which is known when the output is open. That of a run without state is not in the context of its commits.
    pub incarnation: Arc<OnceLock<String>>,
}

/// What has been sent, for people.
#[derive(Default)]
pub struct Sent {
    rows: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Sent {
    /// Counts rows.
    pub fn add(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.note(None);
    }

    /// Notes what keeps rows from being sent.
    pub fn note(&self, trouble: Option<&Error>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(ToString::to_string);
    }
}

/// Sends rows as messages.
pub struct MessageOutput<T> {
    target: T,
    layout: Layout,
    schema: SchemaRef,
    delivery: Delivery,
    /// Whether the flow does not end by itself.
    is_live: bool,
    unnamed: Unnamed,
    sent: Arc<Sent>,
    incarnation: Arc<OnceLock<String>>,
    running: Option<Running>,
}

/// An output that has been opened.
struct Running {
    encoder: RowEncoder,
    /// Where rows are kept until a checkpoint has decided that they count. None where none does.
    spool: Option<Spool>,
}

impl<T: Target> MessageOutput<T> {
    /// An output of rows of these columns. With [`Delivery::AtLeastOnce`] rows are sent as they come.
    pub fn new(target: T, layout: Layout, schema: SchemaRef, delivery: Delivery, is_live: bool) -> Self {
        let (unnamed, sent, incarnation) = Default::default();
        Self { target, layout, schema, delivery, is_live, unnamed, sent, incarnation, running: None }
    }

    async fn open_target(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pauses = Pauses::default();
        loop {
            match self.target.open().await {
                Err(error) if error.class() == ErrorClass::Transient && Instant::now() < deadline => {
                    pauses.wait(&error).await;
                }
                opened => return opened,
            }
        }
    }
}

/// Refuses the rows that the target does not take, and returns the others.
fn refuse(target: &impl Target, encoder: &mut RowEncoder, batch: &Batch, out: &mut Collector) -> Result<RecordBatch> {
    let messages = encoder.encode(&batch.rows)?;
    let refusal = |row: usize| match (messages.refusal(row), messages.to(row)) {
        (Some(why), _) => Some(why.to_owned()),
        (None, Some(to)) => target.refusal(to, messages.value(row)),
        (None, None) => Some("nothing says where it goes".to_owned()),
    };
    let refusals: Vec<_> = (0..messages.len()).map(refusal).collect();
    if refusals.iter().all(Option::is_none) {
        return Ok(batch.rows.clone());
    }
    let refused: BooleanArray = refusals.iter().map(|refusal| Some(refusal.is_some())).collect();
    out.fail_rows(batch, &refused, |row| refusals[row].clone().unwrap_or_default())
}

/// Sends rows as they come, again and again until the target has them.
async fn send(target: &mut impl Target, encoder: &mut RowEncoder, rows: &RecordBatch, sent: &Sent) -> Result<()> {
    let messages = encoder.encode(rows)?;
    let mut pauses = Pauses::default();
    loop {
        match target.send(&messages).await {
            Err(error) if error.class() == ErrorClass::Transient => {
                sent.note(Some(&error));
                pauses.wait(&error).await;
            }
            Err(error) => return Err(error),
            Ok(()) => {
                sent.add(messages.len() as u64);
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl<T: Target> Output for MessageOutput<T> {
    async fn open(&mut self, home: &Home, run: &Run) -> Result<()> {
        self.open_target().await?;
        self.incarnation.get_or_init(|| run.incarnation.clone());
        // Nobody would decide that rows count.
        let is_undecided = *home == Home::Nowhere && self.is_live;
        let spool = if self.delivery == Delivery::AtLeastOnce || is_undecided {
            None
        } else {
            Some(Spool::open(self.schema.clone(), home, run, &self.unnamed)?)
        };
        self.running = Some(Running { encoder: self.layout.encoder(&self.schema)?, spool });
        Ok(())
    }

    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()> {
        let Some(Running { encoder, spool }) = &mut self.running else { return Err(Error::new("it is not open")) };
        let rows = refuse(&self.target, encoder, &batch, out)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match spool {
            Some(spool) => spool.write(&rows),
            None => send(&mut self.target, encoder, &rows, &self.sent).await,
        }
    }

    async fn stage(&mut self, _: Barrier) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        if let Some(Running { spool: Some(spool), .. }) = &mut self.running {
            spool.stage(&mut snapshot.staged)?;
        }
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        if self.delivery == Delivery::AtLeastOnce {
            return None;
        }
        let (layout, schema) = (self.layout.clone(), self.schema.clone());
        let (unnamed, sent, incarnation) = (self.unnamed.clone(), self.sent.clone(), self.incarnation.clone());
        Some(self.target.committer(Stages { layout, schema, unnamed, sent, incarnation }))
    }

    fn report(&self) -> Option<Report> {
        let mut values = vec![("sent", json!(self.sent.rows.load(Ordering::Relaxed)))];
        let trouble = self.sent.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        values.extend(trouble.map(|trouble| ("trouble", json!(trouble))));
        Some(Report::Figures(Figures { title: T::TITLE.to_owned(), values }))
    }

    async fn abort(&mut self) {
        self.running = None;
    }
}
