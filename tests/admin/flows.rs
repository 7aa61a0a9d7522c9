//! Flows that are made, changed, held and taken away over the API.

use serde_json::{Value, json};

use crate::daemons::{Daemon, JSON, NEW, TOML, WAIT, append, follows, ids, wait_for_rows};
use crate::millstream::Workshop;

#[test]
fn flows_are_made_changed_and_taken_away_over_the_api() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    assert_eq!(daemon.ask("GET", "/livez", &[], "").is(200).text, "alive\n");
    assert_eq!(daemon.get("/readyz")["ready"], true);
    append(&workshop, "a", 0..10);
    let text = follows("a");

    daemon.put("a", &text, &[]).refused(428, "precondition-required");
    daemon.put("a", &text, &[("if-match", "\"1\"")]).refused(412, "revision-mismatch");
    let wrong = daemon.put("a", &text.replace("SELECT id", "SELECT ids"), &[NEW]).refused(422, "flow-does-not-check");
    let error = &wrong.body["errors"][0];
    assert!(error["line"] == 13 && error["message"].as_str().unwrap().contains("there is no column `ids`"), "{error}");
    daemon.put("other", &format!("flow.name = 'a'\n{text}"), &[NEW]).refused(400, "bad-request");
    daemon.put("No-Name", &text, &[NEW]).refused(400, "bad-request");

    let dry = daemon.ask("PUT", "/api/v1/flows/a?dry_run=true", &[TOML, NEW], &text).is(200).body;
    assert!(dry["revision"].is_null() && dry["nodes"][2]["effect"] == "added", "{dry}");
    daemon.ask("GET", "/api/v1/flows/a", &[], "").refused(404, "not-found");
    let path = format!("/api/v1/flows/a?message=begin&plan={}", dry["plan"].as_str().unwrap());
    let made = daemon.ask("PUT", &path, &[TOML, NEW, WAIT], &text).is(201);
    assert_eq!(made.header("etag"), Some("\"1\""));
    wait_for_rows(&workshop, "a", 10);
    daemon.put("a", &text, &[NEW]).refused(412, "revision-mismatch");

    let other = text.replace("SELECT id", "SELECT id + 100 AS id");
    let stale = daemon.ask("PUT", "/api/v1/flows/a?plan=blake3:0", &[TOML, ("if-match", "\"1\"")], &other);
    stale.refused(412, "plan-stale");
    let changed = daemon.put("a", &other, &[("if-match", "\"1\"")]).is(200).body;
    assert_eq!((&changed["base"], &changed["revision"]), (&json!(1), &json!(2)));
    assert_eq!(changed["nodes"][1], json!({ "node": "same", "effect": "changed", "settings": ["query"] }));
    append(&workshop, "a", 10..20);
    wait_for_rows(&workshop, "a", 20);
    assert_eq!(ids(&workshop, "a"), (0..10).chain(110..120).collect::<Vec<_>>());

    let revisions = daemon.get("/api/v1/flows/a/revisions");
    assert!(revisions["items"][1]["message"] == "begin" && revisions["items"][0]["number"] == 2, "{revisions}");
    let source = daemon.ask("GET", "/api/v1/flows/a/revisions/1", &[], "").is(200);
    assert_eq!((source.header("content-type"), source.text.as_str()), (Some("application/toml"), text.as_str()));
    let diff = daemon.get("/api/v1/flows/a/revisions/2/diff");
    assert!(diff["text"].as_str().unwrap().contains("+        query = \"SELECT id + 100 AS id"), "{diff}");
    let back = daemon.ask("POST", "/api/v1/flows/a/rollback", &[JSON, WAIT], "{\"to\": 1}").is(200).body;
    assert_eq!((&back["state"], &back["result"]), (&json!("done"), &json!(3)));
    daemon.post("/api/v1/flows/a/rollback").refused(400, "bad-request");

    let graph = daemon.get("/api/v1/flows/a/graph");
    assert_eq!(graph["edges"][0]["id"], "rows.main>same", "{graph}");
    assert_eq!(daemon.get("/api/v1/flows/a/stats")["nodes"]["rows"]["rows_in"], 20);
    let gone = daemon.ask("DELETE", "/api/v1/flows/a", &[JSON, WAIT], "").is(200).body;
    assert_eq!(gone["state"], "done");
    daemon.ask("GET", "/api/v1/flows/a", &[], "").refused(404, "not-found");
    assert!(workshop.exists("state/a"), "its state stays");
    daemon.stop();
}

