//! What the events of a binary log mean: rows of tables that are read, and where transactions end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use millstream_core::{Error, Result, ResultExt as _};
use millstream_database::{At, Op};
use mysql_async::binlog::EventFlags;
use mysql_async::binlog::events::{
    Event, EventData, QueryEvent, RotateEvent, RowsEventData, TableMapEvent, TransactionPayloadEvent,
};
use mysql_common::io::ParseBuf;

use super::gtids::{Announcement, Gtid};
use super::place::{Place, Reached};
use super::reader::Job;
use super::shape::Shape;
use super::values::Values;

/// How many bytes a compressed transaction may have.
const MAX_TRANSACTION: u64 = 1 << 30;

/// What of a transaction has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// None is open.
    Nothing,
    /// Its number has come, and what follows is a transaction or one statement.
    Announced,
    /// It has begun.
    Transaction,
}

/// Follows a log, event by event.
pub struct Follower {
    job: Arc<Job>,
    /// The server whose events these are.
    server: String,
    /// Behind the last event.
    seen: Place,
    /// Behind the last event that was in no transaction: at first of the server that was read before, if any, which may have been another one.
    committed: Reached,
    within: Within,
    /// The number of the transaction that has been announced.
    gtid: Option<Gtid>,
    /// Whether the format of the log's events has come.
    knows_format: bool,
    /// How many bytes are left of the events of a compressed transaction.
    compressed: u64,
    /// How many rows of tables that are read have come behind `committed`.
    rows: u64,
    /// The tables that are read, by the numbers that events have for them, with the event that has said so.
    maps: HashMap<u64, (Vec<u8>, usize, Arc<Shape>)>,
}

/// A row of a table that is read.
pub struct Change<'a> {
    pub table: usize,
    pub op: Op,
    pub row: Values,
    pub before: Option<Values>,
    pub at: At<'a>,
    /// Behind the event.
    pub place: &'a Place,
}

impl Follower {
    /// One that begins where a log was read.
    pub fn new(job: Arc<Job>, reached: Reached) -> Self {
        Self::elsewhere(job, reached.server.clone(), reached.place.clone(), reached)
    }

    /// One that begins behind the same transactions in the log of another server, before a place of that.
    pub fn elsewhere(job: Arc<Job>, server: String, seen: Place, reached: Reached) -> Self {
        Self {
            job,
            server,
            seen,
            committed: reached,
            within: Within::Nothing,
            gtid: None,
            knows_format: false,
            compressed: 0,
            rows: 0,
            maps: HashMap::new(),
        }
    }

    /// Behind the last transaction.
    pub fn committed(&self) -> &Reached {
        &self.committed
    }

    /// Whether `committed` is a place in the log that is followed, and not in that of the server that was read before.
    pub fn is_at_home(&self) -> bool {
        self.committed.server == self.server
    }

    /// The server whose log it is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// How many rows of the transaction behind it have come.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether a transaction is open.
    pub fn is_within(&self) -> bool {
        self.within != Within::Nothing
    }

