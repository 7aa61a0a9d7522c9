//! The rows of the fixtures in `tests/data`, encoded.

use crate::estimator::Shape;
use crate::label::Class;
use crate::vector::padded;

/// Rows to learn from: numbers, slots, and the target.
pub(crate) struct Data {
    pub classes: Vec<Class>,
    pub slots: usize,
    pub rows: Vec<(Vec<f64>, Vec<u32>, f64)>,
}

fn cells(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().skip(1).map(|line| line.split(',').collect())
}

fn numbers(cells: &[&str], divisor: f64) -> Vec<f64> {
    cells.iter().map(|cell| cell.parse::<f64>().unwrap() / divisor).collect()
}

/// The rows of a fixture, as `make_sgd_fixtures.py` and `make_network_fixtures.py` gave them to scikit-learn.
pub(crate) fn data(name: &str) -> Data {
    match name {
        "phishing" => {
            let cells = cells(include_str!("../tests/data/phishing.csv"));
            let row = |cells: Vec<&str>| {
                let target = if cells[9] == "True" { 1.0 } else { 0.0 };
                (numbers(&cells[..9], 1.0), vec![], target)
            };
            Data { classes: [false, true].map(Class::Boolean).into(), slots: 0, rows: cells.map(row).collect() }
        }
        "approval" => {
            let cells = cells(include_str!("../tests/data/approval.csv"));
            let row = |cells: Vec<&str>| (numbers(&cells[1..6], 100.0), vec![], numbers(&cells[6..7], 10.0)[0]);
            Data { classes: vec![], slots: 0, rows: cells.map(row).collect() }
        }
        "segments" => {
            let text = include_str!("../tests/data/segments.csv");
            let mut names: Vec<_> = cells(text).map(|cells| cells[18]).collect();
            names.sort_unstable();
            names.dedup();
            let class = |name| names.iter().position(|known| *known == name).unwrap() as f64;
            let rows = cells(text).map(|cells| (numbers(&cells[..18], 100.0), vec![], class(cells[18]))).collect();
            Data { classes: names.iter().map(|name| Class::Text((*name).to_owned())).collect(), slots: 0, rows }
        }
        _ => {
            let text = include_str!("../tests/data/chicks.csv");
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
    pub fn shape(&self) -> Shape {
        let numbers = self.rows[0].0.len();
        Shape { numbers, width: padded(numbers), slots: self.slots, classes: self.classes.len() }
    }
}
