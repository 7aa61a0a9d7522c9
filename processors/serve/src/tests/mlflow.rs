//! MLflow's registry. Its own client asks in `tests/serving`; here is what that never does.

use axum::http::Method;
use serde_json::json;

use super::*;

const MLFLOW: &str = "/api/2.0/mlflow";

impl Server {
    async fn mlflow(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = Request::builder().method(method).uri(format!("{MLFLOW}/{path}"));
        self.ask(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

fn names(found: &Value) -> Vec<&str> {
    let models = found["registered_models"].as_array().unwrap().iter();
    models.map(|model| model["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn searches_filter_order_and_go_page_by_page() {
    let server = Server::start();
    let note = json!({ "name": "flower", "key": "owner", "value": "garden" });
    server.mlflow(Method::POST, "registered-models/set-tag", &note).await.good();
    let search = async |query: &str| server.get(&format!("{MLFLOW}/registered-models/search?{query}")).await.good();
    assert_eq!(names(&search("").await), ["flower", "fraud", "lenient"]);
    assert_eq!(names(&search("order_by=name%20DESC").await), ["lenient", "fraud", "flower"]);
    assert_eq!(names(&search("filter=tags.owner%20%3D%20'garden'").await), ["flower"]);
    assert_eq!(names(&search("filter=name%20LIKE%20'f%25'").await), ["flower", "fraud"]);
    let first = search("max_results=2").await;
    assert_eq!((names(&first), &first["next_page_token"]), (vec!["flower", "fraud"], &json!("2")));
    let second = search("max_results=2&page_token=2").await;
    assert_eq!((names(&second), &second["next_page_token"]), (vec!["lenient"], &Value::Null));
    let versions = server.get(&format!("{MLFLOW}/model-versions/search?filter=name%3D'fraud'")).await.good();
    let versions: Vec<_> =
        versions["model_versions"].as_array().unwrap().iter().map(|one| one["version"].clone()).collect();
    assert_eq!(versions, [json!("3"), json!("2"), json!("1")]);
}

#[tokio::test]
async fn files_of_versions_are_given_and_others_are_not() {
    let server = Server::start();
    let artifacts = "/api/2.0/mlflow-artifacts/artifacts";
    let files = server.get(&format!("{artifacts}?path=fraud/2")).await.good();
    let names: Vec<_> = files["files"].as_array().unwrap().iter().map(|file| file["path"].clone()).collect();
    assert_eq!(names, ["MLmodel", "model.onnx", "card.json", "model.safetensors"]);
    let file = server.get(&format!("{artifacts}/fraud/2/model.safetensors")).await;
    assert_eq!(files["files"][3]["file_size"], file.bytes.len());
    let model = registry(server.folder.path()).resolve("fraud/2").unwrap();
    assert_eq!(file.bytes, model.bytes);
    for path in
        ["/fraud/2/..%2Fcard.json", "/fraud/9/card.json", "/..%2Ffraud/1/card.json", "?path=fraud", "?path=../x/1"]
    {
        let answer = server.get(&format!("{artifacts}{path}")).await;
        assert_eq!((answer.status, &answer.json()["error_code"]), (404, &json!("RESOURCE_DOES_NOT_EXIST")), "{path}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_as_mlflow_says_it() {
    let server = Server::start();
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    for (method, path, body, status, message) in [
        (&get, "registered-models/get?name=none", json!({}), 404, "there is no model `none`"),
        (&get, "registered-models/get?name=../x", json!({}), 404, "there is no model `../x`"),
        (&get, "registered-models/get", json!({}), 400, "`name` is missing"),
        (&get, "registered-models/alias?name=fraud&alias=odd", json!({}), 404, "has no alias `odd`"),
        (&get, "model-versions/get?name=fraud&version=9", json!({}), 404, "has no version 9"),
        (&get, "model-versions/get?name=fraud&version=x", json!({}), 400, "`version` is not a number"),
        (&get, "registered-models/search?filter=nonsense", json!({}), 400, "`filter` can't be read at"),
        (&get, "registered-models/search?page_token=x", json!({}), 400, "`page_token` is none"),
        (
            &post,
            "registered-models/alias",
            json!({ "name": "fraud", "alias": "latest", "version": "1" }),
            400,
            "`latest`",
        ),
        (
            &post,
            "registered-models/set-tag",
            json!({ "name": "fraud", "key": "", "value": "x" }),
            400,
            "1 to 250 bytes",
        ),
        (
            &post,
            "registered-models/set-tag",
            json!({ "name": "fraud", "key": 3, "value": "x" }),
            400,
            "`key` is not a text",
        ),
        (&post, "registered-models/set-tag", json!([]), 400, "the body is not what is taken"),
        (&delete, "registered-models/alias", json!({ "alias": "champion" }), 400, "`name` is missing"),
    ] {
        let answer = server.mlflow(method.clone(), path, &body).await;
        let said = answer.json();
        let said = said["message"].as_str().unwrap();
        assert!(answer.status == status && said.contains(message), "{path}: {} {said}", answer.status);
    }
}
