use super::*;
use crate::encode::Encoder;
use crate::vector::padded;

/// Of two numbers, and a category with four values.
fn trees(settings: &str) -> Masses {
    let settings: HalfSpaceTrees = serde_json::from_str(settings).unwrap();
    let feature = |encoder| Feature::new("a", "float64", encoder);
    let features = [feature(Encoder::Raw), feature(Encoder::Raw), feature(Encoder::OneHot(4))];
    let shape = Shape { numbers: 2, width: padded(2), slots: 4, classes: 0 };
    let window = Window::new(&features, shape, settings.window_size as usize);
    let spaces = Spaces::new(settings.n_trees, settings.height, settings.seed, window.dimensions());
    Masses {
        size_limit: settings.size_limit * f64::from(settings.window_size),
        limit_quantile: settings.limit_quantile,
        scales: Scales::new(&window),
        counts: spaces.counts(),
        spaces,
        window,
        is_counted: false,
    }
}

fn anomaly(trees: &Masses, a: f64, b: f64, slot: u32) -> f64 {
    let mut into = [0.0];
    trees.predict_one(Row { numbers: &[a, b, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[slot] }, &mut into);
    into[0]
}

fn learn(trees: &mut Masses, a: f64, b: f64, slot: u32) {
    trees.learn_one(Row { numbers: &[a, b, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], slots: &[slot] }, 0.0);
}

/// Two clusters, of sizes that have nothing to do with each other; one value in fifty is another.
fn row(index: u32) -> (f64, f64, u32) {
    let noise = |salt: u32| f64::from(index.wrapping_mul(2_654_435_761).rotate_left(salt) % 1000) / 1000.0;
    let cluster = f64::from(index % 2);
    (1e6 + cluster * 1e5 + noise(3) * 2e4, cluster * 0.1 + noise(17) * 0.02, u32::from(index % 50 == 9))
}

fn learned(rows: u32) -> Masses {
    let mut trees = trees(r#"{ "window_size": 250, "seed": 3 }"#);
    (0..rows).map(row).for_each(|(a, b, slot)| learn(&mut trees, a, b, slot));
    trees
}

#[test]
fn nothing_is_said_before_the_first_window_is_full() {
    assert!(anomaly(&learned(249), 1e6, 0.0, 0).is_nan());
    assert!(anomaly(&learned(250), 1e6, 0.0, 0).is_finite());
}

#[test]
fn rows_where_none_were_are_anomalies() {
    let trees = learned(1000);
    let usual = [(1.01e6, 0.01), (1.11e6, 0.11)].map(|(a, b)| anomaly(&trees, a, b, 0));
    // Of the other cluster each, between both, and far off.
    let odd = [(1.01e6, 0.11), (1.06e6, 0.06), (2e6, 0.01), (-1e100, 1e100)].map(|(a, b)| anomaly(&trees, a, b, 0));
    for (usual, odd) in usual.into_iter().flat_map(|usual| odd.map(|odd| (usual, odd))) {
        assert!((0.0..=1.0).contains(&odd) && usual + 0.2 < odd, "{usual}, {odd}");
    }
    let rare = anomaly(&trees, 1.01e6, 0.01, 1);
    assert!(usual[0] + 0.05 < rare, "{}, {rare}", usual[0]);
}

#[test]
fn what_has_become_usual_is_no_anomaly_any_more() {
    let mut trees = learned(250);
    let before = anomaly(&trees, 5.0, 5.0, 2);
    (0..250).for_each(|index| learn(&mut trees, 5.0 + f64::from(index % 10), 5.0 - f64::from(index % 7), 2));
    let after = anomaly(&trees, 9.0, 2.0, 2);
    assert!(before > 0.8 && after < 0.5, "{before}, {after}");
}

#[test]
fn a_wild_number_does_not_squeeze_the_others() {
    let mut trees = trees(r#"{ "window_size": 250, "seed": 3 }"#);
    for index in 0..250 {
        let (a, b, slot) = row(index);
        learn(&mut trees, if index == 100 { 1e90 } else { a }, b, slot);
    }
    let [usual, odd] = [0.01, 0.11].map(|b| anomaly(&trees, 1.01e6, b, 0));
    assert!(usual + 0.2 < odd, "{usual}, {odd}");
}

#[test]
fn a_damaged_window_is_refused() {
    let trees = learned(300);
    let mut tensors = Tensors::default();
    ByRow::save(&trees, &mut tensors);
    let mut read = learned(0);
    ByRow::load(&mut read, &tensors).unwrap();
    assert_eq!(anomaly(&read, 1e6, 0.0, 0), anomaly(&trees, 1e6, 0.0, 0));
    tensors.put_u64("estimator.filled", &[250]);
    assert!(ByRow::load(&mut read, &tensors).unwrap_err().to_string().contains("damaged"));
}
