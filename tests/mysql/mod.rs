//! Flows over real servers of MySQL and MariaDB, with the real binary: all are killed, and what comes out is compared with what is there.

mod changes;
mod failover;
mod output;
mod reading;

use std::sync::OnceLock;

use millstream_testkit::Mysql;
use mysql_async::prelude::Queryable as _;

use crate::databases::{Rows, Server};

/// The servers that the tests of this process share. None where they are to do without.
pub fn shared(product: &str) -> Option<&'static Mysql> {
    static SERVERS: [OnceLock<Option<Mysql>>; 2] = [const { OnceLock::new() }; 2];
    let place = Mysql::PRODUCTS.iter().position(|known| *known == product).unwrap();
    SERVERS[place].get_or_init(|| Mysql::start(Mysql::PRODUCTS[place])).as_ref()
}

/// Those of both products.
fn both() -> impl Iterator<Item = &'static Mysql> {
    Mysql::PRODUCTS.into_iter().filter_map(shared)
}

/// Servers of a test's own, of both products.
fn own() -> impl Iterator<Item = Mysql> {
    Mysql::PRODUCTS.into_iter().filter_map(Mysql::start)
}

impl Server for Mysql {
    const NODES: &'static str = "mysql";
    const MORE: &'static str = "";
    const CREATE: &'static str =
        "CREATE TABLE {t} (id BIGINT KEY, n BIGINT NOT NULL, text VARCHAR(100) CHARACTER SET utf8mb4)";

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("MYSQL_ADDRESS", self.address().to_owned()), ("MYSQL_PASSWORD", "canary-41d7".to_owned())]
    }

    fn say(&self, statements: &str) {
        Mysql::say(self, statements);
    }

    fn ask(&self, query: &str) -> Vec<String> {
        self.rows(query)
    }

    fn table(&self, name: &str) -> Rows {
        let query = format!("SELECT id, n, text FROM {name}");
        let rows =
            self.with(async |connection| connection.query::<(i64, i64, Option<String>), _>(query).await.unwrap());
        rows.into_iter().map(|(id, n, text)| (id, (n, text))).collect()
    }

    fn transact(&self, next: &mut (dyn FnMut() -> Option<Vec<String>> + Send)) {
        self.with(async |connection| {
            while let Some(statements) = next() {
                for statement in statements {
                    if connection.query_drop(statement).await.is_err() {
                        return;
                    }
                }
            }
        });
    }

    fn rename(table: &str, id: u64, other: u64) -> String {
        format!("UPDATE IGNORE {table} SET id = {other} WHERE id = {id}")
    }

    fn put(table: &str, id: u64, n: u64) -> String {
        format!("REPLACE INTO {table} VALUES ({id}, {n}, NULL)")
    }

    fn kill(&self) {
        self.services().kill(self.product());
    }

    fn start_again(&self) {
        self.services().start_again(self.product());
    }
}
