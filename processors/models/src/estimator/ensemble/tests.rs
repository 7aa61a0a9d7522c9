use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use serde_json::{Value, json};

use super::*;
use crate::encode::Encoder;
use crate::threads::limit_threads;
use crate::{Features, Missing, Model, ScoredModel, Signature};

fn noise(row: usize, salt: u64) -> f64 {
    let mixed = (row as u64 * 16 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27) as f64 / u64::MAX as f64
}

const ROWS: usize = 2000;

/// Two numbers, of which `yes` is a line and `kind` a checkerboard, and a word that says nothing.
fn rows() -> RecordBatch {
    let kind = |row: usize| ["a", "b", "c"][usize::from(noise(row, 1) > 0.5) + usize::from(noise(row, 2) > 0.5)];
    let columns: [(&str, ArrayRef); 6] = [
        ("x", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| noise(row, 1))))),
        ("y", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| noise(row, 2))))),
        ("word", Arc::new((0..ROWS).map(|row| Some(format!("word {}", row % 300))).collect::<StringArray>())),
        ("yes", Arc::new((0..ROWS).map(|row| Some(noise(row, 1) + noise(row, 2) > 1.0)).collect::<BooleanArray>())),
        ("kind", Arc::new((0..ROWS).map(|row| Some(kind(row))).collect::<StringArray>())),
        ("size", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| noise(row, 1) * 5.0 - noise(row, 2))))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn signature(estimator: &Value, label: &str) -> Result<Signature, String> {
    let estimator: EstimatorSettings = serde_json::from_value(estimator.clone()).map_err(|error| error.to_string())?;
    let features = [("x", Encoder::Standardise), ("y", Encoder::Standardise), ("word", Encoder::OneHot(64))];
    let features = Features::Encoded(features.map(|(name, encoder)| (name.to_owned(), encoder.into())).into());
    let classes: Option<Vec<_>> =
        (label == "kind").then(|| ["a", "b", "c"].map(|kind| Class::Text(kind.to_owned())).into());
    let rows = rows();
    let planned = Signature::plan(&rows.schema(), &estimator, &features, label, classes.as_deref(), Missing::Fail);
    planned.map_err(|mut problems| {
        let problem = problems.remove(0);
        format!("{problem} {:?} {:?}", problem.help, problem.at)
    })
}

/// Row by row what is predicted before it is learned, and afterwards for the first rows.
fn predictions(estimator: &Value, label: &str) -> Vec<Vec<f64>> {
    let mut model = Model::new(signature(estimator, label).unwrap());
    let mut found = Vec::new();
    for start in (0..ROWS).step_by(300) {
        let predictions = model.step_batch(&rows().slice(start, 300.min(ROWS - start))).unwrap();
        found.extend((0..predictions.len()).map(|row| predictions.row(row).to_vec()));
    }
    let later = model.predict_batch(&rows().slice(0, 100)).unwrap();
    found.extend((0..100).map(|row| later.row(row).to_vec()));
    found
}

fn tree() -> Value {
    json!({ "type": "hoeffding_tree", "grace_period": 50 })
}

fn line() -> Value {
    json!({ "type": "softmax_regression", "learning_rate": 0.1 })
}

fn neighbours() -> Value {
    json!({ "type": "k_neighbors_classifier", "window": 200 })
}

#[test]
fn soft_votes_are_the_mean_of_probabilities() {
    for (label, classes) in [("kind", 3), ("yes", 2)] {
        let members = [json!({ "type": "hoeffding_tree" }), line(), neighbours()];
        let weights = [1.0, 0.5, 2.0];
        let voting = json!({ "type": "voting", "estimators": members, "weights": weights });
        let [found, of_members @ ..] =
            [&voting, &members[0], &members[1], &members[2]].map(|estimator| predictions(estimator, label));
        for row in 0..ROWS + 100 {
            for (index, found) in found[row].iter().enumerate() {
                // Of two classes only the second, which is the last of those that have both.
                let share = |of: &Vec<Vec<f64>>| of[row][if classes == 2 { of[row].len() - 1 } else { index }];
                let wanted = of_members.iter().zip(weights).map(|(of, weight)| weight * share(of)).sum::<f64>() / 3.5;
                assert!((found - wanted).abs() < 1e-12, "{label}, row {row}: {found}, not {wanted}");
            }
        }
    }
}

#[test]
fn hard_votes_are_those_of_most() {
    let members = [tree(), line(), json!({ "type": "sgd_classifier" })];
    let voting = json!({ "type": "voting", "estimators": members, "voting": "hard", "weights": "uniform" });
    let [found, of_members @ ..] =
        [&voting, &members[0], &members[1], &members[2]].map(|estimator| predictions(estimator, "kind"));
    for row in 0..ROWS + 100 {
        let mut wanted = [0.0; 3];
        for of in &of_members {
            wanted[likeliest(&of[row], super::super::Certainty::Score)] += 1.0 / 3.0;
        }
        assert!(found[row].iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-12), "row {row}");
    }
    let soft = json!({ "type": "voting", "estimators": members, "voting": "soft" });
    let problem = signature(&soft, "kind").unwrap_err();
    assert!(problem.contains("`sgd_classifier` predicts scores") && problem.contains("Index(2)"), "{problem}");
}

fn recent(estimator: &Value, label: &str, figure: &str) -> f64 {
    let mut model = ScoredModel::new(signature(estimator, label).unwrap());
    model.step_batch(&rows()).unwrap();
    model.recent().get(figure).unwrap()
}

