//! Compares what is learned with scikit-learn's coefficients, in the fixture that `tests/data/make_sgd_fixtures.py` wrote.

use serde::Deserialize;

use super::*;
use crate::fixtures::{Data, data};

/// What scikit-learn learned with some settings.
#[derive(Deserialize)]
struct Case {
    data: String,
    settings: SgdSettings,
    intercept: Vec<f64>,
    coefficients: Vec<Vec<f64>>,
}

fn learn(data: &Data, sgd: &mut Sgd) {
    for (numbers, slots, target) in &data.rows {
        let mut numbers = numbers.clone();
        numbers.resize(data.shape().width, 0.0);
        sgd.learn_one(Row { numbers: &numbers, slots }, *target);
    }
}

impl Sgd {
    /// The weights that predict, numbers first, and the intercept behind them, of every weighted sum.
    fn coefficients(&self, shape: Shape) -> Vec<Vec<f64>> {
        let of_row = |weights: &Weights, numbers: &[f64], slots: &[u32]| self.sum(weights, Row { numbers, slots });
        let zeros = vec![0.0; shape.width];
        let each = self.sums.iter().map(|weights| {
            let intercept = of_row(weights, &zeros, &[]);
            let mut found = Vec::new();
            for number in 0..shape.numbers {
                let mut numbers = zeros.clone();
                numbers[number] = 1.0;
                found.push(of_row(weights, &numbers, &[]) - intercept);
            }
            found.extend((0..shape.slots as u32).map(|slot| of_row(weights, &zeros, &[slot]) - intercept));
            found.push(intercept);
            found
        });
        each.collect()
    }
}

fn cases() -> impl Iterator<Item = Case> {
    include_str!("../../../tests/data/sgd.ndjson").lines().map(|line| serde_json::from_str(line).unwrap())
}

#[test]
fn coefficients_are_those_of_scikit_learn() {
    let mut count = 0;
    for case in cases() {
        let data = data(&case.data);
        let checked = if data.classes.is_empty() {
            case.settings.check_regressor()
        } else {
            case.settings.check_classifier(&data.classes)
        };
        checked.unwrap();
        let mut sgd = Sgd::new(&case.settings, &data.classes, data.shape());
        learn(&data, &mut sgd);
        let found = sgd.coefficients(data.shape());
        assert_eq!(found.len(), case.coefficients.len());
        for ((found, wanted), intercept) in found.iter().zip(&case.coefficients).zip(&case.intercept) {
            assert_eq!(found.len(), wanted.len() + 1);
            for (found, wanted) in found.iter().zip(wanted.iter().chain([intercept])) {
                let near = (found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0);
                assert!(near, "{}, {:?}: {found}, not {wanted}", case.data, case.settings);
            }
        }
        count += 1;
    }
    assert!(count > 190, "{count}");
}

