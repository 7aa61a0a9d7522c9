//! Compares what layers over sequences learn with PyTorch's, in the fixture that `tests/data/make_sequence_fixtures.py` wrote; gradients with the
//! slopes of the loss; and what is remembered of keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};

use super::super::rows::StepRow;
use super::super::sequences::{Key, Sequences};
use super::super::settings::SequenceSettings;
use super::*;
use crate::{Encoder, Features, LabelColumns, Missing, Model, Signature};

/// A window of rows of three numbers: those before the last one, and that one.
fn teach_window(network: &mut Network, window: &[[f64; 3]], slots: &[u32], target: Option<f64>) {
    let as_32 = |row: &[f64; 3]| row.map(|number| number as f32);
    let (last, before) = window.split_last().unwrap();
    let before: Vec<_> = before.iter().map(as_32).collect();
    let steps = before.iter().map(|numbers| StepRow { numbers, slots });
    let mut numbers = last.to_vec();
    numbers.resize(padded(3), 0.0);
    network.pending.push_labelled_window(steps, Row { numbers: &numbers, slots }, target.unwrap_or(0.0), 1.0);
}

fn predict_pending(network: &Network) -> Vec<f64> {
    let mut pending_rows = PendingRows { rows: network.pending.clone(), ..network.pending_rows() };
    let mut predictions = vec![0.0; pending_rows.len() * network.outputs()];
    network.predict_pending(&mut pending_rows, &mut predictions).unwrap();
    predictions
}

#[derive(Deserialize)]
struct Data {
    windows: Vec<Vec<[f64; 3]>>,
    targets: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    settings: NetworkSettings,
    before: Vec<f32>,
    after: Vec<f32>,
    predicted: Vec<f64>,
}

#[test]
fn weights_become_what_they_become_in_pytorch() {
    let mut lines = include_str!("../../../../tests/data/sequence.ndjson").lines();
    let data: Data = serde_json::from_str(lines.next().unwrap()).unwrap();
    let mut count = 0;
    for case in lines.map(|line| serde_json::from_str::<Case>(line).unwrap()) {
        let mut network = Network::new(&case.settings, std::iter::empty(), shape(3, 0, 0));
        network.engine = Box::new(Cpu::new(network.plan.clone(), Lists::new(network.plan.pad(&case.before))));
        for (window, target) in data.windows.iter().zip(&data.targets) {
            teach_window(&mut network, window, &[], Some(*target));
            if network.is_taught_enough() {
                network.learn().unwrap();
            }
        }
        let lists = network.engine.lists().unwrap().into_owned();
        let rows = network.plan.parameters.iter().flat_map(|parameter| parameter.rows_of(&lists.parameters));
        let found = rows.collect::<Vec<_>>().concat();
        assert_eq!(found.len(), case.after.len());
        for (at, (found, wanted)) in found.iter().zip(&case.after).enumerate() {
            assert!((found - wanted).abs() < 2e-5, "{:?}, {at}: {found}, not {wanted}", case.settings);
        }
        data.windows.iter().for_each(|window| teach_window(&mut network, window, &[], None));
        for (found, wanted) in predict_pending(&network).iter().zip(&case.predicted) {
            assert!((found - wanted).abs() < 2e-5, "{:?}: {found}, not {wanted}", case.settings);
        }
        count += 1;
    }
    assert_eq!(count, 8);
}

/// What is tried with every layer over rows, alone and behind and before others.
fn layers_over_rows() -> [serde_json::Value; 5] {
    [
        json!([{ "gru": 5 }]),
        json!([{ "lstm": 5 }, { "dense": 3, "activation": "tanh" }]),
        json!([{ "conv1d": 4, "kernel": 3, "activation": "tanh" }]),
        json!([{ "dense": 4, "activation": "elu" }, { "dropout": 0.3 }, { "lstm": 9 }, { "normalise": "layer" }, { "gru": 3 }]),
        json!([{ "conv1d": 9, "kernel": 2, "dilation": 2, "activation": "sigmoid" }, { "gru": 4 }, { "conv1d": 3, "kernel": 2, "activation": "linear" }]),
    ]
}

#[test]
fn gradients_over_rows_are_the_slopes_of_the_loss() {
    for layers in layers_over_rows() {
        let json = json!({ "layers": layers, "sequence": { "rows": 4 }, "embedding": 2, "seed": 5 });
        let mut network = Network::new(&settings(json), [3].into_iter(), shape(3, 3, 0));
        for row in 0..6_u32 {
            let step = |step: u32| [0, 1, 2].map(|column| (f64::from(row * 12 + step * 3 + column)).sin() * 1.5);
            let window: Vec<_> = (0..1 + row % 4).map(step).collect();
            teach_window(&mut network, &window, &[row % 3], Some(f64::from(row) / 2.0 - 1.0));
        }
        check_slopes(network, &layers.to_string());
    }
}

