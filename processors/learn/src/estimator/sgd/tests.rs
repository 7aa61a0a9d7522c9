//! Compares what is learned with scikit-learn's coefficients, in the fixture that `tests/data/make_sgd_fixtures.py` wrote.

use serde::Deserialize;

use super::*;
use crate::vector::padded;

/// What scikit-learn learned with some settings.
#[derive(Deserialize)]
struct Case {
    data: String,
    settings: SgdSettings,
    intercept: Vec<f64>,
    coefficients: Vec<Vec<f64>>,
}

/// Rows to learn from: numbers, slots, and the target.
struct Data {
    classes: Vec<Class>,
    slots: usize,
    rows: Vec<(Vec<f64>, Vec<u32>, f64)>,
}

fn cells(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().skip(1).map(|line| line.split(',').collect())
}

fn numbers(cells: &[&str], divisor: f64) -> Vec<f64> {
    cells.iter().map(|cell| cell.parse::<f64>().unwrap() / divisor).collect()
}

/// The rows of a fixture, as `make_sgd_fixtures.py` gave them to scikit-learn.
fn data(name: &str) -> Data {
    match name {
        "phishing" => {
            let cells = cells(include_str!("../../../tests/data/phishing.csv"));
            let row = |cells: Vec<&str>| {
                let target = if cells[9] == "True" { 1.0 } else { 0.0 };
                (numbers(&cells[..9], 1.0), vec![], target)
            };
            Data { classes: [false, true].map(Class::Boolean).into(), slots: 0, rows: cells.map(row).collect() }
        }
        "approval" => {
            let cells = cells(include_str!("../../../tests/data/approval.csv"));
            let row = |cells: Vec<&str>| (numbers(&cells[1..6], 100.0), vec![], numbers(&cells[6..7], 1.0)[0]);
            Data { classes: vec![], slots: 0, rows: cells.map(row).collect() }
        }
        "segments" => {
            let text = include_str!("../../../tests/data/segments.csv");
            let mut names: Vec<_> = cells(text).map(|cells| cells[18]).collect();
            names.sort_unstable();
            names.dedup();
            let class = |name| names.iter().position(|known| *known == name).unwrap() as f64;
            let rows = cells(text).map(|cells| (numbers(&cells[..18], 100.0), vec![], class(cells[18]))).collect();
            Data { classes: names.iter().map(|name| Class::Text((*name).to_owned())).collect(), slots: 0, rows }
        }
        _ => {
            let text = include_str!("../../../tests/data/chicks.csv");
            let mut values: Vec<_> = Vec::new();
            for chick in cells(text).map(|cells| cells[1]) {
                if !values.contains(&chick) {
                    values.push(chick);
                }
            }
            values.extend(["diet 1", "diet 2", "diet 3", "diet 4"]);
            let slot = |value: &str| values.iter().position(|known| *known == value).unwrap() as u32;
            let row = |cells: Vec<&str>| {
                let slots = vec![slot(cells[1]), slot(cells[2])];
                (numbers(&cells[..1], 10.0), slots, numbers(&cells[3..4], 100.0)[0])
            };
            Data { classes: vec![], slots: values.len(), rows: cells(text).map(row).collect() }
        }
    }
}

impl Data {
    fn shape(&self) -> Shape {
        let numbers = self.rows[0].0.len();
        Shape { numbers, width: padded(numbers), slots: self.slots, classes: self.classes.len() }
    }

    fn learn(&self, sgd: &mut Sgd) {
        for (numbers, slots, target) in &self.rows {
            let mut numbers = numbers.clone();
            numbers.resize(self.shape().width, 0.0);
            sgd.learn(Row { numbers: &numbers, slots }, *target);
        }
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
        let checked = match data.classes.is_empty() {
            true => case.settings.check_regressor(),
            false => case.settings.check_classifier(&data.classes),
        };
        checked.unwrap();
        let mut sgd = Sgd::new(&case.settings, &data.classes, data.shape());
        data.learn(&mut sgd);
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
                sgd.learn(Row { numbers: &numbers, slots: &[] }, *target);
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
        (r#"{ "l1_ratio": 1.5 }"#, &classes, "`l1_ratio` is 1.5, and should be a share from 0 to 1"),
        (r#"{ "eta0": -1 }"#, &classes, "`eta0` is -1, and should be a number from 0 up"),
        (r#"{ "average": 0 }"#, &classes, "`average` is 0"),
        (r#"{ "class_weight": { "eggs": 2 } }"#, &classes, "`eggs` is no class of the label"),
    ] {
        let settings: SgdSettings = serde_json::from_str(json).unwrap();
        let problem = match classes.is_empty() {
            true => settings.check_regressor().unwrap_err(),
            false => settings.check_classifier(classes).unwrap_err(),
        };
        let error = format!("{} {}", problem.message, problem.help.unwrap_or_default());
        assert!(error.contains(message), "{json}: {error}");
    }
}
