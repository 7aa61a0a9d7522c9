use arrow::array::RecordBatch;
use millstream_core::Step;
use millstream_models::registry::ModelCard;
use millstream_models::{Class, EstimatorSettings, Features, Missing};
use millstream_testkit::{batch, context, parse, rows_as_text, stream, table};
use serde_json::json;

use super::*;
use crate::{TrainSettings, damage};

fn rows() -> RecordBatch {
    table("a:float64? y:boolean\n 1 true\n 2 false\n 3 true")
}

fn estimator(name: &str) -> EstimatorSettings {
    serde_json::from_value(json!({ "type": name, "learning_rate": 0.1 })).unwrap()
}

fn signature() -> Signature {
    let estimator = estimator("logistic_regression");
    let features = Features::Listed(vec!["a".into()]);
    Signature::plan(&rows().schema(), &estimator, &features, "y", None, Missing::Fail).unwrap()
}

fn trained() -> Model {
    let mut model = Model::new(signature());
    model.step_batch(&rows()).unwrap();
    model
}

fn version() -> Batch {
    let schema = version::schema(&signature(), false);
    batch(version::batch(&schema, "m", 3, "", &trained().save().unwrap()).unwrap())
}

/// A processor that follows the model `m` of its flow.
fn follower(more: &str) -> Box<dyn Processor> {
    let settings: PredictSettings = parse(&format!("model = 'm'\n{more}"));
    assert_eq!(settings.follows_model(), Some("m"));
    let inputs = [stream("from", rows().schema()), stream("model", version::schema(&signature(), false))];
    let plan = settings.plan(&context(), &inputs).unwrap();
    assert_eq!(plan.uses, [Uses::passing_on(["a"]), Uses::all()]);
    (plan.build)().unwrap()
}

fn text(out: &mut Collector) -> String {
    let batches: Vec<_> = out.take(0).map(|batch| batch.rows).collect();
    rows_as_text(&batches)
}

/// A barrier, and all pieces that follow from it.
fn barrier(predictor: &mut dyn Processor, epoch: u64, out: &mut Collector) {
    predictor.barrier(Epoch(epoch), out).unwrap();
    while predictor.more(out).unwrap() {}
}

/// The rows with the predictions of the trained model.
fn predicted() -> String {
    let columns = trained().predict_batch(&rows()).unwrap().columns(&signature()).unwrap();
    let schema = with_predictions(&rows().schema(), &signature(), "", true).unwrap();
    rows_as_text([&append(&rows(), columns, &schema).unwrap()])
}

const WITHOUT: &str = "a:float64? y:boolean prediction:boolean? probability:float64?\n\
                       1.0 true null null\n2.0 false null null\n3.0 true null null\n";

#[test]
fn the_example_is_one() {
    let settings: PredictSettings = parse(PredictSettings::EXAMPLE);
    assert_eq!(settings.follows_model(), None);
}

#[test]
fn a_version_is_used_for_the_rows_behind_the_border() {
    let (mut predictor, mut out) = (follower(""), Collector::new(1));
    predictor.process(0, batch(rows()), &mut out).unwrap();
    predictor.process(1, version(), &mut out).unwrap();
    predictor.process(0, batch(rows()), &mut out).unwrap();
    let before = text(&mut out);
    assert_eq!(before.matches("null null").count(), 6, "{before}");
    assert!(before.starts_with(WITHOUT));
    predictor.barrier(Epoch(1), &mut out).unwrap();
    predictor.process(0, batch(rows()), &mut out).unwrap();
    assert_eq!(text(&mut out), predicted());
}

#[test]
fn the_last_version_waits_for_the_border_too() {
    let (mut predictor, mut out) = (follower(""), Collector::new(1));
    predictor.process(1, version(), &mut out).unwrap();
    predictor.ended(1, &mut out).unwrap();
    predictor.process(0, batch(rows()), &mut out).unwrap();
    assert_eq!(text(&mut out), WITHOUT, "rows of one epoch come before or after the end of the model's edge");
}

#[test]
fn rows_wait_for_a_model_that_only_comes_at_the_end() {
    let settings: PredictSettings = parse("model = 'm'");
    let first = |at_the_end: bool| {
        let versions = stream("model", version::schema(&signature(), at_the_end));
        settings.before_first.unwrap_or_else(|| BeforeFirst::usual(Some(&versions)))
    };
    assert_eq!(first(true), BeforeFirst::Hold);
    assert_eq!(first(false), BeforeFirst::Null);
}

