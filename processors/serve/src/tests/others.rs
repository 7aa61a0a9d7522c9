//! KServe's first protocol, MLflow's, and rows as JSON objects.

use serde_json::json;

use super::*;

fn row() -> Value {
    json!({ "amount": 870, "items": 1, "country": "FR", "id": "left alone" })
}

#[tokio::test]
async fn rows_are_json_objects_or_lists() {
    let server = Server::start();
    let path = "/api/v1/models/fraud/predict";
    let answer = server.post(path, &json!({ "rows": [row(), [10.0, 2, "DE"]] })).await.good();
    assert_eq!((&answer["model"], &answer["version"]), (&json!("fraud"), &json!(1)));
    let predictions = answer["predictions"].as_array().unwrap();
    assert_eq!(
        predictions.iter().map(|row| row["prediction"].clone()).collect::<Vec<_>>(),
        [json!(true), json!(false)]
    );
    let other = server.post(&format!("{path}?version=challenger"), &json!({ "rows": [row()] })).await.good();
    assert_eq!(other["version"], 2);
    assert_ne!(other["predictions"][0]["probability"], predictions[0]["probability"]);
    let flower = server.post("/api/v1/models/flower/predict", &json!({ "rows": [[6, 9]] })).await.good();
    let flower = &flower["predictions"][0];
    assert_eq!(flower["prediction"], "virginica");
    assert!(flower["probabilities"]["virginica"].as_f64() > flower["probabilities"]["setosa"].as_f64());
    assert_eq!(server.post(path, &json!({ "rows": [] })).await.good()["predictions"], json!([]));
    for (path, body, status, expected) in [
        (
            path,
            json!({ "rows": [{ "amount": 1, "items": 1 }] }),
            400,
            "`rows[0]` lacks the feature `country`; there are `amount`, `items`",
        ),
        (path, json!({ "rows": [[1, 2]] }), 400, "`rows[0]` has 2 values, and model `fraud` has 3 features"),
        (
            path,
            json!({ "rows": [row(), { "amount": "much", "items": 1, "country": "FR" }] }),
            400,
            "`rows[1].amount`: a text is among numbers",
        ),
        (
            path,
            json!({ "rows": [{ "amount": {}, "items": 1, "country": "FR" }] }),
            400,
            "`rows[0].amount`: an object is no value",
        ),
        (
            path,
            json!({ "rows": [3] }),
            400,
            "`rows[0]` is neither an object by the names of the features nor a list of their values",
        ),
        (path, json!({ "row": [] }), 400, "`row` is unknown; what is taken is `rows`"),
        (path, json!({ "rows": [[null, 1, "FR"]] }), 400, "row 0 can't be predicted: feature `amount` is null"),
        ("/api/v1/models/fraud/predict?version=9", json!({ "rows": [] }), 404, "no version 9"),
        (
            "/api/v1/models/fraud/predict?verson=9",
            json!({ "rows": [] }),
            400,
            "`verson` is unknown; what is taken is `version` or `inputs`",
        ),
    ] {
        let answer = server.post(path, &body).await;
        assert_eq!(
            (answer.status, &answer.headers["content-type"]),
            (status, &"application/problem+json".parse().unwrap())
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(expected), "{detail}\n{expected}");
    }
}

#[tokio::test]
async fn kserve_one() {
    let server = Server::start();
    assert_eq!(server.get("/").await.good(), json!({ "status": "alive" }));
    assert_eq!(server.get("/v1/models").await.good(), json!({ "models": ["flower", "fraud", "lenient"] }));
    assert_eq!(server.get("/v1/models/fraud").await.good(), json!({ "name": "fraud", "ready": true }));
    server.get("/v1/models/none").await.error(404);
    let answer = server.post("/v1/models/fraud:predict", &json!({ "instances": [row()] })).await.good();
    assert_eq!(answer["predictions"][0]["prediction"], true);
    server.post("/v1/models/fraud:explain", &json!({ "instances": [row()] })).await.error(404);
    let wrong = server.post("/v1/models/fraud:predict", &json!({ "instances": {} })).await.error(400);
    assert!(wrong.starts_with("`instances` is not what is taken"), "{wrong}");
}

#[tokio::test]
async fn mlflow() {
    let server = Server::start();
    for path in ["/ping", "/health"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &answer.bytes[..]), (200, &b"\n"[..]));
    }
    let several = server.post("/invocations", &json!({})).await;
    assert!(several.status == 400 && several.json()["message"].as_str().unwrap().contains("flower, fraud, lenient"));
    for model in ["flower", "lenient"] {
        server.post(&format!("/v2/repository/models/{model}/unload"), &json!({})).await.good();
    }
    let expected = server.post("/invocations", &json!({ "instances": [row()] })).await.good();
    assert_eq!(expected["predictions"][0]["prediction"], true);
    for body in [
        json!({ "dataframe_split": { "columns": ["country", "amount", "items"], "index": [7], "data": [["FR", 870, 1]] } }),
        json!({ "dataframe_records": [row()] }),
        json!({ "instances": [[870, 1, "FR"]], "params": null }),
        json!({ "instances": { "amount": [870], "items": [1], "country": ["FR"] } }),
        json!({ "inputs": { "amount": [870], "items": [1], "country": ["FR"] } }),
        json!({ "inputs": [[870, 1, "FR"]], "params": {} }),
    ] {
        assert_eq!(server.post("/invocations", &body).await.good(), expected, "{body}");
    }
    for (body, expected) in [
        (json!({}), "exactly one of"),
        (json!({ "instances": [], "inputs": [] }), "exactly one of"),
        (json!([row()]), "the body is a list"),
        (json!({ "inputs": 3 }), "`inputs` is neither a list of rows nor an object of columns"),
        (json!({ "instances": [], "params": { "k": 1 } }), "`params` has to be empty"),
        (
            json!({ "dataframe_split": { "columns": ["amount"], "data": [] } }),
            "`dataframe_split.columns` lacks the feature `items`",
        ),
        (
            json!({ "dataframe_split": { "columns": ["amount", "items", "country"], "data": [[1]] } }),
            "`dataframe_split.data[0]` has 1 values, and there are 3 columns",
        ),
        (
            json!({ "inputs": { "amount": [1], "items": [1, 2], "country": ["a"] } }),
            "`inputs.items` has 2 values, and the columns before have 1",
        ),
    ] {
        let answer = server.post("/invocations", &body).await;
        assert_eq!((answer.status, &answer.json()["error_code"]), (400, &json!("BAD_REQUEST")), "{body}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected), "{message}\n{expected}");
    }
    for kind in ["text/csv", "application/json; charset=latin1"] {
        let request = Request::post("/invocations").header("content-type", kind).body(Body::from("a")).unwrap();
        let answer = server.ask(request).await;
        assert_eq!(
            (answer.status, &answer.headers["content-type"]),
            (415, &"text/plain; charset=utf-8".parse().unwrap())
        );
    }
}
