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

const RIDGE: &[u8] = include_bytes!("../../../models/tests/data/sklearn/ridge.skops");

impl Server {
    async fn upload(&self, path: &str, bytes: &[u8]) -> Answer {
        let request = Request::put(format!("/api/2.0/mlflow-artifacts/artifacts/{path}"));
        self.ask(request.body(Body::from(bytes.to_vec())).unwrap()).await
    }
}

#[tokio::test]
async fn versions_are_made_of_uploaded_files() {
    let server = Server::start();
    server.upload("runs/1/model/model.skops", RIDGE).await.good();
    server.upload("runs/1/model/MLmodel", b"flavors: {}").await.good();
    let files = server.get("/api/2.0/mlflow-artifacts/artifacts?path=runs/1").await.good();
    assert_eq!(files["files"], json!([{ "path": "model", "is_dir": true }]));
    let files = server.get("/api/2.0/mlflow-artifacts/artifacts?path=runs/1/model").await.good();
    assert_eq!(files["files"][1], json!({ "path": "model.skops", "is_dir": false }));
    assert_eq!(server.get("/api/2.0/mlflow-artifacts/artifacts/runs/1/model/model.skops").await.bytes, RIDGE);
    let post = async |path: &str, body: Value| server.mlflow(Method::POST, path, &body).await;
    let tags = json!([{ "key": "owner", "value": "health" }]);
    let made = post("registered-models/create", json!({ "name": "progress", "tags": tags })).await.good();
    assert_eq!(made["registered_model"]["latest_versions"], json!([]));
    let again = post("registered-models/create", json!({ "name": "progress" })).await;
    assert_eq!((again.status, &again.json()["error_code"]), (409, &json!("RESOURCE_ALREADY_EXISTS")));
    let get = format!("{MLFLOW}/registered-models/get?name=progress");
    assert_eq!(server.get(&get).await.good()["registered_model"]["tags"], tags);
    let tags =
        json!([{ "key": "millstream.label", "value": "size" }, { "key": "millstream.features", "value": "a, b,c,d" }]);
    let version =
        json!({ "name": "progress", "source": "mlflow-artifacts://host:1/runs/1/model", "run_id": "r7", "tags": tags });
    for _ in 0..2 {
        let made = post("model-versions/create", version.clone()).await.good();
        let made = &made["model_version"];
        assert_eq!(
            (&made["version"], &made["run_id"], &made["aliases"]),
            (&json!("1"), &json!("r7"), &json!(["champion"]))
        );
    }
    let model = registry(server.folder.path()).resolve("progress").unwrap();
    let signature = Model::load(&model.bytes).unwrap().signature().clone();
    assert_eq!((signature.label.unwrap().column.as_str(), signature.features[1].name.as_str()), ("size", "b"));
}

