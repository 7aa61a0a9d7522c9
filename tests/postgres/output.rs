//! Rows into tables of PostgreSQL.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use millstream_testkit::{Postgres, await_progress};
use tokio_postgres::error::SqlState;

use super::shared;
use crate::databases::output::{self, NUMBERS, from_the_other_end, has_numbers, of_one_transaction};
use crate::databases::{TableSite, beside, who_may_not_come_is_told};
use crate::millstream::Ran;
use crate::site::Site as _;

#[test]
fn rows_are_written_once_when_the_flow_dies_at_any_step() {
    let Some(postgres) = shared() else { return };
    let points = millstream_store::crash::POINTS.iter();
    for point in points.filter(|point| point.starts_with("postgres-") || point.starts_with("spool-")) {
        let site = TableSite::new(postgres, NUMBERS, false);
        site.edit("rows = 60000", "rows = 6000");
        let died = [1, 2, 5].map(|occurrence| site.crash(&format!("{point}:{occurrence}")));
        assert!(died.contains(&true), "nobody comes by {point}");
        site.finish(&["--state", "state"]);
        has_numbers(&site, 6000);
    }
}

#[test]
fn rows_are_written_once_when_the_flow_and_the_server_are_killed() {
    // One of its own, since it is killed.
    let Some(postgres) = Postgres::start() else { return };
    output::once_when_both_are_killed(&postgres);
}

#[test]
fn rows_are_written_once_over_connections_that_are_cut() {
    let Some(postgres) = shared() else { return };
    output::once_over_connections_that_are_cut(postgres, |site| {
        site.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'millstream {t}.table' AND \
             (query LIKE 'SAVEPOINT%' OR query LIKE 'COPY%' OR query = 'COMMIT')",
        )
    });
}

#[test]
fn deadlocks_are_tried_again() {
    // One of its own, since it counts the deadlocks of all.
    let Some(postgres) = Postgres::start() else { return };
    let site = of_one_transaction(&postgres);
    let deadlocks = || site.number("SELECT deadlocks FROM pg_stat_database WHERE datname = 'shop'");
    let (before, own) = (deadlocks(), AtomicUsize::new(0));
    // Those that the flow was the victim of.
    let of_flow = || (deadlocks() - before).saturating_sub(own.load(Ordering::Relaxed));
    let opponent = |stop: &AtomicBool| {
        // Who does that for ever, and at once again, leaves the flow no way through.
        while !stop.load(Ordering::Relaxed) && of_flow() < 2 {
            let is_victim = postgres.with(async |client| {
                // It is the flow that finds out that both wait for each other, and then is the one who has to yield.
                let _ = client.batch_execute("SET deadlock_timeout = '10s'; BEGIN").await;
                for update in from_the_other_end(&site.table) {
                    if let Err(error) = client.batch_execute(&update).await {
                        return error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED);
                    }
                }
                let _ = client.batch_execute("COMMIT").await;
                false
            });
            own.fetch_add(usize::from(is_victim), Ordering::Relaxed);
        }
    };
    beside(&[&opponent], || site.finish(&["--state", "state"]));
    // The server counts them a little later.
    await_progress(|| if of_flow() == 0 { Err("there was no deadlock") } else { Ok(()) });
    assert_eq!(site.number("SELECT count(*) FROM {t} WHERE n = id % 1000"), 60_000);
}

#[test]
fn what_the_server_refuses_is_kept_apart() {
    let Some(postgres) = shared() else { return };
    output::refused_rows_are_kept_apart(postgres, "Key (id)=(77) already exists");
}

#[test]
fn what_was_written_is_reported() {
    let Some(postgres) = shared() else { return };
    output::what_was_written_is_reported(postgres);
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
    let site = TableSite::new(postgres, flow, true);
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
    site.finish(&["--state", "state"]);
    assert_eq!(site.ask("SELECT id FROM {t} ORDER BY id"), ["1", "5"]);
    let refused = site.refused();
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
    let site = TableSite::new(postgres, flow, true);
    site.finish(&[]);
    let rows = site.ask("SELECT * FROM {t}_all ORDER BY id LIMIT 2");
    assert_eq!(
        rows,
        [
            "0 f -2 0 18446744073709551615 0 0 0.00000 O'Hara\\ 0 \\xc3a430 1969-12-31 2026-01-31 12:00:00.000001+00 {0,NULL,1}",
            "1 t -1 1 18446744073709551615 0.25 NaN -12345.67890 NULL \\xc3a431 1969-12-31 2026-01-31 12:00:00.000001+00 NULL",
        ]
    );
    // Without a key they are copied into the table itself.
    site.edit("key = [\"id\"]", "");
    site.say("DROP TABLE {t}_all");
    site.finish(&[]);
    assert_eq!(site.ask("SELECT * FROM {t}_all ORDER BY id LIMIT 2"), rows);
    site.edit("create_table", "key = [\"id\"]\n        create_table");
    // They are cast to what a table has, too.
    site.say(
        "DROP TABLE {t}_all;\nCREATE TABLE {t}_all (id int PRIMARY KEY, truth text, small numeric(5,1), middle varchar(20), large float8, \
         ratio float8, double text, amount numeric(10,2), word json, bytes bytea, day timestamptz, at timestamp, many text[])",
    );
    site.edit("concat('O''Hara\\\\ ', cast(row as varchar))", "concat('[', cast(row as varchar), ']')");
    site.finish(&[]);
    let rows = site.ask("SELECT * FROM {t}_all ORDER BY id DESC LIMIT 1");
    assert_eq!(
        rows,
        [
            "2 false 0.0 2 1.8446744073709552e+19 0.5 2e+300 -24691.36 [2] \\xc3a432 1969-12-31 00:00:00+00 2026-01-31 12:00:00.000001 {2,NULL,3}"
        ]
    );
}

