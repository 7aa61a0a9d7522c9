//! What has to hold for every estimator of the list, with the settings of its example, over rows with everything in them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::Field;
use millstream_core::Problems;

use super::*;
use crate::estimator::{EstimatorKind, EstimatorSettings, Gives, Labels, Takes, estimators};
use crate::label::{Label, Task};
use crate::simd;
use crate::{Class, Encoder, Feature, Features, LabelColumns, Missing, prediction_fields};

const ROWS: usize = 1000;

fn noise(row: usize, salt: u64) -> f64 {
    let mixed = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ salt).rotate_left(31);
    (mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Nulls, infinities and huge numbers, ever new words, and labels that follow from `b`.
fn rows() -> RecordBatch {
    let odd = |row: usize| match row % 50 {
        7 => None,
        21 => Some(f64::INFINITY),
        34 => Some(1e300),
        _ => Some(noise(row, 1) * 4.0 - 2.0),
    };
    let word = |row: usize| (row % 40 != 3).then(|| format!("größe {}", row % 2000));
    let kind = |row: usize| ["a", "b", "c"][(noise(row, 2) * 3.0) as usize];
    let labelled = |row: usize| row % 70 != 9;
    let counts = |row: usize| [0.0, 0.5, 1.0, 3.0][row * 7 % 4];
    let sensor = |row: usize| (row % 30 != 11).then(|| format!("sensor {}", row * row % 7));
    let columns: [(&str, ArrayRef); 9] = [
        ("a", Arc::new((0..ROWS).map(odd).collect::<Float64Array>())),
        ("b", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| noise(row, 2))))),
        ("word", Arc::new((0..ROWS).map(word).collect::<StringArray>())),
        ("yes", Arc::new((0..ROWS).map(|row| labelled(row).then(|| noise(row, 2) > 0.4)).collect::<BooleanArray>())),
        ("kind", Arc::new((0..ROWS).map(|row| labelled(row).then(|| kind(row))).collect::<StringArray>())),
        ("size", Arc::new((0..ROWS).map(|row| labelled(row).then(|| noise(row, 2) * 3.0)).collect::<Float64Array>())),
        ("one", Arc::new(Float64Array::from(vec![1.0; ROWS]))),
        ("counts", Arc::new(Float64Array::from_iter_values((0..ROWS).map(counts)))),
        ("sensor", Arc::new((0..ROWS).map(sensor).collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn example(kind: &EstimatorKind) -> EstimatorSettings {
    let mut table: serde_json::Map<_, _> = toml::from_str(kind.example).unwrap();
    table.insert("type".to_owned(), kind.name.into());
    serde_json::from_value(table.into()).unwrap()
}

/// A column to predict, and its classes if its type doesn't say them; or nothing.
type Asked = Option<(&'static str, Option<&'static [&'static str]>)>;

/// A number, two classes, three, and no label.
const LABELS: [Asked; 4] = [Some(("size", None)), Some(("yes", None)), Some(("kind", Some(&["a", "b", "c"]))), None];

fn takes(labels: Labels, label: Asked) -> bool {
    match labels {
        Labels::Numbers => label == LABELS[0],
        Labels::TwoClasses => label == LABELS[1],
        Labels::Classes | Labels::Actions => label == LABELS[1] || label == LABELS[2],
        Labels::Any => label.is_some(),
        Labels::Nothing => label.is_none(),
    }
}

fn takes_categories(estimator: &EstimatorSettings) -> bool {
    let category = Feature::new("word", "utf8", Encoder::OneHot(64));
    let sequence = Feature::new("sensor", "utf8", Encoder::Hash(1));
    estimator.settings().check_features(&[category, sequence]).is_ok()
}

fn plan(estimator: &EstimatorSettings, asked: Asked) -> Result<Signature, Problems> {
    plan_weighted(estimator, asked, None)
}

fn plan_weighted(estimator: &EstimatorSettings, asked: Asked, weight: Option<&str>) -> Result<Signature, Problems> {
    let label = asked.map(|(label, _)| label);
    let classes: Option<Vec<_>> = asked
        .and_then(|(_, classes)| classes)
        .map(|names| names.iter().map(|name| Class::Text((*name).to_owned())).collect());
    let number = if estimator.takes() == Takes::Raw { Encoder::Raw } else { Encoder::Standardise };
    let features = match estimator.takes() {
        Takes::Dense | Takes::Raw => vec![("a", number), ("b", number), ("word", Encoder::OneHot(64))],
        Takes::Series => vec![("word", Encoder::OneHot(64))],
        Takes::Nothing => vec![],
    };
    // Sequences are of a feature, too.
    let of_sequences = !estimator.settings().follows_from_one_row();
    let features = features.into_iter().chain(of_sequences.then_some(("sensor", Encoder::Hash(1))));
    let features = features.filter(|(_, encoder)| encoder.is_number() || takes_categories(estimator));
    let features = features.map(|(name, encoder)| (name.to_owned(), encoder.into()));
    let features = Features::Encoded(features.collect());
    let reward = (estimator.labels() == Labels::Actions).then_some("size").filter(|reward| label != Some(*reward));
    let label = LabelColumns { label, reward, weight };
    Signature::plan(&rows().schema(), estimator, &features, label, classes.as_deref(), Missing::Mean)
}

/// Every estimator with every label that it takes.
fn signatures() -> impl Iterator<Item = Signature> {
    let labelled = |kind: &EstimatorKind| {
        let estimator = example(kind);
        let labels = LABELS.into_iter().filter(|label| takes(estimator.labels(), *label));
        labels.map(|label| plan(&estimator, label).unwrap()).collect::<Vec<_>>()
    };
    let plain = estimators().iter().flat_map(labelled);
    plain.chain(calibrated()).chain(preprocessed()).chain(with_intervals()).chain(networks())
}

/// Networks that predict more than one number, or by more than one row.
fn networks() -> impl Iterator<Item = Signature> {
    const QUANTILES: &str = r#"{ "type": "network", "layers": [{ "dense": 8 }], "quantiles": [0.1, 0.5, 0.9],
        "optimizer": { "type": "adam", "learning_rate": 0.01 }, "batch_rows": 30 }"#;
    const GRU: &str = r#"{ "type": "network", "layers": [{ "gru": 8 }, { "dense": 4 }], "batch_rows": 30,
        "sequence": { "key": "sensor", "rows": 4, "keys": 2 }, "optimizer": { "type": "adam", "learning_rate": 0.02 } }"#;
    const LSTM: &str = r#"{ "type": "network", "layers": [{ "conv1d": 8, "kernel": 2 }, { "dropout": 0.1 }, { "lstm": 8 }], "batch_rows": 30,
        "sequence": { "key": "sensor", "rows": 3 }, "optimizer": { "type": "adam", "learning_rate": 0.02 } }"#;
    let networks = [(QUANTILES, LABELS[0]), (GRU, LABELS[0]), (GRU, LABELS[1]), (LSTM, LABELS[2])];
    networks.into_iter().map(|(json, label)| plan(&serde_json::from_str(json).unwrap(), label).unwrap())
}

/// Estimators of probabilities and of scores whose predictions are calibrated.
fn calibrated() -> impl Iterator<Item = Signature> {
    let methods =
        [r#"{ "type": "platt", "window": 150, "every": 40 }"#, r#"{ "type": "isotonic", "window": 150, "every": 40 }"#];
    let calibrated = move |name: &'static str| {
        let estimator = example(estimators().iter().find(|kind| kind.name == name).unwrap());
        LABELS[1..3].iter().flat_map(move |label| {
            let signature = plan(&estimator, *label).unwrap();
            methods
                .map(|method| signature.clone().with_calibration(Some(serde_json::from_str(method).unwrap())).unwrap())
        })
    };
    ["sgd_classifier", "hoeffding_tree", "softmax_regression"].into_iter().flat_map(calibrated)
}

/// Estimators of all sorts over features that are preprocessed.
fn preprocessed() -> impl Iterator<Item = Signature> {
    let features = r#"[
        { "a": "min_max", "b": "robust", "one": "quantile", "word": { "one_hot": 64 } },
        { "a": { "encode": "quantile", "missing": "median", "indicator": true }, "b": "quantile",
          "word": { "encode": { "hash": 64 }, "missing": "previous", "indicator": true } },
        { "a": { "missing": "previous" }, "b": { "encode": "raw", "missing": "fail" }, "one": { "missing": { "constant": 2 } } },
        { "word": { "frequency": 20 }, "b": "standardise" },
        { "word": { "text": { "numbers": 16, "words": 2 } }, "a": "time", "b": "raw" },
        { "word": { "encode": { "target": { "categories": 30, "smoothing": 3 } }, "missing": "previous" }, "b": "raw" }
    ]"#;
    let features: Vec<Features> = serde_json::from_str(features).unwrap();
    let names =
        ["logistic_regression", "linear_regression", "hoeffding_tree", "network", "bagging", "rbf_sampler", "k_means"];
    let of_estimator = move |name: &'static str| {
        let kind = estimators().iter().find(|kind| kind.name == name).unwrap();
        let estimator = example(kind);
        let label = LABELS.into_iter().find(|label| takes(estimator.labels(), *label)).unwrap();
        let plan = |features: &Features| {
            let label = LabelColumns { label: label.map(|(label, _)| label), ..LabelColumns::default() };
            Signature::plan(&rows().schema(), &estimator, features, label, None, Missing::Mean).unwrap()
        };
        // The last of them need a label.
        let count = if label.is_some() { features.len() } else { features.len() - 1 };
        features.iter().take(count).map(plan).collect::<Vec<_>>()
    };
    names.into_iter().flat_map(of_estimator)
}

