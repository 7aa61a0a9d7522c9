//! Compares what networks learn with scikit-learn's, in the fixture that `tests/data/make_network_fixtures.py` wrote; and
//! gradients with the slopes of the loss.

use serde::Deserialize;
use serde_json::json;

use super::settings::{NetworkLoss, Schedule};
use super::*;
use crate::fixtures;

fn settings(json: serde_json::Value) -> NetworkSettings {
    serde_json::from_value(json).unwrap()
}

fn shape(numbers: usize, slots: usize, classes: usize) -> Shape {
    Shape { numbers, width: padded(numbers), slots, classes }
}

fn teach(network: &mut Network, numbers: &[f64], slots: &[u32], target: f64) {
    let mut numbers = numbers.to_vec();
    numbers.resize(padded(numbers.len()), 0.0);
    network.teach(Row { numbers: &numbers, slots }, target);
}

#[derive(Deserialize)]
struct Layer {
    weights: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

#[derive(Deserialize)]
struct Case {
    data: String,
    settings: NetworkSettings,
    before: Vec<Layer>,
    after: Vec<Layer>,
}

fn flat(layers: &[Layer]) -> Vec<f32> {
    layers.iter().flat_map(|layer| layer.weights.iter().flatten().chain(&layer.bias)).copied().collect()
}

#[test]
fn weights_become_what_they_become_in_scikit_learn() {
    let cases = include_str!("../../../tests/data/network.ndjson").lines();
    let mut count = 0;
    for case in cases.map(|line| serde_json::from_str::<Case>(line).unwrap()) {
        let data = fixtures::data(&case.data);
        let mut network = Network::new(&case.settings, std::iter::empty(), data.shape());
        let places = network.plan.parameters.iter().flat_map(|p| p.places());
        for (place, value) in places.zip(flat(&case.before)) {
            network.parameters[place] = value;
        }
        for (numbers, _, target) in &data.rows {
            teach(&mut network, numbers, &[], *target);
            if network.is_taught_enough() {
                network.learn();
            }
        }
        // scikit-learn learns the rest, too, as a smaller batch.
        if network.pending.len() > 0 {
            network.learn();
        }
        let found: Vec<f32> =
            network.plan.parameters.iter().flat_map(|p| p.values(&network.parameters)).copied().collect();
        let wanted = flat(&case.after);
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            let near = (found - wanted).abs() <= 1e-5 * wanted.abs().max(1.0);
            assert!(near, "{} {:?}: {found}, not {wanted}", case.data, case.settings);
        }
        count += 1;
    }
    assert_eq!(count, 18);
}

impl Parameter {
    /// Where its numbers stand in the list.
    fn places(&self) -> impl Iterator<Item = usize> {
        let (columns, stride, start) = (self.columns, padded(self.columns), self.offset);
        (0..self.rows).flat_map(move |row| (0..columns).map(move |column| start + row * stride + column))
    }
}

impl Embeddings {
    fn value_mut(&mut self, place: usize) -> &mut f32 {
        &mut self.values[place]
    }

    /// The gradient that was taken in, of all slots.
    fn dense_gradient(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.values.len()];
        for (slot, gradient) in self.used.slots.iter().zip(self.used.gradient.chunks_exact(self.size)) {
            all[*slot as usize * self.size..][..self.size].copy_from_slice(gradient);
        }
        all
    }
}

/// The mean loss of the rows that wait, by the same dropout as in learning.
fn loss(network: &mut Network) -> f64 {
    network.find_gradients(true);
    let (rows, width) = (&network.pending, network.plan.outputs);
    let outputs = network.memory.trace.outputs().chunks_exact(padded(width));
    let of_row = |(row, outputs): (usize, &[f32])| {
        let mut prediction = vec![0.0; width];
        network.objective.predict(&outputs[..width], &mut prediction);
        let target = f64::from(rows.target(row));
        let distance = (prediction[0] - target).abs();
        match (network.objective.loss, width) {
            (NetworkLoss::LogLoss, 1) => -(if target == 1.0 { prediction[0] } else { 1.0 - prediction[0] }).ln(),
            (NetworkLoss::LogLoss, _) => -prediction[target as usize].ln(),
            (NetworkLoss::SquaredError, _) => distance * distance / 2.0,
            (NetworkLoss::AbsoluteError, _) => distance,
            (NetworkLoss::Huber, _) if distance <= 1.0 => distance * distance / 2.0,
            (NetworkLoss::Huber, _) => distance - 0.5,
        }
    };
    outputs.enumerate().map(of_row).sum::<f64>() / rows.len() as f64
}