#[test]
fn rows_are_copied_into_the_table_itself_where_nothing_becomes_of_them() {
    let Some(postgres) = shared() else { return };
    let flow = r#"
        [input.rows]
        type = "generate"
        rows = 3
        columns = { id = "row", n = "row", text = "cast(row as varchar)" }
        [output.table]
        type = "postgres"
        from = "rows"
        connection = "shop"
        table = "${TABLE}_here"
    "#;
    let columns = "(id int8, n int8, text varchar(5), how text DEFAULT left(current_query(), 4))";
    let made = format!("CREATE TABLE {{t}}_here {columns}");
    for (prepare, how) in [
        (made.clone(), "COPY"),
        (made.replace("n int8", "n int4"), "SAVE"),
        (format!("{made}; ALTER TABLE {{t}}_here ENABLE ROW LEVEL SECURITY"), "SAVE"),
        (format!("CREATE TABLE {{t}}_there {columns}; CREATE VIEW {{t}}_here AS SELECT * FROM {{t}}_there"), "SAVE"),
        (
            format!(
                "CREATE TABLE {{t}}_others {columns}; {made}; \
                 CREATE RULE also AS ON INSERT TO {{t}}_here DO ALSO INSERT INTO {{t}}_others VALUES (NEW.id)"
            ),
            "SAVE",
        ),
    ] {
        let site = TableSite::new(postgres, flow, false);
        site.say(&prepare);
        site.finish(&["--state", "state"]);
        let rows = site.ask("SELECT id, n, text, how FROM {t}_here ORDER BY id");
        assert_eq!(rows, [0, 1, 2].map(|id| format!("{id} {id} {id} {how}")), "{prepare}");
    }
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
    let site = TableSite::new(postgres, flow, true);
    site.fill(5000);
    site.finish(&["--state", "state"]);
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
    assert_eq!(site.ask("SELECT id, n, text FROM {t} ORDER BY id"), expected);
}

#[test]
fn a_run_that_was_thought_dead_writes_nothing_more() {
    let Some(postgres) = shared() else { return };
    let site = TableSite::new(postgres, NUMBERS, false);
    site.edit("rows = 60000", "rows = 60000\n    rate = \"20000/s\"");
    let former = site.start();
    postgres.await_number(&format!("SELECT least(count(*), 1) FROM {}", site.table), 1);
    // As if another run had taken over.
    site.say("UPDATE millstream_epochs SET generation = generation + 1000 WHERE flow = '{t}'");
    let message = site.failure_of(former);
    assert!(message.contains("another run of the flow has taken the output over"), "{message}");
}

#[test]
fn who_may_not_come() {
    let Some(postgres) = shared() else { return };
    who_may_not_come_is_told(postgres, NUMBERS, "password authentication failed for user \"alice\"");
}

#[test]
fn what_is_not_there_has_a_nearest_name() {
    let Some(postgres) = shared() else { return };
    let site = TableSite::new(postgres, NUMBERS, true);
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
fn the_flow_of_the_library_keeps_a_table() {
    let Some(postgres) = shared() else { return };
    let site = TableSite::new(postgres, "", true);
    let flow = std::fs::read_to_string(crate::millstream::project().join("flows/orders_to_postgres.toml")).unwrap();
    site.workshop.write("flow.toml", &flow);
    let orders = |name: &str, rows: &str| {
        std::fs::create_dir_all(site.workshop.path("in/orders")).unwrap();
        site.workshop.write(&format!("in/orders/{name}.csv"), &format!("order,customer,amount,status\n{rows}"));
        let mut command = site.command(&["--state", "state"]);
        command.env("POSTGRES_USER", "alice");
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        site.ask("SELECT \"order\", amount, status FROM orders ORDER BY 1")
    };
    assert_eq!(orders("1", "1,7,12.50,paid\n2,7,3.00,\n"), ["1 12.50 paid", "2 3.00 unknown"]);
    assert_eq!(orders("2", "2,7,3.00,sent\n3,8,1.00,paid\n"), ["1 12.50 paid", "2 3.00 sent", "3 1.00 paid"]);
}
