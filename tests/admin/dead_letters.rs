//! Rows that nodes have refused: shown, sent again, dropped.

use serde_json::{Value, json};

use crate::daemons::{Daemon, JSON, NEW, append, follows, ids, refuses, wait_for_rows};
use crate::millstream::Workshop;

#[test]
fn refused_rows_are_shown_page_by_page() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "l", 0..3);
    let bad: String = (0..5).map(|number| format!("{{\"id\": \"bad {number}\"}}\n")).collect();
    workshop.write("in/l.ndjson", &(workshop.read("in/l.ndjson") + &bad));
    let text = follows("l").replace("on_error = \"fail\"", "on_error = { dead_letter = \"refused/\" }");
    daemon.put("l", &text, &[NEW]).is(201);
    daemon.wait_until("l", |flow| flow["rows"]["failed"] == 5);
    daemon.post("/api/v1/flows/l/stop").is(200);
    let first = daemon.get("/api/v1/flows/l/dead_letters?limit=3");
    let (item, next) = (&first["items"][0], first["next"].as_str().unwrap());
    assert!(item["node"] == "rows" && item["row"]["id"] == "bad 0" && item["position"] == 3, "{first:#}");
    let second = daemon.get(&format!("/api/v1/flows/l/dead_letters?limit=3&cursor={}", next.replace(':', "%3A")));
    assert!(second["items"].as_array().unwrap().len() == 2 && second["next"].is_null(), "{second:#}");
    assert_eq!(daemon.get("/api/v1/flows/l/dead_letters?node=nobody")["items"], json!([]));
    daemon.stop();
}

/// What is kept of the rows that nodes of a flow have refused.
fn kept(daemon: &Daemon, flow: &str) -> Vec<Value> {
    daemon.get(&format!("/api/v1/flows/{flow}/dead_letters"))["items"].as_array().unwrap().clone()
}

/// The row of a node that is as it says.
fn find(kept: &[Value], node: &str, row: &Value) -> Value {
    let is_it = |letter: &&Value| letter["node"] == node && letter["row"] == *row;
    kept.iter().find(is_it).unwrap_or_else(|| panic!("no {row} of `{node}` in {kept:#?}")).clone()
}

#[test]
fn refused_rows_are_mended_and_count_once_also_through_a_kill() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "m", 0..1);
    append(&workshop, "m", 4..5);
    workshop.write("in/m.ndjson", &(workshop.read("in/m.ndjson") + "{\"id\": \"x\"}\n{\"id\": \"y\"}\n"));
    daemon.put("m", &refuses("m"), &[NEW]).is(201);
    daemon.wait_until("m", |flow| flow["rows"]["failed"] == 3);
    let replay = |body: &Value| daemon.ask("POST", "/api/v1/flows/m/dead_letters/replay", &[JSON], &body.to_string());
    // Files of refused rows are whole when a minute has passed, or the flow stops.
    daemon.post("/api/v1/flows/m/stop").is(200);
    let letters = kept(&daemon, "m");
    let (zero, x, y) = (
        find(&letters, "same", &json!({ "id": 0 })),
        find(&letters, "rows", &json!({ "id": "x" })),
        find(&letters, "rows", &json!({ "id": "y" })),
    );
    let id = zero["id"].as_str().unwrap();
    replay(&json!({ "ids": [id] })).refused(409, "not-running");
    daemon.post("/api/v1/flows/m/start").is(200);

    assert_eq!(daemon.get(&format!("/api/v1/flows/m/dead_letters/{id}")), zero);
    replay(&json!({})).refused(400, "bad-request");
    replay(&json!({ "ids": ["nobody"] })).refused(404, "not-found");
    replay(&json!({ "ids": [id], "edit": { "nobody": {} } })).refused(400, "bad-request");
    replay(&json!({ "ids": [id], "to": "rows" })).refused(409, "no-way-back");
    let wrong = replay(&json!({ "ids": [id], "edit": { id: { "id": "eight" } } })).refused(422, "row-not-taken");
    assert!(wrong.body["detail"].as_str().unwrap().contains("`id`"), "{wrong:#?}");
    let mended = json!({ "ids": [id, x["id"]], "edit": { id: { "id": 8 }, x["id"].as_str().unwrap(): { "id": 2 } } });
    let answer = replay(&mended).is(200).body;
    assert_eq!(answer, json!({ "replayed": 2, "already": 0, "more": false }));
    assert_eq!(replay(&mended).is(200).body, json!({ "replayed": 0, "already": 2, "more": false }));
    daemon.kill();

    let daemon = Daemon::start(&workshop);
    wait_for_rows(&workshop, "m", 3);
    let letters = kept(&daemon, "m");
    let marked = &find(&letters, "same", &json!({ "id": 0 }))["replayed"];
    assert!(marked["to"] == "mended" && marked["edited"] == true, "{marked}");
    let waiting = daemon.get("/api/v1/flows/m/dead_letters?waiting=true")["items"].clone();
    assert!(waiting.as_array().unwrap().len() == 1 && waiting[0]["id"] == y["id"], "{waiting:#}");
    // What is refused once more is a new row.
    let body = json!({ "node": "rows" }).to_string();
    daemon.ask("POST", "/api/v1/flows/m/dead_letters/replay", &[JSON], &body).refused(422, "row-not-taken");
    append(&workshop, "m", 10..11);
    wait_for_rows(&workshop, "m", 4);
    daemon.post("/api/v1/flows/m/stop").is(200);
    assert_eq!(ids(&workshop, "m"), [100, 125, 250, 500]);
    daemon.stop();
}

#[test]
fn refused_rows_are_dropped_by_their_ids_or_their_node() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "p", 0..2);
    workshop.write("in/p.ndjson", &(workshop.read("in/p.ndjson") + "{\"id\": \"x\"}\n{\"id\": \"y\"}\n"));
    daemon.put("p", &refuses("p"), &[NEW]).is(201);
    daemon.wait_until("p", |flow| flow["rows"]["failed"] == 3);
    daemon.post("/api/v1/flows/p/stop").is(200);
    let letters = kept(&daemon, "p");
    assert_eq!(letters.len(), 3, "{letters:#?}");
    let id = find(&letters, "rows", &json!({ "id": "y" }))["id"].as_str().unwrap().to_owned();
    let drop = |path: &str| daemon.ask("DELETE", &format!("/api/v1/flows/p/dead_letters{path}"), &[JSON], "");
    drop("").refused(400, "bad-request");
    assert_eq!(drop(&format!("/{id}")).is(200).body, json!({ "dropped": 1 }));
    drop(&format!("/{id}")).refused(404, "not-found");
    daemon.ask("GET", &format!("/api/v1/flows/p/dead_letters/{id}"), &[], "").refused(404, "not-found");
    assert_eq!(drop("?node=same").is(200).body, json!({ "dropped": 1 }));
    assert_eq!(kept(&daemon, "p").len(), 1);
    let entries = daemon.get("/api/v1/audit?limit=1")["items"].clone();
    assert!(entries[0]["method"] == "DELETE" && entries[0]["result"] == "done", "{entries}");
    assert_eq!(drop("?all=true").is(200).body, json!({ "dropped": 1 }));
    let left = workshop.list("refused");
    assert!(left.iter().all(|name| name.starts_with('.')), "files of which all rows are dropped are gone: {left:?}");
    daemon.stop();
}
