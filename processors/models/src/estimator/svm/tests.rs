//! Compares what is decided with scikit-learn, in the fixture that `tests/data/make_svm_fixtures.py` wrote.

use serde::Deserialize;

use super::*;
use crate::encode::{Encoder, Scratch};
use crate::fixtures::{Data, data};

/// What scikit-learn decides for the rows behind those that it was fitted to.
#[derive(Deserialize)]
struct Case {
    data: String,
    settings: serde_json::Map<String, serde_json::Value>,
    weights: Vec<f64>,
    decided: Vec<Vec<f64>>,
}

const FITTED: usize = 300;

fn settings(table: serde_json::Value) -> SvmSettings {
    serde_json::from_value(table).unwrap()
}

fn features(data: &Data) -> Vec<Feature> {
    let feature = |encoder| Feature::new("a", "float64", encoder);
    // The chicks are one category, and their four diets another.
    let slots = if data.slots > 0 { vec![data.slots as u32 - 4, 4] } else { vec![] };
    let categories = slots.into_iter().map(|slots| feature(Encoder::OneHot(slots)));
    (0..data.shape().numbers).map(|_| feature(Encoder::Raw)).chain(categories).collect()
}

fn row(data: &Data, index: usize) -> (Scratch, f64) {
    let (numbers, slots, target) = &data.rows[index];
    let mut numbers = numbers.clone();
    numbers.resize(data.shape().width, 0.0);
    (Scratch { numbers, slots: slots.clone() }, *target)
}

fn learn(svm: &mut Svm, row: &Scratch, target: f64, weight: f64) {
    svm.learn(row.row(), &Lesson { target, reward: f64::NAN, weight, prediction: &[] });
}

fn decide(svm: &Svm, row: &Scratch) -> Vec<f64> {
    let mut into = vec![f64::NAN; ByRow::outputs(svm)];
    svm.predict_one(row.row(), &mut into);
    into
}

#[test]
fn what_is_decided_is_what_scikit_learn_decides() {
    let cases = include_str!("../../../tests/data/svm.ndjson").lines();
    let mut count = 0;
    for case in cases.map(|line| serde_json::from_str::<Case>(line).unwrap()) {
        let data = data(&case.data);
        let mut table = case.settings.clone();
        table.insert("window".into(), FITTED.into());
        table.insert("refit".into(), FITTED.into());
        let settings = settings(table.into());
        settings.check(&data.classes).unwrap();
        let mut svm = Svm::new(&settings, &features(&data), &data.classes);
        for index in 0..FITTED {
            let (row, target) = row(&data, index);
            learn(&mut svm, &row, target, case.weights.get(index).copied().unwrap_or(1.0));
        }
        for (index, wanted) in case.decided.iter().enumerate() {
            let found = decide(&svm, &row(&data, FITTED + index).0);
            for (found, wanted) in found.iter().zip(wanted) {
                let near = (found - wanted).abs() <= 1e-4 * wanted.abs().max(1.0);
                assert!(near, "{} row {index}, {settings:?}: {found}, not {wanted}", case.data);
            }
            assert_eq!(found.len(), wanted.len());
        }
        count += 1;
    }
    assert_eq!(count, 72);
}
