//! The table, or the query, that pages are asked of.

use std::sync::Arc;

use arrow::datatypes::Field;
use async_trait::async_trait;
use millstream_core::Result;
use millstream_database::{PageWriter, QueryJob, QueryTable, Relation};
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Value};

use crate::client::{Server, failed};
use crate::literal;
use crate::names::{Table, quoted, require_columns};
use crate::value::{cell, row_as_json};

/// A table, or a query.
pub struct MysqlTable {
    pub server: Server,
    pub relation: Relation<Table>,
}

impl MysqlTable {
    /// As SQL writes it.
    pub fn from(&self) -> String {
        match &self.relation {
            Relation::Table(table) => table.quoted(),
            // A comment at the end of the query must not hide what follows.
            Relation::Query(query) => format!("({query}\n) AS q"),
        }
    }

    /// Asks for a page.
    pub fn sql(&self, job: &QueryJob, after: &[String]) -> String {
        let list = |names: &[&str]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let order: Vec<&str> = job.order.iter().map(String::as_str).collect();
        let mut conditions: Vec<String> = literal::behind(&job.order, after).into_iter().collect();
        if let (Some(delay), Some(cursor)) = (job.delay, order.first()) {
            conditions.push(format!("{} <= NOW(6) - INTERVAL {} MICROSECOND", quoted(cursor), delay.as_micros()));
        } else if let (true, Some(cursor)) = (job.is_incremental, order.first()) {
            conditions.push(format!("{} IS NOT NULL", quoted(cursor)));
        }
        let conditions =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let (columns, from) = (list(&job.columns()), self.from());
        format!("SELECT {columns} FROM {from}{conditions} ORDER BY {} LIMIT {}", list(&order), job.page_rows)
    }
}

#[async_trait]
impl QueryTable for MysqlTable {
    type Connection = Conn;

    async fn connect(&self) -> Result<Conn> {
        self.server.connect().await
    }

    async fn check(&self, connection: &mut Conn, job: &QueryJob) -> Result<()> {
        match &self.relation {
            Relation::Table(table) => {
                let there = table.columns(connection).await?;
                require_columns(&job.schema, &there, &format!("the table `{}`", table.name))?;
                table.require_unique(connection, &job.key).await
            }
            Relation::Query(_) => {
                let sql = format!("SELECT * FROM {} LIMIT 0", self.from());
                let statement = connection.prep(sql).await.map_err(|error| failed("preparing the query", error))?;
                let there: Vec<_> = statement.columns().iter().map(|column| column.name_str().into_owned()).collect();
                require_columns(&job.schema, &there, "what the query gives")
            }
        }
    }

    async fn read(
        &self,
        connection: &mut Conn,
        job: &QueryJob,
        after: &[String],
        page: &mut PageWriter<'_>,
    ) -> Result<()> {
        let doing = |error| failed("reading rows", error);
        let order = job.order_places();
        let mut rows = connection.exec_iter(self.sql(job, after), ()).await.map_err(doing)?;
        while let Some(row) = rows.next().await.map_err(doing)? {
            let kinds: Vec<ColumnType> = row.columns_ref().iter().map(mysql_async::Column::column_type).collect();
            let values = row.unwrap();
            let of = || values.iter().zip(&kinds).zip(job.schema.fields());
            let cells = of().map(|((value, kind), field)| cell(value, *kind, field)).collect();
            let named = |((value, _), field): ((&'_ Value, _), &'_ Arc<Field>)| (field.name().clone(), value.clone());
            let json = || {
                let named: Vec<_> = of().map(named).collect();
                row_as_json(named.iter().map(|(name, value)| (name.as_str(), value)))
            };
            let literal = |place: &usize| literal::of_value(values.get(*place)?, *kinds.get(*place)?);
            page.take(cells, json, order.iter().map(literal).collect()).await?;
        }
        rows.drop_result().await.map_err(doing)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{context, parse};

    use crate::query::MysqlQuerySettings;

    /// The query for a page, of settings that go on behind some values.
    fn sql(settings: &str, after: &[&str]) -> String {
        let head = "address = 'db'\nuser = 'u'\ndatabase = 'shop'\nschema = { id = 'int64', at = 'timestamp' }\n";
        let settings: MysqlQuerySettings = parse(&format!("{head}{settings}"));
        let after: Vec<String> = after.iter().map(|value| (*value).to_owned()).collect();
        settings.table(&context()).unwrap().sql(&settings.query.job(&context()).unwrap(), &after)
    }

    #[test]
    fn a_page_begins_behind_the_last_row() {
        assert_eq!(
            sql("table = 'a`b'\nkey = ['id']", &[]),
            "SELECT `id`, `at` FROM `shop`.`a``b` ORDER BY `id` LIMIT 10000"
        );
        assert_eq!(
            sql("table = 'x.t'\nkey = ['shop', 'id']\npage_rows = 5", &["'O''Hara'", "7"]),
            "SELECT `id`, `at`, `shop` FROM `x`.`t` WHERE `shop` >= 'O''Hara' AND ((`shop` > 'O''Hara') OR (`shop` = 'O''Hara' AND `id` > 7)) \
             ORDER BY `shop`, `id` LIMIT 5"
        );
        assert_eq!(
            sql("query = 'SELECT 1 -- one'\nkey = ['id']\ncursor = 'at'\nevery = '1s'", &[]),
            "SELECT `id`, `at` FROM (SELECT 1 -- one\n) AS q WHERE `at` <= NOW(6) - INTERVAL 5000000 MICROSECOND ORDER BY `at`, `id` LIMIT 10000"
        );
    }
}