#[test]
fn held_rows_are_released_in_order() {
    let (mut predictor, mut out) = (follower("before_first = 'hold'"), Collector::new(1));
    predictor.process(0, batch(rows().slice(0, 1)), &mut out).unwrap();
    predictor.barrier(Epoch(1), &mut out).unwrap();
    predictor.process(0, batch(rows().slice(1, 2)), &mut out).unwrap();
    assert_eq!(text(&mut out), "");
    predictor.process(1, version(), &mut out).unwrap();
    barrier(&mut *predictor, 2, &mut out);
    assert_eq!(text(&mut out), predicted());
}

#[test]
fn rows_are_handed_on_in_pieces_if_much_is_predicted_for_each() {
    let rows = table(&format!("a:float64 y:int64{}", "\n 1.5 3".repeat(500)));
    let estimator = estimator("softmax_regression");
    let classes: Vec<_> = (0..5000).map(Class::Integer).collect();
    let features = Features::Listed(vec!["a".into()]);
    let signature = Signature::plan(&rows.schema(), &estimator, &features, "y", Some(&classes), Missing::Fail).unwrap();
    let schema = version::schema(&signature, false);
    let version = version::batch(&schema, "m", 0, "", &Model::new(signature).save().unwrap()).unwrap();
    for before_first in ["null", "hold", "fail"] {
        let settings: PredictSettings = parse(&format!("model = 'm'\nbefore_first = '{before_first}'"));
        let inputs = [stream("from", rows.schema()), stream("model", schema.clone())];
        let mut predictor = (settings.plan(&context(), &inputs).unwrap().build)().unwrap();
        let (mut out, mut pieces) = (Collector::new(1), Vec::new());
        let mut drain = |predictor: &mut dyn Processor, out: &mut Collector| loop {
            let rows = out.take(0).map(|batch| batch.len()).sum::<usize>() + out.take_failed().len();
            pieces.extend(Some(rows).filter(|rows| *rows > 0));
            if !predictor.more(out).unwrap() {
                break;
            }
        };
        for _ in 0..2 {
            predictor.process(0, batch(rows.clone()), &mut out).unwrap();
            drain(&mut *predictor, &mut out);
            predictor.process(1, batch(version.clone()), &mut out).unwrap();
            predictor.barrier(Epoch(1), &mut out).unwrap();
            drain(&mut *predictor, &mut out);
        }
        assert_eq!(pieces, [209, 209, 82, 209, 209, 82], "{before_first}");
    }
}

#[test]
fn held_rows_fail_if_no_version_ever_comes() {
    let (mut predictor, mut out) = (follower("before_first = 'hold'"), Collector::new(1));
    predictor.process(0, batch(rows()), &mut out).unwrap();
    predictor.finish(&mut out).unwrap();
    while predictor.more(&mut out).unwrap() {}
    let failed = out.take_failed();
    assert_eq!(failed.len(), 3);
    assert_eq!(failed[0].error, "there is no version of model `m` yet");
}

#[test]
fn too_many_held_rows_are_an_error() {
    let (mut predictor, mut out) = (follower("before_first = 'hold'\nhold_bytes = '20B'"), Collector::new(1));
    let error = predictor.process(0, batch(rows()), &mut out).unwrap_err().to_string();
    assert!(error.starts_with("more than 20B of rows wait for the first version of model `m`"), "{error}");
}

#[test]
fn rows_before_the_first_version_can_fail() {
    let (mut predictor, mut out) = (follower("before_first = 'fail'"), Collector::new(1));
    predictor.process(0, batch(rows()), &mut out).unwrap();
    assert_eq!(out.take_failed().len(), 3);
}

#[test]
fn rows_without_a_feature_fail() {
    let (mut predictor, mut out) = (follower(""), Collector::new(1));
    predictor.process(1, version(), &mut out).unwrap();
    predictor.barrier(Epoch(1), &mut out).unwrap();
    predictor.process(0, batch(table("a:float64? y:boolean\n null true\n 1 true")), &mut out).unwrap();
    let why = "feature `a` is null; `missing = \"mean\"` of `train` lets such rows through";
    assert_eq!(out.take_failed()[0].error, why);
    assert_eq!(text(&mut out).lines().count(), 2);
}