#[test]
fn a_window_is_the_same_bits_beside_whichever_others() {
    for layers in layers_over_rows() {
        let json = json!({ "layers": layers, "sequence": { "rows": 5 }, "seed": 5 });
        let mut network = Network::new(&settings(json), std::iter::empty(), shape(3, 0, 0));
        let window = |row: usize| -> Vec<[f64; 3]> {
            let step = |step: usize| [0, 1, 2].map(|column| ((row * 20 + step * 3 + column) as f64).cos());
            (0..1 + row % 5).map(step).collect()
        };
        (0..13).for_each(|row| teach_window(&mut network, &window(row), &[], None));
        let together = predict_pending(&network);
        for (row, together) in together.iter().enumerate() {
            network.pending.clear();
            teach_window(&mut network, &window(row), &[], None);
            assert_eq!(predict_pending(&network), [*together], "{layers}, row {row}");
        }
    }
}

fn sequences(rows: u32, keys: u32) -> Sequences {
    Sequences::new(&SequenceSettings { key: None, rows, keys }, None, 1, 0)
}

fn remember(sequences: &mut Sequences, key: &str, number: f32) {
    sequences.remember(Some(Key::of(key)), Some(StepRow { numbers: &[number], slots: &[] }));
}

fn of(sequences: &Sequences, key: &str) -> Vec<f32> {
    sequences.rows_of(Some(Key::of(key))).map(|row| row.numbers[0]).collect()
}

#[test]
fn the_last_rows_of_the_last_keys_are_remembered() {
    let mut sequences = sequences(4, 2);
    assert!(of(&sequences, "a").is_empty());
    (1..=5).for_each(|number| remember(&mut sequences, "a", number as f32));
    remember(&mut sequences, "b", 10.0);
    assert_eq!((of(&sequences, "a"), of(&sequences, "b")), (vec![3.0, 4.0, 5.0], vec![10.0]));
    remember(&mut sequences, "a", 6.0);
    // There is room for two, and `b` was seen least recently.
    remember(&mut sequences, "c", 20.0);
    assert_eq!(of(&sequences, "a"), [4.0, 5.0, 6.0]);
    assert!(of(&sequences, "b").is_empty());
    remember(&mut sequences, "b", 11.0);
    assert_eq!((of(&sequences, "b"), of(&sequences, "c")), (vec![11.0], vec![20.0]), "what was of others is forgotten");
    assert!(of(&sequences, "a").is_empty());
    sequences.remember(None, Some(StepRow { numbers: &[1.0], slots: &[] }));
    assert_eq!(sequences.rows_of(None).len(), 0, "rows without a key are nobody's");
}

#[test]
fn sequences_come_back_wherever_they_were() {
    let mut before = sequences(3, 3);
    for (row, key) in ["a", "b", "c", "a", "d", "d", "d", "b"].into_iter().enumerate() {
        remember(&mut before, key, row as f32);
    }
    let saved = |sequences: &Sequences| {
        let mut tensors = Tensors::default();
        sequences.save(&mut tensors);
        tensors
    };
    let mut after = sequences(3, 3);
    after.load(&saved(&before), &[]).unwrap();
    for (row, key) in ["e", "a", "b", "f"].into_iter().enumerate() {
        assert!(saved(&after) == saved(&before), "{row}");
        [&mut before, &mut after].into_iter().for_each(|sequences| remember(sequences, key, 100.0 + row as f32));
    }
    let too_many = sequences(3, 2).load(&saved(&before), &[]).unwrap_err().to_string();
    assert_eq!(too_many, "the sequences in the model are damaged");
    assert!(sequences(2, 3).load(&saved(&before), &[]).is_err(), "too long");
}

fn rows(keys: &[Option<&str>], numbers: &[f64]) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Float64Array::from(numbers.to_vec()));
    let keys: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
    RecordBatch::try_from_iter([("x", numbers.clone()), ("key", keys), ("y", numbers)]).unwrap()
}

