//! The Open Inference Protocol.

use serde_json::json;

use super::*;

#[tokio::test]
async fn columns_by_name_are_predicted_as_the_model_predicts_them() {
    let server = Server::start();
    let body = json!({ "id": "42", "inputs": two_payments() });
    let answer = server.post("/v2/models/fraud/infer", &body).await.good();
    assert_eq!(
        (&answer["model_name"], &answer["model_version"], &answer["id"]),
        (&json!("fraud"), &json!("1"), &json!("42"))
    );
    let rows = table("amount:float64 items:int64 country\n 870 1 FR\n 10 2 DE");
    let expected = fraud(1).predict_batch(&rows).unwrap();
    let outputs = json!([
        { "name": "prediction", "shape": [2], "datatype": "BOOL", "data": [true, false] },
        { "name": "probability", "shape": [2], "datatype": "FP64", "data": [expected.row(0)[0], expected.row(1)[0]] },
    ]);
    assert_eq!(answer["outputs"], outputs);
}

#[tokio::test]
async fn versions_are_numbers_aliases_or_the_latest() {
    let server = Server::start();
    let mut probabilities = Vec::new();
    for (version, number) in [("1", 1), ("champion", 1), ("2", 2), ("challenger", 2), ("3", 3), ("latest", 3)] {
        let path = format!("/v2/models/fraud/versions/{version}/infer");
        let answer = server.post(&path, &json!({ "inputs": two_payments() })).await.good();
        assert_eq!(answer["model_version"], number.to_string(), "{version}");
        probabilities.push(answer["outputs"][1]["data"][0].as_f64().unwrap());
    }
    assert!(probabilities.chunks(2).all(|pair| pair[0] == pair[1]) && probabilities[0] != probabilities[2]);
    let missing =
        server.post("/v2/models/fraud/versions/9/infer", &json!({ "inputs": two_payments() })).await.error(404);
    assert!(missing.contains("no version 9; it has 1, 2 and 3"), "{missing}");
    let missing = server.post("/v2/models/fraud/versions/champoin/infer", &json!({})).await.error(404);
    assert_eq!(missing, "model `fraud` has no version or alias `champoin`; did you mean `champion`?");
    let missing = server.post("/v2/models/fruad/infer", &json!({})).await.error(404);
    assert_eq!(missing, "model `fruad` is not served; did you mean `fraud`?");
}

#[tokio::test]
async fn tensors_in_binary_say_the_same_as_in_json() {
    let server = Server::start();
    let inputs = json!([
        { "name": "amount", "datatype": "FP64", "shape": [2], "parameters": { "binary_data_size": 16 } },
        { "name": "items", "datatype": "UINT8", "shape": [2], "parameters": { "binary_data_size": 2 } },
        tensor("country", "BYTES", &[2], json!(["FR", "DE"])),
    ]);
    let tensors = [&870.0_f64.to_le_bytes()[..], &10.0_f64.to_le_bytes(), &[1, 2]].concat();
    let in_json = server.post("/v2/models/fraud/infer", &json!({ "inputs": two_payments() })).await.good();
    let path = "/v2/models/fraud/infer";
    let mixed = server.post_binary(path, &json!({ "inputs": inputs }), &tensors).await.good();
    assert_eq!(mixed, in_json);

    let asked = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
    let (head, behind) = server.post_binary(path, &asked, &tensors).await.binary();
    assert_eq!(
        head["outputs"][0],
        json!({ "name": "prediction", "shape": [2], "datatype": "BOOL", "parameters": { "binary_data_size": 2 } })
    );
    assert_eq!(&behind[..2], [1, 0]);
    let numbers = behind[2..].chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()));
    assert_eq!(json!(numbers.collect::<Vec<_>>()), in_json["outputs"][1]["data"]);

    // An output says for itself, whatever all others do, and what is not asked for is not answered.
    let asked = json!({
        "inputs": inputs,
        "parameters": { "binary_data_output": true },
        "outputs": [{ "name": "probability", "parameters": { "binary_data": false } }],
    });
    let only = server.post_binary(path, &asked, &tensors).await.good();
    assert_eq!(only["outputs"], json!([in_json["outputs"][1]]));
}