#[test]
fn a_change_that_fails_goes_back_and_says_why() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "b", 1..10);
    daemon.put("b", &follows("b"), &[NEW]).is(201);
    wait_for_rows(&workshop, "b", 9);
    // It checks, but can't be begun: a folder is where its file should be.
    std::fs::create_dir_all(workshop.path("out/taken.ndjson/x")).unwrap();
    let bad = follows("b")
        + "\n[output.taken]\ntype = \"file\"\nfrom = \"same\"\npath = \"out/taken.ndjson\"\nformat = \"ndjson\"\n";
    let change = daemon.put("b", &bad, &[("if-match", "\"1\"")]);
    let seen = daemon.wait_until("b", |flow| flow["operation"].is_null());
    if change.status == 200 {
        let operation = daemon.get(&format!("/api/v1/operations/{}", change.body["operation"]));
        assert_eq!(operation["state"], "failed", "{operation:#}");
    }
    assert_eq!((&seen["state"], &seen["running_revision"]), (&json!("running"), &json!(1)), "{seen:#}");
    append(&workshop, "b", 10..20);
    wait_for_rows(&workshop, "b", 19);
    assert_eq!(ids(&workshop, "b"), (1..20).collect::<Vec<_>>());
    daemon.stop();
}

#[test]
fn a_flow_that_is_changed_again_and_again_under_load_has_every_row_once() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "c", 0..100);
    daemon.put("c", &follows("c"), &[NEW]).is(201);
    for change in 1..=10 {
        append(&workshop, "c", change * 1000..change * 1000 + 500);
        let text = follows("c").replace("SELECT id", &format!("SELECT id + {} - {change} AS id", change));
        let tag = format!("\"{change}\"");
        daemon.put("c", &text, &[("if-match", &tag)]).is(200);
        append(&workshop, "c", change * 1000 + 500..change * 1000 + 600);
    }
    wait_for_rows(&workshop, "c", 6100);
    let expected: Vec<usize> = (0..100).chain((1..=10).flat_map(|change| change * 1000..change * 1000 + 600)).collect();
    assert_eq!(ids(&workshop, "c"), expected);
    daemon.stop();
}

#[test]
fn what_is_wanted_survives_a_kill() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    for name in ["runs", "stops"] {
        append(&workshop, name, 0..10);
        daemon.put(name, &follows(name), &[NEW]).is(201);
        wait_for_rows(&workshop, name, 10);
    }
    workshop.write("flows/file.toml", &follows("file").replace("in/file", "../in/file"));
    append(&workshop, "file", 0..10);
    wait_for_rows(&workshop, "file", 10);
    let stopped = daemon.post("/api/v1/flows/stops/stop").is(200).body;
    assert!(stopped["state"] == "done" && stopped["result"].as_u64() > Some(0), "{stopped}");
    daemon.kill();
    ["runs", "stops", "file"].iter().for_each(|name| append(&workshop, name, 10..20));
    let daemon = Daemon::start(&workshop);
    wait_for_rows(&workshop, "runs", 20);
    wait_for_rows(&workshop, "file", 20);
    assert_eq!(daemon.get("/api/v1/flows/stops")["state"], "stopped");
    assert_eq!(daemon.put("file", &follows("file"), &[("if-match", "\"1\"")]).status, 409);
    let operations = daemon.get("/api/v1/operations?flow=stops");
    assert!(operations["items"][0]["kind"] == "stop" && operations["items"][0]["state"] == "done", "{operations}");
    daemon.post("/api/v1/flows/stops/start").is(200);
    wait_for_rows(&workshop, "stops", 20);
    daemon.stop();
}

#[test]
fn a_flow_can_be_held_and_take_a_checkpoint_when_asked() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "held", 0..10);
    let text = follows("held").replace("checkpoint.interval = \"100ms\"", "checkpoint.interval = \"1h\"");
    daemon.put("held", &text, &[NEW]).is(201);
    daemon.wait_until("held", |flow| flow["rows"]["written"] == 10);
    let mut last = 0;
    // A file is whole at the first checkpoint that is 100 ms behind its first row.
    while ids(&workshop, "held").len() < 10 {
        let taken = daemon.post("/api/v1/flows/held/checkpoint").is(200).body["result"].as_u64().unwrap();
        assert!(taken > last, "{taken} behind {last}");
        last = taken;
    }
    daemon.post("/api/v1/flows/held/pause").is(200);
    let seen = daemon.wait_until("held", |flow| !flow["paused"].is_null());
    assert_eq!((&seen["state"], &seen["paused"]), (&json!("running"), &json!("somebody has paused it")));
    append(&workshop, "held", 10..20);
    daemon.post("/api/v1/flows/held/resume").is(200);
    daemon.wait_until("held", |flow| flow["rows"]["read"] == 20);
    daemon.post("/api/v1/flows/held/stop").is(200);
    wait_for_rows(&workshop, "held", 20);
    daemon.post("/api/v1/flows/held/checkpoint").refused(409, "not-running");
    daemon.stop();
}

