//! Bad input to every endpoint: what is wrong is named, and nothing panics.

use serde_json::json;

use super::*;

#[tokio::test]
async fn wrong_tensors_are_named() {
    let server = Server::start();
    let amount = |more: Value| {
        let mut tensor = json!({ "name": "amount", "datatype": "FP64", "shape": [1], "data": [1] });
        more.as_object().unwrap().iter().for_each(|(key, value)| tensor[key] = value.clone());
        json!({ "inputs": [tensor] })
    };
    for (body, expected) in [
        (json!({}), "the body is not what is taken: `inputs` is missing"),
        (json!({ "inputs": [] }), "`inputs` has 0 tensors `amount`, and should have one"),
        (json!({ "inputs": 3 }), "`inputs` is not what is taken: it is the number 3, and should be a list"),
        (json!([1]), "is not what is taken"),
        (
            amount(json!({ "name": "amuont" })),
            "`amuont` of shape [1] is neither a feature (did you mean `amount`?) nor a matrix of all features: [rows, 1]",
        ),
        (
            amount(json!({ "name": "x", "shape": [1, 2], "data": [1, 2] })),
            "input `x` has 2 columns, and model `lenient` has 1 features",
        ),
        (amount(json!({ "datatype": "FLOAT" })), "`inputs[0].datatype` is `FLOAT`; the types are BOOL, UINT8"),
        (amount(json!({ "shape": [2] })), "`inputs[0]` of shape [2] has 2 values, not 1"),
        (amount(json!({ "shape": [-1] })), "`inputs[0].shape` is [-1], which is none of a tensor"),
        (amount(json!({ "shape": "1" })), "`inputs[0].shape` is not what is taken"),
        (
            amount(json!({ "shape": [1, 1, 1] })),
            "input `amount` has the shape [1, 1, 1], and should have [1] or [1, 1]",
        ),
        (
            amount(json!({ "datatype": "BYTES", "data": ["a"] })),
            "input `amount` can't be used: it has utf8, and should have float64",
        ),
        (amount(json!({ "data": ["a"] })), "`inputs[0].data` is no FP64: it has utf8"),
        (amount(json!({ "data": [{}] })), "`inputs[0].data[0]` is not what is taken"),
        (amount(json!({ "datatype": "INT8", "data": [300] })), "`inputs[0].data` is no INT8: value 0 is 300"),
        (amount(json!({ "data": null })), "`inputs[0]` has neither `data` nor `parameters.binary_data_size`"),
        (
            amount(json!({ "parameters": { "binary_data_size": 8 } })),
            "`inputs[0]` has both `data` and `binary_data_size`",
        ),
        (
            json!({ "inputs": [tensor("amount", "FP64", &[1], json!([1])), tensor("amount", "FP64", &[1], json!([1]))] }),
            "`inputs` has 2 tensors `amount`",
        ),
    ] {
        let error = server.post("/v2/models/lenient/infer", &body).await.error(400);
        assert!(error.contains(expected), "{body}\n{error}\n{expected}");
    }
    let unequal = json!({ "inputs": [
        tensor("amount", "FP64", &[2], json!([1, 2])), tensor("items", "INT64", &[1], json!([1])), tensor("country", "BYTES", &[2], json!(["a", "b"]))
    ] });
    assert_eq!(
        server.post("/v2/models/fraud/infer", &unequal).await.error(400),
        "input `items` has 1 rows, and `amount` has 2"
    );
    let null = json!({ "inputs": [
        tensor("amount", "FP64", &[2], json!([1, null])), tensor("items", "INT64", &[2], json!([1, 1])), tensor("country", "BYTES", &[2], json!(["a", "b"]))
    ] });
    let null = server.post("/v2/models/fraud/infer", &null).await.error(400);
    assert!(null.starts_with("row 1 can't be predicted: feature `amount` is null"), "{null}");
    let body = json!({ "inputs": two_payments(), "outputs": [{ "name": "probabilty" }] });
    let error = server.post("/v2/models/fraud/infer", &body).await.error(400);
    assert_eq!(error, "`outputs[0].name`: the model has no output `probabilty`; did you mean `probability`?");
    let body = json!({ "inputs": two_payments(), "outputs": [{ "name": "prediction", "parameters": { "classification": 2 } }] });
    assert!(server.post("/v2/models/fraud/infer", &body).await.error(400).contains("has no values by class"));
    let body = json!({ "inputs": two_payments(), "parameters": { "binary_data_output": "yes" } });
    let error = server.post("/v2/models/fraud/infer", &body).await.error(400);
    assert_eq!(error, "`parameters.binary_data_output` is \"yes\", and should be true or false");
}

