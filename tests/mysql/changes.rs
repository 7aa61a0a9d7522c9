//! Changes of tables of MySQL and MariaDB, read from their binary logs.

use millstream_testkit::Mysql;
use mysql_async::Row;
use mysql_async::prelude::Queryable as _;

use super::{both, own, shared};
use crate::databases::TableSite;
use crate::databases::changes::{self, CHANGES, following};
use crate::site::Site as _;

#[test]
fn tables_are_read_while_they_change() {
    both().for_each(changes::tables_are_read_while_they_change);
}

#[test]
fn changes_count_once_when_the_flow_and_the_server_are_killed() {
    own().for_each(|mysql| changes::once_when_both_are_killed(&mysql));
}

#[test]
fn a_table_follows_another() {
    both().for_each(changes::a_table_follows_another);
}

#[test]
fn the_state_says_where_to_go_on() {
    both().for_each(changes::the_state_says_where_to_go_on);
}

#[test]
fn rows_that_are_compressed_end_the_flow() {
    let Some(mysql) = Mysql::start("mariadb") else { return };
    let (site, running) = following(&mysql, 10);
    site.say("SET GLOBAL log_bin_compress = ON;\nSET GLOBAL log_bin_compress_min_len = 10");
    let values: Vec<_> = (100..300).map(|id| format!("({id}, 0, REPEAT('x', 90))")).collect();
    site.say(&format!("INSERT INTO {{t}} VALUES {}", values.join(",")));
    let failure = site.failure_of(running);
    assert!(failure.contains("rows are compressed in a way that can't be read"), "{failure}");
    site.edit("path = \"out\"", "path = \"other\"");
    let failure = site.failure(&["--state", "new"]);
    assert!(failure.contains("log_bin_compress is 'ON'"), "{failure}");
}

#[test]
fn transactions_that_mysql_compresses_are_read() {
    let Some(mysql) = shared("mysql") else { return };
    let (site, running) = following(mysql, 10);
    let values: Vec<_> = (100..3000).map(|id| format!("({id}, 0, REPEAT('x', 90))")).collect();
    site.say(&format!(
        "SET SESSION binlog_transaction_compression = ON;\nINSERT INTO {{t}} VALUES {}",
        values.join(",")
    ));
    site.say("UPDATE {t} SET n = 1 WHERE id = 100");
    site.wait_until_even();
    running.stop();
    let running = site.start();
    site.say("DELETE FROM {t} WHERE id = 101");
    site.wait_until_even();
    running.stop();
}

#[test]
fn columns_come_and_go() {
    for mysql in both() {
        let (site, running) = following(mysql, 10);
        site.say("ALTER TABLE {t} ADD COLUMN other INT FIRST;\nINSERT INTO {t} (id, n, text) VALUES (20, 1, 'a');\nALTER TABLE {t} MODIFY n INT");
        site.say("INSERT INTO {t} (id, n, text) VALUES (21, 1, 'b')");
        site.wait_until_even();
        changes::a_column_goes(&site, running, 13);
    }
}

#[test]
fn statements_and_truncated_tables_end_the_flow() {
    let Some(mysql) = shared("mysql") else { return };
    for (statement, why) in [
        ("TRUNCATE TABLE {t}", "whose rows go without a change for each"),
        (
            "SET SESSION binlog_format = 'STATEMENT';\nUPDATE {t} SET n = 5",
            "a statement is in the binary log in place of the rows",
        ),
    ] {
        let (site, running) = following(mysql, 10);
        site.say(statement);
        let failure = site.failure_of(running);
        assert!(failure.contains(why), "{failure}");
    }
}

#[test]
fn a_log_that_was_deleted_ends_the_flow() {
    for mysql in own() {
        let (site, running) = following(&mysql, 10);
        running.stop();
        site.say("FLUSH BINARY LOGS;\nINSERT INTO {t} VALUES (50, 0, 'x');\nFLUSH BINARY LOGS");
        let newest = match mysql.product() {
            "mysql" => "SHOW BINARY LOG STATUS",
            _ => "SHOW MASTER STATUS",
        };
        let status: String = mysql
            .with(async |connection| connection.query_first::<Row, _>(newest).await.unwrap().unwrap().get(0).unwrap());
        site.say(&format!("PURGE BINARY LOGS TO '{status}'"));
        let failure = site.failure(&["--state", "state"]);
        assert!(failure.contains("the server does not give its binary log from"), "{failure}");
    }
}

#[test]
fn two_readers_of_one_number_are_told() {
    for mysql in both() {
        let (first, second) = (TableSite::new(mysql, CHANGES, true), TableSite::new(mysql, CHANGES, true));
        let start = |site: &TableSite<'_, Mysql>| {
            site.edit("heartbeat = \"500ms\"", "server_id = 77");
            site.fill(100);
            let running = site.start();
            site.wait_for(100);
            running
        };
        let former = start(&first);
        let latter = start(&second);
        let message = first.failure_of(former);
        assert!(message.contains("give the node a `server_id` that nobody else has"), "{message}");
        latter.stop();
    }
}
