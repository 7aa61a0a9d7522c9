use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use millstream_testkit::{Driven, batch, context, drive, parse, stream, table};

use super::*;

const FRAUD: &str = r#"
    model = "fraud"
    estimator = { type = "logistic_regression", learning_rate = 0.1 }
    features = ["amount", "country"]
    label = "fraud"
"#;

fn payments() -> RecordBatch {
    table(
        "id:int64 amount:float64? country fraud:boolean? part
         1 10 FR false train
         2 900 RU true train
         3 12 FR false test
         4 850 RU null train
         5 null FR false train
         6 20 null true train
         7 700 RU true test
         8 11 DE false train",
    )
}

fn settings(more: &str) -> TrainSettings {
    parse(&format!("{FRAUD}{more}"))
}

fn train(more: &str, batch_rows: usize) -> Driven {
    drive(&settings(more), &[("from", payments())], batch_rows)
}

fn model_report(report: Option<Report>) -> ModelReport {
    let Some(Report::Model(report)) = report else { panic!("a report of a model") };
    report
}

fn problems(settings: &str, schema: &Schema) -> Problems {
    let settings: TrainSettings = parse(settings);
    settings.plan(&context(), &[stream("from", schema.clone().into())]).unwrap_err()
}

#[test]
fn the_example_is_one() {
    let _: TrainSettings = parse(TrainSettings::EXAMPLE);
}

#[test]
fn rows_leave_with_what_was_predicted_before_they_were_learned() {
    let driven = train("", 100);
    let rows = driven.text("main");
    let mut lines = rows.lines();
    let header =
        "id:int64 amount:float64? country:utf8? fraud:boolean? part:utf8? prediction:boolean probability:float64";
    assert_eq!(lines.next().unwrap(), header);
    assert_eq!(lines.next().unwrap(), "1 10.0 FR false train false 0.5");
    assert_eq!(lines.count(), 5);
    let why: Vec<_> = driven.failed.iter().map(|failed| failed.error.as_str()).collect();
    assert_eq!(why, ["feature `amount` is null", "feature `country` is null"]);
}

#[test]
fn batches_do_not_matter() {
    for more in ["", "learn_when = \"part = 'train'\"", "missing = \"mean\""] {
        let whole = train(more, 100);
        for batch_rows in [1, 3] {
            let cut = train(more, batch_rows);
            assert_eq!(cut.text("main"), whole.text("main"));
            assert_eq!(cut.text("model"), whole.text("model"));
            let (cut, whole) = (model_report(cut.report), model_report(whole.report.clone()));
            assert_eq!(format!("{cut:?}"), format!("{whole:?}"));
        }
    }
}

#[test]
fn rows_without_label_are_not_learned() {
    let report = model_report(train("", 100).report);
    assert_eq!((report.rows, report.version, report.held_out), (5, None, None));
    assert_eq!(report.sha256.unwrap().len(), 64);
}

#[test]
fn held_out_rows_are_reported_apart() {
    let report = model_report(train("learn_when = \"part = 'train'\"", 100).report);
    assert_eq!(report.rows, 3);
    assert_eq!(report.held_out.unwrap().get("accuracy"), Some(1.0));
}

#[test]
fn missing_features_can_count_as_the_mean() {
    let driven = train("missing = \"mean\"", 100);
    assert!(driven.failed.is_empty());
    assert_eq!(model_report(driven.report).rows, 7);
}

#[test]
fn labels_that_are_none_fail() {
    let settings: TrainSettings = parse(
        r#"
        model = "flowers"
        estimator = { type = "softmax_regression" }
        features = { length = "raw" }
        label = "kind"
        classes = ["rose", "lily", "iris"]
        "#,
    );
    let rows = table("length:float64 kind\n 1 rose\n 2 tulip\n 3 lily\n nan iris\n 4 null");
    let driven = drive(&settings, &[("from", rows)], 2);
    let why: Vec<_> = driven.failed.iter().map(|failed| failed.error.as_str()).collect();
    assert_eq!(
        why,
        [
            "label `kind` is `tulip`, which is none of its classes `rose`, `lily`, `iris`",
            "feature `length` is NaN; numbers that are learned from are finite, up to 1e150"
        ]
    );
    let text = driven.text("main");
    let columns =
        "prediction:utf8 probability:float64 probabilities:{ rose = float64, lily = float64, iris = float64 }";
    assert!(text.lines().next().unwrap().ends_with(columns), "{text}");
    assert!(text.lines().nth(2).unwrap().starts_with("3.0 lily rose 1.0 "), "{text}");
}

#[test]
fn numbers_are_predicted_as_numbers() {
    let settings: TrainSettings = parse(
        r#"
        model = "price"
        estimator = { type = "linear_regression" }
        features = ["area"]
        label = "price"
        as = "my_"
        "#,
    );
    let driven = drive(&settings, &[("from", table("area:int32 price:int64\n 1 10\n 2 20"))], 1);
    assert_eq!(driven.text("main"), "area:int32 price:int64 my_prediction:float64\n1 10 0.0\n2 20 0.2\n");
    assert!(model_report(driven.report).metrics.get("mae").is_some());
}