/// Estimators of numbers whose predictions have intervals.
fn with_intervals() -> impl Iterator<Item = Signature> {
    let with_interval = |name: &'static str| {
        let estimator = example(estimators().iter().find(|kind| kind.name == name).unwrap());
        let interval = serde_json::from_str(r#"{ "coverage": 0.8, "window": 100 }"#).unwrap();
        plan(&estimator, LABELS[0]).unwrap().with_interval(Some(interval)).unwrap()
    };
    ["linear_regression", "hoeffding_tree_regressor", "holt_winters"].into_iter().map(with_interval)
}

fn gives_a_number(signature: &Signature) -> bool {
    matches!(signature.gives(), Gives::Number | Gives::Quantiles(_))
}

fn what(signature: &Signature) -> String {
    let label = signature.label.as_ref().map_or("nothing", |label| &label.column);
    let Signature { estimator, calibration, features, .. } = signature;
    format!("{} of {label} by {features:?}, {calibration:?}", estimator.name())
}

/// Every bit of the predictions, and the file of the model, after so many rows at once.
fn run(signature: &Signature, batch_rows: usize) -> (Vec<u64>, Vec<u8>) {
    let mut model = Model::new(signature.clone());
    let mut bits = Vec::new();
    for start in (0..ROWS).step_by(batch_rows) {
        let predictions = model.step_batch(&rows().slice(start, batch_rows.min(ROWS - start))).unwrap();
        bits.extend((0..predictions.len()).flat_map(|row| predictions.row(row)).map(|value| value.to_bits()));
    }
    (bits, model.save().unwrap())
}