#[tokio::test]
async fn wrong_lengths_of_the_binary_extension_are_named() {
    let server = Server::start();
    let path = "/v2/models/lenient/infer";
    let sized = |size: Value| json!({ "inputs": [{ "name": "amount", "datatype": "FP64", "shape": [1], "parameters": { "binary_data_size": size } }] });
    for (size, behind, expected) in [
        (json!(8), 7, "`inputs[0].parameters.binary_data_size` is 8, and 7 bytes are left of the body"),
        (json!(7), 7, "`inputs[0]` of shape [1] and type FP64 has 8 bytes, not 7"),
        (json!(8), 9, "1 bytes are left behind the tensors: check each `binary_data_size`"),
        (json!(-8), 8, "`inputs[0].parameters.binary_data_size` is -8, which is no number of bytes"),
        (json!(u64::MAX), 8, "is 18446744073709551615, and 8 bytes are left of the body"),
    ] {
        assert!(
            server.post_binary(path, &sized(size), &vec![0; behind]).await.error(400).contains(expected),
            "{expected}"
        );
    }
    for (length, status) in [("99", 400), ("-1", 400), ("", 400), ("x", 400), ("2", 400), ("18446744073709551616", 400)]
    {
        let request = Request::post(path).header("inference-header-content-length", length).body(Body::from("{}"));
        let error = server.ask(request.unwrap()).await.error(status);
        assert!(length == "2" || error.starts_with("`Inference-Header-Content-Length` is"), "{error}");
    }
    let raw = Request::post("/v2/models/fraud/infer").header("inference-header-content-length", 0);
    assert!(
        server.ask(raw.body(Body::from("12345678")).unwrap()).await.error(400).contains("is for models of one feature")
    );
    let raw = Request::post(path).header("inference-header-content-length", 0);
    assert!(server.ask(raw.body(Body::from("123456789")).unwrap()).await.error(400).contains("has 8 bytes, not 9"));
}

#[tokio::test]
async fn bodies_are_bounded_everywhere() {
    let server = Server::start();
    let long = "x".repeat(MAX_BODY + 1);
    for path in [
        "/v2/models/fraud/infer",
        "/v2/models/fraud/versions/1/infer",
        "/v2/repository/index",
        "/v2/repository/models/fraud/load",
        "/v2/repository/models/fraud/unload",
        "/v1/models/fraud:predict",
    ] {
        let answer = server.ask(Request::post(path).body(Body::from(long.clone())).unwrap()).await;
        assert!(answer.error(413).contains("longer than 65536 bytes"), "{path}");
        let said = Request::post(path).header("content-length", 1_u64 << 30).body(Body::empty()).unwrap();
        assert_eq!(server.ask(said).await.status, 413, "{path}");
    }
    let answer = server.ask(Request::post("/api/v1/models/fraud/predict").body(Body::from(long)).unwrap()).await;
    assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("too-large")));
    let encoded =
        Request::post("/v2/models/fraud/infer").header("content-encoding", "gzip").body(Body::from("{}")).unwrap();
    assert!(server.ask(encoded).await.error(400).starts_with("the body is no `gzip`"));
    let deep = format!("{{\"inputs\":{}", "[".repeat(30_000));
    server.ask(Request::post("/v2/models/fraud/infer").body(Body::from(deep)).unwrap()).await.error(400);
}
