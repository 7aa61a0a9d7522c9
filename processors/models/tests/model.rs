//! What has to hold for every model: the same bits for any batches, after any restart, and no panic on odd rows.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use millstream_models::{Class, Encoder, EstimatorSettings, Features, Missing, Model, ScoredModel, Signature, sha256};

const ROWS: usize = 2500;

/// Rows with everything in them: nulls, NaN, infinities, huge numbers, unicode, more categories than slots.
fn odd_rows() -> RecordBatch {
    let noise = |row: usize, salt: u64| {
        let mixed = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ salt).rotate_left(31);
        mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11
    };
    let number = |row, salt| noise(row, salt) as f64 / (1_u64 << 53) as f64;
    let odd = |row: usize| match row % 50 {
        7 => None,
        13 => Some(f64::NAN),
        21 => Some(f64::INFINITY),
        34 => Some(1e300),
        _ => Some(number(row, 1) * 4.0 - 2.0),
    };
    let word = |row: usize| (row % 40 != 3).then(|| format!("größe {}", noise(row, 2) % 30));
    let kind = |row: usize| (row % 60 != 5).then(|| ["a", "b", "c"][(noise(row, 3) % 3) as usize]);
    let rows = 0..ROWS;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("odd", Arc::new(rows.clone().map(odd).collect::<Float64Array>())),
        ("plain", Arc::new(rows.clone().map(|row| Some(number(row, 4))).collect::<Float64Array>())),
        ("count", Arc::new(rows.clone().map(|row| Some(noise(row, 5) as i64 % 100)).collect::<Int64Array>())),
        ("word", Arc::new(rows.clone().map(word).collect::<StringArray>())),
        ("flag", Arc::new(rows.clone().map(|row| Some(noise(row, 6) % 2 == 0)).collect::<BooleanArray>())),
        (
            "yes",
            Arc::new(rows.clone().map(|row| (row % 70 != 9).then(|| number(row, 4) > 0.4)).collect::<BooleanArray>()),
        ),
        ("kind", Arc::new(rows.clone().map(kind).collect::<StringArray>())),
        ("size", Arc::new(rows.map(|row| Some(number(row, 4) * 3.0)).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// One signature of each type of estimator, over all types of features.
fn signatures() -> Vec<Signature> {
    let features = Features::Encoded(vec![
        ("odd".into(), Encoder::Standardise.into()),
        ("plain".into(), Encoder::Raw.into()),
        ("count".into(), Encoder::Standardise.into()),
        ("word".into(), Encoder::OneHot(8).into()),
        ("flag".into(), Encoder::OneHot(2).into()),
        ("kind".into(), Encoder::Hash(5).into()),
    ]);
    let without_kind = Features::Listed(vec!["odd".into(), "plain".into(), "word".into(), "flag".into()]);
    let classes: Vec<_> = ["a", "b", "c"].map(|class| Class::Text(class.into())).into();
    let schema = odd_rows().schema();
    let plan = |estimator: EstimatorSettings, features: &Features, label: &str, classes: Option<&[Class]>| {
        Signature::plan(&schema, &estimator, features, label, classes, Missing::Mean).unwrap()
    };
    vec![
        plan(of_river("logistic_regression"), &features, "yes", None),
        plan(of_river("linear_regression"), &features, "size", None),
        plan(of_river("softmax_regression"), &without_kind, "kind", Some(&classes)),
        plan(network("adam"), &features, "yes", None),
        plan(network("adamw"), &features, "size", None),
        plan(network("sgd"), &without_kind, "kind", Some(&classes)),
        plan(estimator(r#"{ "type": "sgd_classifier", "loss": "log_loss", "penalty": "l1" }"#), &features, "yes", None),
        plan(estimator(r#"{ "type": "sgd_regressor", "average": 500, "eta0": 0.05 }"#), &features, "size", None),
        plan(
            estimator(r#"{ "type": "sgd_classifier", "class_weight": { "a": 2 } }"#),
            &without_kind,
            "kind",
            Some(&classes),
        ),
    ]
}

fn of_river(name: &str) -> EstimatorSettings {
    estimator(&format!(r#"{{ "type": "{name}", "learning_rate": 0.05, "l2": 0.001 }}"#))
}

/// With all kinds of layers.
fn network(optimizer: &str) -> EstimatorSettings {
    let layers =
        r#"[{ "dense": 20 }, { "normalise": "layer" }, { "dropout": 0.2 }, { "dense": 9, "activation": "tanh" }]"#;
    let optimizer = format!(r#"{{ "type": "{optimizer}", "learning_rate": 0.01 }}"#);
    let json = r#""type": "network", "batch_rows": 30, "embedding": 3, "clip_norm": 1.0"#;
    serde_json::from_str(&format!(r#"{{ {json}, "layers": {layers}, "optimizer": {optimizer} }}"#)).unwrap()
}

fn estimator(json: &str) -> EstimatorSettings {
    serde_json::from_str(json).unwrap()
}

/// Every prediction bit by bit, and the checksum of the model, after a run in batches of `batch_rows`.
fn run(signature: &Signature, batch_rows: usize) -> (Vec<u64>, String) {
    let mut model = Model::new(signature.clone());
    let mut bits = Vec::new();
    for start in (0..ROWS).step_by(batch_rows) {
        let batch = odd_rows().slice(start, batch_rows.min(ROWS - start));
        let predictions = model.step_batch(&batch).unwrap();
        bits.extend((0..predictions.len()).flat_map(|row| predictions.row(row)).map(|value| value.to_bits()));
    }
    (bits, sha256(&model.save().unwrap()))
}

#[test]
fn batches_do_not_matter() {
    for signature in signatures() {
        let whole = run(&signature, ROWS);
        for batch_rows in [1, 7, 64, 1024] {
            assert!(run(&signature, batch_rows) == whole, "{} in {batch_rows}", signature.estimator.name());
        }
    }
}

#[test]
fn a_saved_model_goes_on_as_if_it_had_never_stopped() {
    for signature in signatures() {
        let rows = odd_rows();
        let mut model = Model::new(signature.clone());
        for start in (0..ROWS).step_by(250) {
            model.step_batch(&rows.slice(start, 250)).unwrap();
            let bytes = model.save().unwrap();
            model = Model::load(&bytes).unwrap();
            assert_eq!(model.save().unwrap(), bytes);
        }
        assert_eq!(sha256(&model.save().unwrap()), run(&signature, ROWS).1);
    }
}

#[test]
fn a_model_that_has_diverged_says_so() {
    let features = Features::Encoded(vec![("count".into(), Encoder::Raw.into())]);
    for settings in [
        estimator(r#"{ "type": "sgd_regressor", "penalty": "none", "learning_rate": "constant", "eta0": 1e300 }"#),
        estimator(r#"{ "type": "network", "layers": [], "optimizer": { "type": "sgd", "learning_rate": 1e30 } }"#),
    ] {
        let signature =
            Signature::plan(&odd_rows().schema(), &settings, &features, "size", None, Missing::Mean).unwrap();
        let mut model = Model::new(signature);
        assert_eq!(model.save_finite().unwrap(), model.save().unwrap());
        model.step_batch(&odd_rows()).unwrap();
        let error = model.save_finite().unwrap_err().to_string();
        assert!(error.starts_with("it has diverged: after 2500 rows, `estimator."), "{error}");
    }
}

/// Gradients are clipped, so that its numbers stay finite.
#[test]
fn a_model_that_has_diverged_says_so_though_it_is_finite() {
    let features = Features::Encoded(vec![("count".into(), Encoder::Raw.into())]);
    for (settings, label, why) in [
        (r#"{ "type": "linear_regression", "learning_rate": 1e3 }"#, "size", "over the last 500 rows its error is"),
        (
            r#"{ "type": "sgd_classifier", "loss": "squared_hinge", "learning_rate": "constant", "eta0": 1e3 }"#,
            "yes",
            "a weight is",
        ),
    ] {
        let settings = estimator(settings);
        let signature =
            Signature::plan(&odd_rows().schema(), &settings, &features, label, None, Missing::Mean).unwrap();
        let mut model = ScoredModel::new(signature);
        assert_eq!(model.save_converged().unwrap(), model.model().save().unwrap());
        model.step_batch(&odd_rows()).unwrap();
        assert!(model.model().save_finite().is_ok());
        let error = model.save_converged().unwrap_err().to_string();
        assert!(error.starts_with(&format!("it has diverged: after {} rows, {why}", model.model().rows())), "{error}");
    }
    for signature in signatures() {
        let mut model = ScoredModel::new(signature);
        model.step_batch(&odd_rows()).unwrap();
        assert_eq!(model.save_converged().unwrap(), model.model().save().unwrap());
    }
}

#[test]
fn odd_rows_leave_a_finite_model_that_has_learned() {
    for signature in signatures() {
        let mut model = ScoredModel::new(signature.clone());
        let predictions = model.step_batch(&odd_rows()).unwrap();
        assert!((0..ROWS).flat_map(|row| predictions.row(row)).all(|value| value.is_finite()));
        let (metrics, baselines) = (model.metrics(), model.baselines().majority);
        match signature.label.as_ref().unwrap().column.as_str() {
            "yes" => assert!(metrics.get("accuracy").unwrap() > baselines.get("accuracy").unwrap() + 0.1),
            "size" => assert!(metrics.get("r2").unwrap() > 0.5),
            // There is nothing in these rows to tell the kinds by.
            _ => assert!(metrics.get("accuracy").unwrap().is_finite()),
        }
    }
}

#[test]
fn predicting_changes_nothing_and_agrees_with_the_next_step() {
    for signature in signatures() {
        let mut model = Model::new(signature);
        model.step_batch(&odd_rows()).unwrap();
        let before = model.save().unwrap();
        let served = model.predict_batch(&odd_rows().slice(0, 1)).unwrap();
        assert_eq!(model.save().unwrap(), before);
        assert_eq!(model.step_batch(&odd_rows().slice(0, 1)).unwrap(), served);
    }
}

#[test]
fn rows_that_lack_a_feature_are_refused_where_that_is_not_allowed() {
    let mut signature = signatures().swap_remove(0);
    signature.missing = Missing::Fail;
    let mut model = Model::new(signature);
    let rows = odd_rows().slice(0, 50);
    let input = model.read(&rows).unwrap();
    let refused: Vec<_> = input.refused().unwrap().values().set_indices().collect();
    assert_eq!(refused, [3, 5, 7, 13, 21, 34, 43]);
    let why = |row| model.why_refused(&rows, row).unwrap();
    assert!(why(3).starts_with("feature `word` is null; `missing"));
    assert!(why(7).starts_with("feature `odd` is null; `missing"));
    assert_eq!(why(21), "feature `odd` is inf; numbers that are learned from are finite, up to 1e150");
    assert!(model.step(&input, None).unwrap_err().to_string().starts_with("7 of 50 rows"));
    assert_eq!(model.rows(), 0);
}

#[test]
fn a_network_is_kept_from_numbers_that_32_bits_can_not_hold() {
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, -1e39, 1e149, 3.0, 1e17]));
    let labels: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 1.0, 3.0, 1e39, 2.0]));
    let rows = RecordBatch::try_from_iter([("x", numbers), ("y", labels)]).unwrap();
    for (encoder, refused) in [(Encoder::Standardise, &[4][..]), (Encoder::Raw, &[2, 3, 4, 5])] {
        let features = Features::Encoded(vec![("x".into(), encoder.into())]);
        let settings = estimator(r#"{ "type": "network", "layers": [{ "dense": 4 }], "batch_rows": 1 }"#);
        let signature = Signature::plan(&rows.schema(), &settings, &features, "y", None, Missing::Fail).unwrap();
        let mut model = ScoredModel::new(signature);
        let found = model.model().read(&rows).unwrap();
        assert_eq!(found.refused().unwrap().values().set_indices().collect::<Vec<_>>(), refused);
        let why = model.model().why_refused(&rows, 4).unwrap();
        assert!(why.ends_with("numbers that are learned are finite, up to 1e9"), "{why}");
        for row in (0..6).filter(|row| !refused.contains(row)) {
            let predictions = model.step_batch(&rows.slice(row, 1)).unwrap();
            assert!(predictions.row(0)[0].is_finite(), "{row}");
        }
        assert!(model.model().save_finite().is_ok());
    }
}

#[test]
fn damaged_files_are_refused() {
    let mut model = Model::new(signatures().swap_remove(2));
    model.step_batch(&odd_rows()).unwrap();
    let bytes = model.save().unwrap();
    for cut in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        assert!(Model::load(&bytes[..cut]).is_err(), "{cut}");
    }
    // Changes of the header that keep its length, so that all else still reads.
    let changes = [
        (r#"one_hot\":1024"#, r#"one_hot\":   0"#),
        ("softmax_regression", "softmin_regression"),
        ("estimator.seen", "estimator.sign"),
    ];
    for (from, to) in changes {
        let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut changed = bytes.clone();
        changed[place..place + from.len()].copy_from_slice(to.as_bytes());
        assert!(Model::load(&changed).is_err(), "{from}");
    }
}

#[test]
fn a_batch_without_rows_is_nothing() {
    for signature in signatures() {
        let mut model = Model::new(signature);
        assert!(model.step_batch(&odd_rows().slice(0, 0)).unwrap().is_empty());
        assert_eq!(model.rows(), 0);
    }
}

#[test]
fn a_missing_column_is_named() {
    let mut model = Model::new(signatures().swap_remove(0));
    let rows = odd_rows().project(&[0, 5]).unwrap();
    assert_eq!(model.step_batch(&rows).unwrap_err().to_string(), "the rows have no column `plain`");
}
