//! Rows of tables of PostgreSQL.

use millstream_testkit::Postgres;

use super::shared;
use crate::databases::{TableSite, reading};
use crate::site::Site as _;

#[test]
fn rows_are_looked_up() {
    let Some(postgres) = shared() else { return };
    reading::rows_are_looked_up(postgres);
}

#[test]
fn rows_that_are_new_are_read_run_by_run() {
    let Some(postgres) = shared() else { return };
    reading::rows_that_are_new_are_read_run_by_run(postgres);
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
    let site = TableSite::new(postgres, flow, true);
    site.fill(2000);
    site.finish(&[]);
    assert_eq!(site.rows().len(), 1999);
    let refused = site.refused();
    assert!(refused.contains("invalid input syntax for type bigint"), "{refused}");
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
    let site = TableSite::new(&postgres, flow, true);
    site.kill_again_and_again(6, |round| {
        let (first, last) = (round * 2000, round * 2000 + 1999);
        site.say(&format!("INSERT INTO {{t}} SELECT id, 0, 'text' FROM generate_series({first}, {last}) AS id"));
    });
    let running = site.start();
    site.wait_for(12_000);
    running.stop();
    let ids: Vec<_> = site.rows().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..12_000).collect::<Vec<_>>());
}
