//! The output itself: refuses what the table does not take, and spools the rest, or writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{BooleanArray, RecordBatch};
use async_trait::async_trait;
use millstream_core::{
    Barrier, Batch, Collector, Committer, Delivery, Error, ErrorClass, Figures, Home, Output, Report, Result, Run,
    Snapshot,
};
use millstream_spool::{Pauses, Spool, Unnamed};
use serde_json::json;

use super::Job;
use super::apply::{Refusal, apply};
use super::committer::{MysqlCommitter, Session};
use super::target::Target;

/// Writes rows to a table.
pub struct MysqlOutput {
    job: Arc<Job>,
    /// What the output and its committer share.
    unnamed: Unnamed,
    written: Arc<Written>,
    running: Option<Running>,
}

/// An output that has been opened.
struct Running {
    target: Target,
    way: Way,
}

/// Which way rows go.
enum Way {
    /// Into the spool, and to the table when a checkpoint has decided that they count.
    Spool(Box<Spool>),
    /// To the table as they come, over this connection if it still stands.
    Direct(Option<Box<Session>>),
}

/// How many rows were written, for people.
#[derive(Default)]
pub struct Written(AtomicU64);

impl Written {
    pub fn add(&self, rows: u64) {
        self.0.fetch_add(rows, Ordering::Relaxed);
    }
}

impl MysqlOutput {
    pub fn new(job: Arc<Job>) -> Self {
        Self { job, unnamed: Unnamed::default(), written: Arc::default(), running: None }
    }
}

/// Refuses the rows that the table does not take, as far as that is known, and returns the others.
fn refuse(job: &Job, target: &Target, batch: &Batch, out: &mut Collector) -> Result<RecordBatch> {
    let refusals: Vec<_> = (0..batch.len()).map(|row| target.refusal(job, &batch.rows, row)).collect();
    if refusals.iter().all(Option::is_none) {
        return Ok(batch.rows.clone());
    }
    let refused: BooleanArray = refusals.iter().map(|refusal| Some(refusal.is_some())).collect();
    out.fail_rows(batch, &refused, |row| refusals[row].clone().unwrap_or_default())
}

/// Writes rows as they come, again and again until the server has them.
async fn write_directly(job: &Job, session: &mut Option<Box<Session>>, rows: &RecordBatch) -> Result<Vec<Refusal>> {
    let mut pauses = Pauses::default();
    loop {
        match try_directly(job, session, rows).await {
            Err(error) if error.class() == ErrorClass::Transient => {
                *session = None;
                pauses.wait(&error).await;
            }
            written => return written,
        }
    }
}

async fn try_directly(job: &Job, session: &mut Option<Box<Session>>, rows: &RecordBatch) -> Result<Vec<Refusal>> {
    let mut open = match session.take() {
        Some(open) => open,
        None => Session::begin(job).await?.into(),
    };
    open.say("START TRANSACTION").await?;
    let refused = apply(job, &open.target, &mut open.connection, rows).await?;
    open.say("COMMIT").await?;
    *session = Some(open);
    Ok(refused)
}

#[async_trait]
impl Output for MysqlOutput {
    async fn open(&mut self, home: &Home, run: &Run) -> Result<()> {
        let job = self.job.clone();
        let mut connection = job.server.begin().await?;
        let target = Target::prepare(&job, &mut connection).await?;
        // Nobody would decide that rows count.
        let is_undecided = *home == Home::Nowhere && job.is_live;
        let way = match job.delivery {
            Delivery::ExactlyOnce if !is_undecided => {
                Way::Spool(Box::new(Spool::open(job.schema.clone(), home, run, &self.unnamed)?))
            }
            _ => Way::Direct(Some(Box::new(Session { connection, target: target.clone() }))),
        };
        self.running = Some(Running { target, way });
        Ok(())
    }

    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()> {
        let Some(Running { target, way }) = &mut self.running else { return Err(Error::new("it is not open")) };
        let rows = refuse(&self.job, target, &batch, out)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match way {
            Way::Spool(spool) => spool.write(&rows),
            Way::Direct(session) => {
                let refused = write_directly(&self.job, session, &rows).await?;
                self.written.add((rows.num_rows() - refused.len()) as u64);
                let batch = batch.with_rows(rows);
                refused.into_iter().try_for_each(|(row, why)| out.fail_row(&batch, row, why))
            }
        }
    }

    async fn stage(&mut self, _: Barrier) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        if let Some(Running { way: Way::Spool(spool), .. }) = &mut self.running {
            spool.stage(&mut snapshot.staged)?;
        }
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        if self.job.delivery == Delivery::AtLeastOnce {
            return None;
        }
        Some(Box::new(MysqlCommitter::new(self.job.clone(), self.unnamed.clone(), self.written.clone())))
    }

    fn report(&self) -> Option<Report> {
        let values = vec![("written", json!(self.written.0.load(Ordering::Relaxed)))];
        Some(Report::Figures(Figures { title: "table of MySQL".to_owned(), values }))
    }

    async fn abort(&mut self) {
        self.running = None;
    }
}
