//! What flows write to MySQL, read of its changes and look up in a second, with the server on the same machine.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_core::{Error, Result, ResultExt as _};
use millstream_testkit::Mysql;
use mysql_async::prelude::Queryable as _;

use crate::flow;
use crate::measurement::{Goal, Measurement, median};

/// The flow and the bare loop take turns so often; the medians count.
const TURNS: usize = 3;

/// How many rows are written.
const WRITTEN: u64 = 500_000;

/// How many rows change.
const CHANGED: u64 = 1_000_000;

/// How many rows are looked up, of which one in ten is not remembered.
const LOOKED_UP: u64 = 4_000_000;

/// Rows a second: written, beside a loop of statements; changed; and looked up.
pub fn run() -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for product in Mysql::PRODUCTS {
        let mysql = Mysql::run(product);
        let [ours, bare] = written(&mysql)?;
        let name = format!("{product}: rows of 5 columns → the output `mysql`; beside statements of 1,000 rows");
        measurements.push(Measurement::new(name, "rows/s", ours, Goal::Times(0.9)).beside(bare));
        let name = format!("{product}: inserted rows → the input `mysql_changes`");
        measurements.push(Measurement::new(name, "rows/s", changed(&mysql)?, Goal::AtLeast(1e5)));
        let name = format!("{product}: `mysql_lookup` with 90% of the keys remembered");
        measurements.push(Measurement::new(name, "rows/s", looked_up(&mysql)?, Goal::AtLeast(1e6)));
    }
    Ok(measurements)
}

const TABLE: &str = "DROP TABLE IF EXISTS written;\n\
    CREATE TABLE written (id BIGINT PRIMARY KEY, n INT, ratio DOUBLE, name VARCHAR(40), at DATETIME(6))";

fn settings(mysql: &Mysql, node: &str) -> Vec<String> {
    vec![format!("{node}.address={}", mysql.address())]
}

/// The median of the rows a second of both.
fn written(mysql: &Mysql) -> Result<[f64; 2]> {
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        mysql.say(TABLE);
        let begin = Instant::now();
        let sets = [settings(mysql, "output.table"), vec![format!("input.numbers.rows={WRITTEN}")]].concat();
        flow::rows_committed("mysql_output.toml", &sets, 2, "table")?;
        figures[0].push(WRITTEN as f64 / begin.elapsed().as_secs_f64());
        count(mysql, "written", WRITTEN)?;
        mysql.say(TABLE);
        let begin = Instant::now();
        mysql.with(async |connection| write_bare(connection).await).doing(|| "writing rows")?;
        figures[1].push(WRITTEN as f64 / begin.elapsed().as_secs_f64());
        count(mysql, "written", WRITTEN)?;
    }
    Ok(figures.map(median))
}

fn count(mysql: &Mysql, table: &str, wanted: u64) -> Result<()> {
    let found = mysql.rows(&format!("SELECT COUNT(*) FROM {table}"));
    if found == [wanted.to_string()] { Ok(()) } else { Err(Error::new(format!("{found:?} rows instead of {wanted}"))) }
}

/// The same rows as the flow's, in transactions that are as large.
async fn write_bare(connection: &mut mysql_async::Conn) -> Result<(), mysql_async::Error> {
    let mut statement = String::new();
    for first in (0..WRITTEN).step_by(1000) {
        if first % 250_000 == 0 {
            connection.query_drop("START TRANSACTION").await?;
        }
        statement.clear();
        statement.push_str("INSERT INTO written (id, n, ratio, name, at) VALUES ");
        for id in first..first + 1000 {
            let comma = if id > first { "," } else { "" };
            let _ = write!(
                statement,
                "{comma}({id},{},{:e},'customer number {}','2026-01-31 12:00:00')",
                id % 1000,
                id as f64 * 0.25,
                id % 5000
            );
        }
        connection.query_drop(&statement).await?;
        if (first + 1000) % 250_000 == 0 {
            connection.query_drop("COMMIT").await?;
        }
    }
    Ok(())
}

/// The rows a second of one transaction, from its commit on.
fn changed(mysql: &Mysql) -> Result<f64> {
    mysql.say(
        "DROP TABLE IF EXISTS changed;\n\
         CREATE TABLE changed (id BIGINT PRIMARY KEY, n INT, ratio DOUBLE, name VARCHAR(40), at DATETIME(6));\n\
         DROP TABLE IF EXISTS digits;\n\
         CREATE TABLE digits (d INT PRIMARY KEY);\n\
         INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
    );
    let runtime = flow::runtime(2)?;
    let running = flow::start(flow::plan("mysql_changes.toml", &settings(mysql, "input.shop"))?, &runtime)?;
    let stats = running.stats();
    let node =
        stats.nodes.iter().find(|node| node.name == "gone").ok_or_else(|| Error::new("there is no such node"))?;
    let wait = |rows: u64| -> Result<()> {
        let begin = Instant::now();
        while node.rows_in.load(Ordering::Relaxed) < rows {
            if begin.elapsed() > Duration::from_secs(120) {
                return Err(Error::new(format!("{} of {rows} rows have come", node.rows_in.load(Ordering::Relaxed))));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    };
    // It follows the log when this row comes, which is changed until it does.
    let mut before = 0;
    while node.rows_in.load(Ordering::Relaxed) == 0 {
        mysql.say(&format!("REPLACE INTO changed (id) VALUES ({})", CHANGED + before));
        before += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(500));
    let before = node.rows_in.load(Ordering::Relaxed);
    let digits: String = ('a'..='f').map(|name| format!(", digits {name}")).collect();
    mysql.say(&format!(
        "INSERT INTO changed SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d, a.d, b.d * 0.25, \
         CONCAT('customer number ', c.d), '2026-01-31 12:00:00' FROM {}",
        &digits[2..]
    ));
    let begin = Instant::now();
    wait(before + CHANGED)?;
    let seconds = begin.elapsed().as_secs_f64();
    running.stopper().stop();
    flow::done(runtime.block_on(running.join()))?;
    Ok(CHANGED as f64 / seconds)
}

/// The rows a second that get columns of a table.
fn looked_up(mysql: &Mysql) -> Result<f64> {
    let sets = [settings(mysql, "processor.named"), vec![format!("input.numbers.rows={LOOKED_UP}")]].concat();
    let mut figures = Vec::new();
    for _ in 0..TURNS {
        let begin = Instant::now();
        let rows = flow::rows_into("mysql_lookup.toml", &sets, 2, "gone")?;
        if rows != LOOKED_UP {
            return Err(Error::new(format!("{rows} rows came instead of {LOOKED_UP}")));
        }
        figures.push(LOOKED_UP as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(median(figures))
}
