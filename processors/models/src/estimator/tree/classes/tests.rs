use super::*;
use crate::encode::{Encoder, Feature};
use crate::estimator::tree::test::Test;
use crate::estimator::tree::{Branch, Growth, Node, Tree};
use crate::vector::{largest, padded};

const GROWTH: Growth = Growth { grace: 100.0, delta: 1e-3, tie: 0.05, max_bytes: 32 << 20, beside_node: 0 };

const RULES: ClassRules = ClassRules { most_share: 0.99, points: 10, leaves: LeafPrediction::Adaptive };

fn tree(growth: Growth, leaves: LeafPrediction, numbers: usize, slots: u32, classes: usize) -> Tree<Classes> {
    let feature = |encoder| Feature::new("a", "float64", encoder);
    let categories = (slots > 0).then(|| feature(Encoder::OneHot(slots)));
    let features: Vec<_> = (0..numbers).map(|_| feature(Encoder::Raw)).chain(categories).collect();
    let shape = Shape { numbers, width: padded(numbers), slots: slots as usize, classes };
    Tree::new(growth, ClassRules { leaves, ..RULES }, &features, shape, None)
}

/// Learns a row, and says whether its class was predicted.
fn step(tree: &mut Tree<Classes>, numbers: &[f64], slots: &[u32], class: usize) -> bool {
    let mut padded = numbers.to_vec();
    padded.resize(tree.shape().width, 0.0);
    let row = Row { numbers: &padded, slots };
    let mut shares = vec![0.0; tree.shape().classes];
    tree.predict(row, &mut shares);
    let predicted = largest(&shares);
    tree.learn(&Learned { row, target: class, weight: 1.0, predicted: &shares });
    assert!(tree.bytes <= tree.plan.growth.max_bytes || tree.nodes.len() == 1);
    predicted == class
}

fn noise(row: usize, salt: u64) -> f64 {
    let mixed = (row as u64 * 16 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27) as f64 / u64::MAX as f64
}

/// How many of the last thousand rows of a checkerboard are predicted rightly: neither number says anything alone.
fn checkerboard(growth: Growth, rows: usize) -> (usize, Tree<Classes>) {
    let mut tree = tree(growth, LeafPrediction::Adaptive, 3, 0, 2);
    let mut right = 0;
    for row in 0..rows {
        let [a, b, c] = [1, 2, 3].map(|salt| noise(row, salt));
        let class = usize::from((a > 0.3) != (b > 0.6));
        right += usize::from(step(&mut tree, &[a, b, c], &[], class) && row >= rows - 1000);
    }
    (right, tree)
}

#[test]
fn what_depends_on_several_numbers_is_learned() {
    let (right, tree) = checkerboard(GROWTH, 20_000);
    assert!(right > 950, "{right} of 1000 are right, by {} nodes", tree.nodes.len());
    assert!(tree.nodes.len() < 200, "{} nodes", tree.nodes.len());
}

#[test]
fn memory_is_never_exceeded_and_what_is_left_predicts() {
    for kilobytes in [0, 2, 4, 8, 16, 64] {
        let (right, tree) = checkerboard(Growth { max_bytes: kilobytes << 10, ..GROWTH }, 20_000);
        let counted: usize = tree.nodes.iter().map(|node| tree.bytes_of(node)).sum();
        assert_eq!(tree.bytes, counted, "{kilobytes} kB");
        assert!(right > if kilobytes < 8 { 500 } else { 800 }, "{kilobytes} kB: {right} of 1000 are right");
    }
}

#[test]
fn a_category_is_split_by_its_values_and_a_new_value_goes_with_most_rows() {
    let mut tree = tree(GROWTH, LeafPrediction::Majority, 1, 8, 3);
    for row in 0..2000 {
        let value = [0, 0, 2, 5, 5, 5][row % 6];
        step(&mut tree, &[noise(row, 1)], &[value], [0, 9, 1, 9, 9, 2][value as usize]);
    }
    let Node::Branch(Branch { test: Test::Category { slots, .. }, heaviest, .. }) = &tree.nodes[0] else { panic!() };
    assert_eq!((slots.as_slice(), *heaviest), ([0, 2, 5].as_slice(), 2));
    let mut shares = [0.0; 3];
    for (slots, class) in [(&[0][..], 0), (&[2], 1), (&[5], 2), (&[7], 2), (&[], 2)] {
        tree.predict(Row { numbers: &[0.0; 8], slots }, &mut shares);
        assert!(shares[class] > 0.99, "{slots:?}: {shares:?}");
    }
}

