use super::*;
use crate::drift::adwin;
use crate::encode::{Encoder, Feature, Row};
use crate::estimator::Shape;
use crate::estimator::random::Poisson;
use crate::estimator::tree::{AmountRules, Amounts, ClassRules, Classes, Growth, LeafModel, LeafPrediction};
use crate::vector::padded;

fn plan(subspace: Option<usize>) -> Plan<Classes> {
    let feature = |encoder| Feature::new("a", "float64", encoder);
    Plan {
        trees: 5,
        growth: Growth { grace: 50.0, delta: 0.01, tie: 0.05, max_bytes: 1 << 20, beside_node: 0 },
        rules: ClassRules { most_share: 0.99, points: 10, leaves: LeafPrediction::Adaptive },
        features: (0..4).map(|_| feature(Encoder::Raw)).collect(),
        shape: Shape { numbers: 4, width: padded(4), slots: 0, classes: 2 },
        subspace,
        poisson: Poisson::new(6.0),
        seed: 1,
        drift: adwin::Settings::of(0.001),
        renewal: Renewal::Own { warning: adwin::Settings::of(0.01) },
    }
}

fn noise(row: usize, salt: u64) -> f64 {
    let mixed = (row as u64 * 16 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27) as f64 / u64::MAX as f64
}

/// Rows of four numbers, of which the first two say the class: the other one from row `turn` on.
fn chunk(rows: std::ops::Range<usize>, turn: usize) -> Chunk {
    let mut chunk = Chunk::with_width(padded(4));
    for row in rows {
        let mut numbers = [0.0; 8];
        (0..4).for_each(|number| numbers[number] = noise(row, number as u64));
        let class = usize::from((numbers[0] + numbers[1] > 1.0) != (row >= turn));
        chunk.push(Row { numbers: &numbers, slots: &[] }, class as f64);
    }
    chunk
}

/// How many rows are predicted rightly before they are learned.
fn learn(forest: &mut Forest<Classes>, rows: std::ops::Range<usize>, turn: usize) -> usize {
    let chunk = chunk(rows, turn);
    let mut predictions = vec![0.0; chunk.len()];
    forest.learn(&chunk, &mut predictions);
    let is_right =
        |row: &usize| chunk.learned(*row).is_some_and(|(_, class, _)| (predictions[*row] > 0.5) == (class == 1.0));
    (0..chunk.len()).filter(is_right).count()
}

#[test]
fn what_changes_is_learned_anew() {
    let mut forest = Forest::new(plan(Some(3)));
    learn(&mut forest, 0..4000, 6000);
    let before = learn(&mut forest, 4000..6000, 6000);
    learn(&mut forest, 6000..8000, 6000);
    let after = learn(&mut forest, 8000..10_000, 6000);
    assert!(before > 1850 && after > 1800, "{before} and {after} of 2000");
    assert!(forest.members.iter().all(|member| member.has_been_replaced()));
}

#[test]
fn the_worst_is_replaced_one_by_one() {
    let mut forest = Forest::new(Plan { renewal: Renewal::Worst, ..plan(None) });
    learn(&mut forest, 0..6000, 6000);
    assert!(!forest.members.iter().any(Member::has_been_replaced));
    learn(&mut forest, 6000..8000, 6000);
    let after = learn(&mut forest, 8000..10_000, 6000);
    assert!(after > 1800 && forest.members.iter().any(Member::has_been_replaced), "{after} of 2000");
}

#[test]
fn threads_and_cuts_do_not_matter() {
    let run = |renewal: &Renewal, threads: usize, at_once: usize| {
        crate::threads::limit_threads(threads);
        let mut forest = Forest::new(Plan { renewal: renewal.clone(), ..plan(Some(2)) });
        let starts = (0..3000).step_by(at_once);
        let right: Vec<_> = starts.map(|start| learn(&mut forest, start..3000.min(start + at_once), 1500)).collect();
        let mut tensors = Tensors::default();
        forest.save(&mut tensors).unwrap();
        (right.iter().sum::<usize>(), tensors)
    };
    for renewal in [Renewal::Own { warning: adwin::Settings::of(0.01) }, Renewal::Worst] {
        let whole = run(&renewal, 1, 3000);
        for (threads, at_once) in [(2, 3000), (2, 512), (1, 7)] {
            assert!(run(&renewal, threads, at_once) == whole, "{threads} threads, {at_once} rows");
        }
    }
}

#[test]
fn a_forest_goes_on_as_if_it_had_never_been_saved() {
    let mut forest = Forest::new(plan(Some(2)));
    for start in (0..6000).step_by(300) {
        learn(&mut forest, start..start + 300, 2000);
        let mut tensors = Tensors::default();
        forest.save(&mut tensors).unwrap();
        let mut read = Forest::new(plan(Some(2)));
        read.load(&tensors).unwrap();
        let right = learn(&mut read, start + 300..start + 600, 2000);
        assert_eq!(right, learn(&mut forest.clone(), start + 300..start + 600, 2000));
    }
}

#[test]
fn members_differ() {
    let mut forest = Forest::new(plan(None));
    learn(&mut forest, 0..500, usize::MAX);
    let chunk = chunk(500..600, usize::MAX);
    let mut ballots = forest.ballots(&chunk);
    for (member, votes) in forest.members.iter().zip(&mut ballots) {
        simd::run(Voting { plan: &forest.plan, chunk: &chunk, member, votes });
    }
    assert!(ballots.iter().skip(1).all(|votes| *votes != ballots[0]));
}

/// A forest of numbers over the same rows, of which the sum of the first two is learned, and the difference from row `turn` on.
fn errors_of_numbers(turn: usize) -> [f64; 3] {
    let Plan { trees, growth, features, subspace, poisson, seed, drift, renewal, .. } = plan(Some(3));
    let rules = AmountRules { bins: 64, leaves: LeafModel::Adaptive, rate: 0.1, decay: 0.95 };
    let shape = Shape { numbers: 4, width: padded(4), slots: 0, classes: 0 };
    let mut forest =
        Forest::<Amounts>::new(Plan { trees, growth, rules, features, shape, subspace, poisson, seed, drift, renewal });
    let error = |(start, end): (usize, usize)| {
        let mut chunk = Chunk::with_width(padded(4));
        for row in start..end {
            let mut numbers = [0.0; 8];
            (0..4).for_each(|number| numbers[number] = noise(row, number as u64));
            let [a, b] = [numbers[0], numbers[1]];
            chunk.push(Row { numbers: &numbers, slots: &[] }, 1000.0 * if row < turn { a * b } else { 1.0 - a * b });
        }
        let mut predictions = vec![0.0; chunk.len()];
        forest.learn(&chunk, &mut predictions);
        let off = |row: usize| chunk.learned(row).map_or(0.0, |(_, target, _)| (predictions[row] - target).abs());
        (0..chunk.len()).map(off).sum::<f64>() / chunk.len() as f64
    };
    let errors = [(0, 4000), (4000, 6000), (6000, 8000), (8000, 10_000)].map(error);
    assert!(forest.members.iter().all(Member::has_been_replaced) == (turn < 10_000));
    [errors[1], errors[2], errors[3]]
}

#[test]
fn numbers_that_change_are_learned_anew() {
    let [before, between, after] = errors_of_numbers(6000);
    assert!(before < 40.0 && between > 2.0 * before && after < 60.0, "{before}, {between}, {after}");
    let [.., steady] = errors_of_numbers(usize::MAX);
    assert!(steady <= before, "{steady}, {before}");
}
