use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch};
use arrow::datatypes::Schema;
use millstream_core::{CommitContext, PendingCommit};
use millstream_testkit::{Driven, Timing, batch, context, drive, drive_in_time, parse, stream, table};
use serde_json::json;

use super::*;
use crate::damage;

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

fn registry(folder: &Path) -> ModelRegistry {
    ModelRegistry::open(millstream_store::open("models", folder).unwrap(), "models")
}

/// What a node has staged; it forgets it.
fn staged(node: &mut dyn Processor) -> State {
    node.snapshot().unwrap().staged.into_state().unwrap()
}

/// The registry is never waited for.
fn commit(committer: &mut dyn Committer, staged: &State) -> Result<()> {
    let pending = PendingCommit { staged: staged.clone(), context: CommitContext::default() };
    match pin!(committer.commit(&pending)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a commit that waits"),
    }
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
    let lacking =
        |name: &str| format!("feature `{name}` is null; `missing = \"mean\"` of `train` lets such rows through");
    assert_eq!(why, [lacking("amount"), lacking("country")]);
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
fn the_order_of_classes_says_which_is_positive_and_nothing_else() {
    // The first row is a tie, which goes to the first class.
    let predicted = |more: &str| {
        let text = train(more, 100).text("main");
        text.lines().skip(2).map(|line| line.split(' ').nth(5).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(predicted("classes = [true, false]"), predicted(""));
}

#[test]
fn a_threshold_decides_and_goes_with_the_model() {
    let recall = |more: &str| {
        let driven = train(more, 100);
        let signature = version::signature(&driven.ports["model"][0].schema()).unwrap();
        let confusion = model_report(driven.report.clone()).confusion.unwrap();
        assert_eq!(confusion.classes, ["false", "true"]);
        (confusion.counts, signature.threshold)
    };
    assert_eq!(recall("threshold = 0.0"), (vec![vec![0, 3], vec![0, 2]], Some(0.0)));
    assert_eq!(recall("threshold = 1.0"), (vec![vec![3, 0], vec![2, 0]], Some(1.0)));
    let problem = |label: &str, more: &str| {
        let settings =
            format!("model = 'm'\nestimator = {{ type = 'network', layers = [] }}\nfeatures = ['country']\n{more}");
        problems(&format!("{settings}\nlabel = '{label}'"), &payments().schema())[0].message.clone()
    };
    assert_eq!(problem("fraud", "threshold = 1.5"), "`threshold` is 1.5, and should be a probability from 0 to 1");
    let number = problem("amount", "threshold = 0.5");
    assert_eq!(number, "a threshold is for two classes, which the label `amount` does not have");
}

/// One payment in ten is a fraud, whatever the amount.
#[test]
fn calibrated_scores_are_as_probable_as_they_say() {
    let row = |row: usize| format!("\n {} {}", row * 37 % 100, row * 7 % 10 == 3);
    let rows = table(&format!("amount:float64 fraud:boolean{}", (0..2000).map(row).collect::<String>()));
    let train = |more: &str| {
        let settings = "model = 'm'\nestimator = { type = 'sgd_classifier' }\nfeatures = ['amount']\nlabel = 'fraud'";
        let driven = drive(&parse::<TrainSettings>(&format!("{settings}\n{more}")), &[("from", rows.clone())], 7);
        let main = driven.text("main");
        (main.lines().next().unwrap().to_owned(), model_report(driven.report).recent.get("ece").unwrap())
    };
    let (header, ece) = train("");
    assert!(header.ends_with("prediction:boolean score:float64") && ece.is_nan(), "{header}");
    for method in ["calibration = 'platt'", "calibration = { type = 'isotonic', window = 1000, every = 100 }"] {
        let (header, ece) = train(method);
        assert!(header.ends_with("prediction:boolean probability:float64") && ece < 0.06, "{header}: {ece}");
    }
    let refused = problems(
        "model = 'm'\nestimator = { type = 'linear_regression' }\nfeatures = ['fraud']\nlabel = 'amount'\ncalibration = 'platt'",
        &rows.schema(),
    );
    assert!(refused.iter().any(|problem| problem.message.contains("neither probabilities nor scores")), "{refused:?}");
    let window =
        problems(&format!("{FRAUD}calibration = {{ type = 'platt', window = 1 }}"), &payments().schema()).remove(0);
    assert_eq!((window.message.as_str(), window.at.len()), ("`window` is 1, and should be from 10 to 1000000", 2));
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
            trainer.barrier(Epoch(epoch as u64 + 1), &mut out).unwrap();
            made.push(out.take(MODEL_PORT).count());
        }
        trainer.finish(&mut out).unwrap();
        made.push(out.take(MODEL_PORT).count());
        let staged = staged(&mut *trainer);
        let mut committer = trainer.committer().unwrap();
        commit(&mut *committer, &staged).unwrap();
        commit(&mut *committer, &staged).unwrap();
        (made, model_report(trainer.report()).version)
    };
    assert_eq!(run(), (vec![0, 1, 0, 1, 0, 1], Some(3)));
    let registry = registry(folder.path());
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
fn the_latest_version_is_that_of_the_last_run() {
    let folder = tempfile::tempdir().unwrap();
    let context = PlanContext { work_folder: folder.path().into(), ..context() };
    let run = |more: &str| {
        let plan = settings(more).plan(&context, &[stream("from", payments().schema())]).unwrap();
        let mut trainer = (plan.build)().unwrap();
        let mut out = Collector::new(2);
        trainer.process(0, batch(payments()), &mut out).unwrap();
        trainer.finish(&mut out).unwrap();
        let staged = staged(&mut *trainer);
        let mut committer = trainer.committer().unwrap();
        commit(&mut *committer, &staged).unwrap();
        (
            model_report(trainer.report()).version.unwrap(),
            registry(folder.path()).resolve("fraud@latest").unwrap().version,
        )
    };
    let other = "learn_when = \"part = 'train'\"";
    assert_eq!([run(""), run(other), run(""), run(""), run(other)], [(1, 1), (2, 2), (3, 3), (3, 3), (4, 4)]);
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
    let schema = table("id:int64 amount:float64? country fraud:boolean? part small:int8\n").schema();
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
    let large = message("softmax_regression", "['amount']", "small", "classes = [1, 300]");
    assert_eq!(large, "`300` is no value of the label `small`, which is int8");
    let many = (0..10_001).map(|class| class.to_string()).collect::<Vec<_>>().join(", ");
    let many = message("softmax_regression", "['amount']", "id", &format!("classes = [{many}]"));
    assert_eq!(many, "there are 10001 classes; 10000 are the most");
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

/// Rows with event time, numbers, categories and labels of all kinds.
fn events(rows: usize) -> RecordBatch {
    let noise = |row: usize| (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) >> 40;
    let line = |row: usize| {
        let (a, b) = (noise(row) % 1000, noise(row + 5000) % 1000);
        let (word, kind) = (noise(row + 9000) % 12, ["x", "y", "z"][(a + b) as usize % 3]);
        let part = if row.is_multiple_of(5) { "test" } else { "train" };
        let at = format!("2026-01-01T00:{:02}:{:02}Z", row / 60, row % 60);
        format!("{at} {a}.5 {b} w{word} {} {kind} {part}", a > b)
    };
    let lines: Vec<_> = (0..rows).map(line).collect();
    table(&format!("at:timestamp a:float64 b:int64 word fraud:boolean kind part\n{}", lines.join("\n")))
}

/// Settings of one node for each estimator there is.
fn of_each_estimator() -> Vec<TrainSettings> {
    let network = "type = 'network', layers = [{ dense = 8 }, { dropout = 0.3 }, { normalise = 'layer' }], \
        optimizer = { type = 'adamw', learning_rate = 0.01, weight_decay = 0.01 }, clip_norm = 1.0, batch_rows = 32";
    let all = "features = { a = 'standardise', b = 'standardise', word = { one_hot = 8 } }";
    let without_a = "features = { b = 'standardise', word = { hash = 5 } }";
    let kinds = "label = 'kind'\nclasses = ['x', 'y', 'z']";
    let settings = |estimator: &str, features: &str, more: &str| {
        parse(&format!("model = 'm'\nestimator = {{ {estimator} }}\n{features}\npublish = {{ rows = 40 }}\n{more}"))
    };
    vec![
        settings("type = 'logistic_regression'", all, "label = 'fraud'\nlearn_when = \"part = 'train'\""),
        settings("type = 'linear_regression'", without_a, "label = 'a'\ndrift = { type = 'page_hinkley' }"),
        settings("type = 'softmax_regression'", all, kinds),
        settings("type = 'sgd_classifier', penalty = 'l1', average = 20", all, "label = 'fraud'"),
        settings("type = 'sgd_classifier', loss = 'log_loss', penalty = 'elasticnet'", all, kinds),
        settings("type = 'sgd_regressor', average = true", without_a, "label = 'a'"),
        settings(network, all, "label = 'fraud'\nlearn_when = \"part = 'train'\""),
        settings(network, all, kinds),
        settings(
            "type = 'adaptive_random_forest', n_models = 3",
            all,
            &format!("{kinds}\ndrift = {{ type = 'adwin' }}"),
        ),
    ]
}

/// `drive_in_time` compares a trainer that is never restored with one that is restored at every batch: predictions,
/// the checksum of every version, and every figure.
#[test]
fn a_trainer_that_is_restored_makes_the_same_bits() {
    let rows = events(400);
    for settings in of_each_estimator() {
        for batch_rows in [7, 100] {
            let timing = Timing { lateness: 0, watermark_rows: 64, epoch_rows: 90, batch_rows };
            let driven = drive_in_time(&settings, &rows, timing);
            assert_eq!(driven.text("model").lines().count(), 1 + 5, "a heading and a version an epoch");
            assert!(model_report(driven.report).rows >= 320);
        }
    }
}

/// Amounts that say what is fraud, until from row `turn` on the opposite is true.
fn turning_payments(rows: usize, turn: usize) -> RecordBatch {
    let amounts = Float64Array::from_iter_values((0..rows).map(|row| (row % 7) as f64));
    let frauds = BooleanArray::from_iter((0..rows).map(|row| Some((row % 7 > 3) != (row >= turn))));
    RecordBatch::try_from_iter([("amount", Arc::new(amounts) as ArrayRef), ("fraud", Arc::new(frauds))]).unwrap()
}

#[test]
fn errors_are_watched_for_drift() {
    let settings: TrainSettings = parse(
        r#"
        model = "fraud"
        estimator = { type = "hoeffding_tree" }
        features = ["amount"]
        label = "fraud"
        drift = { type = "adwin" }
        "#,
    );
    let report = |turn| model_report(drive(&settings, &[("from", turning_payments(3000, turn))], 100).report);
    assert_eq!(report(3000).metrics.get("drifts"), Some(0.0));
    let metrics = report(2000).metrics;
    assert!(metrics.get("drifts").is_some_and(|drifts| drifts >= 1.0), "{metrics:?}");
    let [before, after] = ["error_before_drift", "error_after_drift"].map(|name| metrics.get(name).unwrap());
    assert!(before != after && metrics.get("rows_since_drift").unwrap() < 1000.0, "{metrics:?}");
}

#[test]
fn drift_that_can_not_be_watched_is_refused() {
    let refused = |settings: &str| problems(settings, &payments().schema())[0].clone();
    let numbers = refused(
        "model = 'm'\nestimator = { type = 'linear_regression' }\nfeatures = ['id']\nlabel = 'amount'\ndrift = { type = 'ddm' }",
    );
    assert!(
        numbers.message.contains("and those are numbers") && format!("{:?}", numbers.at).contains("drift"),
        "{numbers:?}"
    );
    let nothing = refused(
        "model = 'm'\nestimator = { type = 'k_means', clusters = 2 }\nfeatures = ['amount']\ndrift = { type = 'adwin' }",
    );
    assert!(nothing.message.contains("makes no errors"), "{nothing:?}");
}

/// A trainer, built, that publishes at a barrier after two rows.
fn trainer(folder: &Path) -> Box<dyn Processor> {
    let context = PlanContext { work_folder: folder.into(), ..context() };
    let plan = settings("publish = { rows = 2 }").plan(&context, &[stream("from", payments().schema())]).unwrap();
    (plan.build)().unwrap()
}

/// Has it learn the rows `start..start + 2` of those that it can learn, and make a version.
fn teach(trainer: &mut dyn Processor, start: usize, epoch: u64) {
    let rows = [0, 1, 2, 6, 7, 0];
    let mut out = Collector::new(2);
    for row in &rows[start..start + 2] {
        trainer.process(0, batch(payments().slice(*row, 1)), &mut out).unwrap();
    }
    trainer.barrier(Epoch(epoch), &mut out).unwrap();
    assert_eq!(out.take(MODEL_PORT).count(), 1);
}

#[test]
fn what_is_staged_is_forgotten_and_carries_its_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(folder.path());
    assert!(staged(&mut *trainer).is_empty(), "nothing was made");
    teach(&mut *trainer, 0, 3);
    teach(&mut *trainer, 2, 5);
    assert_eq!(trainer.snapshot().unwrap().versions, [Epoch(3), Epoch(5)]);
    assert!(staged(&mut *trainer).is_empty());
    let mut out = Collector::new(2);
    trainer.process(0, batch(payments().slice(7, 1)), &mut out).unwrap();
    trainer.finish(&mut out).unwrap();
    assert_eq!(trainer.snapshot().unwrap().versions, [Epoch(u64::MAX)]);
}

#[test]
fn commits_are_repeated_without_harm() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = trainer(folder.path());
    let mut committer = node.committer().unwrap();
    assert!(node.committer().is_none());
    teach(&mut *node, 0, 1);
    teach(&mut *node, 2, 2);
    let both = staged(&mut *node);
    // The node goes on before they are committed.
    teach(&mut *node, 4, 3);
    let third = node.snapshot().unwrap();
    let (state, third) = (third.state.into_state().unwrap(), third.staged.into_state().unwrap());
    assert_eq!(model_report(node.report()).version, None);
    // A crash after the first of the two: it alone is published.
    let first = ["version.0", "card.0"].map(|name| (name.to_owned(), both.bytes(name).unwrap().to_owned()));
    let count = ("versions".to_owned(), vec![1]);
    commit(&mut *committer, &State::new(first.into_iter().chain([count]))).unwrap();
    assert_eq!(model_report(node.report()).version, Some(1));
    for _ in 0..2 {
        commit(&mut *committer, &both).unwrap();
        assert_eq!(model_report(node.report()).version, Some(2));
    }
    commit(&mut *committer, &third).unwrap();
    let registry = registry(folder.path());
    assert_eq!(registry.versions("fraud").unwrap(), [1, 2, 3]);
    // As a flow that is resumed does, before it restores the node.
    let mut resumed = trainer(folder.path());
    commit(&mut *resumed.committer().unwrap(), &third).unwrap();
    resumed.restore(&state).unwrap();
    assert_eq!(model_report(resumed.report()).version, Some(3));
    assert_eq!(model_report(resumed.report()).sha256, model_report(node.report()).sha256);
    assert_eq!(registry.versions("fraud").unwrap(), [1, 2, 3]);
    let rows: Vec<_> = [1, 2, 3].iter().map(|version| registry.card("fraud", *version).unwrap().rows).collect();
    assert_eq!(rows, [2, 4, 6]);
    let card = std::fs::read_to_string(folder.path().join("models/fraud/versions/00000001/card.json")).unwrap();
    assert!(!card.contains("lineage"), "none was told");
}

#[test]
fn the_lineage_of_a_version_is_on_its_card() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(folder.path());
    teach(&mut *trainer, 0, 1);
    teach(&mut *trainer, 2, 2);
    let staged = staged(&mut *trainer);
    let expected = [3, 5].map(|next| json!({ "checkpoint": 7, "inputs": { "payments": { "": next } } }));
    let parts = staged.parts().map(|(name, bytes)| (name.to_owned(), bytes.to_owned()));
    let told = (PendingCommit::LINEAGES.to_owned(), json!(expected).to_string().into_bytes());
    let mut committer = trainer.committer().unwrap();
    commit(&mut *committer, &State::new(parts.chain([told]))).unwrap();
    let lineages = [1, 2].map(|version| registry(folder.path()).card("fraud", version).unwrap().lineage);
    assert_eq!(lineages, expected.map(Some));
}

