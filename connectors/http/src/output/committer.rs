//! Sends what checkpoints have decided, and notes behind each answer how far it has come.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use millstream_core::{
    CommitContext, Committer, Encoding, Error, FailedRow, PendingCommit, Result, ResultExt as _, failed_batch,
    json_row, write_json,
};
use millstream_spool::{PartLimits, Piece, Spooled, Unnamed};
use millstream_store::{LocalStore, Store as _, crash};

use super::Job;
use super::address::Addresses;
use super::mark::{Mark, Marks, stage_of};
use super::requests::{Messages, Requests};
use super::sender::Outcome;
use super::writer::Counts;

/// The spool is read as it was written: requests are cut in another way than transactions.
const WHOLE: PartLimits = PartLimits { rows: u64::MAX, bytes: u64::MAX };

/// Commits what the output has staged.
pub struct HttpCommitter {
    job: Arc<Job>,
    unnamed: Unnamed,
    counts: Arc<Counts>,
    messages: Messages,
    /// By incarnations of flows, of which there is one but in tests.
    marks: BTreeMap<String, Marks>,
}

impl HttpCommitter {
    pub fn new(job: Arc<Job>, unnamed: Unnamed, counts: Arc<Counts>) -> Self {
        Self { job, unnamed, counts, messages: Messages::default(), marks: BTreeMap::new() }
    }

    /// Sends all of a stage that was not answered for.
    async fn send(&mut self, spooled: &Spooled, of: &CommitContext) -> Result<()> {
        let stage = stage_of(of);
        let marks = match self.marks.remove(&of.incarnation) {
            Some(marks) => marks,
            None => Marks::open(of)?,
        };
        let marks = self.marks.entry(of.incarnation.clone()).or_insert(marks);
        let Some(begun) = marks.mark().begun(stage, spooled.rows()) else { return Ok(()) };
        let mut parts = spooled.parts(begun, WHOLE);
        while let Some(Piece { rows, until, .. }) = parts.next_piece()? {
            let first = until - rows.num_rows() as u64;
            let requests = self.job.layout.requests(&rows, &mut self.messages)?;
            let mut from = 0;
            while from < rows.num_rows() {
                let key = format!("{}/{}/{stage}/{}", of.incarnation, of.node, first + from as u64);
                let end = send_one(&self.job, &rows, &requests, from, &key, &self.counts).await?;
                crash::point("http-answered");
                marks.note(Mark { stage, rows: first + end as u64 })?;
                crash::point("http-noted");
                from = end;
            }
        }
        Ok(())
    }
}

/// Sends the request that begins with a row of a batch. Returns the row behind it.
async fn send_one(
    job: &Job,
    rows: &RecordBatch,
    requests: &Requests<'_>,
    from: usize,
    key: &str,
    counts: &Counts,
) -> Result<usize> {
    let texts = job.addresses.of(rows);
    let end = Addresses::end_of_run(texts, from, rows.num_rows().min(from + job.layout.rows));
    let packed = requests.pack(from, end)?;
    let count = packed.rows.len();
    let outcome = match job.addresses.address(texts, from) {
        Ok(address) => job.sender.deliver(&address, key, &packed.body).await?,
        // It was allowed when the rows were written.
        Err(why) => Outcome::Refused(why),
    };
    match outcome {
        Outcome::Taken => counts.sent(count as u64),
        Outcome::Refused(why) => {
            refuse(job, &rows.slice(from, count), key, &why)?;
            counts.refused(count as u64);
        }
    }
    Ok(packed.rows.end)
}

/// Puts rows that the receiver does not take into a file of their own, once.
fn refuse(job: &Job, rows: &RecordBatch, key: &str, why: &str) -> Result<()> {
    let Some(folder) = &job.refused else {
        return Err(Error::new(format!(
            "{why}; the request has {} rows that count, the first of which is {}; mend it at the receiver and run the flow again, or name a \
             folder `refused` for such rows",
            rows.num_rows(),
            json_row(rows, 0)?
        )));
    };
    let row = |row| {
        Ok(FailedRow {
            error: why.to_owned(),
            source: "".into(),
            partition: "".into(),
            position: None,
            line: None,
            row: json_row(rows, row)?,
            encoding: Encoding::Json,
        })
    };
    let failed = (0..rows.num_rows()).map(row).collect::<Result<Vec<_>>>()?;
    let mut lines = Vec::new();
    write_json(&failed_batch(&job.node, &failed)?, &mut lines)?;
    let name = format!("{}.ndjson", key.replace('/', "-"));
    let put = LocalStore::new(folder).put_new(&name, &lines);
    put.map(drop).doing(|| format!("writing refused rows to `{}`", folder.display()))
}

#[async_trait]
impl Committer for HttpCommitter {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        let spooled = Spooled::of(pending, &self.unnamed)?;
        if spooled.rows() == 0 {
            return Ok(());
        }
        self.send(&spooled, &pending.context).await
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        Spooled::of(pending, &self.unnamed)?.remove()
    }
}
