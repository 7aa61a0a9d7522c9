//! Which models are served, and how they follow the registry.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;

#[tokio::test]
async fn models_are_listed_loaded_and_unloaded() {
    let server = Server::start();
    let state = |name: &str, version: &str, state: &str, reason: &str| json!({ "name": name, "version": version, "state": state, "reason": reason });
    let all = server.post("/v2/repository/index", &json!({})).await.good();
    let ready = |name, version| state(name, version, "READY", "");
    assert_eq!(all, json!([ready("flower", "1"), ready("fraud", "1"), ready("fraud", "2"), ready("lenient", "1")]));
    server
        .post("/v2/repository/models/flower/unload", &json!({ "parameters": { "unload_dependents": false } }))
        .await
        .good();
    server.get("/v2/models/flower/ready").await.error(404);
    let all = server.ask(Request::post("/v2/repository/index").body(Body::empty()).unwrap()).await.good();
    assert_eq!(all[0], state("flower", "", "UNAVAILABLE", "it is not loaded"));
    assert_eq!(server.post("/v2/repository/index", &json!({ "ready": true })).await.good()[0]["name"], "fraud");
    server.ask(Request::post("/v2/repository/models/flower/load").body(Body::empty()).unwrap()).await.good();
    server.get("/v2/models/flower/ready").await.good();
    server.post("/v2/repository/models/flower/load", &json!({})).await.good();
    let missing = server.post("/v2/repository/models/flowr/load", &json!({})).await.error(400);
    assert_eq!(missing, "there is no model `flowr` in `models`; did you mean `flower`?");
    server.post("/v2/repository/models/none/unload", &json!({})).await.error(404);
    let config = json!({ "parameters": { "config": "{}" } });
    assert!(
        server
            .post("/v2/repository/models/flower/load", &config)
            .await
            .error(400)
            .contains("`parameters.config` is not taken")
    );
    server.ask(Request::post("/v2/repository/models/..%2Fx/load").body(Body::empty()).unwrap()).await.error(404);
}

#[tokio::test]
async fn a_version_that_cannot_be_read_leaves_the_one_before() {
    let server = Server::start();
    let registry = registry(server.folder.path());
    let damaged = server.folder.path().join("models/fraud/versions/00000003/model.safetensors");
    std::fs::write(damaged, "damaged").unwrap();
    registry.set_alias("fraud", "champion", 3).unwrap();
    server.repository.refresh_all();
    let body = json!({ "inputs": two_payments() });
    assert_eq!(server.post("/v2/models/fraud/infer", &body).await.good()["model_version"], "1");
    let index = server.post("/v2/repository/index", &json!({})).await.good();
    assert!(index[1]["reason"].as_str().unwrap().contains("is damaged"), "{index}");
    registry.set_alias("fraud", "champion", 2).unwrap();
    server.repository.refresh_all();
    assert_eq!(server.post("/v2/models/fraud/infer", &body).await.good()["model_version"], "2");
    assert_eq!(server.post("/v2/repository/index", &json!({})).await.good()[1]["reason"], "");
}

#[tokio::test]
async fn a_model_is_awaited_until_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let references = [ModelReference::parse("fraud").unwrap()];
    let limits = BatchLimits::default();
    let refused = Repository::open(registry(folder.path()), &references, limits).unwrap_err();
    assert_eq!(refused.to_string(), "there is no model `fraud` in `models`; there is none");
    let repository = Repository::awaiting(registry(folder.path()), &references, limits).unwrap();
    repository.refresh_all();
    assert!(!repository.is_ready() && repository.resolve("fraud", None).await.is_err());
    publish(&registry(folder.path()), "fraud", &fraud(1), "1");
    repository.refresh_all();
    assert!(repository.is_ready());
    assert_eq!(repository.resolve("fraud", None).await.unwrap().version, 1);
    let twice = [references[0].clone(), ModelReference::parse("fraud/1").unwrap()];
    let twice = Repository::open(registry(folder.path()), &twice, limits).unwrap_err();
    assert_eq!(twice.to_string(), "model `fraud` is to be served twice; name it once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn each_answer_is_of_one_version_while_aliases_move() {
    let server = Arc::new(Server::start());
    let rows = table("amount:float64 items:int64 country\n 870 1 FR\n 10 2 DE");
    let probability = |times| json!(fraud(times).predict_batch(&rows).unwrap().row(0)[0]);
    let expected: BTreeMap<String, Value> = (1..=3).map(|times| (times.to_string(), probability(times))).collect();
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (server, done, expected) = (server.clone(), done.clone(), expected.clone());
            tokio::spawn(async move {
                let mut seen = BTreeMap::<String, usize>::new();
                while !done.load(Ordering::Relaxed) {
                    let answer =
                        server.post("/v2/models/fraud/infer", &json!({ "inputs": two_payments() })).await.good();
                    let version = answer["model_version"].as_str().unwrap().to_owned();
                    assert_eq!(answer["outputs"][1]["data"][0], expected[&version], "version {version}");
                    *seen.entry(version).or_default() += 1;
                }
                seen
            })
        })
        .collect();
    let registry = registry(server.folder.path());
    for turn in 0..60 {
        registry.set_alias("fraud", "champion", turn % 3 + 1).unwrap();
        let repository = server.repository.clone();
        tokio::task::spawn_blocking(move || repository.refresh_all()).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(!client.await.unwrap().is_empty());
    }
}
