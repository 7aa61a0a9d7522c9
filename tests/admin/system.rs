//! The daemon itself: its settings, metrics and kinds of problems.

use serde_json::{Value, json};

use crate::daemons::{Daemon, JSON, NEW, append, follows, wait_for_rows};
use crate::millstream::Workshop;

#[test]
fn what_has_changed_is_looked_at_when_somebody_asks() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    let reload = || workshop.run(&["reload", "--wait"]);
    assert_eq!((reload().code, reload().stdout.as_str()), (0, ""));
    workshop.write("flows/wrong.toml", "input = 3");
    let wrong = daemon.ask("POST", "/api/v1/system/reload", &[JSON], "{}").is(200).body;
    // The daemon looks by itself as well, and may have been first.
    assert!(wrong["flows"].as_array().unwrap().iter().all(|file| file["outcome"] == "refused"), "{wrong}");
    assert_eq!((&wrong["certificate"], &wrong["settings"]), (&json!(true), &Value::Null));
    append(&workshop, "r", 0..5);
    workshop.write("flows/r.toml", &follows("r").replace("in/r", "../in/r"));
    assert_eq!(reload().code, 0);
    daemon.wait_until("r", |flow| flow["state"] == "running");
    wait_for_rows(&workshop, "r", 5);
    daemon.stop();
}

#[test]
fn every_kind_of_problem_has_a_page_and_metrics_can_be_read() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "h", 0..10);
    daemon.put("h", &follows("h"), &[NEW]).is(201);
    wait_for_rows(&workshop, "h", 10);
    let missing = daemon.ask("GET", "/api/v1/nothing", &[], "").refused(404, "not-found").body;
    let page = daemon.ask("GET", missing["type"].as_str().unwrap(), &[], "").is(200);
    assert!(page.text.starts_with("not-found (404)\n"), "{}", page.text);
    daemon.ask("PATCH", "/api/v1/flows", &[JSON], "{}").refused(405, "method-not-allowed");
    daemon.ask("GET", "/api/v1/flows?limits=3", &[], "").refused(400, "bad-request");
    daemon.ask("POST", "/api/v1/flows/h/stop", &[JSON], "{\"deadline\": 3}").refused(400, "bad-request");
    daemon.ask("POST", "/api/v1/flows/h/stop", &[JSON], "[]").refused(400, "bad-request");
    daemon
        .ask("POST", "/api/v1/flows/h/stop", &[("content-type", "text/plain")], "{}")
        .refused(415, "wrong-content-type");
    let long = format!("#{}", "x".repeat(1 << 20));
    daemon.put("h", &long, &[("if-match", "\"1\"")]).refused(413, "too-large");
    let metrics = daemon.ask("GET", "/metrics", &[], "").is(200).text;
    assert!(metrics.contains("millstream_flow_state{flow=\"h\",state=\"running\"} 1.0"), "{metrics}");
    let levels =
        daemon.ask("PUT", "/api/v1/logging", &[JSON], "{\"levels\": {\"millstream_engine\": \"debug\"}, \"for_s\": 5}");
    assert_eq!(levels.is(200).body["levels"]["millstream_engine"], "debug");
    let types = daemon.get("/api/v1/node_types/file");
    assert!(types["roles"] == json!(["input", "output"]) && types["schemas"][0].is_object(), "{types}");
    assert!(daemon.get("/api/v1/system")["memory_bytes"].as_u64() > Some(1 << 20));
    daemon.stop();
}

#[test]
fn each_setting_says_where_it_comes_from() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    let settings = daemon.get("/api/v1/system/config")["items"].clone();
    let of = |key: &str| settings.as_array().unwrap().iter().find(|one| one["key"] == key).unwrap().clone();
    assert_eq!(of("stop_within"), json!({ "key": "stop_within", "value": "60s", "origin": "default" }));
    let expected = json!({ "key": "admin.rate", "value": "10000/s", "origin": "MILLSTREAM__ADMIN__RATE" });
    assert_eq!(of("admin.rate"), expected);
    daemon.stop();
}