#[test]
fn a_state_of_another_model_is_refused() {
    let of = |settings: &TrainSettings| {
        (settings.plan(&context(), &[stream("from", events(1).schema())]).unwrap().build)().unwrap()
    };
    let settings = of_each_estimator();
    let state = of(&settings[0]).snapshot().unwrap().state.into_state().unwrap();
    let error = of(&settings[3]).restore(&state).unwrap_err().to_string();
    assert_eq!(error, "the model has other features, another label or another estimator than this node's");
}

#[test]
fn another_threshold_leaves_a_state_as_it_is() {
    let with = |more: &str| {
        let mut node =
            (settings(more).plan(&context(), &[stream("from", payments().schema())]).unwrap().build)().unwrap();
        move |state: Option<&State>| {
            state.map_or(Ok(()), |state| node.restore(state)).unwrap();
            node.process(0, batch(payments()), &mut Collector::new(2)).unwrap();
            let state = node.snapshot().unwrap().state.into_state().unwrap();
            (state, model_report(node.report()).confusion.unwrap().counts)
        }
    };
    let (state, before) = with("threshold = 0.0")(None);
    let (_, after) = with("threshold = 1.0")(Some(&state));
    assert_eq!(before, [[0, 3], [0, 2]]);
    assert_eq!(after, [[3, 3], [2, 2]], "it counts from then on");
    assert!(TrainSettings::FREE_SETTINGS.contains(&"threshold"));
}

