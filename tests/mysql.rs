//! Flows over real servers of MySQL and MariaDB, with the real binary: all are killed, and what comes out is compared with what is there.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream_testkit::Mysql;
use serde_json::Value;

use crate::millstream::{Ran, Workshop, project};
use crate::site::Site;

/// The servers that the tests of this process share. None where they are to do without.
pub fn shared(product: &str) -> Option<&'static Mysql> {
    static SERVERS: [OnceLock<Option<Mysql>>; 2] = [const { OnceLock::new() }; 2];
    let place = Mysql::PRODUCTS.iter().position(|known| *known == product).unwrap();
    SERVERS[place].get_or_init(|| Mysql::start(Mysql::PRODUCTS[place])).as_ref()
}

/// A table of its own, and a folder with the binary.
struct TableSite<'a> {
    workshop: Workshop,
    mysql: &'a Mysql,
    table: String,
}

const HEAD: &str = r#"
    [flow]
    epoch = { rows = 2000, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
"#;

/// Changes of the table, as files of NDJSON.
const CHANGES: &str = r#"
    [input.shop]
    type = "mysql_changes"
    address = "${MYSQL_ADDRESS}"
    user = "alice"
    password = "${MYSQL_PASSWORD}"
    database = "shop"
    tables.rows = { table = "${TABLE}", schema = { id = "int64", n = "int64", text = "utf8?" } }
    chunk_rows = 100
    heartbeat = "500ms"
    [output.out]
    type = "file"
    from = "shop.rows"
    path = "out"
    format = "ndjson"
    rows = 1000
    every = "100ms"
"#;

/// Numbers into the table, without a key, so that one that was written twice is there twice.
const NUMBERS: &str = r#"
    [input.numbers]
    type = "generate"
    rows = 60000
    columns = { id = "row", n = "row % 1000", text = "concat('number ', cast(row as varchar))" }
    [output.table]
    type = "mysql"
    from = "numbers"
    address = "${MYSQL_ADDRESS}"
    user = "alice"
    password = "${MYSQL_PASSWORD}"
    database = "shop"
    table = "${TABLE}"
    transaction_rows = 700
"#;

impl<'a> TableSite<'a> {
    /// With a table whose key is `id`, if it has one.
    fn new(mysql: &'a Mysql, flow: &str, has_key: bool) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let table = format!("table_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let key = if has_key { "PRIMARY KEY" } else { "NOT NULL" };
        mysql.say(&format!(
            "CREATE TABLE {table} (id BIGINT {key}, n BIGINT NOT NULL, text VARCHAR(100) CHARACTER SET utf8mb4)"
        ));
        // Servers know readers of their log, and marks of outputs, by the name of the flow.
        let head = HEAD.replace("[flow]", &format!("[flow]\n    name = \"{table}\""));
        let site = Self { workshop: Workshop::new(), mysql, table };
        site.workshop.write("flow.toml", &format!("{head}{flow}"));
        site
    }

    fn say(&self, statements: &str) {
        self.mysql.say(&statements.replace("{t}", &self.table));
    }

    /// The table as the changes say it is. Each has to be one that can be.
    fn folded(&self) -> BTreeMap<i64, (i64, Option<String>)> {
        let mut table = BTreeMap::new();
        for change in self.rows() {
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

    /// The table as it is.
    fn table_rows(&self) -> BTreeMap<i64, (i64, Option<String>)> {
        let rows = self.mysql.with(async |connection| {
            use mysql_async::prelude::Queryable as _;
            let query = format!("SELECT id, n, text FROM {}", self.table);
            connection.query::<(i64, i64, Option<String>), _>(query).await.unwrap()
        });
        rows.into_iter().map(|(id, n, text)| (id, (n, text))).collect()
    }

    /// Waits until the changes that are visible give the table.
    fn wait_until_even(&self) {
        let begin = Instant::now();
        let rows = self.table_rows();
        loop {
            let folded = self.folded();
            if folded == rows {
                return;
            }
            if begin.elapsed() > Duration::from_secs(60) {
                let missing: Vec<_> = rows.iter().filter(|(id, row)| folded.get(id) != Some(row)).take(5).collect();
                let surplus: Vec<_> = folded.iter().filter(|(id, _)| !rows.contains_key(id)).take(5).collect();
                panic!(
                    "{} rows and {} in the table; missing {missing:?}; surplus {surplus:?}",
                    folded.len(),
                    rows.len()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Site for TableSite<'_> {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MYSQL_ADDRESS", self.mysql.address().to_owned()),
            ("MYSQL_PASSWORD", "canary-41d7".to_owned()),
            ("TABLE", self.table.clone()),
        ]
    }
}

/// Changes a table at random, until it is told to stop or the server goes away.
async fn change(connection: &mut mysql_async::Conn, table: &str, seed: u64, stop: &AtomicBool) {
    use mysql_async::prelude::Queryable as _;
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    while !stop.load(Ordering::Relaxed) {
        let ends = ["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"][random(4) as usize];
        let mut statements = vec!["START TRANSACTION".to_owned()];
        for _ in 0..1 + random(8) {
            let id = random(2000);
            statements.push(match random(4) {
                0 => format!("DELETE FROM {table} WHERE id = {id}"),
                1 => format!("UPDATE {table} SET n = n + 1, text = 'ä{id}' WHERE id BETWEEN {id} AND {}", id + 3),
                2 => format!("UPDATE IGNORE {table} SET id = {} WHERE id = {id}", random(2000)),
                _ => format!("REPLACE INTO {table} VALUES ({id}, {}, NULL)", random(100)),
            });
        }
        statements.push(ends.to_owned());
        for statement in statements {
            if connection.query_drop(&statement).await.is_err() {
                return;
            }
        }
    }
}

/// Has a table changed while something is done.
fn while_changing(site: &TableSite<'_>, what: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 1..3 {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // The server may be away.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        site.mysql.with(async |connection| change(connection, &site.table, seed, stop).await);
                    }));
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        // Also when it fails: the test would go on for ever.
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn fill(site: &TableSite<'_>, rows: usize) {
    let values: Vec<_> = (0..rows).map(|id| format!("({id}, {}, 'first {id}')", id % 7)).collect();
    for some in values.chunks(1000) {
        site.say(&format!("INSERT INTO {{t}} VALUES {}", some.join(",")));
    }
}

#[test]
fn tables_are_read_while_they_change() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let site = TableSite::new(mysql, CHANGES, true);
        fill(&site, 2000);
        let mut running = None;
        while_changing(&site, || {
            running = Some(site.start());
            site.wait_for(3000);
        });
        site.wait_until_even();
        running.unwrap().stop();
        let ops: std::collections::BTreeSet<_> = site.rows().iter().map(|row| row["op"].to_string()).collect();
        assert_eq!(ops.len(), 4, "{ops:?}");
    }
}

#[test]
fn changes_count_once_when_the_flow_and_the_server_are_killed() {
    for product in Mysql::PRODUCTS {
        // One of its own, since it is killed.
        let Some(mysql) = Mysql::start(product) else { return };
        let site = TableSite::new(&mysql, CHANGES, true);
        fill(&site, 2000);
        while_changing(&site, || {
            for round in 0..8 {
                let running = site.start();
                std::thread::sleep(Duration::from_millis(300 + round * 130));
                if round % 3 == 1 {
                    mysql.services().kill(product);
                    std::thread::sleep(Duration::from_millis(200));
                    mysql.services().start_again(product);
                }
                // It is killed.
                drop(running);
            }
        });
        let running = site.start();
        site.wait_until_even();
        running.stop();
    }
}

#[test]
fn rows_are_written_once_when_the_flow_and_the_server_are_killed() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = Mysql::start(product) else { return };
        let site = TableSite::new(&mysql, NUMBERS, false);
        site.edit("rows = 60000", "rows = 60000\n    rate = \"20000/s\"");
        for round in 0..6 {
            let running = site.start();
            std::thread::sleep(Duration::from_millis(400 + round * 130));
            if round % 3 == 1 {
                mysql.services().kill(product);
                std::thread::sleep(Duration::from_millis(200));
                mysql.services().start_again(product);
            }
            drop(running);
        }
        let ran = site.run(&["--state", "state"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        has_numbers(&site, 60_000);
    }
}

/// The table has all numbers below this one, each once.
fn has_numbers(site: &TableSite<'_>, rows: i64) {
    let counts = site.mysql.rows(&format!("SELECT COUNT(*), COUNT(DISTINCT id), MIN(id), MAX(id) FROM {}", site.table));
    let first = site.mysql.rows(&format!("SELECT MIN(id) FROM {}", site.table))[0].parse::<i64>().unwrap();
    assert_eq!(counts, [format!("{rows} {rows} {first} {}", rows - 1 + first)]);
}

#[test]
fn rows_are_written_once_over_connections_that_are_cut() {
    let Some(mysql) = shared("mysql") else { return };
    let site = TableSite::new(mysql, NUMBERS, false);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let all = format!(
                    "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO `shop`.`{}`%' OR info = 'COMMIT'",
                    site.table
                );
                for id in mysql.rows(&all) {
                    mysql.with(async |connection| {
                        use mysql_async::prelude::Queryable as _;
                        let _ = connection.query_drop(format!("KILL CONNECTION {id}")).await;
                    });
                }
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        let ran = site.run(&["--state", "state"]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    });
    has_numbers(&site, 60_000);
}

