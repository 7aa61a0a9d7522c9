//! Predictions with ids, labels that are sent for them, and the flow that reads both.

use std::time::Duration;

use millstream_core::{Collector, Home, Input, InputSettings as _, Positions, Progress, State};
use millstream_testkit::{context, parse, rows_as_text};

use super::*;
use crate::ServedInput;
use crate::request_log::LogLimits;

const PREDICT: &str = "/api/v1/models/fraud/predict";
const LEARN: &str = "/api/v1/models/fraud/learn";
const LIMITS: LogLimits = LogLimits { bytes: 1 << 20, labels_within: Duration::from_secs(3600) };

fn open(folder: &Path, limits: LogLimits) -> Arc<RequestLog> {
    RequestLog::open(folder, limits).unwrap()
}

fn serve(folder: &Path) -> Server {
    Server::with(Trials::new(), Some(open(folder, LIMITS)))
}

fn payment(amount: f64) -> Value {
    json!({ "amount": amount, "items": 1, "country": "FR" })
}

/// The ids of payments that are predicted.
async fn predict(server: &Server, amounts: &[f64]) -> Vec<String> {
    let rows: Vec<_> = amounts.iter().map(|amount| payment(*amount)).collect();
    let answer = server.post(PREDICT, &json!({ "rows": rows })).await.good();
    serde_json::from_value(answer["ids"].clone()).unwrap()
}

async fn learn(server: &Server, labels: &[(&str, Value)]) -> Answer {
    let rows: Vec<_> = labels.iter().map(|(id, label)| json!({ "id": id, "label": label })).collect();
    server.post(LEARN, &json!({ "rows": rows })).await
}

/// An input of this table, as a flow opens it, and how far it has come.
struct Reading {
    input: Box<dyn Input>,
    position: u64,
}

impl Reading {
    async fn of(folder: &Path, table: &str, from: Option<u64>, home: &Home) -> Self {
        Self::open(folder, table, from, home).await.unwrap()
    }

    async fn open(folder: &Path, table: &str, from: Option<u64>, home: &Home) -> millstream_core::Result<Self> {
        let text = format!("log = {:?}\nmodel = \"fraud\"\n{table}", folder.display().to_string());
        let settings: ServedInput = parse(&text);
        let mut input = (settings.plan(&context()).unwrap().build)().unwrap();
        if let Some(from) = from {
            let mut parts = millstream_core::Parts::default();
            parts.put("log", &None::<String>).unwrap();
            input.restore(&Positions::from([("".into(), from)]), &parts.into_state().unwrap()).unwrap();
        }
        input.open(home).await?;
        Ok(Self { input, position: from.unwrap_or(0) })
    }

    /// The rows that come next, as text, without their ids and times.
    async fn next(&mut self) -> String {
        let mut out = Collector::of_input(1);
        let read = self.input.next(&mut out);
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap(), Progress::More);
        let batches: Vec<_> = out.take(0).collect();
        self.position = batches.last().unwrap().origin.end;
        rows_as_text(&batches.iter().map(|batch| lasting(&batch.rows)).collect::<Vec<_>>())
    }
}

/// The columns that are the same each time.
fn lasting(rows: &RecordBatch) -> RecordBatch {
    let schema = rows.schema();
    let names = schema.fields().iter().map(|field| field.name());
    let lasting = names.enumerate().filter(|(_, name)| !name.ends_with("_at") && *name != "prediction_id");
    rows.project(&lasting.map(|(at, _)| at).collect::<Vec<_>>()).unwrap()
}

const LABELLED: &str =
    "schema = { amount = \"float64\", country = \"utf8\", prediction = \"boolean\", fraud = \"boolean\" }";
const PREDICTED: &str = "rows = \"predicted\"\nschema = { amount = \"float64\" }";

