//! Flows over a real PostgreSQL, with the real binary: both are killed, and what comes out is compared with what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream_testkit::Postgres;
use serde_json::Value;
use tokio_postgres::error::SqlState;

use crate::millstream::{Ran, Running, Workshop, project};

/// The server that the tests of this process share. None where they are to do without.
pub fn shared() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    SERVER.get_or_init(Postgres::start).as_ref()
}

/// A table of its own, and a folder with the binary.
struct Site<'a> {
    workshop: Workshop,
    postgres: &'a Postgres,
    table: String,
}

const HEAD: &str = r#"
    [flow]
    epoch = { rows = 2000, interval = "50ms" }
    [checkpoint]
    interval = "100ms"
    [connection.shop]
    type = "postgres"
    address = "${POSTGRES_ADDRESS}"
    user = "alice"
    password = "${POSTGRES_PASSWORD}"
    database = "shop"
    tls = { ca = "${POSTGRES_CA}" }
"#;

/// Numbers into the table, without a key, so that one that was written twice is there twice.
const NUMBERS: &str = r#"
    [input.numbers]
    type = "generate"
    rows = 60000
    columns = { id = "row", n = "row % 1000", text = "concat('number ', cast(row as varchar))" }
    [output.table]
    type = "postgres"
    from = "numbers"
    connection = "shop"
    table = "${TABLE}"
    transaction_rows = 700
"#;

/// Changes of the table, as files of NDJSON.
const CHANGES: &str = r#"
    [input.shop]
    type = "postgres_changes"
    connection = "shop"
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

impl<'a> Site<'a> {
    /// With a table whose key is `id`, if it has one.
    fn new(postgres: &'a Postgres, flow: &str, has_key: bool) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let table = format!("table_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let key = if has_key { "PRIMARY KEY" } else { "NOT NULL" };
        postgres.say(&format!(
            "CREATE TABLE {table} (id bigint {key}, n int NOT NULL, text varchar(100));\nALTER TABLE {table} REPLICA IDENTITY FULL"
        ));
        // Marks of outputs are known by the name of the flow.
        let head = HEAD.replace("[flow]", &format!("[flow]\n    name = \"{table}\""));
        let site = Self { workshop: Workshop::new(), postgres, table };
        site.workshop.write("flow.toml", &format!("{head}{flow}"));
        site
    }

    /// Changes the flow file.
    fn edit(&self, from: &str, to: &str) {
        let flow = self.workshop.read("flow.toml");
        assert!(flow.contains(from), "{from}");
        self.workshop.write("flow.toml", &flow.replace(from, to));
    }