#[test]
fn deadlocks_are_tried_again() {
    let Some(mysql) = shared("mysql") else { return };
    let site = TableSite::new(mysql, NUMBERS, true);
    site.edit("table = \"${TABLE}\"", "table = \"${TABLE}\"\n    key = [\"id\"]");
    // So that a transaction has rows from one end of the table to the other.
    site.edit("transaction_rows = 700", "transaction_rows = 60000");
    fill(&site, 60_000);
    let before = mysql.rows("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The other way round.
            mysql.with(async |connection| {
                use mysql_async::prelude::Queryable as _;
                while !stop.load(Ordering::Relaxed) {
                    let _ = connection.query_drop("START TRANSACTION").await;
                    for id in (1..60).rev() {
                        let update = format!(
                            "UPDATE {} SET text = 'x' WHERE id BETWEEN {} AND {}",
                            site.table,
                            id * 1000,
                            id * 1000 + 3
                        );
                        if connection.query_drop(update).await.is_err() {
                            break;
                        }
                    }
                    let _ = connection.query_drop("COMMIT").await;
                }
            });
        });
        let ran = site.run(&["--state", "state"]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    });
    let after = mysql.rows("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'");
    assert_ne!(before, after, "there was a deadlock");
}

#[test]
fn what_the_server_refuses_is_kept_apart() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let site = TableSite::new(mysql, NUMBERS, true);
        site.edit("rows = 60000", "rows = 3000");
        site.say("INSERT INTO {t} VALUES (77, 0, 'was there'), (2500, 0, 'was there');\nALTER TABLE {t} ADD CONSTRAINT CHECK (id <> 1234)");
        let failure = site.failure(&["--state", "state"]);
        assert!(failure.contains("does not take a row that counts: Duplicate entry '77' for key"), "{failure}");
        // It goes on with the same rows.
        site.edit("table = \"${TABLE}\"", "table = \"${TABLE}\"\n    refused_table = \"${TABLE}_refused\"");
        let ran = site.run(&["--state", "other"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let refused = mysql.rows(&format!("SELECT row_json FROM {}_refused ORDER BY id", site.table));
        assert_eq!(refused.len(), 3, "{refused:?}");
        assert!(refused[0].contains("\"id\":77") && refused[1].contains("\"id\":1234"), "{refused:?}");
        let rows = mysql.rows(&format!("SELECT COUNT(*) FROM {}", site.table));
        assert_eq!(rows, ["2999"], "two were there, and three were refused");
    }
}

