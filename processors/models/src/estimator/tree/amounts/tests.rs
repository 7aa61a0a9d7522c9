use super::*;
use crate::encode::{Encoder, Feature};
use crate::estimator::tree::test::Test;
use crate::estimator::tree::{Branch, Growth, Node, Tree};
use crate::vector::padded;

const GROWTH: Growth = Growth { grace: 200.0, delta: 1e-3, tie: 0.05, max_bytes: 32 << 20, beside_node: 0 };

const RULES: AmountRules = AmountRules { bins: 64, leaves: LeafModel::Adaptive, rate: 0.1, decay: 0.95 };

fn tree(growth: Growth, leaves: LeafModel, numbers: usize, slots: u32) -> Tree<Amounts> {
    let feature = |encoder| Feature::new("a", "float64", encoder);
    let categories = (slots > 0).then(|| feature(Encoder::OneHot(slots)));
    let features: Vec<_> = (0..numbers).map(|_| feature(Encoder::Raw)).chain(categories).collect();
    let shape = Shape { numbers, width: padded(numbers), slots: slots as usize, classes: 0 };
    Tree::new(growth, AmountRules { leaves, ..RULES }, &features, shape, None)
}

/// Learns a row, and says by how much it was predicted wrongly.
fn step(tree: &mut Tree<Amounts>, numbers: &[f64], slots: &[u32], target: f64) -> f64 {
    let mut padded = numbers.to_vec();
    padded.resize(tree.shape().width, 0.0);
    let row = Row { numbers: &padded, slots };
    let mut predicted = [0.0];
    tree.predict(row, &mut predicted);
    tree.learn(&Learned { row, target, weight: 1.0, predicted: &predicted });
    assert!(tree.bytes <= tree.plan.growth.max_bytes || tree.nodes.len() == 1);
    (predicted[0] - target).abs()
}

fn noise(row: usize, salt: u64) -> f64 {
    let mixed = (row as u64 * 16 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27) as f64 / u64::MAX as f64
}

/// The mean error over the last thousand of rows whose targets are steps, plus a line, in numbers of any size.
fn steps(growth: Growth, leaves: LeafModel, size: f64, slope: f64) -> (f64, Tree<Amounts>) {
    let mut tree = tree(growth, leaves, 3, 0);
    let mut errors = 0.0;
    for row in 0..20_000 {
        let [a, b, c] = [1, 2, 3].map(|salt| noise(row, salt));
        let level = [0.0, 1.0, 5.0, -3.0][usize::from(a > 0.3) + 2 * usize::from(b > 0.6)];
        let error = step(&mut tree, &[a * size, b, c / size], &[], 1e6 + size * (level + slope * c));
        errors += if row >= 19_000 { error / size } else { 0.0 };
    }
    (errors / 1000.0, tree)
}

#[test]
fn steps_are_found_and_lines_on_them_whatever_the_size_of_the_numbers() {
    for size in [1.0, 1e4] {
        let (error, tree) = steps(GROWTH, LeafModel::Mean, size, 0.0);
        assert!(error < 0.1 && tree.nodes.len() < 100, "{error} by {} nodes", tree.nodes.len());
        let (by_means, _) = steps(GROWTH, LeafModel::Mean, size, 30.0);
        let (by_lines, _) = steps(GROWTH, LeafModel::Linear, size, 30.0);
        let (error, _) = steps(GROWTH, LeafModel::Adaptive, size, 30.0);
        assert!(by_lines < 0.5 * by_means && error < 0.7 * by_means, "{by_means}, {by_lines}, {error}");
    }
}

#[test]
fn memory_is_never_exceeded_and_what_is_left_predicts() {
    for kilobytes in [0, 4, 8, 16, 32, 64] {
        let (error, tree) = steps(Growth { max_bytes: kilobytes << 10, ..GROWTH }, LeafModel::Adaptive, 1.0, 0.0);
        assert_eq!(tree.bytes, tree.nodes.iter().map(|node| tree.bytes_of(node)).sum::<usize>(), "{kilobytes} kB");
        assert!(error < if kilobytes < 32 { 3.0 } else { 1.0 }, "{kilobytes} kB: {error}");
    }
}

