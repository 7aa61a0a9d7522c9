//! Compares clusters with scikit-learn's `MiniBatchKMeans`, in the fixture that `tests/data/make_k_means_fixture.py` wrote, and
//! with the formulas.

use super::*;
use crate::fixtures::data;

fn settings(clusters: u32, decay: f64) -> KMeans {
    KMeans { clusters, decay, batch_rows: 1 }
}

fn predict(clusters: &Clusters, row: Row<'_>) -> [f64; 2] {
    let mut prediction = [0.0; 2];
    clusters.predict_one(row, &mut prediction);
    prediction
}

#[test]
fn clusters_are_those_of_scikit_learn() {
    for (batch_rows, wanted) in [
        (1, include_str!("../../../tests/data/k_means.csv")),
        (16, include_str!("../../../tests/data/k_means_batches.csv")),
    ] {
        compare_with_scikit_learn(batch_rows, wanted);
    }
}

fn compare_with_scikit_learn(batch_rows: u32, wanted: &str) {
    let data = data("segments");
    let mut clusters = Clusters::new(&KMeans { batch_rows, ..settings(7, 1.0) }, data.shape());
    let wanted = wanted.lines().skip(1);
    let mut wanted = wanted.map(|line| line.split_once(',').map(|(cluster, distance)| [cluster, distance]).unwrap());
    let mut compared = 0;
    for (row, (numbers, slots, target)) in data.rows.iter().enumerate() {
        let mut numbers = numbers.clone();
        numbers.resize(data.shape().width, 0.0);
        let encoded = Row { numbers: &numbers, slots };
        let [cluster, distance] = predict(&clusters, encoded);
        clusters.learn_one(encoded, *target);
        if row < 7 {
            assert_eq!(clusters.made, row + 1);
            continue;
        }
        let [of_scikit, distance_of_scikit] = wanted.next().unwrap().map(|cell| cell.parse::<f64>().unwrap());
        assert_eq!(cluster, of_scikit, "row {row}");
        assert!((distance - distance_of_scikit).abs() <= 1e-9 * distance_of_scikit.max(1.0), "row {row}: {distance}");
        compared += 1;
    }
    assert!(compared > 390 && wanted.next().is_none());
}

/// Numbers of one column, padded.
fn number(value: f64) -> [f64; 8] {
    [value, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
}

fn learn(clusters: &mut Clusters, values: &[f64]) {
    values.iter().for_each(|value| clusters.learn_one(Row { numbers: &number(*value), slots: &[] }, 0.0));
}

#[test]
fn the_first_rows_that_differ_are_the_first_centres() {
    let shape = Shape { numbers: 1, width: 8, slots: 0, classes: 0 };
    let mut clusters = Clusters::new(&settings(3, 1.0), shape);
    assert!(predict(&clusters, Row { numbers: &number(1.0), slots: &[] }).iter().all(|value| value.is_nan()));
    learn(&mut clusters, &[5.0, 5.0, 1.0, 5.0]);
    assert_eq!((clusters.made, &clusters.weights[..]), (2, &[3.0, 1.0, 0.0][..]));
    assert_eq!(predict(&clusters, Row { numbers: &number(2.0), slots: &[] }), [1.0, 1.0]);
    learn(&mut clusters, &[9.0, 2.0]);
    assert_eq!([clusters.numbers_of(0)[0], clusters.numbers_of(1)[0], clusters.numbers_of(2)[0]], [5.0, 1.5, 9.0]);
}

#[test]
fn with_decay_older_rows_count_less() {
    let shape = Shape { numbers: 1, width: 8, slots: 0, classes: 0 };
    let centre = |decay| {
        let mut clusters = Clusters::new(&settings(1, decay), shape);
        learn(&mut clusters, &[4.0, 8.0, 16.0]);
        clusters.numbers_of(0)[0]
    };
    assert_eq!(centre(0.0), 16.0);
    assert!((centre(1.0) - 28.0 / 3.0).abs() < 1e-12);
    assert!((centre(0.5) - (4.0 * 0.25 + 8.0 * 0.5 + 16.0) / 1.75).abs() < 1e-12);
}

/// With one cluster, a batch ends where its rows would have brought the centre one by one.
#[test]
fn a_batch_moves_as_far_as_its_rows() {
    let shape = Shape { numbers: 1, width: 8, slots: 2, classes: 0 };
    let rows = [(4.0, 0), (8.0, 1), (16.0, 1), (-3.0, 0), (5.0, 1)];
    for (decay, weights) in [(1.0, [1.0; 5]), (0.5, [1.0, 2.0, 0.5, 3.0, 1.0])] {
        let [one_by_one, at_once] = [1, 4].map(|batch_rows| {
            let mut clusters = Clusters::new(&KMeans { batch_rows, ..settings(1, decay) }, shape);
            for ((value, slot), weight) in rows.into_iter().zip(weights) {
                clusters.learn_weighted(Row { numbers: &number(value), slots: &[slot] }, weight);
            }
            [clusters.numbers_of(0)[0], clusters.slots_of(0)[1], clusters.weights[0]]
        });
        assert!(one_by_one.iter().zip(at_once).all(|(one, other)| (one - other).abs() < 1e-12), "{at_once:?}");
    }
}

#[test]
fn categories_lie_as_far_apart_as_their_slots() {
    let shape = Shape { numbers: 0, width: 0, slots: 5, classes: 0 };
    let mut clusters = Clusters::new(&settings(2, 1.0), shape);
    let row = |slots| Row { numbers: &[], slots };
    clusters.learn_one(row(&[0, 3]), 0.0);
    clusters.learn_one(row(&[1, 4]), 0.0);
    assert_eq!(predict(&clusters, row(&[0, 4])), [0.0, 2.0_f64.sqrt()]);
    clusters.learn_one(row(&[0, 4]), 0.0);
    assert_eq!(clusters.slots_of(0), [1.0, 0.0, 0.0, 0.5, 0.5]);
    // A distance by hand: 0.5² + 0.5² from the first centre.
    assert_eq!(predict(&clusters, row(&[0, 3])), [0.0, 0.5_f64.sqrt()]);
    // No more than rows that are equal, however often they come.
    (0..100).for_each(|_| clusters.learn_one(row(&[1, 4]), 0.0));
    assert_eq!(predict(&clusters, row(&[1, 4])), [1.0, 0.0]);
}

#[test]
fn settings_that_make_no_sense_are_refused_at_their_keys() {
    let refused = |settings: KMeans| settings.check(&[]).unwrap_err().to_string();
    assert!(refused(settings(0, 1.0)).contains("`clusters` is 0"));
    assert!(refused(settings(2, 1.5)).contains("`decay` is 1.5") && settings(2, f64::NAN).check(&[]).is_err());
    assert!(settings(2, 0.0).check(&[]).is_ok());
}
