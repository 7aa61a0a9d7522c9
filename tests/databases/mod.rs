//! What tests of databases have in common, whichever it is: a server, a table of a flow's own, and what must become of its rows.

pub mod changes;
pub mod output;
pub mod reading;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_testkit::await_progress;
use serde_json::Value;

use crate::millstream::{Ran, Workshop};
use crate::site::Site;

/// The rows of a table by `id`: `n` and `text`.
pub type Rows = BTreeMap<i64, (i64, Option<String>)>;

/// A server whose tables flows read, follow and write.
pub trait Server: Sync {
    /// What the names of its nodes begin with, and in capitals those of the variables by which flows reach it.
    const NODES: &'static str;

    /// Settings of the connection beyond those that all have.
    const MORE: &'static str;

    /// Makes the table `{t}`, whose column `id` is a `KEY`.
    const CREATE: &'static str;

    fn variables(&self) -> Vec<(&'static str, String)>;

    /// Says statements, one after the other.
    fn say(&self, statements: &str);

    /// Rows, each as the texts of its values with a blank between.
    fn ask(&self, query: &str) -> Vec<String>;

    fn table(&self, name: &str) -> Rows;

    /// Does the transactions that come, until none does or the server goes away.
    fn transact(&self, next: &mut (dyn FnMut() -> Option<Vec<String>> + Send));

    /// Gives a row another key, unless that is taken.
    fn rename(table: &str, id: u64, other: u64) -> String;

    /// Puts a row, in place of one that is there.
    fn put(table: &str, id: u64, n: u64) -> String;

    fn kill(&self);

    fn start_again(&self);

    /// Need not keep its log any longer for the flow that follows a table.
    fn forget(&self, _table: &str) {}
}

/// A table of its own, and a folder with the binary.
pub struct TableSite<'a, S> {
    pub workshop: Workshop,
    pub server: &'a S,
    pub table: String,
}

