//! How fast the other nodes of event time are, and those that sum up: sessions, `join` of two streams, `over`, `aggregate`, `sort`
//! and `dedup`.

use millstream_core::Result;
use serde_json::json;

use crate::measurement::{Goal, Measurement, median};
use crate::windows::throughput;

const ROWS: u64 = 2_000_000;
const RUNS: usize = 3;

/// Each over rows of 1,000 keys, of which each comes every 0.6 s.
pub fn run() -> Result<Vec<Measurement>> {
    let sums = json!({ "n": "count(*)", "mean": "avg(v)", "most": "max(v)" });
    let nodes = [
        ("sessions, 3 aggregates", "window", json!({ "gap": "500ms", "keys": ["k"], "select": sums }), &["from"][..]),
        (
            "join within 1 s, three matches a row",
            "join",
            json!({ "on": ["k"], "take": [], "within": "1s" }),
            &["from", "with"],
        ),
        (
            "over the last minute, 100 rows of a key, 3 aggregates",
            "over",
            json!({ "keys": ["k"], "last": "1m", "select": sums }),
            &["from"],
        ),
        (
            "over the last minute, 100,000 rows of one key, 3 aggregates",
            "over",
            json!({ "last": "1m", "select": sums }),
            &["from"],
        ),
        ("aggregate, 1,000 groups, 3 aggregates", "aggregate", json!({ "keys": ["k"], "select": sums }), &["from"]),
        ("sort by time", "sort", json!({ "by": ["at"] }), &["from"]),
        ("dedup by key within 1 s", "dedup", json!({ "keys": ["k"], "within": "1s" }), &["from"]),
    ];
    let measure = |(name, kind, settings, inputs): &(&str, &str, serde_json::Value, &[&str])| {
        let rates = (0..RUNS).map(|_| throughput(kind, settings.clone(), inputs, ROWS)).collect::<Result<Vec<_>>>()?;
        Ok(Measurement::new(format!("time: {name}, one thread"), "rows/s", median(rates), Goal::Shown))
    };
    nodes.iter().map(measure).collect()
}
