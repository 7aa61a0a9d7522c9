//! Writes what checkpoints have decided, each row once.
//!
//! Rows and a mark of how far they have come are written in one transaction, which begins with locking the mark: so whoever commits knows what is
//! there, whatever has been said or lost before, and nobody else writes meanwhile.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use millstream_core::{CommitContext, Committer, Error, ErrorClass, PendingCommit, Result, ResultExt as _, json_row};
use millstream_spool::{PartReader, Piece, Spooled, Unnamed};
use millstream_store::crash;
use tokio::time::sleep;

use super::writer::Written;
use super::{OutputTable, Session};

/// How often a transaction is tried that others are in the way of, before the engine waits longer.
const TRIES: u64 = 5;

/// Commits what the output has staged.
pub struct TableCommitter<T: OutputTable> {
    table: Arc<T>,
    unnamed: Unnamed,
    written: Arc<Written>,
    session: Option<T::Session>,
}

/// How far an output has come, as the table of marks says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The run that has written it.
    pub generation: u64,
    /// The checkpoint that has decided the last stage of which rows were written.
    pub checkpoint: u64,
    /// How many rows of that were written.
    pub rows: u64,
}

/// The rows of one transaction.
#[derive(Clone, Copy)]
struct Part {
    /// How many rows of the stage lie before its end.
    until: u64,
    is_last: bool,
    /// How many of its rows the table has refused.
    refused: u64,
}

/// The rows of one transaction, batch by batch.
pub struct PartRows<'a> {
    parts: &'a mut (dyn Iterator<Item = Result<Piece>> + Send),
    is_begun: bool,
    /// The part, when all of it was read.
    whole: Option<Part>,
}

impl Iterator for PartRows<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.whole.is_some() {
            return None;
        }
        self.is_begun = true;
        let piece = self.parts.next().unwrap_or_else(|| Err(fewer_rows()));
        Some(piece.map(|Piece { rows, until, ends_part, is_last }| {
            self.whole = ends_part.then_some(Part { until, is_last, refused: 0 });
            rows
        }))
    }
}

fn fewer_rows() -> Error {
    Error::new("a stage has fewer rows than it says")
}

/// What a mark says of a stage.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Done,
    TakenOver,
    /// So many rows of it were written.
    Begun(u64),
}

impl Mark {
    fn standing(self, of: &CommitContext, rows: u64) -> Standing {
        match self.checkpoint.cmp(&of.checkpoint) {
            std::cmp::Ordering::Greater => Standing::Done,
            std::cmp::Ordering::Equal if self.rows >= rows => Standing::Done,
            _ if self.generation > of.generation => Standing::TakenOver,
            std::cmp::Ordering::Equal => Standing::Begun(self.rows),
            std::cmp::Ordering::Less => Standing::Begun(0),
        }
    }
}

impl<T: OutputTable> TableCommitter<T> {
    pub fn new(table: Arc<T>, unnamed: Unnamed, written: Arc<Written>) -> Self {
        Self { table, unnamed, written, session: None }
    }

