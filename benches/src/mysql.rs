//! What flows write to MySQL and MariaDB, read of their changes and look up in a second, beside a loop of statements.

use std::fmt::Write as _;
use std::time::Duration;

use millstream_core::{Result, ResultExt as _};
use millstream_testkit::Mysql;
use mysql_async::prelude::Queryable as _;

use crate::databases::{CHANGED, Database, WRITTEN, changed, looked_up, written};
use crate::measurement::{Goal, Measurement};

/// Measures the rows a second that are written, that change, and that are looked up, on both servers.
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

impl Database for Mysql {
    const NODES: &'static str = "mysql";

    const WRITTEN: &'static str = "DROP TABLE IF EXISTS written;\n\
        CREATE TABLE written (id BIGINT PRIMARY KEY, n INT, ratio DOUBLE, name VARCHAR(40), at DATETIME(6))";

    const CHANGED: &'static str = "DROP TABLE IF EXISTS changed;\n\
        CREATE TABLE changed (id BIGINT PRIMARY KEY, n INT, ratio DOUBLE, name VARCHAR(40), at DATETIME(6));\n\
        DROP TABLE IF EXISTS digits;\n\
        CREATE TABLE digits (d INT PRIMARY KEY);\n\
        INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)";

    fn address(&self) -> &str {
        Mysql::address(self)
    }

    fn say(&self, statements: &str) {
        Mysql::say(self, statements);
    }

    fn rows(&self, query: &str) -> Vec<String> {
        Mysql::rows(self, query)
    }

    fn write_bare(&self) -> Result<()> {
        self.with(async |connection| insert_bare(connection).await).doing(|| "writing rows")
    }

    fn await_follower(&self, come: &dyn Fn() -> u64) {
        // It follows the log when this row comes, which is changed until it does.
        let mut before = 0;
        while come() == 0 {
            self.say(&format!("REPLACE INTO changed (id) VALUES ({})", CHANGED + before));
            before += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(Duration::from_millis(500));
    }

    fn insert(&self) -> String {
        let digits: String = ('a'..='f').map(|name| format!(", digits {name}")).collect();
        format!(
            "INSERT INTO changed SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d, a.d, b.d * 0.25, \
             CONCAT('customer number ', c.d), '2026-01-31 12:00:00' FROM {}",
            &digits[2..]
        )
    }
}

/// Inserts the rows that the flow writes, in transactions that are as large as the flow's.
async fn insert_bare(connection: &mut mysql_async::Conn) -> Result<(), mysql_async::Error> {
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
