//! Models, and their aliases.

use serde_json::json;

use crate::daemons::{Daemon, JSON, NEW, learns};
use crate::millstream::Workshop;

#[test]
fn models_are_shown_and_promoted() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    assert_eq!(daemon.get("/api/v1/models")["items"], json!([]));
    daemon.ask("GET", "/api/v1/models/..%2Fx/versions", &[], "").refused(404, "not-found");
    daemon.put("m", &learns(&workshop, "m"), &[NEW]).is(201);
    daemon.wait_until("m", |flow| flow["state"] == "finished");
    let models = daemon.get("/api/v1/models")["items"].clone();
    let latest = models[0]["latest"].as_u64().unwrap();
    assert!(latest > 1 && models[0]["name"] == "lateness" && models[0]["aliases"]["champion"] == 1, "{models}");
    let versions = daemon.get("/api/v1/models/lateness/versions?limit=2");
    assert_eq!(
        (&versions["items"][0]["version"], &versions["next"]),
        (&json!(latest), &json!((latest - 1).to_string()))
    );
    let series = daemon.get("/api/v1/models/lateness/series");
    assert!(series["metric"] == "auc" && series["points"].as_array().unwrap().len() == latest as usize, "{series}");
    let version = json!({ "version": latest }).to_string();
    let promoted = daemon.ask("PUT", "/api/v1/models/lateness/aliases/champion", &[JSON], &version).is(200).body;
    assert_eq!(promoted["aliases"]["champion"], latest);
    let notes = json!({ "description": "Tells late trains.", "tags": { "owner": "rail" } }).to_string();
    let noted = daemon.ask("PATCH", "/api/v1/models/lateness", &[JSON], &notes).is(200).body;
    assert_eq!((&noted["description"], &noted["tags"]["owner"]), (&json!("Tells late trains."), &json!("rail")));
    let version_path = format!("/api/v1/models/lateness/versions/{latest}");
    let noted = daemon.ask("PATCH", &version_path, &[JSON], &notes).is(200).body;
    assert_eq!((&noted["tags"]["owner"], &noted["aliases"]), (&json!("rail"), &json!(["champion"])));
    assert_eq!(daemon.get("/api/v1/models/lateness/versions")["items"][0]["tags"]["owner"], "rail");
    daemon.ask("PATCH", &version_path, &[JSON], "{\"tags\": {\"\": \"x\"}}").refused(400, "bad-request");
    assert_eq!(daemon.get("/api/v1/models/lateness")["description"], "Tells late trains.");
    daemon.ask("GET", "/api/v1/models/nobody", &[], "").refused(404, "not-found");
    daemon.ask("PATCH", "/api/v1/models/nobody", &[JSON], &notes).refused(404, "not-found");
    let card = daemon.get(&format!("/api/v1/models/lateness/versions/{latest}"));
    assert!(card["lineage"]["inputs"]["rows"].is_object(), "{card}");
    daemon
        .ask("PUT", "/api/v1/models/lateness/aliases/champion", &[JSON], "{\"version\": 99}")
        .refused(404, "not-found");
    daemon.ask("DELETE", "/api/v1/models/lateness/aliases/nobody", &[JSON], "").refused(404, "not-found");
    daemon.stop();
}
