//! What must become of the changes of a table that a flow follows.

use std::collections::BTreeSet;

use millstream_testkit::await_progress;

use super::{Server, TableSite};
use crate::millstream::Running;
use crate::site::Site as _;

/// Changes of the table, as files of NDJSON.
pub const CHANGES: &str = r#"
    [input.shop]
    type = "NODES_changes"
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

/// In place of the files: a table that follows the other one.
const COPY: &str = r#"
    [output.copy]
    type = "NODES"
    from = "shop.rows"
    connection = "shop"
    table = "${TABLE}_copy"
    key = ["id"]
    op = "op"
    create_table = true
"#;

/// A flow that has read the first rows of a table, and follows it.
pub fn following<S: Server>(server: &S, rows: usize) -> (TableSite<'_, S>, Running) {
    let site = TableSite::new(server, CHANGES, true);
    site.fill(rows);
    let running = site.start();
    site.wait_for(rows);
    (site, running)
}

/// Rows that are there, and changes from then on, are the table, though it changes while it is read.
pub fn tables_are_read_while_they_change<S: Server>(server: &S) {
    let site = TableSite::new(server, CHANGES, true);
    site.fill(2000);
    let running = site.while_changing(|| {
        let running = site.start();
        site.wait_for(3000);
        running
    });
    site.wait_until_even();
    running.stop();
    let ops: BTreeSet<_> = site.rows().iter().map(|row| row["op"].to_string()).collect();
    assert_eq!(ops.len(), 4, "{ops:?}");
    site.forget();
}

/// Changes count once, however often the flow and the server are killed.
pub fn once_when_both_are_killed<S: Server>(server: &S) {
    let site = TableSite::new(server, CHANGES, true);
    site.fill(2000);
    site.while_changing(|| site.kill_again_and_again(8, |_| ()));
    let running = site.start();
    site.wait_until_even();
    running.stop();
}

/// The changes of one table make another one the same.
pub fn a_table_follows_another<S: Server>(server: &S) {
    let flow = CHANGES.split("[output.out]").next().unwrap().to_owned() + COPY;
    let site = TableSite::new(server, &flow, true);
    site.edit("chunk_rows = 100", "chunk_rows = 100\n    metadata = { op = \"op\" }");
    site.fill(1000);
    let copy = format!("{}_copy", site.table);
    let running = site.while_changing(|| {
        let running = site.start();
        await_progress(|| {
            let copies = format!("SELECT COUNT(*) FROM information_schema.tables WHERE table_name = '{copy}'");
            let changed = "SELECT COUNT(*) FROM {t} WHERE text LIKE 'ä%'";
            match (site.number(&copies), site.number(changed)) {
                (1.., 300..) => Ok(()),
                (there, changed) => Err((there, changed.min(300))),
            }
        });
        running
    });
    let rows = server.table(&site.table);
    await_progress(|| {
        let copied = server.table(&copy);
        if copied == rows { Ok(()) } else { Err(super::difference(&copied, &rows)) }
    });
    running.stop();
    site.forget();
}

/// A column that goes ends the flow, unless that is not to matter: then it is null, and there are so many changes.
pub fn a_column_goes<S: Server>(site: &TableSite<'_, S>, running: Running, changes: usize) {
    site.say("ALTER TABLE {t} DROP COLUMN text;\nINSERT INTO {t} (id, n) VALUES (22, 1)");
    let failure = site.failure_of(running);
    assert!(failure.contains("has no column `text` any more"), "{failure}");
    site.edit("chunk_rows = 100", "chunk_rows = 100\n    on_schema_change = \"ignore\"");
    let running = site.start();
    site.wait_for(changes);
    running.stop();
    let last = site.rows().pop().unwrap();
    assert!(last["id"] == 22 && last["text"].is_null(), "{last}");
    site.forget();
}

/// A flow that is started again goes on where its state says, and misses nothing of what has come meanwhile.
pub fn the_state_says_where_to_go_on<S: Server>(server: &S) {
    let site = TableSite::new(server, CHANGES, true);
    site.edit("chunk_rows = 100", "start = \"latest\"");
    site.fill(100);
    let running = site.start();
    let mut updates = 0;
    // What came before it has begun is none of its business.
    await_progress(|| {
        site.say("UPDATE {t} SET n = n + 1 WHERE id = 1");
        updates += 1;
        if site.rows().is_empty() { Err("no update is seen") } else { Ok(()) }
    });
    running.stop();
    site.say("UPDATE {t} SET n = 100 WHERE id = 50");
    let running = site.start();
    await_progress(|| {
        let changes = site.rows();
        if changes.last().is_some_and(|last| last["id"] == 50) { Ok(()) } else { Err(changes.len()) }
    });
    running.stop();
    let changes = site.rows();
    let (last, former) = changes.split_last().unwrap();
    assert!(last["op"] == "u" && last["n"] == 100, "{last}");
    let seen: Vec<_> = former.iter().map(|change| change["n"].as_i64().unwrap()).collect();
    assert_eq!(seen, (seen[0]..=1 + updates).collect::<Vec<_>>(), "each update since the first that was seen, once");
    site.forget();
}