#[test]
fn damaged_states_do_no_harm() {
    let rows = events(80);
    for settings in of_each_estimator() {
        let build = || (settings.plan(&context(), &[stream("from", rows.schema())]).unwrap().build)().unwrap();
        let mut trainer = build();
        let mut out = Collector::new(2);
        trainer.process(0, batch(rows.clone()), &mut out).unwrap();
        trainer.barrier(Epoch(1), &mut out).unwrap();
        let state = trainer.snapshot().unwrap().state.into_state().unwrap();
        let refused = damage::try_all(&state, build, |node, out| node.process(0, batch(rows.clone()), out));
        assert!(refused > 100, "{refused}");
    }
}

#[test]
fn damaged_versions_are_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(folder.path());
    teach(&mut *trainer, 0, 1);
    let staged = staged(&mut *trainer);
    let mut committer = trainer.committer().unwrap();
    for name in ["versions", "version.0", "card.0"] {
        let others = staged.parts().filter(|(part, _)| *part != name);
        let without = State::new(others.map(|(name, bytes)| (name.to_owned(), bytes.to_owned())));
        let error = commit(&mut *committer, &without).unwrap_err().to_string();
        assert_eq!(error, format!("`{name}` is missing in the state; another build may have written it"));
    }
    assert!(registry(folder.path()).versions("fraud").unwrap().is_empty());
}