#[test]
fn a_table_follows_another() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let flow = CHANGES.split("[output.out]").next().unwrap().to_owned()
            + r#"
            [output.copy]
            type = "mysql"
            from = "shop.rows"
            address = "${MYSQL_ADDRESS}"
            user = "alice"
            password = "${MYSQL_PASSWORD}"
            database = "shop"
            table = "${TABLE}_copy"
            key = ["id"]
            op = "op"
            create_table = true
            "#;
        let site = TableSite::new(mysql, &flow, true);
        site.edit("chunk_rows = 100", "chunk_rows = 100\n    metadata = { op = \"op\" }");
        fill(&site, 1000);
        let mut running = None;
        while_changing(&site, || {
            running = Some(site.start());
            std::thread::sleep(Duration::from_secs(3));
        });
        let both = format!(
            "SELECT (SELECT COUNT(*) FROM {0}) + (SELECT COUNT(*) FROM {0}_copy) - 2 * (SELECT COUNT(*) FROM {0} a JOIN {0}_copy b ON a.id = b.id AND a.n \
             = b.n AND BINARY a.text <=> BINARY b.text)",
            site.table
        );
        mysql.await_number(&both, 0);
        running.unwrap().stop();
    }
}

#[test]
fn who_may_not_come_is_told() {
    let Some(mysql) = shared("mysql") else { return };
    let site = TableSite::new(mysql, CHANGES, true);
    let mut command = site.command(&[]);
    let ran: Ran = command.env("MYSQL_PASSWORD", "canary-wrong").output().unwrap().into();
    let message = ran.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Access denied for user 'alice'"), "{message}");
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("canary"), "{}", ran.stderr);
    site.edit("address = \"${MYSQL_ADDRESS}\"", "address = \"127.0.0.1:1\"");
    let failure = site.failure(&[]);
    assert!(failure.contains("connecting to `127.0.0.1:1`: "), "{failure}");
}

