//! The numbers by which the servers of a replication know each other's transactions.

use std::collections::BTreeMap;
use std::fmt;

use millstream_core::{Error, Result, ResultExt as _};
use mysql_async::Sid;
use mysql_async::binlog::events::{Event, GtidEvent};
use serde::{Deserialize, Serialize};

use super::checks::Product;

/// The number of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gtid {
    /// It has none.
    Anonymous,
    /// Of MariaDB: in which domain, which server has written it first, and as which one there.
    MariaDb { domain: u32, server: u32, number: u64 },
    /// Of MySQL: who has written it first, `UUID` or `UUID:tag`, and as which one.
    MySql { source: String, number: u64 },
}

/// Which transactions have been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gtids {
    /// Nobody knows, since the server does not number its transactions.
    #[default]
    Unknown,
    /// Of each domain the last one, and which server has written it first.
    MariaDb(BTreeMap<u32, (u32, u64)>),
    /// Of each source all, as ranges of numbers; the first behind a range is no part of it.
    MySql(BTreeMap<String, Vec<(u64, u64)>>),
}

/// What an event says of the transaction behind it.
#[derive(Debug)]
pub struct Announcement {
    pub gtid: Gtid,
    /// Whether the transaction has begun with it. Otherwise it may be one statement.
    pub begins: bool,
}

/// The flag of MariaDB for what is no transaction.
const STANDALONE: u8 = 1;

impl Announcement {
    /// Reads an event of one of the types 33, 34, 42 (of MySQL) and 162 (of MariaDB).
    pub fn read(event: &Event) -> Result<Self> {
        match event.header().event_type_raw() {
            162 => of_mariadb(event).ok_or_else(|| Error::new("an event of the binary log is damaged")),
            34 => Ok(Self { gtid: Gtid::Anonymous, begins: false }),
            _ => {
                let event: GtidEvent = event.read_event().doing(|| "reading the number of a transaction")?;
                let uuid = uuid_text(event.sid());
                let source = event.tag().map_or_else(|| uuid.clone(), |tag| format!("{uuid}:{tag}"));
                Ok(Self { gtid: Gtid::MySql { source, number: event.gno() }, begins: false })
            }
        }
    }
}

fn of_mariadb(event: &Event) -> Option<Announcement> {
    let data = event.data();
    let number = u64::from_le_bytes(*data.first_chunk()?);
    let domain = u32::from_le_bytes(*data.get(8..)?.first_chunk()?);
    let begins = data.get(12)? & STANDALONE == 0;
    Some(Announcement { gtid: Gtid::MariaDb { domain, server: event.header().server_id(), number }, begins })
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let number = u128::from_be_bytes(bytes);
    let part = |from: u32, bits: u32| number >> from & ((1 << bits) - 1);
    format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", part(96, 32), part(80, 16), part(64, 16), part(48, 16), part(0, 48))
}

impl Gtids {
    /// Reads what a server says of itself: `0-1-100,1-2-7`, or `UUID:1-5:8,UUID:tag:3`.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str, product: Product) -> Result<Self> {
        let text: String = text.split_whitespace().collect();
        let parts = || text.split(',').filter(|part| !part.is_empty());
        let parsed = match product {
            Product::MariaDb if text.is_empty() => Some(Self::Unknown),
            Product::MariaDb => parts().map(domain).collect::<Option<_>>().map(Self::MariaDb),
            Product::MySql => {
                let mut sources = BTreeMap::new();
                parts().try_for_each(|part| add_source(part, &mut sources)).map(|()| Self::MySql(sources))
            }
        };
        parsed
            .ok_or_else(|| Error::new(format!("the server says of its transactions `{text}`, which is not understood")))
    }

    /// A transaction more.
    pub fn add(&mut self, gtid: Gtid) {
        match (&mut *self, gtid) {
            (Self::MariaDb(domains), Gtid::MariaDb { domain, server, number }) => {
                domains.insert(domain, (server, number));
            }
            (Self::MySql(sources), Gtid::MySql { source, number }) => {
                insert(sources.entry(source).or_default(), number)
            }
            _ => *self = Self::Unknown,
        }
    }

    /// These, as a client of MySQL asks for all others.
    ///
    /// # Errors
    /// If the client does not understand them.
    pub fn sids(&self) -> Result<Vec<Sid<'static>>> {
        let Self::MySql(sources) = self else { return Ok(Vec::new()) };
        let sids = sources.iter().map(|(source, ranges)| format!("{source}:{}", Ranges(ranges)).parse());
        sids.collect::<Result<_, _>>().doing(|| "naming the transactions that have been read")
    }
}