    fn say(&self, statements: &str) {
        self.postgres.say(&statements.replace("{t}", &self.table));
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.workshop.command(&[&["run", "--json", "flow.toml"], arguments].concat());
        command
            .env("POSTGRES_ADDRESS", self.postgres.address())
            .env("POSTGRES_PASSWORD", "canary-41d7")
            .env("POSTGRES_CA", self.postgres.ca())
            .env("TABLE", &self.table);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// A run that has to succeed.
    fn succeed(&self, arguments: &[&str]) {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }

    /// A run that has to fail, and why.
    fn failure(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        ran.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    fn start(&self) -> Running {
        Running::start(self.command(&["--state", "state"]).stdout(Stdio::piped()))
    }

    /// The rows that are visible, in the order in which they were written.
    fn visible(&self) -> Vec<Value> {
        let names = self.workshop.list("out").into_iter().filter(|name| !name.starts_with('.'));
        let rows = |name: String| {
            let text = self.workshop.read(&format!("out/{name}"));
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        };
        names.flat_map(rows).collect()
    }

    /// Waits for a run that has to fail, and why.
    fn failure_of(&self, running: Running) -> String {
        let ran = running.wait();
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        ran.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    /// The table as the changes say it is. Each has to be one that can be.
    fn folded(&self) -> BTreeMap<i64, (i64, Option<String>)> {
        let mut table = BTreeMap::new();
        for change in self.visible() {
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
    fn rows(&self) -> BTreeMap<i64, (i64, Option<String>)> {
        let query = format!("SELECT id, n::bigint, text FROM {}", self.table);
        let rows = self.postgres.with(async |client| client.query(&query, &[]).await.unwrap());
        rows.into_iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }

    /// Waits until the changes that are visible give the table.
    fn wait_until_even(&self) {
        let mut patience = Patience::new();
        let rows = self.rows();
        loop {
            let folded = self.folded();
            if folded == rows {
                return;
            }
            if patience.ends(self.visible().len()) {
                let missing: Vec<_> = rows.iter().filter(|(id, row)| folded.get(id) != Some(row)).take(5).collect();
                let surplus: Vec<_> = folded.iter().filter(|(id, _)| !rows.contains_key(id)).take(5).collect();
                panic!(
                    "{} rows and {} in the table; missing {missing:?}; surplus {surplus:?}",
                    folded.len(),
                    rows.len()
                );
            }
        }
    }

    /// Waits until so many changes are visible.
    fn wait_for(&self, changes: usize) {
        let mut patience = Patience::new();
        loop {
            let visible = self.visible().len();
            if visible >= changes {
                return;
            }
            assert!(!patience.ends(visible), "{visible} of {changes} changes are visible");
        }
    }

    /// The slot by which the server keeps its log for the flow.
    fn slot(&self) -> String {
        format!("millstream_{}_shop", self.table)
    }

    /// Drops it, so that the server need not keep its log for others.
    fn forget(&self) {
        let begin = Instant::now();
        // The server may not have noticed yet that the flow has ended.
        loop {
            let sql = format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{}'",
                self.slot()
            );
            if self.postgres.with(async |client| client.batch_execute(&sql).await.is_ok()) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the slot is still in use");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// How long nothing new may be seen. A run that does nothing for minutes hangs, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits for something as long as it goes on.
struct Patience<T> {
    seen: Option<T>,
    since: Instant,
}

impl<T: PartialEq> Patience<T> {
    fn new() -> Self {
        Self { seen: None, since: Instant::now() }
    }

    /// Waits a moment, and says whether that is in vain, since what is seen has been the same for long.
    fn ends(&mut self, seen: T) -> bool {
        if self.seen.as_ref() != Some(&seen) {
            (self.seen, self.since) = (Some(seen), Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
        self.since.elapsed() > PATIENCE
    }
}

/// Changes a table at random, until it is told to stop or the server goes away.
async fn change(client: &tokio_postgres::Client, table: &str, seed: u64, stop: &AtomicBool) {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    while !stop.load(Ordering::Relaxed) {
        let ends = ["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"][random(4) as usize];
        let mut statements = vec!["BEGIN".to_owned()];
        for _ in 0..1 + random(8) {
            let id = random(2000);
            statements.push(match random(4) {
                0 => format!("DELETE FROM {table} WHERE id = {id}"),
                1 => format!("UPDATE {table} SET n = n + 1, text = 'ä{id}' WHERE id BETWEEN {id} AND {}", id + 3),
                2 => {
                    let other = random(2000);
                    format!("UPDATE {table} SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM {table} WHERE id = {other})")
                }
                _ => format!(
                    "INSERT INTO {table} VALUES ({id}, {}, NULL) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n, text = NULL",
                    random(100)
                ),
            });
        }
        statements.push(ends.to_owned());
        // Two may be in each other's way; then it is undone.
        if client.batch_execute(&statements.join(";")).await.is_err() && client.batch_execute("ROLLBACK").await.is_err()
        {
            return;
        }
    }
}

/// Tells others to stop when it goes, be it because a test has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has a table changed while something is done.
fn while_changing(site: &Site<'_>, what: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for seed in 1..3 {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // The server may be away.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        site.postgres.with(async |client| change(client, &site.table, seed, stop).await);
                    }));
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
        what();
    });
}

fn fill(site: &Site<'_>, rows: usize) {
    site.say(&format!("INSERT INTO {{t}} SELECT id, id % 7, 'first ' || id FROM generate_series(0, {rows} - 1) AS id"));
}

/// The table has all numbers, each once.
fn has_numbers(site: &Site<'_>, rows: i64) {
    let counts = site.postgres.rows(&format!(
        "SELECT count(*), count(DISTINCT id), max(id) - min(id) + 1, count(*) FILTER (WHERE text = 'number ' || id) FROM {}",
        site.table
    ));
    assert_eq!(counts, [format!("{rows} {rows} {rows} {rows}")]);
}

#[test]
fn rows_are_written_once_when_the_flow_dies_at_any_step() {
    let Some(postgres) = shared() else { return };
    let points = millstream_store::crash::POINTS.iter();
    for point in points.filter(|point| point.starts_with("postgres-") || point.starts_with("spool-")) {
        let site = Site::new(postgres, NUMBERS, false);
        site.edit("rows = 60000", "rows = 6000");
        let mut died = 0;
        for occurrence in [1, 2, 5] {
            let mut command = site.command(&["--state", "state"]);
            let ran: Ran = command.env("MILLSTREAM_CRASH", format!("{point}:{occurrence}")).output().unwrap().into();
            died += usize::from(ran.code != 0);
        }
        assert!(died > 0, "nobody comes by {point}");
        site.succeed(&["--state", "state"]);
        has_numbers(&site, 6000);
    }
}

#[test]
fn rows_are_written_once_when_the_flow_and_the_server_are_killed() {
    // One of its own, since it is killed.
    let Some(postgres) = Postgres::start() else { return };
    let site = Site::new(&postgres, NUMBERS, false);
    site.edit("rows = 60000", "rows = 60000\n    rate = \"20000/s\"");
    for round in 0..6 {
        let running = site.start();
        std::thread::sleep(Duration::from_millis(400 + round * 130));
        if round % 3 == 1 {
            postgres.services().kill("postgres");
            std::thread::sleep(Duration::from_millis(200));
            postgres.services().start_again("postgres");
        }
        // It is killed.
        drop(running);
    }
    site.succeed(&["--state", "state"]);
    has_numbers(&site, 60_000);
}

#[test]
fn rows_are_written_once_over_connections_that_are_cut() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, NUMBERS, false);
    let (stop, cut) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            // Only if rows have come since the last one, so that the flow does come to its end; and only some, as connecting takes its time.
            let mut rows = 0;
            while !stop.load(Ordering::Relaxed) && cut.load(Ordering::Relaxed) < 12 {
                let now = postgres.rows(&format!("SELECT count(*) FROM {}", site.table))[0].parse::<u64>().unwrap();
                if now > rows {
                    let sql = format!(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'millstream {}.table' AND \
                         (query LIKE 'SAVEPOINT%' OR query LIKE 'COPY%' OR query = 'COMMIT')",
                        site.table
                    );
                    let cuts = postgres.rows(&sql)[0].parse::<usize>().unwrap();
                    cut.fetch_add(cuts, Ordering::Relaxed);
                    rows = if cuts > 0 { now } else { rows };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let ran = site.run(&["--state", "state"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    });
    assert!(cut.load(Ordering::Relaxed) > 0, "none was cut");
    has_numbers(&site, 60_000);
}

#[test]
fn deadlocks_are_tried_again() {
    // One of its own, since it counts the deadlocks of all.
    let Some(postgres) = Postgres::start() else { return };
    let site = Site::new(&postgres, NUMBERS, true);
    site.edit("table = \"${TABLE}\"", "table = \"${TABLE}\"\n    key = [\"id\"]");
    // So that a transaction has rows from one end of the table to the other.
    site.edit("transaction_rows = 700", "transaction_rows = 60000");
    fill(&site, 60_000);
    let deadlocks = || {
        let counted = postgres.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = 'shop'");
        counted[0].parse::<usize>().unwrap()
    };
    let before = deadlocks();
    let (stop, own) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Those that the flow was the victim of.
    let of_flow = || (deadlocks() - before).saturating_sub(own.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            // The other way round. Who does that for ever, and at once again, leaves the flow no way through.
            while !stop.load(Ordering::Relaxed) && of_flow() < 2 {
                postgres.with(async |client| {
                    // It is the flow that finds out that both wait for each other, and then is the one who has to yield.
                    let _ = client.batch_execute("SET deadlock_timeout = '10s'; BEGIN").await;
                    for id in (1..60).rev() {
                        let update = format!(
                            "UPDATE {} SET text = 'x' WHERE id BETWEEN {} AND {}",
                            site.table,
                            id * 1000,
                            id * 1000 + 3
                        );
                        if let Err(error) = client.batch_execute(&update).await {
                            let is_deadlock = error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED);
                            own.fetch_add(usize::from(is_deadlock), Ordering::Relaxed);
                            break;
                        }
                    }
                    let _ = client.batch_execute("COMMIT").await;
                });
            }
        });
        let ran = site.run(&["--state", "state"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    });
    // The server counts them a little later.
    let mut patience = Patience::new();
    while of_flow() == 0 {
        assert!(!patience.ends(deadlocks()), "there was no deadlock");
    }
    let rows = postgres.rows(&format!("SELECT count(*) FROM {} WHERE n = id % 1000", site.table));
    assert_eq!(rows, ["60000"]);
}

#[test]
fn what_the_server_refuses_is_kept_apart() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, NUMBERS, true);
    site.edit("rows = 60000", "rows = 3000");
    site.say(
        "INSERT INTO {t} VALUES (77, 0, 'was there'), (2500, 0, 'was there');\nALTER TABLE {t} ADD CHECK (id <> 1234)",
    );
    let failure = site.failure(&["--state", "state"]);
    assert!(
        failure.contains("does not take a row that counts: duplicate key value violates unique constraint"),
        "{failure}"
    );
    assert!(failure.contains("Key (id)=(77) already exists"), "{failure}");
    site.edit("table = \"${TABLE}\"", "table = \"${TABLE}\"\n    refused_table = \"${TABLE}_refused\"");
    // It goes on with the same rows.
    site.succeed(&["--state", "state"]);
    let refused = postgres.rows(&format!("SELECT row_json FROM {}_refused ORDER BY id", site.table));
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].contains("\"id\":77") && refused[1].contains("\"id\":1234"), "{refused:?}");
    let rows = postgres.rows(&format!("SELECT count(*) FROM {}", site.table));
    assert_eq!(rows, ["2999"], "two were there, and three were refused");
}

