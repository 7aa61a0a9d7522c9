//! Changes of tables of PostgreSQL, read from its log.

use std::process::Stdio;

use millstream_testkit::{Postgres, await_progress};

use super::{shared, slot_of};
use crate::databases::TableSite;
use crate::databases::changes::{self, CHANGES, following};
use crate::millstream::Running;
use crate::site::Site as _;

#[test]
fn tables_are_read_while_they_change() {
    let Some(postgres) = shared() else { return };
    changes::tables_are_read_while_they_change(postgres);
}

#[test]
fn changes_count_once_when_the_flow_and_the_server_are_killed() {
    let Some(postgres) = Postgres::start() else { return };
    changes::once_when_both_are_killed(&postgres);
}

#[test]
fn a_table_follows_another() {
    let Some(postgres) = shared() else { return };
    changes::a_table_follows_another(postgres);
}

#[test]
fn the_state_says_where_to_go_on() {
    let Some(postgres) = shared() else { return };
    changes::the_state_says_where_to_go_on(postgres);
}

#[test]
fn changes_count_once_over_connections_that_are_cut() {
    let Some(postgres) = shared() else { return };
    let site = TableSite::new(postgres, CHANGES, true);
    site.fill(2000);
    let cut = format!(
        "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE slot_name = '{}'",
        slot_of(&site.table)
    );
    let running = site.while_changing(|| {
        let running = site.start();
        for _ in 0..6 {
            // So that something has come between two cuts.
            let changes = site.rows().len();
            site.wait_for(changes + 1);
            await_progress(|| if site.number(&cut) == 0 { Err("there is nobody to cut off") } else { Ok(()) });
        }
        running
    });
    site.wait_until_even();
    running.stop();
    site.forget();
}

/// A transaction that is larger than a page, of which the flow dies in the middle.
#[test]
fn a_large_transaction_is_read_in_pieces() {
    let Some(postgres) = shared() else { return };
    let site = TableSite::new(postgres, CHANGES, true);
    site.edit("chunk_rows = 100", "start = \"latest\"");
    let running = site.start();
    let slot = slot_of(&site.table);
    let active = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
    postgres.await_number(&active, 1);
    site.say("INSERT INTO {t} SELECT id, id % 7, 'first ' || id FROM generate_series(0, 59999) AS id");
    site.wait_for(5000);
    drop(running);
    assert!(site.rows().len() < 60_000, "it was killed too late");
    let running = site.start();
    site.wait_until_even();
    running.stop();
    let ids: Vec<_> = site.rows().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..60_000).collect::<Vec<_>>());
    site.forget();
}

#[test]
fn the_server_keeps_its_log_no_longer_than_needed() {
    let Some(postgres) = shared() else { return };
    let (site, running) = following(postgres, 10);
    let place = site.ask("SELECT pg_current_wal_lsn()")[0].clone();
    let slot = slot_of(&site.table);
    // Also where the tables of the flow don't change any more.
    postgres.await_number(
        &format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND confirmed_flush_lsn >= '{place}'"
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
    let (site, running) = following(postgres, 10);
    site.say("ALTER TABLE {t} ADD COLUMN other int;\nINSERT INTO {t} (id, n, text) VALUES (20, 1, 'a');\nALTER TABLE {t} ALTER n TYPE bigint");
    // A large value that is stored apart, and has not changed.
    site.say("ALTER TABLE {t} ALTER text TYPE text;\nALTER TABLE {t} ALTER text SET STORAGE EXTERNAL");
    site.say("INSERT INTO {t} (id, n, text) VALUES (21, 1, repeat('b', 20000));\nUPDATE {t} SET n = 2 WHERE id = 21");
    site.wait_until_even();
    changes::a_column_goes(&site, running, 14);
}

#[test]
fn what_the_log_does_not_say_ends_the_flow() {
    let Some(postgres) = shared() else { return };
    for (statement, why) in [
        ("TRUNCATE TABLE {t}", "its rows go without a change for each"),
        ("ALTER TABLE {t} REPLICA IDENTITY DEFAULT;\nUPDATE {t} SET n = 5", "before a change are not whole in the log"),
    ] {
        let (site, running) = following(postgres, 10);
        site.say(statement);
        let failure = site.failure_of(running);
        assert!(failure.contains(why), "{failure}");
        site.forget();
    }
    let site = TableSite::new(postgres, CHANGES, true);
    site.say("ALTER TABLE {t} REPLICA IDENTITY DEFAULT");
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains("REPLICA IDENTITY FULL"), "{failure}");
}

#[test]
fn a_slot_that_is_gone_ends_the_flow() {
    let Some(postgres) = shared() else { return };
    let (site, running) = following(postgres, 10);
    running.stop();
    site.forget();
    site.say("INSERT INTO {t} VALUES (50, 0, 'x')");
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains("is gone, so that changes behind"), "{failure}");
    site.say(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", slot_of(&site.table)));
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains("somebody else has read the log"), "{failure}");
    site.forget();
}

/// Without state, nothing is left on the server behind the run.
#[test]
fn a_run_without_state_leaves_no_slot() {
    let Some(postgres) = shared() else { return };
    let site = TableSite::new(postgres, CHANGES, true);
    site.edit("    rows = 1000\n    every = \"100ms\"\n", "");
    site.fill(10);
    let running = Running::start(site.command(&[]).stdout(Stdio::piped()));
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE temporary AND active";
    postgres.await_number(slots, 1);
    running.stop();
    postgres.await_number(slots, 0);
    let left = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", slot_of(&site.table));
    assert_eq!(site.number(&left), 0);
}
