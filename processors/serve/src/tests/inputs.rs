//! How what a model is asked differs from what it has learned.

use std::fmt::Write as _;

use millstream_models::ScoredModel;
use serde_json::json;

use super::*;

/// Serves a model that has learned 1,000 amounts from 0 to 99, in two countries.
async fn serve_watched(server: &Server) {
    let mut rows = "amount:float64 country fraud:boolean\n".to_owned();
    for row in 0..1000 {
        let country = if row % 3 == 0 { "FR" } else { "DE" };
        writeln!(rows, "{} {country} {}", row * 37 % 100, row % 5 == 0).unwrap();
    }
    let rows = table(&rows);
    let estimator = serde_json::from_value(json!({ "type": "logistic_regression" })).unwrap();
    let features = Features::Listed(vec!["amount".to_owned(), "country".to_owned()]);
    let signature = Signature::plan(&rows.schema(), &estimator, &features, "fraud", None, Missing::Mean).unwrap();
    let mut model = ScoredModel::new(signature);
    model.step_batch(&rows).unwrap();
    let card = ModelCard::new("watched", model.model().signature(), 1000).profiled(model.profile());
    registry(server.folder.path()).publish("watched", &model.model().save().unwrap(), card, "1").unwrap();
    server.post("/v2/repository/models/watched/load", &json!({})).await.good();
}

/// Asks about 300 payments, ten at a time, whose amounts are moved by so much.
async fn ask(server: &Server, moved: usize, country: &str) -> Value {
    let mut answer = Value::Null;
    for request in 0..30 {
        let amount = |row: usize| (request * 10 + row) * 37 % 100 + moved;
        let rows: Vec<_> = (0..10).map(|row| json!({ "amount": amount(row), "country": country })).collect();
        answer = server.post("/api/v1/models/watched/predict?inputs=true", &json!({ "rows": rows })).await.good();
    }
    answer
}

#[tokio::test]
async fn what_is_asked_is_compared_with_what_was_learned() {
    let server = Server::start();
    serve_watched(&server).await;
    let path = "/api/v1/models/watched/inputs";
    let inputs = server.get(path).await.good();
    assert_eq!((&inputs["version"], &inputs["inputs"][0]["rows"]), (&json!(1), &json!(0)));
    assert_eq!(inputs["inputs"][0]["drift"], json!(null));

    let usual = ask(&server, 0, "DE").await;
    let [amount, country] = [0, 1].map(|at| &usual["inputs"][at]);
    assert!(amount["rows"] == 300 && amount["drift"].as_f64() < Some(0.1), "{usual}");
    assert_eq!((&country["feature"], &country["unseen"]), (&json!("country"), &json!(0.0)));
    // A country of two is not all of them.
    assert!(country["drift"].as_f64() > Some(0.25), "{usual}");

    ask(&server, 90, "PL").await;
    let row = json!({ "rows": [{ "amount": null, "country": "DE" }] });
    assert!(server.post("/api/v1/models/watched/predict", &row).await.good().get("inputs").is_none());
    let inputs = server.get(&format!("{path}?version=champion")).await.good()["inputs"].clone();
    assert!(inputs[0]["drift"].as_f64() > Some(0.25), "{inputs}");
    assert_eq!(inputs[0]["missing"].as_f64(), Some(1.0 / 601.0));
    assert_eq!(inputs[1]["unseen"].as_f64(), Some(300.0 / 601.0));
}

#[tokio::test]
async fn a_model_without_a_profile_is_not_compared() {
    let server = Server::start();
    assert_eq!(server.get("/api/v1/models/fraud/inputs").await.good()["inputs"], json!([]));
    assert_eq!(server.get("/api/v1/models/none/inputs").await.status, 404);
    assert_eq!(server.get("/api/v1/models/fraud/inputs?versoin=1").await.status, 400);
}
