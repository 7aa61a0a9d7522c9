//! Models whose features are preprocessed are asked as they were trained.

use millstream_models::IntervalSettings;
use serde_json::json;

use super::*;

#[tokio::test]
async fn features_go_through_what_was_learned_and_numbers_have_intervals() {
    let rows = table(
        "at:timestamp amount:float64? country note y:float64\n 2024-01-01T06:00:00Z 10 DE red,apple 1\n 2024-01-02T12:00:00Z null FR apple 2\n 2024-01-03T18:00:00Z 7 DE red 3\n 2024-01-04T00:00:00Z 30 PL rose 4",
    );
    let features = json!({
        "at": "time",
        "amount": { "encode": "robust", "missing": "median", "indicator": true },
        "country": { "target": { "smoothing": 1 } },
        "note": { "text": { "numbers": 32 } },
    });
    let features: Features = serde_json::from_value(features).unwrap();
    let estimator = serde_json::from_value(json!({ "type": "linear_regression" })).unwrap();
    let signature = Signature::plan(&rows.schema(), &estimator, &features, "y", None, Missing::Fail).unwrap();
    let interval: IntervalSettings = serde_json::from_value(json!(0.8)).unwrap();
    let mut model = Model::new(signature.with_interval(Some(interval)).unwrap());
    model.step_batch(&rows).unwrap();
    let server = Server::start();
    publish(&registry(server.folder.path()), "mixed", &model, "1");
    server.post("/v2/repository/models/mixed/load", &json!({})).await.good();

    // 3 January 2024, at 18 o'clock.
    let row = json!({ "at": 1_704_304_800, "amount": null, "country": "DE", "note": "red" });
    let answer = server.post("/api/v1/models/mixed/predict", &json!({ "rows": [row] })).await.good();
    let asked = table("at:timestamp amount:float64? country note\n 2024-01-03T18:00:00Z null DE red");
    let wanted = model.predict_batch(&asked).unwrap();
    let columns = ["prediction", "prediction_low", "prediction_high"];
    let found = columns.map(|column| answer["predictions"][0][column].as_f64().unwrap());
    assert_eq!(found, wanted.row(0), "{answer}");
    let inputs = &server.get("/v2/models/mixed").await.good()["inputs"];
    assert_eq!((&inputs[0]["name"], &inputs[0]["datatype"]), (&json!("at"), &json!("FP64")), "{inputs}");
}
