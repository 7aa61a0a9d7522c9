//! Compares with Qiskit, in the fixture that `tests/data/make_quantum_fixtures.py` wrote.

use serde::Deserialize;

use super::*;
use crate::encode::Encoder;

/// Rows, and what Qiskit's kernel is of each with each.
#[derive(Deserialize)]
struct Case {
    map: Circuit,
    reps: u32,
    rows: Vec<Vec<f64>>,
    kernel: Vec<Vec<f64>>,
}

fn state(map: &FeatureMap, numbers: &[f64]) -> Vec<f64> {
    let mut state = Vec::new();
    map.state(numbers, &mut state);
    state
}

#[test]
fn fidelities_are_those_of_qiskit() {
    let mut count = 0;
    for line in include_str!("../../../tests/data/quantum.ndjson").lines() {
        let Case { map, reps, rows, kernel } = serde_json::from_str(line).unwrap();
        let map = FeatureMap { map, reps, scale: 1.0 };
        let states: Vec<_> = rows.iter().map(|row| state(&map, row)).collect();
        for (one, of_row) in states.iter().zip(kernel) {
            for (other, wanted) in states.iter().zip(of_row) {
                let found = fidelity(one, other);
                assert!((found - wanted).abs() < 1e-9, "{map:?}: {found}, not {wanted}");
            }
        }
        count += 1;
    }
    assert_eq!(count, 25);
}

#[test]
fn states_have_the_length_1_and_numbers_are_scaled_first() {
    for circuit in [Circuit::Z, Circuit::Zz, Circuit::Angle] {
        let map = FeatureMap { map: circuit, reps: 3, scale: 0.5 };
        for qubits in 1..=MOST_QUBITS {
            let numbers: Vec<_> = (0..qubits).map(|qubit| qubit as f64 * 0.7 - 2.0).collect();
            let found = state(&map, &numbers);
            assert_eq!(found.len(), map.numbers(qubits));
            assert!((found.iter().map(|part| part * part).sum::<f64>() - 1.0).abs() < 1e-12);
            let halves: Vec<_> = numbers.iter().map(|number| number * 0.5).collect();
            assert_eq!(found, state(&FeatureMap { scale: 1.0, ..map.clone() }, &halves));
        }
    }
}

#[test]
fn categories_and_more_features_than_qubits_are_refused() {
    let feature = |encoder| Feature::new("size", "float64", encoder);
    let refused = |features: &[Feature]| FeatureMap::check_features(features).unwrap_err().message;
    assert!(refused(&[feature(Encoder::OneHot(3))]).contains("`size` is a category"));
    assert!(refused(&vec![feature(Encoder::Raw); 13]).contains("13 features, and 12 are the most"));
    assert!(FeatureMap::check_features(&vec![feature(Encoder::Standardise); 12]).is_ok());
}