#[test]
fn rows_are_learned_in_pieces_if_much_is_predicted_for_each() {
    let rows = table(&format!("a:float64 y:int64{}", "\n 1.5 3\n -2 4999".repeat(250)));
    let settings: TrainSettings = parse(&format!(
        "model = 'm'\nestimator = {{ type = 'softmax_regression', learning_rate = 0.1 }}\nfeatures = ['a']\nlabel = 'y'\n\
         classes = {:?}",
        (0..5000).collect::<Vec<_>>()
    ));
    let files = [1, 499, 500].map(|batch_rows| {
        let mut trainer = (settings.plan(&context(), &[stream("from", rows.schema())]).unwrap().build)().unwrap();
        let (mut out, mut largest) = (Collector::new(2), 0);
        for start in (0..500).step_by(batch_rows) {
            trainer.process(0, batch(rows.slice(start, batch_rows.min(500 - start))), &mut out).unwrap();
            loop {
                largest = largest.max(out.take(0).map(|batch| batch.len()).sum::<usize>());
                if !trainer.more(&mut out).unwrap() {
                    break;
                }
            }
        }
        assert_eq!(largest, batch_rows.min(209));
        trainer.finish(&mut out).unwrap();
        let file = out.take(MODEL_PORT).next().unwrap();
        version::last(&file.rows).unwrap().unwrap().to_vec()
    });
    assert!(files[0] == files[1] && files[1] == files[2]);
}