    async fn session(&mut self) -> Result<T::Session> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => T::connect(&self.table, false).await,
        }
    }

    /// Makes sure that there is a mark, and returns it, locked until the transaction ends that this begins.
    async fn lock_mark(&self, session: &mut T::Session, of: &CommitContext) -> Result<Mark> {
        for _ in 0..2 {
            session.begin().await?;
            if let Some(mark) = session.lock_mark(of).await? {
                return Ok(mark);
            }
            session.roll_back().await?;
            // Beside the transaction, since two that both insert it would wait for each other.
            session.make_mark(of).await?;
        }
        Err(Error::transient(format!("{} has lost what was just written", self.table.progress())))
    }

    /// Writes all of a stage that is not there yet.
    async fn write_stage(&mut self, pending: &PendingCommit) -> Result<()> {
        let spooled = Spooled::of(pending, &self.unnamed)?;
        if spooled.rows() == 0 {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            let mut session = self.session().await?;
            let done = self.write_parts(&mut session, &spooled, &pending.context).await;
            match done {
                Ok(()) => {
                    self.session = Some(session);
                    return Ok(());
                }
                // Perhaps others were in the way. What was begun is undone with the connection.
                Err(error) if error.class() == ErrorClass::Transient && tries < TRIES => {
                    tries += 1;
                    tracing::debug!("{error}; trying again");
                    drop(session);
                    sleep(Duration::from_millis(20 * tries + u64::from(std::process::id()) % 20)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn write_parts(&self, session: &mut T::Session, spooled: &Spooled, of: &CommitContext) -> Result<()> {
        let [written, committed] = T::CRASH_POINTS;
        let limits = self.table.job().parts;
        let mut at = None;
        let mut parts = spooled.parts(0, limits);
        loop {
            let mark = self.lock_mark(session, of).await?;
            let begun = match mark.standing(of, spooled.rows()) {
                Standing::Done => return session.roll_back().await,
                Standing::TakenOver => {
                    session.roll_back().await?;
                    return Err(self.taken_over());
                }
                Standing::Begun(rows) => rows,
            };
            if at != Some(begun) {
                parts = spooled.parts(begun, limits);
            }
            let mut rows = PartRows { parts: &mut parts, is_begun: false, whole: None };
            let is_written = session.write_at_once(&mut rows).await?;
            let PartRows { is_begun, whole, .. } = rows;
            let part = match whole.filter(|_| is_written) {
                Some(part) => part,
                None => {
                    if is_begun {
                        parts = spooled.parts(begun, limits);
                    }
                    self.write_part(session, &mut parts, of).await?
                }
            };
            let Part { until, is_last, refused } = part;
            crash::point(written);
            let mark = Mark { generation: of.generation, checkpoint: of.checkpoint, rows: until };
            session.write_mark(of, mark).await?;
            session.commit().await?;
            crash::point(committed);
            self.written.add((until - begun).saturating_sub(refused));
            at = Some(until);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Writes the rows of one transaction.
    async fn write_part(
        &self,
        session: &mut T::Session,
        parts: &mut PartReader<'_>,
        of: &CommitContext,
    ) -> Result<Part> {
        let mut refused = 0;
        let mut next = parts.next();
        loop {
            let Piece { rows, until, ends_part, is_last } = next.transpose()?.ok_or_else(fewer_rows)?;
            // While rows are written, those behind them are read.
            let (refusals, read) =
                tokio::join!(session.write(&rows), async { if ends_part { None } else { parts.next() } });
            for (row, why) in refusals? {
                self.refuse(session, of, &json_row(&rows, row)?, &why).await?;
                refused += 1;
            }
            if ends_part {
                return Ok(Part { until, is_last, refused });
            }
            next = read;
        }
    }

    async fn refuse(&self, session: &mut T::Session, of: &CommitContext, row: &str, why: &str) -> Result<()> {
        if self.table.keeps_refused() {
            return session.keep_refused(of, row, why).await;
        }
        Err(Error::new(format!(
            "{} does not take a row that counts: {why}: {row}; mend the table or the rows in it and run the flow again, or name a \
             `refused_table` for such rows",
            self.table.name()
        )))
    }

    fn taken_over(&self) -> Error {
        Error::new(format!(
            "another run of the flow has taken the output over, by what {} says: nothing more of this run is written, and what is still to be \
             written is that run's to write",
            self.table.progress()
        ))
    }

    /// Removes a mark by which nobody will ask. If it stays, that does no harm.
    async fn forget_mark(&mut self, of: &CommitContext) {
        let Some(mut session) = self.session.take() else { return };
        match session.remove_mark(of).await {
            Ok(()) => self.session = Some(session),
            Err(error) => tracing::debug!("{error}; the mark stays in {}", self.table.progress()),
        }
    }

    /// Notes that this run goes on, so that those before it can't any more.
    async fn claim(&mut self, of: &CommitContext) -> Result<()> {
        let mut session = self.session().await?;
        let mark = self.lock_mark(&mut session, of).await?;
        if mark.generation > of.generation {
            session.roll_back().await?;
            return Err(self.taken_over());
        }
        session.write_mark(of, Mark { generation: of.generation, ..mark }).await?;
        session.commit().await?;
        self.session = Some(session);
        Ok(())
    }
}

#[async_trait]
impl<T: OutputTable> Committer for TableCommitter<T> {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        self.write_stage(pending).await.doing(|| format!("committing to {}", T::PRODUCT))?;
        // A run without state has a name of its own, and it is said to nobody that its stage is visible.
        if pending.context.generation == 0 {
            self.forget_mark(&pending.context).await;
        }
        Ok(())
    }

    async fn recover(&mut self, pending: &[PendingCommit], context: &CommitContext) -> Result<()> {
        for stage in pending {
            self.commit(stage).await?;
        }
        self.claim(context).await
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        Spooled::of(pending, &self.unnamed)?.remove()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mark_says_of_a_stage() {
        let mark = Mark { generation: 3, checkpoint: 7, rows: 10 };
        let of = |generation, checkpoint| CommitContext { generation, checkpoint, ..CommitContext::default() };
        assert_eq!(mark.standing(&of(3, 7), 10), Standing::Done);
        assert_eq!(mark.standing(&of(3, 7), 15), Standing::Begun(10));
        assert_eq!(mark.standing(&of(3, 8), 15), Standing::Begun(0));
        assert_eq!(mark.standing(&of(2, 6), 15), Standing::Done, "of before, and late");
        assert_eq!(mark.standing(&of(2, 7), 10), Standing::Done);
        assert_eq!(mark.standing(&of(2, 8), 15), Standing::TakenOver);
    }
}