#[test]
fn what_the_table_says_is_refused_before() {
    let Some(postgres) = shared() else { return };
    let flow = r#"
        [input.rows]
        type = "file"
        path = "in.ndjson"
        schema = { id = "int64?", n = "int64?", text = "utf8?" }
        [output.table]
        type = "postgres"
        from = "rows"
        connection = "shop"
        table = "${TABLE}"
        on_error = { dead_letter = "refused" }
    "#;
    let site = Site::new(postgres, flow, true);
    let long = "x".repeat(101);
    let rows = [
        r#"{"id":1,"n":2,"text":"a"}"#.to_owned(),
        r#"{"n":2}"#.to_owned(),
        r#"{"id":2,"n":2147483648}"#.to_owned(),
        r#"{"id":3,"n":0,"text":"a\u0000b"}"#.to_owned(),
        format!(r#"{{"id":4,"n":0,"text":"{long}"}}"#),
        format!(r#"{{"id":5,"n":0,"text":"{}"}}"#, "ä".repeat(100)),
    ];
    site.workshop.write("in.ndjson", &rows.join("\n"));
    site.succeed(&["--state", "state"]);
    assert_eq!(postgres.rows(&format!("SELECT id FROM {} ORDER BY id", site.table)), ["1", "5"]);
    let refused: String =
        site.workshop.list("refused").iter().map(|name| site.workshop.read(&format!("refused/{name}"))).collect();
    for why in ["`id` is null", "`n` is too large", "`text` has a zero byte", "`text` is longer"] {
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

/// A row for each type, written and read again.
#[test]
fn types_are_what_they_were() {
    let Some(postgres) = shared() else { return };
    let flow = r#"
        [input.rows]
        type = "generate"
        rows = 3
        [input.rows.columns]
        id = "row"
        truth = "row = 1"
        small = "arrow_cast(row - 2, 'Int8')"
        middle = "arrow_cast(row, 'UInt32')"
        large = "arrow_cast(18446744073709551615, 'UInt64')"
        ratio = "arrow_cast(row * 0.25e0, 'Float32')"
        double = "CASE WHEN row = 1 THEN cast('NaN' as double) ELSE row * 1e300 END"
        amount = "arrow_cast(row * -12345.6789, 'Decimal128(20, 5)')"
        word = "CASE WHEN row = 1 THEN NULL ELSE concat('O''Hara\\ ', cast(row as varchar)) END"
        bytes = "arrow_cast(concat('ä', cast(row as varchar)), 'Binary')"
        day = "date '1969-12-31'"
        at = "timestamp '2026-01-31 12:00:00.000001'"
        many = "CASE WHEN row = 1 THEN NULL ELSE make_array(row, NULL, row + 1) END"
        [output.table]
        type = "postgres"
        from = "rows"
        connection = "shop"
        table = "${TABLE}_all"
        key = ["id"]
        create_table = true
    "#;
    let site = Site::new(postgres, flow, true);
    site.succeed(&[]);
    let rows = postgres.rows(&format!("SELECT * FROM {}_all ORDER BY id LIMIT 2", site.table));
    assert_eq!(
        rows,
        [
            "0 f -2 0 18446744073709551615 0 0 0.00000 O'Hara\\ 0 \\xc3a430 1969-12-31 2026-01-31 12:00:00.000001+00 {0,NULL,1}",
            "1 t -1 1 18446744073709551615 0.25 NaN -12345.67890 NULL \\xc3a431 1969-12-31 2026-01-31 12:00:00.000001+00 NULL",
        ]
    );
    // They are cast to what a table has, too.
    site.say(
        "DROP TABLE {t}_all;\nCREATE TABLE {t}_all (id int PRIMARY KEY, truth text, small numeric(5,1), middle varchar(20), large float8, \
         ratio float8, double text, amount numeric(10,2), word json, bytes bytea, day timestamptz, at timestamp, many text[])",
    );
    site.edit("concat('O''Hara\\\\ ', cast(row as varchar))", "concat('[', cast(row as varchar), ']')");
    site.succeed(&[]);
    let rows = postgres.rows(&format!("SELECT * FROM {}_all ORDER BY id DESC LIMIT 1", site.table));
    assert_eq!(
        rows,
        [
            "2 false 0.0 2 1.8446744073709552e+19 0.5 2e+300 -24691.36 [2] \\xc3a432 1969-12-31 00:00:00+00 2026-01-31 12:00:00.000001 {2,NULL,3}"
        ]
    );
}

#[test]
fn the_last_row_of_a_key_counts() {
    let Some(postgres) = shared() else { return };
    let flow = r#"
        [input.rows]
        type = "generate"
        rows = 30000
        columns = { id = "row % 1000", n = "row", text = "CASE WHEN row % 7 = 0 THEN NULL ELSE 'x' END", what = "CASE WHEN row % 3 = 0 THEN 'd' ELSE 'u' END" }
        [output.table]
        type = "postgres"
        from = "rows"
        connection = "shop"
        table = "${TABLE}"
        key = ["id"]
        op = "what"
        transaction_rows = 5000
    "#;
    let site = Site::new(postgres, flow, true);
    fill(&site, 5000);
    site.succeed(&["--state", "state"]);
    // Of ids below 1000, those are left whose last row is no deletion.
    let last = |id: i64| 29_000 + id;
    let expected: Vec<String> = (0..5000_i64)
        .filter(|id| *id >= 1000 || last(*id) % 3 != 0)
        .map(|id| {
            if id >= 1000 {
                return format!("{id} {} first {id}", id % 7);
            }
            let text = if last(id) % 7 == 0 { "NULL" } else { "x" };
            format!("{id} {} {text}", last(id))
        })
        .collect();
    assert_eq!(postgres.rows(&format!("SELECT id, n, text FROM {} ORDER BY id", site.table)), expected);
}

#[test]
fn a_run_that_was_thought_dead_writes_nothing_more() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, NUMBERS, false);
    site.edit("rows = 60000", "rows = 60000\n    rate = \"20000/s\"");
    let former = site.start();
    postgres.await_number(&format!("SELECT least(count(*), 1) FROM {}", site.table), 1);
    // As if another run had taken over.
    site.say("UPDATE millstream_epochs SET generation = generation + 1000 WHERE flow = '{t}'");
    let ran = former.wait();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let message = ran.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("another run of the flow has taken the output over"), "{message}");
}

#[test]
fn who_may_not_come_is_told() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, NUMBERS, true);
    let mut command = site.command(&[]);
    let ran: Ran = command.env("POSTGRES_PASSWORD", "canary-wrong").output().unwrap().into();
    let message = ran.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("password authentication failed for user \"alice\""), "{message}");
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("canary"), "{}", ran.stderr);
    site.edit("address = \"${POSTGRES_ADDRESS}\"", "address = \"127.0.0.1:1\"");
    let failure = site.failure(&[]);
    assert!(failure.contains("connecting to `127.0.0.1:1`: "), "{failure}");
}