#[tokio::test]
async fn a_label_is_learned_once_with_the_features_of_its_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let home = Home::Folder(home.path().to_owned());
    let server = serve(folder.path());
    let mut reading = Reading::of(folder.path(), LABELLED, None, &home).await;
    let ids = predict(&server, &[870.0, 10.5, 900.0]).await;
    let other = predict(&server, &[20.0]).await;
    let taken = learn(&server, &[(&ids[1], json!(true)), (&other[0], json!(false))]).await.good();
    assert_eq!(taken, json!({ "model": "fraud", "rows": 2, "known": 0 }));
    // What is read ends behind the labels, whatever was predicted before them.
    assert_eq!(
        reading.next().await,
        "amount:float64 country:utf8 prediction:boolean fraud:boolean model_version:utf8\n10.5 FR false true fraud/1\n20.0 FR false false fraud/1\n"
    );
    assert_eq!(learn(&server, &[(&ids[1], json!(true)), (&ids[0], json!(true))]).await.good()["known"], 1);
    assert_eq!(
        reading.next().await,
        "amount:float64 country:utf8 prediction:boolean fraud:boolean model_version:utf8\n870.0 FR true true fraud/1\n"
    );
    let (position, log) = (reading.position, folder.path().join("readers/test.node/mark"));
    let of = |position| Positions::from([("".into(), position)]);
    reading.input.checkpoint_completed(&of(position), &of(2)).await.unwrap();
    assert_eq!(std::fs::read_to_string(log).unwrap(), format!("2 {position}\n"));
    // Neither the server nor the flow are there for a moment.
    drop((server, reading));
    let server = serve(folder.path());
    assert_eq!(learn(&server, &[(&ids[1], json!(true)), (&ids[2], json!(false))]).await.good()["known"], 1);
    let mut reading = Reading::of(folder.path(), LABELLED, Some(position), &home).await;
    assert_eq!(
        reading.next().await,
        "amount:float64 country:utf8 prediction:boolean fraud:boolean model_version:utf8\n900.0 FR true false fraud/1\n"
    );
    let mut requests = Reading::of(folder.path(), PREDICTED, Some(1), &Home::Nowhere).await;
    assert_eq!(requests.next().await, "amount:float64 model_version:utf8\n10.5 fraud/1\n900.0 fraud/1\n20.0 fraud/1\n");
}

#[tokio::test]
async fn labels_that_can_not_be_taken_are_refused_by_their_place_and_none_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    let ids = predict(&server, &[870.0, 10.0]).await;
    let flower = server.post("/api/v1/models/flower/predict", &json!({ "rows": [[6, 9]] })).await.good();
    let flower = flower["ids"][0].as_str().unwrap().to_owned();
    learn(&server, &[(&ids[0], json!(true))]).await.good();
    let log = ids[0].rsplit_once('-').unwrap().0;
    let beyond = ids[1].replace("-1", "-4000");
    let (of_labels, signed) = (format!("{log}-3"), format!("{log}-+1"));
    for (id, label, status, expected) in [
        ("nonsense", json!(true), 404, "`rows[1].id` is of no prediction"),
        ("0000000000000000-1", json!(true), 404, "`rows[1].id` is of no prediction"),
        (&beyond, json!(true), 404, "`rows[1].id` is of no prediction"),
        (&of_labels, json!(true), 404, "`rows[1].id` is of no prediction"),
        (&signed, json!(true), 404, "`rows[1].id` is of no prediction"),
        (&flower, json!(true), 404, "`rows[1].id` is of a prediction of model `flower`, and not of `fraud`"),
        (&ids[0], json!(false), 409, "`rows[1].id`: the prediction has another label already"),
        (
            &ids[0],
            json!("yes"),
            400,
            "`rows[1].label`: `\"yes\"` is none of the classes of `fraud` (boolean): false, true",
        ),
        (&ids[1], json!(true), 400, "`rows[1]` has another label for the same id as `rows[0]`"),
    ] {
        let answer = learn(&server, &[(&ids[1], json!(false)), (id, label)]).await;
        let problem = answer.json();
        assert_eq!(answer.status, status, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(expected), "{problem}");
    }
    assert_eq!(learn(&server, &[(&ids[1], json!(false)), (&ids[1], json!(false))]).await.good()["rows"], 1);
    let none = Server::start();
    assert!(none.post(PREDICT, &json!({ "rows": [payment(1.0)] })).await.good().get("ids").is_none());
    assert_eq!(learn(&none, &[(&ids[1], json!(false))]).await.status, 404);
    let late = Server::with(Trials::new(), {
        drop(server);
        Some(open(folder.path(), LogLimits { labels_within: Duration::ZERO, ..LIMITS }))
    });
    let answer = learn(&late, &[(&ids[1], json!(false))]).await;
    assert!(answer.json()["detail"].as_str().unwrap().contains("within which labels are taken"), "{answer:?}");
}

