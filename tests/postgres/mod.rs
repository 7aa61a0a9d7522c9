//! Flows over a real PostgreSQL, with the real binary: both are killed, and what comes out is compared with what is there.

mod changes;
mod output;
mod reading;

use std::sync::OnceLock;

use millstream_testkit::{Postgres, await_progress};

use crate::databases::{Rows, Server};

/// The server that the tests of this process share. None where they are to do without.
pub fn shared() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    SERVER.get_or_init(Postgres::start).as_ref()
}

/// The slot by which the server keeps its log for the flow that follows a table.
fn slot_of(table: &str) -> String {
    format!("millstream_{table}_shop")
}

impl Server for Postgres {
    const NODES: &'static str = "postgres";
    const MORE: &'static str = "    tls = { ca = \"${POSTGRES_CA}\" }\n";
    const CREATE: &'static str = "CREATE TABLE {t} (id bigint KEY, n int NOT NULL, text varchar(100));\n\
                                  ALTER TABLE {t} REPLICA IDENTITY FULL";

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("POSTGRES_ADDRESS", self.address().to_owned()),
            ("POSTGRES_PASSWORD", "canary-41d7".to_owned()),
            ("POSTGRES_CA", self.ca().to_owned()),
        ]
    }

    fn say(&self, statements: &str) {
        Postgres::say(self, statements);
    }

    fn ask(&self, query: &str) -> Vec<String> {
        self.rows(query)
    }

    fn table(&self, name: &str) -> Rows {
        let query = format!("SELECT id, n::bigint, text FROM {name}");
        let rows = self.with(async |client| client.query(&query, &[]).await.unwrap());
        rows.into_iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }

    fn transact(&self, next: &mut (dyn FnMut() -> Option<Vec<String>> + Send)) {
        self.with(async |client| {
            while let Some(statements) = next() {
                // Two may be in each other's way; then it is undone.
                let is_done = client.batch_execute(&statements.join(";")).await.is_ok();
                if !is_done && client.batch_execute("ROLLBACK").await.is_err() {
                    return;
                }
            }
        });
    }

    fn rename(table: &str, id: u64, other: u64) -> String {
        format!(
            "UPDATE {table} SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM {table} WHERE id = {other})"
        )
    }

    fn put(table: &str, id: u64, n: u64) -> String {
        format!(
            "INSERT INTO {table} VALUES ({id}, {n}, NULL) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n, text = NULL"
        )
    }

    fn kill(&self) {
        self.services().kill("postgres");
    }

    fn start_again(&self) {
        self.services().start_again("postgres");
    }

    fn forget(&self, table: &str) {
        let slot = slot_of(table);
        let sql =
            format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'");
        // It may not have noticed yet that the flow has ended.
        await_progress(|| {
            self.with(async |client| client.batch_execute(&sql).await.map_err(|error| format!("{slot}: {error:?}")))
        });
    }
}
