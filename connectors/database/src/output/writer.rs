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

use super::committer::TableCommitter;
use super::{OutputTable, Refusal, Session};

/// Writes rows to a table.
pub struct TableOutput<T: OutputTable> {
    table: Arc<T>,
    /// What the output and its committer share.
    unnamed: Unnamed,
    written: Arc<Written>,
    running: Option<Running<T>>,
}

/// An output that has been opened.
struct Running<T: OutputTable> {
    limits: <T::Session as Session>::Limits,
    way: Way<T::Session>,
}

/// Which way rows go.
enum Way<S> {
    /// Into the spool, and to the table when a checkpoint has decided that they count.
    Spool(Box<Spool>),
    /// To the table as they come, over this connection if it still stands.
    Direct(Option<Box<S>>),
}

/// How many rows were written, for people.
#[derive(Default)]
pub struct Written(AtomicU64);

impl Written {
    pub fn add(&self, rows: u64) {
        self.0.fetch_add(rows, Ordering::Relaxed);
    }
}

impl<T: OutputTable> TableOutput<T> {
    pub fn new(table: Arc<T>) -> Self {
        Self { table, unnamed: Unnamed::default(), written: Arc::default(), running: None }
    }
}

/// Fails the rows that the table does not take, as far as that is known, and returns the others.
fn refuse(refusals: &[Option<String>], batch: &Batch, out: &mut Collector) -> Result<RecordBatch> {
    if refusals.iter().all(Option::is_none) {
        return Ok(batch.rows.clone());
    }
    let refused: BooleanArray = refusals.iter().map(|refusal| Some(refusal.is_some())).collect();
    out.fail_rows(batch, &refused, |row| refusals[row].clone().unwrap_or_default())
}

/// Writes rows as they come, again and again until the server has them.
async fn write_directly<T: OutputTable>(
    table: &Arc<T>,
    session: &mut Option<Box<T::Session>>,
    rows: &RecordBatch,
) -> Result<Vec<Refusal>> {
    let mut pauses = Pauses::default();
    loop {
        match try_directly(table, session, rows).await {
            Err(error) if error.class() == ErrorClass::Transient => {
                *session = None;
                pauses.wait(&error).await;
            }
            written => return written,
        }
    }
}

async fn try_directly<T: OutputTable>(
    table: &Arc<T>,
    session: &mut Option<Box<T::Session>>,
    rows: &RecordBatch,
) -> Result<Vec<Refusal>> {
    let mut open = match session.take() {
        Some(open) => open,
        None => T::connect(table, false).await?.into(),
    };
    open.begin().await?;
    let refused = open.write(rows).await?;
    open.commit().await?;
    *session = Some(open);
    Ok(refused)
}

#[async_trait]
impl<T: OutputTable> Output for TableOutput<T> {
    async fn open(&mut self, home: &Home, run: &Run) -> Result<()> {
        let job = self.table.job();
        let session = T::connect(&self.table, true).await?;
        let limits = session.limits();
        // Nobody would decide that rows count.
        let is_undecided = *home == Home::Nowhere && job.is_live;
        let way = match job.delivery {
            Delivery::ExactlyOnce if !is_undecided => {
                Way::Spool(Box::new(Spool::open(job.schema.clone(), home, run, &self.unnamed)?))
            }
            _ => Way::Direct(Some(Box::new(session))),
        };
        self.running = Some(Running { limits, way });
        Ok(())
    }

    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()> {
        let Some(Running { limits, way }) = &mut self.running else { return Err(Error::new("it is not open")) };
        let rows = refuse(&self.table.refusals(limits, &batch.rows), &batch, out)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match way {
            Way::Spool(spool) => spool.write(&rows),
            Way::Direct(session) => {
                let refused = write_directly(&self.table, session, &rows).await?;
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
        if self.table.job().delivery == Delivery::AtLeastOnce {
            return None;
        }
        Some(Box::new(TableCommitter::new(self.table.clone(), self.unnamed.clone(), self.written.clone())))
    }

    fn report(&self) -> Option<Report> {
        let values = vec![("written", json!(self.written.0.load(Ordering::Relaxed)))];
        Some(Report::Figures(Figures { title: format!("table of {}", T::PRODUCT), values }))
    }

    async fn abort(&mut self) {
        self.running = None;
    }
}