fn trained(signature: &Signature) -> Model {
    let mut model = Model::new(signature.clone());
    model.step_batch(&rows()).unwrap();
    model
}

#[test]
fn names_are_unique_and_settings_are_read_as_they_are_written() {
    for (index, kind) in estimators().iter().enumerate() {
        assert!(estimators()[..index].iter().all(|other| other.name != kind.name), "{}", kind.name);
        let settings = example(kind);
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.starts_with(&format!(r#"{{"type":"{}""#, kind.name)), "{text}");
        let again: EstimatorSettings = serde_json::from_str(&text).unwrap();
        assert_eq!((&again, serde_json::to_string(&again).unwrap()), (&settings, text));
        let unknown = format!(r#"{{ "type": "{}", "no_such_setting": 1 }}"#, kind.name);
        let error = serde_json::from_str::<EstimatorSettings>(&unknown).unwrap_err().to_string();
        assert!(error.contains("no_such_setting") || error.contains("is missing"), "{error}");
    }
    let error = serde_json::from_str::<EstimatorSettings>(r#"{ "type": "linear_regresion" }"#).unwrap_err();
    assert_eq!(error.to_string(), "there is no estimator `linear_regresion`; did you mean `linear_regression`?");
}

#[test]
fn batches_do_not_matter() {
    for signature in signatures() {
        let whole = run(&signature, ROWS);
        for batch_rows in [1, 7] {
            assert!(run(&signature, batch_rows) == whole, "{} in {batch_rows}", what(&signature));
        }
    }
}

#[test]
fn wide_vectors_give_the_same_bits() {
    for signature in signatures() {
        let narrow = simd::tests::without_wide_vectors(|| run(&signature, ROWS));
        assert!(run(&signature, ROWS) == narrow, "{}", what(&signature));
    }
}

#[test]
fn predicting_changes_nothing_and_agrees_with_the_next_step() {
    for signature in signatures() {
        let mut model = trained(&signature);
        let before = model.save().unwrap();
        let predicted = model.predict_batch(&rows()).unwrap();
        assert!(model.save().unwrap() == before, "{}", what(&signature));
        assert_eq!(model.step_batch(&rows().slice(0, 1)).unwrap().row(0), predicted.row(0), "{}", what(&signature));
    }
}

#[test]
fn a_saved_model_goes_on_as_if_it_had_never_stopped() {
    for signature in signatures() {
        let mut model = Model::new(signature.clone());
        for start in (0..ROWS).step_by(125) {
            model.step_batch(&rows().slice(start, 125)).unwrap();
            let file = model.save().unwrap();
            model = Model::load(&file).unwrap();
            assert!(model.save().unwrap() == file, "{}", what(&signature));
        }
        assert!(model.save().unwrap() == run(&signature, ROWS).1, "{}", what(&signature));
    }
}

#[test]
fn memory_is_bounded_by_what_the_settings_say() {
    for signature in signatures() {
        let mut model = Model::new(signature.clone());
        let most = signature.most_numbers();
        let tensors = |model: &Model| {
            let mut tensors = Tensors::default();
            model.estimator.save(&mut tensors).unwrap();
            tensors.sizes().map(|(name, numbers)| (name.to_owned(), numbers)).collect::<Vec<_>>()
        };
        let at_first = tensors(&model);
        for start in (0..ROWS).step_by(50) {
            model.step_batch(&rows().slice(start, 50)).unwrap();
            let now = tensors(&model);
            assert!(now.iter().map(|(name, _)| name).eq(at_first.iter().map(|(name, _)| name)), "{}", what(&signature));
            for (name, numbers) in now {
                assert!(numbers as u64 <= most, "{}: `{name}` has {numbers}, not at most {most}", what(&signature));
            }
        }
    }
}

#[test]
fn labels_that_are_not_taken_are_refused_with_those_that_are() {
    let of_one_class: Asked = Some(("kind", Some(&["a"])));
    for kind in estimators() {
        let estimator = example(kind);
        let refused = LABELS.into_iter().filter(|label| !takes(estimator.labels(), *label)).chain([of_one_class]);
        for label in refused {
            let wanted = match (estimator.labels(), label) {
                (_, None) => "none is named; add `label = \"COLUMN\"`",
                (Labels::Actions, Some(("size", _))) => "no reward is named",
                (Labels::Nothing, Some(_)) => "learns without a label; leave `label` out",
                (Labels::Numbers, Some(_)) => "number",
                _ => "classes",
            };
            let problem = plan(&estimator, label).unwrap_err().remove(0).to_string();
            assert!(problem.contains(wanted), "{} of {label:?}: {problem}", kind.name);
        }
    }
}

#[test]
fn predictions_are_what_the_settings_say() {
    for signature in signatures() {
        let predictions = trained(&signature).predict_batch(&rows()).unwrap();
        let task = signature.label.as_ref().map(Label::task);
        assert_eq!(gives_a_number(&signature), task == Some(Task::Regression), "{}", what(&signature));
        assert_eq!(matches!(signature.gives(), Gives::Columns(_)), task.is_none(), "{}", what(&signature));
        for row in 0..ROWS {
            let prediction = predictions.row(row);
            assert!(prediction.iter().all(|value| value.is_finite()), "{}: {prediction:?}", what(&signature));
            let sum = if prediction.len() == 1 { 1.0 } else { prediction.iter().sum() };
            let probable = prediction.iter().all(|value| (0.0..=1.0).contains(value)) && (sum - 1.0).abs() < 1e-9;
            assert!(probable || signature.gives() != Gives::Probabilities, "{}: {prediction:?}", what(&signature));
        }
        let columns = predictions.columns(&signature).unwrap();
        let fields = prediction_fields(&signature, "", false);
        let types = |fields: &[Field]| fields.iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let found: Vec<_> = columns.iter().map(|column| column.data_type().clone()).collect();
        assert_eq!(found, types(&fields), "{}", what(&signature));
    }
}

#[test]
fn what_is_learned_without_a_label_or_from_rewards_is_scored_by_itself() {
    let has_right_ones = |label: &Label| label.reward.is_none();
    for signature in signatures().filter(|signature| !signature.label.as_ref().is_some_and(has_right_ones)) {
        let mut model = ScoredModel::new(signature.clone());
        let learn = BooleanArray::from_iter((0..ROWS).map(|row| Some(row % 5 != 0)));
        let input = model.model().read(&rows()).unwrap();
        model.step(&input, Some(&learn)).unwrap();
        let learned = if signature.label.is_none() { ROWS as u64 * 4 / 5 } else { model.model().rows() };
        assert_eq!(model.model().rows(), learned, "{}", what(&signature));
        for metrics in [model.metrics(), model.recent(), model.held_out()] {
            assert!(metrics.0.iter().all(|(_, value)| value.is_finite()), "{}: {metrics:?}", what(&signature));
        }
        assert!(model.baselines().majority.0.is_empty() && model.confusion().is_none(), "{}", what(&signature));
        let mut resumed = ScoredModel::new(signature.clone());
        let mut parts = millstream_core::Parts::default();
        model.keep(&mut parts).unwrap();
        resumed.restore(&parts.into_state().unwrap()).unwrap();
        for model in [&mut model, &mut resumed] {
            model.step_batch(&rows()).unwrap();
        }
        assert_eq!((resumed.metrics(), resumed.recent()), (model.metrics(), model.recent()), "{}", what(&signature));
        assert!(resumed.save_converged().unwrap() == model.save_converged().unwrap(), "{}", what(&signature));
    }
}

#[test]
fn rows_count_as_much_as_is_said() {
    for kind in estimators() {
        let estimator = example(kind);
        for label in LABELS.into_iter().filter(|label| takes(estimator.labels(), *label)) {
            if !estimator.takes_weights() {
                let problem = plan_weighted(&estimator, label, Some("one")).unwrap_err().remove(0).to_string();
                assert!(
                    problem.contains("all rows count the same") && problem.contains("leave `weight` out"),
                    "{problem}"
                );
                continue;
            }
            let [plain, one, counts] =
                [None, Some("one"), Some("counts")].map(|weight| plan_weighted(&estimator, label, weight).unwrap());
            let learned = |signature: &Signature| trained(signature).tensors().unwrap();
            assert!(learned(&plain) == learned(&one), "{}", what(&plain));
            assert!(learned(&plain) != learned(&counts), "{}", what(&plain));
            let mut resumed = Model::new(counts.clone());
            for start in (0..ROWS).step_by(125) {
                resumed.step_batch(&rows().slice(start, 125)).unwrap();
                resumed = Model::load(&resumed.save().unwrap()).unwrap();
            }
            assert!(resumed.tensors().unwrap() == learned(&counts), "{}", what(&plain));
            // Those that count nothing are those that are not learned.
            let is_learned = BooleanArray::from_iter((0..ROWS).map(|row| Some(row * 7 % 4 != 0)));
            let mut without = Model::new(counts.clone());
            let mut input = without.read(&rows()).unwrap();
            input.weights.iter_mut().for_each(|weight| *weight = weight.max(0.5));
            without.step(&input, Some(&is_learned)).unwrap();
            assert_eq!(without.rows(), trained(&counts).rows(), "{}", what(&plain));
        }
    }
}

/// A row that counts two is learned as if it had come twice, where a row moves by its own share.
#[test]
fn a_row_that_counts_two_is_two_rows_to_k_means() {
    let numbers = |values: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    let estimator: EstimatorSettings = serde_json::from_str(r#"{ "type": "k_means", "clusters": 1 }"#).unwrap();
    let mean = |x: &[f64], weights: Option<&[f64]>| {
        let columns = [("x", numbers(x))].into_iter().chain(weights.map(|weights| ("w", numbers(weights))));
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let label = LabelColumns { weight: weights.map(|_| "w"), ..LabelColumns::default() };
        let features = Features::Listed(vec!["x".into()]);
        let signature = Signature::plan(&rows.schema(), &estimator, &features, label, None, Missing::Fail).unwrap();
        let mut model = Model::new(signature);
        model.step_batch(&rows).unwrap();
        model.tensors().unwrap().f64s("estimator.numbers", &[1, 1]).unwrap()[0]
    };
    let twice = mean(&[1.0, 4.0, 4.0, 10.0], None);
    assert!((mean(&[1.0, 4.0, 7.0, 10.0], Some(&[1.0, 2.0, 0.0, 1.0])) - twice).abs() < 1e-12);
}

#[test]
fn weights_that_are_none_are_refused_row_by_row() {
    let rows = millstream_testkit::table(
        "x:float64 w:float64? y:boolean\n 1 2 true\n 1 null true\n 1 -1 true\n 1 NaN true\n 1 0 true\n 1 1e7 true",
    );
    let estimator = serde_json::from_str(r#"{ "type": "logistic_regression" }"#).unwrap();
    let features = Features::Listed(vec!["x".into()]);
    let plan = |weight| {
        let label = LabelColumns { label: Some("y"), weight: Some(weight), ..LabelColumns::default() };
        Signature::plan(&rows.schema(), &estimator, &features, label, None, Missing::Fail)
    };
    let model = Model::new(plan("w").unwrap());
    let refused = model.read(&rows).unwrap().refused().unwrap().clone();
    assert_eq!(refused, BooleanArray::from(vec![false, true, true, true, false, true]));
    let why = model.why_refused(&rows, 2).unwrap();
    assert_eq!(why, "weight `w` is -1.0, and should be a number from 0 to 1000000");
    assert!(model.why_refused(&rows, 1).unwrap().contains("weight `w` is null"));
    assert!(plan("z").unwrap_err().remove(0).to_string().contains("no column `z`"));
    assert!(plan("y").unwrap_err().remove(0).to_string().contains("should be a number"));
}

#[test]
fn what_features_say_is_learned() {
    let learns_it = |signature: &Signature| {
        signature.label.as_ref().is_some_and(|label| label.reward.is_none())
            && !matches!(signature.estimator.takes(), Takes::Series | Takes::Nothing)
    };
    for signature in signatures().filter(learns_it) {
        let mut model = ScoredModel::new(signature.clone());
        for _ in 0..5 {
            model.step_batch(&rows()).unwrap();
        }
        let figure = if gives_a_number(&signature) { "rmse" } else { "accuracy" };
        let (found, without) = (model.recent().get(figure).unwrap(), model.baselines().majority.get(figure).unwrap());
        let better = if figure == "rmse" { found < without } else { found > without };
        assert!(better, "{}: {figure} {found}, and {without} without a model", what(&signature));
    }
}

#[test]
fn what_can_be_written_as_onnx_is_and_else_it_is_said_what_can() {
    let has_no_operator = |feature: &Feature| {
        matches!(feature.encoder, Encoder::Hash(_) | Encoder::Quantile | Encoder::Text(_) | Encoder::Time)
            || feature.indicator && !feature.encoder.is_number()
    };
    for signature in signatures() {
        let written = trained(&signature).to_onnx(Vec::new());
        if signature.can_be_exported() && signature.features.iter().any(has_no_operator) {
            assert!(written.unwrap_err().to_string().starts_with("feature `"), "{}", what(&signature));
        } else if signature.can_be_exported() {
            assert_eq!(written.unwrap(), trained(&signature).to_onnx(Vec::new()).unwrap(), "{}", what(&signature));
            let error = Model::new(signature).to_onnx(Vec::new()).unwrap_err().to_string();
            assert_eq!(error, "the model has learned nothing yet");
        } else {
            let error = written.unwrap_err().to_string();
            assert!(error.contains("can't be written as ONNX; these can: `logistic_regression`, "), "{error}");
        }
    }
}

#[test]
fn hashed_features_are_said_not_to_be_in_onnx() {
    let estimator = example(&estimators()[0]);
    let features = Features::Encoded(vec![("word".to_owned(), Encoder::Hash(8).into())]);
    let signature = Signature::plan(&rows().schema(), &estimator, &features, "yes", None, Missing::Mean).unwrap();
    let error = trained(&signature).to_onnx(Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "feature `word` is encoded by `hash`, which ONNX has no operator for; `one_hot` can be written");
}