const CLUSTERS: &str = "model = 'm'\nestimator = { type = 'k_means', clusters = 2 }\nfeatures = ['amount']";

#[test]
fn clusters_need_no_label_and_have_columns_of_their_own() {
    let rows = table("id:int64 amount:float64?\n 1 10\n 2 900\n 3 12\n 4 null\n 5 850\n 6 8");
    for batch_rows in [100, 1] {
        let driven = drive(&parse::<TrainSettings>(CLUSTERS), &[("from", rows.clone())], batch_rows);
        let wanted = "id:int64 amount:float64? cluster:int64? distance:float64?\n1 10.0 null null\n2 900.0 0 890.0\n\
                      3 12.0 0 2.0\n5 850.0 1 50.0\n6 8.0 0 3.0\n";
        assert_eq!(driven.text("main"), wanted);
        assert!(driven.failed[0].error.contains("feature `amount` is null"), "{:?}", driven.failed);
        let report = model_report(driven.report);
        assert_eq!((report.rows, report.metrics.get("mean_distance")), (5, Some(945.0 / 4.0)));
        assert_eq!(report.baselines, Default::default());
    }
}

#[test]
fn whether_there_is_a_label_is_up_to_the_estimator() {
    let problems = |text: &str| {
        let planned = parse::<TrainSettings>(text).plan(&context(), &[stream("from", payments().schema())]);
        planned.err().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        problems(&format!("{CLUSTERS}\nlabel = 'fraud'")),
        ["`k_means` learns without a label; leave `label` out"]
    );
    assert_eq!(
        problems(&format!("{CLUSTERS}\nclasses = [true, false]")),
        ["`k_means` learns without a label, so there are no classes; leave `classes` out"]
    );
    assert_eq!(
        problems(&format!("{CLUSTERS}\nthreshold = 0.5")),
        ["a threshold is for two classes, which `k_means` does not predict"]
    );
    assert_eq!(
        problems("model = 'm'\nestimator = { type = 'logistic_regression' }"),
        [
            "there are no features to learn from; add `features = [..]`, the columns to learn from",
            "`logistic_regression` learns to predict a label, and none is named; add `label = \"COLUMN\"`, the column with \
             the true values"
        ]
    );
}