#[test]
fn a_version_of_the_registry_is_read_when_the_flow_is_planned() {
    let folder = tempfile::tempdir().unwrap();
    let context = PlanContext { work_folder: folder.path().into(), ..context() };
    let registry = ModelRegistry::open(millstream_store::open("models", folder.path()).unwrap(), "models");
    registry.publish("m", &trained().save().unwrap(), ModelCard::new("m", &signature(), 3), "id").unwrap();
    // The label isn't needed, and a number of another type will do.
    let input = [stream("from", table("a:int32\n1").schema())];
    for model in ["m@champion", "m@latest", "m/1"] {
        let settings: PredictSettings = parse(&format!("model = '{model}'"));
        let mut predictor = (settings.plan(&context, &input).unwrap().build)().unwrap();
        let mut out = Collector::new(1);
        predictor.process(0, batch(table("a:int32\n1\n2\n3")), &mut out).unwrap();
        let probability = |text: &str| text.lines().nth(3).unwrap().rsplit(' ').next().unwrap().to_owned();
        assert_eq!(probability(&text(&mut out)), probability(&predicted()));
        let settings: PredictSettings = parse(&format!("model = '{model}'\nmodel_version = true"));
        let mut predictor = (settings.plan(&context, &input).unwrap().build)().unwrap();
        predictor.process(0, batch(table("a:int32\n1")), &mut out).unwrap();
        assert!(text(&mut out).trim().ends_with(" m/1"));
    }
    let problem = |model: &str, columns: &str| {
        let settings: PredictSettings = parse(&format!("model = '{model}'"));
        let problems = settings.plan(&context, &[stream("from", table(columns).schema())]).unwrap_err();
        assert_eq!(problems[0].at, [Step::from("model")]);
        problems[0].message.clone()
    };
    assert_eq!(problem("n@latest", "a:float64"), "there is no model `n` in `models`; there is only `m`");
    assert_eq!(problem("m/2", "a:float64"), "model `m` has no version 2; it has only 1");
    assert_eq!(problem("m", "a:float64"), "no node of this flow trains a model `m`");
    let missing = "model `m/1` was trained on `a` (float64), which the rows from `input` don't have";
    assert_eq!(problem("m/1", "b:float64"), missing);
    let text = "model `m/1` was trained on `a` (float64), which in the rows from `input` is utf8";
    assert_eq!(problem("m/1", "a:utf8"), text);
}

#[test]
fn predictions_are_those_of_the_node_that_trained() {
    let settings: TrainSettings = parse(
        "model = 'm'\n estimator = { type = 'logistic_regression', learning_rate = 0.1 }\n features = ['a']\n label = 'y'",
    );
    let driven = millstream_testkit::drive(&settings, &[("from", rows())], 1);
    let version = driven.ports["model"][0].clone();
    let mut out = Collector::new(1);
    let mut predictor = follower("");
    predictor.process(1, batch(version), &mut out).unwrap();
    predictor.barrier(Epoch(1), &mut out).unwrap();
    predictor.process(0, batch(rows()), &mut out).unwrap();
    assert_eq!(text(&mut out), predicted());
}

#[test]
fn rows_say_by_which_version_they_are_predicted_and_above_which_threshold() {
    let (mut predictor, mut out) = (follower("model_version = true\nthreshold = 1"), Collector::new(1));
    predictor.process(0, batch(rows().slice(0, 1)), &mut out).unwrap();
    predictor.process(1, version(), &mut out).unwrap();
    predictor.barrier(Epoch(1), &mut out).unwrap();
    let state = kept(&mut *predictor);
    let mut restored = follower("model_version = true\nthreshold = 1");
    restored.restore(&state).unwrap();
    let sha256 = &sha256(&trained().save().unwrap())[..12];
    for predictor in [&mut predictor, &mut restored] {
        predictor.process(0, batch(rows()), &mut out).unwrap();
        let text = text(&mut out);
        let header = "a:float64? y:boolean prediction:boolean? probability:float64? model_version:utf8?";
        assert!(text.starts_with(header), "{text}");
        assert!(text.lines().rev().take(3).all(|line| line.ends_with(&format!(" m#{sha256}"))), "{text}");
        assert!(text.lines().rev().take(3).all(|line| line.split(' ').nth(2) == Some("false")), "{text}");
    }
    let settings: PredictSettings = parse("model = 'm'\nthreshold = 2");
    let inputs = [stream("from", rows().schema()), stream("model", version::schema(&signature(), false))];
    let problem = settings.plan(&context(), &inputs).unwrap_err();
    assert_eq!(problem[0].message, "`threshold` is 2, and should be a probability from 0 to 1");
}

fn kept(node: &mut dyn Processor) -> State {
    node.snapshot().unwrap().state.into_state().unwrap()
}

#[test]
fn rows_and_versions_are_kept_with_what_they_wait_for() {
    let (mut predictor, mut out) = (follower("before_first = 'hold'"), Collector::new(1));
    // Everything happens twice, with a node that is new after every step and with one that is not.
    let mut steps = Vec::new();
    for renewed in [false, true] {
        let renew = |predictor: &mut Box<dyn Processor>| {
            if renewed {
                let state = kept(&mut **predictor);
                *predictor = follower("before_first = 'hold'");
                predictor.restore(&state).unwrap();
            }
        };
        for (start, rows_there) in [(0, 1), (1, 2)] {
            predictor.process(0, batch(rows().slice(start, rows_there)), &mut out).unwrap();
            renew(&mut predictor);
        }
        predictor.process(1, version(), &mut out).unwrap();
        renew(&mut predictor);
        barrier(&mut *predictor, 1, &mut out);
        renew(&mut predictor);
        predictor.process(0, batch(rows()), &mut out).unwrap();
        let batches: Vec<_> = out.take(0).collect();
        let origins: Vec<_> = batches.iter().map(|batch| batch.origin.clone()).collect();
        steps.push((batches.into_iter().map(|batch| batch.rows).collect::<Vec<_>>(), origins));
        predictor = follower("before_first = 'hold'");
    }
    assert_eq!(steps[0].1.len(), 3);
    assert_eq!(steps[0], steps[1]);
}

