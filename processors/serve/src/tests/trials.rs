//! Versions on trial.

use serde_json::json;

use super::*;

fn fraud_by(trial: Trial) -> Server {
    Server::trying(Trials::from([("fraud".to_owned(), trial)]))
}

/// Which version answers somebody.
async fn version(server: &Server, who: &str) -> String {
    let request = Request::post("/v2/models/fraud/infer").header("x-user", who);
    let body = json!({ "inputs": two_payments() }).to_string();
    let answer = server.ask(request.body(Body::from(body)).unwrap()).await.good();
    answer["model_version"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn some_are_answered_by_the_version_on_trial_and_stay_with_it() {
    let by = Some("x-user".parse().unwrap());
    let server = fraud_by(Trial::new("challenger", 0.5, by));
    let mut seen = std::collections::BTreeMap::<String, Vec<String>>::new();
    for _ in 0..2 {
        for who in 0..40 {
            seen.entry(version(&server, &who.to_string()).await).or_default().push(who.to_string());
        }
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["1", "2"]);
    assert!(seen["1"].iter().all(|who| !seen["2"].contains(who)), "{seen:?}");
    // Who asks for a version gets that one.
    let body = json!({ "inputs": two_payments() });
    for _ in 0..10 {
        let asked = server.post("/v2/models/fraud/versions/champion/infer", &body).await.good();
        assert_eq!(asked["model_version"], "1");
    }
}

#[tokio::test]
async fn every_protocol_says_which_version_has_answered() {
    let server = fraud_by(Trial::new("2", 1.0, None));
    let rows = json!([{ "amount": 870, "items": 1, "country": "FR" }]);
    let plain = server.post("/api/v1/models/fraud/predict", &json!({ "rows": rows })).await.good();
    assert_eq!(plain["version"], 2);
    let v1 = server.post("/v1/models/fraud:predict", &json!({ "instances": rows })).await;
    assert_eq!((v1.status, &v1.headers["model-version"]), (200, &"2".parse().unwrap()));
    let infer = server.post("/v2/models/fraud/infer", &json!({ "inputs": two_payments() })).await.good();
    assert_eq!(infer["model_version"], "2");
}

#[tokio::test]
async fn without_the_version_on_trial_the_usual_one_answers() {
    let server = fraud_by(Trial::new("newcomer", 1.0, None).with_shadow(true));
    assert_eq!(version(&server, "a").await, "1");
    registry(server.folder.path()).set_alias("fraud", "newcomer", 3).unwrap();
    server.repository.refresh_all();
    assert_eq!(version(&server, "a").await, "3");
}

#[tokio::test]
async fn a_shadow_predicts_the_same_rows_and_is_compared() {
    let server = fraud_by(Trial::new("challenger", 0.0, None).with_shadow(true));
    for _ in 0..3 {
        assert_eq!(version(&server, "a").await, "1");
    }
    let figures = |number: u64| {
        let loaded = server.repository.loaded("fraud").unwrap();
        loaded.into_iter().find(|served| served.version == number).unwrap()
    };
    while figures(2).figures.comparison().iter().sum::<u64>() < 6 {
        tokio::task::yield_now().await;
    }
    let [same, other, nothing] = figures(2).figures.comparison();
    assert_eq!((same + other, nothing), (6, 0));
    assert_eq!(figures(1).figures.comparison(), [0, 0, 0]);
    assert_eq!(figures(2).figures.success.count(), 0, "it has answered nobody");
}