#[test]
fn actions_are_learned_from_their_rewards() {
    let rows = table(
        "id:int64 hour:float64 shown:utf8 clicks:float64?\n 1 0 news 3\n 2 0 sport 0\n 3 0 news 2\n 4 0 news null\n 5 0 sport inf\n 6 0 games 1\n 7 0 sport 0",
    );
    let settings = "model = 'm'\nestimator = { type = 'lin_ucb', alpha = 0 }\nfeatures = { hour = 'raw' }\nlabel = 'shown'\n\
                    classes = ['news', 'sport']\nreward = 'clicks'";
    for batch_rows in [100, 1] {
        let driven = drive(&parse::<TrainSettings>(settings), &[("from", rows.clone())], batch_rows);
        let text = driven.text("main");
        let header = "id:int64 hour:float64 shown:utf8 clicks:float64? action:utf8 score:float64 \
                      scores:{news=float64,sport=float64}";
        assert_eq!(text.lines().next().unwrap().replace(' ', ""), header.replace(' ', ""), "{text}");
        // A ridge regression of one weight: 3 / 2 after the first row, 5 / 3 after the third.
        let actions: Vec<_> = text.lines().skip(1).map(|line| line.split(' ').nth(4).unwrap()).collect();
        assert_eq!(actions, ["news"; 5]);
        let why: Vec<_> = driven.failed.iter().map(|failed| failed.error.as_str()).collect();
        let wanted = [
            "reward `clicks` is inf; numbers that are learned are finite, up to 1e150",
            "label `shown` is `games`, which is none of its classes `news`, `sport`",
        ];
        assert_eq!(why, wanted);
        let report = model_report(driven.report);
        let metrics = |name: &str| report.metrics.get(name).unwrap();
        assert_eq!((report.rows, metrics("mean_reward"), metrics("agreement")), (4, 1.25, 0.5));
        assert_eq!((metrics("own_reward"), report.confusion), (2.5, None));
    }
}

/// Of equal rows the label is that of those which count more; a row that counts nothing is not learned, and one without a weight fails.
#[test]
fn rows_count_as_much_as_their_column_says() {
    let rows = table(
        "amount:float64 fraud:boolean counts:float64?
         1 true 9
         1 false 1
         1 true 0
         1 false null
         1 true 9
         1 false 1",
    );
    let probability = |weight: &str| {
        let settings: TrainSettings = parse(&format!(
            "model = 'm'\nestimator = {{ type = 'logistic_regression', learning_rate = 0.1 }}\nfeatures = ['amount']\nlabel = 'fraud'\n{weight}"
        ));
        let driven = drive(&settings, &[("from", rows.clone())], 100);
        let failed: Vec<_> = driven.failed.iter().map(|row| row.error.clone()).collect();
        let predicted = driven.text("main");
        (model_report(driven.report).rows, failed.join("\n"), predicted)
    };
    let (learned, failed, text) = probability("weight = 'counts'");
    assert_eq!(learned, 4, "{text}");
    assert!(failed.contains("weight `counts` is null"), "{failed}");
    let last = |text: &str| text.lines().last().unwrap().split(' ').next_back().unwrap().parse::<f64>().unwrap();
    assert!(last(&text) > 0.6, "{text}");
    let (learned, failed, text) = probability("");
    assert!(learned == 6 && !failed.contains("counts` is") && last(&text) < 0.55, "{failed}{text}");
    let refused = "model = 'm'\nestimator = { type = 'lin_ucb' }\nfeatures = ['amount']\nlabel = 'fraud'\nreward = 'counts'\nweight = 'counts'";
    assert!(problems(refused, &rows.schema())[0].message.contains("all rows count the same"));
}