#[test]
fn what_is_not_there_has_a_nearest_name() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, NUMBERS, true);
    site.edit("text = \"", "texts = \"");
    let failure = site.failure(&[]);
    assert!(failure.contains("has no column `texts`; did you mean `text`?"), "{failure}");
    site.edit("table = \"${TABLE}\"", "table = \"${TABLE}x\"");
    let failure = site.failure(&[]);
    assert!(failure.contains("there is no table `${TABLE}x` in the schema `public`; did you mean"), "{failure}");
    site.edit("table = \"${TABLE}x\"", "table = \"${TABLE}\"\n    key = [\"texts\"]");
    site.say("ALTER TABLE {t} ADD COLUMN texts text");
    let failure = site.failure(&[]);
    assert!(
        failure.contains("`key` is no unique key of \"public\".\"${TABLE}\"") && failure.contains("`key = [\"id\"]`"),
        "{failure}"
    );
}

#[test]
fn rows_are_looked_up() {
    let Some(postgres) = shared() else { return };
    let flow = r#"
        [input.numbers]
        type = "generate"
        rows = 20000
        columns = { number = "row % 500" }
        [processor.named]
        type = "postgres_lookup"
        from = "numbers"
        connection = "shop"
        table = "${TABLE}"
        on = { number = "id" }
        schema = { text = "utf8?" }
        [output.out]
        type = "file"
        from = "named"
        path = "out"
        format = "ndjson"
    "#;
    let site = Site::new(postgres, flow, true);
    fill(&site, 400);
    site.succeed(&[]);
    let rows = site.visible();
    assert_eq!(rows.len(), 20_000);
    for row in rows {
        let number = row["number"].as_i64().unwrap();
        let expected = if number < 400 { Value::from(format!("first {number}")) } else { Value::Null };
        assert_eq!(row.get("text").cloned().unwrap_or_default(), expected, "{row}");
    }
}