/// Sums of raw digits are so large that several classes have the probability 1; the one with the largest sum counts.
#[test]
fn classes_are_those_of_scikit_learn_where_probabilities_are_equal() {
    let lines = include_str!("../../../tests/data/digits.csv").lines().skip(1);
    let rows: Vec<_> = lines.map(|line| line.split(',').collect::<Vec<_>>()).collect();
    let shape = Shape { numbers: 64, width: 64, slots: 0, classes: 10 };
    let classes: Vec<_> = (0..10).map(Class::Integer).collect();
    for (loss, column) in [("log_loss", 2), ("modified_huber", 3)] {
        let settings: SgdSettings = serde_json::from_str(&format!(r#"{{ "loss": "{loss}" }}"#)).unwrap();
        let mut sgd = Sgd::new(&settings, &classes, shape);
        let mut probabilities = [0.0; 10];
        let mut same = 0;
        for row in &rows {
            let numbers: Vec<_> = row[0].chars().map(|pixel| f64::from(pixel.to_digit(17).unwrap())).collect();
            let encoded = Row { numbers: &numbers, slots: &[] };
            sgd.predict_one(encoded, &mut probabilities);
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let predicted = likeliest(&probabilities, Certainty::Probability);
            same += usize::from(predicted == row[column].parse::<usize>().unwrap());
            sgd.learn_one(encoded, row[1].parse().unwrap());
        }
        assert_eq!(same, rows.len(), "{loss}");
    }
}

/// With an L1 penalty, scikit-learn's average is something else; this compares with the mean of the weights themselves.
#[test]
fn the_average_is_the_mean_of_the_weights_after_every_row() {
    // The last is so strong that the common factor of the weights gets small, and is multiplied out.
    for (penalty, alpha) in [("l1", 0.01), ("l2", 0.01), ("elasticnet", 0.01), ("l2", 20.0)] {
        let json = |average: bool| format!(r#"{{ "penalty": "{penalty}", "alpha": {alpha}, "average": {average} }}"#);
        let settings = |average| serde_json::from_str::<SgdSettings>(&json(average)).unwrap();
        let data = data("approval");
        let shape = data.shape();
        let mut plain = Sgd::new(&settings(false), &[], shape);
        let mut averaged = Sgd::new(&settings(true), &[], shape);
        let mut sums = vec![0.0; shape.numbers + 1];
        for (count, (numbers, _, target)) in data.rows.iter().enumerate() {
            let mut numbers = numbers.clone();
            numbers.resize(shape.width, 0.0);
            for sgd in [&mut plain, &mut averaged] {
                sgd.learn_one(Row { numbers: &numbers, slots: &[] }, *target);
            }
            let (weights, means) = (plain.coefficients(shape), averaged.coefficients(shape));
            for ((sum, weight), mean) in sums.iter_mut().zip(&weights[0]).zip(&means[0]) {
                *sum += weight;
                let wanted = *sum / (count + 1) as f64;
                assert!((mean - wanted).abs() < 1e-9, "{penalty} {alpha}, row {count}: {mean}, not {wanted}");
            }
        }
    }
}

/// The same bits whether slots are multiplied when they are used or all at once, as they are before a model is saved.
#[test]
fn slots_that_wait_to_be_multiplied_come_to_the_same() {
    for average in ["false", "true", "300"] {
        let json = format!(
            r#"{{ "alpha": 20.0, "learning_rate": "constant", "eta0": 0.02, "average": {average}, "penalty": "elasticnet" }}"#
        );
        let settings: SgdSettings = serde_json::from_str(&json).unwrap();
        let shape = Shape { numbers: 1, width: 8, slots: 5000, classes: 0 };
        let (mut waiting, mut saved) = (Sgd::new(&settings, &[], shape), Sgd::new(&settings, &[], shape));
        for row in 0..20_000_u32 {
            let numbers = [f64::from(row % 7), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            let encoded = Row { numbers: &numbers, slots: &[row * row % 4999] };
            let (mut ours, mut theirs) = ([0.0], [0.0]);
            waiting.predict_one(encoded, &mut ours);
            saved.predict_one(encoded, &mut theirs);
            assert_eq!(ours[0].to_bits(), theirs[0].to_bits(), "{average}, row {row}");
            waiting.learn_one(encoded, f64::from(row % 11));
            saved.learn_one(encoded, f64::from(row % 11));
            if row % 50 == 0 {
                let mut tensors = Tensors::default();
                saved.save(&mut tensors);
                saved = Sgd::new(&settings, &[], shape);
                saved.load(&tensors).unwrap();
            }
        }
        let (mut ours, mut theirs) = (Tensors::default(), Tensors::default());
        waiting.save(&mut ours);
        saved.save(&mut theirs);
        assert_eq!(ours, theirs);
    }
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let classes = [Class::Text("ham".into()), Class::Text("spam".into())];
    for (json, classes, message) in [
        (r#"{ "loss": "hinge" }"#, &[][..], "the loss `hinge` is of classes, and the label is a number"),
        (r#"{ "class_weight": { "ham": 2 } }"#, &[], "which has no classes"),
        (r#"{ "alpha": 0 }"#, &classes, "`optimal` divides by `alpha`, which is 0"),
        (
            r#"{ "learning_rate": "pa1", "loss": "log_loss" }"#,
            &classes,
            "go with the loss `hinge`, not with `log_loss`",
        ),
        (r#"{ "l1_ratio": 1.5 }"#, &classes, "`l1_ratio` is 1.5, and should be a fraction from 0 to 1"),
        (r#"{ "eta0": -1 }"#, &classes, "`eta0` is -1, and should be a number from 0 up"),
        (r#"{ "average": 0 }"#, &classes, "`average` is 0"),
        (r#"{ "class_weight": { "eggs": 2 } }"#, &classes, "`eggs` is no class of the label"),
    ] {
        let settings: SgdSettings = serde_json::from_str(json).unwrap();
        let problem = if classes.is_empty() {
            settings.check_regressor().unwrap_err()
        } else {
            settings.check_classifier(classes).unwrap_err()
        };
        let error = format!("{} {}", problem.message, problem.help.unwrap_or_default());
        assert!(error.contains(message), "{json}: {error}");
    }
}
