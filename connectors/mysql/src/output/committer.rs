//! Writes what checkpoints have decided, each row once.
//!
//! Rows and a mark of how far they have come are written in one transaction, which begins with locking the mark: so whoever commits knows what is
//! there, whatever has been said or lost before, and nobody else writes meanwhile.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::{CommitContext, Committer, Error, ErrorClass, PendingCommit, Result, ResultExt as _, json_row};
use millstream_spool::{PartReader, Piece, Spooled, Unnamed};
use millstream_store::crash;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use tokio::time::sleep;

use super::Job;
use super::apply::apply;
use super::target::Target;
use super::writer::Written;
use crate::client::failed;

/// How often a transaction is tried that others are in the way of, before the engine waits longer.
const TRIES: u64 = 5;

/// Commits what the output has staged.
pub struct MysqlCommitter {
    job: Arc<Job>,
    unnamed: Unnamed,
    written: Arc<Written>,
    session: Option<Session>,
}

/// A connection, and what is known of the table.
pub struct Session {
    pub connection: Conn,
    pub target: Target,
}

impl Session {
    pub async fn begin(job: &Job) -> Result<Self> {
        let mut connection = job.server.connect().await?;
        let target = Target::prepare(job, &mut connection).await?;
        Ok(Self { connection, target })
    }

    pub async fn say(&mut self, statement: &str) -> Result<()> {
        self.connection.query_drop(statement).await.map_err(|error| failed(statement, error))
    }
}

/// How far an output has come, as the table of marks says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    generation: u64,
    /// The checkpoint that has decided the last stage of which rows were written, and how many of them.
    checkpoint: u64,
    rows: u64,
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

impl MysqlCommitter {
    pub fn new(job: Arc<Job>, unnamed: Unnamed, written: Arc<Written>) -> Self {
        Self { job, unnamed, written, session: None }
    }