fn model(rows: &RecordBatch, sequence: serde_json::Value) -> Model {
    let estimator = json!({ "type": "network", "layers": [{ "gru": 4 }], "sequence": sequence });
    let features = vec![("x".to_owned(), Encoder::Raw), ("key".to_owned(), Encoder::Hash(1))];
    let estimator = serde_json::from_value(estimator).unwrap();
    let label = LabelColumns::from("y");
    let features = Features::Encoded(features.into_iter().map(|(name, encoder)| (name, encoder.into())).collect());
    Model::new(Signature::plan(&rows.schema(), &estimator, &features, label, None, Missing::Mean).unwrap())
}

#[test]
fn each_key_has_a_sequence_of_its_own() {
    let predicted = |keys: &[Option<&str>], numbers: &[f64]| {
        let rows = rows(keys, numbers);
        let predictions = model(&rows, json!({ "key": "key", "rows": 3 })).step_batch(&rows).unwrap();
        (0..predictions.len()).map(|row| predictions.row(row)[0]).collect::<Vec<_>>()
    };
    let (a, b) = (Some("a"), Some("b"));
    let alone = predicted(&[a, a, a, a], &[1.0, 2.0, -1.0, 3.0]);
    let mixed = predicted(&[a, b, a, None, a, b, a, None], &[1.0, 9.0, 2.0, 9.0, -1.0, 9.0, 3.0, 9.0]);
    assert_eq!([mixed[0], mixed[2], mixed[4], mixed[6]], alone[..]);
    assert_eq!(mixed[3], mixed[7], "rows without a key stand alone");
    assert_ne!(mixed[1], mixed[5], "the second row of a key follows on its first");
    assert_eq!(predicted(&[a, a, a, a], &[7.0, 2.0, -1.0, 3.0])[3], alone[3], "a window has three rows");
}

#[test]
fn rows_that_are_only_predicted_do_not_see_each_other() {
    let learned = rows(&[Some("a"), Some("b")], &[1.0, 2.0]);
    let mut model = model(&learned, json!({ "key": "key", "rows": 3 }));
    model.step_batch(&learned).unwrap();
    let twice = model.predict_batch(&rows(&[Some("a"), Some("a")], &[5.0, 5.0])).unwrap();
    assert_eq!(twice.row(0), twice.row(1));
    let other = model.predict_batch(&rows(&[Some("b")], &[5.0])).unwrap();
    assert_ne!(twice.row(0), other.row(0), "each sees what its key has done");
}

#[test]
fn sequences_that_make_no_sense_are_refused() {
    for (json, message) in [
        (json!({ "layers": [{ "gru": 4 }] }), "this layer goes over the rows of a sequence, and there is none"),
        (
            json!({ "layers": [{ "dense": 4 }], "sequence": { "rows": 4 } }),
            "no layer goes over the rows of the sequence",
        ),
        (json!({ "layers": [{ "lstm": 0 }], "sequence": { "rows": 4 } }), "`lstm` is 0"),
        (
            json!({ "layers": [{ "gru": 4 }], "sequence": { "rows": 1 } }),
            "`rows` is 1, and should be a number from 2 to 1024",
        ),
        (json!({ "layers": [{ "gru": 4 }], "sequence": { "rows": 4, "keys": 0 } }), "`keys` is 0"),
        (json!({ "layers": [{ "conv1d": 4, "kernel": 0 }], "sequence": { "rows": 4 } }), "`kernel` is 0"),
    ] {
        let problem = settings(json).check(&[]).unwrap_err();
        assert!(problem.message.contains(message), "{}", problem.message);
    }
    let json = json!({ "layers": [{ "gru": 4 }], "sequence": { "key": "card", "rows": 4 } });
    let feature = |encoder| [Feature::new("card", "int64", encoder)];
    assert!(settings(json.clone()).check_features(&feature(Encoder::Hash(1))).is_ok());
    let as_number = settings(json.clone()).check_features(&feature(Encoder::Standardise)).unwrap_err();
    assert_eq!(as_number.message, "the key `card` is read as a number, and should be a category");
    assert_eq!(settings(json).check_features(&[]).unwrap_err().message, "the key `card` is none of the features");
}

#[test]
fn what_needs_one_row_is_refused_with_the_reason() {
    let rows = rows(&[Some("a"), Some("b")], &[1.0, 2.0]);
    let mut model = model(&rows, json!({ "rows": 3 }));
    model.step_batch(&rows).unwrap();
    let onnx = model.to_onnx(Vec::new()).unwrap_err().to_string();
    assert!(onnx.starts_with("`network` over sequences can't be written as ONNX"), "{onnx}");
    let weights = model.to_hdf5(crate::Layout::Named, &[]).unwrap_err().to_string();
    assert_eq!(
        weights,
        "its layers go over the last rows of a sequence, and files of weights are of layers over one row"
    );
}