/// The slope of the loss by the number that `place` finds.
fn slope(network: &mut Network, place: impl Fn(&mut Network) -> &mut f32) -> f64 {
    const STEP: f32 = 2e-2;
    let before = *place(network);
    let mut at = |value| {
        *place(network) = value;
        loss(network)
    };
    let slope = (at(before + STEP) - at(before - STEP)) / (2.0 * f64::from(STEP));
    *place(network) = before;
    slope
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let layers = json!([
        { "dense": 9, "activation": "tanh" }, { "normalise": "layer" }, { "dropout": 0.3 },
        { "dense": 6, "activation": "elu" }, { "dense": 5, "activation": "sigmoid" },
    ]);
    for (loss_name, classes) in
        [("log_loss", 2), ("log_loss", 4), ("squared_error", 0), ("absolute_error", 0), ("huber", 0)]
    {
        let settings = settings(json!({ "layers": layers, "loss": loss_name, "embedding": 3, "seed": 11 }));
        let mut network = Network::new(&settings, [4, 2].into_iter(), shape(5, 6, classes));
        for row in 0..7_u32 {
            let numbers: Vec<f64> = (0..5).map(|column| f64::from(row * 5 + column).sin() * 1.5).collect();
            // The third row lacks the second category.
            let slots = if row == 2 { vec![1] } else { vec![row % 4, 4 + row % 2] };
            let target = if classes > 0 { f64::from(row) % classes as f64 } else { f64::from(row) - 2.5 };
            teach(&mut network, &numbers, &slots, target);
        }
        loss(&mut network);
        let stride = padded(network.plan.inputs);
        network.embeddings.take_in(&network.pending, network.memory.trace.input_gradient(), stride);
        let of_embeddings = network.embeddings.dense_gradient();
        let of_parameters = network.memory.gradients.clone();
        let near = |found: f32, wanted: f64| (f64::from(found) - wanted).abs() < 1e-3 + 1e-2 * wanted.abs();
        let places: Vec<usize> = network.plan.parameters.iter().flat_map(Parameter::places).collect();
        for place in places {
            let wanted = slope(&mut network, |network| &mut network.parameters[place]);
            assert!(near(of_parameters[place], wanted), "{loss_name}: {}, not {wanted}", of_parameters[place]);
        }
        for (place, found) in of_embeddings.into_iter().enumerate() {
            let wanted = slope(&mut network, |network| network.embeddings.value_mut(place));
            assert!(near(found, wanted), "{loss_name}, embeddings: {found}, not {wanted}");
        }
    }
}

#[test]
fn a_batch_moves_only_the_embeddings_that_it_uses() {
    let settings = settings(json!({ "layers": [{ "dense": 4 }], "embedding": 2, "batch_rows": 2 }));
    let mut network = Network::new(&settings, [5].into_iter(), shape(1, 5, 2));
    let mut step = |slots: [u32; 2]| {
        let before: Vec<f32> = (0..10).map(|place| *network.embeddings.value_mut(place)).collect();
        slots.iter().for_each(|slot| teach(&mut network, &[1.0], &[*slot], 1.0));
        network.learn();
        let moved = (0..10).filter(|place| *network.embeddings.value_mut(*place) != before[*place]);
        moved.map(|place| place / 2).collect::<Vec<_>>()
    };
    assert_eq!(step([1, 3]), [1, 1, 3, 3]);
    assert_eq!(step([2, 2]), [2, 2], "those of before have a mean gradient, and don't move by it");
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let classes = [false, true].map(crate::label::Class::Boolean);
    for (json, classes, message) in [
        (json!({ "layers": [{ "dense": 0 }] }), &[][..], "`dense` is 0, and should be a number from 1 to 65536"),
        (
            json!({ "layers": [{ "dropout": 1.0 }] }),
            &[],
            "`dropout` is 1, and should be a number from 0 to less than 1",
        ),
        (json!({ "layers": [], "loss": "log_loss" }), &[], "`log_loss` is of classes, and the label is a number"),
        (json!({ "layers": [], "loss": "huber" }), &classes, "the label has classes, whose loss is `log_loss`"),
        (json!({ "layers": [], "clip_norm": 0 }), &classes, "`clip_norm` is 0, and should be a number above 0"),
        (json!({ "layers": [], "optimizer": { "type": "adam", "beta1": 1 } }), &classes, "`beta1` is 1"),
        (json!({ "layers": [], "schedule": { "type": "cosine", "batches": 0 } }), &classes, "`batches` is 0"),
    ] {
        let problem = settings(json).check(classes).unwrap_err();
        assert!(problem.message.contains(message), "{}", problem.message);
    }
}

#[test]
fn learning_rates_follow_their_schedules() {
    let factor = |json: serde_json::Value, batch| serde_json::from_value::<Schedule>(json).unwrap().factor(batch);
    let root = json!({ "type": "inverse_square_root", "batches": 100 });
    assert_eq!([factor(root.clone(), 1), factor(root.clone(), 100), factor(root, 400)], [1.0, 1.0, 0.5]);
    let half = json!({ "type": "exponential", "half_life": 10 });
    assert_eq!([factor(half.clone(), 10), factor(half, 30)], [0.5, 0.125]);
    let cosine = json!({ "type": "cosine", "batches": 10, "floor": 0.2 });
    assert!((factor(cosine.clone(), 5) - 0.6).abs() < 1e-12);
    assert_eq!(factor(cosine, 1000), 0.2);
}
