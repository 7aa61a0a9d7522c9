//! Reads rows page by page, in the order of some columns.

use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{Disturbance, Encoding, Error, ErrorClass, Result, ResultExt as _};
use millstream_spool::{Pauses, begin};
use tokio::time::sleep;

use super::QueryJob;
use crate::cells::{Cell, RowBuilder};
use crate::journal::{Page, Pages, PortRows, Refused, Source, Status};

/// A page is handed on in pieces of about so many bytes.
const PIECE_BYTES: usize = 4 << 20;

/// A table, or a query, that pages are asked of.
#[async_trait]
pub trait QueryTable: Send + Sync + 'static {
    /// What it is asked over.
    type Connection: Send + Sync;

    /// Connects.
    async fn connect(&self) -> Result<Self::Connection>;

    /// Fails unless what is to be read is there.
    async fn check(&self, over: &mut Self::Connection, job: &QueryJob) -> Result<()>;

    /// Reads the rows of a page, those behind a row with these values in the columns of the order.
    async fn read(
        &self,
        over: &mut Self::Connection,
        job: &QueryJob,
        after: &[String],
        page: &mut PageWriter<'_>,
    ) -> Result<()>;
}

/// Reads rows in the order of some columns.
pub struct QueryReader<T: QueryTable> {
    job: QueryJob,
    table: T,
    /// The values of the order in the last row that was read, as the table's statements write them; empty before the first one.
    after: Vec<String>,
    connection: Option<T::Connection>,
    disturbance: Disturbance,
}

/// Takes the rows of a page, and hands them on in pieces.
pub struct PageWriter<'a> {
    job: &'a QueryJob,
    pages: &'a mut Pages,
    after: &'a mut Vec<String>,
    builder: RowBuilder,
    places: Vec<u32>,
    refused: Vec<Refused>,
    /// How many rows the piece has.
    count: u32,
    /// How many rows the page has.
    total: u32,
    /// The values of the order in the last row. None where one can't be compared.
    last: Vec<Option<String>>,
}

impl<'a> PageWriter<'a> {
    fn new(job: &'a QueryJob, pages: &'a mut Pages, after: &'a mut Vec<String>) -> Self {
        Self {
            job,
            pages,
            after,
            builder: RowBuilder::new(job.schema.clone()),
            places: Vec::new(),
            refused: Vec::new(),
            count: 0,
            total: 0,
            last: Vec::new(),
        }
    }

    /// Takes a row: its values in the flow's columns, or why one does not fit, and then the row for people; and its values in the columns of the order, as
    /// statements write them. None stands for one that can't be compared exactly.
    pub async fn take(
        &mut self,
        cells: Result<Vec<Cell<'_>>, String>,
        row: impl FnOnce() -> (String, Encoding) + Send,
        order: Vec<Option<String>>,
    ) -> Result<()> {
        match cells {
            Ok(cells) => {
                self.builder.append(&cells);
                self.places.push(self.count);
            }
            Err(error) => {
                let (row, encoding) = row();
                self.refused.push(Refused { place: self.count, error, row, encoding });
            }
        }
        self.count += 1;
        self.total += 1;
        if self.job.is_doubted && order == self.last {
            return Err(Error::new(format!(
                "two rows have the same values in {}, so that rows could be missed between pages; `key` has to tell every row from every \
                 other",
                self.job.order.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
            )));
        }
        self.last = order;
        if self.builder.bytes() > PIECE_BYTES || self.count as usize >= self.job.batch_rows {
            self.send().await?;
        }
        Ok(())
    }

    /// Hands on the rows.
    async fn send(&mut self) -> Result<()> {
        let known = |(value, name): (&Option<String>, &String)| {
            value.clone().ok_or_else(|| {
                Error::new(format!("`{name}` of a row is null or a float, so that no page can begin behind it; take other columns for `key`"))
            })
        };
        let after = self.last.iter().zip(&self.job.order).map(known).collect::<Result<Vec<_>>>()?;
        let rows = PortRows { port: 0, places: std::mem::take(&mut self.places), rows: self.builder.finish()? };
        let rows = if rows.places.is_empty() { Vec::new() } else { vec![rows] };
        let page = Page {
            count: std::mem::take(&mut self.count),
            rows,
            refused: std::mem::take(&mut self.refused),
            after: kept(&after)?,
        };
        self.pages.push(page).await?;
        *self.after = after;
        Ok(())
    }
}

impl<T: QueryTable> QueryReader<T> {
    pub fn new(job: QueryJob, table: T) -> Self {
        Self { job, table, after: Vec::new(), connection: None, disturbance: Disturbance::default() }
    }

    /// Reads the rows of a page, and returns how many there were.
    async fn read_page(&mut self, pages: &mut Pages) -> Result<u32> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.table.connect().await?,
        };
        let behind = self.after.clone();
        let mut page = PageWriter::new(&self.job, pages, &mut self.after);
        self.table.read(&mut connection, &self.job, &behind, &mut page).await?;
        if page.count > 0 {
            page.send().await?;
        }
        let count = page.total;
        self.connection = Some(connection);
        Ok(count)
    }
}

fn kept(after: &[String]) -> Result<Vec<u8>> {
    // Nothing before the first row.
    postcard::to_allocvec(after).doing(|| "keeping how far rows were read")
}

#[async_trait]
impl<T: QueryTable> Source for QueryReader<T> {
    async fn open(&mut self, after: Option<&[u8]>, _: bool) -> Result<Vec<u8>> {
        if let Some(after) = after {
            self.after = postcard::from_bytes(after).doing(|| "reading how far rows were read")?;
            if !self.after.is_empty() && self.after.len() != self.job.order.len() {
                return Err(Error::new(
                    "`key` or `cursor` has changed since rows were read; `--reset` of the node begins it again",
                ));
            }
        }
        let table = &self.table;
        let mut connection = begin(|| table.connect()).await?;
        self.table.check(&mut connection, &self.job).await?;
        self.connection = Some(connection);
        kept(&self.after)
    }

    async fn run(&mut self, pages: &mut Pages) -> Result<()> {
        let mut pauses = Pauses::told(self.disturbance.clone());
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
            match self.job.every {
                _ if count == self.job.page_rows => {}
                _ if !self.job.is_incremental => return Ok(()),
                Some(every) => sleep(every).await,
                None => {
                    pages.caught_up().await?;
                    // Nothing more comes in this run.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    fn status(&self) -> Status {
        let disturbance = self.disturbance.clone();
        Arc::new(move || disturbance.report("rows of a table"))
    }
}
