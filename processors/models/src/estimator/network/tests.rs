//! Compares what networks learn with scikit-learn's, in the fixture that `tests/data/make_network_fixtures.py` wrote; and
//! gradients with the slopes of the loss.

mod sequences;

use serde::Deserialize;
use serde_json::json;

use super::optimizer_settings::Schedule;
use super::settings::NetworkLoss;
use super::*;
use crate::estimator::Settings;
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
    network.teach(Row { numbers: &numbers, slots }, target, 1.0);
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
        network.engine = Box::new(Cpu::new(network.plan.clone(), Lists::new(network.plan.pad(&flat(&case.before)))));
        for (numbers, _, target) in &data.rows {
            teach(&mut network, numbers, &[], *target);
            if network.is_taught_enough() {
                network.learn().unwrap();
            }
        }
        // scikit-learn learns the rest, too, as a smaller batch.
        if network.pending.len() > 0 {
            network.learn().unwrap();
        }
        let lists = network.engine.lists().unwrap();
        let rows = network.plan.parameters.iter().flat_map(|parameter| parameter.rows_of(&lists.parameters));
        let found = rows.collect::<Vec<_>>().concat();
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
    /// Where its numbers stand in a list with padding.
    fn places(&self) -> impl Iterator<Item = usize> {
        let (columns, stride, start) = (self.columns, padded(self.columns), self.padded_offset);
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

/// A network, and its layers apart from it so that a test can reach them.
struct Bare {
    network: Network,
    cpu: Cpu,
}

impl Bare {
    /// The mean loss of the rows that wait, by the same dropout as in learning; and its gradient.
    fn loss(&mut self) -> f64 {
        let Self { network, cpu } = self;
        network.embeddings.inputs(&network.pending, padded(network.plan.inputs), &mut network.inputs);
        let (targets, width) = (network.pending.targets(), network.plan.outputs);
        let inputs = Inputs { values: &network.inputs, starts: network.pending.starts() };
        let objective = network.objective;
        let dropout = DropoutDraw { seed: 3, first_row: 1000 };
        cpu.find_gradient(TrainingBatch { inputs, targets, counts: &[], objective, dropout, by_inputs: true }).unwrap();
        let outputs = cpu.trace.outputs().chunks_exact(padded(width)).zip(targets);
        let of_row = |(outputs, target): (&[f32], &f32)| {
            let mut prediction = vec![0.0; network.objective.predicted()];
            network.objective.predict(&outputs[..width], &mut prediction);
            let target = f64::from(*target);
            let outputs: Vec<f64> = outputs[..width].iter().map(|output| f64::from(*output)).collect();
            let distance = (prediction[0] - target).abs();
            match (network.objective.loss, width) {
                (NetworkLoss::LogLoss, 1) => -(if target == 1.0 { prediction[0] } else { 1.0 - prediction[0] }).ln(),
                (NetworkLoss::LogLoss, _) => -prediction[target as usize].ln(),
                (NetworkLoss::SquaredError, _) => distance * distance / 2.0,
                (NetworkLoss::AbsoluteError, _) => distance,
                (NetworkLoss::Huber, _) if distance <= 1.0 => distance * distance / 2.0,
                (NetworkLoss::Huber, _) => distance - 0.5,
                // Of the outputs before they are put in order.
                (NetworkLoss::Quantiles, _) => network.objective.quantiles.loss(target, &outputs),
            }
        };
        outputs.map(of_row).sum::<f64>() / targets.len() as f64
    }

    /// The slope of the loss by the number that `place` finds.
    fn slope(&mut self, place: impl Fn(&mut Self) -> &mut f32) -> f64 {
        const STEP: f32 = 2e-2;
        let before = *place(self);
        let mut at = |value| {
            *place(self) = value;
            self.loss()
        };
        let slope = (at(before + STEP) - at(before - STEP)) / (2.0 * f64::from(STEP));
        *place(self) = before;
        slope
    }
}

/// Seven rows of five numbers and two categories, with something for every loss.
fn teach_rows(network: &mut Network, salt: f64) {
    for row in 0..7_u32 {
        let numbers: Vec<f64> = (0..5).map(|column| (salt + f64::from(row * 5 + column)).sin() * 1.5).collect();
        // The third row lacks the second category.
        let slots = if row == 2 { vec![1] } else { vec![row % 4, 4 + row % 2] };
        let classes = network.classes as f64;
        let target = if classes > 0.0 { f64::from(row) % classes } else { f64::from(row) - 2.5 };
        teach(network, &numbers, &slots, target);
    }
}

const LOSSES: [(&str, usize); 6] =
    [("log_loss", 2), ("log_loss", 4), ("squared_error", 0), ("absolute_error", 0), ("huber", 0), ("quantiles", 0)];

/// Settings, and the loss that is said by a name.
fn minimising(loss: &str, mut json: serde_json::Value) -> NetworkSettings {
    let (name, value) = if loss == "quantiles" { (loss, json!([0.1, 0.5, 0.9])) } else { ("loss", json!(loss)) };
    json.as_object_mut().unwrap().insert(name.to_owned(), value);
    settings(json)
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let layers = json!([
        { "dense": 9, "activation": "tanh" }, { "normalise": "layer" }, { "dropout": 0.3 },
        { "dense": 6, "activation": "elu" }, { "dense": 5, "activation": "sigmoid" },
    ]);
    for (loss, classes) in LOSSES {
        let settings = minimising(loss, json!({ "layers": layers, "embedding": 3, "seed": 11 }));
        let mut network = Network::new(&settings, [4, 2].into_iter(), shape(5, 6, classes));
        teach_rows(&mut network, 0.0);
        check_slopes(network, loss);
    }
}

/// Compares the gradient of the rows that wait with slopes, parameter by parameter.
fn check_slopes(network: Network, what: &str) {
    let cpu = Cpu::new(network.plan.clone(), network.engine.lists().unwrap().into_owned());
    let mut bare = Bare { network, cpu };
    bare.loss();
    let Bare { network, cpu } = &mut bare;
    network.embeddings.take_in(&network.pending, cpu.input_gradient(), padded(network.plan.inputs));
    let (of_embeddings, of_parameters) = (network.embeddings.dense_gradient(), cpu.gradient.clone());
    let near = |found: f32, wanted: f64| (f64::from(found) - wanted).abs() < 1e-3 + 1e-2 * wanted.abs();
    let places: Vec<usize> = network.plan.parameters.iter().flat_map(Parameter::places).collect();
    for place in places {
        let wanted = bare.slope(|bare| &mut bare.cpu.lists.parameters[place]);
        assert!(near(of_parameters[place], wanted), "{what}: {}, not {wanted}", of_parameters[place]);
    }
    for (place, found) in of_embeddings.into_iter().enumerate() {
        let wanted = bare.slope(|bare| bare.network.embeddings.value_mut(place));
        assert!(near(found, wanted), "{what}, embeddings: {found}, not {wanted}");
    }
}

#[test]
fn a_batch_moves_only_the_embeddings_that_it_uses() {
    let settings = settings(json!({ "layers": [{ "dense": 4 }], "embedding": 2, "batch_rows": 2 }));
    let mut network = Network::new(&settings, [5].into_iter(), shape(1, 5, 2));
    let mut step = |slots: [u32; 2]| {
        let before: Vec<f32> = (0..10).map(|place| *network.embeddings.value_mut(place)).collect();
        slots.iter().for_each(|slot| teach(&mut network, &[1.0], &[*slot], 1.0));
        network.learn().unwrap();
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
        (json!({ "layers": [], "quantiles": [0.1, 1.0] }), &[], "`quantiles[1]` is 1, and should lie between 0 and 1"),
        (json!({ "layers": [], "quantiles": [0.9, 0.1] }), &[], "the quantile 0.9 stands before 0.1"),
        (json!({ "layers": [], "quantiles": vec![0.5; 17] }), &[], "there are 17 quantiles; 16 are the most"),
        (json!({ "layers": [], "quantiles": [0.5] }), &classes, "quantiles are of numbers, and the label has classes"),
        (json!({ "layers": [], "quantiles": [0.5], "loss": "huber" }), &[], "`quantiles` say what is minimised"),
        (json!({ "layers": [], "clip_norm": 0 }), &classes, "`clip_norm` is 0, and should be a number above 0"),
        (json!({ "layers": [], "optimizer": { "type": "adam", "beta1": 1 } }), &classes, "`beta1` is 1"),
        (
            json!({ "layers": [], "optimizer": { "type": "adam", "beta2": 0.999_999_99 } }),
            &classes,
            "`beta2` is 0.99999999, which is 1 in the 32 bits of the weights",
        ),
        (json!({ "layers": [{ "dropout": 0.999_999_99 }] }), &classes, "`dropout` is 0.99999999, which is 1 in"),
        (json!({ "layers": [], "schedule": { "type": "cosine", "batches": 0 } }), &classes, "`batches` is 0"),
    ] {
        let problem = settings(json).check(classes).unwrap_err();
        assert!(problem.message.contains(message), "{}", problem.message);
    }
}

#[test]
fn quantiles_become_those_of_the_labels_and_never_cross() {
    let optimizer = json!({ "type": "adam", "learning_rate": 0.05 });
    let settings = settings(json!({ "layers": [], "quantiles": [0.2, 0.4, 0.9], "optimizer": optimizer }));
    let mut network = Network::new(&settings, [].into_iter(), shape(1, 0, 0));
    let predict = |network: &Network, x: f64| {
        let (mut pending_rows, mut predictions) = (network.pending_rows(), vec![0.0; network.outputs()]);
        pending_rows.push(Row { numbers: &[x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[] });
        network.predict_pending(&mut pending_rows, &mut predictions).unwrap();
        predictions
    };
    let first = predict(&network, 1.0);
    assert!(first[1] <= first[2] && first[2] <= first[3], "{first:?}");
    // Of every x, the labels are spread evenly from x to x + 10.
    for row in 0..64 * 400_u32 {
        let x = f64::from(row % 3) - 1.0;
        teach(&mut network, &[x], &[], x + f64::from(row * 37 % 101) / 10.0);
        if network.is_taught_enough() {
            network.learn().unwrap();
        }
    }
    for x in [-1.0, 0.0, 1.0] {
        let found = predict(&network, x);
        assert_eq!(found[0], found[2], "the number is the quantile nearest to the median");
        for (found, wanted) in found[1..].iter().zip([2.0, 4.0, 9.0]) {
            assert!((found - (x + wanted)).abs() < 0.5, "{found} of {x}, not {}", x + wanted);
        }
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

#[test]
fn rows_of_a_class_count_as_if_they_came_as_often() {
    let learned = |class_weight: serde_json::Value, targets: &[f64]| {
        let optimizer = json!({ "type": "sgd", "learning_rate": 0.1 });
        let rows = targets.len();
        let json = json!({ "layers": [], "optimizer": optimizer, "batch_rows": rows, "class_weight": class_weight });
        let settings = settings(json);
        let classes = [false, true].map(Class::Boolean);
        settings.check(&classes).unwrap();
        let mut network = Network::new(&settings, [].into_iter(), shape(2, 0, 2)).weighing(&classes);
        targets.iter().for_each(|target| {
            network.teach(Row { numbers: &[1.0, *target, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[] }, *target, 1.0)
        });
        network.learn().unwrap();
        let start = Network::new(&settings, [].into_iter(), shape(2, 0, 2));
        let (start, end) =
            (start.engine.lists().unwrap().parameters.clone(), network.engine.lists().unwrap().parameters.clone());
        // The mean is over all rows, so that the steps are compared times their number.
        start.iter().zip(&end).map(|(start, end)| (end - start) * rows as f32).collect::<Vec<_>>()
    };
    let weighed = learned(json!({ "true": 3.0, "false": 0.5 }), &[0.0, 1.0, 0.0]);
    let repeated = learned(json!({}), &[0.0, 1.0, 1.0, 1.0]);
    assert!(
        weighed.iter().zip(&repeated).all(|(weighed, repeated)| (weighed - repeated).abs() < 1e-5),
        "{weighed:?}, {repeated:?}"
    );
    assert!(weighed.iter().any(|step| *step != 0.0));
}

/// All layers, losses and optimizers, on candle's CPU: that on a card is the same code.
#[cfg(feature = "candle")]
#[test]
fn candle_computes_what_the_cpu_computes() {
    let layers = json!([
        { "dense": 9, "activation": "tanh" }, { "normalise": "layer" }, { "dropout": 0.3 },
        { "dense": 6, "activation": "elu" }, { "dense": 7, "activation": "relu" },
        { "dense": 6, "activation": "leaky_relu" }, { "dense": 5, "activation": "sigmoid" },
    ]);
    let optimizers = [
        json!({ "type": "sgd", "momentum": 0.5 }),
        json!({ "type": "adam", "epsilon": 1e-4 }),
        json!({ "type": "adamw", "epsilon": 1e-4 }),
    ];
    for ((loss, classes), optimizer) in LOSSES.into_iter().flat_map(|loss| optimizers.iter().map(move |o| (loss, o))) {
        let json = json!({
            "layers": layers, "optimizer": optimizer, "embedding": 3, "clip_norm": 0.5, "batch_rows": 7,
        });
        let settings = minimising(loss, json);
        let mut cpu = Network::new(&settings, [4, 2].into_iter(), shape(5, 6, classes));
        let mut candle = cpu.clone();
        candle.compute_on(&OpenDevice::Candle(candle_core::Device::Cpu)).unwrap();
        for batch in 0..20 {
            for network in [&mut cpu, &mut candle] {
                teach_rows(network, f64::from(batch));
                network.learn().unwrap();
            }
        }
        let (ours, theirs) = (cpu.engine.lists().unwrap(), candle.engine.lists().unwrap());
        for (ours, theirs) in [(&ours.parameters, &theirs.parameters), (&ours.first, &theirs.first)] {
            let near = |(ours, theirs): (&f32, &f32)| (ours - theirs).abs() < 1e-5;
            assert!(ours.iter().zip(theirs).all(near), "{loss}, {optimizer}: {ours:?}, not {theirs:?}");
        }
        let predict = |network: &Network| {
            let mut pending_rows = network.pending_rows();
            (0..9).for_each(|row| {
                let numbers: Vec<f64> = (0..8).map(|column| f64::from(row * column).cos()).collect();
                pending_rows.push(Row { numbers: &numbers, slots: &[1, 5] });
            });
            let mut predictions = vec![0.0; 9 * network.outputs()];
            network.predict_pending(&mut pending_rows, &mut predictions).unwrap();
            predictions
        };
        let near = |(ours, theirs): (&f64, &f64)| (ours - theirs).abs() < 1e-5;
        assert!(predict(&cpu).iter().zip(&predict(&candle)).all(near), "{loss}, {optimizer}");
    }
}