#[test]
fn what_is_not_there_has_a_nearest_name() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let site = TableSite::new(mysql, CHANGES, true);
        site.edit("n = \"int64\"", "nn = \"int64\"");
        let failure = site.failure(&[]);
        assert!(failure.contains("there is no column `nn` in the table `${TABLE}`"), "{failure}");
        site.edit("table = \"${TABLE}\"", "table = \"${TABLE}x\"");
        let failure = site.failure(&[]);
        assert!(
            failure
                .contains("there is no table `${TABLE}x` in the database `shop` that the user can see; did you mean"),
            "{failure}"
        );
    }
}

#[test]
fn check_connects_and_says_what_is_there() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let site = TableSite::new(mysql, CHANGES, true);
        let flow = site.workshop.read("flow.toml");
        let head = flow.split("[input.shop]").next().unwrap();
        let server =
            "address = \"${MYSQL_ADDRESS}\"\nuser = \"alice\"\npassword = \"${MYSQL_PASSWORD}\"\ndatabase = \"shop\"";
        let nodes = format!(
            "[input.rows]\ntype = \"mysql_query\"\n{server}\nquery = \"SELECT id FROM ${{TABLE}}\"\nschema = {{ id = \"int64\" }}\nkey = [\"id\"]\n\
             [processor.names]\ntype = \"mysql_lookup\"\nfrom = \"rows\"\n{server}\ntable = \"${{TABLE}}\"\non = [\"id\"]\n\
             schema = {{ text = \"utf8?\" }}\non_error = \"fail\"\n\
             [output.out]\ntype = \"mysql\"\nfrom = \"names\"\n{server}\ntable = \"${{TABLE}}\"\n"
        );
        site.workshop.write("nodes.toml", &format!("{head}{nodes}"));
        let check = |arguments: &[&str]| -> Ran {
            let mut command = site.workshop.command(&[&["check", "--connect"], arguments].concat());
            command
                .env("MYSQL_ADDRESS", mysql.address())
                .env("MYSQL_PASSWORD", "canary-41d7")
                .env("TABLE", &site.table);
            command.output().unwrap().into()
        };
        let ran = check(&["flow.toml"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stdout.contains("input `shop`: version ") && ran.stdout.contains("a binary log with all rows"),
            "{}",
            ran.stdout
        );
        let ran = check(&["nodes.toml"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        for found in ["input `rows`: version ", "what the query asks for", "processor `names`: ", "output `out`: "] {
            assert!(ran.stdout.contains(found), "{}", ran.stdout);
        }
        for (from, to, said) in [
            ("text = \"utf8?\"", "texts = \"utf8?\"", "there is no column `texts`"),
            ("table = \"${TABLE}\"\non", "table = \"nobody\"\non", "there is no table `nobody`"),
            ("SELECT id FROM", "SELECT idd FROM", "preparing the query"),
        ] {
            site.workshop.write("wrong.toml", &format!("{head}{nodes}").replace(from, to));
            let ran = check(&["wrong.toml"]);
            assert!(ran.code == 1 && ran.stderr.contains(said), "{said}: {}{}", ran.stdout, ran.stderr);
        }
        let mut command = site.workshop.command(&["check", "--connect", "nodes.toml"]);
        command.env("MYSQL_ADDRESS", mysql.address()).env("MYSQL_PASSWORD", "canary-wrong").env("TABLE", &site.table);
        let ran: Ran = command.output().unwrap().into();
        assert!(ran.code == 1 && ran.stderr.contains("Access denied"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
    }
}

#[test]
fn rows_that_are_compressed_end_the_flow() {
    let Some(mysql) = Mysql::start("mariadb") else { return };
    let site = TableSite::new(&mysql, CHANGES, true);
    fill(&site, 10);
    let running = site.start();
    site.wait_for(10);
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
    let site = TableSite::new(mysql, CHANGES, true);
    fill(&site, 10);
    let running = site.start();
    site.wait_for(10);
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
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let site = TableSite::new(mysql, CHANGES, true);
        fill(&site, 10);
        let running = site.start();
        site.wait_for(10);
        site.say("ALTER TABLE {t} ADD COLUMN other INT FIRST;\nINSERT INTO {t} (id, n, text) VALUES (20, 1, 'a');\nALTER TABLE {t} MODIFY n INT");
        site.say("INSERT INTO {t} (id, n, text) VALUES (21, 1, 'b')");
        site.wait_until_even();
        site.say("ALTER TABLE {t} DROP COLUMN text;\nINSERT INTO {t} (id, n) VALUES (22, 1)");
        let failure = site.failure_of(running);
        assert!(failure.contains("has no column `text` any more"), "{failure}");
        site.edit("chunk_rows = 100", "chunk_rows = 100\n    on_schema_change = \"ignore\"");
        let running = site.start();
        site.wait_for(13);
        running.stop();
        let last = site.rows().pop().unwrap();
        assert!(last["id"] == 22 && last["text"].is_null(), "{last}");
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
        let site = TableSite::new(mysql, CHANGES, true);
        fill(&site, 10);
        let running = site.start();
        site.wait_for(10);
        site.say(statement);
        let failure = site.failure_of(running);
        assert!(failure.contains(why), "{failure}");
    }
}

#[test]
fn a_log_that_was_deleted_ends_the_flow() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = Mysql::start(product) else { return };
        let site = TableSite::new(&mysql, CHANGES, true);
        fill(&site, 10);
        let running = site.start();
        site.wait_for(10);
        running.stop();
        site.say("FLUSH BINARY LOGS;\nINSERT INTO {t} VALUES (50, 0, 'x');\nFLUSH BINARY LOGS");
        let newest = match product {
            "mysql" => "SHOW BINARY LOG STATUS",
            _ => "SHOW MASTER STATUS",
        };
        let status = mysql.with(async |connection| {
            use mysql_async::prelude::Queryable as _;
            connection.query_first::<mysql_async::Row, _>(newest).await.unwrap().unwrap().get::<String, _>(0).unwrap()
        });
        site.say(&format!("PURGE BINARY LOGS TO '{status}'"));
        let failure = site.failure(&["--state", "state"]);
        assert!(failure.contains("the server does not give its binary log from"), "{failure}");
    }
}

