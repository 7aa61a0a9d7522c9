//! Transactions in which rows are written, with a mark of how far they have come.

use std::iter::once;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::SinkExt as _;
use millstream_core::{CommitContext, Error, Result};
use millstream_database::{Mark, OutputJob, OutputTable, PartRows, Refusal, Session};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::ToSql;

use super::PostgresTable;
use super::copy::{Destination, copied};
use super::statements::{BEGIN, END, Statements, TAKE_BACK};
use super::target::Target;
use crate::client::{Connection, failed};

/// What a server says of a row that it does not take, whenever it is asked: classes of codes, and codes.
const OF_ROWS: &[&str] = &[
    "22",    // a value that does not fit
    "23",    // a key, a foreign key, a null, a condition
    "21000", // rows with the same key, which are not the same here
    "44000", // a view does not show it
    "P0001", // a trigger has said so
];

/// A connection, and what is known of the table.
pub struct PostgresSession {
    table: Arc<PostgresTable>,
    connection: Connection,
    target: Target,
    statements: Statements,
    /// Whether the temporary table has rows of this transaction.
    has_rows: bool,
}

impl PostgresSession {
    async fn say(&self, statement: &str) -> Result<()> {
        self.connection.batch_execute(statement).await.map_err(|error| failed(statement, error))
    }

    async fn execute(&self, doing: &str, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<()> {
        self.connection.execute(sql, values).await.map(drop).map_err(|error| failed(doing, error))
    }

    /// Copies rows, by a statement that goes with their form. What the server has to say against it is apart from what is wrong with reading them.
    async fn copy(
        &self,
        statement: &str,
        batches: &mut (dyn Iterator<Item = Result<RecordBatch>> + Send),
        into: Destination,
    ) -> Result<Result<(), tokio_postgres::Error>> {
        let mut sink = pin!(match self.connection.copy_in::<_, Bytes>(statement).await {
            Ok(sink) => sink,
            Err(error) => return Ok(Err(error)),
        });
        for piece in copied(&self.table.job, batches, into) {
            if let Err(error) = sink.send(piece?.into()).await {
                return Ok(Err(error));
            }
        }
        Ok(sink.finish().await.map(drop))
    }

    fn copying(&self, error: tokio_postgres::Error) -> Error {
        failed(format!("copying rows for {}", self.table.table.quoted()), error)
    }

    /// Copies rows into the table itself, if that is possible. Whether they are there; if it does not take one of them, none is.
    async fn try_copy_directly(&self, batches: &mut (dyn Iterator<Item = Result<RecordBatch>> + Send)) -> Result<bool> {
        let Some(copy) = &self.statements.copy_directly else { return Ok(false) };
        self.say(BEGIN).await?;
        match self.copy(copy, batches, Destination::Table).await? {
            Ok(()) => self.say(END).await.map(|()| true),
            Err(error) if is_of_row(&error) => self.say(TAKE_BACK).await.map(|()| false),
            Err(error) => Err(self.copying(error)),
        }
    }

    /// Puts rows into the temporary table.
    async fn copy_beside(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.has_rows {
            self.say(&self.statements.empty).await?;
        }
        self.has_rows = true;
        let copied = self.copy(&self.statements.copy, &mut once(Ok(rows.clone())), Destination::Beside).await?;
        copied.map_err(|error| self.copying(error))
    }

    /// Writes some of the copied rows. None if they are written; else why not, if that is because of a row.
    async fn try_write(&self, range: &Range<usize>) -> Result<Option<String>> {
        let Err(error) = self.connection.batch_execute(&self.statements.write(range)).await else { return Ok(None) };
        match error.as_db_error() {
            Some(of) if is_of_row(&error) => {
                self.say(TAKE_BACK).await?;
                Ok(Some(reason(of)))
            }
            _ => Err(failed(format!("writing to {}", self.table.table.quoted()), error)),
        }
    }
}

/// Whether it is because of a row.
fn is_of_row(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map_or("", SqlState::code);
    OF_ROWS.iter().any(|of| code.starts_with(of))
}

fn reason(of: &DbError) -> String {
    of.detail().map_or_else(|| of.message().to_owned(), |detail| format!("{}: {detail}", of.message()))
}

/// A number as the table of marks has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl OutputTable for PostgresTable {
    type Session = PostgresSession;