/// A key that the table's type does not have is no reason for others to go without.
#[test]
fn keys_that_are_none_are_refused() {
    let Some(postgres) = shared() else { return };
    let flow = r#"
        [input.numbers]
        type = "generate"
        rows = 2000
        columns = { number = "CASE WHEN row = 777 THEN 'none' ELSE cast(row as varchar) END" }
        [processor.named]
        type = "postgres_lookup"
        from = "numbers"
        connection = "shop"
        table = "${TABLE}"
        on = { number = "id" }
        schema = { text = "utf8" }
        missing = "fail"
        on_error = { dead_letter = "refused" }
        [output.out]
        type = "file"
        from = "named"
        path = "out"
        format = "ndjson"
    "#;
    let site = Site::new(postgres, flow, true);
    fill(&site, 2000);
    site.succeed(&[]);
    assert_eq!(site.visible().len(), 1999);
    let refused: String =
        site.workshop.list("refused").iter().map(|name| site.workshop.read(&format!("refused/{name}"))).collect();
    assert!(refused.contains("invalid input syntax for type bigint"), "{refused}");
}

#[test]
fn rows_that_are_new_are_read_run_by_run() {
    let Some(postgres) = shared() else { return };
    let flow = r#"
        [input.rows]
        type = "postgres_query"
        connection = "shop"
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
    let site = Site::new(postgres, flow, true);
    let mut expected = 0;
    for round in 0..3 {
        site.say(&format!(
            "INSERT INTO {{t}} SELECT id, id % 7, NULL FROM generate_series({}, {}) AS id",
            round * 100,
            round * 100 + 99
        ));
        expected += (round * 100..(round + 1) * 100).filter(|id| id % 7 < 6).count();
        site.succeed(&["--state", "state"]);
        let mut ids: Vec<_> = site.visible().iter().map(|row| row["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), site.visible().len()), (expected, expected), "round {round}");
    }
}

#[test]
fn rows_are_read_once_when_the_flow_and_the_server_are_killed() {
    let Some(postgres) = Postgres::start() else { return };
    let flow = r#"
        [input.rows]
        type = "postgres_query"
        connection = "shop"
        table = "${TABLE}"
        schema = { id = "int64", text = "utf8?" }
        key = ["id"]
        cursor = "id"
        every = "20ms"
        page_rows = 50
        [output.out]
        type = "file"
        from = "rows"
        path = "out"
        format = "ndjson"
        rows = 1000
        every = "100ms"
    "#;
    let site = Site::new(&postgres, flow, true);
    for round in 0..6 {
        site.say(&format!(
            "INSERT INTO {{t}} SELECT id, 0, 'text' FROM generate_series({}, {}) AS id",
            round * 2000,
            round * 2000 + 1999
        ));
        let running = site.start();
        std::thread::sleep(Duration::from_millis(300 + round * 100));
        if round % 3 == 1 {
            postgres.services().kill("postgres");
            std::thread::sleep(Duration::from_millis(100));
            postgres.services().start_again("postgres");
        }
        drop(running);
    }
    let running = site.start();
    site.wait_for(12_000);
    running.stop();
    let ids: Vec<_> = site.visible().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..12_000).collect::<Vec<_>>());
}

