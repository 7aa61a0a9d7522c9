//! Events, and rows as they pass.

use std::time::Duration;

use serde_json::Value;

use crate::daemons::{Daemon, JSON, NEW, PATIENCE, WAIT, append, events, follows};
use crate::millstream::Workshop;

#[test]
fn events_tell_what_happens() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "e", 0..10);
    let told = events(&daemon, "events?topics=flows,operations,flow:e.stats");
    let wait = |is: &dyn Fn(&str, &Value) -> bool| {
        loop {
            let (event, data) = told.recv_timeout(PATIENCE).unwrap();
            if is(&event, &data) {
                return data;
            }
        }
    };
    daemon.put("e", &follows("e"), &[NEW]).is(201);
    wait(&|event, data| event == "flow" && data["name"] == "e" && data["state"] == "running");
    wait(&|event, data| event == "stats" && data["flow"] == "e" && data["nodes"]["kept"]["rows_in"] == 10);
    daemon.post("/api/v1/flows/e/stop").is(200);
    wait(&|event, data| event == "operation" && data["kind"] == "stop" && data["state"] == "done");
    wait(&|event, data| event == "flow" && data["state"] == "stopped");
    daemon.ask("DELETE", "/api/v1/flows/e", &[JSON, WAIT], "").is(200);
    wait(&|event, data| event == "gone" && data["name"] == "e");
    daemon.stop();
}

#[test]
fn rows_can_be_looked_at_as_they_pass_also_when_the_flow_is_changed() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    daemon.put("t", &follows("t"), &[NEW]).is(201);
    daemon.ask("GET", "/api/v1/flows/t/tap?node=nobody", &[], "").refused(404, "not-found");
    let told = events(&daemon, "flows/t/tap?node=same");
    let mut last = 0;
    for change in 1..=2 {
        // Whoever looks has begun to when rows come; until then, they pass unseen.
        let row = loop {
            append(&workshop, "t", last..last + 1);
            last += 1;
            if let Ok((_, data)) = told.recv_timeout(Duration::from_millis(200)) {
                break data["rows"][0]["id"].as_u64().unwrap();
            }
        };
        let is_changed = row >= 1000;
        assert_eq!(is_changed, change == 2, "{row}");
        if change == 1 {
            let text = follows("t").replace("SELECT id", "SELECT id + 1000 AS id");
            daemon.put("t", &text, &[("if-match", "\"1\"")]).is(200);
            while told.try_recv().is_ok() {}
        }
    }
    daemon.stop();
}
