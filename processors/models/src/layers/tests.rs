//! Files of Keras, and tensors as PyTorch names them, whole and damaged. What Keras makes of ours is compared in `tests/keras`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use millstream_testkit::Hostile;
use serde::Deserialize;
use serde_json::json;

use super::Layout;
use crate::{Import, Model};

/// A model of Keras as a whole, its weights alone, and the same without the layer that standardises, as a `state_dict`.
const WHOLE: &[u8] = include_bytes!("../../tests/data/keras.h5");
const WEIGHTS: &[u8] = include_bytes!("../../tests/data/keras.weights.h5");
const STATE: &[u8] = include_bytes!("../../tests/data/torch.safetensors");

#[derive(Deserialize)]
struct Expected {
    rows: Vec<[f64; 3]>,
    normalised: Vec<[f64; 3]>,
    probabilities: Vec<[f64; 3]>,
}

fn expected() -> Expected {
    serde_json::from_str(include_str!("../../tests/data/keras.json")).unwrap()
}

fn network(layers: serde_json::Value) -> Import {
    let estimator = json!({ "type": "network", "layers": layers });
    let texts = |texts: [&str; 3]| Some(texts.map(str::to_owned).to_vec());
    Import {
        features: texts(["a", "b", "c"]),
        classes: texts(["0", "1", "2"]),
        estimator: Some(serde_json::from_value(estimator).unwrap()),
        ..Import::default()
    }
}

fn same() -> Import {
    network(json!([{ "dense": 5, "activation": "tanh" }, { "dropout": 0.1 }, { "normalise": "layer" }]))
}

fn predict(model: &Model, rows: &[[f64; 3]]) -> Vec<Vec<f64>> {
    let column = |at: usize| Arc::new(rows.iter().map(|row| row[at]).collect::<Float64Array>()) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("a", column(0)), ("b", column(1)), ("c", column(2))]).unwrap();
    let predictions = model.predict_batch(&batch).unwrap();
    (0..rows.len()).map(|row| predictions.row(row).to_vec()).collect()
}

fn check(model: &Model, rows: &[[f64; 3]]) {
    for (found, expected) in predict(model, rows).iter().zip(expected().probabilities) {
        let is_near = |(found, expected): (&f64, f64)| (found - expected).abs() < 1e-5;
        assert!(found.iter().zip(expected).all(is_near), "{found:?} {expected:?}");
    }
}

#[test]
fn weights_of_keras_predict_as_they_do_there() {
    for file in [WHOLE, WEIGHTS] {
        check(&Model::import(file, &same()).unwrap(), &expected().rows);
    }
}

#[test]
fn tensors_of_modules_are_taken_in_the_order_of_their_numbers() {
    check(&Model::import(STATE, &same()).unwrap(), &expected().normalised);
}

#[test]
fn weights_are_the_same_bits_when_they_come_back() {
    let model = Model::import(WHOLE, &same()).unwrap();
    for layout in [Layout::Named, Layout::Numbered] {
        let properties = [("millstream.model".to_owned(), "größe".to_owned())];
        let file = model.to_hdf5(layout, &properties).unwrap();
        assert_eq!(file, model.to_hdf5(layout, &properties).unwrap());
        let again = Model::import(&file, &same()).unwrap();
        assert_eq!(again.save().unwrap(), model.save().unwrap(), "{layout:?}");
    }
}

#[test]
fn linear_models_come_back_too() {
    let estimator = json!({ "type": "linear_regression" });
    let said = Import { classes: None, estimator: Some(serde_json::from_value(estimator).unwrap()), ..same() };
    let file = super::write(&[super::Layer::dense(3, 1, vec![0.1, 0.2, 0.3], vec![0.5])], Layout::Named, &[]).unwrap();
    let model = Model::import(&file, &said).unwrap();
    assert_eq!(predict(&model, &[[1.0, 10.0, 100.0]]), [[0.1 + 2.0 + 30.0 + 0.5]]);
    assert_eq!(model.to_hdf5(Layout::Named, &[]).unwrap(), file);
}

#[test]
fn what_does_not_fit_is_said() {
    let refused = |file: &[u8], said: &Import| Model::import(file, said).unwrap_err().to_string();
    let fewer = network(json!([{ "dense": 5, "activation": "tanh" }]));
    for (file, names) in [(WHOLE, "normalization, dense, dense_1"), (WEIGHTS, "normalization, dense, dense_1")] {
        let count = names.split(", ").count();
        assert_eq!(refused(file, &fewer), format!("it has weights of 4 layers, and there should be {count}: {names}"));
    }
    assert_eq!(refused(STATE, &fewer), "it has weights of 3 layers, and there should be 2: dense, dense_1");
    let wider = network(json!([{ "dense": 6 }, { "normalise": "layer" }]));
    let shapes = "is of the shape [3, 5], and should be of [3, 6]";
    assert!(refused(WHOLE, &wider).ends_with(shapes), "{}", refused(WHOLE, &wider));
    assert_eq!(refused(WEIGHTS, &wider), format!("`layers/dense/vars/0` in it {shapes}"));
    assert_eq!(refused(STATE, &wider), "`0.weight` in it is of the shape [5, 3], and should be of [6, 3]");
    let nameless = Import { features: None, ..same() };
    assert!(refused(WHOLE, &nameless).contains("name the features"), "{}", refused(WHOLE, &nameless));
    let alone = Import::default();
    assert!(refused(WHOLE, &alone).contains("say them by an estimator"), "{}", refused(WHOLE, &alone));
    assert!(refused(b"rubbish", &same()).starts_with("reading it as a safetensors file"));
}

#[test]
fn hostile_files_are_refused_or_read() {
    let said = same();
    Hostile::new([WHOLE, WEIGHTS, STATE]).attack(|file| {
        _ = Model::import(file, &said);
    });
}
