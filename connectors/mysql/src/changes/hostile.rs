//! Binary logs that nobody has meant well with: their rows are read, or it is said that they can't be.

use std::path::Path;
use std::sync::Arc;

use millstream_database::ChangedRow as _;
use millstream_testkit::{Hostile, Mysql, context, parse};
use mysql_common::binlog::EventStreamReader;
use mysql_common::binlog::consts::BinlogVersion;

use super::MysqlChangesSettings;
use super::place::{Place, Reached};
use super::reader::{Job, guarded};
use super::stream::{Change, Follower};

/// Where the events are that real servers have written, without checksums.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/binlog");

/// The event that says how the others are written.
const FORMAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/binlog_format");

/// How many bytes an event has before its data.
const HEADER: usize = 19;

const SETTINGS: &str = r#"
address = "127.0.0.1"
user = "alice"
database = "shop"

[tables.kinds.schema]
id = "int64"
size = "uint32?"
amount = "decimal(10,2)?"
ratio = "float64?"
day = "date?"
at = "timestamp?"
moment = "timestamp?"
clock = "time?"
text = "utf8?"
old = "utf8?"
bytes = "binary?"
kind = "utf8?"
marks = "utf8?"
bits = "uint16?"
note = "json?"
"#;

const TABLE: &str = "CREATE TABLE kinds (id BIGINT PRIMARY KEY, size INT UNSIGNED, amount DECIMAL(10,2), ratio DOUBLE, day DATE, at DATETIME(6), \
                     moment TIMESTAMP(3) NULL, clock TIME(3), text TEXT CHARACTER SET utf8mb4, old VARCHAR(300) CHARACTER SET latin1, \
                     bytes BINARY(5), kind ENUM('small', 'large'), marks SET('a', 'b', 'c'), bits BIT(10), note JSON)";

const CHANGES: &str = "INSERT INTO kinds VALUES (1, 4000000000, -12345.67, 1e300, '1969-12-31', '2026-01-31 12:00:00.000001', \
                       '2026-01-31 12:00:00.5', '01:02:03.004', 'Zoë', 'Zoë', 'ab', 'large', 'a,c', b'1000000001', \
                       '{\"a\": [1, -2.5, true, null, \"x\", {\"b\": 18446744073709551615}], \"c\": {}}'), \
                       (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);\n\
                       UPDATE kinds SET amount = 0.01, text = NULL, note = '[1]' WHERE id = 1;\nDELETE FROM kinds";

/// Follows events behind the one that says how they are written. Returns which rows were read, and why others can't be.
fn follow(job: &Arc<Job>, format: &[u8], mut bytes: &[u8]) -> Vec<Result<(), String>> {
    let place = Place { file: "binlog.000002".into(), position: 4 };
    let mut follower = Follower::new(job.clone(), Reached { place, ..Reached::default() });
    let mut events = EventStreamReader::new(BinlogVersion::Version4);
    follower.take(&events.read(format).unwrap().unwrap(), |_, _| Ok(())).unwrap();
    let mut rows = Vec::new();
    while let Some((event, rest)) = split(bytes) {
        bytes = rest;
        let Ok(Some(event)) = guarded(|| Ok(events.read(&event[..])?)) else { break };
        let change = |change: Change<'_>, _| {
            let schema = &job.tables[change.table].columns.row;
            rows.push(change.row.cells(schema).map(drop));
            change.row.as_json(schema);
            Ok(())
        };
        if guarded(|| follower.take(&event, change)).is_err() {
            break;
        }
    }
    rows
}

/// An event, with the length that it has: each comes in a packet of its own. And what follows it.
fn split(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let length = u32::from_le_bytes(*bytes.get(9..)?.first_chunk()?) as usize;
    let (event, rest) = bytes.split_at(length.clamp(HEADER, bytes.len().max(HEADER)).min(bytes.len()));
    let mut event = event.to_vec();
    let length = (event.len() as u32).to_le_bytes();
    event.get_mut(9..13)?.copy_from_slice(&length);
    (event.len() >= HEADER).then_some((event, rest))
}

fn job() -> Arc<Job> {
    Arc::new(parse::<MysqlChangesSettings>(SETTINGS).job(&context()).unwrap())
}

#[test]
fn logs_of_real_servers_are_read() {
    let (job, format) = (job(), std::fs::read(FORMAT).unwrap());
    for product in Mysql::PRODUCTS {
        let events = std::fs::read(Path::new(CORPUS).join(product)).unwrap();
        let rows = follow(&job, &format, &events);
        assert_eq!(rows, [const { Ok(()) }; 5], "{product}: two rows come, one changes, and both go");
    }
}

#[test]
fn logs_that_are_damaged_do_no_harm() {
    let (job, format) = (job(), std::fs::read(FORMAT).unwrap());
    Hostile::kept_in(CORPUS).attack(|bytes| _ = follow(&job, &format, bytes));
}

#[test]
#[ignore = "has real servers write the logs anew"]
fn logs_are_written() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = Mysql::start(product) else { return };
        mysql.say(&format!("SET GLOBAL binlog_checksum = 'NONE';\n{TABLE};\nFLUSH BINARY LOGS;\n{CHANGES}"));
        let newest = if product == "mysql" { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
        let file: String = mysql.with(async |connection| {
            use mysql_async::prelude::Queryable as _;
            connection.query_first::<mysql_async::Row, _>(newest).await.unwrap().unwrap().get(0).unwrap()
        });
        let base = mysql.value("SELECT @@log_bin_basename");
        let base: String = mysql_async::from_value(base);
        let log = std::fs::read(Path::new(&base).with_file_name(file)).unwrap();
        // Behind the word that all such files begin with.
        let length = u32::from_le_bytes(*log[4 + 9..].first_chunk().unwrap()) as usize;
        let (format, events) = log[4..].split_at(length);
        std::fs::create_dir_all(CORPUS).unwrap();
        std::fs::write(Path::new(CORPUS).join(product), events).unwrap();
        if product == "mysql" {
            std::fs::create_dir_all(Path::new(FORMAT).parent().unwrap()).unwrap();
            std::fs::write(FORMAT, format).unwrap();
        }
    }
}