#[test]
fn the_kept_version_is_the_file_that_came() {
    let (mut predictor, mut out) = (follower(""), Collector::new(1));
    predictor.process(1, version(), &mut out).unwrap();
    predictor.barrier(Epoch(1), &mut out).unwrap();
    assert_eq!(kept(&mut *predictor).bytes("model").unwrap(), trained().save().unwrap());
}

#[test]
fn damaged_states_do_no_harm() {
    let mut out = Collector::new(1);
    let mut holding = follower("before_first = 'hold'");
    holding.process(0, batch(rows().slice(0, 1)), &mut out).unwrap();
    holding.process(0, batch(rows().slice(1, 2)), &mut out).unwrap();
    let mut predicting = follower("before_first = 'hold'");
    predicting.process(1, version(), &mut out).unwrap();
    predicting.barrier(Epoch(1), &mut out).unwrap();
    for mut node in [holding, predicting] {
        let refused = damage::try_all(
            &kept(&mut *node),
            || follower("before_first = 'hold'"),
            |node, out| {
                node.process(1, version(), out)?;
                node.process(0, batch(rows()), out)
            },
        );
        assert!(refused > 100, "{refused}");
    }
}

#[test]
fn a_resumed_flow_goes_on_with_the_version_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let context = PlanContext { work_folder: folder.path().into(), ..context() };
    let registry = ModelRegistry::open(millstream_store::open("models", folder.path()).unwrap(), "models");
    let publish = |model: &Model| {
        let (bytes, rows) = (model.save().unwrap(), model.rows());
        let card = ModelCard::new("m", model.signature(), rows);
        registry.publish("m", &bytes, card, &format!("id{}", sha256(&bytes))).unwrap()
    };
    let build = || {
        let settings: PredictSettings = parse("model = 'm@latest'");
        (settings.plan(&context, &[stream("from", rows().schema())]).unwrap().build)().unwrap()
    };
    let predict = |node: &mut dyn Processor| {
        let mut out = Collector::new(1);
        node.process(0, batch(rows()), &mut out).unwrap();
        text(&mut out)
    };
    let mut model = trained();
    publish(&model);
    let mut first = build();
    let (predictions, state) = (predict(&mut *first), kept(&mut *first));
    model.step_batch(&rows()).unwrap();
    publish(&model);
    let mut resumed = build();
    assert_ne!(predict(&mut *resumed), predictions);
    let mut resumed = build();
    resumed.restore(&state).unwrap();
    assert_eq!(predict(&mut *resumed), predictions);
    assert_eq!(kept(&mut *resumed), state);
    damage::try_all(&state, build, |node, out| node.process(0, batch(rows()), out));
    // A version that would give other columns.
    let numbers = estimator("linear_regression");
    let features = Features::Listed(vec!["a".into()]);
    let other = table("a:float64 y:float64\n1 1");
    let signature = Signature::plan(&other.schema(), &numbers, &features, "y", None, Missing::Fail).unwrap();
    publish(&Model::new(signature));
    let error = build().restore(&state).unwrap_err().to_string();
    let expected = "resuming with model `m/1`, which `m@latest` was when the flow was started: the flow was planned for \
        `m/3` (a number, `y`) instead, and `m/1` (one of 2 classes, `y`, boolean) gives other columns, or needs others; run \
        it again with its state, by which it is planned then, or let the node take `m/3` with `--reset`, which loses no row, \
        and gives the nodes behind it other columns";
    assert_eq!(error, expected);
    // A flow that is planned to be resumed has the columns of the version that it had.
    let context = PlanContext { kept: state.clone(), ..context };
    let settings: PredictSettings = parse("model = 'm@latest'");
    let plan = settings.plan(&context, &[stream("from", rows().schema())]).unwrap();
    let mut resumed = (plan.build)().unwrap();
    resumed.restore(&state).unwrap();
    assert_eq!(predict(&mut *resumed), predictions);
    let settings: PredictSettings = parse("model = 'n@latest'");
    let problem = settings.plan(&context, &[stream("from", rows().schema())]).unwrap_err();
    let expected = "resuming with model `n/1`, which `n@latest` was when the flow was started: there is no model `n`";
    assert!(problem[0].message.starts_with(expected), "{}", problem[0].message);
}
