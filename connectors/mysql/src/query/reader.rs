//! Reads what a query gives, page by page.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{Error, ErrorClass, Result, ResultExt as _};
use millstream_spool::Pauses;
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};
use tokio::time::sleep;

use crate::client::{Server, failed};
use crate::journal::{Page, Pages, PortRows, Refused, Source};
use crate::literal;
use crate::names::{Table, quoted, require_columns};
use crate::value::{RowBuilder, cell, row_as_json};

/// A page is handed on in pieces of about so many bytes.
const PIECE_BYTES: usize = 4 << 20;

/// What is read.
pub enum Relation {
    Table(Table),
    Query(String),
}

impl Relation {
    /// As SQL writes it.
    fn sql(&self) -> String {
        match self {
            Self::Table(table) => table.quoted(),
            // A comment at the end of the query must not hide what follows.
            Self::Query(query) => format!("({query}\n) AS q"),
        }
    }
}

/// Reads rows in the order of some columns.
pub struct QueryReader {
    pub server: Server,
    pub relation: Relation,
    pub schema: SchemaRef,
    /// The columns that say how far it has come.
    pub order: Vec<String>,
    /// Those that tell a row from every other.
    pub key: Vec<String>,
    pub is_incremental: bool,
    pub every: Option<Duration>,
    /// How old rows have to be, if they have a time.
    pub delay: Option<Duration>,
    pub page_rows: u32,
    pub batch_rows: usize,
    /// The values of `order` in the last row that was read, as SQL writes them; empty before the first one.
    pub after: Vec<String>,
    pub connection: Option<Conn>,
}

impl QueryReader {
    /// The columns that are asked for: those of the flow, and then those of the order that are not among them.
    fn columns(&self) -> Vec<&str> {
        let declared = self.schema.fields().iter().map(|field| field.name().as_str());
        let others = self.order.iter().map(String::as_str).filter(|name| self.schema.field_with_name(name).is_err());
        declared.chain(others).collect()
    }

    fn sql(&self) -> String {
        let list = |names: &[&str]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let order: Vec<&str> = self.order.iter().map(String::as_str).collect();
        let mut conditions: Vec<String> = literal::behind(&self.order, &self.after).into_iter().collect();
        if let (Some(delay), Some(cursor)) = (self.delay, order.first()) {
            conditions.push(format!("{} <= NOW(6) - INTERVAL {} MICROSECOND", quoted(cursor), delay.as_micros()));
        } else if let (true, Some(cursor)) = (self.is_incremental, order.first()) {
            conditions.push(format!("{} IS NOT NULL", quoted(cursor)));
        }
        let conditions =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let (columns, from) = (list(&self.columns()), self.relation.sql());
        format!("SELECT {columns} FROM {from}{conditions} ORDER BY {} LIMIT {}", list(&order), self.page_rows)
    }

    /// Whether what is to be read is there.
    async fn check(&self, connection: &mut Conn) -> Result<()> {
        match &self.relation {
            Relation::Table(table) => {
                let there = table.columns(connection).await?;
                require_columns(&self.schema, &there, &format!("the table `{}`", table.name))?;
                table.require_unique(connection, &self.key).await
            }
            Relation::Query(_) => {
                let sql = format!("SELECT * FROM {} LIMIT 0", self.relation.sql());
                let statement = connection.prep(sql).await.map_err(|error| failed("preparing the query", error))?;
                let there: Vec<_> = statement.columns().iter().map(|column| column.name_str().into_owned()).collect();
                require_columns(&self.schema, &there, "what the query gives")
            }
        }
    }

    /// Reads the rows of a page, and returns how many there were.
    async fn read_page(&mut self, pages: &mut Pages) -> Result<u32> {
        let sql = self.sql();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.server.connect().await?,
        };
        let mut piece = Piece::new(self);
        let mut count = 0;
        let doing = |error| failed("reading rows", error);
        let mut rows = connection.exec_iter(sql, ()).await.map_err(doing)?;
        while let Some(row) = rows.next().await.map_err(doing)? {
            piece.take(row)?;
            count += 1;
            if piece.builder.bytes() > PIECE_BYTES || piece.count as usize >= self.batch_rows {
                self.after = piece.send(pages).await?;
            }
        }
        rows.drop_result().await.map_err(doing)?;
        if piece.count > 0 {
            self.after = piece.send(pages).await?;
        }
        self.connection = Some(connection);
        Ok(count)
    }
}

