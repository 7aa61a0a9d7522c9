//! What must be read of tables: rows that are new, and rows that others name.

use serde_json::Value;

use super::{Server, TableSite};
use crate::site::Site as _;

/// Numbers, with what the table says of them.
const LOOKED_UP: &str = r#"
    [input.numbers]
    type = "generate"
    rows = 20000
    columns = { number = "row % 500" }
    [processor.named]
    type = "NODES_lookup"
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

/// The rows of a query that have come since it was asked last.
const NEW: &str = r#"
    [input.rows]
    type = "NODES_query"
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

/// Each row has what the table says of its number, or null.
pub fn rows_are_looked_up<S: Server>(server: &S) {
    let site = TableSite::new(server, LOOKED_UP, true);
    site.fill(400);
    site.finish(&[]);
    let rows = site.rows();
    assert_eq!(rows.len(), 20_000);
    for row in rows {
        let number = row["number"].as_i64().unwrap();
        let expected = if number < 400 { Value::from(format!("first {number}")) } else { Value::Null };
        assert_eq!(row.get("text").cloned().unwrap_or_default(), expected, "{row}");
    }
}

/// Each run reads the rows that have come since the one before.
pub fn rows_that_are_new_are_read_run_by_run<S: Server>(server: &S) {
    let site = TableSite::new(server, NEW, true);
    let mut expected = Vec::new();
    for round in 0..3 {
        let ids = round * 100..(round + 1) * 100;
        let values: Vec<_> = ids.clone().map(|id| format!("({id}, {}, NULL)", id % 7)).collect();
        site.say(&format!("INSERT INTO {{t}} VALUES {}", values.join(",")));
        expected.extend(ids.filter(|id| id % 7 < 6));
        site.finish(&["--state", "state"]);
        assert_eq!(site.ids(), expected, "round {round}");
    }
}