#[test]
fn the_flow_of_the_library_keeps_a_table() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, "", true);
    let flow = std::fs::read_to_string(project().join("flows/orders_to_postgres.toml")).unwrap();
    site.workshop.write("flow.toml", &flow);
    let orders = |name: &str, rows: &str| {
        std::fs::create_dir_all(site.workshop.path("in/orders")).unwrap();
        site.workshop.write(&format!("in/orders/{name}.csv"), &format!("order,customer,amount,status\n{rows}"));
        let mut command = site.command(&["--state", "state"]);
        command.env("POSTGRES_USER", "alice");
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        postgres.rows("SELECT \"order\", amount, status FROM orders ORDER BY 1")
    };
    assert_eq!(orders("1", "1,7,12.50,paid\n2,7,3.00,\n"), ["1 12.50 paid", "2 3.00 unknown"]);
    assert_eq!(orders("2", "2,7,3.00,sent\n3,8,1.00,paid\n"), ["1 12.50 paid", "2 3.00 sent", "3 1.00 paid"]);
}

#[test]
fn tables_are_read_while_they_change() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, CHANGES, true);
    fill(&site, 2000);
    let mut running = None;
    while_changing(&site, || {
        running = Some(site.start());
        site.wait_for(3000);
    });
    site.wait_until_even();
    running.unwrap().stop();
    let ops: BTreeSet<_> = site.visible().iter().map(|row| row["op"].to_string()).collect();
    assert_eq!(ops.len(), 4, "{ops:?}");
    site.forget();
}

