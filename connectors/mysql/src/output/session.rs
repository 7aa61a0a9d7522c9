//! Transactions in which rows are written, with a mark of how far they have come.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use millstream_core::{CommitContext, Error, Result};
use millstream_database::{Mark, OutputJob, OutputTable, Refusal, Session};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::MysqlTable;
use super::apply::apply;
use super::target::Target;
use crate::client::failed;

/// A connection, and what is known of the table.
pub struct MysqlSession {
    table: Arc<MysqlTable>,
    connection: Conn,
    target: Target,
}

impl MysqlSession {
    async fn say(&mut self, statement: &str) -> Result<()> {
        self.connection.query_drop(statement).await.map_err(|error| failed(statement, error))
    }
}

#[async_trait]
impl OutputTable for MysqlTable {
    type Session = MysqlSession;

    const PRODUCT: &'static str = "MySQL";
    const CRASH_POINTS: [&'static str; 2] = ["mysql-part-written", "mysql-part-committed"];

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

    async fn connect(table: &Arc<Self>, is_beginning: bool) -> Result<MysqlSession> {
        let mut connection = if is_beginning { table.server.begin().await? } else { table.server.connect().await? };
        let target = Target::prepare(table, &mut connection).await?;
        Ok(MysqlSession { table: table.clone(), connection, target })
    }

    fn refusals(&self, target: &Target, rows: &RecordBatch) -> Vec<Option<String>> {
        (0..rows.num_rows()).map(|row| target.refusal(&self.job, rows, row)).collect()
    }
}

#[async_trait]
impl Session for MysqlSession {
    type Limits = Target;

    fn limits(&self) -> Target {
        self.target.clone()
    }

    async fn begin(&mut self) -> Result<()> {
        self.say("START TRANSACTION").await
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
            "SELECT generation, epoch, written FROM {progress} WHERE flow = ? AND node = ? AND incarnation = ? FOR UPDATE"
        );
        let found = self.connection.exec_first(&read, (&of.flow, &of.node, &of.incarnation)).await;
        let found = found.map_err(|error| asking(&progress, error))?;
        Ok(found.map(|(generation, checkpoint, rows)| Mark { generation, checkpoint, rows }))
    }

    async fn make_mark(&mut self, of: &CommitContext) -> Result<()> {
        let progress = self.table.progress.quoted();
        let insert = format!(
            "INSERT IGNORE INTO {progress} (flow, node, incarnation, generation, epoch, written) VALUES (?, ?, ?, ?, 0, 0)"
        );
        let values = (&of.flow, &of.node, &of.incarnation, of.generation);
        self.connection.exec_drop(insert, values).await.map_err(|error| asking(&progress, error))
    }

    async fn write_mark(&mut self, of: &CommitContext, mark: Mark) -> Result<()> {
        let progress = self.table.progress.quoted();
        let update = format!(
            "UPDATE {progress} SET generation = ?, epoch = ?, written = ? WHERE flow = ? AND node = ? AND incarnation = ?"
        );
        let values = (mark.generation, mark.checkpoint, mark.rows, &of.flow, &of.node, &of.incarnation);
        let written = self.connection.exec_drop(update, values).await;
        written.map_err(|error| failed(format!("noting in {progress} how far the output has come"), error))
    }

    async fn remove_mark(&mut self, of: &CommitContext) -> Result<()> {
        let progress = self.table.progress.quoted();
        let delete = format!("DELETE FROM {progress} WHERE flow = ? AND node = ? AND incarnation = ?");
        let deleted = self.connection.exec_drop(delete, (&of.flow, &of.node, &of.incarnation)).await;
        deleted.map_err(|error| failed(format!("tidying up {progress}"), error))
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<Vec<Refusal>> {
        apply(&self.table, &self.target, &mut self.connection, rows).await
    }

    async fn keep_refused(&mut self, of: &CommitContext, row: &str, why: &str) -> Result<()> {
        let Some(table) = &self.table.refused else { return Err(Error::new("there is no table for refused rows")) };
        let insert = format!("INSERT INTO {} (flow, node, error, row_json) VALUES (?, ?, ?, ?)", table.quoted());
        let written = self.connection.exec_drop(insert, (&of.flow, &of.node, why, row)).await;
        written.map_err(|error| failed(format!("writing a refused row to {}", table.quoted()), error))
    }
}

fn asking(progress: &str, error: mysql_async::Error) -> Error {
    failed(format!("asking {progress} how far the output has come"), error)
}