#[tokio::test]
async fn what_a_run_logs_is_told_again_and_its_model_becomes_a_version() {
    let server = Server::start();
    let post = async |path: &str, body: Value| server.mlflow(Method::POST, path, &body).await.good();
    let experiment = server.get(&format!("{MLFLOW}/experiments/get-by-name?experiment_name=a%20b")).await.good();
    let experiment = experiment["experiment"]["experiment_id"].as_str().unwrap().to_owned();
    let named = server.get(&format!("{MLFLOW}/experiments/get?experiment_id={experiment}")).await.good();
    assert_eq!(named["experiment"]["name"], "a b");
    let run = post("runs/create", json!({ "experiment_id": experiment, "run_name": "r", "start_time": 7, "tags": [{ "key": "a", "value": "b" }] })).await;
    let id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    for value in [0.5, 0.25] {
        post("runs/log-metric", json!({ "run_id": id, "key": "loss", "value": value, "timestamp": 1, "step": 1 }))
            .await;
    }
    let batch =
        json!({ "run_id": id, "params": [{ "key": "C", "value": "1" }], "metrics": [{ "key": "f1", "value": 0.9 }] });
    post("runs/log-batch", batch).await;
    post("runs/set-tag", json!({ "run_uuid": id, "key": "a", "value": "c" })).await;
    let ended = post("runs/update", json!({ "run_id": id, "status": "FINISHED", "end_time": 9 })).await;
    assert_eq!((&ended["run_info"]["status"], &ended["run_info"]["end_time"]), (&json!("FINISHED"), &json!(9)));
    let told = server.get(&format!("{MLFLOW}/runs/get?run_id={id}")).await.good();
    let (info, data) = (&told["run"]["info"], &told["run"]["data"]);
    assert_eq!((&info["run_name"], &info["experiment_id"]), (&json!("r"), &json!(experiment)));
    let metrics: Vec<_> = data["metrics"].as_array().unwrap().iter().map(|one| (&one["key"], &one["value"])).collect();
    assert_eq!(metrics, [(&json!("f1"), &json!(0.9)), (&json!("loss"), &json!(0.25))]);
    assert_eq!((&data["params"][0]["value"], &data["tags"][0]["value"]), (&json!("1"), &json!("c")));

    let model = post("logged-models", json!({ "name": "model", "source_run_id": id })).await;
    let model_id = model["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    let path =
        model["model"]["info"]["artifact_uri"].as_str().unwrap().strip_prefix("mlflow-artifacts:/").unwrap().to_owned();
    server.upload(&format!("{path}/model.skops"), RIDGE).await.good();
    let ready = json!({ "status": "LOGGED_MODEL_READY" });
    let model = server.mlflow(Method::PATCH, &format!("logged-models/{model_id}"), &ready).await.good();
    assert_eq!(model["model"]["info"]["status"], "LOGGED_MODEL_READY");
    let tags = json!({ "tags": [{ "key": "x", "value": "y" }] });
    server.mlflow(Method::PATCH, &format!("logged-models/{model_id}/tags"), &tags).await.good();
    post("registered-models/create", json!({ "name": "progress" })).await;
    let made =
        post("model-versions/create", json!({ "name": "progress", "source": format!("models:/{model_id}") })).await;
    assert_eq!((&made["model_version"]["version"], &made["model_version"]["run_id"]), (&json!("1"), &json!(id)));
    for (path, body, status) in [
        ("runs/log-metric", json!({ "run_id": "none", "key": "x", "value": 1 }), 404),
        ("runs/log-metric", json!({ "run_id": id, "value": 1 }), 400),
        ("runs/set-tag", json!({ "run_id": "../x", "key": "x", "value": "y" }), 404),
        ("runs/create", json!({ "experiment_id": "../x" }), 404),
        ("experiments/create", json!({ "name": "x".repeat(51) }), 400),
        ("model-versions/create", json!({ "name": "progress", "source": "models:/m-none" }), 404),
    ] {
        assert_eq!(server.mlflow(Method::POST, path, &body).await.status, status, "{path} {body}");
    }
}

#[tokio::test]
async fn what_no_version_can_be_made_of_is_refused() {
    let server = Server::start();
    server.upload("damaged/model.skops", &RIDGE[..500]).await.good();
    server.upload("pickled/model.pkl", b"\x80\x04").await.good();
    server.upload("empty/MLmodel", b"flavors: {}").await.good();
    for (path, status) in [("fraud/1/model.onnx", 409), ("a/..%2Fb", 400), (&"a/".repeat(17), 400)] {
        assert_eq!(server.upload(path, b"x").await.status, status, "{path}");
    }
    assert_eq!(server.upload("large", &vec![0; MAX_BODY + 1]).await.status, 413);
    for (name, source, status, message) in [
        ("none", "mlflow-artifacts:/damaged", 404, "there is no model `none`"),
        ("fraud", "mlflow-artifacts:/nothing", 404, "nothing was uploaded to `/nothing`"),
        ("fraud", "mlflow-artifacts:/", 400, "a path has 1 to 16 names"),
        ("fraud", "mlflow-artifacts:/damaged", 400, "`/damaged/model.skops` can't be imported"),
        ("fraud", "mlflow-artifacts:/pickled", 400, "is a pickle"),
        ("fraud", "mlflow-artifacts:/empty", 400, "neither a file `.onnx` nor one `.skops`"),
        ("fraud", "runs:/1/model", 400, "what is taken is `mlflow-artifacts:/PATH`"),
    ] {
        let body = json!({ "name": name, "source": source });
        let answer = server.mlflow(Method::POST, "model-versions/create", &body).await;
        let said = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(answer.status == status && said.contains(message), "{source}: {} {said}", answer.status);
    }
    let odd = json!({ "name": "fraud", "source": "mlflow-artifacts:/damaged", "tags": [{ "key": 3 }] });
    assert!(
        server.mlflow(Method::POST, "model-versions/create", &odd).await.json()["message"]
            .as_str()
            .unwrap()
            .contains("`tags`")
    );
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
