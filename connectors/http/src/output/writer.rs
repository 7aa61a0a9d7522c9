//! The output itself: refuses rows that go nowhere or can't be written, and spools the rest, or sends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{BooleanArray, RecordBatch};
use async_trait::async_trait;
use millstream_core::{
    Barrier, Batch, Collector, Committer, Error, Figures, Home, Output, Report, Result, Run, Snapshot,
};
use millstream_spool::{Spool, Unnamed};
use serde_json::json;

use super::Job;
use super::address::Addresses;
use super::committer::HttpCommitter;
use super::requests::Messages;
use super::sender::Outcome;

/// Sends rows to a service.
pub struct HttpOutput {
    job: Arc<Job>,
    /// What the output and its committer share.
    unnamed: Unnamed,
    counts: Arc<Counts>,
    messages: Messages,
    way: Option<Way>,
}

/// Which way rows go.
enum Way {
    /// Into the spool, and to the receiver when a checkpoint has decided that they count.
    Spool(Box<Spool>),
    /// To the receiver as they come.
    Direct(Direct),
}

/// Which requests were sent.
struct Direct {
    node: String,
    incarnation: String,
    rows: u64,
}

/// How many rows were sent, for people.
#[derive(Default)]
pub struct Counts {
    sent: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    pub fn sent(&self, rows: u64) {
        self.sent.fetch_add(rows, Ordering::Relaxed);
    }

    pub fn refused(&self, rows: u64) {
        self.refused.fetch_add(rows, Ordering::Relaxed);
    }
}

impl HttpOutput {
    pub fn new(job: Arc<Job>) -> Self {
        let (unnamed, counts, messages) = Default::default();
        Self { job, unnamed, counts, messages, way: None }
    }
}

/// Refuses the rows that go nowhere or can't be written, and returns the others.
fn refuse(job: &Job, batch: &Batch, messages: &mut Messages, out: &mut Collector) -> Result<RecordBatch> {
    let mut refusals = unaddressed(&job.addresses, &batch.rows);
    for (row, why) in job.layout.refused(&batch.rows, messages)? {
        refusals[*row].get_or_insert_with(|| why.clone());
    }
    if refusals.iter().all(Option::is_none) {
        return Ok(batch.rows.clone());
    }
    let refused: BooleanArray = refusals.iter().map(|refusal| Some(refusal.is_some())).collect();
    out.fail_rows(batch, &refused, |row| refusals[row].clone().unwrap_or_default())
}

/// Why rows go nowhere, of those that don't go anywhere.
fn unaddressed(addresses: &Addresses, rows: &RecordBatch) -> Vec<Option<String>> {
    let count = rows.num_rows();
    let Some(texts) = addresses.of(rows) else { return vec![None; count] };
    let mut refusals = Vec::with_capacity(count);
    while refusals.len() < count {
        let row = refusals.len();
        let refusal = addresses.address(Some(texts), row).err();
        let end = Addresses::end_of_run(Some(texts), row, count);
        // Each null is refused for itself.
        refusals.resize(if refusal.is_some() { row + 1 } else { end }, refusal);
    }
    refusals
}

impl Direct {
    /// Sends rows one request after the other, each until it is answered.
    async fn send(
        &mut self,
        job: &Job,
        counts: &Counts,
        messages: &mut Messages,
        batch: &Batch,
        out: &mut Collector,
    ) -> Result<()> {
        let rows = &batch.rows;
        let (texts, requests) = (job.addresses.of(rows), job.layout.requests(rows, messages)?);
        let mut from = 0;
        while from < rows.num_rows() {
            let end = Addresses::end_of_run(texts, from, rows.num_rows().min(from + job.layout.rows));
            let packed = requests.pack(from, end)?;
            let address = job.addresses.address(texts, from).map_err(Error::new)?;
            let key = format!("{}/{}/0/{}", self.incarnation, self.node, self.rows);
            match job.sender.deliver_in_time(&address, &key, &packed.body).await? {
                Outcome::Taken => counts.sent(packed.rows.len() as u64),
                Outcome::Refused(why) => {
                    counts.refused(packed.rows.len() as u64);
                    packed.rows.clone().try_for_each(|row| out.fail_row(batch, row, why.clone()))?;
                }
            }
            self.rows += packed.rows.len() as u64;
            from = packed.rows.end;
        }
        Ok(())
    }
}

#[async_trait]
impl Output for HttpOutput {
    async fn open(&mut self, home: &Home, run: &Run) -> Result<()> {
        // Nobody would decide that rows count.
        let is_undecided = *home == Home::Nowhere && self.job.is_live;
        self.way = Some(if is_undecided {
            Way::Direct(Direct { node: self.job.node.clone(), incarnation: run.incarnation.clone(), rows: 0 })
        } else {
            Way::Spool(Box::new(Spool::open(self.job.schema.clone(), home, run, &self.unnamed)?))
        });
        Ok(())
    }

    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()> {
        let rows = refuse(&self.job, &batch, &mut self.messages, out)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match &mut self.way {
            None => Err(Error::new("it is not open")),
            Some(Way::Spool(spool)) => spool.write(&rows),
            Some(Way::Direct(direct)) => {
                direct.send(&self.job, &self.counts, &mut self.messages, &batch.with_rows(rows), out).await
            }
        }
    }

    async fn stage(&mut self, _: Barrier) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        if let Some(Way::Spool(spool)) = &mut self.way {
            spool.stage(&mut snapshot.staged)?;
        }
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(HttpCommitter::new(self.job.clone(), self.unnamed.clone(), self.counts.clone())))
    }

    fn report(&self) -> Option<Report> {
        let count = |count: &AtomicU64| json!(count.load(Ordering::Relaxed));
        let mut values = vec![("sent", count(&self.counts.sent))];
        if self.counts.refused.load(Ordering::Relaxed) > 0 {
            values.push(("refused", count(&self.counts.refused)));
        }
        Some(Report::Figures(Figures { title: "rows over HTTP".to_owned(), values }))
    }

    async fn abort(&mut self) {
        self.way = None;
    }
}