    async fn session(&mut self) -> Result<Session> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => Session::begin(&self.job).await,
        }
    }

    /// Makes sure that there is a mark, and returns it, locked until the transaction ends that this begins.
    async fn lock_mark(&self, session: &mut Session, of: &CommitContext) -> Result<Mark> {
        let progress = self.job.progress.quoted();
        let doing = |error| failed(format!("asking {progress} how far the output has come"), error);
        let read = format!(
            "SELECT generation, epoch, written FROM {progress} WHERE flow = ? AND node = ? AND incarnation = ? FOR UPDATE"
        );
        for _ in 0..2 {
            session.say("START TRANSACTION").await?;
            let name = (&of.flow, &of.node, &of.incarnation);
            let found = session.connection.exec_first(&read, name).await.map_err(doing)?;
            if let Some((generation, checkpoint, rows)) = found {
                return Ok(Mark { generation, checkpoint, rows });
            }
            session.say("ROLLBACK").await?;
            // Beside the transaction, since two that both insert it would wait for each other.
            let insert = format!(
                "INSERT IGNORE INTO {progress} (flow, node, incarnation, generation, epoch, written) VALUES (?, ?, ?, ?, 0, 0)"
            );
            let values = (&of.flow, &of.node, &of.incarnation, of.generation);
            session.connection.exec_drop(insert, values).await.map_err(doing)?;
        }
        Err(Error::transient(format!("{progress} has lost what was just written")))
    }

    async fn write_mark(&self, session: &mut Session, of: &CommitContext, checkpoint: u64, rows: u64) -> Result<()> {
        let progress = self.job.progress.quoted();
        let update = format!(
            "UPDATE {progress} SET generation = ?, epoch = ?, written = ? WHERE flow = ? AND node = ? AND incarnation = ?"
        );
        let values = (of.generation, checkpoint, rows, &of.flow, &of.node, &of.incarnation);
        session
            .connection
            .exec_drop(update, values)
            .await
            .map_err(|error| failed(format!("noting in {progress} how far the output has come"), error))
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

    async fn write_parts(&self, session: &mut Session, spooled: &Spooled, of: &CommitContext) -> Result<()> {
        let mut at = None;
        let mut parts = spooled.parts(0, self.job.parts);
        loop {
            let mark = self.lock_mark(session, of).await?;
            let begun = match mark.standing(of, spooled.rows()) {
                Standing::Done => return session.say("ROLLBACK").await,
                Standing::TakenOver => {
                    session.say("ROLLBACK").await?;
                    return Err(self.taken_over());
                }
                Standing::Begun(rows) => rows,
            };
            if at != Some(begun) {
                parts = spooled.parts(begun, self.job.parts);
            }
            let (until, is_last) = self.write_part(session, &mut parts, of).await?;
            crash::point("mysql-part-written");
            self.write_mark(session, of, of.checkpoint, until).await?;
            session.say("COMMIT").await?;
            crash::point("mysql-part-committed");
            self.written.add(until - begun);
            at = Some(until);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Writes the rows of one transaction. Returns how many rows of the stage lie before its end, and whether it is the last.
    async fn write_part(
        &self,
        session: &mut Session,
        parts: &mut PartReader<'_>,
        of: &CommitContext,
    ) -> Result<(u64, bool)> {
        while let Some(piece) = parts.next_piece()? {
            let Piece { rows, until, ends_part, is_last } = piece;
            let refused = apply(&self.job, &session.target, &mut session.connection, &rows).await?;
            for (row, why) in refused {
                self.refuse(session, of, &json_row(&rows, row)?, &why).await?;
            }
            if ends_part {
                return Ok((until, is_last));
            }
        }
        Err(Error::new("a stage has fewer rows than it says"))
    }

    async fn refuse(&self, session: &mut Session, of: &CommitContext, row: &str, why: &str) -> Result<()> {
        let Some(table) = &self.job.refused else {
            return Err(Error::new(format!(
                "{} does not take a row that counts: {why}: {row}; mend the table or the rows in it and run the flow again, or name a \
                 `refused_table` for such rows",
                self.job.table.quoted()
            )));
        };
        let insert = format!("INSERT INTO {} (flow, node, error, row_json) VALUES (?, ?, ?, ?)", table.quoted());
        session
            .connection
            .exec_drop(insert, (&of.flow, &of.node, why, row))
            .await
            .map_err(|error| failed(format!("writing a refused row to {}", table.quoted()), error))
    }

    fn taken_over(&self) -> Error {
        Error::new(format!(
            "another run of the flow has taken the output over, by what {} says: nothing more of this run is written, and what is still to be \
             written is that run's to write",
            self.job.progress.quoted()
        ))
    }

    /// Notes that this run goes on, so that those before it can't any more.
    async fn claim(&mut self, of: &CommitContext) -> Result<()> {
        let mut session = self.session().await?;
        let mark = self.lock_mark(&mut session, of).await?;
        if mark.generation > of.generation {
            session.say("ROLLBACK").await?;
            return Err(self.taken_over());
        }
        self.write_mark(&mut session, of, mark.checkpoint, mark.rows).await?;
        session.say("COMMIT").await?;
        self.session = Some(session);
        Ok(())
    }
}

#[async_trait]
impl Committer for MysqlCommitter {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        self.write_stage(pending).await.doing(|| "committing to MySQL")
    }

    async fn recover(&mut self, pending: &[PendingCommit], context: &CommitContext) -> Result<()> {
        for stage in pending {
            self.commit(stage).await?;
        }
        self.claim(context).await
    }

    async fn committed(&mut self, pending: &PendingCommit) -> Result<()> {
        let of = &pending.context;
        // A run without state has a name of its own, by which nobody will ask.
        if of.generation == 0 {
            let mut session = self.session().await?;
            let progress = self.job.progress.quoted();
            let delete = format!("DELETE FROM {progress} WHERE flow = ? AND node = ? AND incarnation = ?");
            let name = (&of.flow, &of.node, &of.incarnation);
            let deleted = session.connection.exec_drop(delete, name).await;
            deleted.map_err(|error| failed(format!("tidying up {progress}"), error))?;
            self.session = Some(session);
        }
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