#[test]
fn versions_are_made_at_borders_and_at_the_end_and_published_once() {
    let folder = tempfile::tempdir().unwrap();
    let context = PlanContext { work_folder: folder.path().into(), ..context() };
    let run = || {
        let plan = settings("publish = { rows = 2 }").plan(&context, &[stream("from", payments().schema())]).unwrap();
        let mut trainer = (plan.build)().unwrap();
        let mut out = Collector::new(2);
        let mut made = Vec::new();
        for (epoch, row) in [0, 1, 2, 6, 7].into_iter().enumerate() {
            trainer.process(0, batch(payments().slice(row, 1)), &mut out).unwrap();
            trainer.border(Epoch(epoch as u64 + 1), &mut out).unwrap();
            made.push(out.take(MODEL_PORT).count());
        }
        trainer.finish(&mut out).unwrap();
        made.push(out.take(MODEL_PORT).count());
        trainer.commit().unwrap();
        trainer.commit().unwrap();
        (made, model_report(trainer.report()).version)
    };
    assert_eq!(run(), (vec![0, 1, 0, 1, 0, 1], Some(3)));
    let registry = Registry::open(millstream_store::open("models", folder.path()).unwrap(), "models");
    assert_eq!(registry.versions("fraud").unwrap(), [1, 2, 3]);
    let latest = registry.resolve("fraud@latest").unwrap();
    assert_eq!((latest.card.rows, latest.card.flow.as_str(), latest.card.node.as_str()), (5, "test", "node"));
    assert!(latest.card.metrics["accuracy"].is_number());
    assert_eq!(registry.resolve("fraud@champion").unwrap().version, 1);
    // The same flow on the same rows makes the same models.
    assert_eq!(run().1, Some(3));
    assert_eq!(registry.versions("fraud").unwrap(), [1, 2, 3]);
}

#[test]
fn without_new_rows_there_is_no_version() {
    let unlabelled = payments().slice(3, 1);
    let driven = drive(&settings(""), &[("from", unlabelled)], 1);
    assert_eq!(driven.text("model"), "");
    assert_eq!(model_report(driven.report).rows, 0);
}

#[test]
fn columns_are_asked_for() {
    let settings = settings("learn_when = \"part = 'train'\"");
    let plan = settings.plan(&context(), &[stream("from", payments().schema())]).unwrap();
    assert_eq!(plan.uses, [Uses::passing_on(["amount", "country", "fraud", "part"])]);
    let ports: Vec<_> = plan.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(ports, ["main", "model"]);
    assert_eq!(version::signature(&plan.ports[1].schema).unwrap().features.len(), 2);
}

#[test]
fn all_problems_are_found_at_their_places() {
    let settings = r#"
        model = "Fraud"
        estimator = { type = "logistic_regression" }
        features = ["amuont", "fraud", "country", "country"]
        label = "part"
        learn_when = "id > 3"
    "#;
    let problems = problems(settings, &payments().schema());
    let at = |problem: &Problem| problem.at.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join(".");
    let found: Vec<_> = problems.iter().map(|problem| (at(problem), problem.message.as_str())).collect();
    let expected = [
        ("Key(\"features\").Index(0)", "there is no column `amuont`"),
        ("Key(\"features\").Index(3)", "`country` is listed twice"),
        ("Key(\"label\")", "which values the label `part` can have must be said"),
        ("Key(\"learn_when\")", "`id > 3` is no condition that this node knows"),
    ];
    for (place, message) in expected {
        assert!(found.contains(&(place.to_owned(), message)), "{found:?}");
    }
    assert!(found.iter().any(|(place, _)| place == "Key(\"model\")"));
}

#[test]
fn wrong_settings_are_explained() {
    let schema = payments().schema();
    let message = |estimator: &str, features: &str, label: &str, more: &str| {
        let settings = format!(
            "model = 'm'\n estimator = {{ type = '{estimator}' }}\n features = {features}\n label = '{label}'\n{more}"
        );
        problems(&settings, &schema)[0].message.clone()
    };
    let regression = message("linear_regression", "['amount']", "country", "");
    assert_eq!(regression, "label `country` is utf8, and should be a number");
    let three = message("logistic_regression", "['amount']", "country", "classes = ['a', 'b', 'c']");
    assert!(three.contains("has two classes, and there are 3; `softmax_regression`"), "{three}");
    let odd = message("logistic_regression", "['amount']", "fraud", "classes = [0, 1]");
    assert_eq!(odd, "`0` is no value of the label `fraud`, which is boolean");
    let own = message("logistic_regression", "['fraud']", "fraud", "");
    assert!(own.contains("learn from the answer"), "{own}");
    let text = message("logistic_regression", "{ country = 'standardise' }", "fraud", "");
    assert_eq!(text, "column `country` is utf8, and this encodes numbers");
    let number = message("logistic_regression", "{ amount = { hash = 8 } }", "fraud", "");
    assert_eq!(number, "column `amount` is float64, and this encodes texts, booleans and integers");
    let none = message("logistic_regression", "{ country = { hash = 0 } }", "fraud", "publish = { rows = 0 }");
    assert_eq!(none, "`country` has 0 slots; there must be 1 to 16777216");
    let never = message("logistic_regression", "['amount']", "fraud", "publish = { rows = 0 }");
    assert_eq!(never, "a version can't be published every 0 rows");
    let backwards = message("logistic_regression', learning_rate = -1, l2 = 0 } #", "['amount']", "fraud", "");
    assert_eq!(backwards, "`learning_rate` is -1, and should be a number from 0 up, such as 0.01");
    let taken = table("prediction:float64 y:boolean\n1 true").schema();
    let settings =
        "model = 'm'\n estimator = { type = 'logistic_regression' }\n features = ['prediction']\n label = 'y'";
    assert_eq!(problems(settings, &taken)[0].message, "there is already a column `prediction`");
}