/// Rows that are handed on together.
struct Piece {
    builder: RowBuilder,
    places: Vec<u32>,
    refused: Vec<Refused>,
    count: u32,
    /// The places of the columns of the order, and the columns that are compared with the row before.
    order: Vec<usize>,
    names: Vec<String>,
    /// Whether rows may be told apart by the order only if the flow is right.
    is_doubted: bool,
    last: Vec<(Value, ColumnType)>,
}

impl Piece {
    fn new(reader: &QueryReader) -> Self {
        let columns = reader.columns();
        let place = |name: &String| columns.iter().position(|column| column == name).unwrap_or_default();
        Self {
            builder: RowBuilder::new(reader.schema.clone()),
            places: Vec::new(),
            refused: Vec::new(),
            count: 0,
            order: reader.order.iter().map(place).collect(),
            names: reader.order.clone(),
            is_doubted: matches!(reader.relation, Relation::Query(_)),
            last: Vec::new(),
        }
    }

    fn take(&mut self, row: Row) -> Result<()> {
        let columns = row.columns();
        let kind = |index: usize| columns.get(index).map_or(ColumnType::MYSQL_TYPE_NULL, |column| column.column_type());
        let values = row.unwrap();
        let schema = self.builder.schema().clone();
        let of = || values.iter().enumerate().zip(schema.fields());
        let cells: Result<Vec<_>, String> =
            of().map(|((index, value), field)| cell(value, kind(index), field)).collect();
        match cells {
            Ok(cells) => {
                self.builder.append(&cells);
                self.places.push(self.count);
            }
            Err(error) => {
                let (row, encoding) = row_as_json(of().map(|((_, value), field)| (field.name().as_str(), value)));
                self.refused.push(Refused { place: self.count, error, row, encoding });
            }
        }
        self.count += 1;
        let last: Vec<_> =
            self.order.iter().filter_map(|index| Some((values.get(*index)?.clone(), kind(*index)))).collect();
        if self.is_doubted && last == self.last {
            return Err(Error::new(format!(
                "two rows have the same values in {}, so that rows could be missed between pages; `key` has to tell every row from every \
                 other",
                self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
            )));
        }
        self.last = last;
        Ok(())
    }

    /// Hands on the rows, and returns where the next ones begin.
    async fn send(&mut self, pages: &mut Pages) -> Result<Vec<String>> {
        let literal = |((value, kind), name): (&(Value, ColumnType), &String)| {
            literal::of_value(value, *kind).ok_or_else(|| {
                Error::new(format!("`{name}` of a row is null or a float, so that no page can begin behind it; take other columns for `key`"))
            })
        };
        let after = self.last.iter().zip(&self.names).map(literal).collect::<Result<Vec<_>>>()?;
        let rows = PortRows { port: 0, places: std::mem::take(&mut self.places), rows: self.builder.finish()? };
        let rows = if rows.places.is_empty() { Vec::new() } else { vec![rows] };
        let page = Page {
            count: std::mem::take(&mut self.count),
            rows,
            refused: std::mem::take(&mut self.refused),
            after: kept(&after)?,
        };
        pages.push(page).await?;
        Ok(after)
    }
}

fn kept(after: &[String]) -> Result<Vec<u8>> {
    // Nothing before the first row.
    postcard::to_allocvec(after).doing(|| "keeping how far rows were read")
}

#[async_trait]
impl Source for QueryReader {
    async fn open(&mut self, after: Option<&[u8]>) -> Result<Vec<u8>> {
        if let Some(after) = after {
            self.after = postcard::from_bytes(after).doing(|| "reading how far rows were read")?;
            if !self.after.is_empty() && self.after.len() != self.order.len() {
                return Err(Error::new(
                    "`key` or `cursor` has changed since rows were read; `--reset` of the node begins it again",
                ));
            }
        }
        let mut connection = self.server.begin().await?;
        self.check(&mut connection).await?;
        self.connection = Some(connection);
        kept(&self.after)
    }

    async fn run(&mut self, pages: &mut Pages) -> Result<()> {
        let mut pauses = Pauses::default();
        loop {
            let count = match self.read_page(pages).await {
                Ok(count) => count,
                Err(error) if error.class() == ErrorClass::Transient => {
                    pauses.wait(&error).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            pauses.end();
            match self.every {
                _ if count == self.page_rows => {}
                _ if !self.is_incremental => return Ok(()),
                Some(every) => sleep(every).await,
                None => {
                    pages.caught_up().await?;
                    // Nothing more comes in this run.
                    std::future::pending::<()>().await;
                }
            }
        }
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
        let mut reader = settings.reader(&context()).unwrap();
        reader.after = after.iter().map(|value| (*value).to_owned()).collect();
        reader.sql()
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