#[test]
fn a_flow_is_drained_of_all_that_it_has_read() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "n", 0..300);
    // Behind the buffer rows leave slowly, and files are whole only at checkpoints, which nobody takes.
    let text = follows("n").replace("checkpoint.interval = \"100ms\"", "checkpoint.interval = \"1h\"").replace(
        "[output.kept]\n        type = \"file\"\n        from = \"same\"",
        "[processor.waiting]\ntype = \"buffer\"\nfrom = \"same\"\n[processor.slow]\ntype = \"rate_limit\"\nfrom = \"waiting\"\nrows = \"200/s\"\n\
         [output.kept]\ntype = \"file\"\nfrom = \"slow\"",
    );
    daemon.put("n", &text, &[NEW]).is(201);
    daemon.wait_until("n", |flow| flow["rows"]["read"] == 300);
    let drained = daemon.post("/api/v1/flows/n/drain").is(200).body;
    assert!(
        drained["state"] == "done" && drained["kind"] == "drain" && drained["result"].as_u64() > Some(0),
        "{drained:#}"
    );
    assert_eq!(ids(&workshop, "n").len(), 300);
    let seen = daemon.get("/api/v1/flows/n");
    assert_eq!(
        (&seen["state"], &seen["desired"], &seen["paused"]),
        (&json!("stopped"), &json!("stopped"), &Value::Null)
    );
    daemon.post("/api/v1/flows/n/drain").refused(409, "not-running");
    append(&workshop, "n", 300..310);
    daemon.post("/api/v1/flows/n/start").is(200);
    daemon.wait_until("n", |flow| flow["rows"]["read"] == 310 && flow["paused"].is_null());
    daemon.stop();
}

#[test]
fn a_flow_whose_target_is_down_is_not_drained_and_goes_on() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "o", 0..3);
    let sends = follows("o").split("[output.kept]").next().unwrap().to_owned()
        + "[output.sent]\ntype = \"http\"\nfrom = \"same\"\nurl = \"http://127.0.0.1:1\"\npath = \"rows\"\nformat = \"ndjson\"\non_error = \"fail\"\n";
    daemon.put("o", &sends, &[NEW]).is(201);
    daemon.wait_until("o", |flow| flow["health"] == "degraded");
    let drained = daemon.ask("POST", "/api/v1/flows/o/drain", &[JSON, WAIT], "{\"deadline_s\": 1}").is(200).body;
    assert!(drained["state"] == "failed" && drained["problem"].as_str().unwrap().contains("within 1 s"), "{drained:#}");
    append(&workshop, "o", 3..6);
    let seen = daemon.wait_until("o", |flow| flow["rows"]["read"] == 6);
    assert_eq!((&seen["state"], &seen["desired"]), (&json!("running"), &json!("running")));
    daemon.stop();
}

#[test]
fn checkpoints_are_told_also_those_of_a_daemon_before() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "q", 0..10);
    let text = follows("q").replace("checkpoint.interval = \"100ms\"", "checkpoint.interval = \"1h\"");
    daemon.put("q", &text, &[NEW]).is(201);
    daemon.wait_until("q", |flow| flow["rows"]["written"] == 10);
    let number = daemon.post("/api/v1/flows/q/checkpoint").is(200).body["result"].clone();
    let list = |daemon: &Daemon| daemon.get("/api/v1/flows/q/checkpoints")["items"][0].clone();
    let newest = list(&daemon);
    assert!(newest["number"] == number && newest["trigger"] == "asked" && newest["kept"] == true, "{newest:#}");
    assert!(
        newest["rows_read"] == 10 && newest["bytes"].as_u64() > Some(0) && newest["took_s"].is_number(),
        "{newest:#}"
    );
    let one = daemon.get(&format!("/api/v1/flows/q/checkpoints/{number}"));
    assert!(one["nodes"]["rows"]["rows_in"] == 10 && one["nodes"]["kept"]["bytes"].as_u64() > Some(0), "{one:#}");
    daemon.ask("GET", "/api/v1/flows/q/checkpoints/4711", &[], "").refused(404, "not-found");
    daemon.post("/api/v1/flows/q/stop").is(200);
    let last = list(&daemon);
    assert_eq!(last["trigger"], "stop", "{last:#}");
    daemon.stop();
    let daemon = Daemon::start(&workshop);
    let kept = list(&daemon);
    assert_eq!((&kept["number"], &kept["bytes"], &kept["trigger"]), (&last["number"], &last["bytes"], &Value::Null));
    daemon.stop();
}