/// Servers know readers of their log, and marks of outputs, by the name of the flow.
const HEAD: &str = r#"
    [flow]
    name = "FLOW"
    epoch = { rows = 2000, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
    [connection.shop]
    type = "NODES"
    address = "${SERVER_ADDRESS}"
    user = "alice"
    password = "${SERVER_PASSWORD}"
    database = "shop"
"#;

impl<'a, S: Server> TableSite<'a, S> {
    /// With a table whose key is `id`, if it has one. In the text of the flow, `NODES` stands for the server's.
    pub fn new(server: &'a S, flow: &str, has_key: bool) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let table = format!("table_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let site = Self { workshop: Workshop::new(), server, table };
        site.say(&S::CREATE.replace("KEY", if has_key { "PRIMARY KEY" } else { "NOT NULL" }));
        let flow = format!("{HEAD}{}{flow}", S::MORE).replace("FLOW", &site.table);
        site.workshop.write("flow.toml", &flow.replace("NODES", S::NODES).replace("SERVER", &prefix::<S>()));
        site
    }

    pub fn say(&self, statements: &str) {
        self.server.say(&statements.replace("{t}", &self.table));
    }

    pub fn ask(&self, query: &str) -> Vec<String> {
        self.server.ask(&query.replace("{t}", &self.table))
    }

    /// The one number that a query gives.
    pub fn number(&self, query: &str) -> usize {
        self.ask(query)[0].parse().unwrap()
    }

    pub fn fill(&self, rows: usize) {
        let values: Vec<_> = (0..rows).map(|id| format!("({id}, {}, 'first {id}')", id % 7)).collect();
        for some in values.chunks(1000) {
            self.say(&format!("INSERT INTO {{t}} VALUES {}", some.join(",")));
        }
    }

    /// Waits until the changes that are visible give the table.
    pub fn wait_until_even(&self) {
        let rows = self.server.table(&self.table);
        await_progress(|| {
            let changes = self.rows();
            let folded = folded(&changes);
            if folded == rows { Ok(()) } else { Err((changes.len(), difference(&folded, &rows))) }
        });
    }

    /// Has the table changed while something is done.
    pub fn while_changing<T>(&self, what: impl FnOnce() -> T) -> T {
        let changing = |seed: u64| {
            move |stop: &AtomicBool| {
                while !stop.load(Ordering::Relaxed) {
                    // The server may be away.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.change(seed, stop)));
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        };
        beside(&[&changing(1), &changing(2)], what)
    }

    /// Changes the table at random, until it is told to stop or the server goes away.
    fn change(&self, seed: u64, stop: &AtomicBool) {
        let mut random = random(seed);
        let mut next = || {
            // A reader that has to wait for the processor would fall behind for ever.
            std::thread::sleep(Duration::from_millis(2));
            (!stop.load(Ordering::Relaxed)).then(|| transaction::<S>(&self.table, &mut random))
        };
        self.server.transact(&mut next);
    }

    /// Starts the flow and kills it at some moment, so many times, and each third time the server as well.
    pub fn kill_again_and_again(&self, rounds: u64, before: impl Fn(u64)) {
        for round in 0..rounds {
            before(round);
            let running = self.start();
            std::thread::sleep(Duration::from_millis(300 + round * 130));
            if round % 3 == 1 {
                self.server.kill();
                std::thread::sleep(Duration::from_millis(200));
                self.server.start_again();
            }
            // It is killed.
            drop(running);
        }
    }

    pub fn forget(&self) {
        self.server.forget(&self.table);
    }
}

impl<S: Server> Site for TableSite<'_, S> {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        [("TABLE", self.table.clone())].into_iter().chain(self.server.variables()).collect()
    }
}

/// What the names of the variables of the environment begin with.
fn prefix<S: Server>() -> String {
    S::NODES.to_uppercase()
}

/// A table as its changes say it is. Each has to be one that can be.
fn folded(changes: &[Value]) -> Rows {
    let mut table = Rows::new();
    for change in changes {
        let id = change["id"].as_i64().unwrap();
        let row = (change["n"].as_i64().unwrap(), change["text"].as_str().map(str::to_owned));
        match change["op"].as_str().unwrap() {
            "d" => _ = table.remove(&id),
            "c" => assert!(table.insert(id, row).is_none(), "{change} was there already"),
            "r" | "u" => _ = table.insert(id, row),
            other => panic!("{other}"),
        }
    }
    table
}

fn difference(folded: &Rows, rows: &Rows) -> String {
    let missing: Vec<_> = rows.iter().filter(|(id, row)| folded.get(id) != Some(row)).take(5).collect();
    let surplus: Vec<_> = folded.iter().filter(|(id, _)| !rows.contains_key(id)).take(5).collect();
    format!("{} rows and {} in the table; missing {missing:?}; surplus {surplus:?}", folded.len(), rows.len())
}

/// Numbers below others, at random.
fn random(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// The statements of a transaction that changes a few rows, or would have.
fn transaction<S: Server>(table: &str, mut random: impl FnMut(u64) -> u64) -> Vec<String> {
    let end = ["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"][random(4) as usize];
    let mut statements = vec!["START TRANSACTION".to_owned()];
    for _ in 0..1 + random(8) {
        let (what, id) = (random(4), random(2000));
        statements.push(match what {
            0 => format!("DELETE FROM {table} WHERE id = {id}"),
            1 => format!("UPDATE {table} SET n = n + 1, text = 'ä{id}' WHERE id BETWEEN {id} AND {}", id + 3),
            2 => S::rename(table, id, random(2000)),
            _ => S::put(table, id, random(100)),
        });
    }
    statements.push(end.to_owned());
    statements
}

/// Tells others to stop when it goes, be it because a test has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something while others get in its way, each of which is told when it has to stop.
pub fn beside<T>(others: &[&(dyn Fn(&AtomicBool) + Sync)], what: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &is_over;
        let _told = Stop(stop);
        for other in others {
            scope.spawn(move || other(stop));
        }
        what()
    })
}

/// Who has a wrong password, or finds no server, is told why, without the password.
pub fn who_may_not_come_is_told<S: Server>(server: &S, flow: &str, refusal: &str) {
    let site = TableSite::new(server, flow, true);
    let ran: Ran =
        site.command(&[]).env(format!("{}_PASSWORD", prefix::<S>()), "canary-wrong").output().unwrap().into();
    let message = ran.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(refusal), "{message}");
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("canary"), "{}", ran.stderr);
    site.edit(&format!("address = \"${{{}_ADDRESS}}\"", prefix::<S>()), "address = \"127.0.0.1:1\"");
    let failure = site.failure(&[]);
    assert!(failure.contains("connecting to `127.0.0.1:1`: "), "{failure}");
}