#[test]
fn a_category_is_split_by_its_values() {
    let mut tree = tree(GROWTH, LeafModel::Mean, 1, 8);
    for row in 0..2000 {
        let value = [0, 0, 2, 5, 5, 5][row % 6];
        step(&mut tree, &[noise(row, 1)], &[value], [10.0, 0.0, 20.0, 0.0, 0.0, 70.0][value as usize]);
    }
    let Node::Branch(Branch { test: Test::Category { slots, .. }, heaviest, .. }) = &tree.nodes[0] else { panic!() };
    assert_eq!((slots.as_slice(), *heaviest), ([0, 2, 5].as_slice(), 2));
    for (slots, wanted) in [(&[0][..], 10.0), (&[2], 20.0), (&[5], 70.0), (&[7], 70.0), (&[], 70.0)] {
        let mut predicted = [0.0];
        tree.predict(Row { numbers: &[0.0; 8], slots }, &mut predicted);
        assert!((predicted[0] - wanted).abs() < 1e-9, "{slots:?}: {predicted:?}");
    }
}

#[test]
fn bins_keep_all_sums_and_are_narrow_where_rows_are_dense() {
    let mut bins = Bins::new(16);
    for row in 0..5000 {
        let number = libm::exp(8.0 * noise(row, 1));
        bins.count(number, 1.0 + (row % 3) as f64, number);
    }
    assert_eq!(bins.places.len(), 16);
    let total: f64 = bins.sums.iter().map(|sums| sums[0]).sum();
    assert!((total - (0..5000).map(|row| 1.0 + (row % 3) as f64).sum::<f64>()).abs() < 1e-6);
    for (place, sums) in bins.places.iter().zip(&bins.sums) {
        assert!((sums[1] / sums[0] - place).abs() < 1e-6 * place, "{place}: {sums:?}");
    }
    assert!(bins.places.is_sorted() && bins.places[4] < bins.places[15] / 4.0, "{:?}", bins.places);
    assert_eq!(Bins::load(16, &bins.places, bins.sums.as_flattened()), Some(bins.clone()));
    assert_eq!(Bins::load(15, &bins.places, bins.sums.as_flattened()), None);
    assert_eq!(Bins::load(16, &[1.0, 1.0], &[0.0; 6]), None);
}

#[test]
fn few_values_are_a_bin_each() {
    let mut bins = Bins::new(4);
    for (number, off) in [(3.0, 1.0), (1.0, 2.0), (3.0, 3.0), (2.0, 0.0)] {
        bins.count(number, 2.0, off);
    }
    assert_eq!(bins.places, [1.0, 2.0, 3.0]);
    assert_eq!(bins.sums, [[2.0, 4.0, 8.0], [2.0, 0.0, 0.0], [4.0, 8.0, 20.0]]);
}

#[test]
fn a_damaged_tree_is_refused() {
    let (_, tree) = steps(GROWTH, LeafModel::Adaptive, 1.0, 1.0);
    let mut good = Tensors::default();
    tree.save("t", &mut good);
    let mut read = super::tests::tree(GROWTH, LeafModel::Adaptive, 3, 0);
    read.load("t", &good).unwrap();
    assert_eq!((read.nodes.len(), read.bytes), (tree.nodes.len(), tree.bytes));
    let mut again = Tensors::default();
    read.save("t", &mut again);
    assert!(again == good);
    let lengths = good.u32s("t.bin_lengths", &[good.rows("t.bin_lengths").unwrap()]).unwrap();
    let places = good.rows("t.bin_places").unwrap();
    let damages: [&dyn Fn(&mut Tensors); 4] = [
        &|tensors| tensors.put_u32("t.bin_lengths", &[lengths.len()], &vec![u32::MAX; lengths.len()]),
        &|tensors| tensors.put_u32("t.bin_lengths", &[lengths.len()], &vec![0; lengths.len()]),
        &|tensors| tensors.put_f64("t.bin_places", &[places, 1], &vec![1.0; places]),
        &|tensors| tensors.put_u8("t.active", &[1]),
    ];
    for damage in damages {
        let mut tensors = good.clone();
        damage(&mut tensors);
        let error = super::tests::tree(GROWTH, LeafModel::Adaptive, 3, 0).load("t", &tensors).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