#[test]
fn who_was_right_lately_counts_more() {
    let bad = json!({ "type": "linear_regression", "learning_rate": 1e-9 });
    let good = json!({ "type": "linear_regression", "learning_rate": 0.05 });
    let vote = |weights: Value| {
        recent(&json!({ "type": "voting", "estimators": [bad, good], "weights": weights }), "size", "mae")
    };
    let (even, by_score, alone) = (vote(json!("uniform")), vote(json!("score")), recent(&good, "size", "mae"));
    assert!(by_score < 0.2 * even && by_score < alone + 0.05, "{even}, {by_score}, {alone}");
}

#[test]
fn a_stack_finds_out_whom_to_trust() {
    let members = json!([json!({ "type": "softmax_regression", "learning_rate": 1e-9 }), tree(), neighbours()]);
    let stack = json!({ "type": "stacking", "estimators": members, "final_estimator": line() });
    let even = json!({ "type": "voting", "estimators": members, "weights": "uniform" });
    let (stack, even) = (recent(&stack, "kind", "log_loss"), recent(&even, "kind", "log_loss"));
    assert!(stack < 0.8 * even, "{stack}, {even}");
    let numbers = json!([
        json!({ "type": "hoeffding_tree_regressor" }),
        json!({ "type": "linear_regression", "learning_rate": 0.05 }),
    ]);
    let last = json!({ "type": "linear_regression", "learning_rate": 0.05 });
    let stack = json!({ "type": "stacking", "estimators": numbers, "final_estimator": last });
    assert!(recent(&stack, "size", "mae") < 0.2);
}

#[test]
fn neither_batches_nor_threads_nor_restarts_matter() {
    let members = json!([tree(), line(), neighbours()]);
    let stack = json!({ "type": "stacking", "estimators": members, "final_estimator": tree() });
    let bag = json!({ "type": "bagging", "estimator": tree(), "n_models": 3, "max_features": 0.6 });
    let nested = json!({ "type": "voting", "estimators": [stack, json!({ "type": "softmax_regression" }), bag] });
    let run = |threads: usize, at_once: usize, restarts: bool| {
        limit_threads(threads);
        let mut model = Model::new(signature(&nested, "kind").unwrap());
        let mut bits = Vec::new();
        for start in (0..ROWS).step_by(at_once) {
            let predictions = model.step_batch(&rows().slice(start, at_once.min(ROWS - start))).unwrap();
            bits.extend((0..predictions.len()).flat_map(|row| predictions.row(row)).map(|value| value.to_bits()));
            if restarts {
                model = Model::load(&model.save().unwrap()).unwrap();
            }
        }
        (bits, model.save().unwrap())
    };
    let whole = run(1, ROWS, false);
    for (threads, at_once, restarts) in [(2, ROWS, false), (2, 70, true), (1, 7, false)] {
        assert!(run(threads, at_once, restarts) == whole, "{threads} threads, {at_once} rows");
    }
}

#[test]
fn a_bag_is_steadier_than_what_is_in_it() {
    let one = json!({ "type": "softmax_regression", "learning_rate": 2.0 });
    let bag = json!({ "type": "bagging", "estimator": one, "n_models": 20, "seed": 3 });
    let (alone, together) = (recent(&one, "kind", "log_loss"), recent(&bag, "kind", "log_loss"));
    assert!(together < 0.9 * alone, "{together}, {alone}");
    // Nothing is drawn where each row counts for sure, and every feature is there: then all members are the same.
    let numbers = json!({ "type": "bagging", "estimator": { "type": "k_neighbors_regressor" }, "lambda": 100.0 });
    assert!((recent(&numbers, "size", "mae") - recent(&numbers["estimator"], "size", "mae")).abs() < 1e-9);
}

#[test]
fn members_of_a_bag_have_features_of_their_own() {
    let of = |member, share| {
        let settings = json!({ "estimator": tree(), "max_features": share, "seed": 1 });
        serde_json::from_value::<Bagging>(settings).unwrap().features_of(member, 10)
    };
    assert_eq!((of(0, 1.0), of(0, 0.0).len(), of(0, 0.3).len()), ((0..10).collect(), 1, 3));
    let drawn: Vec<_> = (0..40).flat_map(|member| of(member, 0.3)).collect();
    assert!((0..10).all(|feature| drawn.contains(&feature)));
}

#[test]
fn members_that_do_not_fit_are_refused_at_their_places() {
    let refused = |members: Value, label: &str| {
        signature(&json!({ "type": "voting", "estimators": members }), label).unwrap_err()
    };
    let problem = refused(json!([tree(), json!({ "type": "k_means", "clusters": 2 })]), "yes");
    assert!(problem.contains("`k_means` predicts no label") && problem.contains("Index(1)"), "{problem}");
    assert!(refused(json!([tree(), json!({ "type": "linear_regression" })]), "yes").contains("no classes"));
    assert!(refused(json!([]), "yes").contains("there are 0 estimators"));
    assert!(refused(json!([json!({ "type": "hoeffding_tree", "tau": 7 })]), "yes").contains("`tau` is 7"));
    assert!(refused(json!([json!({ "type": "linear_regresion" })]), "size").contains("did you mean"));
    let weights = json!({ "type": "voting", "estimators": [tree()], "weights": [1, 2] });
    assert!(signature(&weights, "yes").unwrap_err().contains("2 weights for 1 estimators"));
    assert!(signature(&json!({ "type": "voting", "estimators": [tree()] }), "yes").is_ok());
}