#[tokio::test]
async fn every_protocol_says_the_ids() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    let body = json!({ "id": "42", "inputs": two_payments() });
    let answer = server.post("/v2/models/fraud/infer", &body).await.good();
    let id = answer["parameters"]["prediction_id"].as_str().unwrap();
    assert_eq!((&answer["id"], id.ends_with("-0")), (&json!("42"), true));
    for (path, body, number) in [
        ("/v1/models/fraud:predict", json!({ "instances": [payment(1.0)] }), "-2"),
        ("/v1/models/fraud:predict", json!({ "instances": [payment(1.0)] }), "-3"),
    ] {
        let answer = server.post(path, &body).await;
        assert!(answer.headers["prediction-id"].to_str().unwrap().ends_with(number), "{answer:?}");
    }
    let second = id.replace("-0", "-1");
    assert_eq!(learn(&server, &[(&second, json!(true)), (id, json!(true))]).await.good()["rows"], 2);
}

#[tokio::test]
async fn many_label_at_the_same_time_and_each_row_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Arc::new(serve(folder.path()));
    let amounts: Vec<f64> = (0..64).map(f64::from).collect();
    let ids = predict(&server, &amounts).await;
    let sent = (0..256).map(|turn| {
        let (server, id) = (server.clone(), ids[turn % ids.len()].clone());
        tokio::spawn(async move { learn(&server, &[(&id, json!(turn % 128 < 64))]).await })
    });
    let (mut taken, mut conflicts) = (0, 0);
    for answer in futures::future::join_all(sent).await {
        let answer = answer.unwrap();
        match answer.status {
            200 => taken += answer.json()["rows"].as_u64().unwrap(),
            409 => conflicts += 1,
            status => assert_eq!(status, 503, "{answer:?}"),
        }
    }
    assert_eq!(taken, 64);
    assert!(conflicts > 0);
    let mut reading = Reading::of(folder.path(), LABELLED, None, &Home::Nowhere).await;
    let mut rows = 0;
    while rows < 64 {
        rows += reading.next().await.lines().filter(|line| line.contains("fraud/1")).count();
    }
    assert_eq!(rows, 64);
}

#[tokio::test]
async fn what_all_have_taken_is_removed_and_what_nobody_has_read_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), LogLimits { bytes: 64 << 10, ..LIMITS });
    let server = Server::with(Trials::new(), Some(log.clone()));
    let first = predict(&server, &[1.0]).await;
    let rows: Vec<_> = (0..40).map(|amount| payment(f64::from(amount))).collect();
    let body = json!({ "rows": rows });
    let mut answered = 0;
    while server.post(PREDICT, &body).await.good().get("ids").is_some() {
        log.tidy().unwrap();
        answered += 1;
        assert!(answered < 1000);
    }
    let mut rows = 1 + 40 * answered;
    while server.post(PREDICT, &json!({ "rows": [payment(1.0)] })).await.good().get("ids").is_some() {
        rows += 1;
    }
    // It is full: predictions are answered all the same, and labels are not taken.
    assert_eq!(server.repository.loaded("fraud").unwrap()[0].figures.log(), [rows, 41, 0]);
    let refused = learn(&server, &[(&first[0], json!(true))]).await;
    assert_eq!((refused.status, refused.json()["retryable"].clone()), (503, json!(true)));
    let home = Home::Folder(folder.path().join("home"));
    let mut reading = Reading::of(folder.path(), PREDICTED, None, &home).await;
    reading.next().await;
    log.tidy().unwrap();
    assert_eq!(learn(&server, &[(&first[0], json!(true))]).await.status, 503);
    while reading.position < rows {
        reading.next().await;
    }
    let all = Positions::from([("".into(), reading.position)]);
    reading.input.checkpoint_completed(&all, &all).await.unwrap();
    log.tidy().unwrap();
    assert!(log.bytes() <= 32 << 10, "{}", log.bytes());
    assert_eq!(learn(&server, &[(&first[0], json!(true))]).await.status, 404);
    let ids = predict(&server, &[1.0]).await;
    assert_eq!(learn(&server, &[(&ids[0], json!(true))]).await.good()["rows"], 1);
    // Who would have to go on from what is gone leaves no mark, which would hold the log up.
    let late = format!("reader = \"late\"\n{PREDICTED}");
    assert!(Reading::open(folder.path(), &late, Some(1), &home).await.is_err());
    assert!(!folder.path().join("readers/late").exists());
}