    const PRODUCT: &'static str = "PostgreSQL";
    const CRASH_POINTS: [&'static str; 2] = ["postgres-part-written", "postgres-part-committed"];

    fn job(&self) -> &OutputJob {
        &self.job
    }

    fn name(&self) -> String {
        self.table.quoted()
    }

    fn progress(&self) -> String {
        self.progress.quoted()
    }

    fn keeps_refused(&self) -> bool {
        self.refused.is_some()
    }

    async fn connect(table: &Arc<Self>, is_beginning: bool) -> Result<PostgresSession> {
        let connection = if is_beginning { table.server.begin().await? } else { table.server.connect().await? };
        let target = Target::prepare(table, &connection).await?;
        let statements = Statements::new(table, &target);
        let session = PostgresSession { table: table.clone(), connection, target, statements, has_rows: false };
        session.say(&session.statements.create).await?;
        Ok(session)
    }

    fn refusals(&self, target: &Target, rows: &RecordBatch) -> Vec<Option<String>> {
        target.refusals(&self.job, rows)
    }
}

#[async_trait]
impl Session for PostgresSession {
    type Limits = Target;

    fn limits(&self) -> Target {
        self.target.clone()
    }

    async fn begin(&mut self) -> Result<()> {
        self.has_rows = false;
        self.say("BEGIN ISOLATION LEVEL READ COMMITTED").await
    }

    async fn commit(&mut self) -> Result<()> {
        self.say("COMMIT").await
    }

    async fn roll_back(&mut self) -> Result<()> {
        self.say("ROLLBACK").await
    }

    async fn lock_mark(&mut self, of: &CommitContext) -> Result<Option<Mark>> {
        let progress = self.table.progress.quoted();
        let read = format!(
            "SELECT generation, epoch, written FROM {progress} WHERE flow = $1 AND node = $2 AND incarnation = $3 FOR UPDATE"
        );
        let found = self.connection.query_opt(&read, &[&of.flow, &of.node, &of.incarnation]).await;
        let found = found.map_err(|error| failed(format!("asking {progress} how far the output has come"), error))?;
        let number = |row: &tokio_postgres::Row, index: usize| row.get::<_, i64>(index).max(0) as u64;
        Ok(found.map(|row| Mark { generation: number(&row, 0), checkpoint: number(&row, 1), rows: number(&row, 2) }))
    }

    async fn make_mark(&mut self, of: &CommitContext) -> Result<()> {
        let progress = self.table.progress.quoted();
        let insert = format!(
            "INSERT INTO {progress} (flow, node, incarnation, generation, epoch, written) VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT DO NOTHING"
        );
        let doing = format!("noting in {progress} that the output begins");
        self.execute(&doing, &insert, &[&of.flow, &of.node, &of.incarnation, &signed(of.generation)]).await
    }

    async fn write_mark(&mut self, of: &CommitContext, mark: Mark) -> Result<()> {
        let progress = self.table.progress.quoted();
        let update = format!(
            "UPDATE {progress} SET generation = $4, epoch = $5, written = $6 WHERE flow = $1 AND node = $2 AND incarnation = $3"
        );
        let [generation, checkpoint, rows] = [mark.generation, mark.checkpoint, mark.rows].map(signed);
        let doing = format!("noting in {progress} how far the output has come");
        self.execute(&doing, &update, &[&of.flow, &of.node, &of.incarnation, &generation, &checkpoint, &rows]).await
    }

    async fn remove_mark(&mut self, of: &CommitContext) -> Result<()> {
        let progress = self.table.progress.quoted();
        let delete = format!("DELETE FROM {progress} WHERE flow = $1 AND node = $2 AND incarnation = $3");
        let doing = format!("tidying up {progress}");
        self.execute(&doing, &delete, &[&of.flow, &of.node, &of.incarnation]).await
    }

    async fn write_at_once(&mut self, rows: &mut PartRows<'_>) -> Result<bool> {
        self.try_copy_directly(rows).await
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<Vec<Refusal>> {
        if self.try_copy_directly(&mut once(Ok(rows.clone()))).await? {
            return Ok(Vec::new());
        }
        self.copy_beside(rows).await?;
        let mut refused = Vec::new();
        // Halves of what is refused, until it is one row.
        let all = 0..rows.num_rows();
        let mut left = vec![all];
        while let Some(range) = left.pop() {
            let Some(why) = self.try_write(&range).await? else { continue };
            if range.len() <= 1 {
                refused.push((range.start, why));
            } else {
                let middle = range.start + range.len() / 2;
                left.push(middle..range.end);
                left.push(range.start..middle);
            }
        }
        Ok(refused)
    }

    async fn keep_refused(&mut self, of: &CommitContext, row: &str, why: &str) -> Result<()> {
        let Some(table) = &self.table.refused else { return Err(Error::new("there is no table for refused rows")) };
        let insert = format!("INSERT INTO {} (flow, node, error, row_json) VALUES ($1, $2, $3, $4)", table.quoted());
        let doing = format!("writing a refused row to {}", table.quoted());
        self.execute(&doing, &insert, &[&of.flow, &of.node, &why, &row]).await
    }
}
