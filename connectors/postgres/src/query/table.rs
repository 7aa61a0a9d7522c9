//! The table, or the query, that pages are asked of.

use std::pin::pin;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use millstream_core::Result;
use millstream_database::{PageWriter, QueryJob, QueryTable, Relation};

use crate::client::{Connection, Server, failed, rows_of};
use crate::names::{Table, behind, list, names, quoted, require_columns};
use crate::value::{cells, row_as_json};

/// A table, or a query.
pub struct PostgresTable {
    pub server: Server,
    pub relation: Relation<Table>,
}

/// A query as SQL writes it behind `FROM`.
pub fn subquery(query: &str) -> String {
    // A comment at its end must not hide what follows.
    format!("({query}\n) AS q")
}

impl PostgresTable {
    /// As SQL writes it.
    fn from(&self) -> String {
        match &self.relation {
            Relation::Table(table) => table.quoted(),
            Relation::Query(query) => subquery(query),
        }
    }

    /// Asks for a page.
    pub fn sql(&self, job: &QueryJob, after: &[String]) -> String {
        let order = list(job.order.iter().map(String::as_str));
        let mut conditions: Vec<String> = behind(&job.order, after).into_iter().collect();
        if let (Some(delay), Some(cursor)) = (job.delay, job.order.first()) {
            conditions.push(format!("{} <= now() - interval '{} microseconds'", quoted(cursor), delay.as_micros()));
        } else if let (true, Some(cursor)) = (job.is_incremental, job.order.first()) {
            conditions.push(format!("{} IS NOT NULL", quoted(cursor)));
        }
        let conditions =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let (columns, from) = (list(job.columns()), self.from());
        format!("SELECT {columns} FROM {from}{conditions} ORDER BY {order} LIMIT {}", job.page_rows)
    }

    /// Looks whether what is to be read is there.
    pub async fn look(&self, job: &QueryJob) -> Result<String> {
        let (mut connection, version) = self.server.look().await?;
        self.check(&mut connection, job).await?;
        Ok(format!("PostgreSQL {version} at `{}`", self.server.address()))
    }
}

#[async_trait]
impl QueryTable for PostgresTable {
    type Connection = Connection;

    async fn connect(&self) -> Result<Connection> {
        self.server.connect().await
    }

    async fn check(&self, connection: &mut Connection, job: &QueryJob) -> Result<()> {
        match &self.relation {
            Relation::Table(table) => {
                table.require_columns(connection, &job.columns()).await?;
                table.require_unique(connection, &job.key).await
            }
            Relation::Query(_) => {
                let sql = format!("SELECT * FROM {} LIMIT 0", self.from());
                let statement = connection.prepare(&sql).await.map_err(|error| failed("preparing the query", error))?;
                let there: Vec<_> = statement.columns().iter().map(|column| column.name()).collect();
                require_columns(&job.columns(), &there, "what the query gives")
            }
        }
    }

    async fn read(
        &self,
        connection: &mut Connection,
        job: &QueryJob,
        after: &[String],
        page: &mut PageWriter<'_>,
    ) -> Result<()> {
        let doing = |error| failed("reading rows", error);
        let (order, width) = (job.order_places(), job.schema.fields().len());
        let stream = connection.simple_query_raw(&self.sql(job, after)).await.map_err(doing)?;
        let mut rows = pin!(rows_of(stream));
        while let Some(row) = rows.try_next().await.map_err(doing)? {
            let values: Vec<Option<&str>> = (0..row.len()).map(|index| row.get(index)).collect();
            let json = || row_as_json(names(&job.schema).into_iter().zip(values.iter().copied()));
            let cells = cells(values.iter().take(width).copied(), &job.schema);
            let last = order.iter().map(|place| values.get(*place).copied().flatten().map(str::to_owned));
            page.take(cells, json, last.collect()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{context, parse};

    use crate::query::PostgresQuerySettings;

    /// The query for a page, of settings that go on behind some values.
    fn sql(settings: &str, after: &[&str]) -> String {
        let head = "address = 'db'\nuser = 'u'\ndatabase = 'shop'\nschema = { id = 'int64', at = 'timestamp' }\n";
        let settings: PostgresQuerySettings = parse(&format!("{head}{settings}"));
        let after: Vec<String> = after.iter().map(|value| (*value).to_owned()).collect();
        settings.table(&context()).unwrap().sql(&settings.query.job(&context()).unwrap(), &after)
    }

    #[test]
    fn a_page_begins_behind_the_last_row() {
        assert_eq!(
            sql("table = 'a\"b'\nkey = ['id']", &[]),
            "SELECT \"id\", \"at\" FROM \"public\".\"a\"\"b\" ORDER BY \"id\" LIMIT 10000"
        );
        assert_eq!(
            sql("table = 'x.t'\nkey = ['shop', 'id']\npage_rows = 5", &["O'Hara", "7"]),
            "SELECT \"id\", \"at\", \"shop\" FROM \"x\".\"t\" WHERE (\"shop\", \"id\") > ('O''Hara', '7') ORDER BY \"shop\", \"id\" LIMIT 5"
        );
        assert_eq!(
            sql("query = 'SELECT 1 -- one'\nkey = ['id']\ncursor = 'at'\nevery = '1s'", &[]),
            "SELECT \"id\", \"at\" FROM (SELECT 1 -- one\n) AS q WHERE \"at\" <= now() - interval '5000000 microseconds' ORDER BY \"at\", \
             \"id\" LIMIT 10000"
        );
    }
}