#[test]
fn naive_bayes_follows_the_distributions_of_the_classes() {
    let mut tree = tree(Growth { grace: 1e9, ..GROWTH }, LeafPrediction::NaiveBayes, 2, 0, 2);
    for row in 0..200 {
        let class = row % 2;
        let number = [[1.0, 3.0], [5.0, 9.0]][class][row / 2 % 2];
        step(&mut tree, &[number, 4.0], &[], class);
    }
    // Means 2 and 7; variances 100 / 99 and 400 / 99; the second number is the same for all.
    let density =
        |x: f64, mean: f64, variance: f64| libm::exp(-(x - mean) * (x - mean) / (2.0 * variance)) / variance.sqrt();
    for x in [0.0, 2.0, 3.7, 4.1, 6.0] {
        let [first, second] = [density(x, 2.0, 100.0 / 99.0), density(x, 7.0, 400.0 / 99.0)];
        let mut shares = [0.0; 2];
        tree.predict(Row { numbers: &[x, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[] }, &mut shares);
        assert!((shares[1] - second / (first + second)).abs() < 1e-12, "{x}: {shares:?}");
    }
    // No class has ever had such a second number, so that their shares are all that is known.
    let mut shares = [0.0; 2];
    tree.predict(Row { numbers: &[2.0, 4.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[] }, &mut shares);
    assert_eq!(shares, [0.5, 0.5]);
}

#[test]
fn a_damaged_tree_is_refused() {
    let (_, tree) = checkerboard(GROWTH, 3000);
    let mut good = crate::tensors::Tensors::default();
    tree.save("t", &mut good);
    let mut read = super::tests::tree(GROWTH, LeafPrediction::Adaptive, 3, 0, 2);
    read.load("t", &good).unwrap();
    assert_eq!((read.nodes.len(), read.bytes), (tree.nodes.len(), tree.bytes));
    let nodes = tree.nodes.len();
    let damages: [&dyn Fn(&mut crate::tensors::Tensors); 4] = [
        &|tensors| tensors.put_u32("t.first_children", &[nodes], &vec![0; nodes]),
        &|tensors| tensors.put_u32("t.features", &[nodes], &vec![u32::MAX; nodes]),
        &|tensors| tensors.put_u32("t.features", &[nodes], &vec![77; nodes]),
        &|tensors| tensors.put_u64("t.sizes", &[1, 2, 3]),
    ];
    for damage in damages {
        let mut tensors = good.clone();
        damage(&mut tensors);
        let error =
            super::tests::tree(GROWTH, LeafPrediction::Adaptive, 3, 0, 2).load("t", &tensors).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}

/// River 0.26.1's `HoeffdingTreeClassifier` predicts so many of these rows rightly with the same settings, by so many nodes. What naive Bayes says
/// of a leaf that has seen next to nothing differs.
#[test]
fn a_tree_grows_as_river_s_does() {
    for (leaves, river) in [(LeafPrediction::Majority, 17_908), (LeafPrediction::Adaptive, 18_946)] {
        let growth = Growth { grace: 200.0, delta: 1e-7, ..GROWTH };
        let mut tree = tree(growth, leaves, 3, 0, 2);
        let mut right = 0_usize;
        for row in 0..20_000 {
            let [a, b, c] = [1, 2, 3].map(|salt| noise(row, salt));
            right += usize::from(step(&mut tree, &[a, b, c], &[], usize::from((a > 0.3) != (b > 0.6))));
        }
        assert_eq!(tree.nodes.len(), 27, "{leaves:?}");
        assert!(right.abs_diff(river) < 20, "{leaves:?}: {right} rows are right, and {river} by River");
    }
}