#[test]
fn changes_count_once_when_the_flow_and_the_server_are_killed() {
    let Some(postgres) = Postgres::start() else { return };
    let site = Site::new(&postgres, CHANGES, true);
    fill(&site, 2000);
    while_changing(&site, || {
        for round in 0..8 {
            let running = site.start();
            std::thread::sleep(Duration::from_millis(300 + round * 130));
            if round % 3 == 1 {
                postgres.services().kill("postgres");
                std::thread::sleep(Duration::from_millis(200));
                postgres.services().start_again("postgres");
            }
            // It is killed.
            drop(running);
        }
    });
    let running = site.start();
    site.wait_until_even();
    running.stop();
}

#[test]
fn changes_count_once_over_connections_that_are_cut() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, CHANGES, true);
    fill(&site, 2000);
    let mut running = None;
    while_changing(&site, || {
        running = Some(site.start());
        let (mut cut, mut patience) = (0, Patience::new());
        while cut < 6 {
            assert!(!patience.ends(cut), "{cut} were cut");
            std::thread::sleep(Duration::from_millis(250));
            let sql = format!(
                "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE slot_name = '{}'",
                site.slot()
            );
            cut += postgres.rows(&sql)[0].parse::<u32>().unwrap();
        }
    });
    site.wait_until_even();
    running.unwrap().stop();
    site.forget();
}

/// A transaction that is larger than a page, of which the flow dies in the middle.
#[test]
fn a_large_transaction_is_read_in_pieces() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, CHANGES, true);
    site.edit("chunk_rows = 100", "start = \"latest\"");
    let running = site.start();
    postgres.await_number(
        &format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND active", site.slot()),
        1,
    );
    fill(&site, 60_000);
    site.wait_for(5000);
    drop(running);
    assert!(site.visible().len() < 60_000, "it was killed too late");
    let running = site.start();
    site.wait_until_even();
    running.stop();
    let ids: Vec<_> = site.visible().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..60_000).collect::<Vec<_>>());
    site.forget();
}

#[test]
fn a_table_follows_another() {
    let Some(postgres) = shared() else { return };
    let flow = CHANGES.split("[output.out]").next().unwrap().to_owned()
        + r#"
        [output.copy]
        type = "postgres"
        from = "shop.rows"
        connection = "shop"
        table = "${TABLE}_copy"
        key = ["id"]
        op = "op"
        create_table = true
        "#;
    let site = Site::new(postgres, &flow, true);
    site.edit("chunk_rows = 100", "chunk_rows = 100\n    metadata = { op = \"op\" }");
    fill(&site, 1000);
    let mut running = None;
    while_changing(&site, || {
        running = Some(site.start());
        std::thread::sleep(Duration::from_secs(3));
    });
    let both = format!(
        "SELECT (SELECT count(*) FROM {0}) + (SELECT count(*) FROM {0}_copy) - 2 * (SELECT count(*) FROM {0} a JOIN {0}_copy b ON a.id = b.id AND a.n = b.n \
         AND a.text IS NOT DISTINCT FROM b.text)",
        site.table
    );
    postgres.await_number(&both, 0);
    running.unwrap().stop();
    site.forget();
}