#[tokio::test]
async fn a_matrix_has_the_features_in_their_order() {
    let server = Server::start();
    let matrix =
        |datatype: &str| json!({ "inputs": [tensor("x", datatype, &[3, 2], json!([[1, 1], [5, 2], [6, 9]]))] });
    let columns = json!({ "inputs": [
        tensor("width", "FP64", &[3], json!([1, 2, 9])), tensor("length", "FP64", &[3], json!([1, 5, 6]))
    ] });
    let expected = server.post("/v2/models/flower/infer", &columns).await.good();
    assert_eq!(expected["outputs"][0]["data"], json!(["setosa", "versicolor", "virginica"]));
    assert_eq!(expected["outputs"][2]["shape"], json!([3, 3]));
    for datatype in ["FP64", "FP32", "INT64"] {
        assert_eq!(server.post("/v2/models/flower/infer", &matrix(datatype)).await.good(), expected, "{datatype}");
    }
    let ask = json!({
        "inputs": [tensor("x", "FP64", &[1, 2], json!([6, 9]))],
        "outputs": [{ "name": "probabilities", "parameters": { "classification": 2 } }],
    });
    let answer = server.post("/v2/models/flower/infer", &ask).await.good();
    let output = &answer["outputs"][0];
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([1, 2])));
    assert!(output["data"][0].as_str().unwrap().ends_with(":2:virginica"), "{output}");
    let mixed = server
        .post("/v2/models/fraud/infer", &json!({ "inputs": [tensor("x", "FP64", &[1, 3], json!([1, 2, 3]))] }))
        .await;
    assert!(mixed.error(400).starts_with("column 2 of input `x`, feature `country`, can't be used: it has float64"));
}

#[tokio::test]
async fn what_is_missing_is_null_and_never_nan_in_json() {
    let server = Server::start();
    let null = json!({ "inputs": [tensor("amount", "FP64", &[2], json!([null, 10.0]))] });
    let answer = server.post("/v2/models/lenient/infer", &null).await.good();
    assert!(answer["outputs"][1]["data"][0].is_number());
    let nan = r#"{ "inputs": [{ "name": "amount", "datatype": "FP64", "shape": [1], "data": [NaN] }] }"#;
    let nan = server.ask(Request::post("/v2/models/lenient/infer").body(Body::from(nan)).unwrap()).await.error(400);
    assert!(nan.starts_with("`inputs[0].data") && nan.contains("is not what is taken"), "{nan}");
    let inputs =
        json!([{ "name": "amount", "datatype": "FP64", "shape": [1], "parameters": { "binary_data_size": 8 } }]);
    let (path, nan) = ("/v2/models/lenient/infer", f64::NAN.to_le_bytes());
    assert!(
        server.post_binary(path, &json!({ "inputs": inputs }), &nan).await.good()["outputs"][1]["data"][0].is_number()
    );
    // One feature may come as the body and nothing else.
    let raw = Request::post(path).header("inference-header-content-length", 0);
    let (head, behind) = server.ask(raw.body(Body::from(10.0_f64.to_le_bytes().to_vec())).unwrap()).await.binary();
    assert_eq!((&head["outputs"][1]["shape"], behind.len()), (&json!([1]), 9));
}

#[tokio::test]
async fn models_say_what_they_take_and_give() {
    let server = Server::start();
    let server_says = server.get("/v2").await.good();
    assert_eq!(
        server_says["extensions"],
        json!(["binary_tensor_data", "model_repository", "statistics", "classification"])
    );
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/fraud/ready", "/v2/models/fraud/versions/2/ready"] {
        server.get(path).await.good();
    }
    let described = server.get("/v2/models/fraud").await.good();
    assert_eq!(described["versions"], json!(["1", "2"]));
    assert_eq!(
        described["inputs"],
        json!([
            { "name": "amount", "datatype": "FP64", "shape": [-1] },
            { "name": "items", "datatype": "INT64", "shape": [-1] },
            { "name": "country", "datatype": "BYTES", "shape": [-1] },
        ])
    );
    let flower = server.get("/v2/models/flower/versions/1").await.good();
    assert_eq!(
        flower["outputs"][2],
        json!({
            "name": "probabilities", "datatype": "FP64", "shape": [-1, 3], "parameters": { "labels": "setosa,versicolor,virginica" }
        })
    );
    assert_eq!(
        flower["properties"]["matrix"],
        "one tensor of another name, FP64 of shape [-1, 2], is taken for all inputs"
    );
    let config = server.get("/v2/models/fraud/config").await.good();
    assert_eq!(config["input"][2], json!({ "name": "country", "data_type": "TYPE_STRING", "dims": [-1] }));

    server.post("/v2/models/fraud/infer", &json!({ "inputs": two_payments() })).await.good();
    server
        .post("/v2/models/fraud/infer", &json!({ "inputs": [tensor("amount", "FP64", &[1], json!([1]))] }))
        .await
        .error(400);
    let statistics = server.get("/v2/models/fraud/versions/1/stats").await.good();
    let of_version = &statistics["model_stats"][0];
    assert_eq!((&of_version["inference_count"], &of_version["execution_count"]), (&json!(2), &json!(1)));
    let stats = &of_version["inference_stats"];
    assert_eq!((&stats["success"]["count"], &stats["fail"]["count"]), (&json!(1), &json!(1)));
    assert_eq!(server.get("/v2/models/stats").await.good()["model_stats"].as_array().unwrap().len(), 4);
}
