//! What must become of rows that a flow writes to a table.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Server, TableSite, beside};
use crate::site::Site as _;

/// Numbers into the table, without a key, so that one that was written twice is there twice.
pub const NUMBERS: &str = r#"
    [input.numbers]
    type = "generate"
    rows = 60000
    columns = { id = "row", n = "row % 1000", text = "concat('number ', cast(row as varchar))" }
    [output.table]
    type = "NODES"
    from = "numbers"
    connection = "shop"
    table = "${TABLE}"
    transaction_rows = 700
"#;

/// The table has all numbers, each once.
pub fn has_numbers<S: Server>(site: &TableSite<'_, S>, rows: usize) {
    let counts = site.ask(
        "SELECT COUNT(*), COUNT(DISTINCT id), MAX(id) - MIN(id) + 1, COUNT(CASE WHEN text = CONCAT('number ', id) THEN 1 END) FROM {t}",
    );
    assert_eq!(counts, [format!("{rows} {rows} {rows} {rows}")]);
}

/// Rows are written once, however often the flow and the server are killed.
pub fn once_when_both_are_killed<S: Server>(server: &S) {
    let site = TableSite::new(server, NUMBERS, false);
    site.edit("rows = 60000", "rows = 60000\n    rate = \"20000/s\"");
    site.kill_again_and_again(6, |_| ());
    site.finish(&["--state", "state"]);
    has_numbers(&site, 60_000);
}

/// Rows are written once, however often connections are cut. `cut` cuts those over which rows come just now, and says how many.
pub fn once_over_connections_that_are_cut<S: Server>(server: &S, cut: impl Fn(&TableSite<'_, S>) -> usize + Sync) {
    let site = TableSite::new(server, NUMBERS, false);
    let cuts = AtomicUsize::new(0);
    let cutting = |stop: &AtomicBool| {
        // Only if rows have come since the last one, so that the flow does come to its end; and only some, as connecting takes its time.
        let mut rows = 0;
        while !stop.load(Ordering::Relaxed) && cuts.load(Ordering::Relaxed) < 12 {
            let now = site.number("SELECT COUNT(*) FROM {t}");
            let some = if now > rows { cut(&site) } else { 0 };
            if some > 0 {
                cuts.fetch_add(some, Ordering::Relaxed);
                rows = now;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    beside(&[&cutting], || site.finish(&["--state", "state"]));
    assert!(cuts.load(Ordering::Relaxed) > 0, "none was cut");
    has_numbers(&site, 60_000);
}

/// A table of 60,000 rows, all of which the flow writes in one transaction, from one end to the other.
pub fn of_one_transaction<S: Server>(server: &S) -> TableSite<'_, S> {
    let site = TableSite::new(server, NUMBERS, true);
    site.edit("table = \"${TABLE}\"", "table = \"${TABLE}\"\n    key = [\"id\"]");
    site.edit("transaction_rows = 700", "transaction_rows = 60000");
    site.fill(60_000);
    site
}

/// Updates of rows all over the table, which begin at its other end.
pub fn from_the_other_end(table: &str) -> Vec<String> {
    let update =
        |id: u64| format!("UPDATE {table} SET text = 'x' WHERE id BETWEEN {} AND {}", id * 1000, id * 1000 + 3);
    (1..60).rev().map(update).collect()
}

/// Rows that the server refuses are kept apart, and the flow goes on with the same rows when it is told to do so.
pub fn refused_rows_are_kept_apart<S: Server>(server: &S, duplicate: &str) {
    let site = TableSite::new(server, NUMBERS, true);
    site.edit("rows = 60000", "rows = 3000");
    site.say(
        "INSERT INTO {t} VALUES (77, 0, 'was there'), (2500, 0, 'was there');\nALTER TABLE {t} ADD CHECK (id <> 1234)",
    );
    let failure = site.failure(&["--state", "state"]);
    assert!(failure.contains("does not take a row that counts: ") && failure.contains(duplicate), "{failure}");
    site.edit("table = \"${TABLE}\"", "table = \"${TABLE}\"\n    refused_table = \"${TABLE}_refused\"");
    site.finish(&["--state", "state"]);
    let refused = site.ask("SELECT row_json FROM {t}_refused ORDER BY id");
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].contains("\"id\":77") && refused[1].contains("\"id\":1234"), "{refused:?}");
    assert_eq!(site.number("SELECT COUNT(*) FROM {t}"), 2999, "two were there, and three were refused");
}

/// A run without state says how many rows it has written, which it does at its end, beside those that were refused.
pub fn what_was_written_is_reported<S: Server>(server: &S) {
    let site = TableSite::new(server, NUMBERS, true);
    site.edit("rows = 60000", "rows = 3000");
    site.edit("table = \"${TABLE}\"", "table = \"${TABLE}\"\n    refused_table = \"${TABLE}_refused\"");
    site.say("ALTER TABLE {t} ADD CHECK (id <> 1234)");
    let ran = site.finish(&[]);
    assert_eq!(site.number("SELECT COUNT(*) FROM {t}"), 2999);
    assert_eq!(ran.json()["reports"]["table"]["written"], 2999);
}