#[test]
fn the_server_keeps_its_log_no_longer_than_needed() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, CHANGES, true);
    fill(&site, 10);
    let running = site.start();
    site.wait_for(10);
    let place = postgres.rows("SELECT pg_current_wal_lsn()")[0].clone();
    // Also where the tables of the flow don't change any more.
    postgres.await_number(
        &format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND confirmed_flush_lsn >= '{place}'",
            site.slot()
        ),
        1,
    );
    site.say("INSERT INTO {t} VALUES (20, 1, 'x')");
    site.wait_until_even();
    running.stop();
    site.forget();
}

#[test]
fn columns_come_and_go() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, CHANGES, true);
    fill(&site, 10);
    let running = site.start();
    site.wait_for(10);
    site.say("ALTER TABLE {t} ADD COLUMN other int;\nINSERT INTO {t} (id, n, text) VALUES (20, 1, 'a');\nALTER TABLE {t} ALTER n TYPE bigint");
    // A large value that is stored apart, and has not changed.
    site.say("ALTER TABLE {t} ALTER text TYPE text;\nALTER TABLE {t} ALTER text SET STORAGE EXTERNAL");
    site.say("INSERT INTO {t} (id, n, text) VALUES (21, 1, repeat('b', 20000));\nUPDATE {t} SET n = 2 WHERE id = 21");
    site.wait_until_even();
    site.say("ALTER TABLE {t} DROP COLUMN text;\nINSERT INTO {t} (id, n) VALUES (22, 1)");
    let failure = site.failure_of(running);
    assert!(failure.contains("has no column `text` any more"), "{failure}");
    site.edit("chunk_rows = 100", "chunk_rows = 100\n    on_schema_change = \"ignore\"");
    let running = site.start();
    site.wait_for(14);
    running.stop();
    let last = site.visible().pop().unwrap();
    assert!(last["id"] == 22 && last["text"].is_null(), "{last}");
    site.forget();
}

#[test]
fn what_the_log_does_not_say_ends_the_flow() {
    let Some(postgres) = shared() else { return };
    for (statement, why) in [
        ("TRUNCATE TABLE {t}", "its rows go without a change for each"),
        ("ALTER TABLE {t} REPLICA IDENTITY DEFAULT;\nUPDATE {t} SET n = 5", "before a change are not whole in the log"),
    ] {
        let site = Site::new(postgres, CHANGES, true);
        fill(&site, 10);
        let running = site.start();
        site.wait_for(10);
        site.say(statement);
        let failure = site.failure_of(running);
        assert!(failure.contains(why), "{failure}");
        site.forget();
    }
    let site = Site::new(postgres, CHANGES, true);
    site.say("ALTER TABLE {t} REPLICA IDENTITY DEFAULT");
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains("REPLICA IDENTITY FULL"), "{failure}");
}

#[test]
fn a_slot_that_is_gone_ends_the_flow() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, CHANGES, true);
    fill(&site, 10);
    let running = site.start();
    site.wait_for(10);
    running.stop();
    site.forget();
    site.say("INSERT INTO {t} VALUES (50, 0, 'x')");
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains("is gone, so that changes behind"), "{failure}");
    site.say(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", site.slot()));
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains("somebody else has read the log"), "{failure}");
    site.forget();
}

/// Without state, nothing is left on the server behind the run.
#[test]
fn a_run_without_state_leaves_no_slot() {
    let Some(postgres) = shared() else { return };
    let site = Site::new(postgres, CHANGES, true);
    site.edit("    rows = 1000\n    every = \"100ms\"\n", "");
    fill(&site, 10);
    let running = Running::start(site.command(&[]).stdout(Stdio::piped()));
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE temporary AND active";
    postgres.await_number(slots, 1);
    running.stop();
    postgres.await_number(slots, 0);
    assert_eq!(
        postgres.rows(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", site.slot())),
        ["0"]
    );
}