#[tokio::test]
async fn a_log_that_is_another_one_is_not_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    predict(&server, &[1.0]).await;
    let mut reading = Reading::of(folder.path(), PREDICTED, None, &Home::Nowhere).await;
    reading.next().await;
    let state: State = reading.input.snapshot(&Positions::new()).unwrap().into_state().unwrap();
    drop(server);
    std::fs::remove_dir_all(folder.path()).unwrap();
    drop(serve(folder.path()));
    let text = format!("log = {:?}\nmodel = \"fraud\"\n{PREDICTED}", folder.path().display().to_string());
    let settings: ServedInput = parse(&text);
    let mut input = (settings.plan(&context()).unwrap().build)().unwrap();
    input.restore(&Positions::from([("".into(), 1)]), &state).unwrap();
    let error = input.open(&Home::Nowhere).await.unwrap_err().to_string();
    assert!(error.contains("is not the one that was read before"), "{error}");
}

#[test]
fn a_folder_with_files_of_others_is_no_log() {
    let folder = tempfile::tempdir().unwrap();
    publish(&registry(folder.path()), "fraud", &fraud(1), "1");
    let models = folder.path().join("models");
    let error = RequestLog::open(&models, LIMITS).unwrap_err().to_string();
    assert!(error.contains("has `fraud` in it, and is no log of requests"), "{error}");
    assert!(!models.join("name").exists());
    // A flow may be there first.
    let log = folder.path().join("requests");
    std::fs::create_dir_all(log.join("readers")).unwrap();
    drop(open(&log, LIMITS));
    drop(open(&log, LIMITS));
    std::fs::write(log.join("name"), "../x").unwrap();
    let error = RequestLog::open(&log, LIMITS).unwrap_err().to_string();
    assert!(error.ends_with("should hold 16 hexadecimal digits"), "{error}");
}

#[tokio::test]
async fn what_is_behind_the_path_is_known_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    let ids = predict(&server, &[1.0]).await;
    let rows = json!({ "rows": [{ "id": ids[0], "label": true }] });
    let refused = async |path: String, body: &Value| {
        let answer = server.post(&path, body).await;
        assert_eq!(answer.status, 400);
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    let said = refused(format!("{LEARN}?version=2"), &rows).await;
    assert_eq!(said, "nothing is taken behind `?`: the id of a row says which version has predicted it");
    let said = refused(format!("{PREDICT}?verson=2"), &json!({ "rows": [] })).await;
    assert_eq!(
        said,
        "what is behind `?` is not what is taken: `verson` is unknown; what is taken is `version` or `inputs`"
    );
    let said = refused(format!("{PREDICT}?inputs=perhaps"), &json!({ "rows": [] })).await;
    assert!(said.starts_with("what is behind `?` is not what is taken: `inputs`: "), "{said}");
    assert_eq!(server.post(&format!("{LEARN}?"), &rows).await.good()["rows"], 1);
}

#[tokio::test]
async fn a_log_that_is_taken_away_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), LIMITS);
    let server = Server::with(Trials::new(), Some(log.clone()));
    let ids = predict(&server, &[1.0]).await;
    log.tidy().unwrap();
    std::fs::remove_dir_all(folder.path()).unwrap();
    let error = log.tidy().unwrap_err().to_string();
    assert!(error.starts_with("the log of requests is gone from"), "{error}");
    // Predictions are answered all the same, but without ids.
    let answer = server.post(PREDICT, &json!({ "rows": [payment(1.0)] })).await.good();
    assert_eq!((&answer["predictions"][0]["prediction"], &answer["ids"]), (&json!(false), &Value::Null));
    assert_eq!(learn(&server, &[(&ids[0], json!(true))]).await.status, 503);
}
