//! Rows into tables of MySQL and MariaDB.

use std::sync::atomic::{AtomicBool, Ordering};

use millstream_testkit::Mysql;
use mysql_async::prelude::Queryable as _;

use super::{both, own, shared};
use crate::databases::output::{self, from_the_other_end, of_one_transaction};
use crate::databases::{TableSite, beside};
use crate::site::Site as _;

#[test]
fn rows_are_written_once_when_the_flow_and_the_server_are_killed() {
    own().for_each(|mysql| output::once_when_both_are_killed(&mysql));
}

#[test]
fn rows_are_written_once_over_connections_that_are_cut() {
    let Some(mysql) = shared("mysql") else { return };
    output::once_over_connections_that_are_cut(mysql, cut);
}

/// Cuts the connections over which rows come just now.
fn cut(site: &TableSite<'_, Mysql>) -> usize {
    let ids = site.ask(
        "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO `shop`.`{t}`%' OR info = 'COMMIT'",
    );
    site.server.with(async |connection| {
        let mut cut = 0;
        for id in ids {
            cut += usize::from(connection.query_drop(format!("KILL CONNECTION {id}")).await.is_ok());
        }
        cut
    })
}

#[test]
fn deadlocks_are_tried_again() {
    // One of its own, since it counts the deadlocks of all.
    let Some(mysql) = Mysql::start("mysql") else { return };
    let site = of_one_transaction(&mysql);
    let deadlocks = || {
        site.number("SELECT CAST(count AS SIGNED) FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
    };
    let before = deadlocks();
    let opponent = |stop: &AtomicBool| {
        // Who does that for ever leaves the flow no way through.
        while !stop.load(Ordering::Relaxed) && deadlocks() < before + 2 {
            mysql.with(async |connection| {
                let _ = connection.query_drop("START TRANSACTION").await;
                for update in from_the_other_end(&site.table) {
                    if connection.query_drop(update).await.is_err() {
                        break;
                    }
                }
                let _ = connection.query_drop("COMMIT").await;
            });
        }
    };
    beside(&[&opponent], || site.finish(&["--state", "state"]));
    assert!(deadlocks() > before, "there was no deadlock");
    assert_eq!(site.number("SELECT COUNT(*) FROM {t} WHERE n = id % 1000"), 60_000);
}

#[test]
fn what_the_server_refuses_is_kept_apart() {
    both().for_each(|mysql| output::refused_rows_are_kept_apart(mysql, "Duplicate entry '77' for key"));
}

#[test]
fn what_was_written_is_reported() {
    both().for_each(output::what_was_written_is_reported);
}