#[test]
fn rows_are_looked_up() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let flow = r#"
            [input.numbers]
            type = "generate"
            rows = 20000
            columns = { number = "row % 500" }
            [processor.named]
            type = "mysql_lookup"
            from = "numbers"
            address = "${MYSQL_ADDRESS}"
            user = "alice"
            password = "${MYSQL_PASSWORD}"
            database = "shop"
            table = "${TABLE}"
            on = { number = "id" }
            schema = { text = "utf8?" }
            [output.out]
            type = "file"
            from = "named"
            path = "out"
            format = "ndjson"
        "#;
        let site = TableSite::new(mysql, flow, true);
        fill(&site, 400);
        let ran = site.run(&[]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let rows = site.rows();
        assert_eq!(rows.len(), 20_000);
        for row in rows {
            let number = row["number"].as_i64().unwrap();
            let expected = if number < 400 { Value::from(format!("first {number}")) } else { Value::Null };
            assert_eq!(row.get("text").cloned().unwrap_or_default(), expected, "{row}");
        }
    }
}

#[test]
fn rows_that_are_new_are_read_run_by_run() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let flow = r#"
            [input.rows]
            type = "mysql_query"
            address = "${MYSQL_ADDRESS}"
            user = "alice"
            password = "${MYSQL_PASSWORD}"
            database = "shop"
            query = "SELECT id, n, text FROM ${TABLE} WHERE n < 6"
            schema = { id = "int64", n = "int64", text = "utf8?" }
            key = ["id"]
            cursor = "id"
            page_rows = 7
            [output.out]
            type = "file"
            from = "rows"
            path = "out"
            format = "ndjson"
        "#;
        let site = TableSite::new(mysql, flow, true);
        let mut expected = 0;
        for round in 0..3 {
            let values: Vec<_> =
                (round * 100..(round + 1) * 100).map(|id| format!("({id}, {}, NULL)", id % 7)).collect();
            site.say(&format!("INSERT INTO {{t}} VALUES {}", values.join(",")));
            expected += (round * 100..(round + 1) * 100).filter(|id| id % 7 < 6).count();
            let ran = site.run(&["--state", "state"]);
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            let mut ids: Vec<_> = site.rows().iter().map(|row| row["id"].as_i64().unwrap()).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!((ids.len(), site.rows().len()), (expected, expected), "round {round}");
        }
    }
}

