//! A server takes the place of the one whose binary log was read, at the same address.

use std::sync::atomic::{AtomicBool, Ordering};

use millstream_testkit::{Mysql, Proxy};

use crate::databases::changes::CHANGES;
use crate::databases::{Rows, Server, TableSite};
use crate::site::Site as _;

/// Two servers, of which the second can take the place of the first.
struct Pair {
    first: Mysql,
    second: Mysql,
    proxy: Proxy,
    has_moved: AtomicBool,
}

impl Pair {
    fn start(product: &'static str) -> Option<Self> {
        let (first, second) = (Mysql::start(product)?, Mysql::start(product)?);
        let proxy = Proxy::start(first.address(), |_, _| None);
        // Its own transactions and files are others.
        second.say("SET GLOBAL server_id = 2;\nFLUSH BINARY LOGS;\nCREATE DATABASE other;\nFLUSH BINARY LOGS");
        let pair = Self { first, second, proxy, has_moved: AtomicBool::default() };
        if product == "mysql" {
            // They know nothing of each other yet.
            for server in [&pair.first, &pair.second] {
                server.say("RESET BINARY LOGS AND GTIDS");
            }
        }
        Some(pair)
    }

    /// Has the second one do all that the first does.
    fn replicate(&self) {
        let (host, port) = self.first.address().split_once(':').unwrap();
        if self.first.product() == "mysql" {
            self.second.say(&format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}', SOURCE_PORT = {port}, SOURCE_USER = 'alice', \
                 SOURCE_PASSWORD = 'canary-41d7', SOURCE_SSL = 1, SOURCE_AUTO_POSITION = 1;\nSTART REPLICA"
            ));
        } else {
            let reached = self.first.rows("SELECT @@gtid_binlog_pos").remove(0);
            self.second.say(&format!(
                "RESET MASTER;\nSET GLOBAL gtid_slave_pos = {reached};\nCHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, \
                 MASTER_USER = 'alice', MASTER_PASSWORD = 'canary-41d7', MASTER_USE_GTID = slave_pos;\nSTART SLAVE;\nFLUSH BINARY LOGS"
            ));
        }
    }

    /// Waits until the second one has done all that the first has.
    fn catch_up(&self) {
        let (reached, wait, status) = match self.first.product() {
            "mysql" => ("SELECT @@gtid_executed", "WAIT_FOR_EXECUTED_GTID_SET", "SHOW REPLICA STATUS"),
            _ => ("SELECT @@gtid_binlog_pos", "MASTER_GTID_WAIT", "SHOW SLAVE STATUS"),
        };
        let reached = self.first.rows(reached).remove(0);
        let waited = self.second.rows(&format!("SELECT {wait}({reached}, 120)"));
        assert_eq!(waited, ["0"], "{:?}", self.second.rows(status));
    }

    /// Puts the second one in the place of the first, which is gone.
    fn move_over(&self) {
        self.first.kill();
        self.has_moved.store(true, Ordering::Relaxed);
        self.proxy.lead_to(self.second.address());
    }

    fn current(&self) -> &Mysql {
        if self.has_moved.load(Ordering::Relaxed) { &self.second } else { &self.first }
    }
}

impl Server for Pair {
    const NODES: &'static str = Mysql::NODES;
    const MORE: &'static str = Mysql::MORE;
    const CREATE: &'static str = Mysql::CREATE;

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("MYSQL_ADDRESS", self.proxy.address()), ("MYSQL_PASSWORD", "canary-41d7".to_owned())]
    }

    fn say(&self, statements: &str) {
        self.current().say(statements);
    }

    fn ask(&self, query: &str) -> Vec<String> {
        self.current().rows(query)
    }

    fn table(&self, name: &str) -> Rows {
        self.current().table(name)
    }

    fn transact(&self, next: &mut (dyn FnMut() -> Option<Vec<String>> + Send)) {
        self.current().transact(next);
    }

    fn rename(table: &str, id: u64, other: u64) -> String {
        Mysql::rename(table, id, other)
    }

    fn put(table: &str, id: u64, n: u64) -> String {
        Mysql::put(table, id, n)
    }

    fn kill(&self) {
        self.current().kill();
    }

    fn start_again(&self) {
        self.current().start_again();
    }
}

#[test]
fn changes_count_once_when_another_server_takes_over() {
    for pair in Mysql::PRODUCTS.into_iter().filter_map(Pair::start) {
        pair.replicate();
        let site = TableSite::new(&pair, CHANGES, true);
        site.fill(2000);
        let running = site.start();
        site.while_changing(|| site.wait_for(3000));
        pair.catch_up();
        pair.move_over();
        site.while_changing(|| site.wait_for(5000));
        site.wait_until_even();
        running.stop();
        let running = site.start();
        site.say("UPDATE {t} SET text = 'resumed'");
        site.wait_until_even();
        running.stop();
    }
}

#[test]
fn tables_that_were_half_read_are_read_on_when_another_server_takes_over() {
    for pair in Mysql::PRODUCTS.into_iter().filter_map(Pair::start) {
        pair.replicate();
        let site = TableSite::new(&pair, CHANGES, true);
        site.fill(20_000);
        pair.catch_up();
        let running = site.start();
        site.wait_for(1000);
        pair.move_over();
        site.wait_until_even();
        running.stop();
    }
}

#[test]
fn a_server_without_what_was_read_ends_the_flow() {
    for pair in Mysql::PRODUCTS.into_iter().filter_map(Pair::start) {
        let site = TableSite::new(&pair, CHANGES, true);
        site.fill(10);
        let running = site.start();
        site.wait_for(10);
        pair.move_over();
        let failure = site.failure_of(running);
        assert!(
            failure.contains(" has taken the place of ")
                && failure.contains("does not have what follows the transactions"),
            "{failure}"
        );
    }
}
