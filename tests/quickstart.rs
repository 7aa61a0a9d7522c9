//! The newcomer's first command, on the real data.

use crate::millstream::{Workshop, project};

#[test]
fn the_quickstart_learns_from_real_flights() {
    let workshop = Workshop::new();
    let flow = project().join("flows/quickstart.toml");
    let ran = workshop.run_json(&[flow.to_str().unwrap()]);

    assert_eq!(ran["status"], "done");
    assert_eq!(ran["nodes"]["flights"]["rows_in"], 336_776);
    assert_eq!(ran["nodes"]["weather"]["rows_in"], 26_115);
    assert_eq!(ran["nodes"]["with_weather"]["rows_out"]["main"], 336_776, "every flight stays, once");
    let sorted = &ran["nodes"]["sorted"]["rows_out"];
    let count = |port: &str| sorted[port].as_u64().unwrap();
    assert_eq!(count("no_weather") + count("arrived") + count("unmatched"), 336_776);
    assert_eq!(ran["nodes"]["predictions"]["rows_in"].as_u64().unwrap(), count("unmatched"));
    assert_eq!(ran["nodes"]["rejected"]["rows_in"].as_u64().unwrap(), count("no_weather"));

    let model = &ran["models"]["late"];
    let learned = model["rows"].as_f64().unwrap();
    assert!((learned / count("arrived") as f64 - 0.8).abs() < 0.005, "{learned} rows are no four fifths");
    let metric = |of: &str, name: &str| model[of][name].as_f64().unwrap();
    let majority = model["baselines"]["majority"]["log_loss"].as_f64();
    // River's logistic regression with the same features but the weather reaches an AUC of 0.78.
    assert!(metric("metrics", "auc") > 0.76, "{model}");
    assert!((metric("metrics", "auc") - metric("held_out", "auc")).abs() < 0.02, "{model}");
    assert!(majority.is_none_or(|majority| metric("metrics", "log_loss") < majority), "{model}");

    let version = workshop.list("models/late/versions");
    assert_eq!(version, ["00000001"]);
    assert_eq!(workshop.read("out/quickstart/rejected.ndjson").lines().count() as u64, count("no_weather"));
    assert_eq!(workshop.list("out/quickstart"), ["predictions.parquet", "rejected.ndjson"], "no part files are left");
}