#[test]
fn the_flow_of_the_library_takes_what_is_new() {
    let Some(mysql) = shared("mysql") else { return };
    let site = TableSite::new(mysql, "", true);
    let flow = std::fs::read_to_string(project().join("flows/mysql_to_parquet.toml")).unwrap();
    site.workshop.write("flow.toml", &flow);
    let orders = |values: &str| {
        mysql.say(&format!(
            "CREATE TABLE IF NOT EXISTS orders (id BIGINT PRIMARY KEY, customer BIGINT, amount DECIMAL(10,2), status VARCHAR(20), \
             updated_at DATETIME(6));\nREPLACE INTO orders VALUES {values}"
        ));
        let mut command = site.command(&["--state", "state"]);
        let ran: Ran = command.env("MYSQL_USER", "alice").output().unwrap().into();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.json()["nodes"]["orders"].clone()
    };
    let first = orders("(1, 7, 12.50, 'paid', '2026-01-31 12:00:00'), (2, NULL, 3.00, NULL, '2026-01-31 12:00:01')");
    assert_eq!(first["rows_out"]["main"], 2, "{first}");
    orders("(1, 7, 12.50, 'sent', '2026-01-31 12:00:02'), (3, 7, 1.00, 'paid', '2026-01-31 12:00:03')");
    let files = site.workshop.list("out/orders").into_iter().filter(|name| name.ends_with(".parquet")).count();
    assert!(files >= 2, "{:?}", site.workshop.list("out/orders"));
}

#[test]
fn two_readers_of_one_number_are_told() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let (first, second) = (TableSite::new(mysql, CHANGES, true), TableSite::new(mysql, CHANGES, true));
        let start = |site: &TableSite| {
            site.edit("heartbeat = \"500ms\"", "server_id = 77");
            fill(site, 100);
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

#[test]
fn the_state_says_where_to_go_on() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = shared(product) else { return };
        let site = TableSite::new(mysql, CHANGES, true);
        site.edit("chunk_rows = 100", "start = \"latest\"");
        fill(&site, 100);
        let running = site.start();
        // It has begun when a checkpoint is there.
        let begin = Instant::now();
        while site.workshop.run(&["checkpoints", "--json", "--state", "state"]).code != 0 {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(1));
        running.stop();
        site.say("UPDATE {t} SET n = 100 WHERE id = 50");
        let running = site.start();
        site.wait_for(1);
        running.stop();
        let changes = site.rows();
        assert!(changes.len() == 1 && changes[0]["op"] == "u" && changes[0]["n"] == 100, "{changes:?}");
    }
}