    /// Takes an event, and hands on its rows, each with its number in the transaction.
    pub fn take(&mut self, event: &Event, mut change: impl FnMut(Change<'_>, u64) -> Result<()>) -> Result<()> {
        let has_passed = self.pass(event);
        let kind = event.header().event_type_raw();
        match kind {
            2 => self.query(&event.read_event::<QueryEvent<'_>>().doing(reading)?)?,
            // The one that a stream begins with is of the file that was asked for. Before the format is known, nobody knows that the name has a checksum
            // behind it.
            4 if !self.knows_format => {}
            4 => {
                let rotate = event.read_event::<RotateEvent<'_>>().doing(reading)?;
                self.seen = Place { file: rotate.name().into_owned(), position: rotate.position() };
            }
            15 => self.knows_format = true,
            16 => self.within = Within::Nothing,
            17 | 18 => return Err(statement("LOAD DATA")),
            19 => self.map(event)?,
            23..=25 | 30..=32 => self.rows_of(event, &mut change)?,
            26 => {
                return Err(Error::new(
                    "the server says that its binary log lacks changes; `--reset` of the node begins with the tables anew",
                ));
            }
            33 | 34 | 42 | 162 if self.within == Within::Nothing => {
                let Announcement { gtid, begins } = Announcement::read(event)?;
                self.gtid = Some(gtid);
                self.within = if begins { Within::Transaction } else { Within::Announced };
            }
            38 if self.rows > 0 => {
                return Err(Error::new(
                    "a transaction of `XA` has changed a table that is read; the binary log has its rows before it is known whether it is \
                     committed",
                ));
            }
            38 => self.within = Within::Nothing,
            39 => self.partial(event)?,
            40 => self.payload(event)?,
            // It says that there is nothing more until there. Of a log that is read behind transactions, it is not known otherwise.
            27 if self.within == Within::Nothing && !self.is_at_home() && event.header().log_pos() > 0 => {
                self.seen.position = event.header().log_pos().into();
                self.commit();
            }
            // The server's own affairs.
            0 | 1 | 3 | 5 | 13 | 14 | 27..=29 | 33..=37 | 41 | 42 | 160..=164 => {}
            _ if event.header().flags().contains(EventFlags::LOG_EVENT_IGNORABLE_F) => {}
            165..=171 => {
                return Err(Error::new(format!(
                    "at {}: rows are compressed in a way that can't be read; say `SET GLOBAL log_bin_compress = OFF`, and `--reset` of the node \
                     begins with the tables anew",
                    self.seen
                )));
            }
            _ => {
                return Err(Error::new(format!(
                    "at {}: the binary log has an event of a type that is not known, {kind}",
                    self.seen
                )));
            }
        }
        // What a file begins with lies before transactions that are known, and not sent.
        if self.within == Within::Nothing && has_passed && (self.is_at_home() || self.gtid.is_some()) {
            self.commit();
        }
        Ok(())
    }

    /// No transaction is open.
    fn commit(&mut self) {
        self.rows = 0;
        self.committed.place.clone_from(&self.seen);
        if !self.is_at_home() {
            self.committed.server.clone_from(&self.server);
        }
        if let Some(gtid) = self.gtid.take() {
            self.committed.gtids.add(gtid);
        }
    }

    /// Takes note of where the event ends. Returns whether it is one of the log, and not only of this conversation.
    fn pass(&mut self, event: &Event) -> bool {
        let header = event.header();
        if self.compressed > 0 {
            // Its position is none in the log.
            self.compressed = self.compressed.saturating_sub(header.event_size().into());
            return true;
        }
        let is_real =
            !matches!(header.event_type_raw(), 27 | 41) && !header.flags().contains(EventFlags::LOG_EVENT_ARTIFICIAL_F);
        let is_of_log = header.log_pos() > 0 && is_real;
        if is_of_log {
            // It has 32 bits, and files may be longer.
            let mut position = self.seen.position & !u64::from(u32::MAX) | u64::from(header.log_pos());
            if position < self.seen.position {
                position += 1 << 32;
            }
            self.seen.position = position;
        }
        is_of_log
    }

    fn query(&mut self, event: &QueryEvent<'_>) -> Result<()> {
        let query = event.query();
        let mut words = query.split_whitespace().map(str::to_uppercase);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let first = first.trim_end_matches(';');
        match (first, second.as_str()) {
            ("BEGIN", _) | ("START", "TRANSACTION") | ("XA", "START" | "BEGIN") => self.within = Within::Transaction,
            ("ROLLBACK", "TO") | ("SAVEPOINT", _) => {}
            ("COMMIT" | "ROLLBACK", _) => self.within = Within::Nothing,
            ("XA", "END") => {}
            ("XA", _) => self.within = Within::Nothing,
            (first, _) => {
                self.statement(first, &event.schema(), &query)?;
                if self.within == Within::Announced {
                    self.within = Within::Nothing;
                }
            }
        }
        Ok(())
    }

    /// A statement that is in the log in place of rows: it must not be about a table that is read.
    fn statement(&self, first: &str, database: &str, query: &str) -> Result<()> {
        let small = query.to_lowercase();
        let names = |name: &str| {
            let word = |letter: char| !(letter.is_alphanumeric() || matches!(letter, '_' | '$'));
            small.split(word).any(|part| part == name)
        };
        let concerned = self.job.tables.iter().find(|table| {
            let (of, name) = (table.table.database.to_lowercase(), table.table.name.to_lowercase());
            names(&name) && (database.eq_ignore_ascii_case(&of) || names(&of))
        });
        let Some(concerned) = concerned else { return Ok(()) };
        let name = &concerned.table.name;
        match first {
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "MERGE" | "CALL" => Err(statement(query)),
            "TRUNCATE" | "DROP" | "RENAME" if self.job.missing == super::shape::Missing::Fails => {
                Err(Error::new(format!(
                    "at {}: `{}` concerns the table `{name}`, whose rows go without a change for each; `--reset` of the node begins with the tables \
                 anew, or `on_schema_change = \"ignore\"` goes on",
                    self.seen,
                    query.chars().take(200).collect::<String>()
                )))
            }
            _ => Ok(()),
        }
    }

    fn map(&mut self, event: &Event) -> Result<()> {
        let map = event.read_event::<TableMapEvent<'_>>().doing(reading)?;
        let is_it = |table: &&super::reader::TableJob| {
            let of = &table.table;
            map.database_name().eq_ignore_ascii_case(&of.database) && map.table_name().eq_ignore_ascii_case(&of.name)
        };
        let Some(table) = self.job.tables.iter().position(|table| is_it(&table)) else {
            self.maps.remove(&map.table_id());
            return Ok(());
        };
        if self.maps.get(&map.table_id()).is_some_and(|(said, ..)| said == event.data()) {
            return Ok(());
        }
        let shape = Shape::new(&map, &self.job.tables[table].columns.row, self.job.missing)?;
        // Numbers are not used again, and there is a new one whenever a table changes.
        self.maps.retain(|_, (_, known, _)| *known != table);
        self.maps.insert(map.table_id(), (event.data().to_vec(), table, Arc::new(shape)));
        Ok(())
    }

    fn rows_of(&mut self, event: &Event, change: &mut impl FnMut(Change<'_>, u64) -> Result<()>) -> Result<()> {
        let Some(EventData::RowsEvent(rows)) = event.read_data().doing(reading)? else { return Ok(()) };
        let Some((_, table, shape)) = self.maps.get(&rows.table_id()) else { return Ok(()) };
        let (table, shape) = (*table, shape.clone());
        let is_whole = |image: Option<bool>| image.unwrap_or(true);
        let (has_before, has_after) = (rows.columns_before_image(), rows.columns_after_image());
        if !is_whole(has_before.map(|columns| columns.all())) || !is_whole(has_after.map(|columns| columns.all())) {
            return Err(Error::new(format!(
                "at {}: only some columns of a row are there; `SET GLOBAL binlog_row_image = 'FULL'`, and `--reset` of the node begins with the \
                 tables anew",
                self.seen
            )));
        }
        let op = match &rows {
            RowsEventData::WriteRowsEvent(_) | RowsEventData::WriteRowsEventV1(_) => Op::Create,
            RowsEventData::DeleteRowsEvent(_) | RowsEventData::DeleteRowsEventV1(_) => Op::Delete,
            _ => Op::Update,
        };
        let position = self.seen.to_string();
        let at = At { micros: i64::from(event.header().timestamp()) * 1_000_000, position: &position };
        let mut data = ParseBuf(rows.rows_data());
        while !data.is_empty() {
            let mut read = || shape.read(&mut data);
            let (row, before) = match op {
                Op::Create | Op::Read => (read()?, None),
                Op::Delete => {
                    let row = read()?;
                    (row.clone(), Some(row))
                }
                Op::Update => {
                    let before = read()?;
                    (read()?, Some(before))
                }
            };
            self.rows += 1;
            change(Change { table, op, row, before, at, place: &self.seen }, self.rows)?;
        }
        Ok(())
    }

    fn partial(&self, event: &Event) -> Result<()> {
        let Some(EventData::RowsEvent(rows)) = event.read_data().doing(reading)? else { return Ok(()) };
        if !self.maps.contains_key(&rows.table_id()) {
            return Ok(());
        }
        Err(Error::new(format!(
            "at {}: only parts of JSON are there; `SET GLOBAL binlog_row_value_options = ''`, and `--reset` of the node begins with the tables \
             anew",
            self.seen
        )))
    }

    /// A compressed transaction, whose events follow. That they do is made sure here, since the client takes one that it can't unpack for one
    /// without events.
    fn payload(&mut self, event: &Event) -> Result<()> {
        let payload = event.read_event::<TransactionPayloadEvent<'_>>().doing(reading)?;
        let size = payload.uncompressed_size();
        let mut unpacked = payload.decompressed().doing(reading)?;
        let mut counted = Counted(0);
        io::copy(&mut unpacked, &mut counted).doing(reading)?;
        if counted.0 != size {
            return Err(Error::new(format!("at {}: a compressed transaction is damaged", self.seen)));
        }
        self.compressed = size;
        Ok(())
    }
}

/// Counts what is written, and takes no more than a transaction may have.
struct Counted(u64);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        if self.0 > MAX_TRANSACTION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a compressed transaction has more than 1 GiB"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn reading() -> String {
    "reading an event of the binary log".to_owned()
}

fn statement(query: &str) -> Error {
    let query: String = query.chars().take(200).collect();
    Error::new(format!(
        "a statement is in the binary log in place of the rows that it changes: `{query}`; somebody has set `binlog_format` for a session. `--reset` of \
         the node begins with the tables anew"
    ))
}