fn domain(text: &str) -> Option<(u32, (u32, u64))> {
    let mut numbers = text.splitn(3, '-');
    let (domain, server) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((domain, (server, numbers.next()?.parse().ok()?)))
}

fn add_source(text: &str, sources: &mut BTreeMap<String, Vec<(u64, u64)>>) -> Option<()> {
    let (uuid, rest) = text.split_once(':')?;
    let uuid = uuid.to_lowercase();
    let mut source = uuid.clone();
    for part in rest.split(':') {
        if part.starts_with(|first: char| !first.is_ascii_digit()) {
            source = format!("{uuid}:{part}");
            continue;
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = (first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?);
        sources.entry(source.clone()).or_default().push(range);
    }
    Some(())
}

/// Adds a number to ranges, which are in order and apart from each other.
fn insert(ranges: &mut Vec<(u64, u64)>, number: u64) {
    let at = ranges.partition_point(|(_, end)| *end < number);
    match ranges.get_mut(at) {
        Some((start, end)) if (*start..*end).contains(&number) => return,
        Some((_, end)) if *end == number => *end += 1,
        Some((start, _)) if *start == number + 1 => *start = number,
        _ => ranges.insert(at, (number, number + 1)),
    }
    if let Some((_, end)) = ranges.get(at + 1).copied().filter(|(start, _)| *start == ranges[at].1) {
        ranges[at].1 = end;
        ranges.remove(at + 1);
    }
}

/// Ranges, as MySQL writes them.
struct Ranges<'a>(&'a [(u64, u64)]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (start, end)) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{start}-{}", end - 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = match self {
            Self::Unknown => Vec::new(),
            Self::MariaDb(domains) => {
                domains.iter().map(|(domain, (server, number))| format!("{domain}-{server}-{number}")).collect()
            }
            Self::MySql(sources) => {
                sources.iter().map(|(source, ranges)| format!("{source}:{}", Ranges(ranges))).collect()
            }
        };
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn transactions_of_mariadb_are_the_last_of_each_domain() {
        let mut read = Gtids::parse("0-1-100,7-2-5", Product::MariaDb).unwrap();
        read.add(Gtid::MariaDb { domain: 0, server: 3, number: 101 });
        assert_eq!(read.to_string(), "0-3-101,7-2-5");
        assert_eq!(Gtids::parse("", Product::MariaDb).unwrap(), Gtids::Unknown);
        let wrong = Gtids::parse("0-1", Product::MariaDb).unwrap_err().to_string();
        assert_eq!(wrong, "the server says of its transactions `0-1`, which is not understood");
    }

    #[test]
    fn transactions_of_mysql_are_ranges_of_each_source() {
        let text = format!("{}:1-5:8,\n{UUID}:mine:3", UUID.to_uppercase());
        let mut read = Gtids::parse(&text, Product::MySql).unwrap();
        let tagged = format!("{UUID}:mine");
        for number in [9, 7, 20, 6, 6, 1] {
            read.add(Gtid::MySql { source: UUID.to_owned(), number });
        }
        read.add(Gtid::MySql { source: tagged.clone(), number: 5 });
        assert_eq!(read.to_string(), format!("{UUID}:1-9:20-20,{tagged}:3-3:5-5"));
        assert_eq!(Gtids::parse(&read.to_string(), Product::MySql).unwrap(), read);
        assert_eq!(read.sids().unwrap().len(), 2);
        read.add(Gtid::Anonymous);
        assert_eq!(read, Gtids::Unknown, "a transaction without a number is none that another server knows");
    }

    #[test]
    fn a_uuid_is_written_as_servers_do() {
        let number = u128::from_str_radix(&UUID.replace('-', ""), 16).unwrap();
        assert_eq!(uuid_text(number.to_be_bytes()), UUID);
    }
}
